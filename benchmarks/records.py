"""Records: one flat JSON line for each number, with what is needed to trust and repeat it."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fsd_jax._files import try_lock, write_text
from fsd_jax._provenance import provenance
from fsd_jax.sweep._journal import JOURNAL
from fsd_jax.sweep._results import MANIFEST

Record = dict[str, Any]
RESULTS = "results.jsonl"
WORDS = ("case", "data", "method", "metric", "unit", "status")
NUMBERS = ("value", "stderr", "seconds", "floor")
"""None where there is none."""
FIXED = WORDS + NUMBERS


def record(
    case: str,
    data: str,
    method: str,
    metric: str,
    value: float | None,
    *,
    stderr: float | None = None,
    unit: str = "",
    seconds: float | None = None,
    floor: float | None = None,
    status: str = "ok",
    **parameters: Any,
) -> Record:
    """One number with its error, cost and parameters; non-finite values become null."""
    row: Record = {
        "case": case,
        "data": data,
        "method": method,
        "metric": metric,
        "value": _finite(value),
        "stderr": _finite(stderr),
        "unit": unit,
        "seconds": _finite(seconds),
        "floor": _finite(floor),
        "status": status,
    }
    return row | parameters


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def write(
    folder: Path, rows: Sequence[Record], *, seed: int, size: str, name: str = RESULTS
) -> Path:
    """Replace a file in `folder` atomically; every line carries the provenance of its number."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    write_text(path, "".join(_lines(rows, seed=seed, size=size)))
    return path


def _lines(rows: Iterable[Record], *, seed: int, size: str) -> list[str]:
    # What an earlier run computed keeps its own.
    extra = {"seed": seed, "size": size, "provenance": provenance()}
    return [json.dumps(row | extra | row, allow_nan=False) + "\n" for row in rows]


class Results:
    """The ``results.jsonl`` of a folder, of which a run replaces the rows of its own cases only.

    All other lines keep their bytes, and a case's old ones stay until the new ones are there: a run
    that is killed has lost nothing but what it was computing. The folder must be this run's alone
    (`benchmarks.console.Parser.own`).
    """

    def __init__(
        self, folder: Path, names: Iterable[str], *, seed: int, size: str, data: Sequence[str] = ()
    ) -> None:
        """Read what is there, and see that it can be written.

        Args:
            folder: exists.
            names: the cases of this run, in the order in which new ones are written.
            seed: of this run.
            size: of this run.
            data: the only data sets whose rows are replaced; none: all.

        Raises:
            ValueError: the folder holds a sweep, or a file with other lines than records.
            OSError: the file cannot be written.
        """
        self.path = folder / RESULTS
        self._lines = partial(_lines, seed=seed, size=size)
        self._data = data
        self._held: dict[str, list[tuple[str, str]]] = {}
        _refuse_sweep(folder)
        new = not self.path.exists()
        for row, line in () if new else _parsed(self.path, advice="; choose another folder"):
            self._held.setdefault(row["case"], []).append((row["data"], line + "\n"))
        for name in names:
            self._held.setdefault(name, [])
        self._write()
        try:
            # A sweep that started meanwhile has seen this file, or is seen now.
            _refuse_sweep(folder)
        except ValueError:
            if new:
                self.path.unlink()
            raise

    def replace(self, name: str, rows: Sequence[Record]) -> Path:
        """Put a finished case's rows in the place of its old ones; returns the file's path."""
        lines = self._lines(rows)
        kept = [held for held in self._held[name] if self._data and held[0] not in self._data]
        fresh = zip((row["data"] for row in rows), lines, strict=True)
        self._held[name] = kept + list(fresh)
        self._write()
        return self.path

    def _write(self) -> None:
        write_text(self.path, "".join(line for held in self._held.values() for _, line in held))


def _refuse_sweep(folder: Path) -> None:
    held = (folder / MANIFEST).exists()
    with contextlib.suppress(FileNotFoundError):
        journal = os.open(folder / JOURNAL, os.O_RDONLY)
        try:
            # An empty one that nobody holds is what is left of a sweep that was refused.
            held = held or os.fstat(journal).st_size > 0 or not try_lock(journal)
        finally:
            os.close(journal)
    if held:
        raise ValueError(f"{str(folder)!r} holds a sweep; choose another folder")


def read(path: Path) -> list[Record]:
    """Records from a file, or from the ``results.jsonl`` of a folder.

    Raises:
        ValueError: no such file, or a line that is no record.
    """
    return [row for row, _ in _parsed(path / RESULTS if path.is_dir() else path)]


def _parsed(path: Path, advice: str = "") -> Iterator[tuple[Record, str]]:
    """Every record, and the line that it is on."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read {str(path)!r}: {reason}{advice}") from None
    # Not splitlines, which also ends a line at characters that JSON may hold.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not _is_record(row):
            words = f"{str(path)!r} line {number} is not a benchmark record"
            raise ValueError(words + advice)
        yield row, line


def _is_record(row: Any) -> bool:
    if not isinstance(row, dict) or any(name not in row for name in FIXED):
        return False
    words = all(isinstance(row[name], str) for name in WORDS)
    return words and all(row[name] is None or _is_number(row[name]) for name in NUMBERS)


def _is_number(value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool)
    return whole or (isinstance(value, float) and math.isfinite(value))


def parameters(row: Record) -> dict[str, Any]:
    """The case's own parameters of a record."""
    skip = {*FIXED, "seed", "size", "provenance"}
    return {name: value for name, value in row.items() if name not in skip}


def select(rows: Iterable[Record], **wanted: Any) -> list[Record]:
    """Records whose fields equal `wanted`."""
    return [r for r in rows if all(r.get(name) == value for name, value in wanted.items())]
