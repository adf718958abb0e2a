"""Theorem 5.2: the subspace error against each parameter, its exact curve, and the bound."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

import fsd_jax as fsd
from fsd_jax import theory
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = "||VV' - AA'||^2 against n_ta, n_s, t, lambda^2, d and D: Monte Carlo, exact, bound"
LONG = True
BASE: dict[str, Any] = {"n_ta": 64, "n_s": 10_000, "d": 8, "t": 0.5, "latent_variance": 1.0}
AMBIENT = 64
"""The bound's ``D`` where no ``D`` is drawn: without noise the error does not depend on it."""
PANELS = {"n_ta": None, "n_s": None, "t": None, "latent_variance": None, "d": None, "D": None}
LARGE = 10**9
OWN = {"method": "rank", "metric": "subspace_error"}


def settings(quick: bool) -> dict[str, Any]:
    """Axes; the quick ones keep two compiled programs."""
    times = [1e-3, 1e-2, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 7.0, 10.0]
    return {
        "replicates": 4096 if quick else 131_072,
        "n_ta": [1, 2, 4, 6, 8, 10, 12, 16, 32, 64, 128, 256, 1024, 4096, 16384],
        "n_s": [10, 30, 100, 300, 1000, 10_000, 100_000, 1_000_000],
        "t": times,
        "variances": [0.1, 1.0, 10.0, 100.0],
        "latent_variance": [0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0],
        "d": [8] if quick else [1, 2, 4, 8, 16, 32],
        "slopes_d": [2, 32],
        "source_draws": 20_000 if quick else 200_000,
        "D": [8, 16, 64] if quick else [8, 16, 32, 64, 128],
        "data_replicates": 200 if quick else 1000,
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """Sweeps over one parameter at a time, data for ``D``, the bound's constant, rotations."""
    s = settings
    one = {name: [value] for name, value in BASE.items()}
    plans: dict[str, dict[str, Any]] = {
        "against n_ta": one | {"n_ta": s["n_ta"]},
        "against n_s": one | {"n_s": s["n_s"]},
        "n_ta alone": one | {"n_ta": s["n_ta"], "n_s": [None]},
        "against latent_variance": one | {"latent_variance": s["latent_variance"]},
        "against d": one | {"d": s["d"]},
        "n_s alone, d 8": one | {"n_s": s["n_s"], "n_ta": [LARGE]},
    }
    plans |= {
        f"against t, lambda^2 {v:g}": one | {"t": s["t"], "latent_variance": [v]}
        for v in s["variances"]
    }
    for series, plan in plans.items():
        for found in work.sweep(series, replicates=s["replicates"], **plan):
            if found["method"] == "rank" and found["metric"] == "subspace_error":
                yield found | _theory(found)
    for d in s["slopes_d"]:
        for n_s in s["n_s"]:
            yield _source_alone(d, n_s, s["source_draws"])
    work.tell("against D")
    for D in s["D"]:
        yield _from_data(D, s["data_replicates"])
    yield _least_constant()
    yield from _rotated()


def _theory(cell: Row) -> Row:
    """Exact mean and bound of a cell."""
    size = {
        "latent_dim": cell["d"],
        "n_ta": cell["n_ta"],
        "latent_variance": cell["latent_variance"],
        "time": cell["t"],
    }
    perfect = cell["n_s"] is None
    bound = theory.theorem_5_2(
        ambient_dim=cell["D"] or AMBIENT, n_s=LARGE if perfect else cell["n_s"], **size
    )
    return {
        "exact": theory.expected_subspace_error(n_s=cell["n_s"], **size),
        "bound": bound.terms["target"] if perfect else bound.value,
    }


def _source_alone(d: int, n_s: int, draws: int) -> Row:
    """The error that a perfect target leaves, from the pre-trained variance alone, in NumPy."""
    draw = np.random.default_rng([SEED, d, n_s])
    lam2, signal, noise = BASE["latent_variance"], np.exp(-BASE["t"]), -np.expm1(-BASE["t"])
    ratio = draw.chisquare(d * n_s, size=draws) / (d * n_s)
    errors = d * (noise * (1 / ratio - 1) / (signal * lam2 + noise)) ** 2
    cell = {**BASE, "n_ta": LARGE, "n_s": n_s, "d": d, "D": None, "replicates": draws}
    stderr = float(errors.std(ddof=1) / draws**0.5)
    return row(f"n_s alone, d {d}", float(errors.mean()), stderr=stderr, **cell) | _theory(cell)


def _from_data(D: int, replicates: int) -> Row:
    """Lemma 5.1's empirical formula, literally, on drawn samples: nothing of this library in it."""
    draw = np.random.default_rng([SEED, D])
    n, d, lam2 = BASE["n_ta"], BASE["d"], BASE["latent_variance"]
    signal, noise = np.exp(-BASE["t"]), -np.expm1(-BASE["t"])
    errors = np.empty(replicates)
    for i in range(replicates):
        A = np.linalg.qr(draw.normal(size=(D, d)))[0]
        x = lam2**0.5 * draw.normal(size=(n, d)) @ A.T
        fitted = lam2 * draw.chisquare(d * BASE["n_s"]) / (d * BASE["n_s"])
        C = x.T @ x / n
        P = np.linalg.solve(signal * C + noise * np.eye(D), C)
        errors[i] = np.sum(((signal * fitted + noise) / fitted * P - A @ A.T) ** 2)
    cell = {**BASE, "D": D, "replicates": replicates}
    stderr = float(errors.std(ddof=1) / replicates**0.5)
    return row("against D", float(errors.mean()), stderr=stderr, **cell) | _theory(cell)


def _least_constant() -> Row:
    """By how much the bound's n_ta term with constant one lies below the exact error."""
    grid = list(
        itertools.product((1, 2, 8), (1, 8, 64), (0.01, 0.1, 1.0, 5.0), (0.01, 0.1, 1.0, 10.0))
    )
    exact, bound = [], []
    for d, n, t, variance in grid:
        size: dict[str, Any] = {"latent_dim": d, "n_ta": n, "latent_variance": variance, "time": t}
        exact.append(theory.expected_subspace_error(**size))
        bound.append(theory.theorem_5_2(ambient_dim=AMBIENT, n_s=LARGE, **size).terms["target"])
    least = theory.least_constant(np.array(bound), np.array(exact))
    d, n, t, variance = grid[least.index[0]]
    words = f"at d = {d}, n_ta = {n}, t = {t:g}, lambda^2 = {variance:g}, of {len(grid)} settings"
    return row("least constant", least.value, note=words)


def _rotated() -> Iterator[Row]:
    """The metric under ``V -> V Q``, and what ``|| V - A ||_F`` makes of it."""
    draw = np.random.default_rng(SEED)
    A, Q = (np.linalg.qr(draw.normal(size=shape))[0] for shape in ((20, 4), (4, 4)))
    B = np.linalg.qr(A + 0.1 * draw.normal(size=A.shape))[0]
    before, after = (float(fsd.subspace_error(V, A)) for V in (B, B @ Q))
    yield row("rotation", after, exact=before, measure="subspace error")
    yield row(
        "rotation",
        float(np.sum((B @ Q - A) ** 2)),
        exact=float(np.sum((B - A) ** 2)),
        measure="|| V - A ||_F^2",
    )


def draw(table: Table) -> Any:
    """Six panels."""
    figure, axes = style.canvas(2, 3, figsize=(13.5, 8.2))
    panels = dict(zip(PANELS, axes.flat, strict=True))
    for name in ("n_ta", "n_s", "latent_variance", "d", "D"):
        _panel(panels[name], table.present(series=f"against {name}"), name)
    _alone(panels["n_ta"], table.present(series="n_ta alone"), "n_ta", r"$n_s = \infty$")
    _alone(panels["n_s"], table.present(series="n_s alone, d 8"), "n_s", r"$n_{ta} = 10^9$")
    axis = panels["t"]
    for place, variance in enumerate(table.settings["variances"]):
        rows = table.present(series=f"against t, lambda^2 {variance:g}")
        label = rf"$\lambda^2$ = {variance:g}"
        style.points(axis, rows, "t", place, label=label)
        style.curve(axis, rows, "t", "exact", place)
    style.log_axes(axis, "t", style.ERROR, _held("t") + ", no bound drawn")
    for axis, name in ((panels[n], n) for n in PANELS if n != "t"):
        style.log_axes(axis, name, style.ERROR, _held(name))
        if name in ("d", "D"):
            axis.set_xticks(table.settings[name], [str(v) for v in table.settings[name]])
            axis.minorticks_off()
    for name in ("n_ta", "n_s", "t"):
        panels[name].legend(fontsize=7, loc={"n_ta": (0.36, 0.44), "n_s": (0.4, 0.5)}.get(name))
    style.legend_below(figure, panels["D"], 3)
    return figure


def _panel(axis: Any, rows: list[Row], name: str) -> None:
    # Labelled once, in the panel whose legend stands for all.
    words = ("Monte Carlo, 2 s.e.", "exact", "Theorem 5.2, constant one")
    labels = words if name == "D" else (None, None, None)
    style.points(axis, rows, name, 0, label=labels[0])
    style.curve(axis, rows, name, "exact", 0, label=labels[1])
    style.curve(axis, rows, name, "bound", 1, label=labels[2])
    if len(rows) == 1:
        axis.plot([rows[0][name]], [rows[0]["bound"]], "_", color=style.STYLES[1]["color"])


def _alone(axis: Any, rows: list[Row], name: str, words: str) -> None:
    style.points(axis, rows, name, 2, label=words)
    style.curve(axis, rows, name, "exact", 2)
    if name == "n_ta":
        style.curve(axis, rows, name, "bound", 3, label=r"Theorem 5.2's $n_{ta}$ term")


def _held(name: str) -> str:
    short = {
        "n_ta": r"$n_{ta}$",
        "n_s": r"$n_s$",
        "d": "$d$",
        "t": "$t$",
        "latent_variance": r"$\lambda^2$",
    }
    return ", ".join(
        f"{short[k]} = {v:g}"
        for k, v in BASE.items()
        if k != name and (name, k) != ("t", "latent_variance")
    )
