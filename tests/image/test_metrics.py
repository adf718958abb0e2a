"""Measures against slow versions and known values, and their bootstrap errors against truth."""

import statistics

import jax
import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance

import fsd_jax as fsd
from fsd_jax.image import closed_form, metrics
from fsd_jax.image.classify import TargetClassifier

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(10, 30)).astype(np.float32)


def test_copies_are_memorised_and_strangers_are_not():
    copies = np.repeat(TRAIN, 4, axis=0)
    noisy = copies + 0.01 * RNG.normal(size=copies.shape).astype(np.float32)
    for samples in (copies, noisy):
        assert metrics.memorised_fraction(samples, TRAIN).value == 1
    strangers = RNG.normal(size=(40, 30)).astype(np.float32)
    assert metrics.memorised_fraction(strangers, TRAIN).value == 0
    half = np.concatenate([noisy, strangers])
    found = metrics.memorised_fraction(half, TRAIN)
    assert found.value == 0.5
    # The exact standard error of a share is known.
    assert found.stderr == pytest.approx((0.25 / 80) ** 0.5, rel=0.2)
    assert found.low < 0.5 < found.high


def test_the_interval_of_a_share_is_wilsons():
    for hits, n in ((0, 64), (0, 400), (400, 400), (1, 10), (13, 40)):
        found = metrics.share_of(np.arange(n) < hits)
        for end in (found.low, found.high):
            # Where the share is 1.96 of its own standard errors away.
            wide = statistics.NormalDist().inv_cdf(0.975) ** 2 * end * (1 - end) / n
            assert (hits / n - end) ** 2 == pytest.approx(wide, abs=1e-12)
        assert 0 <= found.low <= found.value <= found.high <= 1
        assert found.high - found.low > 0.005


def test_distances_are_measured_directly():
    samples = TRAIN[:5] + np.float32(1e-4) * RNG.normal(size=(5, 30)).astype(np.float32)
    exact = scipy.spatial.distance.cdist(samples.astype(float), TRAIN.astype(float))
    found = metrics.nearest_distances(samples, TRAIN)
    np.testing.assert_allclose(found, np.sort(exact, axis=1)[:, :2], rtol=1e-3)
    assert metrics.nearest_distance(samples, TRAIN).value == pytest.approx(found[:, 0].mean())
    images = samples.reshape(5, 2, 5, 3)
    assert np.array_equal(metrics.nearest_distances(images, TRAIN), found)


def test_diversity_is_the_mean_distance_of_pairs():
    samples = RNG.normal(size=(50, 8))
    found = metrics.diversity(samples)
    assert found.value == pytest.approx(scipy.spatial.distance.pdist(samples).mean())
    assert metrics.diversity(np.ones((5, 3))).value == pytest.approx(0, abs=1e-6)
    # Replicates of fresh samples spread as the bootstrap says.
    fresh = [metrics.diversity(RNG.normal(size=(50, 8))).value for _ in range(60)]
    assert found.stderr == pytest.approx(np.std(fresh), rel=0.5)


def test_frechet_distance_is_the_formula():
    x, y = RNG.normal(size=(80, 4)), RNG.normal(0.5, 2, size=(90, 4)) @ RNG.normal(size=(4, 4))
    C, K = np.cov(x.T), np.cov(y.T)
    root = scipy.linalg.sqrtm(C @ K).real
    want = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(C + K - 2 * root)
    found = metrics.frechet_distance(x, y)
    assert found.value == pytest.approx(want, rel=1e-6)
    assert 0 < found.stderr < want
    assert metrics.frechet_distance(x, x).value == pytest.approx(0, abs=1e-6)


def test_frechet_refuses_a_singular_covariance():
    x, y = RNG.normal(size=(10, 5)), RNG.normal(size=(50, 5))
    for pair in ((x, y), (y, x)):
        with pytest.raises(ValueError, match="10 samples of 5 features"):
            metrics.frechet_distance(*pair)


def test_kernel_distance_is_unbiased():
    def slow(x, y):
        kernel = lambda a, b: (a @ b / len(a) + 1) ** 3
        off = lambda z: np.mean(
            [kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
        )
        return off(x) + off(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])

    x, y = RNG.normal(size=(9, 3)), RNG.normal(1, 1, size=(7, 3))
    assert metrics.kernel_distance(x, y).value == pytest.approx(slow(x, y))
    same = [
        metrics.kernel_distance(RNG.normal(size=(30, 3)), RNG.normal(size=(30, 3))).value
        for _ in range(100)
    ]
    assert abs(np.mean(same)) < 4 * np.std(same) / 10


def test_the_interval_of_a_mean_covers_it():
    covered = 0
    for trial in range(200):
        found = metrics.mean_of(RNG.normal(size=40), seed=trial)
        covered += found.low < 0 < found.high
    # 95% nominal, a little less for 40 samples; four standard errors of 200 trials are .06.
    assert covered / 200 > 0.95 - 0.02 - 0.06


def test_denoising_losses_agree_with_the_exact_ones():
    basis = np.linalg.qr(RNG.normal(size=(30, 3)))[0].astype(np.float32)
    score = fsd.LinearScore.from_decoder(basis, latent_variance=1.0, residual_variance=0.1)
    times = np.array([0.1, 1.0], np.float32)
    drawn = metrics.denoising_losses(
        jax.random.key(1), score, np.repeat(TRAIN, 200, axis=0), times=times, draws=2
    ).reshape(10, 200, 2)
    error = drawn.std(axis=1, ddof=1) / 200**0.5
    exact = closed_form.heldout_losses(jax.random.key(0), score, TRAIN, times=times)
    assert np.max(np.abs(drawn.mean(axis=1) - exact) / error) < 4.5
    summed = score.losses(TRAIN, times, np.array([0.4, 0.6], np.float32))
    np.testing.assert_allclose(exact @ [0.4, 0.6], summed, rtol=1e-5)


def test_features_are_principal_components():
    x = RNG.normal(size=(60, 12)) * np.linspace(3, 1, 12)
    x = x.astype(np.float32)
    features = metrics.Features.fit(x, 5)
    got = features(x)
    assert got.shape == (60, 5)
    assert np.mean(got**2) == pytest.approx(1, rel=1e-4)
    _, s, _ = np.linalg.svd(x - x.mean(0))
    np.testing.assert_allclose(np.sqrt(np.sum(got**2, axis=0)) * features.scale, s[:5], rtol=1e-4)
    moment = fsd.SecondMoment.from_samples(x, rank=5, centre=True)
    np.testing.assert_allclose(np.abs(metrics.Features.fit(moment, 5)(x)), np.abs(got), atol=1e-3)
    with pytest.raises(ValueError, match="rank"):
        metrics.Features.fit(x, 13)
    with pytest.raises(ValueError, match="centred"):
        metrics.Features.fit(fsd.SecondMoment.from_samples(x), 3)


def test_the_classifier_knows_how_good_it_is():
    shift = np.zeros(20)
    shift[0] = 2.0
    draw = lambda n, sign: (RNG.normal(size=(n, 20)) + sign * shift).astype(np.float32)
    found = TargetClassifier.fit(draw(500, -1), draw(500, 1), rank=8)
    # The best possible accuracy is Phi(2) = .977.
    assert abs(found.accuracy.value - 0.977) < 4 * found.accuracy.stderr + 0.01
    assert found.share(draw(400, 1)).value == pytest.approx(0.977, abs=0.04)
    assert found.share(draw(400, -1)).value == pytest.approx(0.023, abs=0.04)
    with pytest.raises(ValueError, match="at least 10"):
        TargetClassifier.fit(draw(500, -1), draw(9, 1))


def test_bad_input():
    with pytest.raises(ValueError, match="train"):
        metrics.nearest_distances(TRAIN, TRAIN[:1])
    with pytest.raises(ValueError, match="samples"):
        metrics.diversity(TRAIN[0])
    with pytest.raises(ValueError, match="samples"):
        metrics.diversity(TRAIN[:1])
