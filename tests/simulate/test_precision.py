"""Every method and metric on explicit matrices, from the smallest ratio of noise to signal on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fsd_jax as fsd
from fsd_jax import simulate, theory
from fsd_jax.simulate import _chi_square
from fsd_jax.simulate._inputs import METHODS, METRICS
from fsd_jax.simulate._measures import Measures

D, DRAWS = 4, 200
PAIRS = [
    (method, metric)
    for method in METHODS
    for metric in METRICS
    if (method, metric) != ("integrated", "kl")
]
TIMES, VARIANCES = (
    np.ravel(grid)
    for grid in np.meshgrid([1e-6, 1e-3, 0.1, 1.0, 20.0], [1e-6, 1e-3, 1.0, 1e3, 1e6])
)
SIZES = [(n, n_s) for n in (1, 3, 4, 5, 40, 10_000) for n_s in (np.inf, 1.0, 50.0)]


@jax.jit
def _draws(key, n, n_s):
    source = jnp.where(jnp.isinf(n_s), 1, D * n_s)
    freedom = jnp.concatenate([simulate.wishart_freedom(n, D), source[None]])
    return _chi_square.draw(key, freedom, DRAWS)


@jax.jit
def _measured(deviation, value, n, n_s, times, variances):
    spectra = simulate.WishartSpectra.from_deviations(deviation[:-1], n, D, value[:-1])
    k = D * n_s
    source = _chi_square.ChiSquares(
        jnp.where(jnp.isinf(n_s), 0, deviation[-1] / k),
        jnp.where(jnp.isinf(n_s), 1, value[-1] / k),
    )
    measures = Measures(spectra, source, n, variances[:, None], times[:, None], fsd.VP())
    return [measures.of(*pair) for pair in PAIRS]


def _divergence(y, whole):
    """``log(1 + y) - y/(1 + y)``, by its series where that cancels even in 64 bits of mantissa."""
    plain = np.log(whole) - y / whole
    return np.where(np.abs(y) < 1e-5, y**2 / 2 - 2 * y**3 / 3, plain)


def _by_matrix(value, n, n_s, t, variance):
    """The definitions, on the singular values of each bidiagonal factor, in extended precision."""
    long = np.longdouble
    l = value[-1].astype(long) / (D * n_s) if np.isfinite(n_s) else np.ones(DRAWS, long)
    B, i = np.zeros((DRAWS, D, D)), np.arange(D)
    B[:, i, i] = np.sqrt(value[:D].T / n)
    B[:, i[1:], i[:-1]] = np.sqrt(value[D:-1].T / n)
    s = np.linalg.svd(B, compute_uv=False).T.astype(long) ** 2
    s[min(n, D) :] = 0
    seen, lost = min(n, D), D - min(n, D)
    t, variance = long(t), long(variance)
    m2, s2 = np.exp(-t), -np.expm1(-t)
    level = m2 * variance + s2
    truth, model = m2 * variance / level, m2 * variance * l / (m2 * variance * l + s2)
    p = m2 * variance * s / (m2 * variance * s + s2) / model
    times, weights = (np.asarray(a).astype(long)[:, None] for a in fsd.VP().quadrature())
    M2, S2 = np.exp(-times), -np.expm1(-times)
    g = M2 * variance * l / (M2 * variance * l + S2)
    a, e, b = (np.sum(weights * x, axis=0) for x in (g**2 * M2 / S2**2, g**2 / S2, g * M2 / S2**2))
    whole, population = (b * variance * w / (a * variance * w + e) for w in (s, 1))
    factor = level / s2**2
    gain = model * population - truth

    def kl(w):
        return _divergence(m2 * variance * (w - 1) / level, (m2 * variance * w + s2) / level)

    return {
        ("rank", "subspace_error"): np.sum((p - 1) ** 2, axis=0),
        ("rank", "score_error"): np.sum((model * p - truth) ** 2, axis=0) * factor,
        ("rank", "loss_gap"): np.sum((model * p - truth) ** 2, axis=0) * factor,
        ("rank", "kl"): np.sum(kl(s), axis=0) / 2,
        ("integrated", "subspace_error"): np.sum((whole - 1) ** 2, axis=0),
        ("integrated", "score_error"): np.sum((model * whole - truth) ** 2, axis=0) * factor,
        ("integrated", "loss_gap"): np.sum((model * whole - truth) ** 2 - gain**2, axis=0) * factor,
        ("orthonormal", "subspace_error"): lost + 0 * l,
        ("orthonormal", "score_error"): (seen * (model - truth) ** 2 + lost * truth**2) * factor,
        ("orthonormal", "loss_gap"): lost * (truth**2 - (model - truth) ** 2) * factor,
        ("orthonormal", "kl"): (seen * kl(l) + lost * kl(long(0))) / 2,
    }


def _off(found, exact):
    """Relative to the value or, where two estimates nearly agree, to the typical one."""
    typical = np.median(np.abs(exact), axis=-1, keepdims=True)
    return np.max(np.abs(found - exact) / np.maximum(np.abs(exact), np.maximum(typical, 1e-300)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("n", "n_s"), SIZES)
def test_every_error_is_that_of_its_matrix(n, n_s):
    deviation, value = _draws(jax.random.key(n), jnp.float64(n), jnp.float64(n_s))
    found = _measured(deviation, value, jnp.float64(n), jnp.float64(n_s), TIMES, VARIANCES)
    for k, (t, variance) in enumerate(zip(TIMES, VARIANCES, strict=True)):
        exact = _by_matrix(np.asarray(value), n, n_s, t, variance)
        for pair, ours in zip(PAIRS, found, strict=True):
            theirs = exact[pair].astype(float)
            # The definitions themselves cancel to eps/r of 64 bits, and r goes down to 1e-12.
            assert _off(np.asarray(ours[k]), theirs) < 5e-3, (pair, t, variance)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("n", "n_s"), SIZES)
def test_float32_is_right_to_one_per_cent_everywhere(n, n_s):
    deviation, value = _draws(jax.random.key(n), jnp.float32(n), jnp.float32(n_s))
    arguments = (deviation, value, n, n_s, TIMES, VARIANCES)
    short, long = (
        _measured(*(jnp.asarray(a, dtype) for a in arguments)) for dtype in (np.float32, np.float64)
    )
    for pair, ours, theirs in zip(PAIRS, short, long, strict=True):
        assert ours.dtype == jnp.float32
        assert np.all(np.isfinite(ours)), pair
        # What float32 cannot hold is zero.
        held = np.abs(theirs) > 4e-38
        assert _off(np.where(held, ours, 0), np.where(held, theirs, 0)) < 1e-3, pair


def _mean(method, metric, **size):
    values = simulate.errors(
        jax.random.key(0), **size, n_s=None, replicates=20_000, method=method, metric=metric
    )
    values = np.asarray(values, float)[:, 0]
    return values.mean(), values.std() / len(values) ** 0.5


@pytest.mark.parametrize("method", ["rank", "orthonormal"])
@pytest.mark.parametrize("variance", [100.0, 1e6])
def test_divergences_of_little_noise_are_finite_and_exact(method, variance):
    # NaN and -inf in float32 before.
    size = {"latent_dim": 4, "n_ta": 2, "latent_variance": variance}
    mean, stderr = _mean(method, "kl", **size, times=[1e-6])
    exact = theory.expected_kl(
        **size, time=1e-6, estimator="scratch" if method == "rank" else "orthonormal"
    )
    # A few ulps of float32 are there where nothing is random.
    assert abs(mean - exact) < 5 * stderr + 1e-5 * exact


def test_the_integrated_error_of_a_strong_latent_is_its_floor():
    # 35.7 in float32 before, for at most the floor of 1 and a little.
    mean, _ = _mean(
        "integrated", "subspace_error", latent_dim=4, n_ta=3, latent_variance=1e6, times=[1.0]
    )
    assert 1 <= mean + 1e-6 < 1 + 1e-3


def test_small_chi_squares_keep_their_digits():
    # P(chi^2_1 < x) is about sqrt(2x/pi), P(chi^2_2 < x) about x/2: no heap at zero.
    draws = jax.jit(partial(_chi_square.draw, replicates=2**21))(
        jax.random.key(0), jnp.array([1.0, 2.0, 3.0])
    )
    value = np.asarray(draws.value, float)
    assert np.min(value[1:]) > 0
    share, n = np.mean(value[0] < 1e-9), value.shape[1]
    expected = (2e-9 / np.pi) ** 0.5
    assert abs(share - expected) < 5 * (expected / n) ** 0.5
    np.testing.assert_allclose(
        value, np.array([[1], [2], [3]]) + np.asarray(draws.deviation, float), atol=2e-5
    )
