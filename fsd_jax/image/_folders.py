"""Tasks from folders of the user's own pictures."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from fsd_jax import _checks
from fsd_jax._checks.arrays import logger
from fsd_jax.image import _decode, _store
from fsd_jax.image._draw import Progress
from fsd_jax.image._listing import Listing, Valid, classes, listing, pictures_only, places
from fsd_jax.image.task import ImageTask

Skipped = list[tuple[Path, str]]


def folder(
    path: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]],
    *,
    size: int | tuple[int, int] = 64,
    shots: int | None = None,
    channels: int = 3,
    fit: str = "crop",
    background: str | tuple[int, int, int] = "white",
    labels: bool = False,
    suffixes: list[str] | tuple[str, ...] | None = None,
    valid: Valid | None = None,
    seed: int = 0,
    on_error: str = "raise",
    cache: _store.Cache = None,
    progress: Progress | None = None,
) -> ImageTask:
    """Your own images: ``path/source``, ``path/target`` and optionally ``path/heldout``.

    Pictures may lie in folders within these. Hidden files and folders are passed over, links are
    followed (each folder is read once), and files that do not end as pictures do, such as captions,
    are ignored. The order is that of the names. Of an animation the first frame is taken.

    8-bit pictures have white at 255, 16-bit grey ones at 65535, 32-bit integers too (other values
    are an error), and floats are taken as they are and must lie in [0, 1]. The orientation that a
    camera noted is applied.

    Args:
        path: the folder; or the folders themselves, as ``{"source": ..., "target": ...}``, with
            ``"heldout"`` or not.
        size: side in pixels, or (height, width).
        shots: number of target images, chosen at random, the others joining the held-out ones;
            None takes all of ``target``.
        channels: 3 for colour, 1 for grey.
        fit: ``"crop"`` to the middle part that has the wanted shape, or ``"pad"`` with the
            background.
        background: colour behind transparent pictures and padding: a name, ``"#rrggbb"`` or three
            numbers up to 255.
        labels: whether the folders within ``source`` are classes, whose names become
            `ImageTask.source_labels`.
        suffixes: endings of the files that are pictures, in any case; None is `listing.SUFFIXES`.
        valid: says in place of `suffixes` whether the file at a `pathlib.Path` is one.
        seed: of the choice.
        on_error: ``"raise"`` on a picture that cannot be read, or ``"skip"`` it and name it in
            `ImageTask.skipped`.
        cache: folder in which resized images are kept under the sha256 of their content; None is
            the platform's. Nothing is kept when images were skipped.
        progress: called with ``(images read, images to read)``.

    Raises:
        FileNotFoundError: ``source`` or ``target`` is missing or holds no image, or a class none.
        ValueError: an image that cannot be read.
        ImportError: the extra ``image`` is not installed.
    """
    look = _decode.Look.checked(size, channels, fit, background)
    _checks.choice("on_error", on_error, ("raise", "skip"))
    labels = _checks.boolean("labels", labels)
    _checks.callback("progress", progress)
    seed = _checks.dimension("seed", seed, low=0)
    if shots is not None:
        shots = _checks.dimension("shots", shots)
    where, named = places(path), isinstance(path, Mapping)
    found, skipped = listing(where, pictures_only(suffixes, valid))
    if skipped and on_error == "raise":
        raise _unreadable(*skipped[0])
    given = classes(where["source"], found["source"]) if labels else None
    contents = _contents(found)
    recipe = {"look": asdict(look), "sets": _recipe(contents)}
    arrays = _store.stored("folder", recipe, cache)
    if arrays is None:
        arrays = _read(found, contents, look, on_error, progress, skipped)
        if not skipped:
            _store.keep("folder", recipe, arrays, cache)
    names = tuple(str(name) for name, _ in skipped)
    if names:
        logger.warning("%d images could not be read, the first is %s", len(names), names[0])
    if given is not None:
        kept = [str(name) not in set(names) for name in found["source"]]
        given = given[np.array(kept)]
    target = where["target"] if named else where["target"].parent
    everything = ImageTask(
        name=target.resolve().name,
        skipped=names,
        source_labels=given,
        **{name: _unit(pixels) for name, pixels in arrays.items()},
    )
    return everything if shots is None else _few(everything, shots, seed)


def _few(task: ImageTask, shots: int, seed: int) -> ImageTask:
    target = task.target
    n = _checks.dimension("shots", shots, high=len(target), top=" = images in target")
    order = np.random.default_rng(seed).permutation(len(target))
    return ImageTask(
        name=task.name,
        source=task.source,
        target=target[order[:n]],
        heldout=np.concatenate([task.heldout, target[order[n:]]]),
        source_labels=task.source_labels,
        skipped=task.skipped,
    )


def _unit(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.float32 else pixels.astype(np.float32) / 255


def _unreadable(path: Path, reason: object) -> ValueError:
    return ValueError(
        f"{str(path)!r} is not an image that can be read ({reason}); remove it, or pass "
        "on_error='skip'"
    )


def _contents(found: Listing) -> dict[str, list[str]]:
    """The sha256 of every file; of one that cannot be opened the reason, which is none."""

    def content(path: Path) -> str:
        try:
            return _decode.sha256(path)
        except OSError as error:
            return str(error)

    return {name: [content(path) for path in paths] for name, paths in found.items()}


def _recipe(contents: dict[str, list[str]]) -> dict[str, Any]:
    """How many files, and what is in them, in their order; not where they are."""
    return {
        name: [len(each), hashlib.sha256("\n".join(each).encode()).hexdigest()]
        for name, each in contents.items()
    }


def _read(
    found: Listing,
    contents: dict[str, list[str]],
    look: _decode.Look,
    on_error: str,
    progress: Progress | None,
    skipped: Skipped,
) -> dict[str, np.ndarray]:
    """Every set as ``(n, height, width, channels)``, uint8, or float32 if a picture is deep."""
    arrays: dict[str, np.ndarray] = {}
    total, done = sum(map(len, found.values())), 0
    for name, paths in found.items():
        kept = []
        for path, content in zip(paths, contents[name], strict=True):
            try:
                kept.append(_decode.decoded(path, content, look))
            except Exception as error:
                reason = str(error) or type(error).__name__
                if on_error == "raise":
                    raise _unreadable(path, reason) from error
                skipped.append((path, reason))
            done += 1
            if progress is not None:
                progress(done, total)
        if not kept and name != "heldout":
            raise ValueError(f"none of the {len(paths)} images for {name} could be read")
        if any(pixels.dtype == np.float32 for pixels in kept):
            kept = [_unit(pixels) for pixels in kept]
        arrays[name] = np.array(kept or np.zeros((0, *look.shape), np.uint8))
    return arrays
