"""Closed forms and the loss against dense float64 matrices."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fsd_jax as fsd
from tests import reference
from tests.properties import strategies as draw

EPS = draw.EPS
ROOM = 100 * EPS
"""A moment is right to 84 eps of its largest eigenvalue, and a loss is linear in it."""
times = st.floats(-2, 1).map(lambda e: float(np.float32(10.0**e)))
variances = st.floats(-2, 2).map(lambda e: float(np.float32(10.0**e)))
# The noise has scale one, so data far from it leave nothing to compare.
units = st.floats(-2, 2).map(lambda e: 10.0**e)


def _moment(x, unit):
    rows = (x.exact / np.abs(x.exact).max() * unit).astype(np.float32)
    moment = fsd.SecondMoment.from_samples(rows, route="svd")
    return moment, reference.second_moment(rows)


@given(draw.samples(), units, variances, times)
def test_rank_minimiser_reaches_the_least_loss(x, unit, variance, t):
    """Eigenvalues within 84 eps of the largest give a loss that is as near."""
    moment, C = _moment(x, unit)
    found = fsd.rank_minimizer(
        moment, latent_variance=variance, latent_dim=draw.LATENT, time=t, throw=False
    )
    P = reference.rank_minimiser(C, variance, draw.LATENT, t)
    V = np.asarray(found.decoder, np.float64)
    ours = reference.loss(V, C, variance, t, 1.0)
    values, vectors = reference.eigenpairs((P + P.T) / 2)
    best = vectors[:, : draw.LATENT] * np.sqrt(np.maximum(values[: draw.LATENT], 0))
    least = reference.loss(best, C, variance, t, 1.0)
    scale = reference.loss(np.zeros_like(V), C, variance, t, 1.0)
    assert abs(ours - least) <= ROOM * scale


@given(draw.samples(), units)
def test_orthonormal_minimiser_keeps_the_largest_variance(x, unit):
    """``tr(V'CV)`` is the sum of the largest eigenvalues, whatever the gaps."""
    moment, C = _moment(x, unit)
    found = fsd.orthonormal_minimizer(moment, latent_dim=draw.LATENT, throw=False)
    V = np.asarray(found.decoder, np.float64)
    alive = np.linalg.norm(V, axis=0) > 0.5
    np.testing.assert_allclose((V.T @ V), np.diag(alive.astype(float)), rtol=0, atol=ROOM)
    top = reference.eigenpairs(C)[0]
    kept = np.trace(V.T @ C @ V)
    assert abs(kept - top[: draw.LATENT].sum()) <= draw.LATENT * ROOM * top[0]


@given(draw.samples(), units, variances, times, draw.seeds)
def test_expected_loss(x, unit, variance, t, seed):
    """A sum of squares of ``V`` and the data: each term is right to a few eps of the largest."""
    moment, C = _moment(x, unit)
    V = np.random.default_rng(seed).normal(size=(len(C), draw.LATENT)).astype(np.float32)
    exact = reference.loss(V, C, variance, t, 1.0)
    found = float(fsd.expected_loss(V, moment, latent_variance=variance, time=t))
    m2, s2 = reference.levels(t)
    W = np.linalg.norm(V, 2) ** 2 * reference.gains(variance, t)
    size = (m2 * np.trace(C) * (1 + W) ** 2 + s2 * draw.LATENT * W**2) / s2**2
    assert abs(found - exact) <= ROOM * size
