"""What pre-training leaves: the paper's bounds against each other and against the exact error."""

import math

import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import theory

LATENT = {"beta": 2.0, "second_moment": 8.0, "least_eigenvalue": 0.5}


def test_lemma_b_1_is_theorem_4_3s_source_term_over_the_interval():
    sizes = {"latent_dim": 4, "n_s": 10**5, "delta": 0.01, "T": 5.0, "failure": 0.1}
    lemma = theory.lemma_b_1(accuracy=0.1, **sizes, **LATENT)
    theorem = theory.theorem_4_3(ambient_dim=30, n_ta=10, **sizes, **LATENT)
    assert lemma.terms["source"] == pytest.approx(4.99 * theorem.terms["source"], rel=1e-12)
    assert lemma.terms["network"] == pytest.approx(4 / 0.01 * 0.1**2)
    assert lemma.value == sum(lemma.terms.values())


def test_lemma_b_1_says_when_its_condition_holds():
    n_s, d = 10**6, 2
    alpha = theory.log_exponent(n_s, d)
    largest = n_s ** (-(1 - alpha) / (d + 5))
    for factor, valid in ((0.99, True), (1.01, False)):
        bound = theory.lemma_b_1(latent_dim=d, n_s=n_s, accuracy=factor * largest, **LATENT)
        assert bound.valid is valid
        assert ("holds" if valid else "fails") in bound.reason


def test_lemma_d_3_lies_above_the_exact_error_and_falls_half_as_fast():
    d, D, delta = 4, 20, 1e-2
    times, weights = fsd.VP().quadrature(delta=delta)
    sizes = [10**k for k in range(2, 8)]
    exact = [
        theory.expected_score_error(
            latent_dim=d, n_ta=d, n_s=n, latent_variance=1.0, times=times, weights=weights
        )
        for n in sizes
    ]
    bound = [theory.lemma_d_3(latent_dim=d, ambient_dim=D, n_s=n, delta=delta).value for n in sizes]
    assert np.all(np.array(bound) > np.array(exact))
    assert theory.loglog_slope(sizes, exact).value == pytest.approx(-1, abs=0.02)
    assert theory.loglog_slope(sizes, bound).value == pytest.approx(-0.5, abs=0.05)
    by_hand = math.sqrt((16 + 80) * math.log(80e4) * 20 * math.log(20) / 1e4) / delta
    assert bound[2] == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(
    ("bad", "name"),
    [({"accuracy": 0.0}, "accuracy"), ({"n_s": 2}, "n must be"), ({"T": 1e-4}, "T - delta"),
     ({"failure": 1.0}, "failure"), ({"beta": -1.0}, "beta")],
)  # fmt: skip
def test_lemma_b_1_checks_its_arguments(bad, name):
    with pytest.raises(ValueError, match=name):
        theory.lemma_b_1(**({"latent_dim": 2, "n_s": 100, "accuracy": 0.1, **LATENT} | bad))


def test_lemma_d_3_checks_its_arguments():
    with pytest.raises(ValueError, match="ambient_dim"):
        theory.lemma_d_3(latent_dim=4, ambient_dim=3, n_s=100)
    with pytest.raises(ValueError, match="delta"):
        theory.lemma_d_3(latent_dim=4, ambient_dim=30, n_s=100, delta=0.0)
