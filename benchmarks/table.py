"""Records as text: one readable table a case."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.records import Record, parameters

HIDDEN = {"calls", "gflops_of_gram", "data_bytes", "heldout", "closed_form"}


Lines = list[dict[str, str]]


def render(rows: Sequence[Record], lines: Callable[[list[Record]], Lines] | None = None) -> str:
    """All records, grouped by case and data set; `lines` is the case's own shape, if it has one."""
    blocks = []
    for case, data in dict.fromkeys((row["case"], row["data"]) for row in rows):
        group = [row for row in rows if (row["case"], row["data"]) == (case, data)]
        blocks.append(f"{case}: {data}\n{_grid((lines or plain)(group))}")
    return "\n\n".join(blocks)


def plain(rows: list[Record]) -> Lines:
    """One line for each record, with its parameters."""
    lines = []
    for row in rows:
        line = {"method": row["method"], "metric": row["metric"], "value": _number(row)}
        if row["floor"] and row["value"] is not None:
            line["over floor"] = f"{row['value'] / row['floor']:.2f}"
        if row["case"] == "solve" and row["seconds"] is not None:
            line["first call"] = f"{row['seconds']:.3g} s"
        for name, value in parameters(row).items():
            if name not in HIDDEN and value is not None:
                line[name] = f"{value:.3g}" if isinstance(value, float) else str(value)
        if row["status"] != "ok":
            line["status"] = row["status"]
        lines.append(line)
    return lines


def pivot(
    rows: list[Record],
    keys: tuple[str, ...],
    heading: Callable[[Record], str],
    text: Callable[[Record], str],
) -> Lines:
    """One line for each value of `keys`, one column for each `heading`."""
    lines: dict[tuple, dict[str, str]] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        line = lines.setdefault(key, {name: str(row[name]) for name in keys})
        line[heading(row)] = text(row)
        if row["seconds"] is not None:
            line["compile"] = f"{row['seconds']:.2g} s"
    return list(lines.values())


def short(row: Record) -> str:
    """Value and standard error."""
    return f"{row['value']:.3g} +-{row['stderr']:.1g}"


def _number(row: Record) -> str:
    if row["value"] is None:
        return "-"
    error = "" if row["stderr"] is None else f" +- {row['stderr']:.2g}"
    return f"{row['value']:.4g}{error} {row['unit']}".strip()


def _grid(lines: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for line in lines for name in line))
    widths = {n: max(len(n), *(len(line.get(n, "")) for line in lines)) for n in names}
    head = "  ".join(n.ljust(widths[n]) for n in names)
    body = ["  ".join(line.get(n, "").ljust(widths[n]) for n in names).rstrip() for line in lines]
    return "\n".join(["  " + text for text in (head.rstrip(), "-" * len(head), *body)])
