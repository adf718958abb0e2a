"""The continuous limit in closed form, against its integral to seventeen digits."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import fsd_jax as fsd
from fsd_jax import sampler

# int phi^2 dB by mpmath's quadrature with 40 digits: variance, gain, delta, T, value.
INTEGRALS = [
    (100.0, 1.0, 1e-6, 10.0, 99.547933557070193),
    (1e6, 1.0, 1e-3, 20.0, 996945.64270374649),
    (1e6, 1.0, 1e-6, 50.0, 999999.00000149981),
    (1e6, 0.5, 1e-6, 50.0, 2.7631006800451433e-5),
    (1e6, 0.7, 1e-6, 50.0, 0.15773672570402608),
    (100.0, 1.3, 1e-6, 10.0, 3914999.8595554264),
    (1e-6, 0.2, 1e-3, 10.0, 0.00099969981486719683),
    (2.0, 0.0, 1e-6, 10.0, 9.9999949995476463e-7),
]


def _noise(variance, gain, delta, T):
    """From the law of a start at the mean without spread: only the noise is left."""
    score = fsd.LinearScore(
        basis=jnp.eye(2, 1), mixing=jnp.sqrt(jnp.full((1, 1), gain)),
        latent_variance=jnp.full(1, variance), residual_variance=jnp.zeros(()),
        mean=jnp.zeros(2), process=fsd.VP(),
    )  # fmt: skip
    point = fsd.ThinGaussian(
        mean=jnp.zeros(2),
        basis=jnp.eye(2, 1),
        variance=jnp.zeros(1),
        residual_variance=jnp.zeros(()),
    )
    law = sampler.continuous_law(score, delta=delta, T=T, initial=point)
    along = np.asarray(law.basis)[0] ** 2 @ np.asarray(law.variance)
    across = np.asarray(law.basis)[1] ** 2 @ np.asarray(law.variance)
    return along, across


@pytest.mark.parametrize(("variance", "gain", "delta", "T", "exact"), INTEGRALS)
def test_noise_of_the_sde(variance, gain, delta, T, exact, dtype):
    """R26; 64 Gauss-Legendre nodes were off by 6e-9, 4e-6 and 4e-2 in the first three."""
    eps = np.finfo(dtype).eps
    found, across = _noise(variance, gain, delta, T)
    # A logarithm of up to 50 to eps, in an exponent of up to twice that.
    np.testing.assert_allclose(found, exact, rtol=150 * eps)
    zero = np.expm1(delta) * -np.expm1(delta - T) / -np.expm1(-T) * -np.expm1(-delta)
    zero = zero / np.expm1(delta)
    np.testing.assert_allclose(across, zero, rtol=20 * eps, atol=1e-300)


@pytest.mark.usefixtures("x64")
def test_the_constants_above_by_another_quadrature():
    for variance, gain, delta, T, exact in INTEGRALS:
        v = lambda b, variance=variance: np.exp(-b) * variance - np.expm1(-b)

        def square(u, v=v, gain=gain, delta=delta):
            b = np.exp(u)
            ratio = (v(delta) / v(b)) ** gain * (np.expm1(-delta) / np.expm1(-b)) ** (1 - gain)
            return np.exp(delta - b) * ratio**2 * b

        edges = np.linspace(np.log(delta), np.log(T), 13)
        found = sum(
            integrate.quad(square, low, high, epsabs=0, epsrel=1e-12)[0]
            for low, high in itertools.pairwise(edges)
        )
        np.testing.assert_allclose(found, exact, rtol=1e-11)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s: sampler.continuous_law(s, delta=0.1, T=1.0, denoise="no"),
            "denoise must be True",
        ),
        (lambda s: sampler.continuous_law(s, delta=1e-45, T=1.0), "delta must be positive"),
        (
            lambda s: sampler.continuous_law(s, delta=0.1, T=1.0, initial=1.0),
            "initial must be a Thin",
        ),
        (lambda s: sampler.denoised_law(s, None, 0.1), "law must be a ThinGaussian"),
        (lambda s: sampler.generated_law(s, times=[0.1, 1.0], denoise=1), "denoise must be True"),
    ],
)
def test_refusals(call, message):
    score = fsd.LinearScore.from_decoder(jnp.eye(3, 1), latent_variance=1.0)
    with pytest.raises(ValueError, match=message):
        call(score)


def test_laws_and_scores_that_do_not_fit_are_refused():
    score = fsd.LinearScore.from_decoder(jnp.eye(3, 1), latent_variance=1.0)
    law = fsd.ThinGaussian(
        mean=jnp.zeros(4), basis=jnp.eye(4, 1), variance=jnp.ones(1), residual_variance=jnp.ones(())
    )
    with pytest.raises(ValueError, match="same number D of rows"):
        sampler.generated_law(score, times=[0.1, 1.0], initial=law)
    bent = fsd.LinearScore(**(vars(score) | {"basis": 2 * score.basis}))
    with pytest.raises(ValueError, match=r"score\.basis must have orthonormal"):
        sampler.continuous_law(bent, delta=0.1, T=1.0)
    broken = fsd.LinearScore(**(vars(score) | {"mean": score.mean + jnp.nan}))
    with pytest.raises(ValueError, match="score has NaN"):
        sampler.generated_law(broken, times=[0.1, 1.0])
