"""Scores of samples and of latents seen through a decoder, against slow and known ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd

RNG = np.random.default_rng(0)
POINTS = RNG.normal(3.0, 1.0, (7, 5))
X = RNG.normal(1.0, 2.0, (4, 5))


def _slow(x, points, t):
    """Directly from the mixture's density, in float64."""
    m, s2 = np.exp(-t / 2), -np.expm1(-t)
    rows = []
    for row in x:
        log = -np.sum((row - m * points) ** 2, axis=1) / (2 * s2)
        w = np.exp(log - log.max())
        rows.append((m * (w / w.sum()) @ points - row) / s2)
    return np.array(rows)


@pytest.mark.result("R18")
@pytest.mark.parametrize("t", [1e-5, 1e-3, 0.3, 5.0])
def test_it_is_the_score_of_the_mixture(t, dtype):
    score = fsd.EmpiricalScore.from_samples(POINTS.astype(dtype))
    # As the reverse process does, look near where the diffused points are.
    x = np.exp(-t / 2) * POINTS[:4] + np.sqrt(-np.expm1(-t)) * X
    found = score(jnp.asarray(x, dtype), t)
    exact = _slow(x, POINTS, t)
    eps = np.finfo(dtype).eps
    # Rounding of x, about 5 eps, is divided by s2.
    np.testing.assert_allclose(found, exact, rtol=200 * eps, atol=40 * eps / -np.expm1(-t))


@pytest.mark.usefixtures("x64")
def test_it_is_the_gradient_of_the_log_density():
    t = 0.7
    m, s2 = jnp.exp(-t / 2), -jnp.expm1(-t)
    density = lambda x: jax.nn.logsumexp(-jnp.sum((x - m * POINTS) ** 2, axis=1) / (2 * s2))
    score = fsd.EmpiricalScore.from_samples(POINTS)
    np.testing.assert_allclose(score(X, t), jax.vmap(jax.grad(density))(X), rtol=1e-10)


def test_chunks_and_times_of_a_batch_change_nothing():
    points = POINTS.astype(np.float32)
    x = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    whole = fsd.EmpiricalScore.from_samples(points)
    parts = fsd.EmpiricalScore.from_samples(points, chunk=5)
    times = np.linspace(0.1, 2.0, 12, dtype=np.float32).reshape(3, 4)
    call = jax.jit(lambda score, x, t: score(x, t))
    found = call(whole, x, times)
    np.testing.assert_allclose(found, call(parts, x, times), rtol=1e-5, atol=1e-6)
    exact = np.stack([_slow(a, points, t)[0] for a, t in zip(x[2, :, None], times[2], strict=True)])
    np.testing.assert_allclose(found[2], exact, rtol=1e-4, atol=1e-5)


def test_as_t_vanishes_it_points_to_the_nearest_sample():
    points = POINTS.astype(np.float32)
    score = fsd.EmpiricalScore.from_samples(points)
    x = points[:3] + 1e-3 * X[:3].astype(np.float32)
    np.testing.assert_allclose(score.denoise(x, 1e-6), points[:3], atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_a_decoded_gaussian_is_a_linear_score():
    variance = jnp.array([2.0, 0.5])
    basis = jnp.linalg.qr(jnp.asarray(RNG.normal(size=(5, 2))))[0]
    mean = jnp.asarray(RNG.normal(size=5))
    process = fsd.VP()
    diagonal = fsd.LinearScore.from_decoder(jnp.eye(2), latent_variance=variance)
    decoded = fsd.DecodedScore(
        decoder=basis, latent=diagonal, residual_variance=jnp.asarray(0.1), mean=mean,
        process=process,
    )  # fmt: skip
    linear = fsd.LinearScore.from_decoder(
        basis, latent_variance=variance, residual_variance=0.1, mean=mean
    )
    t = jnp.linspace(0.01, 2.0, 4)
    np.testing.assert_allclose(decoded(X, t), linear(X, t), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(decoded.denoise(X, t), linear.denoise(X, t), atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_decoding_the_samples_of_a_subspace_is_their_own_score():
    latent = RNG.normal(size=(6, 2))
    basis = jnp.linalg.qr(jnp.asarray(RNG.normal(size=(5, 2))))[0]
    whole = fsd.EmpiricalScore.from_samples(latent @ basis.T)
    decoded = fsd.DecodedScore(
        decoder=basis, latent=fsd.EmpiricalScore.from_samples(latent),
        residual_variance=jnp.asarray(0.0), mean=jnp.zeros(5), process=fsd.VP(),
    )  # fmt: skip
    np.testing.assert_allclose(decoded(X, 0.4), whole(X, 0.4), rtol=1e-9, atol=1e-9)


def test_bad_input():
    with pytest.raises(ValueError, match="x must"):
        fsd.EmpiricalScore.from_samples(np.ones(3, np.float32))
    with pytest.raises(ValueError, match="chunk"):
        fsd.EmpiricalScore.from_samples(np.ones((3, 2), np.float32), chunk=0)
