import numpy as np
import pytest
from scipy import stats

from fsd_jax import theory

X = np.array([1.0, 3.0, 10.0, 40.0, 100.0])


def test_a_power_law_is_found_exactly():
    fit = theory.loglog_slope(X, 3 * X**-0.7, 0.1 * X**-0.7)
    assert abs(fit.value + 0.7) < 1e-14
    assert abs(fit.intercept - np.log(3)) < 1e-14
    assert fit.misfit < 1e-20


def test_without_errors_it_is_ordinary_regression():
    y = X**-1.1 * np.array([1.1, 0.9, 1.05, 1.0, 0.93])
    fit = theory.loglog_slope(X, y, level=0.9)
    other = stats.linregress(np.log(X), np.log(y))
    assert abs(fit.value - other.slope) < 1e-13
    assert abs(fit.stderr - other.stderr) < 1e-13
    assert abs(fit.intercept - other.intercept) < 1e-13
    half = other.stderr * stats.t.ppf(0.95, X.size - 2)
    np.testing.assert_allclose([fit.low, fit.high], [other.slope - half, other.slope + half])
    assert fit.misfit is None


def _within(t, freedom):
    """``P(|T| <= t)`` by Student's finite series for whole degrees of freedom."""
    angle, odd = np.arctan(t / freedom**0.5), freedom % 2
    term, total = np.cos(angle) if odd else 1.0, 0.0
    for i in range(freedom // 2):
        total += term
        part = (2 * i + 2) / (2 * i + 3) if odd else (2 * i + 1) / (2 * i + 2)
        term *= np.cos(angle) ** 2 * part
    return 2 / np.pi * (angle + np.sin(angle) * total) if odd else np.sin(angle) * total


@pytest.mark.parametrize("points", range(3, 12))
def test_students_quantile(points):
    x = np.arange(1.0, points + 1)
    y = np.exp(np.cos(x))
    for level in (0.5, 0.95, 0.999):
        fit = theory.loglog_slope(x, y, level=level)
        quantile = (fit.high - fit.value) / fit.stderr
        assert abs(_within(quantile, points - 2) - level) < 1e-10 * (1 - level)


@pytest.mark.result("Slopes")
def test_weights_by_the_normal_equations():
    y, error = X**-0.5 + 0.1, np.array([0.1, 0.02, 0.03, 0.01, 0.005])
    design = np.stack([np.ones_like(X), np.log(X)], axis=1) / (error / y)[:, None]
    covariance = np.linalg.inv(design.T @ design)
    coefficients = covariance @ design.T @ (np.log(y) / (error / y))
    fit = theory.loglog_slope(X, y, error)
    np.testing.assert_allclose([fit.intercept, fit.value], coefficients)
    assert abs(fit.stderr / covariance[1, 1] ** 0.5 - 1) < 1e-12
    rest = design @ coefficients - np.log(y) / (error / y)
    assert abs(fit.misfit / (rest @ rest / 3) - 1) < 1e-10


@pytest.mark.result("Slopes")
def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth, relative, trials = 2 * X**-1.0, 0.03, 2000
    covered = np.zeros((2, trials))
    for i in range(trials):
        y = truth * (1 + relative * rng.standard_normal(X.size))
        for j, error in enumerate((relative * truth, None)):
            fit = theory.loglog_slope(X, y, error, level=0.9)
            covered[j, i] = fit.low < -1 < fit.high
    assert np.all(abs(covered.mean(axis=1) - 0.9) < 4 * (0.9 * 0.1 / trials) ** 0.5)


@pytest.mark.parametrize(
    ("x", "y", "stderr", "words"),
    [
        ([1, 2], [1, 2], None, "3 points"),
        ([2, 2, 2], [1, 2, 3], None, "differ"),
        ([1, 2, 3], [1, 0, 3], None, "y must be positive"),
        ([1, 2], [1, 2, 3], None, "equally long"),
        ([1, 2], [1, 2], [1], "equally long"),
        ([1, 2], [1, 2], [0.1, 0.0], "stderr must be positive"),
        ([[1, 2]], [1, 2], None, "x must have 1 axes"),
    ],
)
def test_arguments_are_checked(x, y, stderr, words):
    with pytest.raises(ValueError, match=words):
        theory.loglog_slope(x, y, stderr)
    with pytest.raises(ValueError, match="level"):
        theory.loglog_slope([1, 2, 3], [1, 2, 3], level=1.0)
