"""The error ledger: what each ingredient of a few-shot model costs, alone and with the rest."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks import drawing, text
from benchmarks.judging import Statement, Verdict, close, judged
from benchmarks.records import Record, record
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Table
from fsd_jax import LinearScore, ledger

RANK, ORTHONORMAL = "rank(V) = d, fitted at t = 0.5", "orthonormal, with noise"
FITTED_AT = 0.5
LABELS = {"alone": "alone: all else exact", "removed": "what making it exact saves"}


def settings(size: str) -> Settings:
    """Two settings of equal shapes, which share every compilation."""
    quick = size == "quick"
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


def compute(settings: Settings, work: Work) -> Iterator[Record]:
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
        work.tell(name)
        problem = fsd.LinearProblem.random(
            jax.random.key(work.seed),
            ambient_dim=s["D"],
            latent_dim=s["d"],
            latent_variance=s["lam2"],
            residual_variance=one["tau2"],
        )
        keys = jax.random.split(jax.random.key(work.seed + 1), s["replicates"])
        at_one, at_all, orthonormal = fit(keys, problem, one["n_ta"])
        pair = (at_one, at_all) if name == RANK else (orthonormal, orthonormal)
        found = keep(*pair, problem)
        for r in found.rows("w2"):
            for part in ("alone", "removed"):
                yield record(
                    "cost",
                    r[part],
                    stderr=r[f"{part}_stderr"],
                    setting=name,
                    part=part,
                    ingredient=r["ingredient"],
                )
        yield record("total", r["total"], stderr=r["total_stderr"], setting=name)
        first = jax.tree.map(lambda leaf: leaf[0], pair[0])
        yield record(
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
    figure, axes = drawing.canvas(1, len(s["settings"]), figsize=(11, 4.6))
    for axis, (name, one) in zip(axes[0], s["settings"].items(), strict=True):
        total = table.present(data="total", setting=name)
        names = list(
            dict.fromkeys(r["ingredient"] for r in table.present(data="cost", setting=name))
        )
        for shift, part, look in ((-0.2, "alone", 0), (0.2, "removed", 1)):
            rows = {r["ingredient"]: r for r in table.present(data="cost", setting=name, part=part)}
            values = [rows[i]["value"] if i in rows else np.nan for i in names]
            bars = [2 * (rows[i]["stderr"] or 0) if i in rows else 0 for i in names]
            axis.barh(
                [k + shift for k in range(len(names))],
                values,
                0.36,
                xerr=bars,
                color=("0.75", drawing.STYLES[1]["color"])[look],
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
            axis.axvline(
                r["value"], color=drawing.STYLES[2]["color"], ls="--", lw=1.2, label="total"
            )
        axis.set(
            xlabel=r"part of $W_2^2$ (mean, 2 s.e.)",
            title=f"{name}\nD = {s['D']}, d = {s['d']}, $n_{{ta}}$ = {one['n_ta']}, "
            rf"$n_s$ = {s['n_s']}, $\tau^2$ = {one['tau2']:g}",
        )
    drawing.legend_below(figure, axes[0, 0], 3)
    return figure


def _extent(table: Table, name: str) -> tuple[float, float]:
    """From the lowest to the highest end of a bar's error."""
    rows = [
        *table.present(data="cost", setting=name),
        *table.present(data="total", setting=name),
    ]
    ends = [r["value"] + sign * 2 * (r["stderr"] or 0) for r in rows for sign in (-1, 1)]
    return min([*ends, -1e-3]), max([*ends, 1e-3])


def _parts(table: Table, setting: str) -> dict[str, dict[str, Record]]:
    """The costs of each ingredient, alone and removed."""
    return {
        part: {r["ingredient"]: r for r in table.select(data="cost", setting=setting, part=part)}
        for part in LABELS
    }


def _dearest(removed: dict[str, Record]) -> str:
    """The ingredient that saves most when it is made exact."""
    saved = {name: r["value"] for name, r in removed.items() if name != "interaction"}
    return max(saved, key=lambda name: saved[name])


def lines(table: Table) -> text.Lines:
    """One line for each ingredient and setting."""
    rows = table.present(data="cost")
    return text.pivot(rows, ("setting", "ingredient"), lambda r: LABELS[r["part"]], text.short)


def finding(table: Table) -> str:
    """What costs most in each setting."""
    words = []
    for total in table.select(data="total"):
        removed = _parts(table, total["setting"])["removed"]
        first = _dearest(removed)
        saved = removed[first]
        words.append(
            f"of a squared W2 of {total['value']:.3g} +- {total['stderr']:.1g} ({total['setting']})"
            f" making the {first.replace('_', ' ')} exact saves {saved['value']:.3g} +- "
            f"{saved['stderr']:.1g}"
        )
    return f"The dearest ingredient: {'; '.join(words)}."


def splits(table: Table) -> Verdict:
    """Printed: the costs alone make up the total, within a tenth. Ours: with the interaction."""
    agree = all(close(r["value"], r["exact"], 1e-6) for r in table.select(data="first replicate"))
    words, shares = [], []
    for total in table.select(data="total"):
        parts = _parts(table, total["setting"])
        for rows in parts.values():
            agree = agree and close(sum(r["value"] for r in rows.values()), total["value"], 1e-6)
        shares.append(abs(parts["alone"]["interaction"]["value"]) / total["value"])
        first = _dearest(parts["removed"])
        words.append(
            f"{total['setting']}: W2^2 = {total['value']:.3g} +- {2 * total['stderr']:.1g}, "
            f"{shares[-1]:.0%} of it interaction; the {first.replace('_', ' ')} made exact saves "
            f"{parts['removed'][first]['value']:.3g}, alone it costs "
            f"{parts['alone'][first]['value']:.2g}"
        )
    ends = max(shares), min(shares), max(shares)
    return judged(ends, "; ".join(words), printed=max(shares) <= 0.1, ours=agree)


STUDY = Study(
    name="ledger",
    figure="ledger",
    summary="what each ingredient of a few-shot model costs in W2, alone and on top of the others",
    settings=settings,
    compute=compute,
    pictures={"ledger": draw},
    lines=lines,
    finding=finding,
    statements=(
        Statement(
            name="Sections 4 and 5, error ledger",
            place="6 ledger",
            says="The error of a sample splits into what V, the latent, time steps and ends cost",
            function="fsd_jax.ledger.account",
            test="tests/test_ledger.py::test_every_substitution_by_hand",
            rule=splits,
        ),
    ),
    # Two large programs to compile.
    quick=False,
)
