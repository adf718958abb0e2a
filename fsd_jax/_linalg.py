"""Thin decompositions: the only room that calls svd, eigh or qr.

Data matrices are ``(n, D)`` with samples in rows. Every factor returns eigenpairs of ``x'x / n`` in
descending order with ``basis`` of shape ``(D, k)``. All products use highest precision: a GPU's
TF32 is not float32.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

matmul = partial(jnp.matmul, precision="highest")
einsum = partial(jnp.einsum, precision="highest")

GAP_MARGIN = 512.0
"""A route that squares the data is used where ``gap/c_1`` is this far above the machine epsilon.

By Davis and Kahan the projector moves by at most ``|E|/gap``, and forming ``x x'`` perturbs it by
a small multiple of ``eps c_1``. Measured in float32, the projector's error was at most 4e-3 at this
margin and on average 2e-3, and fell in proportion to the gap (tests/test_moments.py).
"""


class Spectrum(NamedTuple):
    """Leading eigenpairs; null ones are zero in `values` and have a zero column in `basis`.

    `next_value` is the first eigenvalue left out, `total` the trace, `trusted` whether the route
    was safe at the cut (Gram) or reached its tolerance (Krylov). Data that are not finite (or
    whose squares are not) give a `total` that is not, and NaN in values and basis.
    """

    values: Float[Array, " k"]
    basis: Float[Array, "D k"]
    next_value: Float[Array, ""]
    total: Float[Array, ""]
    trusted: Bool[Array, ""]

    @property
    def finite(self) -> Bool[Array, ""]:
        """Whether the data were finite, and their squares too."""
        return jnp.isfinite(self.total)


def eps_of(dtype: jnp.dtype) -> float:
    """Machine epsilon of a floating dtype."""
    return float(jnp.finfo(dtype).eps)


def squared_is_safe(values: Float[Array, " k"], cut: Int[Array, ""]) -> Bool[Array, ""]:
    """Whether a route that squares the data may be used at this cut (``GAP_MARGIN``)."""
    padded = jnp.append(values, 0.0)
    gap = jnp.where(cut > 0, padded[cut - 1] - padded[cut], padded[0])
    return gap >= GAP_MARGIN * eps_of(values.dtype) * padded[0]


def eigh_descending(a: Float[Array, "k k"]) -> tuple[Float[Array, " k"], Float[Array, "k k"]]:
    """Eigenpairs of a symmetric matrix, largest first."""
    values, vectors = jnp.linalg.eigh(a)
    return values[::-1], vectors[:, ::-1]


def orthonormal_columns(a: Float[Array, "D k"]) -> Float[Array, "D m"]:
    """An orthonormal basis (``m = min(D, k)``) whose span holds that of `a`."""
    return jnp.linalg.qr(a)[0]


def qr(a: Float[Array, "D k"]) -> tuple[Float[Array, "D k"], Float[Array, "k k"]]:
    """Thin QR factorisation."""
    return jnp.linalg.qr(a)


def left_singular(a: Float[Array, "D k"]) -> tuple[Float[Array, "D m"], Float[Array, " m"]]:
    """Left singular vectors and singular values of a tall thin matrix."""
    q, r = jnp.linalg.qr(a)
    u, s, _ = jnp.linalg.svd(r, full_matrices=False)
    return matmul(q, u), s


def singular_values(a: Float[Array, "p q"]) -> Float[Array, " m"]:
    """Singular values, largest first."""
    return jnp.linalg.svd(a, compute_uv=False)


def sqrtm_psd(a: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = jnp.linalg.eigh(a)
    return matmul(vectors * jnp.sqrt(jnp.clip(values, 0)), vectors.T)


def _leading(
    values: Float[Array, " m"],
    basis: Float[Array, "D j"],
    k: int,
    cutoff: Float[Array, ""],
    total: Float[Array, ""],
) -> Spectrum:
    """Keep k pairs and clear the null ones, so that no rounding passes for a direction."""
    values = jnp.where(values > cutoff, values, 0)
    following = values[k] if values.shape[0] > k else jnp.zeros((), values.dtype)
    kept = values[:k]
    basis = jnp.where(kept > 0, basis[:, :k], 0)
    nan = _nan_unless_finite(total)
    return Spectrum(kept + nan, basis + nan, following + nan, total, jnp.asarray(True))


def _nan_unless_finite(total: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(jnp.isfinite(total), 0, jnp.nan).astype(total.dtype)


def svd_spectrum(x: Float[Array, "n D"], count: Float[Array, ""], k: int) -> Spectrum:
    """Eigenpairs by QR and a small SVD: nothing is squared, weak directions survive."""
    n, ambient = x.shape
    total = jnp.sum(x * x) / count
    x = jnp.where(jnp.isfinite(total), x, 0)
    if n <= ambient:
        q, r = jnp.linalg.qr(x.T)
        u, s, _ = jnp.linalg.svd(r, full_matrices=False)
        basis = matmul(q, u[:, :k])
    else:
        _, s, vt = jnp.linalg.svd(jnp.linalg.qr(x, mode="r"), full_matrices=False)
        basis = vt[:k].T
    # The backward error of a singular value is eps times the largest, with a factor that in
    # practice grows like the root of the larger side.
    noise = 4 * eps_of(x.dtype) * max(n, ambient) ** 0.5 * s[0]
    return _leading(s**2 / count, basis, k, noise**2 / count, total)


def symmetric_spectrum(
    matrix: Float[Array, "D D"], k: int, cut: Int[Array, ""]
) -> tuple[Spectrum, Float[Array, ""]]:
    """Spectrum of a symmetric matrix that is given as such, and its smallest eigenvalue."""
    total = jnp.trace(matrix)
    finite = jnp.all(jnp.isfinite(matrix))
    values, vectors = eigh_descending(jnp.where(finite, matrix, 0))
    cutoff = 4 * eps_of(values.dtype) * values.shape[0] ** 0.5 * values[0]
    spectrum = _leading(values, vectors, k, cutoff, jnp.where(finite, total, jnp.nan))
    # Some LAPACK builds leave errors of many eps in the values of a large matrix; its eigenvectors'
    # Rayleigh quotients are ten times closer, at the cost of one thin product.
    image = matmul(matrix, spectrum.basis)
    size = jnp.sum(spectrum.basis**2, axis=0)
    polished = jnp.sum(spectrum.basis * image, axis=0) / jnp.where(size > 0, size, 1)
    kept = jnp.where(spectrum.values > 0, polished, spectrum.values)
    return spectrum._replace(values=kept, trusted=squared_is_safe(values, cut)), values[-1]


def gram_spectrum(
    x: Float[Array, "n D"], count: Float[Array, ""], k: int, cut: Int[Array, ""]
) -> Spectrum:
    """Eigenpairs by the Gram matrix of the smaller side: cheapest, but it squares the data."""
    n, ambient = x.shape
    if n > ambient:
        return symmetric_spectrum(einsum("nd,ne->de", x, x) / count, k, cut)[0]
    gram = matmul(x, x.T)
    total = jnp.trace(gram)
    finite = jnp.isfinite(total)
    values, vectors = eigh_descending(jnp.where(finite, gram, 0))
    cutoff = 4 * eps_of(x.dtype) * n**0.5 * values[0]
    scale = jnp.where(values > cutoff, jax.lax.rsqrt(jnp.where(values > cutoff, values, 1)), 0)
    nan = _nan_unless_finite(total)
    # On CPU this product is several times faster with the long axis last; the barrier keeps XLA
    # from folding the transpose back into it.
    rows = jax.lax.optimization_barrier(matmul((vectors * (scale + nan))[:, :k].T, x))
    values = jnp.where(values > cutoff, values, 0) + nan
    return Spectrum(
        values[:k] / count,
        rows.T,
        (values[k] if n > k else values[0] * 0) / count,
        total / count,
        squared_is_safe(values, cut),
    )


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
        overlap = einsum("jp,bp->jb", against, rows)
        rows = rows - einsum("jb,jp->bp", overlap, against)
        above = above + matmul(overlap, factor.T)
        gram = einsum("bp,cp->bc", rows, rows)
        size = jnp.sqrt(jnp.diagonal(gram))
        size = jnp.where(size > least, size, 0)
        unit = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
        values, vectors = jnp.linalg.eigh(gram * unit * unit[:, None])
        alive = values > 0.1 * eps_of(rows.dtype) * values[-1]
        root = jnp.sqrt(jnp.where(alive, values, 1))
        rows = matmul((jnp.where(alive, vectors / root, 0) * unit[:, None]).T, rows)
        factor = matmul(factor, jnp.where(alive, vectors * root, 0) * size[:, None])
    return rows, above, factor.T


class _Samples(NamedTuple):
    """Centred and masked data as an operator, without a copy of the data."""

    x: Float[Array, "n D"]
    mask: Bool[Array, " n"] | None
    mean: Float[Array, " D"] | None

    def times(self, q: Float[Array, "b D"]) -> Float[Array, "b n"]:
        """``X q``."""
        y = einsum("nd,bd->nb", self.x, q).T
        if self.mean is None:
            return y
        y = y - matmul(q, self.mean)[:, None]
        return y if self.mask is None else jnp.where(self.mask, y, 0)

    def transposed_times(self, p: Float[Array, "b n"]) -> Float[Array, "b D"]:
        """``X' p`` for rows `p` that are zero outside the mask."""
        # In this layout the product is a fifth faster; the barrier keeps XLA from undoing it.
        z = einsum("nd,nb->bd", self.x, jax.lax.optimization_barrier(p.T))
        return z if self.mean is None else z - jnp.sum(p, axis=1)[:, None] * self.mean

    def energy(self) -> Float[Array, ""]:
        """Sum of all squares."""
        if self.mean is None:
            return jnp.sum(self.x * self.x)
        y = self.x - self.mean
        return jnp.sum((y if self.mask is None else jnp.where(self.mask[:, None], y, 0)) ** 2)


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
) -> Spectrum:
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
    tolerance = 10 * eps_of(x.dtype) ** 0.5
    samples = _Samples(x, mask, mean)
    noise = jax.random.normal(key, (b, n), x.dtype)
    start = samples.transposed_times(noise if mask is None else jnp.where(mask, noise, 0))
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
    basis = jax.lax.optimization_barrier(matmul(ritz.vectors, state.right[:m])).T
    floor = 4 * eps_of(x.dtype) * max(n, ambient) ** 0.5 * ritz.sigma[0]
    total = samples.energy() / count
    spectrum = _leading(ritz.sigma**2 / count, basis, k, floor**2 / count, total)
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
    _, sigma, vt = jnp.linalg.svd(projected, full_matrices=False)
    u = matmul(projected, vt[:k].T) / jnp.where(sigma[:k] > 0, sigma[:k], 1)
    last = jax.lax.dynamic_slice_in_dim(u, at, tail.shape[0], axis=0)
    residual = jnp.sqrt(jnp.sum(matmul(tail, last) ** 2, axis=0))
    gap = sigma[k - 1] ** 2 - sigma[k] ** 2
    movement = jnp.sqrt(2 * jnp.sum((sigma[:k] * residual) ** 2))
    # At rounding level there is nothing left to gain, gap or no gap.
    settled = jnp.max(residual, initial=0.0) <= 8 * eps_of(sigma.dtype) * sigma[0]
    error = jnp.where(settled, 0.0, movement / jnp.where(gap > 0, gap, 1e-30))
    return _Ritz(sigma[: k + 1], vt[:k], error)
