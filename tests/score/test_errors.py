import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import fsd_jax as fsd
from tests import reference

pytestmark = pytest.mark.oldest

TIMES, WEIGHTS = np.array([0.1, 0.8]), np.array([0.7, 0.4])


def _problem(tau2=0.2, ambient=8, seed=0, mean_scale=1.0):
    return fsd.LinearProblem.random(
        jax.random.key(seed), ambient_dim=ambient, latent_dim=3,
        latent_variance=[2.0, 1.0, 0.5], residual_variance=tau2, mean_scale=mean_scale,
    )  # fmt: skip


def _score(ambient=8, tau2=0.1, d=3):
    rng = np.random.default_rng(5)
    V = rng.normal(size=(ambient, d))
    return fsd.LinearScore.from_decoder(
        jnp.asarray(V, float), latent_variance=1.3, residual_variance=tau2,
        mean=rng.normal(size=ambient),
    )  # fmt: skip


# --- subspaces ----------------------------------------------------------------------------------


def test_subspace_error_against_dense(dtype):
    rng = np.random.default_rng(0)
    V, A = rng.normal(size=(9, 3)), reference.random_orthonormal(rng, 9, 4)
    expected = np.linalg.norm(V @ V.T - A @ A.T) ** 2
    found = fsd.subspace_error(V.astype(dtype), A.astype(dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("angle", [1e-1, 1e-3, 1e-5])
def test_tiny_subspace_errors_keep_their_digits_in_float32(angle):
    A = np.eye(6, 2)
    B = A.copy()
    B[:, 0] = [np.cos(angle), 0, np.sin(angle), 0, 0, 0]
    found = fsd.subspace_error(B.astype(np.float32), A.astype(np.float32))
    np.testing.assert_allclose(found, 2 * np.sin(angle) ** 2, rtol=1e-4)


def test_subspace_error_of_a_subspace_with_itself_and_of_nothing():
    A = reference.random_orthonormal(np.random.default_rng(0), 9, 4).astype(np.float32)
    assert float(fsd.subspace_error(A, A)) < 1e-12
    np.testing.assert_allclose(fsd.subspace_error(0 * A, A), 4, rtol=1e-5)


@pytest.mark.parametrize(("d", "k"), [(3, 3), (2, 4), (4, 2), (1, 3)])
def test_principal_angles_against_scipy(d, k, dtype):
    rng = np.random.default_rng(d + 10 * k)
    a = reference.random_orthonormal(rng, 9, d)
    b = reference.random_orthonormal(rng, 9, k)
    found = fsd.principal_angles(a.astype(dtype), b.astype(dtype))
    expected = np.sort(scipy.linalg.subspace_angles(a, b))
    assert found.shape == (min(d, k),)
    np.testing.assert_allclose(found, expected, atol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("angle", [1e-6, 1e-4, 0.3, np.pi / 2 - 1e-3])
def test_tiny_angles_survive_float32(angle):
    a = np.eye(6, 2)
    b = a.copy()
    b[:, 0] = [np.cos(angle), 0, np.sin(angle), 0, 0, 0]
    found = fsd.principal_angles(a.astype(np.float32), b.astype(np.float32))
    np.testing.assert_allclose(np.max(found), angle, rtol=2e-4)
    # Unit vectors are stored to eps, and so are their angles.
    np.testing.assert_allclose(np.min(found), 0, atol=np.finfo(np.float32).eps)


def test_tiny_angles_between_generic_subspaces_in_float32():
    rng = np.random.default_rng(0)
    Q = reference.random_orthonormal(rng, 20, 4)
    for angle in (1e-6, 1e-5):
        b = np.stack([Q[:, 0], np.cos(angle) * Q[:, 1] + np.sin(angle) * Q[:, 2]], axis=1)
        found = fsd.principal_angles(Q[:, :2].astype(np.float32), b.astype(np.float32))
        # Rounding two bases of two columns moves the angle by half an eps for each column, and
        # finding it takes two products: four eps in all.
        np.testing.assert_allclose(np.max(found), angle, atol=4 * np.finfo(np.float32).eps)


@pytest.mark.result("R11")
def test_subspace_error_is_twice_the_squared_sines():
    rng = np.random.default_rng(3)
    a, b = (reference.random_orthonormal(rng, 9, 3).astype(np.float32) for _ in range(2))
    sines = np.sin(np.asarray(fsd.principal_angles(a, b)))
    np.testing.assert_allclose(fsd.subspace_error(a, b), 2 * np.sum(sines**2), rtol=1e-5)


# --- scores -------------------------------------------------------------------------------------


@pytest.mark.result("R11")
@pytest.mark.parametrize("tau2", [0.0, 0.2])
@pytest.mark.parametrize("ambient", [8, 4])
@pytest.mark.usefixtures("x64")
def test_score_error_against_dense(tau2, ambient):
    problem, score = _problem(tau2, ambient), _score(ambient)
    law = problem.target_law
    V, U = np.asarray(score.decoder), np.asarray(score.basis)
    expected = reference.score_error(
        lambda t: reference.score_matrix(V, 1.3, 0.1, t, U),
        np.asarray(score.mean), np.asarray(law.mean), reference.thin_covariance(law),
        TIMES, WEIGHTS,
    )  # fmt: skip
    found = fsd.score_error(score, problem, times=TIMES, weights=WEIGHTS)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_score_error_with_undetermined_directions():
    problem = _problem(0.1, mean_scale=0.0)
    moment = fsd.SecondMoment.from_samples(problem.sample_target(jax.random.key(1), 2))
    found = fsd.orthonormal_minimizer(moment, latent_dim=3)
    for tau2 in (0.0, 0.1):
        score = fsd.LinearScore.from_minimizer(found, latent_variance=1.0, residual_variance=tau2)
        law, basis = problem.target_law, np.asarray(found.basis)
        expected = reference.score_error(
            lambda t, tau2=tau2, basis=basis: reference.score_matrix(
                np.asarray(found.decoder), 1.0, tau2, t, basis
            ),
            np.zeros(8), np.zeros(8), reference.thin_covariance(law), TIMES, WEIGHTS,
        )  # fmt: skip
        error = fsd.score_error(score, problem, times=TIMES, weights=WEIGHTS)
        np.testing.assert_allclose(error, expected, rtol=1e-9)


@pytest.mark.result("R11")
@pytest.mark.parametrize("t", [0.1, 1.0])
def test_score_error_within_four_standard_errors_of_monte_carlo(t):
    problem, score = _problem(), _score()
    x = problem.target_law.diffuse(t).sample(jax.random.key(2), 8000)
    squares = np.asarray(
        jnp.sum((score(x, t) - problem.target_score(x, t)) ** 2, axis=1), np.float64
    )
    exact = float(fsd.score_error(score, problem, time=t))
    assert abs(squares.mean() - exact) < 4 * squares.std(ddof=1) / len(squares) ** 0.5


@pytest.mark.parametrize("t", [1e-3, 0.5])
def test_the_true_score_has_no_error_in_float32(t):
    problem = _problem(0.2)
    law = problem.target_law
    score = fsd.LinearScore.from_decoder(
        law.basis, latent_variance=1.0, residual_variance=0.2, mean=law.mean
    )
    # Columns of a QR may change sign but the mixing undoes it; variances per column do too.
    score = fsd.LinearScore.from_decoder(
        law.basis, latent_variance=law.variance, residual_variance=0.2, mean=law.mean
    )
    assert float(fsd.score_error(score, problem, time=t)) < 1e-4


@pytest.mark.result("R12")
@pytest.mark.usefixtures("x64")
def test_floor_of_the_papers_class():
    """R12: without a residual gain the error has a floor on the complement."""
    problem = _problem(0.04, mean_scale=0.0)
    law = problem.target_law
    score = fsd.LinearScore.from_decoder(law.basis, latent_variance=law.variance)
    for t in (0.01, 0.1):
        m2, s2 = reference.levels(t)
        floor = (8 - 3) * m2**2 * 0.04**2 / ((m2 * 0.04 + s2) * s2**2)
        np.testing.assert_allclose(fsd.score_error(score, problem, time=t), floor, rtol=1e-9)


@pytest.mark.result("R8")
@pytest.mark.usefixtures("x64")
def test_rank_minimizer_is_training_from_scratch():
    """R8: noise-free, at its own t, ``V G V'`` is the plug-in denoiser whatever the source said."""
    problem = _problem(0.0, mean_scale=0.0)
    moment = fsd.SecondMoment.from_samples(problem.sample_target(jax.random.key(1), 6))
    errors = []
    for lam2 in (0.3, 1.0, 5.0):
        found = fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=3, time=0.5)
        score = fsd.LinearScore.from_minimizer(found, latent_variance=lam2)
        errors.append(float(fsd.score_error(score, problem, time=0.5)))
    np.testing.assert_allclose(errors, errors[0], rtol=1e-9)


def test_a_score_that_is_not_linear_is_refused():
    with pytest.raises(ValueError, match="score"):
        fsd.score_error(np.tanh, _problem(), time=0.5)


# --- laws ---------------------------------------------------------------------------------------


def _laws(dtype=float):
    rng = np.random.default_rng(0)

    def law(k, variance, residual):
        return fsd.ThinGaussian(
            mean=jnp.asarray(rng.normal(size=7), dtype),
            basis=jnp.asarray(reference.random_orthonormal(rng, 7, k), dtype),
            variance=jnp.asarray(variance, dtype),
            residual_variance=jnp.asarray(residual, dtype),
        )

    return law(2, [2.0, 0.5], 0.3), law(3, [1.0, 0.7, 0.2], 0.4)


def _dense(p, q):
    return (
        np.asarray(p.mean), reference.thin_covariance(p),
        np.asarray(q.mean), reference.thin_covariance(q),
    )  # fmt: skip


@pytest.mark.result("KL and Bures W2 in the thin span")
def test_kl_and_w2_against_dense(dtype):
    p, q = _laws(dtype)
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    np.testing.assert_allclose(fsd.gaussian_kl(p, q), reference.kl(*_dense(p, q)), rtol=tolerance)
    np.testing.assert_allclose(
        fsd.bures_w2(p, q), reference.w2_squared(*_dense(p, q)), rtol=tolerance
    )


def test_distances_of_a_law_to_itself():
    p, _ = _laws()
    np.testing.assert_allclose(fsd.gaussian_kl(p, p), 0, atol=1e-5)
    np.testing.assert_allclose(fsd.bures_w2(p, p), 0, atol=1e-5)


@pytest.mark.result("KL and Bures W2 in the thin span")
@pytest.mark.usefixtures("x64")
def test_w2_of_singular_laws():
    problem = _problem(0.0)
    p, q = problem.source_law, problem.target_law
    tiny = 1e-12
    soft = [np.asarray(p.mean), reference.thin_covariance(p) + tiny * np.eye(8),
            np.asarray(q.mean), reference.thin_covariance(q) + tiny * np.eye(8)]  # fmt: skip
    np.testing.assert_allclose(fsd.bures_w2(p, q), reference.w2_squared(*soft), rtol=1e-4)
    assert not np.isfinite(fsd.gaussian_kl(p, q))
