import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import theory

D, SIZE = 12, dict(latent_dim=3, latent_variance=1.7)
WHEN = [dict(time=0.5), dict(times=np.array([0.1, 1.0]), weights=np.array([0.3, 0.9]))]


def _replicates(n_ta, n_s, when, replicates=600):
    """Errors of both estimators on drawn data, through the library's own estimators."""

    def one(key):
        world, target, source = jax.random.split(key, 3)
        problem = fsd.LinearProblem.random(world, ambient_dim=D, **SIZE)
        moment = fsd.SecondMoment.from_samples(
            problem.sample_target(target, n_ta), route="svd", throw=False
        )
        known = fsd.SecondMoment.from_samples(
            problem.sample_source(source, n_s), route="svd", throw=False
        )
        variance = fsd.pretrain(known, latent_dim=3, isotropic=True, throw=False).latent_variance[0]
        plug = fsd.rank_minimizer(
            moment, latent_variance=variance, latent_dim=3, time=when.get("time", 0.5), throw=False
        )
        found = fsd.orthonormal_minimizer(moment, latent_dim=3, throw=False)
        score = lambda m: fsd.LinearScore.from_minimizer(m, latent_variance=variance)
        return jnp.stack([fsd.score_error(score(m), problem, **when) for m in (plug, found)])

    keys = jax.random.split(jax.random.key(0), replicates)
    return np.asarray(jax.jit(lambda k: jax.lax.map(one, k))(keys))


@pytest.mark.result("R8")
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("n_ta", "n_s"), [(2, 5), (3, 20), (9, 20)])
def test_both_sides_of_the_gain_agree_with_data(n_ta, n_s):
    drawn = _replicates(n_ta, n_s, WHEN[0])
    for column, estimator in enumerate(("scratch", "orthonormal")):
        exact = theory.expected_score_error(
            n_ta=n_ta, n_s=n_s, estimator=estimator, **SIZE, **WHEN[0]
        )
        values = drawn[:, column]
        error = values.std(ddof=1) / len(values) ** 0.5
        # Noise-free directions that all were found have no spread but the source's.
        assert abs(values.mean() - exact) < 4 * error + 1e-10


@pytest.mark.usefixtures("x64")
def test_integrated_over_times():
    drawn = _replicates(5, 20, WHEN[1])[:, 1]
    exact = theory.expected_score_error(n_ta=5, n_s=20, **SIZE, **WHEN[1])
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / len(drawn) ** 0.5


def test_limits():
    size = dict(latent_dim=8, latent_variance=1.0, time=0.5)
    # A perfect source and enough directions: nothing is left.
    assert theory.expected_score_error(n_ta=8, **size) == 0
    # R8: 2 m^4/n_s for lambda^2 = 1.
    few = theory.expected_score_error(n_ta=8, n_s=10**6, **size)
    assert abs(few / (2 * np.exp(-1) / 1e6) - 1) < 1e-5
    # Each missing direction costs the same.
    missing = [theory.expected_score_error(n_ta=n, **size) for n in (2, 3, 4)]
    np.testing.assert_allclose(np.diff(missing, 2), 0, atol=1e-12)
    with pytest.raises(ValueError, match="estimator"):
        theory.expected_score_error(n_ta=2, estimator="pca", **size)
    with pytest.raises(ValueError, match="latent_variance"):
        theory.expected_score_error(n_ta=2, latent_dim=2, latent_variance=-1.0, time=0.5)


@pytest.mark.parametrize(("n_ta", "n_s"), [(3, None), (5, 20), (40, 20)])
def test_divergence_against_dense_gaussians(n_ta, n_s):
    d, t, variance, count = 5, 0.3, 1.7, 4000
    rng = np.random.default_rng(n_ta)
    m2, s2 = np.exp(-t), -np.expm1(-t)
    z = rng.standard_normal((count, n_ta, d)) * variance**0.5
    plug = m2 * np.einsum("rni,rnj->rij", z, z) / n_ta + s2 * np.eye(d)
    level = m2 * variance + s2
    _, logdet = np.linalg.slogdet(plug)
    trace = level * np.trace(np.linalg.inv(plug), axis1=1, axis2=2)
    scratch = (trace - d + logdet - d * np.log(level)) / 2
    lam2 = np.full(count, variance)
    if n_s:
        lam2 *= rng.chisquare(d * n_s, count) / (d * n_s)
    seen = min(d, n_ta)
    model = m2 * lam2 + s2
    few = seen * (level / model - 1 + np.log(model / level)) / 2
    few += (d - seen) * (level / s2 - 1 + np.log(s2 / level)) / 2
    size = dict(latent_dim=d, n_ta=n_ta, n_s=n_s, latent_variance=variance, time=t)
    for estimator, values in [("scratch", scratch), ("orthonormal", few)]:
        exact = theory.expected_kl(**size, estimator=estimator)
        assert abs(values.mean() - exact) < 4 * values.std() / count**0.5 + 1e-12


def test_divergence_of_many_samples_is_a_quarter_of_d_times_d_plus_one_over_n():
    # y has the mean square of a Wishart's deviation, and F is y^2/4 for small y.
    size = dict(latent_dim=6, latent_variance=2.0, time=0.5, estimator="scratch")
    share = 2 * np.exp(-0.5) / (2 * np.exp(-0.5) - np.expm1(-0.5))
    found = theory.expected_kl(n_ta=10**10, **size)
    assert abs(found / (share**2 * 6 * 7 / (4 * 10**10)) - 1) < 1e-6
