from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsd_jax import simulate


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("n", [2, 4, 30])
def test_bartlett_has_the_wishart_moments(n):
    dim, draws = 4, 20_000
    keys = jax.random.split(jax.random.key(n), draws)
    factors = np.asarray(jax.vmap(lambda k: simulate.bartlett_factor(k, jnp.int32(n), dim))(keys))
    assert np.all(np.tril(factors, -1) == 0)
    assert np.all(factors[:, n:] == 0)
    scatter = np.einsum("rki,rkj->rij", factors, factors)
    error = scatter.std(axis=0, ddof=1) / draws**0.5
    assert np.all(np.abs(scatter.mean(axis=0) - n * np.eye(dim)) < 4.5 * error)
    # E tr S^2 = n d (n + d + 1).
    squares = np.sum(scatter**2, axis=(1, 2))
    expected = n * dim * (n + dim + 1)
    assert abs(squares.mean() - expected) < 4 * squares.std() / draws**0.5


SQUARES = jax.jit(simulate.WishartSpectra.sum_of_squares)
DIVERGENCES = jax.jit(simulate.WishartSpectra.sum_of_divergences)


def _numpy_eigenvalues(n, dim, draws):
    z = np.random.default_rng(n + 100 * dim).standard_normal((draws, n, dim))
    return np.linalg.eigvalsh(np.einsum("rni,rnj->rij", z, z) / n)


@partial(jax.jit, static_argnames=("dim", "replicates"))
def _spectra(n, dim, replicates, seed=0):
    size = jnp.asarray(n, float)
    deviations = simulate.centred_chi_square(
        jax.random.key(seed), simulate.wishart_freedom(size, dim), replicates
    )
    return simulate.WishartSpectra.from_deviations(deviations, size, dim)


@pytest.mark.result("R13")
@pytest.mark.parametrize(("dim", "n"), [(4, 10), (6, 3), (1, 7)])
def test_sums_over_eigenvalues_have_the_wishart_law(dim, n):
    e = _numpy_eigenvalues(n, dim, 10_000) - 1
    spectra = _spectra(n, dim, 30_000)
    a, b, rho = 0.4, -0.1, 0.3
    for drawn, theirs in (
        (SQUARES(spectra, a, b, rho), (((a * e + b) / (1 + e + rho)) ** 2).sum(1)),
        (
            DIVERGENCES(spectra, rho),
            (1 / (1 + e / (1 + rho)) - 1 + np.log1p(e / (1 + rho))).sum(1),
        ),
    ):
        ours = np.asarray(drawn, float)
        error = np.hypot(ours.std() / len(ours) ** 0.5, theirs.std() / len(theirs) ** 0.5)
        assert abs(ours.mean() - theirs.mean()) < 4 * error
        # The laws agree, not only their means: quantiles, within what the samples can tell.
        for level in (0.1, 0.5, 0.9):
            below = np.mean(ours < np.quantile(theirs, level))
            assert abs(below - level) < 5 * 0.5 * (1 / len(theirs) + 1 / len(ours)) ** 0.5


@pytest.mark.result("R13")
@pytest.mark.parametrize("n", [3])
def test_recurrences_equal_the_eigenvalues_of_their_own_matrix(n, dtype):
    dim = 5
    spectra = _spectra(n, dim, 50)
    diagonal = np.sqrt(1 + np.asarray(spectra.diagonal, float).clip(-1))
    below = np.sqrt(np.asarray(spectra.below, float))
    rho = np.array([0.05, 2.0])[:, None]
    squares = np.asarray(SQUARES(spectra, 1.0, 0.2, jnp.asarray(rho)))
    divergences = np.asarray(DIVERGENCES(spectra, jnp.asarray(rho)))
    for r in range(50):
        B = np.diag(diagonal[:, r]) + np.diag(below[:, r], -1)
        e = np.linalg.eigvalsh(B @ B.T) - 1
        rtol = 2e4 * np.finfo(dtype).eps
        exact = (((e + 0.2) / (1 + e + rho)) ** 2).sum(1)
        np.testing.assert_allclose(squares[:, r], exact, rtol=rtol)
        y = e / (1 + rho)
        exact = (1 / (1 + y) - 1 + np.log1p(y)).sum(1)
        np.testing.assert_allclose(divergences[:, r], exact, rtol=rtol)


@pytest.mark.parametrize("n", [1e4, 1e12])
def test_float32_keeps_its_digits_however_large_the_sample(n):
    # Both sums start at a quadratic form of the deviation, whose mean is d(d+1)/n.
    dim, rho = 6, 0.7
    spectra = _spectra(n, dim, 40_000)
    expected = dim * (dim + 1) / n / (1 + rho) ** 2
    for drawn in (SQUARES(spectra, 1.0, 0.0, rho), 2 * DIVERGENCES(spectra, rho)):
        values = np.asarray(drawn, float)
        tolerance = 4 * values.std() / len(values) ** 0.5 / expected + 40 / n
        assert abs(values.mean() / expected - 1) < tolerance
