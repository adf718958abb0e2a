"""Measures of odd arrays: integers, halves, offsets, repetitions, NaN, and in little memory."""

import math
import tracemalloc

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance

import fsd_jax as fsd
from fsd_jax import _neighbours
from fsd_jax._rows import rows
from fsd_jax.image import _draw, data, metrics, unet
from fsd_jax.image.classify import TargetClassifier

RNG = np.random.default_rng(1)
GREYS = np.full((3, 8, 8), 128, np.uint8), np.stack([np.zeros((8, 8)), np.full((8, 8), 255)])


def test_pictures_of_integers_are_widened():
    grey, ends = GREYS
    for dtype in (
        np.uint8,
        np.int16,
        np.float16,
        ml_dtypes.bfloat16,
        np.float32,
        ">f4",
        np.longdouble,
    ):
        found = metrics.nearest_distances(grey.astype(dtype), ends.astype(np.uint8))
        assert found.dtype == np.float64
        assert np.array_equal(found, np.repeat([[1016.0, 1024.0]], 3, axis=0))
    assert metrics.memorised_fraction(grey, ends.astype(np.uint8)).value == 0
    device = jnp.asarray(grey), jnp.asarray(ends, jnp.uint8)
    assert np.array_equal(metrics.nearest_distances(*device)[0], [1016, 1024])


SETS = {
    "uint8": lambda x: np.clip(128 + 20 * x, 0, 255).astype(np.uint8),
    "float16": lambda x: (100 * x).astype(np.float16),
    "offset": lambda x: (1e4 + x).astype(np.float32),
    "jax": lambda x: jnp.asarray(x, jnp.float32),
    "big": lambda x: 1e200 * x,
    "tiny": lambda x: 1e-200 * x,
}


def _slow_frechet(x, y):
    C, K = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(C @ K).real
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(C + K - 2 * root)


@pytest.mark.parametrize("kind", SETS)
def test_measures_do_not_depend_on_the_dtype(kind):
    make = SETS[kind]
    x, y = make(RNG.normal(size=(60, 3))), make(RNG.normal(0.3, 1.2, size=(50, 3)))
    unit = {"big": 1e200, "tiny": 1e-200}.get(kind, 1.0)
    a, b = (np.asarray(z).astype(float) / unit for z in (x, y))
    near = np.sort(scipy.spatial.distance.cdist(a, b), axis=1)[:, :2]
    # Sums of three squares in float64; the offset's own rounding is that of its input.
    np.testing.assert_allclose(metrics.nearest_distances(x, y) / unit, near, rtol=1e-12)
    spread = scipy.spatial.distance.pdist(a).mean()
    assert metrics.diversity(x).value / unit == pytest.approx(spread, rel=1e-12)
    if kind in ("big", "tiny"):
        # The square is beyond float64, and so is its root's square: inf and 0 are the right values.
        with np.errstate(over="ignore"):
            assert metrics.frechet_distance(x, y, draws=0).value in (0, math.inf)
        return
    near_origin = a - a.mean(0), b - a.mean(0)
    want = _slow_frechet(*near_origin)
    assert metrics.frechet_distance(x, y).value == pytest.approx(want, rel=1e-9)
    kernel = lambda p, q: (p @ q.T / 3 + 1) ** 3
    off = lambda z: (kernel(z, z).sum() - np.trace(kernel(z, z))) / (len(z) * (len(z) - 1))
    sizes = kernel(a, b).mean()
    slow = off(a) + off(b) - 2 * sizes
    assert metrics.kernel_distance(x, y).value == pytest.approx(slow, abs=1e-13 * abs(sizes))


def test_frechet_does_not_cancel():
    """Of laws that are nearly alike: a sum of squares is right where traces leave rounding."""
    x = RNG.normal(size=(400, 6)) @ np.diag([100, 30, 10, 3, 1, 0.3])
    x -= x.mean(axis=0)
    trace = np.trace(np.cov(x.T))
    for share in (1e-3, 1e-6, 1e-9):
        found = metrics.frechet_distance(x, (1 + share) * x, draws=0).value
        # Entries of the factors are right to eps of the largest, so is the root of the distance.
        assert found == pytest.approx(share**2 * trace, rel=1e-14 / share)
    assert metrics.frechet_distance(x, x).value < 1e-28 * trace


def test_repeated_training_pictures_are_one():
    train = RNG.normal(size=(10, 30)).astype(np.float32)
    twice = np.concatenate([train, train[:4], train[:1]])
    copies = np.repeat(train, 3, axis=0) + np.float32(1e-3)
    assert metrics.memorised_fraction(copies, twice).value == 1
    assert np.array_equal(
        metrics.nearest_distances(copies, twice), metrics.nearest_distances(copies, train)
    )
    zeros = np.zeros((4, 3), np.float32)
    zeros[2:] = -0.0
    with pytest.raises(ValueError, match="train has 1 row that is not a repetition"):
        metrics.memorised_fraction(zeros, zeros)
    assert metrics.nearest_distance(zeros + 1, zeros).value == pytest.approx(3**0.5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(bad):
    x = RNG.normal(size=(30, 4))
    broken = x.copy()
    broken[7, 2] = bad
    for measure in (
        metrics.memorised_fraction,
        metrics.nearest_distance,
        metrics.frechet_distance,
        metrics.kernel_distance,
    ):
        with pytest.raises(ValueError, match=r"(samples|x) has NaN or infinite entries.*row 7"):
            measure(broken, x)
        with pytest.raises(ValueError, match=r"(train|y) has NaN"):
            measure(x, broken)
    with pytest.raises(ValueError, match="samples has NaN"):
        metrics.diversity(broken)
    with pytest.raises(ValueError, match="values has NaN"):
        metrics.mean_of(broken[:, 2])
    with pytest.raises(ValueError, match="x has NaN"):
        metrics.Features.fit(x.astype(np.float32), 2)(broken)


def test_near_duplicates_keep_their_order():
    """Many training points within rounding of one another, far from the origin."""
    cluster = 1e3 + 1e-9 * RNG.normal(size=(40, 5))
    train = np.concatenate([cluster, -cluster, RNG.normal(size=(20, 5))])
    samples = cluster[:15] + 1e-10 * RNG.normal(size=(15, 5))
    exact = np.sort(scipy.spatial.distance.cdist(samples, train), axis=1)[:, :2]
    np.testing.assert_allclose(metrics.nearest_distances(samples, train), exact, rtol=1e-12)
    # The pictures themselves: a distance of zero is zero.
    assert np.array_equal(metrics.nearest_distances(train, train)[:, 0], np.zeros(100))


def test_an_outlier_does_not_blur_the_others():
    train = np.concatenate([RNG.normal(size=(50, 4)), [[1e12, 0, 0, 0]]])
    samples = RNG.normal(size=(30, 4))
    exact = np.sort(scipy.spatial.distance.cdist(samples, train), axis=1)[:, :2]
    np.testing.assert_allclose(metrics.nearest_distances(samples, train), exact, rtol=1e-12)


def test_blocks_do_not_change_the_numbers(monkeypatch):
    x, y = RNG.normal(size=(70, 5)), RNG.normal(1, 1, size=(45, 5))
    measures = (metrics.nearest_distance, metrics.frechet_distance, metrics.kernel_distance)
    run = lambda: [measure(x, y, draws=9) for measure in measures] + [metrics.diversity(x, draws=9)]
    whole = run()
    for module in ("_rows", "_neighbours", "image._bootstrap", "image.metrics"):
        monkeypatch.setattr(f"fsd_jax.{module}.BLOCK", 60)
    monkeypatch.setattr("fsd_jax._rows.Rows.slices.__defaults__", (60,))
    for a, b in zip(whole, run(), strict=True):
        for name in ("value", "stderr", "low", "high"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9)


def test_the_bootstrap_is_optional():
    x, y = RNG.normal(size=(40, 3)), RNG.normal(size=(40, 3))
    for measure in (metrics.nearest_distance, metrics.frechet_distance, metrics.kernel_distance):
        bare = measure(x, y, draws=0)
        assert bare.value == measure(x, y).value
        assert all(math.isnan(v) for v in (bare.stderr, bare.low, bare.high))
    share = metrics.share_of([True, False, False, False], draws=0)
    assert share.stderr == pytest.approx((0.25 * 0.75 / 4) ** 0.5)
    assert (share.low, share.high) == (
        metrics.share_of(np.array([1, 0, 0, 0])).low,
        metrics.share_of(np.array([1, 0, 0, 0])).high,
    )
    with pytest.raises(ValueError, match="draws"):
        metrics.diversity(x, draws=1)


def _peak(run):
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


FULL = pytest.param(50_000, 2048, marks=pytest.mark.slow)


@pytest.mark.parametrize(("n", "k"), [(4000, 128), FULL])
def test_little_memory_above_the_inputs(n, k):
    """Below 1 GB at 50,000 samples of 2048 features; where blocks are nearly all, below 200 MB."""
    x = RNG.standard_normal((n, k), np.float32)
    y = RNG.standard_normal((n, k), np.float32)
    bound = 1e9 if n == 50_000 else 2e8
    assert _peak(lambda: metrics.nearest_distances(x, y)) < bound
    assert _peak(lambda: metrics.frechet_distance(x, y, draws=0)) < bound
    if n < 50_000:
        # Three kernel matrices would be 384 MB.
        assert _peak(lambda: metrics.kernel_distance(x, y, draws=0)) < bound
        assert _peak(lambda: metrics.diversity(x, draws=0)) < bound


def test_many_features_draw_no_bootstrap_unasked():
    """4100 x 2048 asked for 128 GiB; here in proportion."""
    k = metrics.FREE_BOOTSTRAP + 1
    x, y = RNG.normal(size=(2 * k + 4, k)), RNG.normal(size=(2 * k + 4, k))
    found = metrics.frechet_distance(x, y)
    assert math.isnan(found.stderr)
    assert found.value == pytest.approx(_slow_frechet(x, y), rel=1e-8)


def test_losses_of_a_score_of_another_shape_are_refused():
    x = RNG.normal(size=(4, 6)).astype(np.float32)
    key, times = jax.random.key(0), [0.5]
    losses = metrics.denoising_losses
    with pytest.raises(
        ValueError, match=r"must return an array of x's shape \(4, 6\), got \(4, 1\)"
    ):
        losses(key, lambda x, t: -x[:, :1], x, times=times)
    basis = np.eye(6, 2, dtype=np.float32)
    exact = fsd.LinearScore.from_decoder(basis, latent_variance=1.0, residual_variance=0.1)
    # A bound method is no pytree.
    function = losses(key, exact.__call__, x, times=times)
    np.testing.assert_allclose(function, losses(key, exact, x, times=times), rtol=1e-5)
    pixels = (10 * x).astype(np.int8)
    wide = losses(key, exact, pixels.astype(np.float32), times=times)
    np.testing.assert_allclose(losses(key, exact, pixels, times=times), wide)


BAD_CALLS = {
    "samples": lambda x: metrics.nearest_distances("pictures", x),
    "train": lambda x: metrics.nearest_distances(x, x[:, :2]),
    "threshold": lambda x: metrics.memorised_fraction(x, x, threshold=-1.0),
    "seed": lambda x: metrics.memorised_fraction(x, x, seed=1.5),
    "draws": lambda x: metrics.nearest_distance(x, x, draws=True),
    "traced": lambda x: jax.jit(metrics.nearest_distances)(x, x),
    "shape": lambda x: metrics.frechet_distance(x[0], x),
    "entries": lambda x: metrics.kernel_distance(x, x[:, :2]),
    "floating": lambda x: metrics.diversity(x > 0),
    "masked": lambda x: metrics.diversity(np.ma.masked_greater(x, 0)),
    "hits": lambda x: metrics.share_of(np.array([0.5])),
    "values": metrics.mean_of,
    "key": lambda x: metrics.denoising_losses(0, lambda x, t: -x, x, times=[1.0]),
    "score": lambda x: metrics.denoising_losses(jax.random.key(0), None, x, times=[1.0]),
    "below": lambda x: metrics.kernel_distance(x, 1e60 * x.astype(float)),
    "process": lambda x: metrics.denoising_losses(
        jax.random.key(0), lambda x, t: -x, x, times=[1.0], process=1
    ),
    "times": lambda x: metrics.denoising_losses(jax.random.key(0), lambda x, t: -x, x, times=[0.0]),
    "rank": lambda x: metrics.Features.fit(x, 1.0),
    "vary": lambda x: metrics.Features.fit(np.ones((5, 3), np.float32), 1),
}


@pytest.mark.parametrize("word", BAD_CALLS)
def test_bad_calls_name_what_is_wrong(word):
    with pytest.raises(ValueError, match=word):
        BAD_CALLS[word](RNG.normal(size=(9, 3)).astype(np.float32))


def test_features_of_integers():
    x = RNG.integers(0, 256, (40, 4, 3), np.uint8)
    found = metrics.Features.fit(x, 3)
    wide = metrics.Features.fit(x.astype(np.float32), 3)
    assert np.array_equal(found(x), wide(x.astype(np.float32)))


def test_the_candidates_hold_the_nearest():
    x, y = rows("x", RNG.normal(size=(50, 3))), rows("y", RNG.normal(size=(300, 3)))
    place, least = _neighbours._candidates(x, y)
    exact = scipy.spatial.distance.cdist(x.data, y.data)
    assert np.array_equal(np.sort(place), np.sort(np.argsort(exact, axis=1)[:, : place.shape[1]]))
    assert np.all(least <= np.sort(exact, axis=1)[:, _neighbours.CANDIDATES - 1] ** 2)


def test_a_classifier_of_integers_and_of_kinds():
    x = RNG.integers(0, 100, (30, 4), np.uint8)
    fit = lambda **given: TargetClassifier.fit(**({"source": x, "target": x + 100} | given))
    found = fit(rank=np.int64(2))
    assert found.share(x + 100, seed=1).value == 1
    assert found.share(jnp.asarray(x)).value == 0
    broken = np.full((30, 4), np.nan)
    for word, given in {
        "source has 9": {"source": x[:9]},
        "target has NaN": {"target": broken},
        "same number of entries": {"target": x[:, :3]},
        "features must be a Features": {"features": "all"},
        "rank must": {"rank": 2.0},
        "seed must": {"seed": None},
        "source must be a floating": {"source": x > 50},
    }.items():
        with pytest.raises(ValueError, match=word):
            fit(**given)
    with pytest.raises(ValueError, match="x has samples of 3 entries"):
        found.share(x[:, :3])


def test_a_new_network_checks_its_arguments():
    images = RNG.random((3, 4, 4, 1)).astype(np.float32)
    new = lambda **given: unet.new_unet_score(
        **({"key": jax.random.key(0), "x_source": images} | given)
    )
    for word, given in {
        "key": {"key": 1},
        "size must be a UNetSize": {"size": 16},
        "process must be a VP": {"process": None},
        "floating": {"x_source": (255 * images).astype(np.uint8)},
        "NaN": {"x_source": np.full_like(images, np.nan)},
        "again and again": {"x_source": np.ones_like(images)},
        "shape": {"x_source": images[0]},
    }.items():
        with pytest.raises(ValueError, match=word):
            new(**given)


def test_drawing_checks_its_arguments(tmp_path):
    fine = {"style": "critters", "role": "source", "count": 1, "size": 8, "seed": 0}
    for word, given in {
        "style": {"style": "dogs"},
        "role": {"role": "heldout"},
        "count": {"count": 1.5},
        "size": {"size": True},
        "workers": {"workers": 0},
        "progress": {"progress": 1},
    }.items():
        with pytest.raises(ValueError, match=word):
            _draw.pictures(**(fine | given))
    for word in ("workers", "progress", "cache"):
        with pytest.raises(ValueError, match=word):
            data.critters(source=1, shots=1, heldout=0, **({"cache": tmp_path} | {word: 0}))
    with pytest.raises(ValueError, match="seed"):
        data.digits().redraw(-1)


def test_a_score_that_returns_nothing_is_named():
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match="score must return an array of x's shape"):
        metrics.denoising_losses(jax.random.key(0), lambda x, t: None, x, times=[0.1])
