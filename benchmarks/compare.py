"""Two records of the same benchmarks, side by side."""

from pathlib import Path
from typing import Any

from benchmarks.records import FIXED, ORIGIN, Record, read
from benchmarks.study import studies
from benchmarks.table import MEASURED


def compare(first: Path, second: Path) -> str:
    """A line for each number that both hold: values, ratio, and difference in standard errors.

    Raises:
        ValueError: a file that is no record, or nothing in common.
    """
    left, right = (_index(read(path)) for path in (first, second))
    common = [key for key in left if key in right]
    if not common:
        raise ValueError("the two records have no case in common")
    lines = []
    for key in common:
        a, b = left[key], right[key]
        name = " ".join(str(part) for part in (a["case"], a["data"], a["method"], a["metric"]))
        where = ", ".join(f"{k}={v}" for k, v in key[4:] if v is not None)
        lines.append(f"{name} ({where}): {_difference(a, b)}")
    alone = {"first": left.keys() - right.keys(), "second": right.keys() - left.keys()}
    only = [f"only in the {name}: {len(keys)}" for name, keys in alone.items() if keys]
    return "\n".join([*lines, *only])


def _difference(a: Record, b: Record) -> str:
    if a["value"] is None or b["value"] is None:
        return f"{a['value']} -> {b['value']} ({a['status']} -> {b['status']})"
    text = f"{a['value']:.4g} -> {b['value']:.4g}"
    if a["value"]:
        text += f", x{b['value'] / a['value']:.3g}"
    error = ((a["stderr"] or 0.0) ** 2 + (b["stderr"] or 0.0) ** 2) ** 0.5
    if error:
        text += f", {(b['value'] - a['value']) / error:+.1f} standard errors"
    return text


def _index(rows: list[Record]) -> dict[tuple[Any, ...], Record]:
    known = studies()

    def key(row: Record) -> tuple[Any, ...]:
        study = known.get(row["case"])
        skip = MEASURED.union(FIXED, ORIGIN, study.measured if study else ())
        # A list of sizes is a parameter, too.
        own = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k not in skip}
        named = (row["case"], row["data"], row["method"], row["metric"])
        return (*named, *sorted(own.items()))

    return {key(row): row for row in rows}
