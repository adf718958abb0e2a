"""Lemma 5.1's picture: optimisers, the loss around the minimiser, noise, the population."""

import itertools
from typing import Any

import numpy as np

import fsd_jax as fsd
from benchmarks import drawing
from benchmarks.table import Table

NAMES = {"lbfgs": "L-BFGS", "adam": "Adam"}
FORMULAS = {
    "as printed": r"printed: $(C + \sigma_t^2 I)^{-1}C$",
    "with its factor": r"right: $(m_t^2C + \sigma_t^2 I)^{-1}C$",
    "rank_minimizer": "rank_minimizer",
}


def draw(table: Table) -> Any:
    """Four panels."""
    figure, axes = drawing.canvas(2, 2, figsize=(10, 8))
    _draw_trajectories(axes[0, 0], table)
    _draw_plane(axes[0, 1], table)
    _draw_raw(axes[1, 0], table)
    _draw_population(axes[1, 1], table)
    return figure


def _draw_trajectories(axis: Any, table: Table) -> None:
    for place, (tau, optimizer) in enumerate(itertools.product(table.settings["taus"], NAMES)):
        rows = table.present(data="trajectory", optimizer=optimizer, tau=tau)
        look = drawing.STYLES[place]
        steps = [r["step"] for r in rows]
        ends = [[max(abs(r[name]), 1e-17) for r in rows] for name in ("low", "high")]
        label = rf"{NAMES[optimizer]}, $\tau$ = {tau:g}"
        shown = drawing.at_least(rows, 1e-17)
        drawing.points(axis, shown, "step", place, line=True, label=label, markevery=4)
        axis.fill_between(steps, *ends, color=look["color"], alpha=0.12, lw=0)
    starts = table.settings["starts"]
    drawing.log_axes(
        axis,
        "steps",
        "(loss - closed form's)/closed form's",
        f"Optimisers reach the closed form's loss\n(median and range of {starts} starts, float64)",
    )
    axis.legend(loc="lower left")


def _draw_plane(axis: Any, table: Table) -> None:
    rows = table.present(data="plane")
    if not rows:
        return
    across = sorted({r["first"] for r in rows})
    held = {(r["first"], r["second"]): r["value"] for r in rows}
    gap = np.array([[held.get((x, y), np.nan) for x in across] for y in across])
    low = table.present(data="plane minimum")
    gap = gap - (low[0]["value"] if low else np.nanmin(gap)) + 1e-6
    levels = np.array([0.01, 0.05, 0.2, 0.5, 1, 2, 5, 10, 20, 50])
    drawn = axis.contour(across, across, gap, levels=levels, cmap="Greys_r", linewidths=1)
    axis.clabel(drawn, fmt="%g", fontsize=7)
    signal, noise = (float(v) for v in fsd.VP().host_variances(np.asarray(table.settings["t"])))
    lam2 = table.settings["latent_variance"]
    for c, place, marker, name in (
        (1.6, 0, "*", "minima: top eigenvector"),
        (0.7, 1, "X", "saddles: the other one"),
    ):
        p = ((signal * lam2 + noise) / lam2) * c / (signal * c + noise)
        spot = np.zeros((2, 2))
        spot[:, place] = np.array([-1, 1]) * p**0.5
        axis.plot(
            *spot.T,
            marker,
            color="black" if place == 0 else "#b5462a",
            ms=10,
            ls="",
            mfc="none" if place else "black",
            label=name,
        )
    axis.plot(0, 0, "o", color="#1f6fb4", mfc="none", ms=7, label="maximum: V = 0")
    axis.set(
        xlabel="component of V on the eigenvector of c = 1.6",
        ylabel="component on that of c = 0.7",
        aspect="equal",
        title="Loss less its minimum, D = 2, d = 1:\nno minimum but the global one",
    )
    drawing.legend_under(axis, 3)


def _draw_raw(axis: Any, table: Table) -> None:
    names = {
        "raw formula": "to the truth: raw formula",
        "truncated to rank d": "to the truth: truncated to rank d",
        "raw less truncated": "raw formula to its truncation",
    }
    for place, (name, label) in enumerate(names.items()):
        drawing.points(axis, table.present(data=name), "tau", place, line=True, label=label)
    s = table.settings
    axis.set(
        xlabel=r"residual noise $\tau$",
        ylabel=r"squared distance, $\Vert\cdot\Vert_F^2$",
        title=f"Noise: the raw formula has full rank\n(D = {s['D']}, d = {s['d']}, "
        rf"$n_{{ta}}$ = {s['n_ta']}, t = {s['t']}; 2 s.e.)",
    )
    axis.set_ylim(bottom=0)
    axis.legend()


def _draw_population(axis: Any, table: Table) -> None:
    for place, (name, label) in enumerate(FORMULAS.items()):
        rows = drawing.at_least(table.present(data="population", formula=name), 1e-33)
        drawing.points(axis, rows, "t", place, line=True, label=label)
    drawing.log_axes(
        axis,
        "t",
        r"$\Vert VV^\top - AA^\top\Vert_F^2$",
        "At the population's C only the formula with\n"
        r"$m_t^2$ gives $AA^\top$ ($\lambda^2$ = 2)",
    )
    axis.legend(loc="center right")
