"""A U-Net tuned to ten drawn faces, from the record of the benchmark `unet`, which takes long."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.figures.unet import along_steps
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import Work

SUMMARY = "a U-Net tuned to ten drawn faces: copies, feature and loss along the steps (recorded)"
ROOT = Path(__file__).resolve().parents[2]
RECORD = "benchmarks/results/cpu-2-cores/unet.jsonl"
"""An hour of training; ``python -m benchmarks unet`` makes it again."""


def settings(_quick: bool) -> dict[str, Any]:
    """The record, so that another one makes another table."""
    path = ROOT / RECORD
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "missing"
    return {"record": RECORD, "sha256": digest}


def compute(settings: dict[str, Any], _work: Work) -> Iterator[Row]:
    """The record's rows.

    Raises:
        ValueError: there is no record.
    """
    for r in records.read(ROOT / settings["record"]):
        sizes = {name: r[name] for name in ("n_ta", "n_s", "D", "samples")}
        yield row(
            r["metric"], r["value"], stderr=r["stderr"], status=r["status"], low=r["low"],
            high=r["high"], method=r["method"], step=r["step"], draw=r["draw"], data=r["data"],
            **sizes,
        )  # fmt: skip


def draw(table: Table) -> Any:
    """Each measure against the steps, levels of what has none as lines across."""
    figure, axes = style.canvas(2, 2, figsize=(9.5, 6.8))
    along_steps(axes, [{"metric": r["series"], **r} for r in table.present()])
    style.legend_below(figure, axes[0, 0], 2)
    return figure
