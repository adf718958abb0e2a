"""Files: atomic writes, locks, and values as JSON gives them back."""

import contextlib
import errno
import importlib
import math
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np

from fsd_jax import _checks

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
"""Elsewhere there are no locks: two writers at once are then the user's to avoid."""

_TEMPORARY = re.compile(r"\.fsd_jax-[0-9a-f]{16}\.tmp")


def write_atomically(path: str | os.PathLike[str], write: Callable[[IO[bytes]], object]) -> None:
    """Write a file so that readers see the old or the new content, never a part of it.

    A link stays and what it points to is replaced. A file that exists keeps its mode; a new one has
    the mode that the user's umask gives. What killed writers left in the folder is removed.

    Args:
        path: destination.
        write: called with a binary file object.

    Raises:
        OSError: if the folder is missing or not writable, or the destination is no regular file;
            the destination is then untouched.
    """
    target = Path(os.path.realpath(path))
    held = _regular(target)
    with _temporary(target.parent, private=held is not None) as (name, file):
        write(file)
        file.flush()
        if held is not None:
            _as_before(name, held)
        os.fsync(file.fileno())
        if fcntl is None:
            file.close()
        os.replace(name, target)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file as `write_atomically` does."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_new(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file that must not exist yet, whole or not at all.

    Raises:
        FileExistsError: it exists; it is left as it is.
        OSError: as in `write_atomically`.
    """
    target = Path(path)
    with _temporary(target.parent, private=False) as (name, file):
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
        try:
            # Whole and exclusive at once, which opening with O_EXCL and then writing is not.
            os.link(name, target)
        except FileExistsError:
            raise
        except OSError:  # A file system without hard links.
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, "exists already", str(target)) from None
            if fcntl is None:
                file.close()
            os.replace(name, target)


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Write something into a folder and remove it, before long work whose results go there.

    Raises:
        OSError: the folder is missing, or cannot be written.
    """
    with _temporary(Path(folder), private=True) as (_, file):
        file.write(b"probe")
        file.flush()


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this run alone; a killed run's lock is gone with it.

    Returns:
        False if another holder has it. True also where the file system knows no locks.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _temporary(folder: Path, *, private: bool) -> Iterator[tuple[str, IO[bytes]]]:
    """A new file that nobody else sees; it is removed at the end if it has kept its name.

    Its writer holds a lock on it, so that one without a lock was left behind by a kill.
    """
    _remove_stale(folder)
    while True:
        name = os.path.join(folder, f".fsd_jax-{secrets.token_hex(8)}.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        handle = os.open(name, flags, 0o600 if private else 0o666)
        # Between the two lines another writer may have taken it for a stale one and removed it.
        if try_lock(handle) and os.fstat(handle).st_nlink:
            break
        os.close(handle)
    try:
        with os.fdopen(handle, "wb") as file:
            yield name, file
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _remove_stale(folder: Path) -> None:
    """Remove temporary files of ours that no live writer holds."""
    if fcntl is None:
        return
    names: list[str] = []
    with contextlib.suppress(OSError):  # Opening the new file says what is wrong with the folder.
        names = os.listdir(folder)
    for name in filter(_TEMPORARY.fullmatch, names):
        with contextlib.suppress(OSError):
            handle = os.open(folder / name, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
            try:
                # A file system without locks says so by an OSError; then nothing can be known.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(folder / name)
            finally:
                os.close(handle)


def plain(name: str, value: Any) -> Any:
    """A value as JSON gives it back: Python's numbers for NumPy's, lists for tuples and arrays.

    Raises:
        ValueError: what JSON cannot hold, and numbers that are not finite.
    """
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, (np.generic, np.ndarray, jax.Array)) and not np.ma.isMaskedArray(value):
        array = np.asarray(value)
        # Long double has no Python number of its own.
        value = (array.astype(float) if array.dtype.char == "g" else array).tolist()
        return plain(name, value)
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(f"{name}[{place}]", item) for place, item in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {
            # Naming what is fine takes most of the time.
            str(key): item if type(item) in (int, str) else plain(f"{name}[{key!r}]", item)
            for key, item in value.items()
        }
    raise ValueError(
        f"{name} must be a word, a finite number, a list or a dictionary of them, "
        f"got {_checks.named(value)}"
    )


def _regular(target: Path) -> os.stat_result | None:
    """What is to be replaced, None where there is nothing."""
    try:
        held = os.stat(target)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(held.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not stat.S_ISREG(held.st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(target))
    return held


def _as_before(name: str, held: os.stat_result) -> None:
    """Give a new file the mode and, where that is allowed, the owner of the one it replaces."""
    mode, now = stat.S_IMODE(held.st_mode), os.stat(name)
    if (now.st_uid, now.st_gid) != (held.st_uid, held.st_gid):
        try:
            os.chown(name, held.st_uid, held.st_gid)
        except OSError:
            # What a group may do is not granted to another group.
            mode &= ~0o070
    os.chmod(name, mode)
