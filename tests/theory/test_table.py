from fractions import Fraction

import pytest

from fsd_jax import theory
from fsd_jax.theory._table_one import TABLE


@pytest.mark.result("Planning")
def test_the_three_rows():
    assert theory.table_one() == (6, 8, 8, 5, 5)
    assert theory.table_one("four_over_d") == (6, 8, 8, 4, 4)
    assert theory.table_one("stated") == (None,) * 5
    # Of the rules tried only this one gives the printed row.
    assert tuple(max(5, n) for n in theory.table_one("four_over_d")) == theory.table_one()


def test_rounding_up_is_exact():
    # The least n with n^d >= n_s^4, in integers.
    for row, n in zip(TABLE, theory.table_one("four_over_d"), strict=True):
        assert (n - 1) ** row.latent_dim < row.n_s**4 <= n**row.latent_dim
    for base, d in [(2, 3), (7, 6), (10, 12), (3, 5)]:
        assert theory.samples_by_rule(n_s=base**d, latent_dim=d) == base**4


def test_the_stated_rule_is_the_theorems_condition():
    d, n_s = 1, 10**6
    least = theory.samples_by_rule(n_s=n_s, latent_dim=d, rule="stated")
    latent = dict(beta=1.0, second_moment=1.0, least_eigenvalue=1.0)
    size = dict(latent_dim=d, ambient_dim=9, n_s=n_s, **latent)
    assert theory.theorem_4_3(n_ta=least, **size).valid
    assert not theory.theorem_4_3(n_ta=least - 1, **size).valid


def test_arguments_are_checked():
    with pytest.raises(ValueError, match="rule"):
        theory.table_one("five")
    with pytest.raises(ValueError, match="rule"):
        theory.samples_by_rule(n_s=10, latent_dim=2, rule="printed")
    with pytest.raises(ValueError, match="n_s must"):
        theory.samples_by_rule(n_s=2, latent_dim=2)
    with pytest.raises(ValueError, match="latent_dim"):
        theory.samples_by_rule(n_s=10, latent_dim=Fraction(1, 2))
