"""Built arrays kept on disk: written whole, checked when read, rebuilt when anything is wrong."""

import hashlib
import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fsd_jax import _checks, _files
from fsd_jax._checks.arrays import logger

FORMAT = 2
Cache = str | os.PathLike[str] | None


def default_folder() -> Path:
    """The platform's folder for caches: ``$XDG_CACHE_HOME/fsd_jax`` or its like."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fsd_jax"


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """A checksum of names, shapes, dtypes and contents."""
    total = hashlib.blake2b(digest_size=16)
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape}".encode())
        total.update(np.ascontiguousarray(array).data)
    return total.hexdigest()


def cached(
    name: str,
    recipe: Mapping[str, Any],
    build: Callable[[], dict[str, np.ndarray]],
    folder: Cache,
) -> dict[str, np.ndarray]:
    """The arrays that `build` returns, from disk if they are there and whole.

    Args:
        name: beginning of the file's name.
        recipe: everything the arrays depend on; JSON.
        build: makes them.
        folder: where to keep them; None is `default_folder`.
    """
    found = stored(name, recipe, folder)
    if found is None:
        found = build()
        keep(name, recipe, found, folder)
    return found


def stored(name: str, recipe: Mapping[str, Any], folder: Cache) -> dict[str, np.ndarray] | None:
    """The arrays that `keep` kept, or None if there are none that can be trusted."""
    path, text = _place(name, recipe, folder)
    try:
        # A damaged file may make its parsers raise anything, and warn on the way.
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with np.load(file, allow_pickle=False) as archive:
                header = json.loads(str(archive["header"][()]))
                if header["recipe"] == text:
                    # No other members are unpacked.
                    arrays = {str(name): archive[str(name)] for name in header["names"]}
                    if header["digest"] == digest(arrays):
                        return arrays
        reason = "its checksum does not match"
    except FileNotFoundError:
        return None
    except Exception as error:
        reason = str(error) or type(error).__name__
    logger.warning("%s is damaged (%s) and is built again", path, reason)
    return None


def keep(
    name: str, recipe: Mapping[str, Any], arrays: Mapping[str, np.ndarray], folder: Cache
) -> None:
    """Keep arrays on disk, if it can be written."""
    path, text = _place(name, recipe, folder)
    header = json.dumps({"recipe": text, "names": sorted(arrays), "digest": digest(arrays)})
    content: dict[str, Any] = {"header": np.array(header), **arrays}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _files.write_atomically(path, lambda file: np.savez_compressed(file, **content))
    except OSError as error:
        logger.warning("%s is not kept (%s); pass cache= a folder that is writable", path, error)


def _place(name: str, recipe: Mapping[str, Any], folder: Cache) -> tuple[Path, str]:
    """File and recipe; the file's name holds the recipe's sha256."""
    place = default_folder() if folder is None else _checks.path("cache", folder)
    text = json.dumps({"format": FORMAT, **recipe}, sort_keys=True)
    return place / f"{name}-{hashlib.sha256(text.encode()).hexdigest()}.npz", text
