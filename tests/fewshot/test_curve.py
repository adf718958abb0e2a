"""What other numbers of samples would bring: the exact loss by dense matrices, and the rows."""

import numpy as np
import pytest
import scipy.stats

import fsd_jax as fsd
from fsd_jax.fewshot import choice, curve

D = 12


def test_expected_loss_is_that_of_dense_matrices():
    rng = np.random.default_rng(0)
    sizes, base, true = np.array([3, 4, 5]), np.array([2.0, 0.5, 0.1]), np.array([1.5, 0.6, 0.0])
    X, Y, delta = rng.normal(size=(4, D)), rng.normal(size=(2, D)), rng.normal(size=D)
    parts = np.split(np.concatenate([X, Y, [delta]]), [3, 7], axis=1)
    grams = np.stack([part @ part.T for part in parts])
    levels = choice.levels(fsd.VP(), 8)
    found = curve.expected_loss(grams, 4, base, true, sizes, levels)
    eye, wanted = np.eye(D), 0.0
    law = np.diag(np.repeat(true, sizes)) + Y.T @ Y
    for signal, noise, weight in zip(*levels, strict=True):
        P = np.linalg.inv(signal * (np.diag(np.repeat(base, sizes)) + X.T @ X) + noise * eye)
        bias = np.trace(P @ P @ law) + np.sum((P @ delta) ** 2)
        wanted += weight * (signal * bias + np.sum((eye - noise * P) ** 2) / noise)
    assert found == pytest.approx(wanted, rel=1e-12)


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(1)
    spread = np.sqrt(1.0 / np.arange(1, D + 1))
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    source = np.float32(rng.normal(size=(60, D)) * spread)
    return fsd.adapt(source, np.float32(rng.normal(size=(8, D)) * spread @ turn + 0.5))


def test_drawn_samples_have_the_fitted_law(model):
    setting = curve._Setting.of(model)
    x = curve._coordinates(model)
    y = np.asarray(model.samples, np.float64) - np.asarray(model.source.mean, np.float64)
    assert np.allclose(x @ x.T, y @ y.T, atol=1e-5)
    law = setting.law(x, np.asarray(model.choices.point))
    n = 40_000
    draws = law.draw(np.random.default_rng(2), n) - law.step
    wanted = np.diag(law.base) + law.about.T @ law.about
    scale = np.sqrt(np.outer(np.diag(wanted), np.diag(wanted)) + wanted**2)
    # Entries of a Wishart mean; five standard errors for 144 of them.
    assert np.max(np.abs(draws.T @ draws / n - wanted) / scale) < 5 / n**0.5
    # And that law is the model's: the spectra agree.
    own = np.sort(np.asarray(model.law.variance, np.float64))[::-1]
    theirs = np.linalg.eigvalsh(wanted)[::-1]
    assert np.allclose(theirs[: len(own)], own, rtol=1e-3, atol=1e-4 * own[0])


def test_more_samples_bring_more_and_far_ones_are_labelled(model):
    near, far = model.learning_curve([7, 30])
    assert (near.n, far.n) == (7, 30)
    # One less than the eight: what leaving one out measures, with nothing to simulate.
    level = model.report().model
    assert near.loss == pytest.approx(level.loss, rel=1e-6)
    t = scipy.stats.t.ppf(0.95, 7)
    assert near.high - near.loss == pytest.approx(level.loss_stderr * t * (1 + 8 / 7) ** 0.5)
    assert far.loss < near.loss
    assert far.low < far.loss < far.high
    assert (near.extrapolated, far.extrapolated) == (False, True)
    assert "30 samples would have loss" in str(far)
    assert "(extrapolation)" in str(far)


def test_bad_sizes_and_models(model):
    with pytest.raises(ValueError, match="sizes must be a list"):
        model.learning_curve(20)
    with pytest.raises(ValueError, match="sizes must be"):
        model.learning_curve([0])
    other = fsd.source_as_is(model.source, model.samples)
    with pytest.raises(ValueError, match="needs a model that adapt chose"):
        other.learning_curve([20])
    few = fsd.adapt(model.source, model.samples[:3])
    with pytest.raises(ValueError, match="at least 4 different target samples, got 3"):
        few.learning_curve([20])
