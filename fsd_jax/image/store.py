"""Built arrays kept on disk: written whole, checked when read, rebuilt when anything is wrong."""

import hashlib
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fsd_jax import _files
from fsd_jax._checks.arrays import logger

FORMAT = 1


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
    folder: str | os.PathLike[str] | None,
) -> dict[str, np.ndarray]:
    """The arrays that `build` returns, from disk if they are there and whole.

    Args:
        name: beginning of the file's name.
        recipe: everything the arrays depend on; JSON.
        build: makes them.
        folder: where to keep them; None is `default_folder`.
    """
    place = default_folder() if folder is None else Path(folder)
    text = json.dumps({"format": FORMAT, **recipe}, sort_keys=True)
    key = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
    path = place / f"{name}-{key}.npz"
    found = _read(path, text)
    if found is not None:
        return found
    arrays = build()
    header = json.dumps({"recipe": text, "digest": digest(arrays)})
    content: dict[str, Any] = {"header": np.array(header), **arrays}
    try:
        place.mkdir(parents=True, exist_ok=True)
        _files.write_atomically(path, lambda file: np.savez_compressed(file, **content))
    except OSError as error:
        logger.warning("%s is not kept (%s); pass cache= a folder that is writable", path, error)
    return arrays


def _read(path: Path, recipe: str) -> dict[str, np.ndarray] | None:
    """The stored arrays, or None if there are none that can be trusted."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"][()]))
            arrays = {name: archive[name] for name in archive.files if name != "header"}
            if header["recipe"] == recipe and header["digest"] == digest(arrays):
                return arrays
            reason = "its checksum does not match"
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zlib.error,
            zipfile.BadZipFile) as error:  # fmt: skip
        reason = str(error)
    logger.warning("%s is damaged (%s) and is built again", path, reason)
    return None
