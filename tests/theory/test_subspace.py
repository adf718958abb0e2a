import numpy as np
import pytest
from scipy import integrate, stats

from fsd_jax import theory

# d, n_ta, lambda^2, t, value, last digit: the project's reference values (R4, R5, R19).
REFERENCE = [
    (24, 48, 1, 1, 4.9926, 1e-4),
    (24, 48, 1, 0.1, 0.5413, 1e-4),
    (24, 10, 1, 1, 18.0052, 1e-4),
    (9, 3000, 3, 0.9, 0.0032283, 1e-7),
    (3, 10, 1, 0.5, 0.24333, 1e-5),
    (5, 5, 1, 0.1, 0.85982, 1e-5),
    (16, 24, 10, 0.01, 6.2523e-4, 1e-8),
    (4, 6, 10, 0.01, 1.3723e-3, 1e-7),
    (1, 1, 1, 0.5, 0.32678, 1e-5),
]
# d, n_ta, lambda^2, t, n_s: fewer samples than directions, as many, more; bad and good sources.
DRAWN = [
    (5, 3, 1.0, 0.5, None),
    (5, 5, 1.0, 0.1, 6),
    (4, 12, 1.0, 0.45, 30),
    (4, 12, 3.0, 2.0, 3),
    (6, 2, 0.3, 0.05, 4),
    (1, 1, 2.0, 0.01, 40),
    (8, 40, 25.0, 0.2, 10),
]


def _draws(d, n_ta, variance, t, n_s, replicates=20_000):
    """Errors by matrices: Lemma 5.1's formula on drawn data, in the target's own coordinates."""
    rng = np.random.default_rng(0)
    signal, noise = np.exp(-t), -np.expm1(-t)
    z = rng.standard_normal((replicates, n_ta, d)) * variance**0.5
    moment = np.einsum("rni,rnj->rij", z, z) / n_ta
    source = np.full((replicates, 1, 1), variance)
    if n_s is not None:
        source = source * rng.chisquare(d * n_s, (replicates, 1, 1)) / (d * n_s)
    inverse = np.linalg.inv(signal * moment + noise * np.eye(d))
    projector = (signal + noise / source) * inverse @ moment
    return np.sum((projector - np.eye(d)) ** 2, axis=(1, 2))


def _expected(d, n_ta, variance, t, n_s=None, method="exact"):
    return theory.expected_subspace_error(
        latent_dim=d, n_ta=n_ta, latent_variance=float(variance), time=t, n_s=n_s, method=method
    )


def _leading(d, n_ta, variance, t, n_s):
    """R4's constants."""
    signal, noise = np.exp(-t), -np.expm1(-t)
    share = noise / (signal * variance + noise)
    return share**2 * (d * (d + 1) / n_ta + 2 / n_s)


@pytest.mark.parametrize("row", REFERENCE)
def test_reference_values(row):
    *setting, value, accuracy = row
    assert abs(_expected(*setting) - value) < accuracy


@pytest.mark.result("R3")
@pytest.mark.parametrize("setting", DRAWN)
def test_agrees_with_drawn_data(setting):
    values = _draws(*setting)
    error = values.std(ddof=1) / len(values) ** 0.5
    assert abs(values.mean() - _expected(*setting)) < 4 * error


@pytest.mark.result("R4")
@pytest.mark.parametrize("setting", [row for row in DRAWN if row[:2] != (4, 12) or row[4] == 30])
def test_variance_agrees_with_drawn_data(setting):
    # Left out: a source so small that the draws' variance has no standard error.
    values = _draws(*setting)
    squares = (values - values.mean()) ** 2
    error = squares.std(ddof=1) / len(values) ** 0.5
    d, n_ta, variance, t, n_s = setting
    exact = theory.subspace_error_variance(
        latent_dim=d, n_ta=n_ta, latent_variance=variance, time=t, n_s=n_s
    )
    assert abs(squares.mean() - exact) < 4 * error


def test_variance_for_many_samples():
    # S - I has independent normal entries of variance 1/n, and 2/n on its diagonal.
    size = dict(latent_dim=4, n_ta=10**12, latent_variance=1.0, time=0.5)
    square = (-np.expm1(-0.5)) ** 4 * 4 * 4 * 5 / 1e24
    assert abs(theory.subspace_error_variance(**size) / square - 1) < 1e-8
    # The source's error is e = c^2 d q^2, q normal of variance 2/(d n_s): variance 2 (2 c^2/n_s)^2.
    many = theory.subspace_error_variance(**{**size, "n_ta": 10**15}, n_s=10**9)
    assert abs(many / (8 * (-np.expm1(-0.5)) ** 4 / 1e18) - 1) < 1e-4
    assert theory.subspace_error_variance(**size, n_s=2) == np.inf


@pytest.mark.parametrize("k", [9, 10, 40])
def test_moments_of_the_inverse_source_variance(k):
    exact = [
        integrate.quad(lambda x, j=j: (k / x - 1) ** j * stats.chi2.pdf(x, k), 0, np.inf)[0]
        for j in range(5)
    ]
    np.testing.assert_allclose(theory._curves._inverse_variance_moments(1, k), exact, rtol=1e-6)


@pytest.mark.result("R4")
@pytest.mark.parametrize(("d", "n_s"), [(1, 10**12), (4, 10**12), (16, 10**9)])
def test_sharp_constants_for_many_samples(d, n_s):
    # Both methods: nothing cancels at 10^12 samples.
    for method in theory._curves.METHODS:
        exact = _expected(d, 10**12, 2.0, 0.5, n_s, method)
        assert abs(exact / _leading(d, 10**12, 2.0, 0.5, n_s) - 1) < 1e-8


def test_the_source_term_is_not_additive():
    # R4's example at the ratio s2/(m^2 lambda^2) = .3783: exact .22555, additive .2271.
    size, t = (4, 12, 1.0), 0.32088
    share = -np.expm1(-t)
    assert abs(_expected(*size, t, 30) - 0.22555) < 1e-5
    assert abs(_expected(*size, t) + share**2 * 2 / 30 - 0.2271) < 1e-4


@pytest.mark.result("R4")
def test_the_source_term_is_the_limit_of_many_target_samples():
    for d, n_s in [(1, 5), (4, 30), (16, 10**12)]:
        size = dict(latent_dim=d, n_s=n_s, latent_variance=2.0, time=0.5)
        left = theory.source_subspace_error(**size)
        whole = theory.expected_subspace_error(n_ta=10**15, **size)
        rest = theory.expected_subspace_error(**{**size, "n_s": None}, n_ta=10**15)
        assert abs((whole - rest) / left - 1) < 1e-6
    assert theory.source_subspace_error(**{**size, "latent_dim": 2, "n_s": 2}) == np.inf


def test_late_times_and_the_floor():
    # t -> infinity: d(rho - 1)^2 + rho^2 d(d+1)/n, with a perfect source d(d+1)/n.
    assert abs(_expected(6, 9, 2.0, 800.0) - 42 / 9) < 1e-9
    for n_ta in (1, 3, 5):
        early = _expected(6, n_ta, 2.0, 1e-12)
        assert 6 - n_ta <= early < 6 - n_ta + 1e-5
    # Each term grows with t.
    grid = [_expected(6, 9, 2.0, t) for t in np.geomspace(1e-3, 30, 20)]
    assert np.all(np.diff(grid) > 0)


def test_source_averages():
    # The exact source term is infinite when the mean of 1/l^2 is.
    assert _expected(2, 5, 1.0, 0.5, 2) == np.inf
    assert np.isfinite(_expected(1, 5, 1.0, 0.5, 5))
    # Against an average over the source's law by quadrature, for a perfect target.
    k, t = 10, 0.7
    share = -np.expm1(-t) / (2 * np.exp(-t) - np.expm1(-t))
    mean = theory.wishart_mean(lambda l: (1 / l - 1) ** 2, dim=1, n=k)
    exact = _expected(1, 10**15, 2.0, t, k)
    assert abs(exact / (share**2 * float(mean)) - 1) < 1e-9


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        (dict(latent_dim=0), "latent_dim"),
        (dict(n_ta=2.0), "n_ta"),
        (dict(latent_variance=0.0), "latent_variance"),
        (dict(time=-1.0), "time"),
        (dict(n_s=0), "n_s"),
        (dict(method="pca"), "method"),
        (dict(latent_dim=1100, n_ta=1100), "asymptotic"),
    ],
)
def test_arguments_are_checked(bad, name):
    good = dict(latent_dim=2, n_ta=3, latent_variance=1.0, time=0.5)
    with pytest.raises(ValueError, match=name):
        theory.expected_subspace_error(**{**good, **bad})
