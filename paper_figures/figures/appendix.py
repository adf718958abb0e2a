"""The lemmas of the appendix, as far as numbers reach: B.1, B.2, D.1, D.2, D.3."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import fsd_jax as fsd
from fsd_jax import theory
from paper_figures import style
from paper_figures.table import Row, Table, row
from paper_figures.work import SEED, Work

SUMMARY = (
    "the appendix's lemmas: pre-training (B.1, D.3), coverings (B.2), concentration (D.1, D.2)"
)
FAILURE = 0.05


def settings(quick: bool) -> dict[str, Any]:
    """Sizes."""
    return {
        "n_s": [10, 30, 100, 1000, 10_000, 100_000, 1_000_000],
        "draws": 2000 if quick else 20_000,
        "d": 2,
        "D": 20,
        "delta": 1e-3,
        "T": 10.0,
        "spectra": 2000 if quick else 20_000,
        "n": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
        "dims": [1, 4, 16],
        "coins_n": [1, 2, 5, 10, 20, 50, 100, 200],
        "iota": [float(10.0**-k) for k in np.arange(0.5, 6.1, 0.5).tolist()],
    }


def compute(settings: dict[str, Any], work: Work) -> Iterator[Row]:
    """One part a lemma."""
    for part in (_pretraining, _circle, _coins, _spectra):
        work.tell(f"appendix {part.__name__.strip('_')}")
        yield from part(settings)


def _pretraining(s: dict[str, Any]) -> Iterator[Row]:
    """What a finite source leaves of the score error once the decoder is right."""
    d, draw = s["d"], np.random.default_rng(SEED)
    times, weights = (np.asarray(a, float) for a in fsd.VP().quadrature(s["delta"], s["T"]))
    signal, noise = np.exp(-times), -np.expm1(-times)
    for n_s in s["n_s"]:
        # The pre-trained variance is a mean of d n_s squares; each direction then errs alike.
        c = draw.chisquare(d * n_s, size=(s["draws"], 1)) / (d * n_s)
        each = signal**2 * (c - 1) ** 2 / ((signal * c + noise) ** 2 * (signal + noise))
        errors = d * each @ weights
        exact = theory.expected_score_error(
            latent_dim=d, n_ta=d, n_s=n_s, latent_variance=1.0, times=times, weights=weights
        )
        b_1 = theory.lemma_b_1(
            latent_dim=d,
            n_s=n_s,
            accuracy=1e-9,
            beta=1.0,
            second_moment=float(d),
            least_eigenvalue=1.0,
            delta=s["delta"],
            T=s["T"],
            failure=FAILURE,
        ).value
        d_3 = theory.lemma_d_3(
            latent_dim=d, ambient_dim=s["D"], n_s=n_s, delta=s["delta"], failure=FAILURE
        ).value
        stderr = float(errors.std(ddof=1) / len(errors) ** 0.5)
        # Lemma B.1 bounds the integral, where the error and Lemma D.3 are averages over t.
        for lemma, bound in (("B.1", b_1 / (s["T"] - s["delta"])), ("D.3", d_3)):
            yield row(
                "pre-training",
                float(errors.mean()),
                stderr=stderr,
                exact=exact,
                bound=bound,
                lemma=lemma,
                n_s=n_s,
            )


def _circle(s: dict[str, Any]) -> Iterator[Row]:
    """The exact covering number for D = 2, d = 1 and f(z, t) = g z, and Lemma B.2's bound."""
    g, noise, radius = 0.5, 0.25, 1.0
    reach = 3 * radius + (2 * math.log(2)) ** 0.5
    # Two directions at an angle: the largest difference of the scores, by dense matrices.
    angle = 0.3
    one, two = (np.array([[math.cos(x)], [math.sin(x)]]) for x in (0.1, 0.1 + angle))
    widest = float(np.linalg.norm(g / noise * (one @ one.T - two @ two.T), 2)) * reach
    yield row("distance of two scores", widest, exact=g / noise * reach * math.sin(angle))
    for iota in s["iota"]:
        half = math.asin(min(noise * iota / (g * reach), 1.0))
        bound = theory.lemma_b_2(
            latent_dim=1,
            ambient_dim=2,
            accuracy=iota,
            radius=radius,
            output_bound=reach,
            lipschitz=1.0,
            delta=noise,
        ).value
        yield row("covering", math.log(math.ceil(math.pi / 2 / half)), bound=bound, iota=iota)


def _coins(s: dict[str, Any]) -> Iterator[Row]:
    """Lemma D.1 for one coin and for eight: the largest chance of failing."""
    for n, many, side in itertools.product(s["coins_n"], (1, 8), ("above", "below")):
        worst = 0.0
        for a, p in itertools.product((0.05, 0.2, 0.5, 1.0), (0.003, 0.01, 0.05, 0.2, 0.5, 0.9)):
            limit = theory.lemma_d_1(
                n=n,
                bound=1.0,
                log_cover=math.log(many),
                accuracy=0.0,
                slack=a,
                side=side,
                failure=FAILURE,
            ).value
            heads = np.arange(n + 1)
            logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in heads]
            chance = np.exp(np.array(logs) + heads * math.log(p) + (n - heads) * math.log1p(-p))
            mean = heads / n
            off = mean - (1 + a) * p if side == "above" else p - (1 + a) * mean
            one = float(chance[off > limit].sum())
            worst = max(worst, -math.expm1(many * math.log1p(-min(one, 1 - 1e-16))))
        yield row("coins", worst, bound=FAILURE, n=n, functions=many, side=side)


def _spectra(s: dict[str, Any]) -> Iterator[Row]:
    """How often the largest deviation of a Wishart mean from one exceeds Lemma D.2's bound."""
    for d, n in itertools.product(s["dims"], s["n"]):
        draw = np.random.default_rng([SEED, d, n])
        beyond, quantile = _exceeding(draw, d, n, s["spectra"])
        stderr = (max(beyond, 1 / s["spectra"]) * (1 - beyond) / s["spectra"]) ** 0.5
        bound = theory.lemma_d_2(latent_dim=d, n=n, failure=FAILURE)
        yield row("beyond D.2", beyond, stderr=stderr, bound=FAILURE, d=d, n=n)
        yield row(
            "quantile over D.2", quantile / bound.value, bound=1.0, d=d, n=n, note=bound.reason
        )


def _exceeding(draw: np.random.Generator, d: int, n: int, draws: int) -> tuple[float, float]:
    """The share above the bound, and the quantile at one minus the failure's probability."""
    limit = theory.lemma_d_2(latent_dim=d, n=n, failure=FAILURE).value
    # The smaller of A'A and AA', through Bartlett's triangular factor.
    small, large = min(d, n), max(d, n)
    factor = np.tril(draw.normal(size=(draws, small, small)), -1)
    place = np.arange(small)
    factor[:, place, place] = np.sqrt(draw.chisquare(large - place, size=(draws, small)))
    values = np.linalg.eigvalsh(factor @ np.swapaxes(factor, 1, 2) / n)
    off = np.max(np.abs(values - 1), axis=1)
    if n < d:
        off = np.maximum(off, 1.0)
    return float(np.mean(off > limit)), float(np.quantile(off, 1 - FAILURE))


def draw(table: Table) -> Any:
    """Four panels."""
    figure, axes = style.canvas(2, 2, figsize=(10.5, 8))
    axis = axes[0, 0]
    axis.set_ylim(1e-12, 1e10)
    rows = table.present(series="pre-training", lemma="D.3")
    style.points(axis, rows, "n_s", 0, label="Monte Carlo, 2 s.e.")
    style.curve(axis, rows, "n_s", "exact", 0, label="exact")
    style.curve(axis, rows, "n_s", "bound", 1, label="Lemma D.3, constant one")
    style.curve(
        axis,
        table.present(series="pre-training", lemma="B.1"),
        "n_s",
        "bound",
        2,
        label="Lemma B.1/(T - δ), constant one",
    )
    style.log_axes(
        axis,
        "n_s",
        "score error, average over t",
        "Pre-training: what the source leaves\n"
        r"($d$ = 2, $D$ = 20, $\lambda^2$ = 1, $\delta = 10^{-3}$)",
    )
    axis.legend(loc="lower left", fontsize=7)
    axis = axes[0, 1]
    rows = table.present(series="covering")
    style.points(axis, rows, "iota", 0, line=True, label="exact: slope -1 = -d(D - d)")
    style.curve(axis, rows, "iota", "bound", 1, label="Lemma B.2: slope -4 = -2Dd")
    axis.set(
        xscale="log",
        xlabel=r"radius $\iota$ of the balls",
        ylabel="log covering number",
        title="Coverings (D = 2, d = 1, linear f)",
    )
    axis.legend()
    axis = axes[1, 0]
    for place, (many, side) in enumerate(itertools.product((1, 8), ("above", "below"))):
        rows = [
            {**r, "value": max(r["value"], 1e-12)}
            for r in table.present(series="coins", functions=many, side=side)
        ]
        name = "1 coin" if many == 1 else f"{many} coins"
        style.points(axis, rows, "n", place, line=True, label=f"{name}, mean {side} expectation")
    axis.axhline(FAILURE, color="0.4", ls="--", lw=1, label=r"allowed: $\delta_1$ = 0.05")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="samples n",
        ylabel="largest chance of failing",
        title="Lemma D.1 for coins, exact (values below 1e-12 lie there)",
    )
    axis.set_ylim(1e-19, 1)
    axis.legend(fontsize=7, loc="lower right")
    axis = axes[1, 1]
    for place, d in enumerate(table.settings["dims"]):
        style.points(
            axis, table.present(series="beyond D.2", d=d), "n", place, line=True, label=f"d = {d}"
        )
    axis.axhline(FAILURE, color="0.4", ls="--", lw=1, label=r"allowed: $\delta_1$ = 0.05")
    axis.set(
        xscale="log",
        xlabel="samples n",
        ylabel="chance of exceeding the bound",
        title="Lemma D.2 for normal vectors (2 s.e.)",
    )
    axis.legend()
    return figure
