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


@pytest.mark.result("The paper's bounds as numbers")
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
    [
        ({"accuracy": 0.0}, "accuracy"),
        ({"n_s": 2}, "n_s must be"),
        ({"T": 1e-4}, "delta and T"),
        ({"failure": 1.0}, "failure"),
        ({"beta": -1.0}, "beta"),
    ],
)
def test_lemma_b_1_checks_its_arguments(bad, name):
    with pytest.raises(ValueError, match=name):
        theory.lemma_b_1(**({"latent_dim": 2, "n_s": 100, "accuracy": 0.1, **LATENT} | bad))


def test_lemma_d_3_checks_its_arguments():
    with pytest.raises(ValueError, match="ambient_dim"):
        theory.lemma_d_3(latent_dim=4, ambient_dim=3, n_s=100)
    with pytest.raises(ValueError, match="delta"):
        theory.lemma_d_3(latent_dim=4, ambient_dim=30, n_s=100, delta=0.0)


def test_lemma_b_2_bounds_the_covering_of_a_circle():
    # D = 2, d = 1, f(z, t) = g z: the scores of two directions at an angle differ by at most
    # g reach sin(angle)/s2, so arcs that long on both sides of a centre cover the half circle.
    g, s2, radius = 0.5, 0.25, 1.0
    reach = 3 * radius + math.sqrt(2 * math.log(2))
    size = {"latent_dim": 1, "ambient_dim": 2, "radius": radius, "lipschitz": 1.0, "delta": s2}
    finest = [10.0**-k for k in range(1, 7)]
    exact = [math.log(math.ceil(math.pi / 2 / math.asin(s2 * i / (g * reach)))) for i in finest]
    bound = [theory.lemma_b_2(accuracy=i, output_bound=reach, **size).value for i in finest]
    assert np.all(np.array(bound) > np.array(exact))
    steps = np.diff(np.log(finest))
    assert np.diff(exact)[-1] / steps[-1] == pytest.approx(-1, abs=0.01)  # d (D - d) = 1
    assert np.diff(bound)[-1] / steps[-1] == pytest.approx(-4, abs=0.01)  # 2 D d = 4


@pytest.mark.parametrize("side", ["above", "below"])
@pytest.mark.parametrize("slack", [0.1, 1.0])
def test_lemma_d_1_holds_for_coins(side, slack):
    failure = 0.05
    for n, p in [(5, 0.01), (20, 0.3), (100, 0.5), (100, 0.03)]:
        limit = theory.lemma_d_1(
            n=n, bound=1.0, log_cover=0.0, accuracy=0.0, slack=slack, side=side, failure=failure
        ).value
        heads = np.arange(n + 1)
        chance = np.array([math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in heads])
        mean = heads / n
        off = mean - (1 + slack) * p if side == "above" else p - (1 + slack) * mean
        assert chance[off > limit].sum() <= failure


def test_lemma_d_1_counts_the_class_and_its_cover():
    size = {"n": 10, "bound": 2.0, "slack": 0.5}
    few = theory.lemma_d_1(log_cover=0.0, accuracy=0.0, **size)
    many = theory.lemma_d_1(log_cover=math.log(20), accuracy=0.1, **size)
    assert many.terms["class"] == pytest.approx(2 * few.value)  # log(20) = log(1/.05)
    assert many.terms["cover"] == pytest.approx(2.5 * 0.1)


def test_lemma_d_2_fails_where_vectors_are_few_and_its_constant_is_short():
    failure, draws = 0.05, 2000
    spread = 4 * math.sqrt(failure * (1 - failure) / draws)
    rng = np.random.default_rng(0)
    for d, n, valid, factor, holds in (
        (16, 1, False, 1.0, False),
        (16, 64, True, 1.0, False),
        (16, 64, True, 1.5, True),
        (1, 64, True, 1.0, True),
    ):
        bound = theory.lemma_d_2(latent_dim=d, n=n, failure=failure)
        assert bound.valid is valid
        a = rng.normal(size=(draws, n, d))
        values = np.linalg.eigvalsh(np.swapaxes(a, 1, 2) @ a / n)
        beyond = np.mean(np.max(np.abs(values - 1), axis=1) > factor * bound.value)
        assert (beyond <= failure + spread) == holds


@pytest.mark.parametrize(
    ("lemma", "given", "name"),
    [
        (theory.lemma_b_2, {"accuracy": 0.0}, "accuracy"),
        (theory.lemma_d_1, {"slack": 2.0}, "slack"),
        (theory.lemma_d_1, {"side": "left"}, "side"),
        (theory.lemma_d_2, {"n": 0}, "n must be"),
    ],
)
def test_lemmas_b_2_and_d_check_their_arguments(lemma, given, name):
    good = {
        theory.lemma_b_2: {
            "latent_dim": 1,
            "ambient_dim": 2,
            "radius": 1.0,
            "output_bound": 1.0,
            "lipschitz": 1.0,
            "accuracy": 0.1,
        },
        theory.lemma_d_1: {"n": 5, "bound": 1.0, "log_cover": 0.0, "accuracy": 0.0, "slack": 0.5},
        theory.lemma_d_2: {"latent_dim": 2, "n": 5},
    }[lemma]
    with pytest.raises(ValueError, match=name):
        lemma(**(good | given))
