import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import fsd_jax as fsd
from fsd_jax._latent import Latent


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


MIXTURE = dict(
    weights=[1.0, 2.0, 1.0],
    means=[[-2.0, 0.0], [1.0, 1.0], [0.5, -2.0]],
    covariances=[[[0.5, 0.2], [0.2, 0.3]], np.eye(2) * 0.1, [[1.0, -0.3], [-0.3, 0.2]]],
)


def _laws():
    return [
        fsd.GaussianLatent.create(2, [2.0, 0.5]),
        fsd.GaussianMixture.create(**MIXTURE),
        fsd.UniformLatent.create(2, [1.0, 0.2]),
    ]


def _log_density(law, z, m, v):
    """Log density of ``m Z + sqrt(v) N``, from SciPy on the host."""
    if isinstance(law, fsd.GaussianMixture):
        parts = [
            np.log(w) + stats.multivariate_normal.logpdf(z, m * mu, m**2 * cov + v * np.eye(2))
            for w, mu, cov in zip(
                np.array(MIXTURE["weights"]) / 4, np.array(MIXTURE["means"]),
                np.array(MIXTURE["covariances"]), strict=True,
            )
        ]  # fmt: skip
        return special.logsumexp(parts, axis=0)
    if isinstance(law, fsd.UniformLatent):
        half = m * np.asarray(law.half_width)
        mass = stats.norm.cdf((z + half) / v**0.5) - stats.norm.cdf((z - half) / v**0.5)
        return np.sum(np.log(mass / (2 * half)), axis=-1)
    return np.sum(stats.norm.logpdf(z, 0, (m**2 * np.asarray(law.variance) + v) ** 0.5), axis=-1)


@pytest.mark.parametrize("law", range(3))
@pytest.mark.parametrize("t", [0.03, 0.5, 5.0])
@pytest.mark.usefixtures("x64")
def test_scores_are_differences_of_the_log_density(law, t):
    latent, process, h = _laws()[law], fsd.VP.constant(1.5), 1e-5
    z = np.random.default_rng(0).uniform(-2, 2, (6, 2))
    m, v = np.exp(-0.75 * t), -np.expm1(-1.5 * t)
    numeric = np.stack(
        [(_log_density(latent, z + h * e, m, v) - _log_density(latent, z - h * e, m, v)) / (2 * h)
         for e in np.eye(2)], axis=-1,
    )  # fmt: skip
    np.testing.assert_allclose(
        latent.score(jnp.asarray(z), t, process), numeric, rtol=2e-5, atol=1e-8
    )


@pytest.mark.parametrize("law", range(3))
def test_moments_and_levels(law):
    latent, n = _laws()[law], 40_000
    assert isinstance(latent, Latent)
    z = np.asarray(latent.sample(jax.random.key(3), n), np.float64)
    products = z[:, :, None] * z[:, None, :]
    off = products.mean(axis=0) - np.asarray(latent.second_moment())
    assert np.all(np.abs(off) < 5 * products.std(axis=0) / n**0.5 + 1e-6)
    # Times of the batch's shape are times one by one.
    points, times = jnp.asarray(z[:3], jnp.float32), jnp.array([0.1, 1.0, 3.0])
    rows = [latent.score(points[i], times[i]) for i in range(3)]
    np.testing.assert_allclose(latent.score(points, times), jnp.stack(rows), rtol=1e-5)


@pytest.mark.parametrize("law", range(3))
@pytest.mark.parametrize("t", [1e-6, 1e-3, 10.0])
def test_single_precision_suffices_where_the_process_goes(law, t):
    latent = _laws()[law]
    keys = jax.random.split(jax.random.key(5))
    noise = jnp.sqrt(fsd.VP().noise_variance(t)) * jax.random.normal(keys[1], (500, 2))
    z = np.asarray(fsd.VP().signal(t) * latent.sample(keys[0], 500) + noise)
    single = np.asarray(latent.score(jnp.asarray(z), t))
    with jax.enable_x64(True):
        double = np.asarray(_laws()[law].score(jnp.asarray(z, jnp.float64), t))
    assert np.all(np.isfinite(single))
    # Rounding z moves the score by its slope, at most 10 or, at sharp edges, 1/t. The uniform
    # law's mass is a difference of tails at m half_width/sigma from each other: .01 at t = 10.
    slope = 10.0 if law < 2 else max(1 / t, np.exp(t / 2))
    room = 1e-4 * np.abs(double) + 1e-6 * slope * (1 + np.abs(z))
    assert np.all(np.abs(single - double) < room)


def test_constants_of_the_assumptions():
    key, times = jax.random.key(0), [1e-4, 1e-2, 1.0]
    gaussian, mixture, uniform = (
        fsd.latent_constants(key, latent, times=times, n=200) for latent in _laws()
    )
    assert np.isclose(gaussian.c_0, 0.5)
    assert np.isclose(gaussian.C_Z, 2.5)
    t = np.array(times)
    np.testing.assert_allclose(gaussian.lipschitz, 1 / (np.exp(-t) * 0.5 - np.expm1(-t)), rtol=1e-5)
    # At least the stiffest component's slope, and no growth as t falls: Assumption 4.2 holds.
    assert 10 * 0.9 < mixture.lipschitz[0] < 1.5 * mixture.lipschitz[1]
    # Sharp edges: the slope at the edge is about 1/t, so there is no beta.
    assert uniform.lipschitz[0] > 20 * uniform.lipschitz[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(weights=[1.0, -1.0, 1.0]), "weights must be positive"),
        (dict(means=[[0.0, 0.0]]), "one row for each weight"),
        (dict(covariances=np.ones((3, 2))), "symmetric matrices 2 x 2"),
        (dict(covariances=[0.1, 0.0, 0.1]), "positive definite"),
    ],
)
def test_bad_mixtures(change, message):
    with pytest.raises(ValueError, match=message):
        fsd.GaussianMixture.create(**(MIXTURE | change))


def test_laws_with_a_smooth_density_have_a_score_without_noise():
    z = jnp.array([1.0, 2.0])
    plain = fsd.GaussianLatent.create(2, [4.0, 1.0])
    np.testing.assert_allclose(plain.score(z, 0.0), [-0.25, -2.0])
    np.testing.assert_allclose(plain.score_at(z, 1.0, 0.0), [-0.25, -2.0])
    with pytest.raises(ValueError, match="t must be positive"):
        fsd.UniformLatent.create(2, 1.0).score(z, 0.0)
