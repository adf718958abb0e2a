"""Moments of real arrays: long sums, large means, repeated rows, tiny and huge scales.

The right values are those of float64 on the same entries. In float32, over any number of rows and
for means up to 10^4 times the spread: means to 1e-6 of mean and spread together, eigenvalues and
traces to 1e-5 of the largest.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import SecondMoment, Status, _linalg, _routes, _sums
from tests import reference


def _right(x, *, centre=True):
    wide = np.asarray(x, np.float64)
    values = reference.eigenpairs(reference.second_moment(wide, centre=centre))[0]
    return values, wide.mean(axis=0)


def _agree(moment, x, *, centre=True):
    values, mean = _right(x, centre=centre)
    k = moment.values.shape[0]
    np.testing.assert_allclose(moment.values, values[:k], atol=1e-5 * values[0], rtol=0)
    np.testing.assert_allclose(moment.total, values.sum(), rtol=1e-5)
    if centre:
        spread = np.asarray(x, np.float64).std(axis=0)
        assert np.all(np.abs(moment.mean - mean) <= 1e-6 * (np.abs(mean) + spread))


def _streamed(x, rank, **kwargs):
    return SecondMoment.from_batches(np.array_split(x, 7), rank=rank, **kwargs)


# --- long sums (scikit-learn 12333, numpy 29772) ------------------------------------------------


@pytest.mark.parametrize("route", ["auto", "gram", "svd"])
def test_a_hundred_thousand_rows_near_a_thousand(route):
    rng = np.random.default_rng(0)
    x = (1000 + rng.normal(size=(100_000, 3))).astype(np.float32)
    moment = SecondMoment.from_samples(x, centre=True, route=route)
    _agree(moment, x)
    assert int(moment.status) == Status.OK
    _agree(_streamed(x, 3, centre=True), x)


@pytest.mark.parametrize("ratio", [1e2, 1e4])
def test_means_far_above_the_spread(ratio):
    rng = np.random.default_rng(1)
    x = (ratio * rng.uniform(1, 2, size=4) + rng.normal(size=(20_000, 4))).astype(np.float32)
    keep = rng.uniform(size=len(x)) < 0.7
    keep[:300] = False
    _agree(SecondMoment.from_samples(x, centre=True), x)
    _agree(_streamed(x, 4, centre=True), x)
    _agree(SecondMoment.from_samples(x, centre=True, mask=keep), x[keep])


def test_kelvins_and_ones():
    rng = np.random.default_rng(2)
    kelvin = rng.uniform(250, 320, size=(4_000_000, 2)).astype(np.float32)
    _agree(SecondMoment.from_samples(kelvin, centre=True), kelvin)
    _agree(SecondMoment.from_samples(kelvin), kelvin, centre=False)
    ones = SecondMoment.from_samples(jnp.ones((5_000_000, 2)), centre=True)
    np.testing.assert_array_equal(ones.mean, [1, 1])
    np.testing.assert_array_equal(ones.values, [0, 0])
    assert int(ones.count) == 5_000_000


@pytest.mark.slow
def test_a_hundred_million_rows():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(100_000_000, 2), loc=(1e4, -3e3)).astype(np.float32)
    mean = x.mean(axis=0, dtype=np.float64)
    values = np.zeros((2, 2))
    for part in np.array_split(x, 50):
        y = part.astype(np.float64) - mean
        values += y.T @ y
    right = np.linalg.eigvalsh(values / len(x))[::-1]
    for moment in (
        SecondMoment.from_samples(x, centre=True),
        SecondMoment.from_samples(x, centre=True, mask=np.ones(len(x), bool), route="svd"),
        SecondMoment.from_batches(np.array_split(x, 50), rank=2, centre=True),
    ):
        np.testing.assert_allclose(moment.values, right, atol=1e-5 * right[0])
        np.testing.assert_allclose(moment.mean, mean, rtol=1e-6)
        assert int(moment.count) == len(x)


def test_counts_are_integers_beyond_what_float32_holds():
    keep = jnp.ones(2**24 + 3, bool)
    rows = _routes.Rows.of(jnp.ones((2**24 + 3, 1)), keep, None, centre=False)
    assert int(rows.number) == 2**24 + 3


def test_sums_of_blocks_are_exact_to_rounding():
    values = np.full(3_000_001, 0.1, np.float32)
    right = values.astype(np.float64).sum()
    np.testing.assert_allclose(_sums.total(jnp.asarray(values)), right, rtol=2e-6)
    mean = _sums.mean_of_rows(jnp.asarray(values)[:, None])
    np.testing.assert_allclose(mean, values[:1], rtol=1e-7)
    energy = _sums.energy(jnp.asarray(values)[:, None])
    np.testing.assert_allclose(energy, (values.astype(np.float64) ** 2).sum(), rtol=2e-6)


def test_triangles_of_tall_data_keep_their_digits():
    x = np.random.default_rng(4).uniform(1, 2, size=(300_000, 3)).astype(np.float32)
    factor = np.asarray(_linalg.triangle(jnp.asarray(x)), np.float64)
    assert factor.shape == (3, 3)
    right = x.astype(np.float64).T @ x
    np.testing.assert_allclose(factor.T @ factor, right, rtol=1e-5)


# --- rounding is no direction (scikit-learn 17794) ----------------------------------------------


@pytest.mark.parametrize("route", ["auto", "gram", "svd", "stream"])
def test_identical_pictures_have_no_direction(route):
    picture = np.random.default_rng(5).uniform(size=(1, 3072)).astype(np.float32)
    x = np.repeat(picture, 10, axis=0)
    if route == "stream":
        moment = SecondMoment.from_batches([x[:4], x[4:]], rank=3, centre=True)
    else:
        moment = SecondMoment.from_samples(x, centre=True, route=route)
    np.testing.assert_array_equal(moment.values, 0)
    np.testing.assert_array_equal(moment.basis, 0)
    assert float(moment.total) == 0
    np.testing.assert_allclose(moment.mean, picture[0], rtol=2e-7)
    assert int(moment.status) == Status.OK


@pytest.mark.parametrize("route", ["auto", "gram", "svd", "stream"])
def test_constant_columns_have_no_variance(route):
    rng = np.random.default_rng(6)
    x = np.concatenate([np.full((1000, 2), 1e6), rng.normal(size=(1000, 3))], axis=1)
    x = x.astype(np.float32)
    if route == "stream":
        moment = _streamed(x, 5, centre=True)
    else:
        moment = SecondMoment.from_samples(x, centre=True, route=route)
    values, _ = _right(x)
    np.testing.assert_allclose(moment.values, values, atol=1e-5 * values[0])
    np.testing.assert_array_equal(moment.values[3:], 0)
    np.testing.assert_allclose(moment.basis[:2, :3], 0, atol=1e-6)


@pytest.mark.parametrize("route", ["auto", "gram", "svd", "stream"])
def test_nearly_identical_frames_have_one_direction_less_than_frames(route):
    rng = np.random.default_rng(7)
    x = rng.uniform(size=(1, 2000)) + 1e-5 * rng.normal(size=(12, 2000))
    x = x.astype(np.float32)
    if route == "stream":
        moment = SecondMoment.from_batches([x[:6], x[6:]], rank=12, centre=True)
    else:
        moment = SecondMoment.from_samples(x, centre=True, route=route)
    assert int(jnp.sum(moment.values > 0)) == 11


def test_a_direction_below_the_rounding_of_another_column_keeps_its_place():
    rng = np.random.default_rng(8)
    # The first column is stored to .5 and varies by less, the others are exact.
    x = np.concatenate([rng.normal(8e6, 0.2, (400, 1)), rng.normal(size=(400, 2)) * [0.3, 0.1]], 1)
    x = x.astype(np.float32)
    moment = SecondMoment.from_samples(x, centre=True, route="svd")
    values = np.linalg.eigvalsh(np.cov(x[:, 1:].astype(np.float64).T, ddof=0))[::-1]
    # What is found is a mixture with what the first column's storing made of it.
    np.testing.assert_allclose(moment.values[:2], values, rtol=0.05)
    assert float(moment.values[2]) == 0
    np.testing.assert_allclose(jnp.abs(moment.basis[0, :2]), 0, atol=0.2)


def test_the_rank_of_centred_rows_is_below_their_number_under_a_mask():
    x = np.random.default_rng(9).normal(size=(8, 20)).astype(np.float32)
    keep = np.arange(8) < 5
    for route in ("gram", "svd"):
        moment = SecondMoment.from_samples(x, centre=True, mask=keep, route=route)
        assert int(jnp.sum(moment.values > 0)) == 4


# --- scales (scikit-learn 19726) ----------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-15, -10, 0, 10, 15])
@pytest.mark.parametrize("shape", [(40, 6), (6, 40)])
def test_eigenvalues_from_1e_30_to_1e30(shape, exponent):
    x = np.random.default_rng(10).normal(size=shape).astype(np.float32)
    x = (x * np.float32(10.0**exponent)).astype(np.float32)
    for centre in (False, True):
        _agree(SecondMoment.from_samples(x, centre=centre), x, centre=centre)
        moment = SecondMoment.from_samples(x, centre=centre, route="svd")
        _agree(moment, x, centre=centre)
        assert int(moment.status) == Status.OK


@pytest.mark.parametrize("exponent", [-15, 15])
def test_krylov_and_streams_at_the_ends_of_the_scale(exponent):
    rng = np.random.default_rng(11)
    x = rng.normal(size=(300, 8)) * 2.0 ** -np.arange(8) @ rng.normal(size=(8, 200))
    x = (x * 10.0**exponent).astype(np.float32)
    values, _ = _right(x, centre=False)
    moment = SecondMoment.from_samples(x, rank=3, route="krylov")
    assert int(moment.status) == Status.OK
    np.testing.assert_allclose(moment.values, values[:3], rtol=1e-4)
    np.testing.assert_allclose(_streamed(x, 3).values, values[:3], rtol=1e-5)


def test_what_float32_cannot_hold_is_a_status_or_an_error():
    x = np.random.default_rng(12).normal(size=(50, 6)).astype(np.float32)
    for route in ("auto", "svd"):
        tiny = SecondMoment.from_samples(x * np.float32(1e-20), route=route)
        assert Status.UNDERFLOW in Status(int(tiny.status))
        with pytest.raises(ValueError, match="x has NaN or infinite"):
            SecondMoment.from_samples(x * np.float32(1e25), route=route)
    zero = SecondMoment.from_samples(np.zeros((5, 9), np.float32))
    assert int(zero.status) == Status.OK
    np.testing.assert_array_equal(zero.values, 0)


@pytest.mark.parametrize("offset", [1e7, 1.7e9])
def test_float64_is_centred_before_it_is_narrowed(offset):
    x = offset + np.random.default_rng(13).normal(size=(1000, 3))
    keep = np.arange(1000) % 3 > 0
    for moment, rows in [
        (SecondMoment.from_samples(x, centre=True), x),
        (SecondMoment.from_samples(x, centre=True, mask=keep), x[keep]),
        (_streamed(x, 3, centre=True), x),
    ]:
        values, mean = _right(rows)
        np.testing.assert_allclose(moment.values, values, atol=1e-5 * values[0])
        np.testing.assert_allclose(moment.mean, mean, rtol=1e-6)
        assert Status(int(moment.status)) == Status.DOWNCAST


def test_krylov_keeps_its_digits_under_a_large_mean():
    rng = np.random.default_rng(14)
    x = rng.normal(size=(300, 8)) * 2.0 ** -np.arange(8) @ rng.normal(size=(8, 200))
    x = (x + 3000 * rng.uniform(1, 2, size=200)).astype(np.float32)
    moment = SecondMoment.from_samples(x, rank=3, route="krylov", centre=True)
    values, _ = _right(x)
    np.testing.assert_allclose(moment.values, values[:3], rtol=1e-5)


# --- rows that do not count ---------------------------------------------------------------------


def test_rows_of_a_masked_array_are_left_out():
    x = np.random.default_rng(15).normal(size=(20, 3))
    x[4] = 1e6
    hidden = np.zeros_like(x, bool)
    hidden[4] = True
    moment = SecondMoment.from_samples(np.ma.masked_array(x, hidden), centre=True)
    _agree(moment, np.delete(x, 4, axis=0))
    hidden[4, 1:] = False
    with pytest.raises(ValueError, match="x has 1 rows with some masked entries"):
        SecondMoment.from_samples(np.ma.masked_array(x, hidden))


def test_an_asymmetric_covariance_is_a_status():
    C = np.triu(np.ones((3, 3), np.float32))
    moment = SecondMoment.from_covariance(C, throw=False)
    assert Status.ASYMMETRIC in Status(int(moment.status))
    with pytest.raises(ValueError, match="C must be symmetric"):
        fsd.SecondMoment.from_covariance(jnp.asarray(C))


def test_a_batch_with_a_repeated_member_is_right_for_all():
    rng = np.random.default_rng(16)
    x = rng.normal(size=(3, 10, 50)).astype(np.float32) + 5
    x[1] = x[1, :1]
    moment = jax.vmap(lambda x: SecondMoment.from_samples(x, centre=True, route="gram"))(x)
    assert moment.values[1].max() == 0
    for i in (0, 2):
        np.testing.assert_allclose(moment.values[i], _right(x[i])[0][:10], atol=1e-4)
