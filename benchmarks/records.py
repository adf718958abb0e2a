"""Records: one flat JSON line for each number, with what is needed to trust and repeat it."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fsd_jax._files import write_text
from fsd_jax._provenance import provenance

Record = dict[str, Any]
RESULTS = "results.jsonl"
FIXED = (
    "case",
    "data",
    "method",
    "metric",
    "value",
    "stderr",
    "unit",
    "seconds",
    "floor",
    "status",
)


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
    # What an earlier run computed keeps its own.
    extra = {"seed": seed, "size": size, "provenance": provenance()}
    text = "".join(json.dumps(row | extra | row, allow_nan=False) + "\n" for row in rows)
    path = folder / name
    write_text(path, text)
    return path


def read(path: Path) -> list[Record]:
    """Records from a file, or from the ``results.jsonl`` of a folder.

    Raises:
        ValueError: no such file, or a line that is no record.
    """
    path = path / RESULTS if path.is_dir() else path
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"cannot read {str(path)!r}: {reason}") from None
    rows: list[Record] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            row = None
        if not isinstance(row, dict) or any(name not in row for name in FIXED):
            raise ValueError(f"{str(path)!r} line {number} is not a benchmark record")
        rows.append(row)
    return rows


def parameters(row: Record) -> dict[str, Any]:
    """The case's own parameters of a record."""
    skip = {*FIXED, "seed", "size", "provenance"}
    return {name: value for name, value in row.items() if name not in skip}


def select(rows: Iterable[Record], **wanted: Any) -> list[Record]:
    """Records whose fields equal `wanted`."""
    return [r for r in rows if all(r.get(name) == value for name, value in wanted.items())]
