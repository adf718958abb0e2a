"""Second moments by every route against dense float64 matrices of the numbers that were passed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import fsd_jax as fsd
from fsd_jax import _sums
from tests import reference
from tests.properties import strategies as draw

EPS = draw.EPS
DIGITS = 1e-5
"""Promised share of the largest eigenvalue: 84 eps, for sums and products of 40 terms, a
decomposition and a product back, each of which may lose ``sqrt(40)`` eps and more."""
ROUTES = {draw.TALL: "gram", draw.WIDE: "auto"}
"""Masked samples go the other way, by SVD; each combination is one more compilation."""
MEAN = 1e-6
"""Promised share of |mean| + std: 8 eps."""


def _eps(x):
    """Of the numbers as they are passed: float64 is centred before it is narrowed."""
    return np.finfo(np.float64).eps if np.asarray(x).dtype == np.float64 else EPS


def _check(moment, exact, *, centre, eps=EPS):
    """The dense matrix, hence values and basis together, without asking for gaps."""
    C = reference.second_moment(exact, centre=centre)
    top = np.linalg.eigvalsh(C)[-1]
    # A centred direction counts above the rounding of what was subtracted (`Centring.noise`).
    spread = 1 + (exact.shape[1] / len(exact)) ** 0.5
    cut = (4 * eps * spread * np.abs(exact).max()) ** 2 if centre else 0
    allowed = DIGITS * top + cut
    U, values = (np.asarray(a, np.float64) for a in (moment.basis, moment.values))
    expected = reference.eigenpairs(C)[0][: len(values)]
    np.testing.assert_allclose(values, np.maximum(expected, 0), rtol=0, atol=allowed)
    np.testing.assert_allclose(U @ np.diag(values) @ U.T, C, rtol=0, atol=allowed)
    np.testing.assert_allclose(moment.total, np.trace(C), rtol=0, atol=len(values) * allowed)
    assert np.all(np.diff(values) <= 0)
    assert np.all(values >= 0)
    assert np.sum(values > 0) <= len(exact) - centre
    assert int(moment.count) == len(exact)
    if centre:
        # What counts exceeds the rounding of the numbers as they were passed.
        least = eps * np.abs(exact.mean(axis=0)).min()
        assert np.all(values[values > 0] > least**2)
        mean = exact.mean(axis=0)
        error = np.abs(np.asarray(moment.mean, np.float64) - mean)
        assert np.all(error <= MEAN * (np.abs(mean) + exact.std(axis=0)))


@given(draw.samples(), st.booleans())
def test_from_samples(x, centre):
    _check(
        fsd.SecondMoment.from_samples(x.given, route=ROUTES[x.exact.shape], centre=centre),
        x.exact,
        centre=centre,
    )


@given(draw.samples(shapes=(draw.TALL,)), st.booleans(), st.data())
def test_from_samples_masked(x, centre, data):
    """Rows that do not count may hold anything."""
    mask = data.draw(draw.masks(len(x.exact)))
    rows = np.array(x.given)
    rows[~mask] = np.nan
    moment = fsd.SecondMoment.from_samples(rows, mask=mask, centre=centre, route="svd")
    _check(moment, x.exact[mask], centre=centre, eps=_eps(x.given))


@given(draw.samples(shapes=(draw.TALL,)), st.booleans())
def test_from_batches(x, centre):
    """A stream of equal batches; its merges are as many decompositions more."""
    batches = np.split(np.asarray(x.given), 4)
    moment = fsd.SecondMoment.from_batches(batches, rank=x.exact.shape[1], centre=centre)
    _check(moment, x.exact, centre=centre, eps=_eps(x.given))


@given(draw.samples(shapes=(draw.TALL,), offset=st.just(0.0)))
def test_from_covariance(x):
    """A float32 matrix has eigenvalues that are right to a few eps of the largest."""
    C = reference.second_moment(x.exact).astype(np.float32)
    moment = fsd.SecondMoment.from_covariance(C)
    values, vectors = (np.asarray(a, np.float64) for a in (moment.values, moment.basis))
    top = np.linalg.eigvalsh(C.astype(np.float64))[-1]
    np.testing.assert_allclose(vectors @ np.diag(values) @ vectors.T, C, rtol=0, atol=DIGITS * top)


@given(draw.samples())
def test_mean_of_rows(x):
    found = np.asarray(_sums.mean_of_rows(np.asarray(x.given, np.float32)), np.float64)
    rows = np.asarray(x.given, np.float32).astype(np.float64)
    size = np.abs(rows.mean(axis=0)) + rows.std(axis=0)
    assert np.all(np.abs(found - rows.mean(axis=0)) <= MEAN * size)


@given(draw.seeds, draw.scales, draw.offsets)
def test_total_of_a_long_vector(seed, scale, offset):
    """Two levels of groups of 64: at most ``2 x 64`` additions touch a number."""
    x = np.random.default_rng(seed).normal(offset, 1, 3000) * scale
    x = x.astype(np.float32)
    exact = x.astype(np.float64)
    allowed = 64 * EPS * np.sum(np.abs(exact))
    assert abs(float(_sums.total(x)) - exact.sum()) <= allowed
