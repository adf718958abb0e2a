"""Sample second moments from their exact law: random numbers by dimension, not by sample."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax.simulate.chi_square import centred_chi_square, log1p_tail

UNROLL = 16


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
    freedom = jnp.clip(jnp.asarray(n, normals.dtype) - jnp.arange(dim), 0)
    squares = freedom + centred_chi_square(diagonal, freedom, 1)[:, 0]
    return jnp.where(freedom[:, None] > 0, normals + jnp.diag(jnp.sqrt(squares)), 0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class WishartSpectra:
    """Spectra of ``S = (1/n) sum z z'``, ``z ~ N(0, I_d)``, as bidiagonal factors.

    ``S`` has the eigenvalues ``s_i = 1 + e_i`` of ``B B'`` for a lower bidiagonal ``B`` whose
    squared entries are independent chi-squares over n (Dumitriu and Edelman, 2002; for ``n < d``
    the roles of n and d are swapped and zeros fill up). Sums over eigenvalues of rational functions
    come from the pivots of ``B B' + rho``, ``O(d)`` operations without a subtraction that cancels:
    errors of size ``d/n`` keep their digits in float32 for every n.

    Attributes:
        diagonal: ``(d, replicates)`` squared diagonal of ``B``, less one.
        below: ``(d - 1, replicates)`` squared subdiagonal.
    """

    diagonal: Float[Array, "d replicates"]
    below: Float[Array, "below replicates"]

    @classmethod
    def from_deviations(
        cls, deviations: Float[Array, "rows replicates"], n: Float[Array, ""], dim: int
    ) -> "WishartSpectra":
        """From centred chi-squares with the degrees of `wishart_freedom`."""
        freedom, offset = wishart_freedom(n, dim), jnp.arange(dim, dtype=deviations.dtype)
        # chi^2/n - 1 with its mean written down exactly: n may be too large to hold units.
        mean = jnp.where(offset < n, jnp.clip(dim - n, 0) - offset, -n)
        return cls(
            diagonal=(deviations[:dim] + mean[:, None]) / n,
            below=(deviations[dim:] + freedom[dim:, None]) / n,
        )

    def sum_of_squares(self, a: ArrayLike, b: ArrayLike, rho: ArrayLike) -> Float[Array, "..."]:
        """``sum_i ((a e_i + b)/(1 + e_i + rho))^2`` over all d eigenvalues.

        Args:
            a: coefficient, broadcast against ``(..., replicates)``.
            b: the same.
            rho: the same, positive.
        """
        a, b, rho = jnp.broadcast_arrays(a, b, rho)

        def row(carry: tuple[Array, ...], entries: tuple[Array, Array, Array]) -> tuple:
            # Second derivative of log det(K + x T) in x, K = S + rho, T = a E + b: its pivots'
            # logarithmic derivatives u, v. Every term that is added is positive.
            total, shift, delta, u, v = carry
            before, below, deviation = entries
            q = (1 + before) * below / delta
            shift = rho + below * shift / delta
            delta = 1 + deviation + shift
            slope = a * (deviation + below) + b - q * (2 * a - u)
            v = -q * (2 * (a - u) ** 2 - v) / delta
            u = slope / delta
            return (total + u * u - v, shift, delta, u, v), None

        delta = 1 + self.diagonal[0] + rho
        u = (a * self.diagonal[0] + b) / delta
        start = (u * u, jnp.broadcast_to(rho, delta.shape), delta, u, jnp.zeros_like(u))
        return self._down(row, start)

    def sum_of_divergences(self, rho: ArrayLike) -> Float[Array, "..."]:
        """``sum_i 1/(1+y_i) - 1 + log(1+y_i)``, ``y_i = e_i/(1 + rho)``: twice a Gaussian KL.

        Args:
            rho: broadcast against ``(..., replicates)``, positive.
        """
        rho = jnp.asarray(rho)

        def row(carry: tuple[Array, ...], entries: tuple[Array, Array, Array]) -> tuple:
            total, shift, delta, u = carry
            before, below, deviation = entries
            q = (1 + before) * below / delta
            shift = rho + below * shift / delta
            delta = 1 + deviation + shift
            change = (deviation + below - q) / (1 + rho)
            excess = ((1 + rho) * change**2 + q * (1 - u)) / delta
            u = (deviation + below - q * (2 - u)) / delta
            return (total + excess + log1p_tail(change, 1), shift, delta, u), None

        delta = 1 + self.diagonal[0] + rho
        u = self.diagonal[0] / delta
        change = self.diagonal[0] / (1 + rho)
        first = (1 + rho) * change**2 / delta + log1p_tail(change, 1)
        start = (first, jnp.broadcast_to(rho, delta.shape), delta, u)
        return self._down(row, start)

    def _down(self, row: object, start: tuple[Array, ...]) -> Float[Array, "..."]:
        entries = (self.diagonal[:-1], self.below, self.diagonal[1:])
        return jax.lax.scan(row, start, entries, unroll=UNROLL)[0][0]  # type: ignore[arg-type]


def wishart_freedom(n: Float[Array, ""], dim: int) -> Float[Array, " rows"]:
    """Degrees of freedom of the ``2 dim - 1`` chi-squares of `WishartSpectra`; n may be traced."""
    offset = jnp.arange(dim, dtype=n.dtype)
    diagonal = jnp.where(offset < n, jnp.maximum(n, dim) - offset, 0)
    below = jnp.clip(jnp.minimum(n, dim) - 1 - offset[:-1], 0)
    return jnp.concatenate([diagonal, below])
