"""Block Golub-Kahan-Lanczos: leading eigenpairs of large data, which are only multiplied."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from fsd_jax import _linalg, _spectra, _sums


def _orthonormal_rows(
    rows: Float[Array, "b p"], against: Float[Array, "j p"]
) -> tuple[Float[Array, "b p"], Float[Array, "j b"], Float[Array, "b b"]]:
    """Orthonormalise rows against earlier ones and each other; dependent rows become zero.

    Projection and normalisation by the rows' own small Gram matrix, twice (Stathopoulos and Wu's
    SVQB): only matrix products touch long axes, which is several times faster than LAPACK's QR and
    keeps the span to ``eps`` times the condition, not its square.

    Returns:
        ``(q, above, r)`` with ``rows' = against' above + q' r``.
    """
    above = jnp.zeros((against.shape[0], rows.shape[0]), rows.dtype)
    factor = jnp.eye(rows.shape[0], dtype=rows.dtype)
    # What the first round cannot tell from rounding comes out short and is dropped in the second.
    for least in (0.0, 0.5):
        overlap = _linalg.einsum("jp,bp->jb", against, rows)
        rows = rows - _linalg.einsum("jb,jp->bp", overlap, against)
        above = above + _linalg.matmul(overlap, factor.T)
        gram = _linalg.einsum("bp,cp->bc", rows, rows)
        size = jnp.sqrt(jnp.diagonal(gram))
        size = jnp.where(size > least, size, 0)
        unit = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
        values, vectors = _linalg.eigh_descending(gram * unit * unit[:, None])
        alive = values > 0.1 * _linalg.eps_of(rows.dtype) * values[0]
        root = jnp.sqrt(jnp.where(alive, values, 1))
        rows = _linalg.matmul((jnp.where(alive, vectors / root, 0) * unit[:, None]).T, rows)
        factor = _linalg.matmul(factor, jnp.where(alive, vectors * root, 0) * size[:, None])
    return rows, above, factor.T


class _Samples(NamedTuple):
    """Centred, masked and scaled data as an operator, without a copy of the data."""

    x: Float[Array, "n D"]
    mask: Bool[Array, " n"] | None
    mean: Float[Array, " D"] | None
    unit: Float[Array, ""]

    def times(self, q: Float[Array, "b D"]) -> Float[Array, "b n"]:
        """``X q``."""
        y = _linalg.einsum("nd,bd->nb", self.x, q).T
        if self.mean is None:
            return y * self.unit
        y = y - _linalg.matmul(q, self.mean)[:, None]
        return self.unit * (y if self.mask is None else jnp.where(self.mask, y, 0))

    def transposed_times(self, p: Float[Array, "b n"]) -> Float[Array, "b D"]:
        """``X' p`` for rows `p` that are zero outside the mask."""
        # In this layout the product is a fifth faster; the barrier keeps XLA from undoing it.
        z = _linalg.einsum("nd,nb->bd", self.x, jax.lax.optimization_barrier(p.T))
        if self.mean is not None:
            z = z - jnp.sum(p, axis=1)[:, None] * self.mean
        return z * self.unit

    def energy(self) -> Float[Array, ""]:
        """Sum of all squares."""
        mean = 0 if self.mean is None else self.mean
        if self.mask is None:
            return _sums.energy(self.x, lambda rows: (rows - mean) * self.unit)

        def term(rows: Array, counts: Array) -> Array:
            return jnp.sum(jnp.where(counts[:, None], (rows - mean) * self.unit, 0) ** 2, axis=0)

        return _sums.total(_sums.over_rows(term, self.x, self.mask))


class _Ritz(NamedTuple):
    """Approximate singular values, right vectors in the Krylov basis, and the projector's error."""

    sigma: Float[Array, " k1"]
    vectors: Float[Array, "k m"]
    error: Float[Array, ""]


class _Krylov(NamedTuple):
    """State of the block Golub-Kahan recurrence ``X Q = P B``, blocks of b rows or columns."""

    block: Int[Array, ""]
    right: Float[Array, "mb D"]
    left: Float[Array, "m n"]
    projected: Float[Array, "m m"]
    ritz: _Ritz


def krylov_spectrum(
    x: Float[Array, "n D"],
    mask: Bool[Array, " n"] | None,
    mean: Float[Array, " D"] | None,
    count: Float[Array, ""],
    k: int,
    key: Key[Array, ""],
    max_blocks: int = 10,
) -> _spectra.Spectrum:
    """Leading eigenpairs by block Golub-Kahan-Lanczos with full reorthogonalisation.

    Each step reads the data twice (``X Q`` and ``X' P``) and orthonormalises after both halves, so
    the data are never squared. It stops when the projector's error, estimated from the residual and
    the gap between Ritz values, is below ``10 sqrt(eps)``; measured errors are ten times smaller
    than this estimate, so about 3e-4 in float32. The residual costs nothing, because it lies in the
    last block alone.

    Args:
        x: samples, rows outside `mask` being zero.
        mask: rows that count.
        mean: subtracted from every row that counts, without copying the data.
        count: the divisor.
        k: number of eigenpairs.
        key: for the random start.
        max_blocks: step limit.

    Returns:
        Spectrum whose `trusted` says whether the tolerance was reached.
    """
    n, ambient = x.shape
    b = min(max(8, 8 * -(-(k + 8) // 16)), n, ambient)
    blocks = max(1, min(max_blocks, min(n, ambient) // b))
    m = blocks * b
    if m < k + 1:
        raise ValueError(f"krylov needs min(n, D) well above {k} directions, got {x.shape}")
    tolerance = 10 * _linalg.eps_of(x.dtype) ** 0.5
    samples = _Samples(x, mask, mean, jnp.ones((), x.dtype))
    noise = jax.random.normal(key, (b, n), x.dtype)
    start = samples.transposed_times(noise if mask is None else jnp.where(mask, noise, 0))
    # Later steps square, and their squares must neither overflow nor vanish.
    unit = _sums.unit_scale(jnp.max(jnp.abs(start)) / n**0.5)
    samples, start = samples._replace(unit=unit), start * unit
    right = jnp.zeros((m + b, ambient), x.dtype)
    zero = partial(jnp.zeros, dtype=x.dtype)
    state = _Krylov(
        jnp.int32(0),
        right.at[:b].set(_orthonormal_rows(start, right[:1])[0]),
        zero((m, n)),
        zero((m, m)),
        _Ritz(zero(k + 1), zero((k, m)), jnp.asarray(jnp.inf, x.dtype)),
    )
    state = jax.lax.while_loop(
        lambda s: (s.block < blocks) & ~(s.ritz.error <= tolerance),
        lambda s: _golub_kahan_step(samples, s, b, k),
        state,
    )
    ritz = state.ritz
    basis = jax.lax.optimization_barrier(_linalg.matmul(ritz.vectors, state.right[:m])).T
    roots = ritz.sigma / jnp.sqrt(count)
    floor = 4 * _linalg.eps_of(x.dtype) * max(n, ambient) ** 0.5 * roots[0]
    total = samples.energy() / count / unit / unit
    spectrum = _spectra.leading(roots, basis, k, floor, total, unit=unit)
    return spectrum._replace(trusted=ritz.error <= tolerance)


def _golub_kahan_step(samples: _Samples, s: _Krylov, b: int, k: int) -> _Krylov:
    """One block: both products, both orthonormalisations, and Ritz values once there are enough."""
    at = s.block * b
    q = jax.lax.dynamic_slice_in_dim(s.right, at, b)
    p, above, diagonal = _orthonormal_rows(samples.times(q), s.left)
    left = jax.lax.dynamic_update_slice_in_dim(s.left, p, at, 0)
    column = jax.lax.dynamic_update_slice_in_dim(above, diagonal, at, 0)
    projected = jax.lax.dynamic_update_slice_in_dim(s.projected, column, at, 1)
    q, _, tail = _orthonormal_rows(samples.transposed_times(p), s.right)
    right = jax.lax.dynamic_update_slice_in_dim(s.right, q, at + b, 0)
    ritz = jax.lax.cond(at >= k + b, lambda: _rayleigh_ritz(projected, tail, at, k), lambda: s.ritz)
    return _Krylov(s.block + 1, right, left, projected, ritz)


def _rayleigh_ritz(
    projected: Float[Array, "m m"], tail: Float[Array, "b b"], at: Int[Array, ""], k: int
) -> _Ritz:
    _, sigma, vt = _linalg.svd(projected)
    u = _linalg.matmul(projected, vt[:k].T) / jnp.where(sigma[:k] > 0, sigma[:k], 1)
    last = jax.lax.dynamic_slice_in_dim(u, at, tail.shape[0], axis=0)
    residual = jnp.sqrt(jnp.sum(_linalg.matmul(tail, last) ** 2, axis=0))
    gap = sigma[k - 1] ** 2 - sigma[k] ** 2
    movement = jnp.sqrt(2 * jnp.sum((sigma[:k] * residual) ** 2))
    # At rounding level there is nothing left to gain, gap or no gap.
    settled = jnp.max(residual, initial=0.0) <= 8 * _linalg.eps_of(sigma.dtype) * sigma[0]
    error = jnp.where(settled, 0.0, movement / jnp.where(gap > 0, gap, 1e-30))
    return _Ritz(sigma[: k + 1], vt[:k], error)
