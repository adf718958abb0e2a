"""Sample second moments from their exact law: random numbers by dimension, not by sample."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key


def bartlett_factor(key: Key[Array, ""], n: ArrayLike, dim: int) -> Float[Array, "dim dim"]:
    """Upper triangular ``R`` with ``R'R`` distributed like ``Z'Z``, ``Z`` an ``(n, dim)`` normal.

    The factor of ``Z``'s QR decomposition: independent ``chi_{n-i}`` on the diagonal, standard
    normals to the right, rows from n on zero. `n` may be traced and may be below `dim`, so that a
    sweep over sample sizes compiles once. ``R @ L.T`` has the scatter ``sum x x'`` of n samples of
    covariance ``L L'``.

    Implements: R13 (Bartlett).

    Args:
        key: random key.
        n: number of samples, at least 1.
        dim: dimension of a sample.
    """
    above, diagonal = jax.random.split(key)
    normals = jnp.triu(jax.random.normal(above, (dim, dim)), 1)
    freedom = jnp.asarray(n, normals.dtype) - jnp.arange(dim)
    alive = freedom > 0
    squares = jax.random.chisquare(diagonal, jnp.where(alive, freedom, 1), dtype=normals.dtype)
    return jnp.where(alive[:, None], normals + jnp.diag(jnp.sqrt(squares)), 0)
