import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import Status
from tests import reference

pytestmark = pytest.mark.oldest

TIMES = np.array([0.1, 0.4, 1.0, 2.5])
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])


def _samples(n, ambient, d, tau, *, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    A = reference.random_orthonormal(rng, ambient, d)
    x = rng.normal(size=(n, d)) @ A.T + tau * rng.normal(size=(n, ambient))
    return x.astype(dtype), A


def _moment(values, *, ambient=None, seed=0, dtype=np.float32):
    values = np.asarray(values, np.float64)
    ambient = ambient or len(values)
    U = reference.random_orthonormal(np.random.default_rng(seed), ambient, len(values))
    C = (U * values) @ U.T
    return fsd.SecondMoment.from_covariance(((C + C.T) / 2).astype(dtype)), U


def _vv(minimizer):
    V = np.asarray(minimizer.decoder, np.float64)
    return V @ V.T


def _status(result):
    return Status(int(result.status))


# --- R1 and R2 against independent routes -----------------------------------------------------


@pytest.mark.result("R1")
@pytest.mark.parametrize(("n", "ambient", "d", "tau"), [(30, 8, 3, 0.3), (6, 10, 4, 0.1)])
@pytest.mark.parametrize("time", [0.05, 0.7])
def test_single_time_against_eckart_young(n, ambient, d, tau, time, dtype):
    x, _ = _samples(n, ambient, d, tau, dtype=dtype)
    found = fsd.rank_minimizer(
        fsd.SecondMoment.from_samples(x), latent_variance=1.3, latent_dim=d, time=time
    )
    expected = reference.rank_minimiser(reference.second_moment(x), 1.3, d, time)
    assert found.decoder.dtype == dtype
    np.testing.assert_allclose(_vv(found), expected, atol=1e-4 if dtype == np.float32 else 1e-10)
    np.testing.assert_allclose(
        reference.projector(found.basis) * 0 + _vv(found),
        np.asarray((found.basis * found.gains) @ found.basis.T),
        atol=1e-5,
    )


CELLS = [
    dict(ambient=10, d=3, n=20, tau=0.2, time=0.1),
    dict(ambient=12, d=4, n=2, tau=0.0, time=0.5),
    # Each is a compilation of many seconds.
    *(
        pytest.param(cell, marks=pytest.mark.slow)
        for cell in (
            dict(ambient=10, d=3, n=20, tau=0.2, times=TIMES, weights=WEIGHTS),
            dict(ambient=9, d=2, n=6, tau=0.3, times=TIMES),
            dict(ambient=6, d=1, n=9, tau=0.5, time=1.5),
            dict(ambient=5, d=5, n=20, tau=0.5, times=TIMES),
        )
    ),
]


@pytest.mark.result("R1", "R2")
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.usefixtures("x64")
def test_lbfgs_never_goes_below_and_comes_close(cell):
    cell = dict(cell)
    n, ambient, d, tau = (cell.pop(k) for k in ("n", "ambient", "d", "tau"))
    x, _ = _samples(n, ambient, d, tau, dtype=np.float64)
    moment = fsd.SecondMoment.from_samples(x)
    keys = jax.random.split(jax.random.key(0), 2)
    trained = jax.vmap(
        lambda key: fsd.train(
            key, moment, latent_variance=1.2, latent_dim=d, optimizer="lbfgs", steps=400, **cell
        )
    )(keys)
    assert np.min(np.abs(trained.gap)) < (1e-9 if n >= d else 1e-6)
    assert np.all(np.asarray(trained.gap) > -1e-12)


@pytest.mark.usefixtures("x64")
def test_one_time_is_a_special_case_of_several():
    moment = fsd.SecondMoment.from_samples(_samples(9, 7, 3, 0.2, dtype=np.float64)[0])
    arguments = dict(latent_variance=0.8, latent_dim=3)
    single = fsd.rank_minimizer(moment, time=0.3, **arguments)
    for times, weights in [([0.3], None), ([0.3], [17.0]), ([0.3, 0.3], [0.2, 0.5])]:
        several = fsd.rank_minimizer(moment, times=times, weights=weights, **arguments)
        np.testing.assert_allclose(several.gains, single.gains, rtol=1e-12)
    c = np.asarray(moment.values[:3])
    m2, s2 = reference.levels(0.3)
    g = reference.gains(0.8, 0.3)
    np.testing.assert_allclose(single.gains, m2 * c / (m2 * c + s2) / g, rtol=1e-11)


@pytest.mark.result("R2")
@pytest.mark.usefixtures("x64")
def test_integrated_gains_are_those_of_r2():
    moment = fsd.SecondMoment.from_samples(_samples(9, 7, 3, 0.2, dtype=np.float64)[0])
    found = fsd.rank_minimizer(
        moment, latent_variance=0.8, latent_dim=3, times=TIMES, weights=WEIGHTS
    )
    m2, s2 = reference.levels(TIMES)
    g = m2 * 0.8 / (m2 * 0.8 + s2)
    a = np.sum(WEIGHTS * g**2 * m2 / s2**2)
    e = np.sum(WEIGHTS * g**2 / s2)
    b = np.sum(WEIGHTS * g * m2 / s2**2)
    c = np.asarray(moment.values[:3])
    np.testing.assert_allclose(found.gains, b * c / (a * c + e), rtol=1e-11)


def test_weights_of_zero_and_common_factors_change_nothing():
    moment = fsd.SecondMoment.from_samples(_samples(9, 7, 3, 0.2)[0])
    arguments = dict(latent_variance=0.8, latent_dim=3)
    base = fsd.rank_minimizer(moment, times=[0.1, 1.0], weights=[1.0, 2.0], **arguments)
    for times, weights in [([0.1, 1.0], [1e6, 2e6]), ([0.1, 1.0, 3.0], [1.0, 2.0, 0.0])]:
        other = fsd.rank_minimizer(moment, times=times, weights=weights, **arguments)
        np.testing.assert_allclose(other.gains, base.gains, rtol=1e-5)


def test_process_only_rescales_time():
    moment = fsd.SecondMoment.from_samples(_samples(9, 7, 3, 0.2)[0])
    arguments = dict(latent_variance=0.8, latent_dim=3)
    fast = fsd.rank_minimizer(moment, time=0.25, process=fsd.VP.constant(2.0), **arguments)
    slow = fsd.rank_minimizer(moment, time=0.5, **arguments)
    np.testing.assert_allclose(fast.gains, slow.gains, rtol=1e-5)


# --- limits -----------------------------------------------------------------------------------


def test_small_times_give_the_projector():
    x, _ = _samples(9, 7, 3, 0.2)
    moment = fsd.SecondMoment.from_samples(x)
    found = fsd.rank_minimizer(moment, latent_variance=2.0, latent_dim=3, time=1e-6)
    np.testing.assert_allclose(found.gains, 1, atol=1e-4)
    assert np.all(np.isfinite(found.decoder))


def test_large_times_give_the_ratio_of_variances():
    x, _ = _samples(9, 7, 3, 0.2)
    moment = fsd.SecondMoment.from_samples(x)
    found = fsd.rank_minimizer(moment, latent_variance=2.0, latent_dim=3, time=60.0)
    np.testing.assert_allclose(found.gains, moment.values[:3] / 2.0, rtol=1e-4)


def test_a_wide_range_of_times_is_finite_in_float32():
    moment = fsd.SecondMoment.from_samples(_samples(9, 7, 3, 0.2)[0])
    found = fsd.rank_minimizer(
        moment, latent_variance=2.0, latent_dim=3, times=[1e-6, 1e-3, 1.0, 60.0]
    )
    assert np.all(np.isfinite(found.gains))
    assert np.all(np.asarray(found.gains) > 0)


# --- shapes at the edge -----------------------------------------------------------------------


@pytest.mark.result("R6")
@pytest.mark.parametrize("make", ["rank", "orthonormal"])
def test_fewer_samples_than_directions(make):
    x, A = _samples(2, 9, 4, 0.0)
    moment = fsd.SecondMoment.from_samples(x)
    if make == "rank":
        found = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=4, time=0.2)
    else:
        found = fsd.orthonormal_minimizer(moment, latent_dim=4)
    assert found.decoder.shape == (9, 4)
    assert int(found.rank) == 2
    assert _status(found) == Status.RANK_DEFICIENT
    np.testing.assert_array_equal(found.basis[:, 2:], 0)
    np.testing.assert_array_equal(found.gains[2:], 0)
    # R6: the floor is the number of directions not seen; PCA attains it.
    error = float(fsd.subspace_error(found.decoder, A.astype(np.float32)))
    assert error >= 2 - 1e-5
    if make == "orthonormal":
        np.testing.assert_allclose(error, 2, atol=1e-5)


@pytest.mark.parametrize("d", [1, 6])
def test_one_direction_and_all_of_them(d):
    x, _ = _samples(20, 6, 3, 0.4)
    moment = fsd.SecondMoment.from_samples(x)
    found = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=d, time=0.3)
    expected = reference.rank_minimiser(reference.second_moment(x), 1.0, d, 0.3)
    np.testing.assert_allclose(_vv(found), expected, atol=1e-4)
    assert _status(found) == Status.OK


def test_repeated_eigenvalues_at_the_cut_are_flagged():
    moment, _ = _moment([2.0, 1.0, 1.0, 0.5])
    for d, flagged in [(1, False), (2, True), (3, False)]:
        found = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=d, time=0.3)
        assert (Status.NO_GAP in _status(found)) is flagged
        found = fsd.orthonormal_minimizer(moment, latent_dim=d)
        assert (Status.NO_GAP in _status(found)) is flagged


@pytest.mark.parametrize("route", ["svd", "gram"])
def test_zero_data_give_a_zero_decoder(route):
    moment = fsd.SecondMoment.from_samples(np.zeros((4, 6), np.float32), route=route)
    found = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=2, time=0.3)
    np.testing.assert_array_equal(found.decoder, 0)
    assert int(found.rank) == 0
    assert _status(found) == Status.RANK_DEFICIENT


def test_a_moment_that_kept_too_little_is_refused():
    moment = fsd.SecondMoment.from_samples(_samples(9, 7, 3, 0.2)[0], rank=2)
    with pytest.raises(ValueError, match="latent_dim"):
        fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=3, time=0.3)


def test_a_truncated_moment_gives_the_same_answer():
    x, _ = _samples(9, 7, 3, 0.2)
    whole, cut = (fsd.SecondMoment.from_samples(x, rank=k) for k in (None, 3))
    pair = [
        fsd.rank_minimizer(m, latent_variance=1.0, latent_dim=3, time=0.3) for m in (whole, cut)
    ]
    np.testing.assert_allclose(_vv(pair[0]), _vv(pair[1]), atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_the_population_gives_the_truth_exactly():
    A = reference.random_orthonormal(np.random.default_rng(0), 8, 3)
    moment = fsd.SecondMoment.from_covariance(1.7 * A @ A.T)
    for kwargs in (dict(time=0.2), dict(times=TIMES, weights=WEIGHTS)):
        found = fsd.rank_minimizer(moment, latent_variance=1.7, latent_dim=3, **kwargs)
        assert float(fsd.subspace_error(found.decoder, A)) < 1e-24
        assert _status(found) == Status.OK


# --- Lemma 5.1 as printed ----------------------------------------------------------------------


@pytest.mark.usefixtures("x64")
def test_paper_formula_is_the_dense_one():
    x, _ = _samples(12, 8, 3, 0.3, dtype=np.float64)
    moment = fsd.SecondMoment.from_samples(x)
    found = fsd.paper_formula(moment, latent_variance=1.4, time=0.4)
    expected = reference.paper_formula(reference.second_moment(x), 1.4, 0.4)
    np.testing.assert_allclose(_vv(found), expected, atol=1e-11)
    assert found.decoder.shape == (8, 8)
    ours = fsd.rank_minimizer(moment, latent_variance=1.4, latent_dim=3, time=0.4)
    assert np.linalg.norm(_vv(ours) - _vv(found)) > 0.05


@pytest.mark.usefixtures("x64")
def test_paper_formula_agrees_without_noise():
    x, _ = _samples(12, 8, 3, 0.0, dtype=np.float64)
    moment = fsd.SecondMoment.from_samples(x)
    found = fsd.paper_formula(moment, latent_variance=1.4, time=0.4)
    ours = fsd.rank_minimizer(moment, latent_variance=1.4, latent_dim=3, time=0.4)
    np.testing.assert_allclose(_vv(found), _vv(ours), atol=1e-11)


# --- R9: diagonal latent -----------------------------------------------------------------------


def _variable_loss(c, lam2, times, weights, decoder):
    """The loss without ``tr C`` terms, for a diagonal C, by the reference's dense formula."""
    C = np.diag(c)
    zero = np.zeros_like(np.asarray(decoder, np.float64))
    return reference.loss(decoder, C, lam2, times, weights) - reference.loss(
        zero, C, lam2, times, weights
    )


R9_TIMES, R9_WEIGHTS = np.array([0.1, 0.3, 1.0, 3.0]), np.full(4, 0.25)


@pytest.mark.result("R9")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.usefixtures("x64")
def test_r9_the_assignment_beats_the_sorted_pairing(order):
    c = np.array([0.1, 0.05])
    lam2 = np.array([10.0, 1.0])[list(order)]
    moment = fsd.SecondMoment.from_covariance(np.diag(c))
    found = fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=2, times=R9_TIMES)
    value = _variable_loss(c, lam2, R9_TIMES, R9_WEIGHTS, found.decoder)
    np.testing.assert_allclose(value, -1.60869, atol=6e-6)
    assert _status(found) == Status.STATIONARY
    # The other pairing, with its own best gains.
    m2, s2 = reference.levels(R9_TIMES)
    total = 0.0
    for ck, lk in zip(c, [10.0, 1.0], strict=True):
        g = m2 * lk / (m2 * lk + s2)
        a, e, b = (np.mean(v) for v in (g**2 * m2 / s2**2, g**2 / s2, g * m2 / s2**2))
        total -= b**2 * ck**2 / (a * ck + e)
    np.testing.assert_allclose(total, -1.56706, atol=6e-6)


@pytest.mark.usefixtures("x64")
def test_r9_best_pairing_of_the_second_example():
    c, lam2 = np.array([1.0, 0.05]), np.array([2.0, 0.5])
    moment = fsd.SecondMoment.from_covariance(np.diag(c))
    found = fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=2, times=R9_TIMES)
    value = _variable_loss(c, lam2, R9_TIMES, R9_WEIGHTS, found.decoder)
    np.testing.assert_allclose(value, -25.10921, atol=6e-6)


@pytest.mark.result("R9")
@pytest.mark.usefixtures("x64")
def test_diagonal_latent_at_one_time_is_not_identified_but_optimal():
    x, _ = _samples(9, 7, 3, 0.2, dtype=np.float64)
    moment = fsd.SecondMoment.from_samples(x)
    lam2 = np.array([0.5, 2.0, 1.0])
    found = fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=3, time=0.4)
    assert Status.NOT_IDENTIFIED in _status(found)
    m2, s2 = reference.levels(0.4)
    C = reference.second_moment(x)
    c, u = reference.eigenpairs(C)
    H = (u[:, :3] * (m2 * c[:3] / (m2 * c[:3] + s2))) @ u[:, :3].T
    V = np.asarray(found.decoder)
    np.testing.assert_allclose(V @ np.diag(reference.gains(lam2, 0.4)) @ V.T, H, atol=1e-11)


@pytest.mark.parametrize("lam2", [[4.0, 1.0, 0.3], [0.3, 4.0, 1.0], [1.0, 0.3, 4.0]])
@pytest.mark.parametrize("make", ["single", "integrated", "orthonormal"])
@pytest.mark.usefixtures("x64")
def test_column_k_belongs_to_variance_k(lam2, make):
    rng = np.random.default_rng(2)
    A = reference.random_orthonormal(rng, 7, 3)
    moment = fsd.SecondMoment.from_covariance((A * np.array(lam2)) @ A.T)
    if make == "orthonormal":
        found = fsd.orthonormal_minimizer(moment, latent_dim=3, latent_variance=lam2)
    else:
        when = dict(time=0.4) if make == "single" else dict(times=TIMES, weights=WEIGHTS)
        found = fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=3, **when)
    np.testing.assert_allclose(found.gains, 1, atol=1e-10)
    overlap = np.abs(A.T @ np.asarray(found.decoder))
    np.testing.assert_allclose(overlap, np.eye(3), atol=1e-9)


def test_equal_variances_in_an_array_are_the_isotropic_case():
    moment = fsd.SecondMoment.from_samples(_samples(9, 7, 3, 0.2)[0])
    for kwargs in (dict(time=0.4), dict(times=TIMES)):
        one, many = (
            fsd.rank_minimizer(moment, latent_variance=v, latent_dim=3, **kwargs)
            for v in (1.5, [1.5] * 3)
        )
        np.testing.assert_allclose(one.decoder, many.decoder, rtol=1e-6)
        assert _status(many) == Status.OK


@pytest.mark.result("R9")
@pytest.mark.usefixtures("x64")
def test_diagonal_assignment_is_stationary():
    x, _ = _samples(9, 7, 3, 0.2, dtype=np.float64)
    moment = fsd.SecondMoment.from_samples(x)
    arguments = dict(latent_variance=jnp.array([0.5, 2.0, 1.0]), times=TIMES)
    found = fsd.rank_minimizer(moment, latent_dim=3, **arguments)
    gradient = jax.grad(lambda V: fsd.expected_loss(V, moment, **arguments))(found.decoder)
    size = float(fsd.expected_loss(found.decoder, moment, **arguments))
    assert float(jnp.max(jnp.abs(gradient))) < 1e-11 * size


# --- R7: orthonormal ---------------------------------------------------------------------------


@pytest.mark.result("R7")
def test_orthonormal_is_pca(dtype):
    x, _ = _samples(15, 8, 3, 0.3, dtype=dtype)
    found = fsd.orthonormal_minimizer(fsd.SecondMoment.from_samples(x), latent_dim=3)
    np.testing.assert_allclose(
        _vv(found), reference.top_projector(reference.second_moment(x), 3), atol=1e-5
    )
    np.testing.assert_array_equal(found.gains, 1)
    assert _status(found) == Status.OK


@pytest.mark.parametrize("time", [0.05, 0.5, 3.0])
@pytest.mark.usefixtures("x64")
def test_orthonormal_beats_random_orthonormal_decoders(time):
    x, _ = _samples(15, 8, 3, 0.3, dtype=np.float64)
    moment = fsd.SecondMoment.from_samples(x)
    found = fsd.orthonormal_minimizer(moment, latent_dim=3)
    loss = lambda V: fsd.expected_loss(V, moment, latent_variance=0.7, time=time)
    rng = np.random.default_rng(0)
    best = np.asarray(found.decoder)
    rivals = [reference.random_orthonormal(rng, 8, 3) for _ in range(20)]
    rivals += [np.linalg.qr(best + 0.05 * rng.normal(size=best.shape))[0] for _ in range(20)]
    losses = np.asarray(jax.vmap(loss)(jnp.asarray(np.stack(rivals))))
    assert np.all(losses > float(loss(found.decoder)))


@pytest.mark.usefixtures("x64")
def test_orthonormal_noise_free_recovers_the_subspace_from_d_samples():
    x, A = _samples(3, 8, 3, 0.0, dtype=np.float64)
    found = fsd.orthonormal_minimizer(fsd.SecondMoment.from_samples(x), latent_dim=3)
    assert float(fsd.subspace_error(found.decoder, A)) < 1e-20


@pytest.mark.result("R7")
@pytest.mark.parametrize("time", [0.1, 1.0])
@pytest.mark.usefixtures("x64")
def test_brockett_pairing_beats_every_other(time):
    moment, _ = _moment([2.0, 1.0, 0.4, 0.1], dtype=np.float64)
    lam2 = jnp.array([0.5, 3.0, 1.0])
    found = fsd.orthonormal_minimizer(moment, latent_dim=3, latent_variance=lam2)
    loss = lambda V: float(fsd.expected_loss(V, moment, latent_variance=lam2, time=time))
    best = loss(found.decoder)
    for columns in itertools.permutations(range(4), 3):
        assert loss(moment.basis[:, jnp.array(columns)]) >= best - 1e-12 * abs(best)


# --- batches ------------------------------------------------------------------------------------


def test_vmap_over_moment_variance_and_time_equals_a_loop():
    x = np.stack([_samples(6, 9, 3, 0.2, seed=s)[0] for s in range(3)])
    lam2, t = jnp.array([0.5, 1.0, 2.0]), jnp.array([0.1, 0.5, 2.0])

    def one(x, lam2, t):
        moment = fsd.SecondMoment.from_samples(x, route="svd")
        return fsd.rank_minimizer(moment, latent_variance=lam2, latent_dim=3, time=t)

    batch = jax.jit(jax.vmap(one))(x, lam2, t)
    assert batch.decoder.shape == (3, 9, 3)
    for i in range(3):
        np.testing.assert_allclose(
            _vv(jax.tree.map(lambda a, i=i: a[i], batch)), _vv(one(x[i], lam2[i], t[i])), atol=1e-5
        )
    assert "batch=(3,)" in repr(batch)
    assert "3 of 3 ok" in repr(batch)


def test_one_bad_member_is_nan_and_leaves_the_others():
    x = np.stack([_samples(6, 9, 3, 0.2, seed=s)[0] for s in range(3)])
    bad = x.copy()
    bad[1] = np.nan

    def one(x):
        moment = fsd.SecondMoment.from_samples(x)
        return fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=3, times=TIMES)

    batched = jax.jit(jax.vmap(one))
    clean, dirty = batched(x), batched(bad)
    assert Status.NON_FINITE in Status(int(dirty.status[1]))
    assert np.all(np.isnan(np.asarray(dirty.gains[1])))
    rest = jnp.array([0, 2])
    np.testing.assert_array_equal(clean.decoder[rest], dirty.decoder[rest])


def test_repr():
    moment = fsd.SecondMoment.from_samples(_samples(2, 9, 3, 0.2)[0])
    found = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=3, time=0.5)
    assert repr(found) == "Minimizer(D=9, d=3, rank=2, float32, status=rank_deficient)"
