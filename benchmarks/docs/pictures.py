"""Pictures of the README: ``python -m benchmarks.docs pictures``."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing
from benchmarks.studies.linear.gain.judging import AS_IS
from benchmarks.table import Table
from fsd_jax._files import write_atomically
from fsd_jax.image import data

REGIMES = ("1: nothing helps", "2: few-shot gains", "3: scratch catches up")


def regimes(table: Table) -> Any:
    """The headline: error against target samples, of scratch, few-shot and the source."""
    figure, axes = drawing.canvas(figsize=(6.4, 3.9))
    axis, d = axes[0, 0], table.settings["base"]["d"]
    small, large = table.settings["n_s"]
    lines = [
        ("rank", large, 0, "from scratch"),
        ("orthonormal", large, 1, f"few-shot, {large:,} source samples"),
        ("orthonormal", small, 2, f"few-shot, {small:,} source samples"),
    ]
    for method, n_s, look, label in lines:
        rows = table.select(data="sweep", method=method, n_s=n_s)
        drawing.points(axis, rows, "n_ta", look, label=label)
        drawing.curve(axis, rows, "n_ta", "exact", look)
    rows = table.select(data=AS_IS)
    drawing.points(axis, rows, "n_ta", 3, label="an unrelated source as it is", line=True)
    drawing.log_axes(axis, "n_ta", "expected score error", "")
    crossing = min(
        r["n_ta"]
        for r in table.select(data="sweep", method="rank", n_s=small)
        if r["value"] <= rows_at(table, small, r["n_ta"])
        and r["n_ta"] >= d
    )
    for place in (d, crossing):
        axis.axvline(place, color="0.6", lw=0.8)
    ends = [1, d, crossing, max(r["n_ta"] for r in table.present(data="sweep")) * 1.4]
    for words, left, right in zip(REGIMES, ends, ends[1:], strict=False):
        middle = (left * right) ** 0.5
        axis.text(middle, 300, words, ha="center", va="top", fontsize=8, color="0.3")
    axis.set(xlim=(0.9, ends[-1]), ylim=(2e-5, 400))
    drawing.legend_below(figure, axis, 2)
    return figure


def rows_at(table: Table, n_s: int, n_ta: int) -> float:
    return table.one(data="sweep", method="orthonormal", n_s=n_s, n_ta=n_ta)["value"]
