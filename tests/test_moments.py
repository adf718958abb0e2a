import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import Status, _linalg, _moments, _stream
from tests import reference

ROUTES = ["svd", "gram", "krylov", "covariance", "stream"]
KRYLOV_KEY = 7


def _data(n, ambient, *, k=6, decay=2.0, noise=0.02, dtype=np.float32, seed=0, offset=0.0):
    """Samples with k strong directions above a floor, so that every cut at k has a gap."""
    rng = np.random.default_rng(seed)
    scale = decay ** -np.arange(k)
    A = reference.random_orthonormal(rng, ambient, k)
    x = rng.normal(size=(n, k)) * scale @ A.T + noise * rng.normal(size=(n, ambient))
    return (x + offset).astype(dtype)


def _moment(route, x, rank, *, centre=False):
    if route == "covariance":
        C = reference.second_moment(x, centre=centre).astype(x.dtype)
        return fsd.SecondMoment.from_covariance((C + C.T) / 2, rank=rank)
    if route == "stream":
        parts = np.array_split(x, 3) if len(x) >= 3 else [x]
        return fsd.SecondMoment.from_batches(parts, rank=rank, centre=centre)
    return fsd.SecondMoment.from_samples(x, rank=rank, centre=centre, route=route)


def _status(moment):
    return Status(int(moment.status))


def _dense(moment):
    basis = np.asarray(moment.basis, np.float64)
    return (basis * np.asarray(moment.values, np.float64)) @ basis.T


@pytest.mark.result("R14")
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(("n", "ambient"), [(40, 25), (25, 60)])
@pytest.mark.parametrize("centre", [False, True])
def test_every_route_gives_the_leading_eigenpairs(route, n, ambient, centre):
    x = _data(n, ambient, k=3, offset=0.5)
    k = 3 if centre else 4
    moment = _moment(route, x, k, centre=centre)
    C = reference.second_moment(x, centre=centre)
    expected = reference.eigenpairs(C)[0]
    assert moment.route == route
    np.testing.assert_allclose(moment.values, expected[:k], rtol=2e-4)
    np.testing.assert_allclose(
        reference.projector(moment.basis), reference.top_projector(C, k), atol=2e-4
    )
    np.testing.assert_allclose(moment.total, np.trace(C), rtol=1e-4)
    if route != "krylov":
        np.testing.assert_allclose(moment.next_value, expected[k], rtol=2e-2)
    else:
        assert 0 < float(moment.next_value) <= expected[k] * 1.02


@pytest.mark.oldest
@pytest.mark.parametrize("route", ["svd", "gram", "covariance", "stream"])
def test_routes_in_both_precisions(route, dtype):
    x = _data(12, 9, k=3, dtype=dtype)
    moment = _moment(route, x, 3)
    assert moment.values.dtype == moment.basis.dtype == moment.total.dtype == dtype
    tolerance = 1e-3 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(
        reference.projector(moment.basis),
        reference.top_projector(reference.second_moment(x), 3),
        atol=tolerance,
    )
    assert _status(moment) == Status.OK


@pytest.mark.usefixtures("x64")
def test_float32_data_stay_float32_in_x64_mode():
    x = _data(12, 9, k=3)
    for route in ("svd", "gram", "covariance", "stream"):
        moment = _moment(route, x, 3)
        assert {leaf.dtype for leaf in jax.tree.leaves(moment)} <= {
            np.dtype(np.float32), np.dtype(np.int32),
        }  # fmt: skip


def test_every_direction_reproduces_the_matrix():
    for n, ambient in [(5, 9), (9, 5)]:
        x = _data(n, ambient, k=3, noise=0.5)
        moment = fsd.SecondMoment.from_samples(x)
        assert moment.values.shape == (5,)
        np.testing.assert_allclose(_dense(moment), reference.second_moment(x), atol=1e-5)
        np.testing.assert_allclose(moment.residual, 0)
        assert float(moment.count) == n


@pytest.mark.result("R14")
def test_residual_is_the_mean_of_what_is_left_out():
    x = _data(30, 10, k=3, noise=0.3)
    moment = fsd.SecondMoment.from_samples(x, rank=3)
    values = reference.eigenpairs(reference.second_moment(x))[0]
    np.testing.assert_allclose(moment.residual, values[3:].mean(), rtol=1e-4)
    np.testing.assert_allclose(moment.next_value, values[3], rtol=1e-3)


def test_half_precision_is_widened():
    x = _data(8, 5, k=3).astype(np.float16)
    assert fsd.SecondMoment.from_samples(x).values.dtype == jnp.float32


# --- masks, centring -------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["auto", "svd", "gram"])
@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("poison", [0.0, np.nan, np.inf])
def test_a_mask_drops_rows_whatever_they_hold(route, centre, poison):
    x = _data(10, 14, k=3, offset=0.3)
    keep = np.array([1, 1, 0, 1, 1, 0, 1, 1, 1, 0], bool)
    padded = np.where(keep[:, None], x, poison).astype(np.float32)
    masked = fsd.SecondMoment.from_samples(padded, rank=3, centre=centre, mask=keep, route=route)
    dropped = fsd.SecondMoment.from_samples(x[keep], rank=3, centre=centre, route=route)
    assert float(masked.count) == keep.sum()
    np.testing.assert_allclose(masked.values, dropped.values, rtol=1e-4)
    np.testing.assert_allclose(masked.total, dropped.total, rtol=1e-5)
    np.testing.assert_allclose(
        reference.projector(masked.basis), reference.projector(dropped.basis), atol=1e-4
    )
    if centre:
        np.testing.assert_allclose(masked.mean, dropped.mean, atol=1e-6)


@pytest.mark.oldest
def test_a_mask_that_leaves_fewer_rows_than_directions():
    x = _data(6, 9, k=3)
    moment = fsd.SecondMoment.from_samples(x, mask=np.arange(6) < 2)
    assert int(np.sum(np.asarray(moment.values) > 0)) == 2
    np.testing.assert_array_equal(moment.basis[:, 2:], 0)


@pytest.mark.parametrize("route", ["svd", "gram", "krylov", "stream"])
@pytest.mark.parametrize("offset", [100.0])
def test_centring_survives_a_large_offset(route, offset):
    x = _data(30, 25, k=3, offset=offset)
    moment = _moment(route, x, 3, centre=True)
    C = reference.second_moment(x, centre=True)
    np.testing.assert_allclose(moment.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(moment.values, reference.eigenpairs(C)[0][:3], rtol=2e-3)
    np.testing.assert_allclose(
        reference.projector(moment.basis), reference.top_projector(C, 3), atol=3e-3
    )


def test_a_centred_pair_has_one_direction():
    x = _data(2, 5, k=2)
    moment = fsd.SecondMoment.from_samples(x, centre=True)
    half = (x[0] - x[1]).astype(np.float64) / 2
    np.testing.assert_allclose(moment.values, [half @ half, 0], rtol=1e-5)


# --- what the data cannot determine ----------------------------------------------------------


@pytest.mark.oldest
@pytest.mark.parametrize("route", ["auto", "svd", "gram"])
@pytest.mark.parametrize("case", ["duplicates", "subspace", "zero", "constant row"])
def test_rank_deficient_data_have_zero_columns(route, case):
    base = np.random.default_rng(3).normal(size=(3, 12)).astype(np.float32)
    rank, x = {
        "duplicates": (3, np.concatenate([base, base, base])),
        "subspace": (
            3, np.random.default_rng(4).normal(size=(20, 3)).astype(np.float32) @ base
        ),
        "zero": (0, np.zeros((4, 12), np.float32)),
        "constant row": (1, np.ones((5, 12), np.float32)),
    }[case]  # fmt: skip
    moment = fsd.SecondMoment.from_samples(x, route=route)
    assert int(np.sum(np.asarray(moment.values) > 0)) == rank
    assert np.all(np.asarray(moment.basis[:, rank:]) == 0)
    assert Status.NON_FINITE not in _status(moment)
    np.testing.assert_allclose(_dense(moment), reference.second_moment(x), atol=1e-4)


@pytest.mark.oldest
@pytest.mark.parametrize("extra", ["mask", "mean", "mask and mean"])
def test_krylov_with_mean_and_mask(extra):
    x = _data(40, 50, k=4, offset=0.5)
    keep = np.arange(40) % 5 != 0
    mask = keep if "mask" in extra else None
    centre = "mean" in extra
    moment = fsd.SecondMoment.from_samples(
        np.where(keep[:, None], x, np.nan).astype(np.float32) if "mask" in extra else x,
        rank=4, centre=centre, mask=mask, route="krylov", key=jax.random.key(KRYLOV_KEY),
    )  # fmt: skip
    rows = x[keep] if mask is not None else x
    C = reference.second_moment(rows, centre=centre)
    np.testing.assert_allclose(moment.values, reference.eigenpairs(C)[0][:4], rtol=1e-3)
    np.testing.assert_allclose(
        reference.projector(moment.basis), reference.top_projector(C, 4), atol=1e-3
    )
    assert _status(moment) == Status.OK


@pytest.mark.parametrize("rank", [2, 3, 6])
def test_krylov_on_rank_deficient_data_stays_orthonormal(rank):
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(60, 3)) @ rng.normal(size=(3, 70))).astype(np.float32)
    moment = fsd.SecondMoment.from_samples(x, rank=rank, route="krylov")
    found = min(rank, 3)
    gram = np.asarray(moment.basis.T @ moment.basis)
    np.testing.assert_allclose(gram, np.diag(np.arange(rank) < found).astype(float), atol=1e-5)
    C = reference.second_moment(x)
    np.testing.assert_allclose(moment.values[:found], reference.eigenpairs(C)[0][:found], rtol=1e-4)
    np.testing.assert_allclose(
        reference.projector(moment.basis), reference.top_projector(C, found), atol=1e-4
    )


def test_krylov_keys_agree():
    x = _data(40, 50, k=4)
    first, second = (
        fsd.SecondMoment.from_samples(x, rank=4, route="krylov", key=jax.random.key(s))
        for s in (0, 1)
    )
    np.testing.assert_allclose(
        reference.projector(first.basis), reference.projector(second.basis), atol=1e-3
    )


def test_auto_takes_krylov_for_large_data_and_a_small_rank():
    x = _data(490, 500, k=2)
    moment = fsd.SecondMoment.from_samples(x, rank=2)
    assert moment.route == "krylov"
    np.testing.assert_allclose(
        reference.projector(moment.basis),
        reference.top_projector(reference.second_moment(x), 2),
        atol=1e-3,
    )


# --- R15: squaring loses weak directions ------------------------------------------------------


def _weak(ratio, *, n=20, ambient=200, d=7, seed=0):
    """Exactly rank d, the last singular value being `ratio` times the first."""
    rng = np.random.default_rng(seed)
    u = reference.random_orthonormal(rng, n, d)
    v = reference.random_orthonormal(rng, ambient, d)
    s = np.ones(d)
    s[-1] = ratio
    return (np.sqrt(n) * (u * s) @ v.T).astype(np.float32), v @ v.T


@pytest.mark.result("R15")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_auto_falls_back_to_svd_for_a_weak_direction(seed):
    x, truth = _weak(1e-3, seed=seed)
    moment = fsd.SecondMoment.from_samples(x, rank=7)
    assert moment.route == "svd"
    assert _status(moment) == Status.OK
    np.testing.assert_allclose(reference.projector(moment.basis), truth, atol=1e-4)
    assert np.linalg.norm(reference.projector(moment.basis) - truth, 2) < 1e-3


def test_gram_forced_on_a_weak_direction_is_flagged():
    x, _ = _weak(1e-3)
    moment = fsd.SecondMoment.from_samples(x, rank=7, route="gram")
    assert moment.route == "gram"
    assert Status.ROUTE_UNSAFE in _status(moment)


def test_the_cut_of_the_minimiser_is_checked_too():
    # All 20 directions kept: the moment's own cut is its rank; the minimiser cuts at 7.
    rng = np.random.default_rng(0)
    x, _ = _weak(1e-3)
    x = x + (1e-3 * 0.3 * rng.normal(size=x.shape) / np.sqrt(10)).astype(np.float32)
    moment = fsd.SecondMoment.from_samples(x, route="gram")
    found = fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=7, time=0.5)
    assert Status.ROUTE_UNSAFE in Status(int(found.status))


def test_a_strong_gap_stays_on_the_gram_route():
    x, truth = _weak(0.3)
    moment = fsd.SecondMoment.from_samples(x, rank=7)
    assert moment.route == "gram"
    np.testing.assert_allclose(reference.projector(moment.basis), truth, atol=1e-4)


def _worst_gram_error(factor):
    """Largest projector error of the forced Gram route at a gap of `factor` margins, unflagged."""
    ratio = np.sqrt(factor * _linalg.GAP_MARGIN * np.finfo(np.float32).eps)
    errors = []
    for seed in range(12):
        x, truth = _weak(ratio, seed=seed)
        moment = fsd.SecondMoment.from_samples(x, rank=7, route="gram")
        assert _status(moment) == Status.OK
        errors.append(np.linalg.norm(reference.projector(moment.basis) - truth, 2))
    return max(errors)


@pytest.mark.result("R15")
@pytest.mark.parametrize("factor", [1.1, 8.0])
def test_gap_margin_bounds_the_projector_error(factor):
    assert _worst_gram_error(factor) < 1e-2


@pytest.mark.usefixtures("x64")
def test_float64_needs_no_fallback():
    x, _ = _weak(1e-3)
    moment = fsd.SecondMoment.from_samples(x.astype(np.float64), rank=7)
    assert moment.route == "gram"


# --- batches of problems, compilations --------------------------------------------------------


def _from(route, rank, centre=False):
    def one(x):
        return fsd.SecondMoment.from_samples(x, rank=rank, route=route, centre=centre)

    return one


@pytest.mark.parametrize(
    ("route", "value"),
    [
        (route, value)
        for route in ("auto", "svd", "gram", "krylov")
        for value in (np.nan, np.inf, 1e30)
        if route != "krylov" or value != np.inf
    ],
)
def test_one_bad_member_leaves_the_others_as_they_are(route, value):
    x = np.stack([_data(30, 24, k=3, seed=s) for s in range(3)])
    bad = x.copy()
    bad[1, 4, 5] = value
    batched = jax.jit(jax.vmap(_from(route, 3)))
    clean, dirty = batched(x), batched(bad)
    assert Status.NON_FINITE in Status(int(dirty.status[1]))
    assert np.all(np.isnan(np.asarray(dirty.values[1])))
    for a, b in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
        np.testing.assert_array_equal(np.asarray(a)[[0, 2]], np.asarray(b)[[0, 2]])


def test_one_bad_covariance_leaves_the_others_as_they_are():
    C = np.stack([reference.second_moment(_data(9, 6, k=3, seed=s)) for s in range(3)])
    C = C.astype(np.float32)
    bad = C.copy()
    bad[1, 0, 0] = np.nan
    batched = jax.jit(jax.vmap(lambda c: fsd.SecondMoment.from_covariance(c, rank=3)))
    clean, dirty = batched(C), batched(bad)
    assert Status.NON_FINITE in Status(int(dirty.status[1]))
    np.testing.assert_array_equal(clean.basis[jnp.array([0, 2])], dirty.basis[jnp.array([0, 2])])


def test_vmapped_equals_looped():
    x = np.stack([_data(6, 11, k=3, seed=s) for s in range(4)])
    batch = jax.vmap(_from("auto", 3))(x)
    for i in range(4):
        one = _from("auto", 3)(x[i])
        np.testing.assert_allclose(batch.values[i], one.values, rtol=1e-5)
        np.testing.assert_allclose(
            reference.projector(batch.basis[i]), reference.projector(one.basis), atol=1e-4
        )


@pytest.mark.oldest
def test_one_compilation_for_masks_of_differing_n():
    x = _data(13, 17, k=3)
    counted = _moments._from_samples
    fsd.SecondMoment.from_samples(x, rank=3, mask=np.arange(13) < 4)
    before = counted._cache_size()
    for n in (3, 5, 13):
        fsd.SecondMoment.from_samples(x, rank=3, mask=np.arange(13) < n)
    assert counted._cache_size() == before
    fsd.SecondMoment.from_samples(x, rank=2, mask=np.arange(13) < 4)
    assert counted._cache_size() == before + 1


@pytest.mark.oldest
def test_stream_compiles_once_for_equal_and_shorter_batches():
    x = _data(23, 19, k=3)
    fsd.SecondMoment.from_batches([x[:10]], rank=3)
    before = _stream.merge._cache_size()
    fsd.SecondMoment.from_batches([x[:10], x[10:20], x[20:]], rank=3)
    assert _stream.merge._cache_size() == before


# --- streams ----------------------------------------------------------------------------------


@pytest.mark.parametrize("centre", [False, True])
@pytest.mark.parametrize("sizes", [(12,), (5, 5, 2), (1, 4, 7)])
def test_a_stream_is_exact_for_moderate_dimensions(centre, sizes):
    x = _data(12, 10, k=3, offset=1.0, noise=0.3)
    parts = np.split(x, np.cumsum(sizes)[:-1])
    seen = []
    stream = fsd.SecondMoment.from_batches(
        iter(parts), rank=3, centre=centre, progress=lambda *a: seen.append(a)
    )
    whole = fsd.SecondMoment.from_samples(x, rank=3, centre=centre, route="svd")
    assert seen == list(zip(range(1, len(sizes) + 1), np.cumsum(sizes), strict=True))
    assert _status(stream) == Status.OK
    assert float(stream.count) == 12
    for name in ("values", "total", "next_value", "residual"):
        np.testing.assert_allclose(getattr(stream, name), getattr(whole, name), rtol=1e-3)
    np.testing.assert_allclose(
        reference.projector(stream.basis), reference.projector(whole.basis), atol=1e-4
    )
    if centre:
        np.testing.assert_allclose(stream.mean, whole.mean, atol=1e-6)


def test_a_compressed_stream_is_close_when_there_is_a_gap():
    x = _data(240, 1100, k=2, noise=1e-3)
    stream = fsd.SecondMoment.from_batches(np.split(x, 3), rank=2)
    whole = fsd.SecondMoment.from_samples(x, rank=2, route="svd")
    assert _status(stream) == Status.OK
    np.testing.assert_allclose(stream.values, whole.values, rtol=1e-4)
    np.testing.assert_allclose(stream.total, whole.total, rtol=1e-4)
    assert float(fsd.subspace_error(stream.basis, whole.basis)) < 1e-6


def test_a_compressed_stream_without_a_gap_is_flagged():
    x = np.random.default_rng(0).normal(size=(240, 1100)).astype(np.float32)
    stream = fsd.SecondMoment.from_batches(np.split(x, 3), rank=2)
    assert Status.TRUNCATED in _status(stream)


def test_a_non_finite_batch_is_flagged():
    x = _data(8, 5, k=3)
    x[6, 2] = np.nan
    moment = fsd.SecondMoment.from_batches([x[:4], x[4:]], rank=2, throw=False)
    assert Status.NON_FINITE in _status(moment)
    assert np.all(np.isnan(np.asarray(moment.values)))


# --- words ------------------------------------------------------------------------------------


@pytest.mark.oldest
def test_repr_names_route_and_status():
    assert repr(fsd.SecondMoment.from_samples(_data(4, 9, k=3))) == (
        "SecondMoment(D=9, k=4, float32, route=gram, centred=False, status=ok)"
    )
    batch = jax.vmap(_from("svd", 2))(np.stack([_data(4, 9, k=3)] * 2))
    assert repr(batch) == (
        "SecondMoment(batch=(2,), D=9, k=2, float32, route=svd, centred=False, status=2 of 2 ok)"
    )


def test_repr_under_a_trace_does_not_fail():
    seen = []

    def f(x):
        moment = fsd.SecondMoment.from_samples(x)
        seen.append(repr(moment))
        return moment.values

    jax.jit(f)(_data(4, 9, k=3))
    assert "traced" in seen[0]


@pytest.mark.parametrize("route", ["svd", "stream"])
def test_an_eigenvalue_too_small_for_its_dtype_is_told(route):
    # Variances 1e-38 to 1e-40 at this scale: some or all of them are zero in float32.
    x = _data(40, 8, noise=0.2)
    for scale in (1e-19, 1e-20):
        found = _moment(route, x * np.float32(scale), 6)
        assert Status.UNDERFLOW in Status(int(found.status))
    fine = _moment(route, x * np.float32(2.0**-50), 6)
    assert fsd.describe(fine.status) == "ok"
    # A power of two changes no digit, in a stream's sketch either.
    np.testing.assert_allclose(fine.values * 2.0**100, _moment(route, x, 6).values, rtol=1e-5)
