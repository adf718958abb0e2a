"""The sampler against SciPy's law, from one degree of freedom to 10^12."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from fsd_jax import simulate
from fsd_jax.simulate._chi_square import log1p_tail

N = 100_000
FREEDOM = (1, 2, 3, 4, 5, 9, 15, 50, 1e3, 1e6, 1e9, 1e12)


@pytest.mark.result("R13")
def test_law_from_one_to_a_million_million_degrees():
    draws = simulate.centred_chi_square(
        jax.random.key(1), jnp.array(FREEDOM, jnp.float32), N
    )  # one row each: neighbours must not disturb each other
    for k, row in zip(FREEDOM, np.asarray(draws, float), strict=True):
        # Skewness beyond 1e9 is 1e-4: the normal law is exact to this test's resolution.
        exact = scipy.stats.chi2(k).cdf if k < 1e9 else scipy.stats.norm(scale=(2 * k) ** 0.5).cdf
        shifted = row + k if k < 1e9 else row
        assert scipy.stats.kstest(shifted, exact).pvalue > 1e-4, k
        assert abs(row.mean()) < 5 * (2 * k / N) ** 0.5
        kurtosis = 3 + 12 / k
        assert abs(row.var() / (2 * k) - 1) < 5 * ((kurtosis - 1) / N) ** 0.5


def test_rows_are_uncorrelated_and_dead_rows_are_zero():
    draws = simulate.centred_chi_square(jax.random.key(2), jnp.array([3.0, 3.0, 0.0, -2.0]), N)
    correlation = np.corrcoef(np.asarray(draws[:2], float))[0, 1]
    assert abs(correlation) < 5 / N**0.5
    np.testing.assert_array_equal(draws[2] + 0.0, 0.0)
    np.testing.assert_array_equal(draws[3] - 2.0, 0.0)


@pytest.mark.usefixtures("x64")
def test_float64_is_used_when_asked_for():
    freedom = jnp.array([7.0, 1e12], jnp.float64)
    draws = simulate.centred_chi_square(jax.random.key(3), freedom, 1000)
    assert draws.dtype == jnp.float64
    assert np.all(np.isfinite(draws))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("order", [1, 3])
def test_log_tail_is_accurate_on_both_sides_of_the_switch(order):
    y = jnp.array([-0.9, -0.26, -0.24, -1e-3, 1e-5, 0.24, 0.26, 3.0], jnp.float64)
    terms = np.arange(order + 1, 400)
    for value, got in zip(np.asarray(y), np.asarray(log1p_tail(y, order)), strict=True):
        if abs(value) < 0.95:
            exact = np.sum((-1.0) ** (terms + 1) / terms * value**terms)
        else:
            known = np.arange(1, order + 1)
            exact = np.log1p(value) - np.sum((-1.0) ** (known + 1) / known * value**known)
        np.testing.assert_allclose(got, exact, rtol=2e-11)


def test_every_draw_is_finite():
    # A uniform that is exactly zero comes up twice in so many.
    @jax.jit
    def finite(key):
        return jnp.all(jnp.isfinite(simulate.centred_chi_square(key, jnp.array([2.0]), 2**24)))

    assert bool(finite(jax.random.key(5)))
