import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from tests import reference


def _score(tau2=0.2, mean=True, dtype=np.float64, ambient=7, d=3):
    rng = np.random.default_rng(0)
    V = rng.normal(size=(ambient, d)).astype(dtype)
    lam2 = np.array([2.0, 1.0, 0.3][:d], dtype)
    centre = rng.normal(size=ambient).astype(dtype) if mean else None
    score = fsd.LinearScore.from_decoder(
        V, latent_variance=lam2, residual_variance=tau2, mean=centre
    )
    return score, V, lam2, np.zeros(ambient) if centre is None else centre


@pytest.mark.parametrize("tau2", [0.0, 0.2])
@pytest.mark.parametrize("t", [1e-2, 0.5, 4.0])
@pytest.mark.usefixtures("x64")
def test_against_dense_matrices(tau2, t):
    score, V, lam2, centre = _score(tau2)
    x = np.random.default_rng(1).normal(size=(4, 7))
    M = reference.score_matrix(V, lam2, tau2, t, np.asarray(score.basis))
    expected = (x - np.exp(-t / 2) * centre) @ M.T
    np.testing.assert_allclose(score(x, t), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.result("Model and process")
@pytest.mark.usefixtures("x64")
def test_the_population_score_is_the_true_one():
    problem = fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=7, latent_dim=3, latent_variance=[2.0, 1.0, 0.5],
        residual_variance=0.1, mean_scale=1.0,
    )  # fmt: skip
    law = problem.target_law
    found = fsd.Minimizer(
        basis=law.basis, gains=jnp.ones(3), rank=jnp.int32(3), status=jnp.int32(0)
    )
    score = fsd.LinearScore.from_minimizer(
        found, latent_variance=law.variance, residual_variance=0.1, mean=law.mean
    )
    x = jax.random.normal(jax.random.key(1), (3, 7))
    for t in (1e-3, 0.5, 5.0):
        np.testing.assert_allclose(score(x, t), problem.target_score(x, t), rtol=1e-9)


def test_from_minimizer_and_from_decoder_agree():
    x = np.random.default_rng(0).normal(size=(2, 6)).astype(np.float32)
    found = fsd.rank_minimizer(
        fsd.SecondMoment.from_samples(x), latent_variance=1.0, latent_dim=3, time=0.3
    )
    first = fsd.LinearScore.from_minimizer(found, latent_variance=1.0)
    second = fsd.LinearScore.from_decoder(found.decoder, latent_variance=1.0)
    y = jnp.ones((2, 6))
    np.testing.assert_allclose(first(y, 0.4), second(y, 0.4), rtol=1e-4)
    np.testing.assert_allclose(first.decoder, second.decoder, atol=1e-6)
    times, weights = jnp.array([0.2, 1.0]), jnp.array([0.5, 0.5])
    np.testing.assert_allclose(
        first.losses(x, times, weights), second.losses(x, times, weights), rtol=1e-4
    )


def test_times_of_the_batch_shape():
    score, *_ = _score(dtype=np.float32)
    x = jax.random.normal(jax.random.key(0), (2, 3, 7))
    t = jnp.linspace(0.1, 2.0, 6).reshape(2, 3)
    for method in (score, score.denoise):
        rows = jnp.stack([method(x[i, j], t[i, j]) for i in range(2) for j in range(3)])
        np.testing.assert_allclose(method(x, t).reshape(6, 7), rows, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_denoise_is_tweedie():
    score, V, lam2, centre = _score(0.0)
    x, t = np.ones((1, 7)), 0.6
    m2, s2 = reference.levels(t)
    W = V @ np.diag(reference.gains(lam2, t)) @ V.T
    expected = centre + (x - np.sqrt(m2) * centre) @ W.T / np.sqrt(m2)
    np.testing.assert_allclose(score.denoise(x, t), expected, rtol=1e-9)
    assert s2 > 0


@pytest.mark.usefixtures("x64")
def test_gains():
    score, _, lam2, _ = _score(0.2)
    times = jnp.array([0.1, 1.0])
    expected = np.stack([reference.gains(lam2, t) for t in times])
    np.testing.assert_allclose(score.gains(times), expected, rtol=1e-12)
    np.testing.assert_allclose(
        score.residual_gain(times), reference.gains(0.2, np.asarray(times)), rtol=1e-12
    )


def test_float32_at_a_small_time_keeps_its_digits():
    """The exact score is O(1) there, while the naive form divides a difference by 1e-3."""
    rng = np.random.default_rng(0)
    U = reference.random_orthonormal(rng, 7, 3)
    score = fsd.LinearScore.from_decoder(
        U.astype(np.float32), latent_variance=1.0, residual_variance=0.5
    )
    x = rng.normal(size=(4, 7)).astype(np.float32)
    t = float(np.float32(1e-3))
    C = U @ U.T + 0.5 * (np.eye(7) - U @ U.T)
    mean, S = reference.diffused(np.zeros(7), C, t)
    expected = reference.gaussian_score(x, mean, S)
    np.testing.assert_allclose(score(x, jnp.float32(t)), expected, rtol=2e-3, atol=2e-3)


@pytest.mark.usefixtures("x64")
def test_float32_scores_stay_float32_in_x64_mode():
    score, *_ = _score(dtype=np.float32)
    x = jnp.ones((2, 7), jnp.float32)
    assert score(x, 0.5).dtype == jnp.float32
    assert score.denoise(x, 0.5).dtype == jnp.float32


def test_a_score_is_a_pytree():
    score, *_ = _score(dtype=np.float32)
    x = jnp.ones((2, 7))
    np.testing.assert_allclose(jax.jit(lambda s, y: s(y, 0.5))(score, x), score(x, 0.5), rtol=1e-5)
    assert repr(score) == "LinearScore(D=7, d=3, float32)"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (dict(latent_variance=0.0), "latent_variance"),
        (dict(latent_variance=[1.0, 2.0]), "latent_variance"),
        (dict(residual_variance=-1.0), "residual_variance"),
        (dict(mean=np.zeros(3, np.float32)), "mean"),
        (dict(decoder=np.zeros((7, 3), int)), "decoder"),
        (dict(decoder=np.zeros(7, np.float32)), "decoder"),
    ],
)
def test_errors_name_the_argument(change, name):
    arguments = dict(decoder=np.ones((7, 3), np.float32), latent_variance=1.0) | change
    with pytest.raises(ValueError, match=name):
        fsd.LinearScore.from_decoder(arguments.pop("decoder"), **arguments)
