"""Sums over samples that keep their digits: blocks of rows, compensated, about a first estimate.

A float32 sum of n numbers that is carried along in one go loses up to ``n eps`` of itself: the
mean of ten million numbers near 1000 comes out 9% low. Blocks bound that by a constant, and cost
nothing, since sums over samples wait for memory.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fsd_jax import _linalg

Sum = TypeVar("Sum")

BLOCK_ROWS = 256
"""Rows that are added without compensation: at most ``256 eps/2`` of their sum is lost, and in
practice, where roundings have both signs, about 2 eps."""


def over_rows(term: Callable[..., Sum], *arrays: Array, rows: int = BLOCK_ROWS) -> Sum:
    """``term(arrays)`` for a `term` that is a sum over rows, taken in blocks by Kahan's summation.

    Args:
        term: from arrays with any number of rows, none included, to (a tree of) sums.
        arrays: with the rows of all samples, the first axis of each.
        rows: the size of a block.
    """
    n = arrays[0].shape[0]
    whole = n // rows
    if whole < 2:
        return term(*arrays)

    def add(i: Int[Array, ""], carried: tuple[Sum, Sum]) -> tuple[Sum, Sum]:
        total, lost = carried
        part = term(*(jax.lax.dynamic_slice_in_dim(a, i * rows, rows) for a in arrays))
        missed = jax.tree.map(jnp.subtract, part, lost)
        new = jax.tree.map(jnp.add, total, missed)
        lost = jax.tree.map(lambda new, old, added: (new - old) - added, new, total, missed)
        return new, lost

    rest = term(*(a[whole * rows :] for a in arrays))
    return jax.lax.fori_loop(0, whole, add, (rest, jax.tree.map(jnp.zeros_like, rest)))[0]


def total(x: Float[Array, " m"]) -> Float[Array, ""]:
    """The sum of a long vector, in groups of 64, in groups of those, and so on."""
    while x.shape[0] > 64:
        x = jnp.sum(jnp.pad(x, (0, -x.shape[0] % 64)).reshape(-1, 64), axis=1)
    return jnp.sum(x)


def energy(
    x: Float[Array, "n D"], change: Callable[[Array], Array] = lambda x: x
) -> Float[Array, ""]:
    """The sum of all squares of ``change(x)``, a function of rows."""
    return total(over_rows(lambda rows: jnp.sum(change(rows) ** 2, axis=0), x))


def centre(
    x: Float[Array, "n D"], mask: Bool[Array, " n"] | None = None
) -> tuple[Float[Array, " D"], Float[Array, " D"]]:
    """The mean of the rows in two parts, ``shift + rest``, whose sum has more digits than one.

    The shift is the mean of the first rows that count; about it the others are small, however large
    they are themselves, so their mean loses no more than a few ``eps`` of their spread.

    Args:
        x: the rows; those outside `mask` may hold anything.
        mask: the rows that count, at least one.

    Returns:
        ``(shift, rest)``, to be subtracted one after the other.
    """
    # Products with ones: XLA's reduction over a few long rows is several times slower on CPU.
    n = x.shape[0]
    first = min(n, 128)
    if mask is None:
        shift = _linalg.matmul(jnp.full(first, 1 / first, x.dtype), x[:first])

        def term(block: Array) -> Array:
            return _linalg.matmul(jnp.ones(block.shape[0], x.dtype), block - shift)

        return shift, over_rows(term, x) / n
    start = jnp.argmax(mask)
    head = jax.lax.dynamic_slice_in_dim(x, start, first)
    kept = jax.lax.dynamic_slice_in_dim(mask, start, first)
    share = kept.astype(x.dtype) / jnp.maximum(jnp.sum(kept), 1).astype(x.dtype)
    shift = _linalg.matmul(share, jnp.where(kept[:, None], head, 0))

    def masked(block: Array, counts: Array) -> Array:
        y = jnp.where(counts[:, None], block - shift, 0)
        return _linalg.matmul(counts.astype(x.dtype), y)

    return shift, over_rows(masked, x, mask) / jnp.sum(mask).astype(x.dtype)


def mean_of_rows(
    x: Float[Array, "n D"], mask: Bool[Array, " n"] | None = None
) -> Float[Array, " D"]:
    """The mean of the rows, right to rounding for any number of them."""
    shift, rest = centre(x, mask)
    return shift + rest


def unit_scale(size: Float[Array, ""]) -> Float[Array, ""]:
    """A power of two that brings `size` near one; one itself for zero and what is not finite.

    Multiplying by it is exact, and squares then neither overflow nor vanish.
    """
    usable = (size > 0) & jnp.isfinite(size)
    exponent = jnp.floor(jnp.log2(jnp.where(usable, size, 1)))
    limit = jnp.finfo(size.dtype).maxexp - 8
    return jnp.exp2(-jnp.clip(exponent, -limit, limit))
