import numpy as np
import pytest
from scipy import integrate

from fsd_jax import theory

# R5's curve at (d, n, lambda^2, t), which is exact to order 1/d only.
CURVE = [
    ((24, 48, 1, 1), 4.996),
    ((24, 48, 1, 0.1), 0.540),
    ((24, 10, 1, 1), 18.008),
    ((9, 3000, 3, 0.9), 0.003228),
    ((3, 10, 1, 0.5), 0.248),
    ((5, 5, 1, 0.1), 0.926),
]


def _function(variance, t):
    r = -np.expm1(-t) / (np.exp(-t) * variance)
    return lambda w: (r * (w - 1) / (w + r)) ** 2


@pytest.mark.result("R5")
@pytest.mark.parametrize(("setting", "value"), CURVE)
def test_reference_values(setting, value):
    d, n, variance, t = setting
    curve = theory.marchenko_pastur_mean(_function(variance, t), dim=d, n=n)
    assert abs(curve / value - 1) < 2e-3
    error = theory.expected_subspace_error(
        latent_dim=d, n_ta=n, latent_variance=float(variance), time=t, method="asymptotic"
    )
    assert abs(curve / error - 1) < 1e-12


@pytest.mark.parametrize(("d", "n"), [(24, 48), (24, 10), (7, 500)])
def test_against_the_formula_in_w(d, n):
    y, F = d / n, _function(1.0, 0.3)
    low, high = (1 - y**0.5) ** 2, (1 + y**0.5) ** 2
    # Integrable square roots at both edges are left to the adaptive rule.
    law = integrate.quad(lambda w: F(w) / w, low, high, weight="alg", wvar=(0.5, 0.5))[0]
    pull = integrate.quad(F, low, high, weight="alg", wvar=(-0.5, -0.5))[0]
    curve = d * law / (2 * np.pi * y) + (F(low) + F(high)) / 4 - pull / (2 * np.pi)
    curve += F(0.0) * max(d - n, 0)
    assert abs(theory.marchenko_pastur_mean(F, dim=d, n=n) / curve - 1) < 1e-9


@pytest.mark.parametrize(("d", "n"), [(4, 9), (30, 30), (31, 12), (30, 10**12)])
def test_polynomials_of_degree_two_are_exact(d, n):
    for F, value in [(np.ones_like, d), (lambda s: s, d), (np.square, d * (1 + (d + 1) / n))]:
        assert abs(theory.marchenko_pastur_mean(F, dim=d, n=n) / value - 1) < 1e-11


@pytest.mark.result("R5")
def test_it_is_the_limit_of_the_exact_value():
    # The next term of the expansion falls like 1/d at a fixed ratio.
    F = _function(1.0, 0.5)
    dims = (10, 40, 160)
    gaps = [
        abs(
            theory.marchenko_pastur_mean(F, dim=d, n=2 * d) - theory.wishart_mean(F, dim=d, n=2 * d)
        )
        for d in dims
    ]
    slope = np.polyfit(np.log(dims), np.log(gaps), 1)[0]
    assert abs(slope + 1) < 0.1


def _noisy(d, n, D, variance, noise, replicates=150):
    """Errors of the top d right singular vectors of drawn data."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((replicates, n, D)) * noise**0.5
    x[:, :, :d] += rng.standard_normal((replicates, n, d)) * np.sqrt(variance)
    basis = np.linalg.svd(x, full_matrices=False)[2][:, :d]
    projector = np.swapaxes(basis, 1, 2) @ basis
    return np.sum((projector - np.diag(np.arange(D) < d)) ** 2, axis=(1, 2))


@pytest.mark.result("R12")
@pytest.mark.parametrize(
    ("d", "n", "D", "variance", "noise"),
    [
        (2, 200, 100, 1.0, 0.5),
        (4, 400, 100, 2.0, 1.0),
        (8, 400, 40, 1.0, 0.04),
        (3, 300, 150, [4.0, 2.0, 1.5], 1.0),
        (2, 100, 200, 4.0, 1.0),
    ],
)
def test_spiked_covariance_against_drawn_data(d, n, D, variance, noise):
    values = _noisy(d, n, D, variance, noise)
    limit = theory.spiked_subspace_error(
        latent_dim=d, n_ta=n, ambient_dim=D, latent_variance=variance, residual_variance=noise
    )
    # Four standard errors, and the next order of the limit.
    allowed = 4 * values.std(ddof=1) / len(values) ** 0.5 + limit * d / n
    assert abs(values.mean() - limit) < allowed


def test_spiked_covariance_limits():
    size = dict(latent_dim=3, n_ta=103, ambient_dim=53)
    error = lambda v, tau2: theory.spiked_subspace_error(
        latent_variance=v, residual_variance=tau2, **size
    )
    threshold = theory.spiked_threshold(residual_variance=0.3, **size)
    assert abs(threshold - 0.3 * 0.5**0.5) < 1e-15
    # Blind below it, continuous at it, falling above it, exact without noise.
    assert error(0.999 * threshold, 0.3) == 6
    assert abs(error(threshold * (1 + 1e-9), 0.3) - 6) < 1e-7
    assert np.all(np.diff([error(v, 0.3) for v in np.geomspace(threshold, 100, 30)]) <= 0)
    assert error(1.0, 0.0) == 0
    # Little noise: tr(P_perp E'E)-type perturbation, 2 (D-d) tau^2 tr E[(Z'Z)^-1].
    small = 2 * 50 * 1e-8 * 3 / (2.0 * (103 - 3 - 1))
    assert abs(error(2.0, 1e-8) / small - 1) < 1.1 / 100
    # The textbook form, direction by direction.
    ell, gam = np.array([4.0, 2.0, 0.1]) / 0.3, 50 / 100
    cosine = np.where(ell > gam**0.5, (1 - gam / ell**2) / (1 + gam / ell), 0)
    assert abs(error([4.0, 2.0, 0.1], 0.3) - 2 * np.sum(1 - cosine)) < 1e-12
    with pytest.raises(ValueError, match="n_ta"):
        theory.spiked_subspace_error(
            **{**size, "n_ta": 3}, latent_variance=1.0, residual_variance=0.1
        )


def _moments(rng, variance, n, replicates):
    """Second moments of n samples by Bartlett's factor."""
    d = len(variance)
    factor = np.tril(rng.standard_normal((replicates, d, d)), -1)
    diagonal = np.sqrt(rng.chisquare(n - np.arange(d), (replicates, d)))
    factor = (factor + diagonal[:, :, None] * np.eye(d)) * np.sqrt(variance)[:, None]
    return factor @ np.swapaxes(factor, 1, 2) / n


def _gain_errors(variance, n, n_s, t, replicates=4000):
    """|| V G V' - G* ||_F^2 for drawn target eigenvectors and drawn source eigenvalues."""
    rng = np.random.default_rng(0)
    signal, noise = np.exp(-t), -np.expm1(-t)
    gain = lambda c: signal * c / (signal * c + noise)
    basis = np.linalg.eigh(_moments(rng, variance, n, replicates))[1]
    source = np.sort(variance)[None]
    if n_s is not None:
        source = np.linalg.eigvalsh(_moments(rng, variance, n_s, replicates))
    found = (basis * gain(source)[:, None]) @ np.swapaxes(basis, 1, 2)
    return np.sum((found - np.diag(gain(variance))) ** 2, axis=(1, 2))


@pytest.mark.result("R10")
@pytest.mark.parametrize(
    ("variance", "n", "n_s"),
    [
        ([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], 4000, None),
        ([5.0, 1.0, 2.5], 20_000, 10_000),
        ([1.2, 1.0], 40_000, None),
    ],
)
@pytest.mark.parametrize("t", [0.1, 1.0])
def test_eigengaps_cancel_in_the_gain_error(variance, n, n_s, t):
    error = theory.diagonal_gain_error(latent_variance=variance, n_ta=n, n_s=n_s, time=t)
    values = _gain_errors(np.array(variance), n, n_s, t)
    assert error.valid
    assert error.value == sum(error.terms.values())
    # Four standard errors, and what the margin on the gaps allows.
    allowed = 4 * values.std(ddof=1) / len(values) ** 0.5 + 0.05 * error.value
    assert abs(values.mean() - error.value) < allowed


@pytest.mark.result("R10")
def test_small_gaps_are_reported():
    close = np.linspace(1, 1.1, 6)
    error = theory.diagonal_gain_error(latent_variance=close, n_ta=4000, time=0.5)
    assert not error.valid
    assert "1.16 sampling errors" in error.reason
    # R10: two thirds of the formula only.
    assert 0.6 < _gain_errors(close, 4000, None, 0.5).mean() / error.value < 0.72


def test_equal_variances():
    size = dict(latent_variance=np.full(4, 2.0), n_ta=100, time=0.5)
    assert theory.diagonal_gain_error(**size).value == 0
    error = theory.diagonal_gain_error(**size, n_s=10_000)
    assert error.valid
    assert error.terms["target"] == 0
    # V is exact, and V G V' differs from g* I by the gains only.
    rng = np.random.default_rng(0)
    values = np.linalg.eigvalsh(_moments(rng, np.full(4, 2.0), 10_000, 4000))
    gain = lambda c: c / (c + np.expm1(0.5))
    drawn = np.sum((gain(values) - gain(2.0)) ** 2, axis=1)
    assert abs(drawn.mean() / error.value - 1) < 4 * drawn.std() / drawn.mean() / 4000**0.5 + 0.01
    assert not theory.diagonal_gain_error(**{**size, "n_ta": 3}).valid
