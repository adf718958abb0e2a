"""Measures of pictures and the search for repeated ones against all differences in float64."""

import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from fsd_jax.fewshot import duplicates
from fsd_jax.image import metrics
from tests import reference
from tests.properties import strategies as draw

EPS64 = float(np.finfo(np.float64).eps)
FULL = st.just("full")


@given(draw.samples(shapes=(draw.WIDE,)), draw.seeds, st.booleans())
def test_distances_and_memorised_share(x, seed, repeated):
    """Differences of the numbers as passed: what float64 subtracts is exact to eps of the size."""
    rng = np.random.default_rng(seed)
    train = x.exact[: len(x.exact) // 2 + 1]
    spread = np.std(x.exact)
    train = train + spread * rng.normal(size=train.shape)
    samples = np.concatenate([train[:2], train[:2] + 1e-3 * spread, x.exact])
    expected = reference.nearest_distances(samples, train)
    size = np.abs(samples).max() + np.abs(train).max()
    allowed = 4 * EPS64 * size * train.shape[1] ** 0.5
    given_train = np.concatenate([train, train[:2]]) if repeated else train
    found = metrics.nearest_distances(samples, given_train)
    # A tie among far points may hide a nearer one by the share TIE of its square.
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=allowed)
    near = metrics.nearest_distance(samples, given_train, draws=0)
    np.testing.assert_allclose(near.value, expected[:, 0].mean(), rtol=1e-10, atol=allowed)
    clear = np.abs(3 * expected[:, 0] - expected[:, 1]) > 8 * allowed + 1e-9 * expected[:, 1]
    if clear.all():
        share = metrics.memorised_fraction(samples, given_train, draws=0)
        assert share.value == np.mean(3 * expected[:, 0] < expected[:, 1])


@given(draw.samples(shapes=(draw.TALL,)), draw.samples(shapes=(draw.TALL,)))
def test_frechet_distance(x, y):
    """A sum of squares: each length in it is off by a few eps of what is subtracted.

    The reference subtracts traces, so it is off by a few eps of those too.
    """
    unit = np.abs(y.exact).max() / np.abs(x.exact).max()
    moved = x.exact * unit
    exact = reference.frechet_distance(moved, y.exact)
    found = metrics.frechet_distance(moved, y.given, draws=0).value
    size = np.abs(y.exact).max() * y.exact.shape[1] ** 0.5
    traces = sum(np.trace(np.cov(a.T)) for a in (moved, y.exact))
    slack = 40 * EPS64 * size
    allowed = 2 * abs(exact) ** 0.5 * slack + slack**2 + 40 * EPS64 * traces
    assert abs(found - exact) <= allowed


@given(
    draw.samples(shapes=(draw.WIDE,), offset=st.sampled_from([0.0, 1.0, 100.0]), kinds=FULL),
    st.lists(st.integers(0, 5), min_size=6, max_size=6),
    st.booleans(),
)
def test_groups_of_repeated_rows(x, source, near):
    """Rows of 40 normal numbers are never near by chance; copies and near copies always are."""
    # Near means near for the spread: it needs two pictures, and a spread far above the rounding.
    assume(not near or (x.offset <= 1 and len(set(source)) > 1))
    rows = x.exact[source].astype(np.float32)
    if near:
        rows[1:] *= np.float32(1 + 2 * draw.EPS)
    labels = duplicates.concrete_labels(jnp.asarray(rows), duplicates.scale_of(jnp.asarray(rows)))
    np.testing.assert_array_equal(labels, [source.index(s) for s in source])
