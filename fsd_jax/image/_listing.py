"""Which files of a folder are pictures: what users of torchvision's ``ImageFolder`` expect."""

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fsd_jax import _checks

SETS = ("source", "target", "heldout")
SUFFIXES = (
    ".apng",
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".heif",
    ".jfif",
    ".jp2",
    ".jpe",
    ".jpeg",
    ".jpg",
    ".jxl",
    ".pbm",
    ".pgm",
    ".png",
    ".pnm",
    ".ppm",
    ".tga",
    ".tif",
    ".tiff",
    ".webp",
)
"""Endings of pictures, in any case. Some need a plugin for Pillow: without it such a file is named
as one that cannot be read, since a photograph that is left out in silence is worse."""

Listing = dict[str, list[Path]]
Valid = Callable[[Path], bool]


def pictures_only(suffixes: Any, valid: Any) -> Valid:
    """The rule that says which files are pictures, from the arguments of `folder`."""
    _checks.callback("valid", valid)
    if valid is not None:
        if suffixes is not None:
            raise ValueError("give suffixes or valid, not both; valid can look at path.suffix")
        return lambda path: bool(valid(path))
    if suffixes is None:
        suffixes = SUFFIXES
    words = [suffixes] if isinstance(suffixes, str) else suffixes
    if not isinstance(words, Iterable) or not (words := list(words)):
        raise ValueError(f"suffixes must be a list such as ['.png'], got {_checks.named(suffixes)}")
    for word in words:
        if not isinstance(word, str) or not word.strip("."):
            raise ValueError(f"suffixes must be words such as '.png', got {_checks.named(word)}")
    endings = tuple("." + word.lower().lstrip(".") for word in words)
    return lambda path: path.name.lower().endswith(endings)


def places(path: Any) -> dict[str, Path]:
    """The folder of each set: within one folder, or named one by one."""
    if not isinstance(path, Mapping):
        top = _checks.path("path", path)
        return {name: top / name for name in SETS}
    if not {"source", "target"} <= set(path) <= set(SETS):
        raise ValueError(
            "path must be a folder, or name folders for source, target and perhaps heldout, got "
            f"{sorted(map(str, path))}"
        )
    return {name: _checks.path(f"path[{name!r}]", path[name]) for name in SETS if name in path}


def listing(places: dict[str, Path], wanted: Valid) -> tuple[Listing, list[tuple[Path, str]]]:
    """The pictures of each set in the order of their names, and folders that cannot be listed."""
    found: Listing = {name: [] for name in SETS}
    broken: list[tuple[Path, str]] = []
    for name, place in places.items():
        inside = _pictures(place, wanted, broken) if place.is_dir() else []
        if not inside and name != "heldout" and not broken:
            raise FileNotFoundError(
                f"{str(place)!r} holds no images; source and target must be folders, and heldout "
                "may be one, with files that end as pictures do (suffixes= names others)"
            )
        found[name] = inside
    return found, broken


def _pictures(top: Path, wanted: Valid, broken: list[tuple[Path, str]]) -> list[Path]:
    """All pictures below a folder.

    Hidden files and folders are none of the user's pictures. Links are followed, after the folders
    that are really there, and each folder is read once, so that a loop of links ends. A link
    upwards is a loop, too.
    """
    found: list[Path] = []
    above = [place.stat() for place in top.resolve().parents]
    seen = {(status.st_dev, status.st_ino) for status in above}
    folders: list[Path] = [top]
    links: list[Path] = []
    while folders or links:
        place = folders.pop() if folders else links.pop()
        try:
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(place) as entries:
                names = sorted((e.name for e in entries if e.name[0] != "."), reverse=True)
        except OSError as error:
            broken.append((place, str(error)))
            continue
        for name in names:
            item = place / name
            kind = _kind(item)
            if kind == "folder":
                (links if item.is_symlink() else folders).append(item)
            elif kind == "file" and wanted(item):
                found.append(item)
        # The first in the order of names is taken first.
        links.sort(key=lambda p: p.parts, reverse=True)
    return sorted(found, key=lambda p: p.parts)


def _kind(item: Path) -> str:
    """``"file"`` also for a link to nothing, which must be named and not passed over."""
    try:
        mode = item.stat().st_mode
    except OSError:
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def classes(top: Path, paths: list[Path]) -> np.ndarray:
    """The folder below `top` in which each picture lies, which is its class.

    Raises:
        ValueError: a picture that lies in none.
        FileNotFoundError: a class without pictures.
    """
    names = [path.relative_to(top).parts for path in paths]
    for path, parts in zip(paths, names, strict=True):
        if len(parts) < 2:
            raise ValueError(
                f"{str(path)!r} lies in no class: with labels=True every picture of the source "
                "belongs in a folder that is named after its class"
            )
    found = {parts[0] for parts in names}
    for item in sorted(top.iterdir()):
        if item.name[0] != "." and item.is_dir() and item.name not in found:
            raise FileNotFoundError(f"class {str(item)!r} holds no images; remove it or fill it")
    return np.array([parts[0] for parts in names])
