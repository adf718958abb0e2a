import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from tests import reference


def _problem(tau2=0.1, **kwargs):
    arguments = dict(
        ambient_dim=6, latent_dim=2, latent_variance=[2.0, 0.5], residual_variance=tau2,
        mean_scale=1.0,
    )  # fmt: skip
    return fsd.LinearProblem.random(jax.random.key(0), **(arguments | kwargs))


def test_bases_are_orthonormal_and_differ(dtype):
    problem = _problem()
    assert problem.A_s.dtype == dtype
    for A in (problem.A_s, problem.A_ta):
        np.testing.assert_allclose(A.T @ A, np.eye(2), atol=20 * np.finfo(dtype).eps)
    assert float(fsd.subspace_error(problem.A_s, problem.A_ta)) > 0.1


def test_law_is_the_one_of_assumption_3_1():
    problem = _problem()
    A = np.asarray(problem.A_ta, np.float64)
    dense = A @ np.diag([2.0, 0.5]) @ A.T + 0.1 * np.eye(6)
    np.testing.assert_allclose(reference.thin_covariance(problem.target_law), dense, atol=1e-6)
    np.testing.assert_allclose(problem.target_law.trace, np.trace(dense), rtol=1e-6)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("tau2", [0.0, 0.1])
def test_sample_moments_within_five_standard_errors(side, tau2):
    problem = _problem(tau2)
    law = getattr(problem, f"{side}_law")
    n = 20_000
    x = np.asarray(getattr(problem, f"sample_{side}")(jax.random.key(1), n), np.float64)
    C = reference.thin_covariance(law)
    spread = np.diag(C)
    assert np.all(np.abs(x.mean(axis=0) - law.mean) < 5 * np.sqrt(spread / n))
    standard_error = np.sqrt((np.outer(spread, spread) + C**2) / n)
    found = np.cov(x.T, bias=True)
    assert np.all(np.abs(found - C) < 5 * standard_error)


def test_without_residual_samples_lie_in_the_subspace():
    problem = _problem(0.0, mean_scale=0.0)
    x = problem.sample_target(jax.random.key(1), 5)
    np.testing.assert_allclose(x @ problem.A_ta @ problem.A_ta.T, x, atol=1e-5)


@pytest.mark.result("Model and process")
@pytest.mark.parametrize("tau2", [0.0, 0.3])
@pytest.mark.parametrize("t", [0.05, 1.0])
@pytest.mark.usefixtures("x64")
def test_target_score_against_dense_and_autodiff(tau2, t):
    problem = _problem(tau2)
    x = jax.random.normal(jax.random.key(2), (3, 6))
    mean, S = reference.diffused(
        np.asarray(problem.mean_ta), reference.thin_covariance(problem.target_law), t
    )
    found = problem.target_score(x, t)
    np.testing.assert_allclose(found, reference.gaussian_score(x, mean, S), rtol=1e-9)
    log_density = lambda y: jax.scipy.stats.multivariate_normal.logpdf(
        y, jnp.asarray(mean), jnp.asarray(S)
    )
    np.testing.assert_allclose(found, jax.vmap(jax.grad(log_density))(x), rtol=1e-8)


def test_target_score_uses_the_process():
    problem = _problem()
    x = jnp.ones(6)
    np.testing.assert_allclose(
        problem.target_score(x, 0.5, fsd.VP.constant(2.0)),
        problem.target_score(x, 1.0),
        rtol=1e-5,
    )


def test_score_is_finite_in_float32_at_a_tiny_time():
    score = _problem(0.0).target_score(jnp.ones(6), jnp.float32(1e-6))
    assert np.all(np.isfinite(score))


def test_diffused_trace_ignores_no_direction():
    law = _problem().target_law.diffuse(0.7)
    np.testing.assert_allclose(law.trace, np.trace(reference.thin_covariance(law)), rtol=1e-6)


def _padded(law):
    return fsd.ThinGaussian(
        mean=law.mean,
        basis=jnp.pad(law.basis, ((0, 0), (0, 1))),
        variance=jnp.append(law.variance, 7.0),
        residual_variance=law.residual_variance,
    )


def test_zero_columns_of_a_thin_gaussian_mean_nothing():
    law = _problem().target_law
    padded, x = _padded(law), jnp.ones((1, 6))
    np.testing.assert_allclose(padded.score(x), law.score(x), rtol=1e-6)
    np.testing.assert_allclose(fsd.bures_w2(padded, law), 0, atol=1e-5)


def test_zero_columns_of_a_thin_gaussian_do_not_count_in_the_trace():
    law = _problem().target_law
    np.testing.assert_allclose(_padded(law).trace, law.trace, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (dict(ambient_dim=0), "ambient_dim"),
        (dict(ambient_dim=6.0), "ambient_dim"),
        (dict(latent_dim=7), "latent_dim"),
        (dict(latent_dim=True), "latent_dim"),
        (dict(latent_variance=-1.0), "latent_variance"),
        (dict(latent_variance=[1.0, 1.0, 1.0]), "latent_variance"),
        (dict(residual_variance=-0.1), "residual_variance"),
        (dict(residual_variance=[0.1]), "residual_variance"),
    ],
)
def test_errors_name_the_argument(change, name):
    with pytest.raises(ValueError, match=name):
        _problem(**change)


@pytest.mark.parametrize("n", [0, 2.5, False])
def test_sample_size_is_checked(n):
    with pytest.raises(ValueError, match="n must be"):
        _problem().sample_target(jax.random.key(0), n)


@pytest.mark.usefixtures("x64")
def test_any_latent_in_its_subspace():
    latent = fsd.GaussianMixture.create([1.0, 1.0], [[-1.0, 0.0], [1.0, 1.0]], [0.2, 0.4])
    problem = fsd.LinearProblem.with_latent(
        jax.random.key(0), latent, ambient_dim=6, residual_variance=0.3
    )
    # The residual is noise that is there from the start: a mixture in R^6 of as many components.
    cov = np.einsum("k,ij->kij", [0.2, 0.4], problem.A_ta @ problem.A_ta.T) + 0.3 * np.eye(6)
    dense = fsd.GaussianMixture.create([1.0, 1.0], latent.means @ problem.A_ta.T, cov)
    x = jax.random.normal(jax.random.key(1), (5, 6))
    np.testing.assert_allclose(problem.target_score(x, 0.4), dense.score(x, 0.4), rtol=1e-9)
    n = 20_000
    drawn = np.asarray(problem.sample_target(jax.random.key(2), n))
    products = drawn[:, :, None] * drawn[:, None, :]
    off = products.mean(axis=0) - np.asarray(dense.second_moment())
    assert np.all(np.abs(off) < 5 * products.std(axis=0) / n**0.5)
    with pytest.raises(ValueError, match="needs a Gaussian latent, got GaussianMixture"):
        problem.target_law  # noqa: B018
