import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd


def test_create_broadcasts_a_scalar():
    latent = fsd.GaussianLatent.create(3, 2.0)
    assert latent.latent_dim == 3
    np.testing.assert_array_equal(latent.variance, [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(latent.second_moment(), 2 * np.eye(3))


def test_dtype_follows_the_x64_mode(dtype):
    assert fsd.GaussianLatent.create(2, [1.0, 2.0]).variance.dtype == dtype


def test_sample_moments_within_five_standard_errors():
    variance = np.array([4.0, 1.0, 0.25])
    n = 20_000
    z = np.asarray(fsd.GaussianLatent.create(3, variance).sample(jax.random.key(0), n))
    standard_error = np.sqrt(np.outer(variance, variance) * (1 + np.eye(3)) / n)
    assert np.all(np.abs(z.T @ z / n - np.diag(variance)) < 5 * standard_error)
    assert np.all(np.abs(z.mean(axis=0)) < 5 * np.sqrt(variance / n))


@pytest.mark.parametrize("t", [1e-3, 0.5, 5.0])
@pytest.mark.usefixtures("x64")
def test_score_is_the_gradient_of_the_log_density(t):
    latent = fsd.GaussianLatent.create(3, [3.0, 1.0, 0.1])
    process = fsd.VP.constant(1.5)
    z = jnp.asarray([0.3, -1.0, 2.0])

    def log_density(z):
        m2, s2 = jnp.exp(-1.5 * t), -jnp.expm1(-1.5 * t)
        return jax.scipy.stats.norm.logpdf(z, 0, jnp.sqrt(m2 * latent.variance + s2)).sum()

    np.testing.assert_allclose(latent.score(z, t, process), jax.grad(log_density)(z), rtol=1e-11)


def test_score_takes_a_batch_and_times_of_its_shape():
    latent = fsd.GaussianLatent.create(2, 1.5)
    z = jax.random.normal(jax.random.key(1), (4, 2))
    times = jnp.array([0.1, 0.2, 0.3, 0.4])
    rows = [latent.score(z[i], times[i]) for i in range(4)]
    np.testing.assert_allclose(latent.score(z, times), jnp.stack(rows), rtol=1e-6)


@pytest.mark.parametrize(
    ("dim", "variance", "name"),
    [
        (0, 1.0, "latent_dim"),
        (True, 1.0, "latent_dim"),
        (2.0, 1.0, "latent_dim"),
        (2, 0.0, "latent_variance"),
        (2, -1.0, "latent_variance"),
        (2, np.nan, "latent_variance"),
        (2, [1.0, np.inf], "latent_variance"),
        (2, [1.0, 1.0, 1.0], "latent_variance"),
        (2, "wide", "latent_variance"),
    ],
)
def test_errors_name_the_argument(dim, variance, name):
    with pytest.raises(ValueError, match=name):
        fsd.GaussianLatent.create(dim, variance)
