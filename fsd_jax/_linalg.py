"""Decompositions: the only room that calls svd, eigh or qr.

All products use highest precision: a GPU's TF32 is not float32.
"""

from functools import partial

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


def host_triangle(a: np.ndarray) -> np.ndarray:
    """Triangular ``R`` with ``R'R = a'a``, in NumPy: unlike ``a'a`` it keeps all digits of `a`."""
    return np.asarray(np.linalg.qr(a, mode="r"))


def host_bures(r: np.ndarray, s: np.ndarray) -> float:
    """Squared Bures distance of ``r'r`` and ``s's``: ``min_U |r' - s'U|_F^2``, in NumPy.

    A sum of squares, so it does not cancel where the two are alike; a rotation that is off by a
    little only adds the square of that.
    """
    u, _, vt = np.linalg.svd(s @ r.T, full_matrices=False)
    return float(np.sum((r.T - s.T @ (u @ vt)) ** 2))


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


TRIANGLE_ROWS = 1024
"""Rows of tall data that are factorised at once, if they are at least four times the columns."""


def triangle(x: Float[Array, "n D"]) -> Float[Array, "m D"]:
    """The triangular factor of a QR factorisation, for tall data by those of blocks of rows.

    One factorisation of a hundred million rows loses digits as every long float32 sum does; blocks,
    then blocks of their factors, do not, and are faster.
    """
    n, ambient = x.shape
    rows = max(TRIANGLE_ROWS, 4 * ambient)
    while n > 2 * rows:
        blocks = -(-n // rows)
        x = jnp.pad(x, ((0, blocks * rows - n), (0, 0))).reshape(blocks, rows, ambient)
        x = jnp.linalg.qr(x, mode="r").reshape(-1, ambient)
        n = x.shape[0]
    return jnp.linalg.qr(x, mode="r")


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


def full_frame(
    basis: Float[Array, "m k"], values: Float[Array, " k"], rest: Float[Array, ""]
) -> tuple[Float[Array, "m m"], Float[Array, " m"]]:
    """Eigenframe of ``B diag(values) B' + rest (I - BB')``, and its eigenvalues, largest first.

    `basis` has orthonormal or zero columns; a zero one is no direction. No eigenproblem is solved:
    the columns are completed, so nothing depends on gaps and small eigenvalues keep their digits.
    """
    m = basis.shape[0]
    alive = jnp.sum(basis**2, axis=0) > 0.5
    # Zero columns come last: Householder's method completes the others to a frame.
    order = jnp.argsort(~alive, stable=True)
    frame = jnp.linalg.qr(basis[:, order], mode="complete")[0]
    found = jnp.where(alive, values, rest)[order][:m]
    found = jnp.concatenate([found, jnp.full(m - found.shape[0], 1, rest.dtype) * rest])
    order = jnp.argsort(-found, stable=True)
    return frame[:, order], found[order]


def graded_polar(
    rows: Float[Array, " m"], a: Float[Array, "m m"], columns: Float[Array, " m"]
) -> Float[Array, "m m"]:
    """The orthogonal polar factor of ``diag(rows) a diag(columns)``, `a` orthogonal.

    Scales that are many orders apart would drown the small ones in the rounding of the large. One
    step of Newton's iteration ``X -> (X + X^-T)/2`` has the same factor and squeezes the singular
    values ``s`` to ``(s + 1/s)/2``; for this product it is known entry by entry.
    """
    top = jnp.maximum(jnp.max(rows), jnp.max(columns))
    # Below this the factor decides nothing that the dtype can see; zeros stay finite.
    floor = eps_of(a.dtype) * jnp.where(top > 0, top, 1)
    level = jnp.maximum(rows, floor)[:, None] * jnp.maximum(columns, floor)
    level = level / jnp.sqrt(jnp.max(level)) / jnp.sqrt(jnp.min(level))
    left, _, right = jnp.linalg.svd(a * (level + 1 / level), full_matrices=False)
    return matmul(left, right)
