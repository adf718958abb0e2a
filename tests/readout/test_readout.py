"""The exact read-out: against refits by another route, L-BFGS, and what a user may do wrong."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from fsd_jax import readout
from fsd_jax.readout import Readout

P, Q, GROUPS = 6, 2, 5
STRENGTHS = (0.0, 1e-3, 1.0, 30.0, np.inf)


def _data(seed=0, rows=60, p=P, rank=None):
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(rows, p))
    if rank is not None:
        h = h[:, :rank] @ rng.normal(size=(rank, p))
    y = h @ rng.normal(size=(p, Q)) + 0.3 * rng.normal(size=(rows, Q))
    return h, y, rng.integers(0, GROUPS, rows), rng.uniform(0.2, 2, rows)


def _sums(h, y, group, weight, groups=GROUPS):
    return Readout.empty(features=h.shape[1], outputs=Q, groups=groups).add(h, y, group, weight)


def _metrics(p=P):
    rng = np.random.default_rng(9)
    full, thin = rng.normal(size=(p, p)), rng.normal(size=(2, p))
    return {"identity": None, "full": full.T @ full, "singular": thin.T @ thin}


def _refit(h, y, weight, prior, mu, metric):
    """Least squares on stacked rows, by SVD: neither sums nor their inverse."""
    if np.isinf(mu):
        return prior
    M = np.eye(h.shape[1]) if metric is None else metric
    values, vectors = np.linalg.eigh(M)
    root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    root[values < 1e-12 * values[-1]] = 0
    w = np.sqrt(weight)[:, None]
    A = np.concatenate([w * h, np.sqrt(mu) * root])
    b = np.concatenate([w * (y - h @ prior), np.zeros((len(root), Q))])
    return prior + np.linalg.lstsq(A, b, rcond=1e-10)[0]


@pytest.mark.result("The last layer of a network")
@pytest.mark.parametrize("metric", _metrics(), ids=str)
@pytest.mark.parametrize("rank", [None, 3])
def test_solve_and_leave_one_out_equal_refits(metric, rank):
    M = _metrics()[metric]
    h, y, group, weight = _data(rank=rank)
    prior = np.random.default_rng(5).normal(size=(P, Q))
    sums = _sums(h, y, group, weight)
    losses = readout.leave_one_out(sums, prior=prior, strengths=STRENGTHS, metric=M)
    assert losses.shape == (len(STRENGTHS), GROUPS)
    for mu, row in zip(STRENGTHS, losses, strict=True):
        found = readout.solve(sums, prior=prior, strength=mu, metric=M)
        refit = _refit(h, y, weight, prior, mu, M)
        np.testing.assert_allclose(found, refit, rtol=1e-8, atol=1e-9)
        for g in range(GROUPS):
            rest, own = group != g, group == g
            W = _refit(h[rest], y[rest], weight[rest], prior, mu, M)
            by_hand = np.sum(weight[own, None] * (y[own] - h[own] @ W) ** 2)
            np.testing.assert_allclose(row[g], by_hand, rtol=1e-8)


@pytest.mark.parametrize("metric", _metrics(), ids=str)
def test_groups_of_few_rows_are_downdated_to_the_same(metric):
    """Twelve features and one to three rows a group: the other route to the same losses."""
    p, M = 12, _metrics(12)[metric]
    h, y, _, weight = _data(rows=30, p=p)
    group = np.repeat(np.arange(15), [1, 2, 3] * 5)
    sums = _sums(h, y, group, weight, groups=15)
    assert all(member.rows is not None for member in sums.members)
    prior = np.zeros((p, Q))
    losses = readout.leave_one_out(sums, prior=prior, strengths=STRENGTHS, metric=M)
    for mu, g in itertools.product(range(len(STRENGTHS)), range(15)):
        rest, own = group != g, group == g
        W = _refit(h[rest], y[rest], weight[rest], prior, STRENGTHS[mu], M)
        by_hand = np.sum(weight[own, None] * (y[own] - h[own] @ W) ** 2)
        np.testing.assert_allclose(losses[mu, g], by_hand, rtol=1e-8)


def test_a_group_that_alone_sees_a_direction():
    """Without it nothing is known there: the prior stays."""
    h, y, group, weight = _data()
    h[:, 0] = np.where(group == 2, h[:, 0], 0)
    sums = _sums(h, y, group, weight)
    prior = np.full((P, Q), 0.7)
    losses = readout.leave_one_out(sums, prior=prior, strengths=[0.0], metric=None)
    rest, own = group != 2, group == 2
    W = _refit(h[rest], y[rest], weight[rest], prior, 0.0, None)
    np.testing.assert_allclose(W[0], prior[0])
    by_hand = np.sum(weight[own, None] * (y[own] - h[own] @ W) ** 2)
    np.testing.assert_allclose(losses[0, 2], by_hand, rtol=1e-8)


def test_the_minimum_is_that_of_lbfgs():
    h, y, group, weight = _data()
    sums, prior, mu = _sums(h, y, group, weight), np.ones((P, Q)), 3.0

    def objective(flat):
        W = flat.reshape(P, Q)
        residual = h @ W - y
        value = np.sum(weight[:, None] * residual**2) + mu * np.sum((W - prior) ** 2)
        return value, (2 * h.T @ (weight[:, None] * residual) + 2 * mu * (W - prior)).ravel()

    start = np.zeros(P * Q)
    options = dict(ftol=1e-16, gtol=1e-12, maxiter=1000)
    least = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).fun
    found = objective(readout.solve(sums, prior=prior, strength=mu).ravel())[0]
    assert abs(found - least) < 1e-9 * least
    assert found <= least * (1 + 1e-13)


def test_batches_halves_and_merges_are_one_sum():
    h, y, group, weight = _data()
    whole = _sums(h, y, group, weight)
    empty = Readout.empty(features=P, outputs=Q, groups=GROUPS)
    first = empty.add(h[:7], y[:7], group[:7], weight[:7])
    rest = empty
    for start in range(7, 60, 9):
        part = slice(start, start + 9)
        rest = rest.add(h[part], y[part], group[part], weight[part])
    both = first.merge(rest).merge(empty)
    np.testing.assert_allclose(both.total, whole.total, rtol=1e-12)
    np.testing.assert_allclose(whole.H, (weight[:, None] * h).T @ h, rtol=1e-12)
    np.testing.assert_allclose(whole.R, (weight[:, None] * h).T @ y, rtol=1e-12)
    np.testing.assert_allclose(whole.q, np.sum(weight[:, None] * y**2), rtol=1e-12)
    assert int(both.count.sum()) == 60
    assert int(empty.count.sum()) == 0
    ones = dict(prior=np.ones((P, Q)), strengths=STRENGTHS)
    np.testing.assert_allclose(
        readout.leave_one_out(both, **ones), readout.leave_one_out(whole, **ones), rtol=1e-9
    )


def test_sums_without_a_group_are_those_of_the_others():
    h, y, group, weight = _data()
    rest = group != 2
    found = _sums(h, y, group, weight).without(2)
    others = _sums(h[rest], y[rest], group[rest], weight[rest])
    np.testing.assert_allclose(found.total, others.total, rtol=1e-12)
    np.testing.assert_array_equal(found.count, others.count)
    with pytest.raises(ValueError, match="group must be"):
        found.without(GROUPS)


def test_sums_can_be_stored_and_damage_is_found(tmp_path):
    whole = _sums(*_data(rows=14))
    whole.save(tmp_path / "sums.npz")
    again = Readout.load(tmp_path / "sums.npz")
    np.testing.assert_array_equal(again.total, whole.total)
    np.testing.assert_array_equal(again.count, whole.count)
    held = bytearray((tmp_path / "sums.npz").read_bytes())
    held[len(held) // 2] ^= 1
    (tmp_path / "sums.npz").write_bytes(held)
    with pytest.raises(ValueError, match=r"sums\.npz"):
        Readout.load(tmp_path / "sums.npz")


def test_another_readout_is_a_metric():
    h, y, group, weight = _data()
    source = _sums(*_data(seed=4, rows=200))
    given = dict(prior=np.ones((P, Q)), strength=0.7)
    one = readout.solve(_sums(h, y, group, weight), metric=source, **given)
    two = readout.solve(_sums(h, y, group, weight), metric=source.H, **given)
    np.testing.assert_allclose(one, two, rtol=1e-12)


def test_the_choice_is_never_surely_worse_than_the_prior():
    h, y, group, weight = _data()
    truth = np.linalg.lstsq(h, y, rcond=None)[0]
    strengths = [1e-2, 1.0, 100.0]
    sums = _sums(h, y, group, weight)
    found = readout.choose(sums, prior=np.zeros((P, Q)), strengths=strengths)
    assert found.strength < 1
    assert found.gain > 5 * found.gain_stderr
    kept = readout.choose(sums, prior=truth, strengths=strengths)
    assert kept.gain <= max(1e-12, kept.gain_stderr) or np.isfinite(kept.strength)
    noise = np.random.default_rng(1).normal(size=y.shape)
    kept = readout.choose(_sums(h, noise, group, weight), prior=np.zeros((P, Q)), strengths=[0.0])
    assert np.isinf(kept.strength)
    np.testing.assert_array_equal(kept.weights, np.zeros((P, Q)))


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_features_of_any_size(scale):
    h, y, group, weight = _data()
    prior = np.ones((P, Q))
    usual = readout.leave_one_out(_sums(h, y, group, weight), prior=prior, strengths=[1.0])
    scaled = _sums(scale * h, y, group, weight)
    found = readout.leave_one_out(scaled, prior=prior / scale, strengths=[scale**2])
    np.testing.assert_allclose(found, usual, rtol=1e-9)


def _good():
    return dict(features=np.ones((3, P)), targets=np.ones((3, Q)), group=[0, 1, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(features=np.full((3, P), np.nan)), "features has NaN"),
        (dict(features=np.ones((3, 4))), r"features must have shape \(m, 6\)"),
        (dict(targets=np.ones((2, Q))), "features has 3 rows and targets 2"),
        (dict(group=[0, 1, 5]), "group must be from 0 to 4, got 0 to 5"),
        (dict(group=[0, 1]), "group must be one integer or 3"),
        (dict(group=[0.0, 1.0, 2.0]), "group must be one integer"),
        (dict(weight=[1, -1, 1]), "weight must be finite and not negative"),
    ],
)
def test_bad_rows_are_named(change, message):
    empty = Readout.empty(features=P, outputs=Q, groups=GROUPS)
    with pytest.raises(ValueError, match=message):
        empty.add(**(_good() | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(prior=np.ones((2, 2))), r"prior must have shape \(6, 2\)"),
        (dict(strengths=[-1.0]), "strength must be from 0"),
        (dict(strengths=[np.nan]), "strength must be from 0"),
        (dict(metric=-np.eye(P)), "metric must be positive semi-definite"),
        (dict(metric=np.triu(np.ones((P, P)))), "metric must be symmetric"),
        (dict(sums=Readout.empty(features=P, outputs=Q, groups=1)), "two groups with rows"),
        (dict(sums="none"), "sums must be"),
    ],
)
def test_bad_problems_are_named(change, message):
    good = dict(sums=_sums(*_data()), prior=np.ones((P, Q)), strengths=[1.0])
    with pytest.raises(ValueError, match=message):
        readout.leave_one_out(**(good | change))


def test_too_many_features_are_refused_before_the_work():
    with pytest.raises(ValueError, match="GiB and this machine has"):
        Readout.empty(features=10**6, outputs=1, groups=10)
    empty = Readout.empty(features=2, outputs=1, groups=1)
    with pytest.raises(ValueError, match="no rows yet"):
        readout.solve(empty, prior=np.zeros((2, 1)), strength=1.0)
