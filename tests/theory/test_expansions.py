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
