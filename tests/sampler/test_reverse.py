"""Simulated paths: against the exact law, and against each other in other coordinates."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import sampler
from fsd_jax.sampler._reverse import _compiled
from tests import reference

D, K, N = 4, 12, 100_000
TIMES = np.geomspace(0.05, 4.0, K + 1)
PROCESS = fsd.VP.linear(0.5, 1.5, horizon=2.0)


@pytest.fixture(scope="module")
def score():
    """Non-commuting, with a residual and a mean partly outside the span, under a schedule."""
    rng = np.random.default_rng(0)
    V = reference.random_orthonormal(rng, D, 2) @ np.array([[1.0, 0.2], [-0.1, 0.8]])
    return fsd.LinearScore.from_decoder(
        V.astype(np.float32), latent_variance=[2.0, 0.4], residual_variance=0.15,
        mean=rng.normal(size=D), process=PROCESS,
    )  # fmt: skip


def _ambient(key, score, **kwargs):
    return sampler.sample(key, score, times=TIMES, n=N, **kwargs)


def _latent(key, score, **kwargs):
    return sampler.sample_latent(
        key, score.latent, basis=score.basis, residual_variance=score.residual_variance,
        mean=score.mean, times=TIMES, n=N, **kwargs,
    )  # fmt: skip


def _assert_law(x, law, sigmas=5):
    """Mean and covariance within `sigmas` standard errors, which the Gaussian law gives."""
    x = np.asarray(x, np.float64)
    S, variances = reference.thin_covariance(law), np.diag(reference.thin_covariance(law))
    y = x - np.asarray(law.mean, np.float64)
    assert np.max(np.abs(y.mean(axis=0)) / np.sqrt(variances / len(x))) < sigmas
    stderr = np.sqrt((np.outer(variances, variances) + S**2) / len(x))
    assert np.max(np.abs(y.T @ y / len(x) - S) / stderr) < sigmas


@pytest.mark.result("R16")
@pytest.mark.parametrize(
    ("draw", "method", "denoise"),
    [
        (_ambient, "ei_sde", False),
        (_ambient, "em_sde", False),
        (_ambient, "ei_ode", False),
        (_ambient, "heun_ode", True),
        (_latent, "em_sde", True),
        (_latent, "heun_ode", False),
    ],
)
def test_paths_have_the_exact_law(score, draw, method, denoise):
    x = draw(jax.random.key(2), score, method=method, denoise=denoise)
    law = sampler.generated_law(score, times=TIMES, method=method, denoise=denoise)
    _assert_law(x, law)


def test_samples_do_not_depend_on_chunks_or_on_how_many(score):
    key, seen = jax.random.key(3), []
    draw = partial(sampler.sample, key, score, times=TIMES)
    whole = draw(n=11)
    parts = draw(n=11, chunk=4, progress=lambda *done: seen.append(done))
    assert seen == [(4, 11), (8, 11), (11, 11)]
    # Products of another height round differently, and a step enlarges that a little.
    np.testing.assert_allclose(parts, whole, atol=1e-4)
    np.testing.assert_allclose(draw(n=4), whole[:4], atol=1e-4)
    assert np.std(np.asarray(whole), axis=0).min() > 0.1


@pytest.mark.parametrize("method", ["ei_sde", "heun_ode"])
def test_steps_on_the_host_are_the_steps_of_the_scan(score, method):
    draw = partial(sampler.sample, jax.random.key(3), score, times=TIMES, n=4, method=method)
    np.testing.assert_allclose(
        draw(loop="host", denoise=True), draw(denoise=True), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(ValueError, match="loop must be"):
        draw(loop="while")


def test_any_score_on_images_from_a_given_start():
    """A mixture of two spikes on an image of two pixels: the ODE carries each start to one."""
    centre = jnp.array([[1.0, -0.5]])

    def spikes(x, t):
        m, s2 = jnp.exp(-t / 2), -jnp.expm1(-t)
        lean = jnp.tanh(jnp.sum(m * centre * x, axis=(1, 2), keepdims=True) / s2)
        return (m * centre * lean - x) / s2

    x = jax.random.normal(jax.random.key(0), (500, 1, 2))
    times = fsd.geometric_grid(1e-3, 8.0, 60)
    ends = sampler.sample(
        jax.random.key(1), spikes, times=times, initial=x, method="heun_ode", denoise=True
    )
    side = np.sign(np.asarray(x @ centre[0])).ravel()
    np.testing.assert_allclose(ends, side[:, None, None] * np.asarray(centre), atol=0.02)
    noisy = sampler.sample(jax.random.key(1), spikes, times=times, n=2000, shape=(1, 2))
    right = np.mean(np.asarray(noisy)[:, 0, 0] > 0)
    assert abs(right - 0.5) < 5 * 0.5 / 2000**0.5


def test_a_model_with_new_numbers_does_not_compile_anew(score):
    def traced(x, t):
        return score(x, t)

    models = [fsd.LinearScore(**(vars(score) | {"mean": score.mean + i})) for i in range(3)]
    sampler.sample(jax.random.key(0), models[0].denoise, times=TIMES, n=3, shape=D)
    before = _compiled._cache_size()
    for model in models:
        sampler.sample(jax.random.key(0), model.denoise, times=TIMES, n=3, shape=D)
    assert _compiled._cache_size() == before
    counted = chex.assert_max_traces(traced, n=1)
    for i in range(2):
        sampler.sample(jax.random.key(i), counted, times=TIMES, n=3, shape=D, process=PROCESS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "dpm"}, "method must be one of"),
        ({"n": 0}, "n must be at least 1"),
        ({"n": None}, "n must be an integer"),
        ({"chunk": 0}, "chunk must be at least 1"),
        ({"times": [1.0]}, "at least two times"),
        ({"times": [0.5, 0.1]}, "must increase"),
        ({"shape": 3}, "shape must be D = 4"),
        ({"initial": np.zeros((2, D), np.float32)}, "initial fixes n and shape"),
        ({"n": None, "initial": np.zeros(D, np.float32)}, r"shape \(n, ...\)"),
        ({"process": fsd.VP()}, "the score's own"),
        ({"score": 1.0}, "score must be a function"),
        ({"score": lambda x, t: x}, "shape must be given"),
        ({"score": lambda x, t: x[0], "shape": D}, "score must return an array of x's shape"),
    ],
)
def test_refusals(score, change, message):
    arguments = {"score": score, "times": TIMES, "n": 2} | change
    with pytest.raises(ValueError, match=message):
        sampler.sample(jax.random.key(0), arguments.pop("score"), **arguments)


def test_latent_refusals(score):
    for change, message in (
        ({"mean": np.zeros(3)}, "mean must have D = 4"),
        ({"residual_variance": -1.0}, "residual_variance must be"),
        ({"basis": np.zeros(4, np.float32)}, "basis must have 2 axes"),
        ({"basis": score.basis[:, :1]}, "shape must be D = 2"),
    ):
        with pytest.raises(ValueError, match=message):
            sampler.sample_latent(
                jax.random.key(0), score.latent,
                **({"basis": score.basis, "times": TIMES, "n": 2} | change),
            )  # fmt: skip
