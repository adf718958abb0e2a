"""A U-Net tuned to ten drawn images, from the record of the benchmark `unet`, which takes long."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.figures.unet import along_steps
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import Work

SUMMARY = "a U-Net tuned to ten drawn images: copies, feature and loss along the steps (recorded)"
ROOT = Path(__file__).resolve().parents[2]
RECORD = "benchmarks/results/cpu-2-cores/unet.jsonl"
"""Two hours of training; ``python -m benchmarks unet`` makes it again."""


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
            r["metric"],
            r["value"],
            stderr=r["stderr"],
            status=r["status"],
            low=r["low"],
            high=r["high"],
            method=r["method"],
            step=r["step"],
            draw=r["draw"],
            data=r["data"],
            **sizes,
        )


def draw(table: Table) -> Any:
    """Each measure against the steps, levels of what has none as lines across; a row a data set."""
    rows = [{"metric": r["series"], **r} for r in table.present()]
    names = list(dict.fromkeys(r["data"] for r in rows))
    figure, axes = style.canvas(len(names), 4, figsize=(15, 3.6 * len(names) + 0.8))
    for name, panels in zip(names, axes, strict=True):
        along_steps(panels, records.select(rows, data=name))
        panels[0].set_ylabel(name)
    style.legend_below(figure, axes[0, 0], 4)
    return figure
