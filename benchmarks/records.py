"""Records: one flat JSON line for each number, with what is needed to trust and repeat it."""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fsd_jax._files import try_lock, write_text
from fsd_jax.sweep._journal import JOURNAL
from fsd_jax.sweep._results import MANIFEST

Record = dict[str, Any]
RESULTS = "results.jsonl"
WORDS = ("case", "data", "method", "metric", "unit", "status")
NUMBERS = ("value", "stderr", "seconds", "floor")
"""None where there is none."""
FIXED = WORDS + NUMBERS
ORIGIN = ("seed", "size", "provenance")
ANSWERS = ("skipped", "left to", "not within", "not up to", "less accurate", "infinite", "diverged")
"""How a status begins that is an answer itself: no number is missing where it stands."""
PICTURES = "pictures"
"""The metric of rows that hold pictures in their note; a file of results holds numbers only."""


def record(
    data: str,
    value: float | None,
    *,
    method: str = "",
    metric: str = "",
    stderr: float | None = None,
    unit: str = "",
    seconds: float | None = None,
    floor: float | None = None,
    status: str = "ok",
    **fields: Any,
) -> Record:
    """One number of a study, which adds its own name as the ``case``.

    Args:
        data: what it was measured on, or which series of numbers it belongs to.
        value: the number; None or one that is not finite is a missing result.
        method: what was measured.
        metric: by which measure.
        stderr: standard error.
        unit: of the value.
        seconds: the cost.
        floor: what the value cannot fall below.
        status: ``"ok"``, or why there is no value.
        **fields: parameters under their own names, and further results (`benchmarks.table`).
    """
    row: Record = {
        "case": "",
        "data": data,
        "method": method,
        "metric": metric,
        "value": value,
        "stderr": stderr,
        "unit": unit,
        "seconds": seconds,
        "floor": floor,
        "status": status,
    }
    row |= {name: field for name, field in fields.items() if name not in row}
    if isinstance(value, float) and not math.isfinite(value) and status == "ok":
        row["status"] = f"not finite: {value}"
    infinite = [n for n, v in row.items() if isinstance(v, float) and not math.isfinite(v)]
    return row | dict.fromkeys(infinite)


class Results:
    """The ``results.jsonl`` of a folder, of which a run replaces the rows of its own cases only.

    All other lines keep their bytes, and a case's old ones stay until the new ones are there: a run
    that is killed has lost nothing but what it was computing. The folder must be this run's alone
    (`benchmarks.console.Parser.own`).
    """

    def __init__(self, folder: Path, names: Iterable[str], *, data: Sequence[str] = ()) -> None:
        """Read what is there, and see that it can be written.

        Args:
            folder: exists.
            names: the cases of this run, in the order in which new ones are written.
            data: the only data sets whose rows are replaced; none: all.

        Raises:
            ValueError: the folder holds a sweep, or a file with other lines than records.
            OSError: the file cannot be written.
        """
        self.path = folder / RESULTS
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

    def replace(self, name: str, rows: Iterable[Record]) -> None:
        """Put a finished case's rows, with their origin, in the place of its old ones."""
        kept = [held for held in self._held[name] if self._data and held[0] not in self._data]
        fresh = [
            (row["data"], json.dumps(row, allow_nan=False) + "\n")
            for row in rows
            if row["metric"] != PICTURES
        ]
        self._held[name] = kept + fresh
        self._write()

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
