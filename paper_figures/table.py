"""Results tables: the numbers behind a figure, written once, with a hash of what made them."""

import csv
import hashlib
import io
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsd_jax import __version__
from fsd_jax._files import check_writable, write_text
from fsd_jax._provenance import provenance

Row = dict[str, Any]
VALUES = ("value", "stderr", "low", "high", "exact", "printed", "bound", "status", "note")
"""Fields that hold results; all others say which cell of the table a row is."""


class Missing(LookupError):
    """A result that is needed and not there; its text names the cell."""


class LeftOut(Missing):
    """A figure whose results were not asked for."""


def row(
    series: str,
    value: float | None,
    *,
    stderr: float | None = None,
    status: str = "ok",
    **fields: Any,
) -> Row:
    """One cell: parameters and results; numbers that are not finite become a status."""
    found: Row = {"series": series, **fields, "value": value, "stderr": stderr, "status": status}
    for name in VALUES:
        number = found.get(name)
        if isinstance(number, float) and not math.isfinite(number):
            found[name] = None
            if name == "value" and status == "ok":
                found["status"] = f"not finite: {number}"
    return found


def identity(cell: Row) -> Row:
    """The fields that name a cell."""
    return {name: value for name, value in cell.items() if name not in VALUES}


def words(cell: Row) -> str:
    """A cell's name for people."""
    named = ", ".join(
        f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in cell.items()
        if name != "series" and value is not None
    )
    return f"{cell['series']} ({named})" if named else str(cell["series"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The results of one figure.

    Attributes:
        figure: its name.
        settings: what was asked for.
        cells: the name of every cell that the table should hold.
        rows: what it holds.
        made: versions, device and commit.
    """

    figure: str
    settings: dict[str, Any]
    cells: Sequence[Row]
    rows: Sequence[Row]
    made: dict[str, Any]

    def present(self, **wanted: Any) -> list[Row]:
        """Rows with results, for drawing; `absent` names the others."""
        return [r for r in self.rows if r.get("status") == "ok" and _matches(r, wanted)]

    def absent(self, **wanted: Any) -> list[Row]:
        """Cells without results."""
        found = {_key(identity(r)) for r in self.rows if r.get("status") == "ok"}
        cells = [cell for cell in self.cells if _matches(cell, wanted)]
        return [cell for cell in cells if _key(cell) not in found]

    def select(self, **wanted: Any) -> list[Row]:
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
            raise Missing(words({"series": "", **wanted}))
        return rows

    def one(self, **wanted: Any) -> Row:
        """The only such row.

        Raises:
            Missing: there is none; or several, so that none is meant.
        """
        rows = self.select(**wanted)
        if len(rows) > 1:
            raise Missing(f"{words({'series': '', **wanted})} is not one cell but {len(rows)}")
        return rows[0]


def of_rows(figure: str, rows: Iterable[Row], settings: dict[str, Any] | None = None) -> Table:
    """A table from rows just computed: it should hold exactly these."""
    held = list(rows)
    cells = [identity(r) for r in held]
    return Table(figure=figure, settings=settings or {}, cells=cells, rows=held, made=provenance())


def config_hash(figure: str, settings: dict[str, Any]) -> str:
    """Twelve hex digits that name a figure's configuration."""
    text = json.dumps([figure, __version__, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def path_of(folder: Path, figure: str, settings: dict[str, Any]) -> Path:
    """Where the table of this configuration lies; another configuration has another file."""
    return folder / "tables" / f"{figure}-{config_hash(figure, settings)}.json"


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
        if path.name != path_of(path, table.figure, table.settings).name:
            raise ValueError("it is of another figure, of other settings or of another release")
    except FileNotFoundError:
        raise Missing(f"no table {path.name}") from None
    except Exception as error:  # Whatever a parser thinks of damaged bytes.
        why = f"{type(error).__name__}: {error}"
        raise Missing(f"the table {path.name} cannot be read, it was changed ({why})") from None
    return table


def _digest(table: Table) -> str:
    text = json.dumps(vars(table), sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def obtain(path: Path, figure: str, settings: dict, compute: Callable[[], Iterable[Row]]) -> Table:
    """The table in the file; computed and stored first where there is none as it was written.

    Raises:
        OSError: its folder cannot be written, which is found before the work.
    """
    try:
        return read(path)
    except Missing as lost:
        if path.exists():
            print(f"paper_figures: {lost}; it is computed again", file=sys.stderr)
        path.parent.mkdir(parents=True, exist_ok=True)
        check_writable(path.parent)
        table = of_rows(figure, compute(), settings)
    stored = {**vars(table), "digest": _digest(table)}
    write_text(path, json.dumps(stored, allow_nan=False, indent=0) + "\n")
    return table


def write_csv(table: Table, path: Path) -> None:
    """All rows, one column a field."""
    names = list(dict.fromkeys(name for r in table.rows for name in r))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    write_text(path, text.getvalue())


def _matches(cell: Row, wanted: Row) -> bool:
    return all(cell.get(name) == value for name, value in wanted.items())


def _key(cell: Row) -> str:
    return json.dumps(cell, sort_keys=True)
