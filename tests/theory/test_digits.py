"""Exact curves where their textbook forms cancel, and the sizes that they refuse."""

import numpy as np
import pytest

from fsd_jax import theory

TIME = 1e-9


@pytest.mark.parametrize("variance", [1e6, 1e12])
def test_lost_directions_with_hardly_any_noise(variance):
    # m^2 lambda^2 - m^2 lambda^2 + s2 was left of s2 before: wrong from lambda^2/t = 1e13 on.
    size = {"latent_dim": 5, "n_ta": 2, "latent_variance": variance, "time": TIME}
    noise = -np.expm1(-TIME)
    gain = np.exp(-TIME) * variance
    level = gain + noise
    score = 3 * (gain / noise) ** 2 / level
    assert theory.expected_score_error(**size) == pytest.approx(score, rel=1e-12)
    divergence = 3 * (np.log(noise / level) + gain / noise) / 2
    assert theory.expected_kl(**size) == pytest.approx(divergence, rel=1e-12)
    # From scratch the directions that are seen add little to that.
    scratch = {**size, "estimator": "scratch"}
    assert theory.expected_score_error(**scratch) == pytest.approx(score, rel=1e-3)
    assert theory.expected_kl(**scratch) == pytest.approx(divergence, rel=1e-3)


def test_one_sample_in_one_dimension_with_hardly_any_noise():
    # E (e/(r + s))^2 over a chi-square is (pi/8)^(1/2) r^(-3/2) (1 + O(sqrt(r))) for small r.
    time, variance = 1e-9, 1e9
    found = theory.expected_score_error(
        latent_dim=1, n_ta=1, latent_variance=variance, time=time, estimator="scratch"
    )
    r = -np.expm1(-time) / (np.exp(-time) * variance)
    level = variance + time
    assert found * level == pytest.approx((np.pi / 8) ** 0.5 * r**-1.5, rel=1e-6)


@pytest.mark.parametrize("n", [10**6, 10**16, 10**40, 10**150])
def test_rates_are_exact_for_every_sample_size(n):
    # s - 1 was taken from s before: noise from n = 1e16 on.
    d, time, variance = 7, 0.5, 1e-6
    signal, noise = np.exp(-time), -np.expm1(-time)
    level = signal * variance + noise
    gain, rest = signal * variance / level, noise / level
    size = {"latent_dim": d, "n_ta": n, "latent_variance": variance, "time": time}
    spread = d * (d + 1) / n
    close = {"rel": 1e-9 + 100 / n}
    scratch = {**size, "estimator": "scratch"}
    score = theory.expected_score_error(**scratch)
    assert score == pytest.approx(gain**2 * spread / level, **close)
    assert theory.expected_kl(**scratch) == pytest.approx(gain**2 * spread / 4, **close)
    for method in ("exact", "asymptotic"):
        error = theory.expected_subspace_error(**size, method=method)
        assert error == pytest.approx(rest**2 * spread, **close)
    source = theory.expected_kl(**size, n_s=n)
    assert source == pytest.approx(gain**2 * (2 / n) / 4, **close)


def test_the_deterministic_equivalent_keeps_its_digits():
    # (kappa/s2)^2 - 1 cancelled before.
    found = [
        theory.deterministic_equivalent(spectrum=[2.0, 0.5], counts=[3, 9], n_ta=n, time=0.3)
        for n in (10**9, 10**18, 10**30)
    ]
    scaled = [f.score_error * n for f, n in zip(found, (1e9, 1e18, 1e30), strict=True)]
    np.testing.assert_allclose(scaled, scaled[-1], rtol=1e-7)


@pytest.mark.parametrize("n", [200, 400, 800])
def test_exact_means_beyond_320_dimensions(n):
    dim = 400
    found = theory.wishart_mean(lambda s: np.stack([np.ones_like(s), s**2]), dim=dim, n=n)
    np.testing.assert_allclose(found, [dim, dim * (1 + (dim + 1) / n)], rtol=1e-11)


WORLD = {"latent_variance": 1.0, "time": 0.5}


@pytest.mark.parametrize(
    "call",
    [
        lambda: theory.expected_score_error(
            latent_dim=2000, n_ta=5000, estimator="scratch", **WORLD
        ),
        lambda: theory.expected_subspace_error(latent_dim=2000, n_ta=5000, **WORLD),
        lambda: theory.subspace_error_variance(latent_dim=2000, n_ta=5000, **WORLD),
        lambda: theory.plan(latent_dim=2000, target=1e-3, **WORLD),
    ],
)
def test_too_many_dimensions_are_named_as_the_user_names_them(call):
    with pytest.raises(ValueError, match="latent_dim"):
        call()


def test_the_orthonormal_curve_has_no_such_limit():
    found = theory.expected_score_error(latent_dim=2000, n_ta=5000, n_s=10**4, **WORLD)
    assert found == pytest.approx(2 * np.exp(-1) / 10**4, rel=1e-4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.wishart_mean(3, dim=2, n=2), "function"),
        (lambda: theory.wishart_mean(lambda s: 1.0, dim=2, n=2), "function"),
        (lambda: theory.wishart_mean(np.square, dim=2, n=10**400), "n must be"),
        (lambda: theory.wishart_covariance("f", dim=2, n=2), "function"),
        (lambda: theory.marchenko_pastur_mean(None, dim=2, n=2), "function"),
        (lambda: theory.expected_kl(latent_dim=2, n_ta=2, process=1, **WORLD), "process"),
        (lambda: theory.expected_kl(latent_dim=2, n_ta=10**400, **WORLD), "n_ta"),
        (lambda: theory.expected_kl(latent_dim=2, n_ta=2, n_s=10**400, **WORLD), "n_s"),
        (
            lambda: theory.expected_subspace_error(
                latent_dim=2, n_ta=2, latent_variance=1.0, time=1e-310
            ),
            "time",
        ),
        (lambda: theory.plan(latent_dim=2, target=0.1, process="VP", **WORLD), "process"),
        (
            lambda: theory.lemma_b_2(
                latent_dim=1,
                ambient_dim=10**400,
                accuracy=0.1,
                radius=1.0,
                output_bound=1.0,
                lipschitz=1.0,
            ),
            "ambient_dim",
        ),
        (lambda: theory.lemma_d_2(latent_dim=1, n=10**400), "n must be"),
        (lambda: theory.lemma_d_3(latent_dim=1, ambient_dim=2, n_s=3, delta="early"), "delta"),
        (lambda: theory.loglog_slope([1, 2, 3], [1, 2, 3], level="high"), "level"),
        (lambda: theory.least_constant("a", [1.0]), "bound"),
        (
            lambda: theory.deterministic_equivalent(spectrum=[1.0], n_ta=3, time=0.5, counts=["a"]),
            "counts",
        ),
        (
            lambda: theory.spiked_threshold(
                latent_dim=1, n_ta=10**400, ambient_dim=5, residual_variance=0.1
            ),
            "n_ta",
        ),
    ],
)
def test_arguments_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
