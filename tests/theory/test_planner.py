import numpy as np
import pytest

from fsd_jax import theory

WORLD = dict(latent_dim=6, latent_variance=2.0, time=0.5)


@pytest.mark.result("Planning")
@pytest.mark.parametrize("target", [5.5, 3.0, 1.0, 0.1, 1e-3])
def test_the_smallest_number_on_the_curve(target):
    plan = theory.plan(target=target, n_s=10**5, **WORLD)
    error = lambda n: theory.expected_subspace_error(n_ta=n, n_s=10**5, **WORLD)
    assert plan.error == error(plan.n_ta) <= target
    assert plan.n_ta == 1 or error(plan.n_ta - 1) > target
    assert plan.floor == max(6 - plan.n_ta, 0)
    assert plan.floor <= plan.error
    assert "floor" in plan.reason or "at least" in plan.reason


def test_against_the_leading_constant():
    # R4: n_ta = d(d+1)/(target (1 + m^2 lambda^2/s2)^2) for a small target.
    share = -np.expm1(-0.5) / (2 * np.exp(-0.5) - np.expm1(-0.5))
    plan = theory.plan(target=1e-5, **WORLD)
    assert abs(plan.n_ta / (share**2 * 42 / 1e-5) - 1) < 1e-4


@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0, 10.0])
def test_the_curves_fall_so_bisection_finds_the_smallest(t):
    sizes = [*range(1, 20), 25, 40, 100, 1000]
    for d in (1, 6):
        size = dict(latent_dim=d, latent_variance=2.0, time=t)
        for n_s in (None, 3, 100):
            if d == 1 and n_s == 3:
                continue  # infinite
            errors = [theory.expected_subspace_error(n_ta=n, n_s=n_s, **size) for n in sizes]
            assert np.all(np.diff(errors) < 0)
        scratch = [theory.expected_score_error(n_ta=n, estimator="scratch", **size) for n in sizes]
        assert np.all(np.diff(scratch) < 0)


def test_a_bad_source_has_no_answer():
    plan = theory.plan(target=1e-6, n_s=100, **WORLD)
    assert (plan.n_ta, plan.error, plan.floor) == (None, None, None)
    assert "source" in plan.reason
    left = theory.source_subspace_error(n_s=100, **WORLD)
    assert theory.plan(target=1.001 * left, n_s=100, **WORLD).n_ta is not None
    assert theory.plan(target=0.999 * left, n_s=100, **WORLD).n_ta is None


def test_scores():
    # The orthonormal model is exact as soon as it has seen d directions.
    few = theory.plan(target=1e-3, metric="score", n_s=10**5, **WORLD)
    scratch = theory.plan(target=1e-3, metric="score", estimator="scratch", **WORLD)
    assert few.n_ta == 6
    assert scratch.n_ta > 1000
    assert theory.plan(target=1e-9, metric="score", n_s=10**5, **WORLD).n_ta is None


def test_divergences():
    scratch = theory.plan(target=0.01, metric="kl", estimator="scratch", **WORLD)
    error = lambda n: theory.expected_kl(n_ta=n, estimator="scratch", **WORLD)
    assert scratch.error == error(scratch.n_ta) <= 0.01 < error(scratch.n_ta - 1)
    few = theory.plan(target=0.01, metric="kl", n_s=10**4, **WORLD)
    assert (few.n_ta, few.floor) == (6, 0)


@pytest.mark.result("Planning")
def test_matching_the_source():
    plan = theory.plan(rule="match_source", n_s=1000, **WORLD)
    # d(d+1)/n_ta = 2/n_s, with corrections of order d/n.
    assert abs(plan.n_ta / 21_000 - 1) < 0.01
    left = theory.source_subspace_error(n_s=1000, **WORLD)
    part = [theory.expected_subspace_error(n_ta=plan.n_ta - i, **WORLD) for i in (0, 1)]
    assert part[0] <= left < part[1]
    # The two parts add up, nearly.
    assert abs(plan.error / (2 * left) - 1) < 0.01
    world = dict(WORLD, latent_dim=1)
    assert "infinite" in theory.plan(rule="match_source", n_s=4, **world).reason


def test_the_papers_rules():
    for rule in ("four_over_d", "stated"):
        rows = [
            theory.plan(rule=rule, n_s=row.n_s, latent_dim=row.latent_dim).n_ta
            for row in theory._table_one.TABLE
        ]
        assert tuple(rows) == theory.table_one(rule)
    plan = theory.plan(rule="four_over_d", n_s=60_000, latent_dim=25)
    assert (plan.error, plan.floor) == (None, 19)
    assert "6 of 25 directions" in plan.reason
    known = theory.plan(rule="four_over_d", n_s=60_000, **dict(WORLD, latent_dim=25))
    assert known.error > 19


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(rule="guess"), "rule"),
        (dict(rule="curve"), "target"),
        (dict(rule="curve", target=-1.0), "target"),
        (dict(rule="match_source"), "n_s"),
        (dict(rule="curve", target=1.0, latent_variance=None), "latent_variance"),
        (dict(rule="curve", target=1.0, metric="loss"), "metric"),
        (dict(rule="curve", target=1.0, estimator="pca"), "estimator"),
    ],
)
def test_arguments_are_checked(arguments, words):
    with pytest.raises(ValueError, match=words):
        theory.plan(**{**WORLD, **arguments})
