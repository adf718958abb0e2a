"""Ratios of normal densities and tails that neither cancel, overflow nor vanish."""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, erfc
from jaxtyping import Array, Float


def truncated_mean(centre: Float[Array, "*n"], reach: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Mean of a standard normal between ``centre -+ reach``, for a centre that is not negative.

    With ``d = 2 centre reach``, lower end a and upper end b it is ``(1 - e^-d)`` over

        (Phi(b) - Phi(a))/phi(a)      a below zero: a sum of two masses,
        int_0^(b-a) e^(-a x - x^2/2)  d below one: positive terms by Gauss's rule,
        R(a) - e^-d R(b)              otherwise, with Mills' ratio R.

    Each serves where nothing in it cancels, overflows or vanishes.
    """
    a, b, d = centre - reach, centre + reach, 2 * centre * reach
    below, flat = a < 0, (a >= 0) & (d < 1)
    gain = -jnp.expm1(-d)
    low = jnp.where(below, a, 0)
    phi = jnp.exp(-(low**2) / 2) / np.sqrt(2 * np.pi).astype(a.dtype)
    root = np.sqrt(0.5).astype(a.dtype)
    mass = (erf(jnp.where(below, b, 1) * root) + erf(-low * root)) / 2
    inside = phi * gain / mass
    x, w = (c.astype(a.dtype) for c in np.polynomial.legendre.leggauss(12))
    # There the interval is below 1.5 long, and 12 nodes are exact to rounding.
    width = jnp.where(flat, reach, 0)[..., None]
    step = width * (1 + x)
    terms = w * jnp.exp(-jnp.where(flat, a, 0)[..., None] * step - step**2 / 2)
    thin = jnp.where(flat, reach, 1) * jnp.sum(terms, axis=-1)
    far = ~(below | flat)
    steep = mills_ratio(jnp.where(far, a, 1))
    steep = steep - jnp.exp(-jnp.where(far, d, 1)) * mills_ratio(jnp.where(far, b, 2))
    return jnp.where(below, inside, gain / jnp.where(flat, thin, steep))


def mills_ratio(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """``(1 - Phi(x))/phi(x)`` for ``x >= 0``; beyond 4 by Laplace's continued fraction."""
    far = x > 4
    near = jnp.where(far, 0, x)
    root = np.sqrt(0.5).astype(x.dtype)
    direct = np.sqrt(np.pi / 2).astype(x.dtype) * jnp.exp(near**2 / 2) * erfc(near * root)
    large = jnp.where(far, x, 5)
    fraction = large
    for k in range(40, 0, -1):
        fraction = large + k / fraction
    return jnp.where(far, 1 / fraction, direct)
