"""The error ledger: what each ingredient of a few-shot model costs, alone and with the rest."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from fsd_jax import LinearScore, ledger
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = "what each ingredient of a few-shot model costs in W2, alone and on top of the others"
IN_QUICK = False
"""Two large programs to compile: a quick run has it only if it is named."""
RANK, ORTHONORMAL = "rank(V) = d, fitted at t = 0.5", "orthonormal, with noise"
FITTED_AT = 0.5


def settings(quick: bool) -> dict[str, Any]:
    """Two settings of equal shapes, which share every compilation."""
    return {
        "D": 24 if quick else 64,
        "d": 4 if quick else 8,
        "n_s": 400,
        "lam2": 1.0,
        "steps": 128 if quick else 256,
        "delta": 1e-3,
        "T": 10.0,
        "replicates": 16 if quick else 128,
        "settings": {RANK: {"n_ta": 20, "tau2": 0.0}, ORTHONORMAL: {"n_ta": 200, "tau2": 0.05}},
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """Ledgers over replicates, and one total by dense matrices in NumPy."""
    s = settings
    times = fsd.geometric_grid(s["delta"], s["T"], s["steps"])
    most = max(one["n_ta"] for one in s["settings"].values())
    fit = jax.jit(jax.vmap(lambda key, p, n: _fits(key, p, n, most, s["n_s"]), (0, None, None)))
    keep = jax.jit(
        jax.vmap(
            lambda score, refit, p: ledger.account(score, p, times=times, refit=refit), (0, 0, None)
        )
    )
    for name, one in s["settings"].items():
        work.tell(f"ledger {name}")
        problem = fsd.LinearProblem.random(
            jax.random.key(SEED),
            ambient_dim=s["D"],
            latent_dim=s["d"],
            latent_variance=s["lam2"],
            residual_variance=one["tau2"],
        )
        keys = jax.random.split(jax.random.key(SEED + 1), s["replicates"])
        at_one, at_all, orthonormal = fit(keys, problem, one["n_ta"])
        pair = (at_one, at_all) if name == RANK else (orthonormal, orthonormal)
        found = keep(*pair, problem)
        for r in found.rows("w2"):
            for part in ("alone", "removed"):
                yield row(
                    "cost",
                    r[part],
                    stderr=r[f"{part}_stderr"],
                    setting=name,
                    part=part,
                    ingredient=r["ingredient"],
                )
        yield row("total", r["total"], stderr=r["total_stderr"], setting=name)
        first = jax.tree.map(lambda leaf: leaf[0], pair[0])
        yield row(
            "first replicate",
            float(found.total[0, ledger.METRICS.index("w2")]),
            exact=_by_hand(first, problem, np.asarray(times)),
            setting=name,
        )


def _fits(
    key: jax.Array, problem: fsd.LinearProblem, n_ta: Any, most: int, n_s: int
) -> tuple[LinearScore, LinearScore, LinearScore]:
    """Rank-d fitted at one time and over all of them, and orthonormal, to the same data."""
    source, target = jax.random.split(key)
    d, D = problem.A_ta.shape[1], problem.A_ta.shape[0]
    seen = fsd.SecondMoment.from_samples(
        problem.sample_source(source, n_s), throw=False, route="svd"
    )
    moment = fsd.SecondMoment.from_samples(
        problem.sample_target(target, most), mask=jnp.arange(most) < n_ta, throw=False, route="svd"
    )
    # One variance, as in Section 5.
    variance = jnp.full(d, jnp.mean(seen.values[:d]))
    residual = jnp.clip(jnp.sum(seen.values[d:]) / (D - d), 0)
    times, weights = fsd.VP().quadrature(nodes=16)

    def score(found: Any) -> LinearScore:
        return fsd.LinearScore.from_minimizer(
            found, latent_variance=variance, residual_variance=residual
        )

    def rank(**when: Any) -> LinearScore:
        return score(
            fsd.rank_minimizer(moment, latent_variance=variance, latent_dim=d, throw=False, **when)
        )

    orthonormal = fsd.orthonormal_minimizer(moment, latent_dim=d, throw=False)
    return rank(time=FITTED_AT), rank(times=times, weights=weights), score(orthonormal)


def _by_hand(score: LinearScore, problem: fsd.LinearProblem, times: np.ndarray) -> float:
    """Squared W2 of the sampler's law from the truth, by full matrices and NumPy."""
    D = problem.A_ta.shape[0]
    eye = np.eye(D)
    slopes = jax.jit(jax.vmap(lambda t: score(jnp.eye(D), t)))(jnp.asarray(times))
    covariance = eye
    for S, t, before in zip(np.asarray(slopes)[:0:-1], times[:0:-1], times[-2::-1], strict=True):
        growth = np.expm1((t - before) / 2)
        M = (1 + growth) * eye + 2 * growth * S
        covariance = M @ covariance @ M.T + np.expm1(t - before) * eye
    law = problem.target_law
    basis = np.asarray(law.basis)
    truth = (basis * np.asarray(law.variance - law.residual_variance)) @ basis.T
    truth = truth + float(law.residual_variance) * eye
    root = _root(covariance)
    cross = np.linalg.eigvalsh(root @ truth @ root)
    return float(np.trace(covariance + truth) - 2 * np.sum(np.sqrt(np.clip(cross, 0, None))))


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T)


def draw(table: Table) -> Any:
    """Bars on a scale that is linear near zero: costs may be negative."""
    s = table.settings
    figure, axes = style.canvas(1, len(s["settings"]), figsize=(11, 4.6))
    for axis, (name, one) in zip(axes[0], s["settings"].items(), strict=True):
        total = table.present(series="total", setting=name)
        names = list(
            dict.fromkeys(r["ingredient"] for r in table.present(series="cost", setting=name))
        )
        for shift, part, look in ((-0.2, "alone", 0), (0.2, "removed", 1)):
            rows = {
                r["ingredient"]: r for r in table.present(series="cost", setting=name, part=part)
            }
            values = [rows[i]["value"] if i in rows else np.nan for i in names]
            bars = [2 * (rows[i]["stderr"] or 0) if i in rows else 0 for i in names]
            axis.barh(
                [k + shift for k in range(len(names))],
                values,
                0.36,
                xerr=bars,
                color=("0.75", style.STYLES[1]["color"])[look],
                label=LABELS[part],
                error_kw={"lw": 0.9, "capsize": 2},
            )
        axis.set_xscale("symlog", linthresh=1e-3)
        ends = [10.0**k for k in (-3, -1, 1)]
        axis.set_xticks([-e for e in ends[::-1]] + [0.0] + ends)
        axis.set_xlim(*(1.3 * e for e in _extent(table, name)))
        axis.set_yticks(range(len(names)), [n.replace("_", " ") for n in names])
        axis.invert_yaxis()
        axis.axvline(0, color="0.3", lw=0.8)
        for r in total:
            axis.axvline(r["value"], color=style.STYLES[2]["color"], ls="--", lw=1.2, label="total")
        axis.set(
            xlabel=r"part of $W_2^2$ (mean, 2 s.e.)",
            title=f"{name}\nD = {s['D']}, d = {s['d']}, $n_{{ta}}$ = {one['n_ta']}, "
            rf"$n_s$ = {s['n_s']}, $\tau^2$ = {one['tau2']:g}",
        )
    style.legend_below(figure, axes[0, 0], 3)
    return figure


def _extent(table: Table, name: str) -> tuple[float, float]:
    """From the lowest to the highest end of a bar's error."""
    rows = [
        *table.present(series="cost", setting=name),
        *table.present(series="total", setting=name),
    ]
    ends = [r["value"] + sign * 2 * (r["stderr"] or 0) for r in rows for sign in (-1, 1)]
    return min([*ends, -1e-3]), max([*ends, 1e-3])


LABELS = {"alone": "alone: all else exact", "removed": "what making it exact saves"}
