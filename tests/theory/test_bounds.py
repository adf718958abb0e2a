import math

import numpy as np
import pytest

from fsd_jax import theory
from fsd_jax.theory._table_one import TABLE

WORLD = dict(latent_dim=3, ambient_dim=20, n_ta=50, n_s=1000)
LATENT = dict(beta=2.0, second_moment=1.5, least_eigenvalue=0.5)


@pytest.mark.result("The paper's bounds as numbers")
def test_theorem_4_3_by_hand():
    bound = theory.theorem_4_3(**WORLD, **LATENT, delta=0.01, T=5.0, failure=0.1)
    # (1+2)^2 20 27/(.01 4.99 sqrt(50)) log 10
    assert abs(bound.terms["target"] / 31715.124 - 1) < 1e-5
    # alpha = 3 log(6.907755)/6.907755 = .839356; (3+1.5) 9 4/(1e-4 .5) 1000^(-.321288/8) log 10
    assert abs(bound.terms["source"] / 5652797.22 - 1) < 1e-5
    assert bound.value == sum(bound.terms.values())
    # 8/(4 .160644) = 12.45, and 50^12.45 is far above 1000.
    assert bound.valid
    assert "12.4" in bound.reason


def test_theorem_4_3_rates_and_condition():
    few = theory.theorem_4_3(**WORLD, **LATENT)
    many = theory.theorem_4_3(**{**WORLD, "n_ta": 200}, **LATENT)
    assert abs(many.terms["target"] / few.terms["target"] - 0.5) < 1e-12
    assert not theory.theorem_4_3(**{**WORLD, "n_ta": 1}, **LATENT).valid
    # In Table 1's rows alpha is between 4.8 and 8.1, and more source samples make the bound worse.
    for row in TABLE:
        size = dict(latent_dim=row.latent_dim, ambient_dim=3072, n_ta=row.printed)
        bound, more = (theory.theorem_4_3(**size, n_s=k * row.n_s, **LATENT) for k in (1, 10))
        assert not bound.valid
        assert "positive exponent" in bound.reason
        assert more.terms["source"] > bound.terms["source"]
        assert 4.7 < theory.log_exponent(row.n_s, row.latent_dim) < 8.2
    assert theory.log_exponent(10**44, 22) > 1 > theory.log_exponent(10**45, 22)


@pytest.mark.result("The paper's bounds as numbers")
def test_theorem_5_2_by_hand():
    size = dict(latent_dim=2, ambient_dim=10, n_ta=40, n_s=100, latent_variance=4.0, time=0.5)
    bound = theory.theorem_5_2(**size, beta=0.5, delta=0.01, failure=0.1)
    level = 4 * math.exp(-0.5) + 1 - math.exp(-0.5)
    assert abs(bound.terms["target"] / (2 * math.log(10) * 2 / 40 * level) - 1) < 1e-12
    # M = 4 (1/4) (2+4)/2 sqrt(20 log(2000) 10)
    M = 3 * math.sqrt(200 * math.log(2000))
    assert abs(bound.terms["source"] / (2 * math.log(10) / level * M / (0.02 * 10)) - 1) < 1e-12
    assert bound.valid
    assert not theory.theorem_5_2(**{**size, "n_ta": 1}).valid
    # The default constant is that of the latent score: max(1, 1/lambda^2), one here.
    assert theory.theorem_5_2(**size) == theory.theorem_5_2(**size, beta=1.0)
    with pytest.raises(ValueError, match="failure"):
        theory.theorem_5_2(**size, failure=1.0)


@pytest.mark.result("The paper's bounds as numbers")
def test_theorem_5_2_needs_a_constant():
    grid = [
        (d, n, v, t) for d in (1, 4) for n in (4, 100) for v in (0.01, 1.0) for t in (0.01, 1.0)
    ]
    bounds, exact = [], []
    for d, n, v, t in grid:
        world = dict(latent_dim=d, n_ta=n, latent_variance=v, time=t)
        bounds.append(theory.theorem_5_2(ambient_dim=10, n_s=10, **world).terms["target"])
        exact.append(theory.expected_subspace_error(**world))
    least = theory.least_constant(bounds, exact)
    # Many samples: exact/term = (1 + 1/d) s2^2/(m^2 lambda^2 + s2)^3/log(1/delta_1).
    s2 = -math.expm1(-0.01)
    limit = 2 * s2**2 / (0.01 * math.exp(-0.01) + s2) ** 3 / math.log(20)
    assert grid[least.index[0]] == (1, 100, 0.01, 0.01)
    assert 0.99 < least.value / limit < 1.05
    np.testing.assert_allclose(np.max(np.array(exact) / bounds), least.value)


def test_least_constant_on_a_grid():
    rng = np.random.default_rng(0)
    bound, exact = rng.uniform(1, 2, (3, 4)), rng.uniform(1, 2, (3, 4))
    least = theory.least_constant(bound, exact)
    assert np.all(least.value * bound >= exact * (1 - 1e-15))
    assert abs(least.value * bound[least.index] / exact[least.index] - 1) < 1e-15
    with pytest.raises(ValueError, match="same shape"):
        theory.least_constant(bound, exact[0])


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (dict(ambient_dim=2), "ambient_dim"),
        (dict(n_s=2), "n_s must be"),
        (dict(delta=20.0), "delta"),
        (dict(beta=-1.0), "beta"),
        (dict(failure=0.0), "failure"),
    ],
)
def test_arguments_are_checked(bad, name):
    with pytest.raises(ValueError, match=name):
        theory.theorem_4_3(**{**WORLD, **LATENT, **bad})
