"""A user's mistake is a ValueError that names the argument; under a trace it is a status."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import Status, _checks

X = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)


def _identity(x, t):
    del t
    return x


def _with(value, where=(2, 3)):
    x = X.copy()
    x[where] = value
    return x


def _moment():
    return fsd.SecondMoment.from_samples(X)


def _rank(**change):
    arguments = dict(latent_variance=1.0, latent_dim=3, time=0.5) | change
    return fsd.rank_minimizer(_moment(), **arguments)


def _orthonormal(**change):
    return fsd.orthonormal_minimizer(_moment(), **(dict(latent_dim=3) | change))


def _loss(**change):
    arguments = dict(latent_variance=1.0, time=0.5) | change
    return fsd.expected_loss(X[:3].T, _moment(), **arguments)


def _sampled(**change):
    return fsd.SecondMoment.from_samples(change.pop("x", X), **change)


def _covariance(C, **kwargs):
    return fsd.SecondMoment.from_covariance(np.asarray(C), **kwargs)


def _batches(batches, **kwargs):
    return fsd.SecondMoment.from_batches(batches, **(dict(rank=2) | kwargs))


SAMPLES = [
    (lambda: _sampled(x=_with(np.nan)), "x has NaN"),
    (lambda: _sampled(x=_with(np.inf)), "x has NaN or infinite"),
    (lambda: _sampled(x=_with(1e30)), "x has NaN or infinite"),
    (lambda: _sampled(x=np.zeros((0, 8), np.float32)), "x is empty"),
    (lambda: _sampled(x=np.zeros((6, 0), np.float32)), "x is empty"),
    (lambda: _sampled(x=X[:1], centre=True), "x has 1 row"),
    (lambda: _sampled(x=X[0]), "x must have shape"),
    (lambda: _sampled(x=X[None]), "x must have shape"),
    (lambda: _sampled(x=np.float32(1)), "x must have shape"),
    (lambda: _sampled(x=X.astype(int)), "x must be a floating"),
    (lambda: _sampled(x=X > 0), "x must be a floating"),
    (lambda: _sampled(x=X.astype(object)), "x must be a floating"),
    (lambda: _sampled(x=X.astype(complex)), "x must be a floating"),
    (lambda: _sampled(x="images"), "x must be a floating"),
    (lambda: _sampled(x=[[1.0, 2.0], [3.0]]), "x is not an array"),
    (lambda: _sampled(route="fast"), "route"),
    (lambda: _sampled(route=None), "route"),
    (lambda: _sampled(rank=0), "rank"),
    (lambda: _sampled(rank=7), "rank"),
    (lambda: _sampled(rank=True), "rank"),
    (lambda: _sampled(rank=2.0), "rank"),
    (lambda: _sampled(mask=np.ones(5, bool)), "mask"),
    (lambda: _sampled(mask=np.ones(6)), "mask"),
    (lambda: _sampled(mask=np.zeros(6, bool)), "mask"),
    (lambda: _sampled(rank=6, route="krylov"), "krylov"),
]
COVARIANCES = [
    (lambda: _covariance(np.triu(np.ones((3, 3), np.float32))), "C must be symmetric"),
    (lambda: _covariance(np.diag([1.0, -0.1]).astype(np.float32)), "C is indefinite"),
    (lambda: _covariance(np.full((2, 2), np.nan, np.float32)), "C has NaN"),
    (lambda: _covariance(np.ones((2, 3), np.float32)), "C must be a square"),
    (lambda: _covariance(np.ones(3, np.float32)), "C must have 2 axes"),
    (lambda: _covariance(np.ones((0, 0), np.float32)), "C must be a square"),
    (lambda: _covariance(np.eye(3, dtype=int)), "C must be a floating"),
    (lambda: _covariance(np.eye(3, dtype=np.float32), rank=4), "rank"),
]
STREAMS = [
    (lambda: _batches([]), "batches is empty"),
    (lambda: _batches([X, X[:, :5]]), "batch 2"),
    (lambda: _batches([X, X.astype(int)]), "batch 2"),
    (lambda: _batches([X[0]]), "batch 1"),
    (lambda: _batches([X[:0]]), "batch 1"),
    (lambda: _batches([X[:1]], centre=True), "batches"),
    (lambda: _batches([X, _with(np.nan)]), "batches has NaN"),
    (lambda: _batches([X], rank=9), "rank"),
    (lambda: _batches([X], rank=0), "rank"),
    (lambda: _batches([X], rank=False), "rank"),
]
NUMBERS = [
    *[
        (lambda f=f, v=v: f(latent_dim=v), "latent_dim")
        for f in (_rank, _orthonormal)
        for v in (0, -1, 9, True, 3.0, "3", None)
    ],
    *[
        (lambda f=f, v=v: f(latent_variance=v), "latent_variance")
        for f in (_rank, _orthonormal, _loss)
        for v in (0.0, -1.0, np.nan, np.inf, [1.0, 1.0], [1.0, 0.0, 1.0], "wide", True)
    ],
    *[
        (lambda f=f, v=v: f(time=v), "time")
        for f in (_rank, _loss)
        for v in (0.0, -0.5, np.nan, np.inf, [0.1, 0.2], "soon", True)
    ],
    *[
        (lambda f=f, v=v: f(time=None, times=v), "times")
        for f in (_rank, _loss)
        for v in ([0.1, 0.0], [0.1, -1.0], [], 0.5, [[0.1]], [0.1, np.nan])
    ],
    *[
        (lambda f=f, v=v: f(time=None, times=[0.1, 0.5], weights=v), "weights")
        for f in (_rank, _loss)
        for v in ([1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan], 1.0, [1.0, 1.0, 1.0])
    ],
    (lambda: _rank(times=[0.1]), "time"),
    (lambda: _rank(time=None), "time"),
    (lambda: _rank(weights=[1.0]), "weights"),
]
WORDS = [
    (
        lambda: fsd.monte_carlo_loss(jax.random.key(0), _identity, X, time=0.5, draws=1),
        "draws",
    ),
    (lambda: fsd.monte_carlo_loss(jax.random.key(0), _identity, X[0], time=0.5), "x must"),
    (lambda: fsd.paper_formula(_moment(), latent_variance=[1.0] * 6, time=0.5), "latent_variance"),
    (lambda: fsd.paper_formula(_moment(), latent_variance=1.0, time=0.0), "time"),
]


@pytest.mark.parametrize(("call", "words"), SAMPLES + COVARIANCES + STREAMS + NUMBERS + WORDS)
def test_a_mistake_is_a_value_error_that_names_the_argument(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_number_in_a_string_is_a_mistake():
    with pytest.raises(ValueError, match="time"):
        _rank(time="0.5")


def test_times_that_are_booleans_are_a_mistake():
    with pytest.raises(ValueError, match="times"):
        _rank(time=None, times=np.array([True, True]))


def test_a_mask_that_leaves_one_row_cannot_be_centred():
    with pytest.raises(ValueError, match="mask"):
        _sampled(centre=True, mask=np.arange(6) < 1)


# --- a status instead ---


@pytest.mark.parametrize("route", ["auto", "svd", "gram"])
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_throw_false_gives_a_status(route, value):
    moment = _sampled(x=_with(value), route=route, throw=False)
    assert Status.NON_FINITE in Status(int(moment.status))
    assert np.all(np.isnan(np.asarray(moment.values)))
    found = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=3, time=0.5, throw=False)
    assert Status.NON_FINITE in Status(int(found.status))
    assert np.all(np.isnan(np.asarray(found.gains)))
    with pytest.raises(ValueError, match="NaN"):
        fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=3, time=0.5)
    with pytest.raises(ValueError, match="NaN"):
        fsd.orthonormal_minimizer(moment, latent_dim=3)


def test_indefinite_covariance_gives_a_status():
    C = np.diag([1.0, -0.1]).astype(np.float32)
    for moment in (
        _covariance(C, throw=False),
        jax.jit(fsd.SecondMoment.from_covariance)(C),
    ):
        assert Status.INDEFINITE in Status(int(moment.status))


def test_rounding_below_zero_is_not_indefinite():
    a = X.astype(np.float32)
    C = a.T @ a
    moment = _covariance((C + C.T) / 2)
    assert int(moment.status) == 0


@pytest.mark.parametrize(
    "bad",
    [
        dict(t=0.0), dict(t=-1.0), dict(t=np.nan), dict(lam2=0.0), dict(lam2=-1.0),
        dict(lam2=np.inf),
    ],
)  # fmt: skip
def test_traced_values_out_of_range_give_a_status(bad):
    def f(moment, t, lam2):
        return fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=3, time=t)

    good = dict(t=0.5, lam2=1.0)
    found = jax.jit(f)(_moment(), **{k: jnp.float32(v) for k, v in (good | bad).items()})
    assert Status.BAD_VALUE in Status(int(found.status))
    assert np.all(np.isnan(np.asarray(found.gains)))


def test_jit_may_close_over_a_concrete_moment():
    moment = _moment()
    jax.jit(lambda t: _rank_of(moment, t))(jnp.float32(0.5))


def _rank_of(moment, t):
    return fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=3, time=t).gains


def test_traced_weights_out_of_range_give_a_status():
    moment = _moment()

    def f(weights):
        return fsd.rank_minimizer(
            moment, latent_variance=1.0, latent_dim=3, times=[0.1, 0.5], weights=weights
        )

    weights = jnp.array([[1.0, 1.0], [1.0, -1.0], [0.0, 1.0]])
    found = jax.vmap(f)(weights)
    flagged = [Status.BAD_VALUE in Status(int(s)) for s in found.status]
    assert flagged == [False, True, False]
    assert np.all(np.isfinite(np.asarray(found.gains[jnp.array([0, 2])])))


def test_traced_bad_variance_makes_the_orthonormal_result_nan():
    found = jax.jit(
        lambda moment, v: fsd.orthonormal_minimizer(moment, latent_dim=3, latent_variance=v)
    )(_moment(), jnp.array([1.0, -1.0, 2.0]))
    assert Status.BAD_VALUE in Status(int(found.status))
    assert np.all(np.isnan(np.asarray(found.gains)))


def test_a_batch_that_raises_counts_its_members():
    moment = jax.vmap(fsd.SecondMoment.from_samples)(np.stack([X, _with(np.nan), X]))
    with pytest.raises(ValueError, match=r"1 of 3 batch members \(first: 1\)"):
        _checks.settle(moment.status, name="x", throw=True)


def test_shapes_are_refused_under_a_trace_too():
    with pytest.raises(ValueError, match="x must have shape"):
        jax.jit(fsd.SecondMoment.from_samples)(X[0])


# --- float64 without x64 mode ---


def test_float64_without_x64_is_computed_in_float32_and_logged_once(caplog):
    _checks.arrays._told.clear()
    with caplog.at_level(logging.WARNING, logger="fsd_jax"):
        for _ in range(3):
            moment = _sampled(x=X.astype(np.float64))
        _covariance(np.eye(3))
        stream = _batches([X.astype(np.float64)])
    assert moment.values.dtype == jnp.float32
    assert Status(int(moment.status)) == Status.DOWNCAST
    assert Status.DOWNCAST in Status(int(stream.status))
    records = [r for r in caplog.records if r.name == "fsd_jax"]
    assert len(records) == 1
    assert "x64" in records[0].getMessage()


@pytest.mark.usefixtures("x64")
def test_float64_with_x64_is_kept_in_silence(caplog):
    _checks.arrays._told.clear()
    with caplog.at_level(logging.WARNING, logger="fsd_jax"):
        moment = _sampled(x=X.astype(np.float64))
    assert moment.values.dtype == jnp.float64
    assert int(moment.status) == 0
    assert not caplog.records


# --- words ---


def test_describe():
    assert fsd.describe(0) == "ok"
    assert fsd.describe(int(Status.RANK_DEFICIENT | Status.NO_GAP)) == "rank_deficient|no_gap"
    assert fsd.describe(np.array([0, 4, 0])) == "2 of 3 ok"
