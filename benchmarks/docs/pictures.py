"""Pictures of the README: ``python -m benchmarks.docs pictures``."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing
from benchmarks.records import Record
from benchmarks.studies.linear.gain.judging import AS_IS
from benchmarks.table import Table
from fsd_jax._files import write_atomically
from fsd_jax.image import data

REGIMES = ("1: nothing helps", "2: few-shot gains", "3: scratch\ncatches up")


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
    crossing = _crossing(table, small)
    for place in (d, crossing):
        axis.axvline(place, color="0.6", lw=0.8)
    ends = [1, d, crossing, max(r["n_ta"] for r in table.present(data="sweep")) * 2]
    for words, left, right in zip(REGIMES, ends, ends[1:], strict=False):
        middle = (left * right) ** 0.5
        axis.text(middle, 300, words, ha="center", va="top", fontsize=8, color="0.3")
    axis.set(xlim=(0.9, ends[-1]), ylim=(2e-5, 400))
    drawing.legend_below(figure, axis, 2)
    return figure


def _crossing(table: Table, n_s: int) -> int:
    """The least number of target samples at which scratch is level with few-shot."""
    found = {m: table.select(data="sweep", method=m, n_s=n_s) for m in ("rank", "orthonormal")}
    few = {row["n_ta"]: row["value"] for row in found["orthonormal"]}
    past = [r["n_ta"] for r in found["rank"] if r["n_ta"] >= r["d"]]
    return min(n for n in past if _value(found["rank"], n) <= few[n])


def _value(rows: list[Record], n_ta: int) -> float:
    return next(r["value"] for r in rows if r["n_ta"] == n_ta)


def adapted(_table: Table) -> Any:
    """Ten targets, what `fsd_jax.adapt` makes of them, and the source that it knows."""
    task = data.avatars(size=28, source=600)
    source, target = (np.asarray(each, np.float32) for each in (task.source, task.target))
    model = fsd.adapt(source, target)
    lines = {
        "the source: ten of 600 drawn faces with hair": source[:10],
        "the target: ten bald ones, all that is given": target,
        "ten samples of the adapted model": np.asarray(model.sample(jax.random.key(0), 10)),
    }
    figure, axes = drawing.canvas(len(lines), 10, figsize=(6.4, 2.7))
    for (title, images), line in zip(lines.items(), axes, strict=True):
        words = line[0].text(0, 1.06, title, transform=line[0].transAxes, fontsize=8)
        words.set_in_layout(False)
        for axis, image in zip(line, images, strict=True):
            axis.imshow(np.clip(image, 0, 1), interpolation="nearest")
            axis.axis("off")
    return figure


PICTURES = {"regimes": regimes, "adapted": adapted}
"""By file name, from the table of the study `gain`."""


def write(table: Table, folder: Path) -> None:
    """Draw them all."""
    for name, draw in PICTURES.items():
        figure = draw(table)
        write_atomically(folder / f"{name}.png", partial(figure.savefig, format="png", dpi=150))
