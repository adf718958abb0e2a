"""Records as text: one readable table a case."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.records import Record, parameters

HIDDEN = {"calls", "gflops_of_gram", "data_bytes", "heldout", "closed_form"}


def render(rows: Sequence[Record]) -> str:
    """All records, grouped by case and data set."""
    blocks = []
    for case, data in dict.fromkeys((row["case"], row["data"]) for row in rows):
        group = [row for row in rows if (row["case"], row["data"]) == (case, data)]
        blocks.append(f"{case}: {data}\n{_grid(_summary(group))}")
    return "\n\n".join(blocks)


def _summary(rows: list[Record]) -> list[dict[str, str]]:
    """Lines of a table; cases with many cells have a shape of their own."""
    if rows[0]["case"] == "agreement" and len(rows) > 4:
        return _agreement(rows)
    if rows[0]["case"] == "gain":
        return _pivot(rows, ("metric", "n_ta"), "method", _short)
    if rows[0]["case"] == "linear-rates" and rows[0]["metric"] == "subspace_error":
        return [_beside(row) for row in rows]
    if {row["metric"] for row in rows} <= {"time_to_gap", "speedup"}:
        return _pivot(rows, ("D", "n_ta", "method"), "tolerance", _race)
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


def _agreement(rows: list[Record]) -> list[dict[str, str]]:
    lines = []
    keys = dict.fromkeys((r["objective"], r["D"], r["d"], r["n_ta"]) for r in rows)
    for objective, ambient, d, n in keys:
        cell = [
            r
            for r in rows
            if (r["objective"], r["D"], r["d"], r["n_ta"]) == (objective, ambient, d, n)
        ]
        line = {"objective": objective, "D": str(ambient), "d": str(d), "n_ta": str(n)}
        line["problems"] = str(sum(r["metric"] == "loss_gap" for r in cell))
        for metric in ("loss_gap", "projector_distance"):
            values = [r["value"] for r in cell if r["metric"] == metric and r["value"] is not None]
            line[f"worst {metric}"] = f"{max(values, key=abs):.2g}" if values else "-"
        line["steps"] = str(max(r["steps"] for r in cell))
        line["status"] = "+".join(dict.fromkeys(r["status"] for r in cell))
        lines.append(line)
    return lines


def _beside(row: Record) -> dict[str, str]:
    """A mean beside its exact value, its expansion and its bound."""
    line = {name: f"{row[name]:g}" for name in ("n_ta", "n_s", "d", "t") if row[name] is not None}
    line["lambda^2"] = f"{row['latent_variance']:g}"
    line["Monte Carlo"] = _short(row)
    for name in ("exact", "asymptotic", "bound"):
        line[name] = "-" if row[name] is None else f"{row[name]:.4g}"
    line["s.e. off"] = f"{row['sigmas']:+.1f}"
    return line


def _pivot(
    rows: list[Record],
    keys: tuple[str, ...],
    across: str,
    text: Callable[[Record], str],
) -> list[dict[str, str]]:
    """One line for each value of `keys`, one column for each value of `across`."""
    lines: dict[tuple, dict[str, str]] = {}
    for row in rows:
        key = tuple(row[name] for name in keys)
        line = lines.setdefault(key, {name: str(row[name]) for name in keys})
        line[_heading(row, across)] = text(row)
        if row["seconds"] is not None:
            line["compile"] = f"{row['seconds']:.2g} s"
    return list(lines.values())


def _heading(row: Record, across: str) -> str:
    if row["metric"] == "speedup":
        return "speed-up"
    value = row[across]
    if across != "tolerance":
        return str(value)
    return "solve" if value is None else f"to {value:g}"


def _short(row: Record) -> str:
    return f"{row['value']:.3g} +-{row['stderr']:.1g}"


def _race(row: Record) -> str:
    if row["value"] is None:
        return "-"
    if row["metric"] == "speedup":
        return f"{row['value']:.0f}x"
    steps = f" ({row['steps']} steps)" if row.get("steps") else ""
    return f"{1e3 * row['value']:.3g} ms{steps}"


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
