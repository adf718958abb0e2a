"""Arrays on disk: npz, a dataclass with a JSON header and a format version; no pickle."""

import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from fsd_jax import _checks, _files

FORMAT = "fsd_jax"
FORMAT_VERSION = 2
"""Version 1 held the number of samples as a floating number."""
READABLE = (1, 2)

_MOST_HEADER = 1 << 24
"""Bytes; a real header has some thousand, and a damaged or forged one must not fill the memory."""


def write_record(path: str | os.PathLike[str], value: Any) -> None:
    """Store a (nested) dataclass of arrays as npz with a JSON header."""
    arrays: dict[str, np.ndarray] = {}
    body = _encode(value, arrays)
    header = json.dumps({"format": FORMAT, "version": FORMAT_VERSION, "body": body})
    arrays["header"] = np.array(header)
    _files.write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def read_record(
    path: str | os.PathLike[str],
    types: Mapping[str, type],
    *,
    update: Callable[[int, str, dict[str, Any]], dict[str, Any]],
    check: Callable[[Any], None],
) -> Any:
    """Read what `write_record` wrote.

    Args:
        path: the file.
        types: the dataclasses that may occur, by name.
        update: from the file's format version, a type's name and its fields to today's fields.
        check: raises a `ValueError` on a value that cannot be.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, damaged, or written by a newer format.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:
        raise _damaged(path, error) from None
    with file:
        try:
            with zipfile.ZipFile(file) as archive:
                header = json.loads(str(_member(archive, "header", _MOST_HEADER)[()]))
                if header["format"] != FORMAT:
                    raise KeyError("format")
                version = header["version"]
                known = version in READABLE
                now = partial(update, version)
                value = _decode(header["body"], archive, types, now) if known else None
        except Exception as error:  # Whatever a parser thinks of damaged bytes.
            raise _damaged(path, error) from None
    if not known:
        raise ValueError(
            f"{os.fspath(path)!r} has format version {version}, this release reads "
            f"{READABLE[0]} to {READABLE[-1]}; use a release that matches the file"
        )
    try:
        check(value)
    except Exception as error:
        raise _damaged(path, error) from None
    return value


def write_arrays(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Store arrays as they are, by name, as npz."""
    _files.write_atomically(path, lambda file: np.savez(file, allow_pickle=False, **arrays))


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote, on the host, and compare its checksums.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or a damaged one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename.removesuffix(".npy") for info in archive.infolist()]
            return {name: _member(archive, name) for name in names}
    except (FileNotFoundError, PermissionError):
        raise
    except Exception as error:  # Whatever a parser thinks of damaged bytes.
        raise _damaged(path, error) from None


def _damaged(path: str | os.PathLike[str], why: object) -> ValueError:
    words = str(why) or type(why).__name__
    return ValueError(
        f"{os.fspath(path)!r} is not a file written by fsd_jax.save, or it is damaged "
        f"({' '.join(words.split())})"
    )


def _member(archive: zipfile.ZipFile, name: str, most: int | None = None) -> np.ndarray:
    """One array of an npz file, read to its end, because only there its checksum is compared."""
    info = archive.getinfo(f"{name}.npy")
    if most is not None and info.file_size > most:
        raise ValueError(f"{name} has {info.file_size} bytes")
    with archive.open(info) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):
            raise ValueError(f"{name} is longer than it says")
    return array


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


def _decode(
    value: Any,
    archive: zipfile.ZipFile,
    types: Mapping[str, type],
    update: Callable[[str, dict[str, Any]], dict[str, Any]],
) -> Any:
    if not isinstance(value, dict):
        return value
    if "array" in value:
        stored = _member(archive, value["array"])
        if np.issubdtype(stored.dtype, np.floating):
            return _checks.floating(value["array"], stored)[0]
        whole = np.asarray(_checks.array(value["array"], stored))
        kept = whole.astype(jax.dtypes.canonicalize_dtype(whole.dtype))
        if np.any(kept != whole):
            raise ValueError(f"{value['array']} has integers beyond {kept.dtype}")
        return jax.numpy.asarray(kept)
    if "tuple" in value:
        return tuple(_decode(item, archive, types, update) for item in value["tuple"])
    name = value["type"]
    if name not in types:
        raise ValueError(f"the file holds an unknown type {name!r}; update fsd_jax")
    fields = {
        field: _decode(item, archive, types, update) for field, item in value["fields"].items()
    }
    return types[name](**update(name, fields))
