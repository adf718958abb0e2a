"""The journal of a sweep that runs: whose the folder is, and how far every group has come."""

import json
import logging
import os
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fsd_jax import _files
from fsd_jax.sweep._plan import Plan
from fsd_jax.sweep._results import (
    MANIFEST,
    RESULTS,
    compare,
    has_foreign_rows,
    hash_of,
    identity,
    read_manifest,
    write_manifest,
)
from fsd_jax.sweep._tally import Tally

log = logging.getLogger("fsd_jax")
JOURNAL = "journal.jsonl"
SYNC_EVERY = 1.0
"""Seconds between two forced writes to disk: a kill loses nothing, a power cut this much."""


class Journal:
    """The tallies so far, each batch's on a line of its own with its checksum.

    A line is a whole snapshot of its group: one that is damaged is passed over, and at worst the
    group's work is done again. The journal is locked as long as it is open, by one run alone; a
    kill opens the lock.

    Attributes:
        tallies: by place of the group in the plan.
    """

    def __init__(self, plan: Plan, folder: Path, *, resume: bool) -> None:
        """Take possession of a folder, or leave it as it is.

        Raises:
            ValueError: it holds another sweep or, without `resume`, anything that a sweep would
                write; or another run is writing to it.
            OSError: it cannot be written.
        """
        if not resume:
            _refuse(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _files.check_writable(folder)
        self._path = folder / JOURNAL
        # Read by this process only, through `_path`; what is written goes to the end.
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            if not _files.try_lock(self._file):
                raise ValueError(
                    f"another run is writing to {str(folder)!r}; wait for it or end it, or choose "
                    "another folder"
                )
            self.tallies = self._take(plan, folder, resume)
        except BaseException:
            os.close(self._file)
            raise
        self._synced = time.monotonic()

    def _take(self, plan: Plan, folder: Path, resume: bool) -> dict[int, Tally]:
        """What the folder holds, now that nobody else writes to it."""
        wanted = identity(plan)
        self._seed = zlib.crc32(hash_of(wanted).encode())
        if not resume:
            _refuse(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            if held := _held(folder):
                raise ValueError(
                    f"{str(folder)!r} holds {' and '.join(held)} without a {MANIFEST} that says "
                    "of which sweep; choose another folder, or move them away"
                )
            write_manifest(plan, wanted, folder)
            return {}
        compare(manifest, wanted, folder)
        if has_foreign_rows(plan, folder):
            raise ValueError(
                f"{str(folder)!r} holds a {RESULTS} with rows that are not of this sweep; choose "
                "another folder, or move that file away"
            )
        tallies, whole = self._read()
        os.truncate(self._path, whole)
        return tallies

    def _read(self) -> tuple[dict[int, Tally], int]:
        """The last whole tally of each group, and the length up to a torn last line."""
        tallies: dict[int, Tally] = {}
        whole = 0
        with open(self._path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break
                whole += len(line)
                entry = _entry(line, self._seed)
                if entry is None:
                    log.warning("%s, line %d is damaged and passed over", self._path, number)
                else:
                    tallies[entry["group"]] = Tally.from_json(entry)
        return tallies, whole

    def append(self, index: int, values: Iterable[np.ndarray]) -> None:
        """Add a group's next blocks to its tally, and record it."""
        tally = self.tallies[index]
        for each in values:
            tally.add(each)
        left = _line({"group": index, **tally.to_json()}, self._seed)
        while left:
            left = left[os.write(self._file, left) :]
        if time.monotonic() - self._synced > SYNC_EVERY:
            os.fsync(self._file)
            self._synced = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        os.close(self._file)


def _held(folder: Path) -> list[str]:
    """Files that a sweep would write and that are there; an empty journal holds nothing."""
    names = [name for name in (MANIFEST, RESULTS) if os.path.lexists(folder / name)]
    journal = folder / JOURNAL
    return names + [JOURNAL] * (journal.exists() and journal.stat().st_size > 0)


def _refuse(folder: Path) -> None:
    held = _held(folder)
    if MANIFEST in held:
        raise ValueError(
            f"{str(folder)!r} holds a sweep already; resume it, or choose another folder"
        )
    if held:
        raise ValueError(
            f"{str(folder)!r} holds {' and '.join(held)} already; choose another folder"
        )


def _line(entry: dict[str, Any], seed: int) -> bytes:
    """A line whose checksum covers the entry and, through `seed`, the configuration."""
    body = json.dumps(entry).encode()
    return body[:-1] + _tail(body, seed)


def _tail(body: bytes, seed: int) -> bytes:
    return b', "crc": "%08x"}\n' % zlib.crc32(body, seed)


def _entry(line: bytes, seed: int) -> dict[str, Any] | None:
    """The entry of a line, None for one that is damaged or of another configuration."""
    body = line[: -len(_tail(b"", 0))] + b"}"
    return json.loads(body) if line == body[:-1] + _tail(body, seed) else None
