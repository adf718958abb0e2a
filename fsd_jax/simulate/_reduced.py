"""Samples with residual noise in few coordinates, whatever the ambient dimension.

Noise outside the subspace enters a thin fit only through the inner products of the samples. So its
``n x (D - d)`` block is replaced by the triangular factor of its LQ decomposition, whose law is
known; what remains has ``d + min(n, D - d)`` columns whatever ``D`` is. From n = D on the scatter
itself is drawn.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks
from fsd_jax.simulate._chi_square import draw, stable_key
from fsd_jax.simulate._inputs import in_range, size
from fsd_jax.simulate._spectra import bartlett_factor


def reduced_samples(
    key: Key[Array, ""],
    n: Float[Array, ""],
    *,
    rows: int,
    ambient_dim: int,
    latent_variance: Float[Array, " d"],
    residual_variance: Float[Array, ""],
) -> Float[Array, "rows k"]:
    """Samples ``A z + tau xi`` up to a rotation that fixes the subspace, which is the first d axes.

    For use inside `jit`. Their second moment, ``x'x/n``, has the law of n samples in
    ``k = min(d + rows, D)`` of the D dimensions; the data do not reach the others.

    Implements: R13 (with noise).

    Args:
        key: random key.
        n: number of samples, at most `rows` unless ``rows == D``; may be traced.
        rows: static number of rows: n padded, or ``D`` for any ``n >= D``.
        ambient_dim: ``D``.
        latent_variance: ``(d,)``.
        residual_variance: ``tau^2``.

    Returns:
        ``(rows, k)``, rows from n on zero; for ``rows == D`` a triangular matrix, scaled so that
        its rows count as D samples. NaN where n or a variance is out of range.

    Raises:
        ValueError: arguments of the wrong kind or shape, or dimensions that do not fit.
    """
    key = stable_key(_checks.key("key", key))
    variance, _ = _checks.floating("latent_variance", latent_variance, ndim=(1,))
    dtype, d = variance.dtype, len(variance)
    ambient_dim = _checks.dimension("ambient_dim", ambient_dim, low=d)
    return reduced(
        key,
        size("n", n, dtype),
        rows=_checks.dimension("rows", rows, high=ambient_dim, top=" = D"),
        ambient_dim=ambient_dim,
        variance=in_range("latent_variance", variance, dtype),
        tau2=residual(residual_variance, dtype),
    )


def reduced(
    key: Key[Array, ""],
    n: Float[Array, ""],
    *,
    rows: int,
    ambient_dim: int,
    variance: Float[Array, " d"],
    tau2: Float[Array, ""],
) -> Float[Array, "rows k"]:
    """`reduced_samples` without checks."""
    dtype, d = variance.dtype, len(variance)
    inside = jnp.sqrt(variance + tau2)
    if rows == ambient_dim:
        scale = jnp.concatenate([inside, jnp.full(ambient_dim - d, 1.0, dtype) * jnp.sqrt(tau2)])
        return bartlett_factor(key, n, ambient_dim) * scale * jnp.sqrt(ambient_dim / n)
    columns = min(rows, ambient_dim - d)
    latent, below, diagonal = jax.random.split(key, 3)
    z = jax.random.normal(latent, (rows, d), dtype) * inside
    noise = jnp.tril(jax.random.normal(below, (rows, columns), dtype), -1)
    if columns:
        freedom = ambient_dim - d - jnp.arange(columns, dtype=dtype)
        squares = draw(diagonal, freedom, 1).value[:, 0]
        noise = noise.at[jnp.arange(columns), jnp.arange(columns)].set(jnp.sqrt(squares))
    x = jnp.concatenate([z, noise * jnp.sqrt(tau2)], axis=1)
    # More samples than rows would be dropped in silence.
    x = jnp.where(n <= rows, x, jnp.nan)
    return jnp.where(jnp.arange(rows, dtype=dtype)[:, None] < n, x, 0)


def residual(value: ArrayLike, dtype: np.dtype) -> Float[Array, ""]:
    """``tau^2`` in the draws' dtype, NaN where a traced one is out of range."""
    given = in_range("residual_variance", value, dtype, zero=True)
    if given.ndim:
        raise ValueError(f"residual_variance must be a single number, got shape {given.shape}")
    return given
