"""Files: atomic writes, and versioned npz with a JSON header (no pickle)."""

import dataclasses
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from fsd_jax import _checks

FORMAT = "fsd_jax"
FORMAT_VERSION = 1


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that readers see the old or the new content, never a part of it.

    Args:
        path: destination.
        write: called with a binary file object.

    Raises:
        OSError: if the folder is missing or not writable; the destination is then untouched.
    """
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file as `write_atomically` does."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_record(path: str | os.PathLike[str], value: Any) -> None:
    """Store a (nested) dataclass of arrays as npz with a JSON header."""
    arrays: dict[str, np.ndarray] = {}
    body = _encode(value, arrays)
    header = json.dumps({"format": FORMAT, "version": FORMAT_VERSION, "body": body})
    arrays["header"] = np.array(header)
    write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def read_record(path: str | os.PathLike[str], types: Mapping[str, type]) -> Any:
    """Read what `write_record` wrote.

    Args:
        path: the file.
        types: the dataclasses that may occur, by name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, damaged, or written by a newer format.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            header = json.loads(str(archive["header"][()]))
            if header["format"] != FORMAT:
                raise KeyError("format")
            version = header["version"]
            arrays = {name: archive[name] for name in archive.files if name != "header"}
    except (FileNotFoundError, PermissionError):
        raise
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{os.fspath(path)!r} has format version {version}, this release reads "
            f"{FORMAT_VERSION}; use a release that matches the file"
        )
    try:
        value = _decode(header["body"], arrays, types)
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from None
    if type(value) not in types.values():
        raise _damaged(path, "no model inside")
    return value


def _damaged(path: str | os.PathLike[str], why: object) -> ValueError:
    return ValueError(
        f"{os.fspath(path)!r} is not a file written by fsd_jax.save, or it is damaged ({why})"
    )


def _encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {
            "type": type(value).__name__,
            "fields": {name: _encode(item, arrays) for name, item in fields.items()},
        }
    if isinstance(value, (jax.Array, np.ndarray)):
        name = f"array_{len(arrays)}"
        arrays[name] = np.asarray(value)
        return {"array": name}
    if isinstance(value, (tuple, list)):
        return {"tuple": [_encode(item, arrays) for item in value]}
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"cannot store a {type(value).__name__}")


def _decode(value: Any, arrays: Mapping[str, np.ndarray], types: Mapping[str, type]) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        stored = arrays[value["array"]]
        if np.issubdtype(stored.dtype, np.floating):
            return _checks.floating(value["array"], stored)[0]
        return jax.numpy.asarray(stored)
    if "tuple" in value:
        return tuple(_decode(item, arrays, types) for item in value["tuple"])
    if value["type"] not in types:
        raise ValueError(f"the file holds an unknown type {value['type']!r}; update fsd_jax")
    fields = {name: _decode(item, arrays, types) for name, item in value["fields"].items()}
    return types[value["type"]](**fields)
