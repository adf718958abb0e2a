"""Tables as people read them: at most 100 columns wide and 20 lines long on the terminal."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.records import FIXED, PICTURES, Record

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.table import Table

Lines = list[dict[str, str]]
WIDTH = 100
LINES = 20


def plain(table: "Table") -> Lines:
    """One line for each record, with its parameters."""
    return [line(row) for row in table.rows if row["metric"] != PICTURES]


def line(row: Record) -> dict[str, str]:
    """A record as a line: what was measured, the number, its parameters."""
    found = {name: row[name] for name in ("data", "method", "metric") if row[name]}
    found["value"] = number(row)
    if row["floor"] and row["value"] is not None:
        found["over floor"] = f"{row['value'] / row['floor']:.2f}"
    for name, value in row.items():
        if name not in FIXED and value is not None and name not in ("stderr", "note"):
            found[name] = f"{value:.3g}" if isinstance(value, float) else str(value)
    if row["status"] != "ok":
        found["status"] = row["status"]
    return found


def pivot(
    rows: Iterable[Record],
    keys: Sequence[str],
    heading: Callable[[Record], str],
    text: Callable[[Record], str],
) -> Lines:
    """One line for each value of `keys`, one column for each `heading`."""
    lines: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        found = lines.setdefault(key, {name: str(row[name]) for name in keys})
        found[heading(row)] = text(row)
    return list(lines.values())


def number(row: Record) -> str:
    """Value, standard error and unit."""
    if row["value"] is None:
        return "-"
    error = "" if row["stderr"] is None else f" +- {row['stderr']:.2g}"
    return f"{row['value']:.4g}{error} {row['unit']}".strip()


def short(row: Record) -> str:
    """Value and standard error in little room."""
    if row["value"] is None:
        return "-"
    error = "" if row["stderr"] is None else f" +-{digits(row['stderr'], 1)}"
    return f"{digits(row['value'], 3)}{error}"


def digits(value: float, count: int) -> str:
    """At most so many digits, without a power of ten below a million."""
    return f"{float(f'{value:.{count}g}'):g}"


def times(value: float, other: float) -> str:
    """How a number compares with another, in words."""
    ratio = value / other
    if 0.5 < ratio < 2:
        return f"{ratio:.2f} times"
    size = float(f"{max(ratio, 1 / ratio):.3g}")
    return f"{size:,g} times {'more' if ratio > 1 else 'less'} than"


def render(lines: Lines, *, width: int = WIDTH, most: int = LINES) -> str:
    """A table in plain text, cut to a width and a number of lines, with a word on what was cut.

    A column that never changes is left out.
    """
    import pandas as pd

    if not lines:
        return "(no numbers)"
    frame = pd.DataFrame(lines).fillna("")
    varied = [name for name in frame if len(lines) == 1 or frame[name].nunique() > 1]
    frame = frame[varied or list(frame)]
    total = frame.shape[1]
    while frame.shape[1] > 1 and max(map(len, _grid(frame.iloc[:most]))) > width:
        frame = frame.iloc[:, :-1]
    counts = {"lines": len(frame) - most, "columns": total - frame.shape[1]}
    cut = [f"{count} more {what}" for what, count in counts.items() if count > 0]
    text = "\n".join(part[:width].rstrip() for part in _grid(frame.iloc[:most]))
    return f"{text}\n... {' and '.join(cut)} in the file" if cut else text


def _grid(frame: "pd.DataFrame") -> list[str]:
    """A heading and one line for each row, all cells to the left."""
    widths = {name: max(frame[name].str.len().max(), len(name)) for name in frame}
    head = "  ".join(name.ljust(width) for name, width in widths.items())
    rows = frame.to_dict("records")
    body = ["  ".join(row[name].ljust(width) for name, width in widths.items()) for row in rows]
    return [head, "-" * len(head.rstrip()), *body]
