"""The lemmas of the appendix, as far as numbers reach: B.1, B.2, D.1, D.2, D.3."""

import itertools
import math
from collections.abc import Iterator

import numpy as np

import fsd_jax as fsd
from benchmarks import text
from benchmarks.records import Record, record
from benchmarks.studies.linear.appendix import drawing, judging
from benchmarks.study import Settings, Study, Work, mean
from benchmarks.table import Table
from fsd_jax import theory

FAILURE = 0.05


def settings(size: str) -> Settings:
    """Sizes."""
    quick = size == "quick"
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
        "failure": FAILURE,
        "iota": [float(10.0**-k) for k in np.arange(0.5, 6.1, 0.5).tolist()],
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """One part a lemma."""
    for part in (_pretraining, _circle, _coins, _spectra):
        work.tell(part.__name__.strip("_"))
        yield from part(settings, work.seed)


def _pretraining(s: Settings, seed: int) -> Iterator[Record]:
    """What a finite source leaves of the score error once the decoder is right."""
    d, draw = s["d"], np.random.default_rng(seed)
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
        # Lemma B.1 bounds the integral, where the error and Lemma D.3 are averages over t.
        for lemma, bound in (("B.1", b_1 / (s["T"] - s["delta"])), ("D.3", d_3)):
            yield record(
                "pre-training", **mean(errors), exact=exact, bound=bound, lemma=lemma, n_s=n_s
            )


def _circle(s: Settings, _seed: int) -> Iterator[Record]:
    """The exact covering number for D = 2, d = 1 and f(z, t) = g z, and Lemma B.2's bound."""
    g, noise, radius = 0.5, 0.25, 1.0
    reach = 3 * radius + (2 * math.log(2)) ** 0.5
    # Two directions at an angle: the largest difference of the scores, by dense matrices.
    angle = 0.3
    one, two = (np.array([[math.cos(x)], [math.sin(x)]]) for x in (0.1, 0.1 + angle))
    widest = float(np.linalg.norm(g / noise * (one @ one.T - two @ two.T), 2)) * reach
    yield record("distance of two scores", widest, exact=g / noise * reach * math.sin(angle))
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
        yield record("covering", math.log(math.ceil(math.pi / 2 / half)), bound=bound, iota=iota)


def _coins(s: Settings, _seed: int) -> Iterator[Record]:
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
        yield record("coins", worst, bound=FAILURE, n=n, functions=many, side=side)


def _spectra(s: Settings, seed: int) -> Iterator[Record]:
    """How often the largest deviation of a Wishart mean from one exceeds Lemma D.2's bound."""
    for d, n in itertools.product(s["dims"], s["n"]):
        draw = np.random.default_rng([seed, d, n])
        beyond, quantile = _exceeding(draw, d, n, s["spectra"])
        stderr = (max(beyond, 1 / s["spectra"]) * (1 - beyond) / s["spectra"]) ** 0.5
        bound = theory.lemma_d_2(latent_dim=d, n=n, failure=FAILURE)
        yield record("beyond D.2", beyond, stderr=stderr, bound=FAILURE, d=d, n=n)
        yield record(
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


def lines(table: Table) -> text.Lines:
    """Errors that pre-training leaves beside their bounds, and how often Lemma D.2's fails."""
    found: text.Lines = [
        {
            "n": f"{r['n_s']:,}",
            "what": f"score error, Lemma {r['lemma']}",
            "value": text.short(r),
            "exact": f"{r['exact']:.3g}",
            "bound": f"{r['bound']:.3g}",
        }
        for r in table.present(data="pre-training")
        if r["n_s"] in (10, 1000, 1_000_000)
    ]
    found += [
        {
            "n": str(r["n"]),
            "what": f"chance of exceeding Lemma D.2, d = {r['d']}",
            "value": text.short(r),
            "bound": f"{r['bound']:g}",
        }
        for r in table.present(data="beyond D.2")
        if r["n"] in (1, 8, 64, 512)
    ]
    return found


STUDY = Study(
    name="appendix",
    figure="appendix",
    summary="the appendix's lemmas: pre-training (B.1, D.3), coverings (B.2), concentration "
    "(D.1, D.2)",
    settings=settings,
    compute=compute,
    pictures={"appendix": drawing.draw},
    lines=lines,
    finding=judging.finding,
    statements=judging.STATEMENTS,
)
