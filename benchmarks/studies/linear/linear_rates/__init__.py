"""Theorem 5.2: the subspace error against each parameter, its exact curve, and the bound."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

import fsd_jax as fsd
from benchmarks import text
from benchmarks.judging import worst_sigmas
from benchmarks.records import Record, record
from benchmarks.studies.linear.linear_rates import drawing, judging
from benchmarks.study import Settings, Study, Work, mean
from benchmarks.table import Table
from fsd_jax import theory

BASE: dict[str, Any] = {"n_ta": 64, "n_s": 10_000, "d": 8, "t": 0.5, "latent_variance": 1.0}
AMBIENT = 64
"""The bound's ``D`` where no ``D`` is drawn: without noise the error does not depend on it."""
LARGE = 10**9


def settings(size: str) -> Settings:
    """Axes; the quick ones keep two compiled programs."""
    quick = size == "quick"
    return {
        "base": BASE,
        "replicates": {"quick": 4096, "default": 131_072, "full": 524_288}[size],
        "n_ta": [1, 2, 4, 6, 8, 10, 12, 16, 32, 64, 128, 256, 1024, 4096, 16384],
        "n_s": [10, 30, 100, 300, 1000, 10_000, 100_000, 1_000_000],
        "t": [1e-3, 1e-2, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0, 7.0, 10.0],
        "variances": [0.1, 1.0, 10.0, 100.0],
        "latent_variance": [0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0],
        "d": [8] if quick else [1, 2, 4, 8, 16, 32],
        "slopes_d": [2, 32],
        "source_draws": 20_000 if quick else 200_000,
        "D": [8, 16, 64] if quick else [8, 16, 32, 64, 128],
        "data_replicates": 200 if quick else 1000,
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Sweeps over one parameter at a time, slopes, data for D, the bound's constant, rotations."""
    s = settings
    one = {name: [value] for name, value in s["base"].items()}
    plans: dict[str, dict[str, Any]] = {
        "against n_ta": {"n_ta": s["n_ta"]},
        "against n_s": {"n_s": s["n_s"]},
        "n_ta alone": {"n_ta": s["n_ta"], "n_s": [None]},
        "against latent_variance": {"latent_variance": s["latent_variance"]},
        "against d": {"d": s["d"]},
        "n_s alone, d 8": {"n_s": s["n_s"], "n_ta": [LARGE]},
    }
    plans |= {
        f"against t, lambda^2 {v:g}": {"t": s["t"], "latent_variance": [v]} for v in s["variances"]
    }
    for data, plan in plans.items():
        rows = [
            found | _theory(found)
            for found in work.sweep(data, replicates=s["replicates"], **one | plan)
            if (found["method"], found["metric"]) == ("rank", "subspace_error")
        ]
        yield from rows
        if "alone" in data:
            yield _slope(data, rows)
    for d in s["slopes_d"]:
        rows = [_source_alone(s, d, n_s, work.seed) for n_s in s["n_s"]]
        yield from rows
        yield _slope(f"n_s alone, d {d}", rows)
    work.tell("against D")
    for D in s["D"]:
        yield _from_data(s, D, work.seed)
    yield _least_constant()
    yield from _rotated(work.seed)


def _theory(cell: Record) -> Record:
    """Exact mean, expansion for large d, and bound of a cell."""
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
    expected = theory.expected_subspace_error
    return {
        "exact": expected(n_s=cell["n_s"], **size),
        "asymptotic": expected(n_s=cell["n_s"], method="asymptotic", **size),
        "bound": bound.terms["target"] if perfect else bound.value,
    }


def _slope(data: str, rows: list[Record]) -> Record:
    axis = data.split(maxsplit=1)[0]
    found, exact = judging.slope(rows, axis)
    return record(
        "slopes",
        found.value,
        metric=f"slope_in_{axis}",
        stderr=found.stderr,
        low=found.low,
        high=found.high,
        exact=exact,
        bound={"n_ta": -1.0, "n_s": -0.5}[axis],
        d=rows[0]["d"],
        fitted_from=judging.SETTLED[axis],
    )


def _source_alone(s: Settings, d: int, n_s: int, seed: int) -> Record:
    """The error that a perfect target leaves, from the pre-trained variance alone, in NumPy."""
    draw, draws = np.random.default_rng([seed, d, n_s]), s["source_draws"]
    lam2, signal, noise = _levels(s)
    ratio = draw.chisquare(d * n_s, size=(draws,)) / (d * n_s)
    errors = d * (noise * (1 / ratio - 1) / (signal * lam2 + noise)) ** 2
    cell = {**s["base"], "n_ta": LARGE, "n_s": n_s, "d": d, "D": None, "replicates": draws}
    size = {"latent_variance": lam2, "time": s["base"]["t"]}
    # A perfect target leaves nothing of its own, not even what 10^9 samples would.
    exact = theory.source_subspace_error(latent_dim=d, n_s=n_s, **size)
    row = record(f"n_s alone, d {d}", **mean(errors), **cell, **_theory(cell))
    return row | {"exact": exact}


def _from_data(s: Settings, D: int, seed: int) -> Record:
    """Lemma 5.1's empirical formula, literally, on drawn samples: nothing of this library in it."""
    draw, replicates = np.random.default_rng([seed, D]), s["data_replicates"]
    n, n_s, d = (s["base"][name] for name in ("n_ta", "n_s", "d"))
    lam2, signal, noise = _levels(s)
    errors = np.empty(replicates)
    for i in range(replicates):
        A = np.linalg.qr(draw.normal(size=(D, d)))[0]
        x = lam2**0.5 * draw.normal(size=(n, d)) @ A.T
        fitted = lam2 * draw.chisquare(d * n_s) / (d * n_s)
        C = x.T @ x / n
        P = np.linalg.solve(signal * C + noise * np.eye(D), C)
        errors[i] = np.sum(((signal * fitted + noise) / fitted * P - A @ A.T) ** 2)
    cell = {**s["base"], "D": D, "replicates": replicates}
    return record("against D", **mean(errors), **cell, **_theory(cell))


def _levels(s: Settings) -> tuple[float, float, float]:
    t = s["base"]["t"]
    return s["base"]["latent_variance"], float(np.exp(-t)), float(-np.expm1(-t))


def _least_constant() -> Record:
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
    return record("least constant", least.value, note=words)


def _rotated(seed: int) -> Iterator[Record]:
    """The metric under ``V -> V Q``, and what ``|| V - A ||_F`` makes of it."""
    draw = np.random.default_rng(seed)
    A, Q = (np.linalg.qr(draw.normal(size=shape))[0] for shape in ((20, 4), (4, 4)))
    B = np.linalg.qr(A + 0.1 * draw.normal(size=A.shape))[0]
    before, after = (float(fsd.subspace_error(V, A)) for V in (B, B @ Q))
    yield record("rotation", after, exact=before, measure="subspace error")
    raw = [float(np.sum((V - A) ** 2)) for V in (B @ Q, B)]
    yield record("rotation", raw[0], exact=raw[1], measure="|| V - A ||_F^2")


def lines(table: Table) -> text.Lines:
    """One line for each curve: how far it is from its exact values and from the bound."""
    held: dict[str, list[Record]] = {}
    for row in table.present():
        if "bound" in row and row["data"] != "slopes":
            held.setdefault(row["data"], []).append(row)
    found: text.Lines = []
    for data, rows in held.items():
        values, ratios = [r["value"] for r in rows], [r["bound"] / r["value"] for r in rows]
        found.append(
            {
                "curve": data,
                "settings": str(len(rows)),
                "error": f"{values[0]:.3g} to {values[-1]:.3g}",
                "at most off (s.e.)": f"{worst_sigmas(rows):.1f}",
                "bound over error": f"{min(ratios):.1g} to {max(ratios):.1g}",
            }
        )
    return found


STUDY = Study(
    name="linear-rates",
    figure="theorem-5.2",
    summary="||VV' - AA'||^2 against n_ta, n_s, t, lambda^2, d and D: Monte Carlo, exact, bound",
    settings=settings,
    compute=compute,
    pictures={"theorem-5.2": drawing.draw},
    lines=lines,
    finding=judging.finding,
    statements=judging.STATEMENTS,
    usual=True,
    long=True,
    measured=("asymptotic",),
)
