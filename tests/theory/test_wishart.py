import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from fsd_jax import theory

# R19's reference values, each agreeing with Monte Carlo within 1.8 standard errors.
SUBSPACE = [
    ((16, 24, 10, 0.01), 6.25e-4, 1e-6),
    ((4, 6, 10, 0.01), 1.372e-3, 1e-6),
    ((5, 5, 1, 0.1), 0.8598, 1e-4),
    ((24, 10, 1, 1), 18.005, 1e-3),
    ((1, 1, 1, 0.5), 0.3268, 1e-4),
]


@pytest.mark.parametrize(("dim", "n"), [(1, 1), (3, 5), (4, 4), (5, 5), (24, 10), (7, 10**12)])
def test_moments_of_the_trace(dim, n):
    functions = lambda s: np.stack([np.ones_like(s), s, s**2])
    found = theory.wishart_mean(functions, dim=dim, n=n)
    np.testing.assert_allclose(found, [dim, dim, dim * (1 + (dim + 1) / n)], rtol=1e-12)


@pytest.mark.result("R19")
@pytest.mark.parametrize(("setting", "value", "accuracy"), SUBSPACE)
def test_reference_values_of_the_subspace_error(setting, value, accuracy):
    dim, n, variance, t = setting
    r = -np.expm1(-t) / (np.exp(-t) * variance)
    error = theory.wishart_mean(lambda w: (r * (w - 1) / (w + r)) ** 2, dim=dim, n=n)
    assert abs(float(error) - value) < accuracy


@pytest.mark.result("R19")
@pytest.mark.parametrize(("dim", "n"), [(6, 4), (6, 6), (5, 40)])
def test_agrees_with_drawn_samples(dim, n):
    rng = np.random.default_rng(0)
    z = rng.standard_normal((20_000, n, dim))
    eigenvalues = np.linalg.eigvalsh(np.einsum("rni,rnj->rij", z, z) / n)
    draws = np.sum((eigenvalues / (eigenvalues + 0.5)) ** 2, axis=1)
    exact = float(theory.wishart_mean(lambda s: (s / (s + 0.5)) ** 2, dim=dim, n=n))
    assert abs(draws.mean() - exact) < 4 * draws.std() / len(draws) ** 0.5


def test_small_differences_survive_large_samples():
    scaled = 1e12 * theory.wishart_mean(lambda s: (s - 1) ** 2, dim=7, n=10**12)
    assert abs(scaled / 56 - 1) < 1e-8


def test_dimensions_are_checked():
    for bad in (0, 2.5, True):
        with pytest.raises(ValueError, match="dim"):
            theory.wishart_mean(np.square, dim=bad, n=3)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("r", [0.5, 1e-3, 1e-6, 1e-9])
def test_tiny_scales_near_zero_are_resolved(n, r):
    # One dimension: chi with n degrees of freedom, integrated piece by piece.
    F = lambda w: (r * (w - 1) / (w + r)) ** 2
    scale = (n * r) ** 0.5
    edges = [0, *(edge for edge in scale * 4.0 ** np.arange(-6, 30) if edge < 60), 60]
    pieces = [
        integrate.quad(lambda u: F(u * u / n) * stats.chi.pdf(u, n), a, b, epsabs=0, epsrel=1e-11)
        for a, b in itertools.pairwise(edges)
    ]
    exact = sum(piece[0] for piece in pieces)
    assert abs(float(theory.wishart_mean(F, dim=1, n=n)) / exact - 1) < 1e-9


@pytest.mark.parametrize(("dim", "n"), [(320, 320), (320, 2000), (1000, 150)])
def test_large_dimensions(dim, n):
    squares = theory.wishart_mean(lambda s: (s - 1) ** 2, dim=dim, n=n)
    assert abs(float(squares) / (dim * (dim + 1) / n) - 1) < 1e-10
    with pytest.raises(ValueError, match="at most 1024"):
        theory.wishart_mean(np.square, dim=1025, n=1100)


@pytest.mark.parametrize(("dim", "n"), [(1, 1), (3, 5), (4, 4), (5, 5), (24, 10), (9, 10**12)])
def test_covariances_of_traces(dim, n):
    # Var tr S = 2d/n, and Cov(tr S, tr S^2) = 4d(n + d + 1)/n^2.
    found = theory.wishart_covariance(lambda s: np.stack([s - 1, s**2 - 1]), dim=dim, n=n)
    assert abs(found[0, 0] / (2 * dim / n) - 1) < 1e-10
    assert abs(found[0, 1] / (4 * dim * (n + dim + 1) / n**2) - 1) < 1e-10
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.result("R19")
@pytest.mark.parametrize(("dim", "n"), [(6, 4), (6, 6), (5, 40), (1, 3)])
def test_covariances_agree_with_drawn_samples(dim, n):
    rng = np.random.default_rng(1)
    z = rng.standard_normal((20_000, n, dim))
    eigenvalues = np.linalg.eigvalsh(np.einsum("rni,rnj->rij", z, z) / n)
    functions = lambda s: np.stack([(s / (s + 0.5)) ** 2, np.exp(-s)])
    draws = np.sum(functions(eigenvalues), axis=2)
    draws -= draws.mean(axis=1, keepdims=True)
    products = draws[:, None] * draws[None]
    error = products.std(axis=2) / 20_000**0.5
    exact = theory.wishart_covariance(functions, dim=dim, n=n)
    assert np.all(abs(products.mean(axis=2) - exact) < 4 * error)
