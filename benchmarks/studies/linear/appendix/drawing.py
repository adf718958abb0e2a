"""The appendix's picture: one panel a lemma."""

import itertools
from typing import Any

from benchmarks import drawing
from benchmarks.table import Table


def draw(table: Table) -> Any:
    """Four panels."""
    figure, axes = drawing.canvas(2, 2, figsize=(10.5, 8.4))
    _pretraining(axes[0, 0], table)
    _coverings(axes[0, 1], table)
    _coins(axes[1, 0], table)
    _spectra(axes[1, 1], table)
    return figure


def _pretraining(axis: Any, table: Table) -> None:
    rows = table.present(data="pre-training", lemma="D.3")
    other = table.present(data="pre-training", lemma="B.1")
    drawing.points(axis, rows, "n_s", 0, label="Monte Carlo, 2 s.e.")
    drawing.curve(axis, rows, "n_s", "exact", 0, label="exact")
    drawing.curve(axis, rows, "n_s", "bound", 1, label="Lemma D.3, constant one")
    drawing.curve(axis, other, "n_s", "bound", 2, label="Lemma B.1/(T - δ), constant one")
    title = "Pre-training: what the source leaves\n"
    title += r"($d$ = 2, $D$ = 20, $\lambda^2$ = 1, $\delta = 10^{-3}$)"
    drawing.log_axes(axis, "n_s", "score error, average over t", title)
    drawing.legend_under(axis, 2)


def _coverings(axis: Any, table: Table) -> None:
    rows = table.present(data="covering")
    drawing.points(axis, rows, "iota", 0, line=True, label="exact: slope -1 = -d(D - d)")
    drawing.curve(axis, rows, "iota", "bound", 1, label="Lemma B.2: slope -4 = -2Dd")
    words = r"radius $\iota$ of the balls", "log covering number", "Coverings (D = 2, d = 1)"
    drawing.log_axes(axis, *words, up="linear")
    axis.legend()


def _coins(axis: Any, table: Table) -> None:
    for place, (many, side) in enumerate(itertools.product((1, 8), ("above", "below"))):
        rows = table.present(data="coins", functions=many, side=side)
        name = "1 coin" if many == 1 else f"{many} coins"
        label = f"{name}, mean {side} expectation"
        shown = drawing.at_least(rows, 1e-12)
        drawing.points(axis, shown, "n", place, line=True, label=label)
    _allowed(axis, table)
    title = "Lemma D.1 for coins, exact (values below 1e-12 lie there)"
    drawing.log_axes(axis, "samples n", "largest chance of failing", title)
    drawing.legend_under(axis, 2)


def _spectra(axis: Any, table: Table) -> None:
    for place, d in enumerate(table.settings["dims"]):
        rows = table.present(data="beyond D.2", d=d)
        drawing.points(axis, rows, "n", place, line=True, label=f"d = {d}")
    _allowed(axis, table)
    title = "Lemma D.2 for normal vectors (2 s.e.)"
    drawing.log_axes(axis, "samples n", "chance of exceeding the bound", title, up="linear")
    axis.legend()


def _allowed(axis: Any, table: Table) -> None:
    failure = table.settings["failure"]
    label = rf"allowed: $\delta_1$ = {failure:g}"
    axis.axhline(failure, color="0.4", ls="--", lw=1, label=label)
