"""Sample second moments from their exact law: random numbers by dimension, not by sample."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks
from fsd_jax.simulate._chi_square import draw, log1p_tail, stable_key
from fsd_jax.simulate._inputs import draw_dtype, size

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
        n: number of samples, at least 1; its dtype, if floating, is that of the factor. A traced
            one that is no positive integer gives NaN.
        dim: dimension of a sample.

    Raises:
        ValueError: values out of range or of the wrong kind.
    """
    key = stable_key(_checks.key("key", key))
    given = _checks.array("n", n)
    dtype = given.dtype if isinstance(n, jax.Array | np.ndarray | np.generic) else None
    wide = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    samples = size("n", given, draw_dtype(dtype if wide else None))
    return _bartlett_factor(key, samples, _checks.dimension("dim", dim))


@partial(jax.jit, static_argnames="dim")
def _bartlett_factor(key: Key[Array, ""], n: Float[Array, ""], dim: int) -> Array:
    above, diagonal = jax.random.split(key)
    normals = jnp.triu(jax.random.normal(above, (dim, dim), n.dtype), 1)
    freedom = jnp.clip(n - jnp.arange(dim, dtype=n.dtype), 0)
    squares = draw(diagonal, freedom, 1).value[:, 0]
    return jnp.where(freedom[:, None] > 0, normals + jnp.diag(jnp.sqrt(squares)), freedom * 0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class WishartSpectra:
    """Spectra of ``S = (1/n) sum z z'``, ``z ~ N(0, I_d)``, as bidiagonal factors.

    ``S`` has the eigenvalues ``s_i = 1 + e_i`` of ``B B'`` for a lower bidiagonal ``B`` whose
    squared entries are independent chi-squares over n (Dumitriu and Edelman, 2002; for ``n < d``
    the roles of n and d are swapped and zeros fill up). Sums over eigenvalues of rational functions
    come from the pivots of ``h + g B B'``, ``O(d)`` operations without a subtraction that cancels:
    in float32 errors of size ``d/n`` keep their digits for every n, and so do errors that the
    smallest eigenvalues rule, for every ratio ``h/g``.

    Implements: R13.

    Attributes:
        diagonal: ``(d, replicates)`` squared diagonal of ``B``, less one.
        square: ``(d, replicates)`` the same without the subtraction.
        below: ``(d - 1, replicates)`` squared subdiagonal.
    """

    diagonal: Float[Array, "d replicates"]
    square: Float[Array, "d replicates"]
    below: Float[Array, "below replicates"]

    @classmethod
    def from_deviations(
        cls,
        deviations: Float[Array, "rows replicates"],
        n: Float[Array, ""],
        dim: int,
        values: Float[Array, "rows replicates"] | None = None,
    ) -> "WishartSpectra":
        """From centred chi-squares with the degrees of `wishart_freedom`.

        Args:
            deviations: ``chi^2_k - k``.
            n: number of samples.
            dim: ``d``.
            values: ``chi^2_k``, which keep the digits of small ones; None adds ``k``.
        """
        freedom, offset = wishart_freedom(n, dim), jnp.arange(dim, dtype=deviations.dtype)
        if values is None:
            values = deviations + freedom[:, None]
        # chi^2/n - 1 with its mean written down exactly: n may be too large to hold units.
        mean = jnp.where(offset < n, jnp.clip(dim - n, 0) - offset, -n)
        return cls(
            diagonal=(deviations[:dim] + mean[:, None]) / n,
            square=values[:dim] / n,
            below=values[dim:] / n,
        )

    def sum_of_squares(self, a: ArrayLike, b: ArrayLike, rho: ArrayLike) -> Float[Array, "..."]:
        """``sum_i ((a e_i + b)/(1 + e_i + rho))^2`` over all d eigenvalues.

        Args:
            a: coefficient, broadcast against ``(..., replicates)``.
            b: the same.
            rho: the same, positive.
        """
        a, b, rho = (jnp.asarray(value, self.diagonal.dtype) for value in (a, b, rho))
        gain = 1 / (1 + rho)
        return self.squares(gain * (a - b), gain * b, gain, rho * gain)[0]

    def sum_of_divergences(self, rho: ArrayLike) -> Float[Array, "..."]:
        """``sum_i 1/(1+y_i) - 1 + log(1+y_i)``, ``y_i = e_i/(1 + rho)``: twice a Gaussian KL.

        Args:
            rho: broadcast against ``(..., replicates)``, positive.
        """
        rho = jnp.asarray(rho, self.diagonal.dtype)
        return self.divergences(1 / (1 + rho), rho / (1 + rho))

    def squares(
        self, a: Array, c: Array, gain: Array, rest: Array
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """``sum_i w_i^2`` and ``sum_i w_i``, ``w_i = (a e_i + c s_i)/(1 + gain e_i)``.

        Args:
            a: coefficient, broadcast against ``(..., replicates)``.
            c: the same.
            gain: the same, in ``[0, 1]``.
            rest: ``1 - gain`` to its own last digit, positive.
        """
        shape = jnp.broadcast_shapes(*map(jnp.shape, (a, c, gain, rest)), self.diagonal[0].shape)
        both = a + c

        def row(carry: tuple[Array, ...], entries: tuple[Array, ...]) -> tuple:
            # Second derivative of log det(K + x T) in x, K = 1 + gain E, T = a E + c S: its pivots'
            # logarithmic derivatives u, v. Every term that is added to the total is positive.
            total, trace, shift, inverse, part, tail, u, v = carry
            before, below, deviation, square = entries
            move = below * inverse
            q = before * move
            off = both - gain * u
            # The derivative along E, and along S without a subtraction, in which its small
            # eigenvalues would be lost.
            slope = deviation + below - gain * q * (2 - gain * part)
            tail = move * inverse * (shift * shift + gain * gain * before * tail)
            shift = rest + gain * move * shift
            inverse = 1 / (gain * square + shift)
            v = -q * inverse * (2 * off * off - gain * gain * v)
            part = slope * inverse
            u = a * part + c * ((square + tail) * inverse)
            return (total + u * u - v, trace + u, shift, inverse, part, tail, u, v), None

        inverse = jnp.broadcast_to(1 / (gain * self.square[0] + rest), shape)
        part, zero = self.diagonal[0] * inverse, jnp.zeros_like(inverse)
        u = a * part + c * (self.square[0] * inverse)
        start = (u * u, u, jnp.broadcast_to(rest, shape), inverse, part, zero, u, zero)
        total, trace, *_ = self._down(row, start)
        return total, trace

    def divergences(self, gain: Array, rest: Array) -> Float[Array, "..."]:
        """`sum_of_divergences` with ``gain = 1/(1 + rho)`` and ``rest = 1 - gain``."""
        shape = jnp.broadcast_shapes(jnp.shape(gain), jnp.shape(rest), self.diagonal[0].shape)

        def add(total: Array, change: Array, pivot: Array, extra: Array) -> Array:
            # tr K^-1 - d + log det K, pivot by pivot: what is first order in the change is out.
            return total + (change * change + extra) / pivot + log1p_tail(change, 1, pivot)

        def row(carry: tuple[Array, ...], entries: tuple[Array, ...]) -> tuple:
            total, shift, pivot, w = carry
            before, below, deviation, square = entries
            move = below / pivot
            q = gain * before * move
            shift = rest + gain * move * shift
            pivot = gain * square + shift
            extra = gain * q * w
            total = add(total, gain * (deviation + below - q), pivot, extra)
            return (total, shift, pivot, (1 + extra) / pivot), None

        pivot = jnp.broadcast_to(gain * self.square[0] + rest, shape)
        change = jnp.broadcast_to(gain * self.diagonal[0], shape)
        zero = jnp.zeros_like(pivot)
        start = (add(zero, change, pivot, zero), jnp.broadcast_to(rest, shape), pivot, 1 / pivot)
        return self._down(row, start)[0]

    def _down(self, row: object, start: tuple[Array, ...]) -> tuple[Array, ...]:
        entries = (self.square[:-1], self.below, self.diagonal[1:], self.square[1:])
        return jax.lax.scan(row, start, entries, unroll=UNROLL)[0]  # type: ignore[arg-type]


def wishart_freedom(n: Float[Array, ""], dim: int) -> Float[Array, " rows"]:
    """Degrees of freedom of the ``2 dim - 1`` chi-squares of `WishartSpectra`; n may be traced."""
    offset = jnp.arange(dim, dtype=n.dtype)
    diagonal = jnp.where(offset < n, jnp.maximum(n, dim) - offset, 0)
    below = jnp.clip(jnp.minimum(n, dim) - 1 - offset[:-1], 0)
    return jnp.concatenate([diagonal, below])
