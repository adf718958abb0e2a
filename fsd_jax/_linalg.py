"""Thin decompositions: the only room that calls svd, eigh or qr.

Data matrices are ``(n, D)`` with samples in rows. Every factor returns eigenpairs of ``x'x / n`` in
descending order with ``basis`` of shape ``(D, k)``. All products use highest precision: a GPU's
TF32 is not float32.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

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


def eigenvalues(a: Float[Array, "*batch k k"]) -> Float[Array, "*batch k"]:
    """Eigenvalues of a symmetric matrix, smallest first."""
    return jnp.linalg.eigvalsh(a)


def host_solve(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``a^-1 b`` in NumPy, for the exact theory, which runs on the host in float64."""
    return np.linalg.solve(a, b)


def host_eigh(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and eigenvectors of symmetric matrices, by NumPy on the host."""
    values, vectors = np.linalg.eigh(a)
    return values, vectors


def host_fidelity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``tr (a^(1/2) b a^(1/2))^(1/2)`` of (stacks of) positive semi-definite matrices, in NumPy."""
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(np.clip(values, 0, None))[..., None, :]
    inner = np.swapaxes(root, -1, -2) @ b @ root
    return np.sum(np.sqrt(np.clip(np.linalg.eigvalsh(inner), 0, None)), axis=-1)


def complement(a: Float[Array, "k m"]) -> Float[Array, "k j"]:
    """Orthonormal basis of what is orthogonal to the columns of `a`, for concrete small arrays."""
    values, vectors = eigh_descending(matmul(a, a.T))
    rank = int(jnp.sum(values > 1e3 * eps_of(a.dtype) * values[0]))
    return vectors[:, rank:]


def orthonormal_columns(a: Float[Array, "*batch D k"]) -> Float[Array, "*batch D m"]:
    """An orthonormal basis (``m = min(D, k)``) whose span holds that of `a`."""
    return jnp.linalg.qr(a)[0]


def joint_span(*parts: Float[Array, "D _"]) -> Float[Array, "D m"]:
    """An orthonormal basis whose span holds the columns of all parts: all axes if they suffice."""
    columns = jnp.concatenate(parts, axis=1)
    ambient, k = columns.shape
    return jnp.eye(ambient, dtype=columns.dtype) if k >= ambient else orthonormal_columns(columns)


def qr(a: Float[Array, "D k"]) -> tuple[Float[Array, "D k"], Float[Array, "k k"]]:
    """Thin QR factorisation."""
    return jnp.linalg.qr(a)


def polar_factor(a: Float[Array, "D k"]) -> Float[Array, "D k"]:
    """The nearest matrix with orthonormal columns, ``a (a'a)^(-1/2)``, for a of full rank.

    By Newton and Schulz's coupled iteration, which holds nothing but products: unlike a route
    through eigenvectors it may be differentiated where singular values coincide, which is where an
    orthonormal `a` is. Full accuracy needs a condition number below about 100.
    """
    gram = matmul(a.T, a)
    size = jnp.max(jnp.sum(jnp.abs(gram), axis=1))
    eye = jnp.eye(a.shape[1], dtype=a.dtype)

    def step(pair: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        root, inverse = pair
        factor = 1.5 * eye - 0.5 * matmul(inverse, root)
        return (matmul(root, factor), matmul(factor, inverse)), None

    (_, inverse), _ = jax.lax.scan(step, (gram / size, eye), length=16)
    return matmul(a, inverse) / jnp.sqrt(size)


def left_singular(a: Float[Array, "D k"]) -> tuple[Float[Array, "D m"], Float[Array, " m"]]:
    """Left singular vectors and singular values of a tall thin matrix."""
    q, r = jnp.linalg.qr(a)
    u, s, _ = jnp.linalg.svd(r, full_matrices=False)
    return matmul(q, u), s


def svd(
    a: Float[Array, "p q"],
) -> tuple[Float[Array, "p m"], Float[Array, " m"], Float[Array, "m q"]]:
    """Thin singular value decomposition ``a = u diag(s) vt`` of a small matrix."""
    u, s, vt = jnp.linalg.svd(a, full_matrices=False)
    return u, s, vt


def singular_values(a: Float[Array, "p q"]) -> Float[Array, " m"]:
    """Singular values, largest first."""
    return jnp.linalg.svd(a, compute_uv=False)


def after(x: Float[Array, "*shape"], *done: Array) -> Float[Array, "*shape"]:
    """`x`, not available before `done` is.

    On CPU a decomposition under `vmap` waits inside the thread pool for its own tasks. As many of
    them at once as the pool has threads (two on a small machine) wait for each other for ever, so
    decompositions that do not need each other are put in a row. An optimization barrier is dropped
    before the program is scheduled; only an arithmetic dependency is kept.
    """
    total = jnp.sum(jnp.stack([jnp.sum(a) for a in done]))
    return x + 0 * jnp.where(jnp.isfinite(total), total, 0).astype(x.dtype)


def sqrtm_psd(a: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = jnp.linalg.eigh(a)
    return matmul(vectors * jnp.sqrt(jnp.clip(values, 0)), vectors.T)


def leading(
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
    return leading(s**2 / count, basis, k, noise**2 / count, total)


def symmetric_spectrum(
    matrix: Float[Array, "D D"], k: int, cut: Int[Array, ""]
) -> tuple[Spectrum, Float[Array, ""]]:
    """Spectrum of a symmetric matrix that is given as such, and its smallest eigenvalue."""
    total = jnp.trace(matrix)
    finite = jnp.all(jnp.isfinite(matrix))
    values, vectors = eigh_descending(jnp.where(finite, matrix, 0))
    cutoff = 4 * eps_of(values.dtype) * values.shape[0] ** 0.5 * values[0]
    spectrum = leading(values, vectors, k, cutoff, jnp.where(finite, total, jnp.nan))
    # Some LAPACK builds leave errors of many eps in the values of a large matrix; its eigenvectors'
    # Rayleigh quotients are ten times closer, at the cost of one thin product.
    image = matmul(matrix, spectrum.basis)
    size = jnp.sum(spectrum.basis**2, axis=0)
    polished = jnp.sum(spectrum.basis * image, axis=0) / jnp.where(size > 0, size, 1)
    kept = jnp.where(spectrum.values > 0, polished, spectrum.values)
    return spectrum._replace(values=kept, trusted=squared_is_safe(values, cut)), values[-1]


CHUNK_ROWS = 1000
"""Rows of tall data that are multiplied at once: a chunk of 784 columns stays in the cache."""

COLUMN_BLOCKS = 4
"""Blocks of columns of which only the pairs on and above the diagonal are multiplied (5/8)."""


def _tall_gram(x: Float[Array, "n D"]) -> Float[Array, "D D"]:
    """``x'x`` for far more rows than columns.

    XLA has no symmetric product. Multiplying pairs of column blocks on and above the diagonal, a
    chunk of rows at a time, is a fifth faster than the full product on two cores, and the shorter
    sums lose fewer digits.
    """
    n, ambient = x.shape
    whole = n // CHUNK_ROWS
    if whole < 4 or ambient < 64 * COLUMN_BLOCKS:
        return einsum("nd,ne->de", x, x)
    edges = [round(i * ambient / COLUMN_BLOCKS) for i in range(COLUMN_BLOCKS)]
    spans = list(zip(edges, [*edges[1:], ambient], strict=True))

    def products(rows: Float[Array, "r D"]) -> list[Array]:
        return [einsum("nd,ne->de", rows[:, a:b], rows[:, a:]) for a, b in spans]

    def add(i: Int[Array, ""], total: list[Array]) -> list[Array]:
        rows = jax.lax.dynamic_slice_in_dim(x, i * CHUNK_ROWS, CHUNK_ROWS)
        return [t + p for t, p in zip(total, products(rows), strict=True)]

    strips = jax.lax.fori_loop(0, whole, add, products(x[whole * CHUNK_ROWS :]))
    upper = jnp.concatenate(
        [jnp.pad(strip, ((0, 0), (a, 0))) for strip, (a, _) in zip(strips, spans, strict=True)]
    )
    return jnp.triu(upper) + jnp.triu(upper, 1).T


def gram_spectrum(
    x: Float[Array, "n D"], count: Float[Array, ""], k: int, cut: Int[Array, ""]
) -> Spectrum:
    """Eigenpairs by the Gram matrix of the smaller side: cheapest, but it squares the data."""
    n, ambient = x.shape
    if n > ambient:
        return symmetric_spectrum(_tall_gram(x) / count, k, cut)[0]
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
