"""What float32 keeps of scores and their errors as ``t -> 0``, and wrong arguments."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import _normal
from tests import reference

EPS = float(np.finfo(np.float32).eps)


def _problem(d, tau2):
    return fsd.LinearProblem.random(
        jax.random.key(0), ambient_dim=40, latent_dim=d, latent_variance=1.0,
        residual_variance=tau2,
    )  # fmt: skip


# --- the error of a score -------------------------------------------------------------------------


@pytest.mark.parametrize("tau2", [0.0, 0.1])
def test_floor_of_the_score_error(tau2):
    """Reports A.11: 3e-13/t^2; what is left is a basis known to eps, once per direction."""
    d = 8
    problem = _problem(d, tau2)
    law = problem.target_law
    score = fsd.LinearScore.from_decoder(
        law.basis, latent_variance=law.variance, residual_variance=tau2
    )
    for t in (1e-6, 1e-3, 0.1):
        found = float(fsd.score_error(score, problem, time=t))
        assert found < 1e-14 * d * (1 + tau2) / t**2


@pytest.mark.parametrize("t", [1e-4, 1e-2, 1.0])
def test_score_error_in_float32_against_float64(t):
    problem = _problem(3, 0.2)
    rng = np.random.default_rng(0)
    turned = np.linalg.qr(np.asarray(problem.A_ta) + 0.02 * rng.normal(size=(40, 3)))[0]
    score = fsd.LinearScore.from_decoder(
        turned.astype(np.float32), latent_variance=[1.1, 0.8, 1.3], residual_variance=0.21,
        mean=0.1 * rng.normal(size=40).astype(np.float32),
    )  # fmt: skip
    law = problem.target_law
    V, U = (np.asarray(a, np.float64) for a in (score.decoder, score.basis))
    exact = reference.score_error(
        lambda t: reference.score_matrix(V, [1.1, 0.8, 1.3], 0.21, t, U),
        np.asarray(score.mean, np.float64), np.zeros(40), reference.thin_covariance(law), t, 1.0,
    )  # fmt: skip
    found = fsd.score_error(score, problem, time=t)
    np.testing.assert_allclose(found, exact, rtol=1e-4)


def test_gradient_of_the_score_error_where_the_scores_coincide():
    problem = _problem(3, 0.2)
    law = problem.target_law
    score = fsd.LinearScore.from_decoder(
        law.basis, latent_variance=law.variance, residual_variance=0.2
    )
    gradient = jax.grad(lambda score: fsd.score_error(score, problem, time=0.1))(score)
    for leaf in jax.tree.leaves(gradient):
        # Second derivatives are about 2 v/r^2, with r = .27.
        np.testing.assert_allclose(leaf, 0, atol=1e4 * EPS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"basis": jnp.ones((40, 3))}, r"score\.basis must have orthonormal"),
        ({"mean": jnp.zeros(39)}, r"score\.mean must have shape \(40,\)"),
        ({"latent_variance": jnp.ones(2)}, r"score\.mixing must have shape \(3, 2\)"),
        ({"mixing": jnp.full((3, 3), jnp.nan)}, "score has NaN"),
        ({"basis": jnp.ones((2, 40, 3))}, "score must be one score"),
    ],
)
def test_scores_that_do_not_fit_are_refused(change, message):
    problem = _problem(3, 0.2)
    score = fsd.LinearScore.from_decoder(problem.A_ta, latent_variance=1.0)
    with pytest.raises(ValueError, match=message):
        fsd.score_error(dataclasses.replace(score, **change), problem, time=0.1)


# --- subspaces ------------------------------------------------------------------------------------


def test_subspaces_that_do_not_fit_are_refused():
    """Reports H: ``subspace_error(V, V[:5])`` was a raw dot_general."""
    V = np.eye(8, 3, dtype=np.float32)
    for call in (fsd.subspace_error, fsd.principal_angles):
        with pytest.raises(ValueError, match="same number D of rows"):
            call(V, V[:5])
        with pytest.raises(ValueError, match="must have orthonormal columns"):
            call(V, 2 * V)
        with pytest.raises(ValueError, match="must have 2 axes"):
            call(V[0], V)
        with pytest.raises(ValueError, match="must be a floating array"):
            call(V, np.eye(8, 3, dtype=int))
        traced = jax.vmap(lambda size, call=call: call(V, size * V))(jnp.array([1.0, 2.0]))
        assert list(np.isnan(traced.reshape(2, -1)[:, 0])) == [False, True]
    with pytest.raises(ValueError, match="decoder has NaN"):
        fsd.subspace_error(np.nan * V, V)


def test_a_zero_column_is_no_direction():
    A = np.eye(6, 3, dtype=np.float32)
    dead = A.copy()
    dead[:, 1] = 0
    thin = A[:, [0, 2]]
    assert float(fsd.subspace_error(A, dead)) == float(fsd.subspace_error(A, thin)) == 1
    np.testing.assert_allclose(fsd.principal_angles(A, dead), [0, 0, np.pi / 2], atol=1e-6)
    np.testing.assert_allclose(fsd.principal_angles(dead, A), [0, 0, np.pi / 2], atol=1e-6)


# --- laws that are not Gaussian -------------------------------------------------------------------


def test_uniform_score_far_outside():
    """Reports A.11: t = 1e-6, z = 100 gave -1.0e3."""
    latent = fsd.UniformLatent.create(1, 1.0)
    found = latent.score(jnp.array([[100.0], [-100.0]]), 1e-6)
    np.testing.assert_allclose(found.ravel(), [-9.826798e7, 9.826798e7], rtol=1e-6)


# centre, reach, mean of a standard normal between centre -+ reach: mpmath with 60 digits.
MEANS = [
    (100000.0, 1e-05, 99999.99999686965),
    (100000.0, 10000.0, 90000.00001111111),
    (0.01, 1e-05, 0.009999999999666666),
    (2.0, 0.3, 1.942063018175017),
    (5.0, 3.0, 2.373215532822684),
    (0.3, 10.0, 1.4738331475357013e-21),
    (0.5, 2.0, 0.12081049928159884),
    (40.0, 0.001, 39.99998666809045),
    (0.0, 1.0, 0.0),
    (1000.0, 999.0, 1.525135276160981),
]


@pytest.mark.parametrize(("centre", "reach", "exact"), MEANS)
def test_mean_of_a_truncated_normal(centre, reach, exact, dtype):
    eps = np.finfo(dtype).eps
    found = _normal.truncated_mean(jnp.asarray(centre, dtype), jnp.asarray(reach, dtype))
    # The two are rounded first: the mean moves by both, in its exponent by their product.
    slack = min(centre, 1) * reach if reach > centre else 0
    np.testing.assert_allclose(found, exact, rtol=(30 + 10 * slack) * eps, atol=1e-300)


def test_mills_ratio_against_scipy(dtype):
    special = pytest.importorskip("scipy.special")
    x = np.array([0, 0.5, 1, 3, 3.99, 4.01, 5, 10, 100, 1e5, 1e10]).astype(dtype)
    exact = np.sqrt(np.pi / 2) * special.erfcx(x.astype(np.float64) / np.sqrt(2))
    # exp(x^2/2) with x up to 4.
    np.testing.assert_allclose(
        _normal.mills_ratio(jnp.asarray(x)), exact, rtol=16 * np.finfo(dtype).eps
    )


def test_uniform_score_is_odd_and_has_a_slope_at_zero():
    latent = fsd.UniformLatent.create(1, 1.0)
    slope = jax.vmap(jax.grad(lambda z: latent.score(z[None], 1.0)[0]))
    found = slope(jnp.array([0.0, 1e-3, -1e-3]))
    np.testing.assert_allclose(found, found[0], rtol=1e-4)
    assert float(found[0]) < -0.5


def test_near_duplicates_are_told_apart():
    """Reports A.13: D = 12288, distance .03, t = 1e-5: share .5 of the duplicate, right 0."""
    rng = np.random.default_rng(0)
    points = rng.uniform(size=(10, 12288)).astype(np.float32)
    step = rng.normal(size=12288).astype(np.float32)
    step *= 0.03 / np.linalg.norm(step)
    points[1] = points[0] + step
    t = 1e-5
    score = fsd.EmpiricalScore.from_samples(points)
    noise = np.sqrt(-np.expm1(-t)) * rng.normal(size=(2, 12288)).astype(np.float32)
    x = np.float32(np.exp(-t / 2)) * points[[0, 0]] + noise * [[0], [1]]
    share = (np.asarray(score.denoise(x.astype(np.float32), t)) - points[0]) @ step / 0.03**2
    np.testing.assert_allclose(share, 0, atol=1e-4)


def test_many_near_duplicates_are_told_apart():
    """More than are looked at one by one: frames of a film."""
    rng = np.random.default_rng(1)
    base = rng.uniform(size=3000)
    points = (base + 0.03 / 3000**0.5 * rng.normal(size=(40, 3000))).astype(np.float32)
    score = fsd.EmpiricalScore.from_samples(np.concatenate([points, 5 + points[:5]]))
    found = score.denoise(points[3:5], 1e-6)
    np.testing.assert_allclose(found, points[3:5], atol=1e-6)


# --- kinds and times ------------------------------------------------------------------------------

X = np.ones((2, 5), np.float32)
DECODED = fsd.DecodedScore(
    decoder=np.eye(5, 2, dtype=np.float32), latent=lambda z, t: -z,
    residual_variance=np.float32(0.1), mean=np.zeros(5, np.float32), process=fsd.VP(),
)  # fmt: skip
SCORES = {
    "linear": lambda: fsd.LinearScore.from_decoder(
        np.eye(5, 2, dtype=np.float32), latent_variance=1
    ),
    "empirical": lambda: fsd.EmpiricalScore.from_samples(
        X + np.arange(2, dtype=np.float32)[:, None]
    ),
    "decoded": lambda: DECODED,
}


@pytest.mark.parametrize("method", ["__call__", "denoise"])
@pytest.mark.parametrize("name", SCORES)
def test_times_and_points_of_scores_are_checked(name, method):
    call = getattr(SCORES[name](), method)
    for t in (0.0, -1.0, np.nan, np.inf, 1e-42, jnp.float32(0), "now", None):
        with pytest.raises(ValueError, match="t must be"):
            call(X, t)
    with pytest.raises(ValueError, match="t must be one time or fit the batch"):
        call(X, np.ones(3))
    with pytest.raises(ValueError, match="x must have 5 entries"):
        call(X[:, :4], 0.5)
    with pytest.raises(ValueError, match="x must be a floating array"):
        call(X.astype(int), 0.5)
    traced = jax.jit(call)(X, jnp.array([0.5, -1.0]))
    assert list(np.isnan(traced[:, 0])) == [False, True]


def test_wrong_kinds_are_refused():
    V = np.eye(5, 2, dtype=np.float32)
    for call, message in (
        (lambda: fsd.LinearScore.from_minimizer(V, latent_variance=1.0), "minimizer must be a"),
        (
            lambda: fsd.LinearScore.from_decoder(V, latent_variance=1.0, process=1),
            "process must be",
        ),
        (lambda: fsd.LinearScore.from_decoder(V.T, latent_variance=1.0), "0 < d <= D"),
        (lambda: fsd.LinearScore.from_decoder(V * np.nan, latent_variance=1.0), "decoder has NaN"),
        (
            lambda: fsd.LinearScore.from_decoder(V, latent_variance=1.0, mean=np.ones(4)),
            "mean must have D = 5",
        ),
        (lambda: fsd.EmpiricalScore.from_samples(X, process="vp"), "process must be a VP"),
        (lambda: fsd.EmpiricalScore.from_samples(X * np.inf), "x has NaN"),
        (lambda: dataclasses.replace(DECODED, latent=3)(X, 0.5), "latent must be a function"),
        (
            lambda: dataclasses.replace(DECODED, latent=lambda z, t: z[0])(X, 0.5),
            "latent must return the shape of z",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
