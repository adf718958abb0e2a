"""How fast does the subspace error fall? Slopes and constants beside Theorem 5.2's bound."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import table
from benchmarks.context import Context, side_by_side
from benchmarks.records import Record, record
from fsd_jax import sweep, theory

SUMMARY = "subspace error against n_ta, n_s, t, d, lambda: Monte Carlo, exact curve, R5, bound"
AMBIENT = 64
BASE: dict[str, Any] = {"n_ta": 100, "n_s": 10_000, "d": 16, "t": 0.5, "latent_variance": 1.0}
AXES: dict[str, tuple[Any, ...]] = {
    "n_ta": (1, 2, 4, 8, 12, 16, 20, 24, 32, 64, 128, 256, 1024, 4096, 10**5, 10**6),
    "n_s": (10, 100, 1000, 10**4, 10**5, 10**6),
    "t": (1e-3, 1e-2, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    "d": (1, 2, 4, 8, 16, 32),
    "latent_variance": (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 100.0),
}
SETTLED = {"n_ta": (256, 10**5), "n_s": (10, 1000)}
"""Where one power should show: past the transition, and before the other term takes over."""
ISOLATED: dict[str, dict[str, Any]] = {"n_ta": {"n_s": None}, "n_s": {"n_ta": 10**9}}
"""The other error switched off, so that a slope is a slope."""

NOISY: dict[str, Any] = {"n_ta": 64, "n_s": None, "d": 4, "D": 64, "tau": 0.3}
"""Where some ``t`` is best."""
SPIKED: dict[str, Any] = {
    "n_ta": 64,
    "n_s": None,
    "d": 2,
    "D": 100_000,
    "tau": 1.0,
    "t": 0.5,
    "method": "orthonormal",
}
SPIKES = (4.0, 10.0, 20.0, 30.0, 40.0, 60.0, 100.0, 300.0, 1000.0)
"""Around the threshold ``sqrt(D/n_ta)`` of ``lambda^2/tau^2``, which is 40."""


def run(context: Context) -> Iterator[Record]:
    """Yield means beside exact values and bounds, slopes, and the bound's least constant."""
    replicates = context.pick(2048, 8192, 262_144)
    # Quickly: the two axes that share a compilation.
    axes = context.pick(tuple(ISOLATED), tuple(AXES), tuple(AXES))
    # Every other dimension by default: each is a compilation.
    values = AXES | {"d": AXES["d"][:: context.pick(2, 2, 1)]}
    curves: list[tuple[str, dict[str, Any], str]] = [(a, {}, f"against {a}") for a in axes]
    curves.extend((axis, others, f"{axis} alone") for axis, others in ISOLATED.items())

    def work(curve: tuple[str, dict[str, Any], str]) -> Iterator[Record]:
        axis, others, name = curve
        context.tell(f"linear-rates {name}")
        return _curve(axis, values[axis], others, replicates, context.seed, name)

    rows = list(side_by_side(work, curves))
    yield from rows
    for axis in ISOLATED:
        yield _slope(axis, [r for r in rows if r["data"] == f"{axis} alone"])
    yield _least_constant([r for r in rows if r["data"].startswith("against")])
    if context.size != "quick":
        yield from _with_noise(context)


def _sweep(
    fixed: dict[str, Any], axis: str, values: Sequence[Any], replicates: int, seed: int
) -> list[dict[str, Any]]:
    """The rows of a sweep over one axis."""
    setting = {key: [value] for key, value in fixed.items()} | {axis: list(values)}
    plan = sweep.plan_errors(**setting, replicates=replicates, seed=seed, dtype=np.float32)
    with TemporaryDirectory() as folder:
        return sweep.read_results(sweep.run(plan, Path(folder) / "sweep").parent)


def _curve(
    axis: str, values: Sequence[Any], others: dict[str, Any], replicates: int, seed: int, name: str
) -> Iterator[Record]:
    for row in _sweep({**BASE, **others}, axis, values, replicates, seed):
        size = {
            "latent_dim": row["d"],
            "n_ta": row["n_ta"],
            "n_s": row["n_s"],
            "latent_variance": row["latent_variance"],
            "time": row["t"],
        }
        exact = theory.expected_subspace_error(**size)
        asymptotic = theory.expected_subspace_error(**size, method="asymptotic")
        own = {key: row[key] for key in BASE}
        yield record(
            "linear-rates",
            name,
            "Monte Carlo",
            "subspace_error",
            row["mean"],
            stderr=row["stderr"],
            exact=exact,
            asymptotic=asymptotic,
            sigmas=(row["mean"] - exact) / row["stderr"],
            **_bound(size),
            **own,
        )


def _with_noise(context: Context) -> Iterator[Record]:
    """Where the best time lies, and the spiked-covariance threshold at D = 100,000."""
    replicates = context.pick(0, 64, 4096)
    curves = {
        "noise, against t": (NOISY, "t", AXES["t"]),
        "spiked, D = 100000": (SPIKED, "latent_variance", SPIKES),
    }
    for name, (fixed, axis, values) in curves.items():
        context.tell(f"linear-rates {name}")
        for row in _sweep(fixed, axis, values, replicates, context.seed):
            spiked = None
            if fixed is SPIKED:
                spiked = theory.spiked_subspace_error(
                    latent_dim=row["d"],
                    n_ta=row["n_ta"],
                    ambient_dim=row["D"],
                    latent_variance=row["latent_variance"],
                    residual_variance=row["tau"] ** 2,
                )
            own = {key: row[key] for key in ("n_ta", "d", "D", "t", "tau", "latent_variance")}
            yield record(
                "linear-rates",
                name,
                row["method"],
                "mean_error",
                row["mean"],
                stderr=row["stderr"],
                asymptotic=spiked,
                **own,
            )


def _bound(size: dict[str, Any]) -> dict[str, Any]:
    """Theorem 5.2 with constant one; a perfect source leaves its target term."""
    perfect = size["n_s"] is None
    bound = theory.theorem_5_2(ambient_dim=AMBIENT, **(size | ({"n_s": 10**9} if perfect else {})))
    return {
        "bound": None if perfect else bound.value,
        "bound_target_term": bound.terms["target"],
    }


def _slope(axis: str, rows: list[Record]) -> Record:
    low, high = SETTLED[axis]
    rows = [r for r in rows if low <= r[axis] <= high]
    x, value, stderr, curve = (
        np.array([r[name] for r in rows], float) for name in (axis, "value", "stderr", "exact")
    )
    fit, exact = theory.loglog_slope(x, value, stderr), theory.loglog_slope(x, curve)
    claimed = {"n_ta": -1.0, "n_s": -0.5}[axis]
    return record(
        "linear-rates",
        "slopes",
        "Monte Carlo",
        f"slope_in_{axis}",
        fit.value,
        stderr=fit.stderr,
        low=fit.low,
        high=fit.high,
        exact=exact.value,
        bound=claimed,
        fitted_from=low,
        fitted_to=high,
    )


def _least_constant(rows: list[Record]) -> Record:
    """Of the bound's n_ta term: where it is smaller than the exact error, and by how much."""
    grid = list(
        itertools.product(
            (1, 2, 4, 16), (1, 4, 16, 64, 1024), (1e-2, 0.1, 1.0, 5.0), (0.01, 0.1, 1.0, 10.0)
        )
    )
    exact, bound = [], []
    for d, n_ta, t, variance in grid:
        size: dict[str, Any] = {
            "latent_dim": d,
            "n_ta": n_ta,
            "time": t,
            "latent_variance": variance,
        }
        exact.append(theory.expected_subspace_error(**size))
        bound.append(theory.theorem_5_2(ambient_dim=AMBIENT, n_s=10**9, **size).terms["target"])
    least = theory.least_constant(np.array(bound), np.array(exact))
    d, n_ta, t, variance = grid[least.index[0]]
    worst = max(abs(r["sigmas"]) for r in rows)
    return record(
        "linear-rates",
        "bound",
        "Theorem 5.2, n_ta term",
        "least_constant",
        least.value,
        d=d,
        n_ta=n_ta,
        t=t,
        latent_variance=variance,
        cells=len(grid),
        worst_sigmas=worst,
    )


def lines(rows: list[Record]) -> table.Lines:
    """Means beside exact values, expansions and bounds."""
    if rows[0]["metric"] != "subspace_error":
        return table.plain(rows)
    return [_beside(row) for row in rows]


def _beside(row: Record) -> dict[str, str]:
    """A mean beside its exact value, its expansion and its bound."""
    line = {name: f"{row[name]:g}" for name in ("n_ta", "n_s", "d", "t") if row[name] is not None}
    line["lambda^2"] = f"{row['latent_variance']:g}"
    line["Monte Carlo"] = table.short(row)
    for name in ("exact", "asymptotic", "bound"):
        line[name] = "-" if row[name] is None else f"{row[name]:.4g}"
    line["s.e. off"] = f"{row['sigmas']:+.1f}"
    return line
