"""The loss and the reverse process: Sections 3.1, 3.2 and 5.1."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

import fsd_jax as fsd
from benchmarks.judging import EXACT, SIGMAS, Statement, Verdict, judged, sigmas, slip
from benchmarks.records import Record, record
from benchmarks.studies.linear.checks import shared
from benchmarks.study import Settings, mean
from benchmarks.table import Table

TIME = 0.5


def constant(s: Settings, seed: int) -> Iterator[Record]:
    """Section 3.2: the denoising loss less the score error is the same for every decoder."""
    world = shared.problem(s, seed)
    moment = fsd.SecondMoment.from_covariance(
        world.A_ta @ world.latent.second_moment() @ world.A_ta.T
    )
    decoders = [
        jax.random.normal(jax.random.key(seed + 10 + i), (s["D"], s["d"])) / 2 for i in range(4)
    ]
    scores = [fsd.LinearScore.from_decoder(V, latent_variance=1.0) for V in decoders]
    found = [
        float(fsd.expected_loss(V, moment, latent_variance=1.0, time=TIME))
        - float(fsd.score_error(score, world, time=TIME))
        for V, score in zip(decoders, scores, strict=True)
    ]
    for i, value in enumerate(found):
        yield record("loss less score error", value, exact=found[0], decoder=i)
    x = world.sample_target(jax.random.key(seed + 20), 64)
    own = fsd.SecondMoment.from_samples(x, route="svd")
    mean, stderr = fsd.monte_carlo_loss(
        jax.random.key(seed + 21), scores[0], x, time=TIME, draws=s["draws"] // 4
    )
    exact = float(fsd.expected_loss(decoders[0], own, latent_variance=1.0, time=TIME))
    yield record("loss by drawing the noise", float(mean), stderr=float(stderr), exact=exact)


def simplified_form(s: Settings, seed: int) -> Iterator[Record]:
    """Section 5's objective is the loss of Section 3.2: its simplified form, by drawing."""
    signal, noise = shared.levels(TIME)
    draw = np.random.default_rng(seed)
    x = np.asarray(shared.problem(s, seed).sample_target(jax.random.key(seed + 4), 32))
    V = draw.normal(size=(s["D"], s["d"])) / 2
    g = signal / (signal + noise)
    means = np.empty(s["draws"] // 4)
    for i in range(means.size):
        noised = signal**0.5 * x + noise**0.5 * draw.normal(size=x.shape)
        means[i] = np.mean(np.sum((noised @ (g * V @ V.T) - signal**0.5 * x) ** 2, axis=1))
    moment = fsd.SecondMoment.from_samples(jnp.asarray(x), route="svd")
    exact = float(fsd.expected_loss(jnp.asarray(V), moment, latent_variance=1.0, time=TIME))
    yield record("simplified objective", **mean(means / noise**2), exact=exact)


def reverse(_s: Settings, _seed: int) -> Iterator[Record]:
    """Section 3.1's reverse drift with both signs: the variance that comes out, exact score."""
    lam2, T, delta, steps = 0.25, 8.0, 1e-3, 200_000
    times = np.linspace(T, delta, steps + 1)
    truth = np.exp(-times) * lam2 - np.expm1(-times)
    ends = {}
    for sign in (-1, 1):
        variance = 1.0
        # dY = (sign f(Y) + score) dt + dB with f(y) = -y/2; Heun's rule on the variance's equation.
        for k in range(steps):
            h = times[k] - times[k + 1]
            first = 2 * (-sign * 0.5 - 1 / truth[k]) * variance + 1
            guess = variance + h * first
            second = 2 * (-sign * 0.5 - 1 / truth[k + 1]) * guess + 1
            variance += h * (first + second) / 2
        ends[sign] = variance
    yield record("reverse variance", ends[-1], exact=float(truth[-1]), printed=ends[1])


def rescaled(s: Settings, seed: int) -> Iterator[Record]:
    """The footnote of Section 3.1: a rate beta_t only rescales time in the closed form."""
    x = shared.problem(s, seed).sample_target(jax.random.key(seed + 3), 20)
    moment = fsd.SecondMoment.from_samples(x)
    process = fsd.VP.linear(0.1, 20.0)
    own, plain = (
        fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=s["d"], time=t, process=p).gains
        for t, p in ((0.3, process), (float(process.integrated_rate(0.3)), fsd.VP()))
    )
    yield record("rescaled time", float(jnp.max(jnp.abs(own - plain))), exact=0.0)


PARTS = (constant, reverse, rescaled, simplified_form)


def constant_difference(table: Table) -> Verdict:
    """Confirmed if the loss less the score error is the same for every decoder."""
    rows = table.select(data="loss less score error")
    drawn = table.one(data="loss by drawing the noise")
    spread = max(r["value"] for r in rows) - min(r["value"] for r in rows)
    words = (
        f"loss less score error of {len(rows)} random decoders varies by {spread:.0e}; the loss by "
        f"drawing the noise is {sigmas(drawn):.1f} standard errors from its closed form"
    )
    right = spread < 1e-6 * abs(rows[0]["value"]) and sigmas(drawn) <= SIGMAS
    return judged(drawn, words, ours=right)


def simplified(table: Table) -> Verdict:
    """Confirmed if the simplified objective, by drawing, is the loss in closed form."""
    found = table.one(data="simplified objective")
    words = f"by drawing the noise, {sigmas(found):.1f} standard errors from the closed form"
    return judged(found, words, ours=sigmas(found) <= SIGMAS)


def reverse_sign(table: Table) -> Verdict:
    """Printed: the reverse drift with +f brings back the data's variance."""
    found = table.one(data="reverse variance")
    return shared.three(found, "variance at the end of the reverse process", tolerance=1e-3)


def schedule(table: Table) -> Verdict:
    """Confirmed if a rate beta_t only rescales time in the closed form."""
    found = table.one(data="rescaled time")["value"]
    words = "largest difference of the gains for a linear beta_t and for the rescaled time"
    return judged((found, 0.0, found), words, exact=0.0, ours=found < EXACT)


OBJECTIVE = "tests/minimizer/test_objective.py::"
STATEMENTS = (
    Statement(
        name="Section 3.1, footnote 3",
        place="3.1 footnote",
        says="All extends to a rate beta_t of the forward process",
        function="fsd_jax.VP.linear",
        test="tests/minimizer/test_closed_form.py::test_process_only_rescales_time",
        rule=schedule,
    ),
    Statement(
        name="Section 3.2, objective",
        place="3.2",
        says="Denoising score matching differs from the score error by a constant",
        function="fsd_jax.expected_loss",
        test=OBJECTIVE + "test_within_four_standard_errors_of_monte_carlo",
        rule=constant_difference,
    ),
    Statement(
        name="Section 5.1, simplified objective",
        place="5.1 simplified",
        says="The loss is E || V G_t V' x_t - m_t x_0 ||^2/sigma_t^4",
        function="fsd_jax.expected_loss",
        test=OBJECTIVE + "test_against_dense_matrices",
        rule=simplified,
    ),
    slip(
        "Section 3.1, reverse drift",
        "The reverse process has +f, the forward drift",
        "fsd_jax.VP",
        "tests/test_process.py::test_levels_are_consistent",
        reverse_sign,
    ),
)
