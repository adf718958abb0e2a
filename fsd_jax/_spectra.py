"""Leading eigenpairs of second moments, by routes that square the data or do not.

Data matrices are ``(n, D)`` with samples in rows. Every route returns eigenpairs of ``x'x / n`` in
descending order with ``basis`` of shape ``(D, k)``.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fsd_jax import _linalg, _sums


class Spectrum(NamedTuple):
    """Leading eigenpairs; null ones are zero in `values` and have a zero column in `basis`.

    `next_value` is the first eigenvalue left out, `total` the trace, `trusted` whether the route
    was safe at the cut (Gram) or reached its tolerance (Krylov), `underflow` whether an
    eigenvalue that counts is too small for its dtype. Data that are not finite (or whose squares
    are not) give a `total` that is not, and NaN in values and basis.
    """

    values: Float[Array, " k"]
    basis: Float[Array, "D k"]
    next_value: Float[Array, ""]
    total: Float[Array, ""]
    trusted: Bool[Array, ""]
    underflow: Bool[Array, ""]

    @property
    def finite(self) -> Bool[Array, ""]:
        """Whether the data were finite, and their squares too."""
        return jnp.isfinite(self.total)


class Centring(NamedTuple):
    """What was subtracted from the rows, and so what of their variance may be rounding.

    Attributes:
        size: ``(D,)`` size of what was subtracted from each column, in units of the dtype's eps.
        rows: number of rows that count, whose deviations have a rank of at most ``rows - 1``.
        mask: the rows that count, or None for all.
    """

    size: Float[Array, " D"]
    rows: Int[Array, ""]
    mask: Bool[Array, " n"] | None = None

    @property
    def noise(self) -> Float[Array, " D"]:
        """The standard deviation in each column below which it may be rounding.

        Entries near `size` are stored to ``eps size``, independently. Such noise has a variance of
        ``sum_j u_j^2 (eps size_j)^2/12`` along u, and of ``(1 + sqrt(D/n))^2`` times that along
        the direction that it favours most; the constant leaves a factor of ten.
        """
        spread = 1 + (self.size.shape[0] / self.rows.astype(self.size.dtype)) ** 0.5
        return 4 * _linalg.eps_of(self.size.dtype) * spread * self.size

    def floor(self, basis: Float[Array, "D k"]) -> Float[Array, " k"]:
        """`noise` along each direction: columns are rounded independently."""
        return jnp.sqrt(_linalg.matmul(self.noise**2, basis**2))

    def of_products(self, gram: Float[Array, "n n"]) -> Float[Array, "n n"]:
        """Products of rows about their mean, from those about a point close to it."""
        counts = jnp.ones(len(gram), gram.dtype) if self.mask is None else self.mask
        share = counts.astype(gram.dtype) / self.rows.astype(gram.dtype)
        overlap = _linalg.matmul(gram, share)
        centred = gram - overlap - overlap[:, None] + jnp.sum(overlap * share)
        return (
            centred if self.mask is None else jnp.where(self.mask & self.mask[:, None], centred, 0)
        )


def leading(
    roots: Float[Array, " m"],
    basis: Float[Array, "D j"],
    k: int,
    cutoff: Float[Array, ""],
    total: Float[Array, ""],
    *,
    unit: Float[Array, ""] | float = 1.0,
    cleared: bool = False,
) -> Spectrum:
    """Keep k pairs and clear the null ones, so that no rounding passes for a direction.

    Args:
        roots: all standard deviations, largest first, times `unit`.
        basis: their directions, at least k.
        k: number of pairs to keep.
        cutoff: the size up to which a root may be rounding.
        total: the trace.
        unit: a power of two, see `_sums.unit_scale`.
        cleared: whether columns below the cutoff are zero already, and NaN for data that are not
            finite: another pass over a long basis costs as much as finding it.
    """
    kept, basis = jnp.where(roots[:k] > cutoff, roots[:k], 0), basis[:, :k]
    following = roots[k] if roots.shape[0] > k else roots[0] * 0
    following = jnp.where(following > cutoff, following, 0)
    nan = nan_unless_finite(total)
    if not cleared:
        basis = jnp.where(kept > 0, basis, 0) + nan
    values, following = (kept / unit) ** 2, (following / unit) ** 2
    smallest = jnp.finfo(roots.dtype).smallest_normal
    underflow = jnp.any((kept > 0) & (values < smallest))
    return Spectrum(values + nan, basis, following + nan, total, jnp.asarray(True), underflow)


def beyond_rounding(spectrum: Spectrum, centring: Centring) -> Spectrum:
    """What of centred data exceeds the rounding of what was subtracted, along each direction."""
    # No direction's rounding exceeds that of the worst column: most data end here.
    values = spectrum.values
    every = jnp.append(values, spectrum.next_value)
    worst = jnp.max(centring.noise) ** 2
    found = jnp.sum(every > 0, dtype=jnp.int32)
    doubtful = jnp.any((every > 0) & (every <= worst)) | (found >= centring.rows)
    return jax.lax.cond(doubtful, partial(_cut, centring), lambda same: same, spectrum)


def _cut(centring: Centring, spectrum: Spectrum) -> Spectrum:
    k = spectrum.values.shape[0]
    index = np.arange(k, dtype=np.int32)
    floor = centring.floor(spectrum.basis)
    alive = (index < centring.rows - 1) & (spectrum.values > floor**2)
    following = jnp.where(alive[-1] & (k < centring.rows - 1), spectrum.next_value, 0)
    # Columns of different size: rounding in one may exceed a direction in another, so what is left
    # moves up, by a product with zeros and ones: a sort takes longer to compile than all the rest.
    place = jnp.sum(alive[:, None] & (index[:, None] < index), axis=0, dtype=jnp.int32)
    move = jnp.where(alive[:, None] & (place[:, None] == index), 1, 0).astype(floor.dtype)
    values = _linalg.matmul(spectrum.values, move)
    # All that there is may be rounding, too.
    least = jnp.sum((_linalg.eps_of(floor.dtype) * centring.size) ** 2)
    total = jnp.where(spectrum.total > least, spectrum.total, 0)
    return Spectrum(
        values,
        _linalg.matmul(spectrum.basis, move),
        following,
        total,
        spectrum.trusted | (total == 0),
        spectrum.underflow & (values[0] > 0),
    )


def nan_unless_finite(total: Float[Array, ""]) -> Float[Array, ""]:
    """Zero, or NaN where the data were not finite."""
    return jnp.where(jnp.isfinite(total), 0, jnp.nan).astype(total.dtype)


def svd_spectrum(x: Float[Array, "n D"], count: Float[Array, ""], k: int) -> Spectrum:
    """Eigenpairs by QR and a small SVD: nothing is squared, weak directions survive."""
    n, ambient = x.shape
    unit = _sums.unit_scale(jnp.max(jnp.abs(x)))
    x = x * unit
    total = _sums.energy(x) / count
    x = jnp.where(jnp.isfinite(total), x, 0)
    if n <= ambient:
        q, r = _linalg.qr(x.T)
        u, s, _ = _linalg.svd(r)
        basis = _linalg.matmul(q, u[:, :k])
    else:
        _, s, vt = _linalg.svd(_linalg.triangle(x))
        basis = vt[:k].T
    # The backward error of a singular value is eps times the largest, with a factor that in
    # practice grows like the root of the larger side; tall data are factorised in blocks.
    side = max(min(n, 2 * _linalg.TRIANGLE_ROWS), ambient)
    roots = s / jnp.sqrt(count)
    cutoff = 4 * _linalg.eps_of(x.dtype) * side**0.5 * roots[0]
    return leading(roots, basis, k, cutoff, total / unit / unit, unit=unit)


def symmetric_spectrum(
    matrix: Float[Array, "D D"], k: int, cut: Int[Array, ""]
) -> tuple[Spectrum, Float[Array, ""]]:
    """Spectrum of a symmetric matrix that is given as such, and its smallest eigenvalue."""
    total = _sums.total(jnp.diagonal(matrix))
    finite = jnp.all(jnp.isfinite(matrix))
    values, vectors = _linalg.eigh_descending(jnp.where(finite, matrix, 0))
    cutoff = 4 * _linalg.eps_of(values.dtype) * values.shape[0] ** 0.5 * values[0]
    total = jnp.where(finite, total, jnp.nan)
    roots = jnp.sqrt(jnp.clip(values, 0))
    spectrum = leading(roots, vectors, k, jnp.sqrt(cutoff), total)
    # Some LAPACK builds leave errors of many eps in the values of a large matrix; its eigenvectors'
    # Rayleigh quotients are ten times closer, at the cost of one thin product.
    image = _linalg.matmul(matrix, spectrum.basis)
    size = jnp.sum(spectrum.basis**2, axis=0)
    polished = jnp.sum(spectrum.basis * image, axis=0) / jnp.where(size > 0, size, 1)
    kept = jnp.where(spectrum.values > 0, polished, spectrum.values)
    return spectrum._replace(values=kept, trusted=_linalg.squared_is_safe(values, cut)), values[-1]


CHUNK_ROWS = 1000
"""Rows of tall data that are multiplied at once: a chunk of 784 columns stays in the cache."""

COLUMN_BLOCKS = 4
"""Blocks of columns of which only the pairs on and above the diagonal are multiplied (5/8)."""


def _tall_gram(x: Float[Array, "n D"]) -> Float[Array, "D D"]:
    """``x'x`` for far more rows than columns, in chunks of rows, whose sum keeps its digits.

    XLA has no symmetric product. Multiplying pairs of column blocks on and above the diagonal is a
    fifth faster than the full product on two cores, where there are columns enough.
    """
    n, ambient = x.shape
    blocks = COLUMN_BLOCKS if n >= 4 * CHUNK_ROWS and ambient >= 64 * COLUMN_BLOCKS else 1
    edges = [round(i * ambient / blocks) for i in range(blocks)]
    spans = list(zip(edges, [*edges[1:], ambient], strict=True))

    def products(rows: Float[Array, "r D"]) -> list[Array]:
        return [_linalg.einsum("nd,ne->de", rows[:, a:b], rows[:, a:]) for a, b in spans]

    strips = _sums.over_rows(products, x, rows=CHUNK_ROWS)
    if blocks == 1:
        return strips[0]
    upper = jnp.concatenate(
        [jnp.pad(strip, ((0, 0), (a, 0))) for strip, (a, _) in zip(strips, spans, strict=True)]
    )
    return jnp.triu(upper) + jnp.triu(upper, 1).T


def gram_spectrum(
    x: Float[Array, "n D"],
    count: Float[Array, ""],
    k: int,
    cut: Int[Array, ""],
    centring: Centring | None = None,
) -> Spectrum:
    """Eigenpairs by the Gram matrix of the smaller side: cheapest, but it squares the data.

    Fewer rows than columns may be centred about a point close to their mean only: their products
    are then centred, which costs no pass over the data.
    """
    n, ambient = x.shape
    if n > ambient:
        gram = _tall_gram(x)
        total = jnp.trace(gram)
        spectrum, _ = symmetric_spectrum(gram / count, k, cut)
        return spectrum._replace(trusted=spectrum.trusted & _squares_survive(total, n))
    gram = _linalg.matmul(x, x.T)
    if centring is not None:
        gram = centring.of_products(gram)
    total = jnp.trace(gram)
    finite = jnp.isfinite(total)
    values, vectors = _linalg.eigh_descending(jnp.where(finite, gram, 0))
    cutoff = 4 * _linalg.eps_of(x.dtype) * n**0.5 * values[0]
    scale = jnp.where(values > cutoff, jax.lax.rsqrt(jnp.where(values > cutoff, values, 1)), 0)
    # On CPU this product is several times faster with the long axis last; the barrier keeps XLA
    # from folding the transpose back into it.
    scale = scale + nan_unless_finite(total)
    rows = jax.lax.optimization_barrier(_linalg.matmul((vectors * scale)[:, :k].T, x))
    roots = jnp.sqrt(jnp.clip(values, 0) / count)
    limit = jnp.sqrt(cutoff / count)
    spectrum = leading(roots, rows.T, k, limit, total / count, cleared=True)
    safe = _linalg.squared_is_safe(values, cut) & _squares_survive(total, ambient)
    return spectrum._replace(trusted=safe)


def _squares_survive(trace: Float[Array, ""], terms: int) -> Bool[Array, ""]:
    """Whether what squares lose below the dtype's smallest number is below 1e-5 of their sum."""
    return trace >= 1e5 * terms * float(jnp.finfo(trace.dtype).smallest_normal)
