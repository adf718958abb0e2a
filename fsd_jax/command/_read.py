"""Pictures or numbers from folders and files, all three sets alike."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fsd_jax.image import data


@dataclass(frozen=True, kw_only=True, eq=False)
class Sets:
    """What is adapted to what.

    Attributes:
        source: ``(n_s, *shape)`` float32.
        target: ``(n_ta, *shape)``.
        heldout: ``(m, *shape)``, perhaps none.
        skipped: files that could not be read.
    """

    source: np.ndarray
    target: np.ndarray
    heldout: np.ndarray
    skipped: tuple[str, ...] = ()

    @property
    def pictures(self) -> bool:
        """Whether a sample is a picture, ``(H, W, C)`` with C one or three."""
        shape = self.target.shape[1:]
        return len(shape) == 3 and shape[-1] in (1, 3)


def read(paths: dict[str, Path], size: int) -> Sets:
    """Read ``source``, ``target`` and perhaps ``heldout``.

    Raises:
        ValueError, OSError: what cannot be read, in one sentence.
    """
    for name, path in paths.items():
        if not path.exists():
            raise ValueError(f"--{name} {str(path)!r} does not exist")
    files = {name: path for name, path in paths.items() if path.is_file()}
    if not files:
        task = data.folder(paths, size=size, on_error="skip", progress=_progress("pictures read"))
        return Sets(
            source=task.source, target=task.target, heldout=task.heldout, skipped=task.skipped
        )
    if len(files) < len(paths):
        raise ValueError("give folders of pictures or .npy and .npz files, not some of both")
    found = {name: _numbers(name, path) for name, path in files.items()}
    shapes = {name: array.shape[1:] for name, array in found.items()}
    if len(set(shapes.values())) > 1:
        words = ", ".join(f"{shape} in --{name}" for name, shape in shapes.items())
        raise ValueError(f"samples must have one shape, got {words}")
    empty = np.zeros((0, *found["target"].shape[1:]), np.float32)
    return Sets(**{"heldout": empty} | found)


def _numbers(name: str, path: Path) -> np.ndarray:
    """The array in a file; bytes are pictures with white at 255."""
    try:
        loaded = np.load(path, allow_pickle=False)
        held = loaded if isinstance(loaded, np.ndarray) else {k: loaded[k] for k in loaded.files}
    except Exception as error:  # Whatever a parser thinks of damaged bytes.
        reason = " ".join(str(error).split())
        raise ValueError(f"--{name} {str(path)!r} is no .npy or .npz file ({reason})") from None
    if isinstance(held, dict):
        if len(held) != 1:
            raise ValueError(f"--{name} {str(path)!r} must hold one array, it holds {sorted(held)}")
        (held,) = held.values()
    if held.ndim < 2 or not len(held) or held.dtype.kind not in "uif":
        raise ValueError(
            f"--{name} {str(path)!r} must hold (n, ...) numbers, it holds {held.dtype} of shape "
            f"{held.shape}"
        )
    if held.dtype == np.uint8:
        return held.astype(np.float32) / 255
    return held.astype(np.float32)


def _progress(what: str) -> Callable[[int, int], None]:
    """A line that counts, on terminals only."""

    def tell(done: int, total: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done == total else ""
            print(f"\r{done} of {total} {what}", end=end, file=sys.stderr, flush=True)

    return tell
