"""Image files of the user's own."""

from pathlib import Path
from typing import Any

import numpy as np

from fsd_jax.image.draw import Progress

SETS = ("source", "target", "heldout")
Listing = dict[str, list[Path]]


def listing(path: Path) -> Listing:
    """The files of each set, sorted; hidden ones do not count."""
    found: Listing = {}
    for name in SETS:
        place = path / name
        inside = sorted(p for p in place.rglob("*") if p.is_file() and p.name[0] != ".")
        if not inside and name != "heldout":
            raise FileNotFoundError(
                f"{str(place)!r} holds no images; path needs the folders source and target, and "
                "may have heldout"
            )
        found[name] = inside
    return found


def stamps(found: Listing) -> dict[str, Any]:
    """What tells whether any of the files has changed."""
    sizes = {name: [[str(p), *_stamp(p)] for p in paths] for name, paths in found.items()}
    return {"files": sizes}


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def read(
    found: Listing, size: int, channels: int, on_error: str, progress: Progress | None
) -> dict[str, np.ndarray]:
    """Every set as ``(n, size, size, channels)`` uint8, and the names of files skipped."""
    arrays: dict[str, np.ndarray] = {}
    skipped: list[str] = []
    total, done = sum(map(len, found.values())), 0
    for name, paths in found.items():
        kept = []
        for path in paths:
            try:
                kept.append(_square(path, size, channels))
            except (OSError, ValueError, SyntaxError) as error:
                if on_error == "raise":
                    raise ValueError(
                        f"{str(path)!r} is not an image that can be read ({error}); remove it, or "
                        "pass on_error='skip'"
                    ) from None
                skipped.append(str(path))
            done += 1
            if progress is not None:
                progress(done, total)
        if not kept and name != "heldout":
            raise ValueError(f"none of the {len(paths)} images for {name} could be read")
        shape = (len(kept), size, size, channels)
        arrays[name] = np.array(kept, np.uint8).reshape(shape)
    return arrays | {"skipped": np.array(skipped, str)}


def _square(path: Path, size: int, channels: int) -> np.ndarray:
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            f"reading images needs {error.name}: pip install 'fsd-jax[image]'", name=error.name
        ) from None
    with Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB" if channels == 3 else "L")
    fitted = ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(fitted).reshape(size, size, channels)
