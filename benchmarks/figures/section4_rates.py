"""Score error of trained networks against n_ta: a column a dimension, a line a source size."""

from pathlib import Path

from benchmarks.figures import canvas, store
from benchmarks.figures.section4 import curves
from benchmarks.records import Record, select


def draw(rows: list[Record], folder: Path) -> list[Path]:
    """One panel for each d and n_s."""
    rows = select(rows, metric="score_error")
    if not rows:
        return []
    dims = sorted({row["d"] for row in rows})
    sizes = sorted({row["n_s"] for row in rows})
    figure, axes = canvas(len(dims), len(sizes), figsize=(5 * len(sizes), 4.2 * len(dims)))
    for line, d in zip(axes, dims, strict=True):
        for axis, n_s in zip(line, sizes, strict=True):
            curves(axis, select(rows, d=d, n_s=n_s))
            axis.set_title(f"d = {d}, n_s = {n_s}", fontsize=10)
    return [store(figure, folder / "section4-rates.png")]
