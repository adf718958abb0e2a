"""Results tables: the numbers of a study, written once, with a hash of what made them."""

import csv
import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.records import ANSWERS, ORIGIN, PICTURES, Record
from fsd_jax import __version__
from fsd_jax._files import check_writable, write_text
from fsd_jax._provenance import provenance

MEASURED = frozenset(
    {
        *("value", "stderr", "low", "high", "exact", "bound", "printed"),
        *("floor", "seconds", "unit", "status", "note"),
    }
)
"""Fields that hold results in every study; all others, and the study's own, name a cell."""


class Missing(LookupError):
    """A result that is needed and not there; its text names the cell."""


class LeftOut(Missing):
    """A study whose results were not asked for."""


def words(cell: Record) -> str:
    """A cell's name for people."""
    named = ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in cell.items()
        if name not in ("case", "data") and value not in (None, "")
    )
    return f"{cell.get('data', '')} ({named})" if named else str(cell.get("data", ""))


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The results of one study.

    Attributes:
        study: its name.
        asked: what was asked for: the size, the seed, the data sets, and the study's settings.
        cells: the name of every cell that the table should hold.
        rows: what it holds.
        made: versions, device and commit.
    """

    study: str
    asked: dict[str, Any]
    cells: Sequence[Record]
    rows: Sequence[Record]
    made: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """The plain values that decide every number."""
        return self.asked["settings"]

    def present(self, **wanted: Any) -> list[Record]:
        """Rows with results, for drawing; `absent` names the others."""
        return [r for r in self.rows if r.get("status") == "ok" and _matches(r, wanted)]

    def absent(self, **wanted: Any) -> list[Record]:
        """Cells without results."""
        good = self.present()
        found: dict[tuple[str, ...], set[str]] = {}
        for names in {tuple(cell) for cell in self.cells}:
            found[names] = {_key(names, r) for r in good}
        asked = [cell for cell in self.cells if _matches(cell, wanted)]
        return [cell for cell in asked if _key(tuple(cell), cell) not in found[tuple(cell)]]

    def select(self, **wanted: Any) -> list[Record]:
        """Rows with results, all of them there, for verdicts.

        Raises:
            Missing: a cell has no result, or there is no such cell.
        """
        lost = self.absent(**wanted)
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise Missing(f"{words(lost[0])}{more}")
        rows = self.present(**wanted)
        if not rows:
            raise Missing(words({"data": "", **wanted}))
        return rows

    def one(self, **wanted: Any) -> Record:
        """The only such row.

        Raises:
            Missing: there is none; or several, so that none is meant.
        """
        rows = self.select(**wanted)
        if len(rows) > 1:
            raise Missing(f"{words({'data': '', **wanted})} is not one cell but {len(rows)}")
        return rows[0]

    def records(self) -> Iterator[Record]:
        """Rows with their origin; what an earlier run computed keeps its own."""
        origin = dict(zip(ORIGIN, (self.asked["seed"], self.asked["size"], self.made), strict=True))
        return (row | origin | row for row in self.rows)


def of_rows(
    study: str, rows: Iterable[Record], asked: dict[str, Any], measured: Iterable[str] = ()
) -> Table:
    """A table from rows just computed: it should hold exactly these.

    A row whose status is an answer (`benchmarks.records.ANSWERS`) is there and has no number.

    Args:
        study: its name, which becomes the ``case`` of every row.
        rows: its records.
        asked: see `Table`.
        measured: fields that hold results, besides `MEASURED`.
    """
    results = MEASURED.union(measured)
    held = [row | {"case": study} for row in rows]
    due = [row for row in held if not row["status"].startswith(ANSWERS)]
    cells = [{name: v for name, v in row.items() if name not in results} for row in due]
    return Table(study=study, asked=asked, cells=cells, rows=held, made=provenance())


def path_of(folder: Path, study: str, asked: dict[str, Any]) -> Path:
    """Where the table of this configuration lies; another configuration has another file."""
    text = json.dumps([study, __version__, asked], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return folder / "tables" / f"{study}-{digest}.json"


def read(path: Path) -> Table:
    """A table from its file.

    Raises:
        Missing: no such file, or one that is not as it was written.
    """
    try:
        held = json.loads(path.read_bytes())
        digest = held.pop("digest")
        table = Table(**held)
        if digest != _digest(table):
            raise ValueError("its digest does not match its content")
        if path.name != path_of(path, table.study, table.asked).name:
            raise ValueError("it is of another study, of other settings or of another release")
    except FileNotFoundError:
        raise Missing(f"no table {path.name}") from None
    except Exception as error:  # Whatever a parser thinks of damaged bytes.
        why = f"{type(error).__name__}: {error}"
        raise Missing(f"the table {path.name} cannot be read, it was changed ({why})") from None
    return table


def _digest(table: Table) -> str:
    text = json.dumps(vars(table), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def obtain(path: Path, compute: Callable[[], Table], *, anew: bool = False) -> Table:
    """The table in the file; computed and stored first where there is none as it was written.

    Args:
        path: its file.
        compute: makes it.
        anew: compute it in any case.

    Raises:
        OSError: its folder cannot be written, which is found before the work.
    """
    try:
        if not anew:
            return read(path)
    except Missing as lost:
        if path.exists():
            print(f"{path.name}: {lost}; it is computed again", file=sys.stderr)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_writable(path.parent)
    table = compute()
    stored = {**vars(table), "digest": _digest(table)}
    write_text(path, json.dumps(stored, allow_nan=False, indent=0) + "\n")
    return table


def write_csv(table: Table, path: Path) -> None:
    """All rows with numbers, one column a field."""
    rows = [row for row in table.rows if row["metric"] != PICTURES]
    names = list(dict.fromkeys(name for row in rows for name in row if name != "case"))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def _matches(row: Record, wanted: Record) -> bool:
    return all(row.get(name) == value for name, value in wanted.items())


def _key(names: tuple[str, ...], row: Record) -> str:
    return json.dumps([row.get(name) for name in names])
