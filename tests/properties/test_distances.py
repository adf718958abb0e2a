"""Errors of subspaces and scores, and distances between laws, against dense float64 matrices."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fsd_jax as fsd
from tests import reference
from tests.properties import strategies as draw

EPS = draw.EPS
ROOM = 100 * EPS
"""A dozen products of 12 terms and a decomposition, each of which loses a few eps: 1.2e-5."""
D, K = draw.AMBIENT, draw.LATENT
times = st.floats(-2, 1).map(lambda e: float(np.float32(10.0**e)))
angles = st.one_of(st.just(0.0), st.floats(-5, 0).map(lambda e: 10.0**e))


def _bases(rng, angle):
    """Two orthonormal bases, the second turned by about `angle`."""
    first = draw.orthonormal(rng)
    second = np.linalg.qr(first + angle * rng.normal(size=(D, K)))[0].astype(np.float32)
    return first, second


def _laws(rng, angle, scale):
    laws = []
    for frame in _bases(rng, angle):
        parts = (
            scale * rng.normal(size=D), frame, scale**2 * rng.uniform(0.5, 4, K),
            scale**2 * rng.uniform(0.1, 1),
        )  # fmt: skip
        mean, basis, variance, residual = (jnp.asarray(a, jnp.float32) for a in parts)
        laws.append(
            fsd.ThinGaussian(mean=mean, basis=basis, variance=variance, residual_variance=residual)
        )
    dense = [(np.asarray(a.mean, np.float64), reference.thin_covariance(a)) for a in laws]
    return laws, dense


@given(draw.seeds, angles, st.floats(-3, 3).map(lambda e: 10.0**e))
def test_subspace_error(seed, angle, scale):
    """Small errors keep their digits; a basis known to eps is off by eps for each column."""
    first, second = _bases(np.random.default_rng(seed), angle)
    decoder = (scale * second).astype(np.float32)
    exact = reference.subspace_error(decoder, first)
    found = float(fsd.subspace_error(decoder, first))
    # The error is a squared length, known to eps times that of VV' and AA'.
    slack = 8 * EPS * (scale**2 + 1) * K**0.5
    assert abs(found - exact) <= ROOM * exact + 2 * exact**0.5 * slack + slack**2


@given(draw.seeds, angles)
def test_principal_angles(seed, angle):
    """An angle is off by what its bases are off: a few eps for each column, never their root."""
    first, second = _bases(np.random.default_rng(seed), angle)
    exact = reference.principal_angles(first, second)
    np.testing.assert_allclose(fsd.principal_angles(first, second), exact, rtol=ROOM, atol=ROOM)


@given(draw.seeds, angles, st.floats(-6, 6).map(lambda e: 10.0**e))
def test_distances_between_laws(seed, angle, scale):
    """Neither cancels; the float64 references lose 1e-8 of the traces to a matrix root."""
    (p, q), ((mean_p, P), (mean_q, Q)) = _laws(np.random.default_rng(seed), angle, scale)
    np.testing.assert_allclose(fsd.gaussian_kl(p, q), reference.kl(mean_p, P, mean_q, Q), rtol=ROOM)
    exact = reference.w2_squared(mean_p, P, mean_q, Q)
    np.testing.assert_allclose(fsd.bures_w2(p, q), exact, rtol=ROOM, atol=1e-8 * np.trace(P + Q))


@given(draw.seeds, angles, times)
def test_linear_score_and_its_error(seed, angle, t):
    """A score is a length over ``s2``, so eps of that of its points; its error is squared."""
    rng = np.random.default_rng(seed)
    (p, q), ((mean_p, _), (mean_q, _)) = _laws(rng, angle, 1.0)
    score = fsd.LinearScore.from_decoder(
        q.basis, latent_variance=q.variance, residual_variance=q.residual_variance, mean=q.mean
    )
    U, V = (np.asarray(a, np.float64) for a in (score.basis, score.decoder))
    lam2, tau2 = np.asarray(q.variance, np.float64), float(q.residual_variance)

    def matrix(t):
        return reference.score_matrix(V, lam2, tau2, t, U)

    m2, s2 = reference.levels(t)
    x = rng.normal(size=(5, D)).astype(np.float32)
    y = x - m2**0.5 * mean_q
    allowed = ROOM * np.linalg.norm(y, axis=1).max() / s2
    np.testing.assert_allclose(
        jax.jit(fsd.LinearScore.__call__)(score, x, t), y @ matrix(t).T, rtol=0, atol=allowed
    )
    problem = fsd.LinearProblem(
        A_s=p.basis, A_ta=p.basis, latent=fsd.GaussianLatent(variance=p.variance),
        residual_variance=jnp.zeros(()), mean_s=p.mean, mean_ta=p.mean,
    )  # fmt: skip
    law = problem.target_law
    truth = reference.thin_covariance(law)
    exact = reference.score_error(matrix, mean_q, mean_p, truth, t, 1.0)
    found = float(fsd.score_error(score, problem, time=t))
    floor = K * 4 * 1e-14 / min(t, 1) ** 2
    assert abs(found - exact) <= ROOM * exact + floor
