"""Repeated pictures: rows that are the same, or nearly, count once wherever samples are left out.

Two rows are near when their distance is at most `SHARE` of the typical one and so small that
chance gives one such pair in a hundred sets of this size (`CHANCE`). The typical distance is the
median of those between different target rows or, where it is larger, the root mean square of
those that the source's law gives: ten frames of one scene are then near although all of them are.
Chance is judged by a Gaussian law with the effective dimension ``(tr C)^2 / tr C^2``, whose squared
distances are ``k`` degrees of freedom: in few dimensions close pairs are no surprise.

Distances are taken from differences, never from a Gram matrix, so equal rows have distance zero.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fsd_jax import _checks, _linalg
from fsd_jax.fewshot.source import PretrainedModel

SHARE = 0.05
"""Rows nearer than this share of the typical distance may be one picture twice."""

CHANCE = 0.01
"""Expected number of pairs that near by chance, among all pairs that are compared."""

TYPICAL_ROWS = 256
"""Rows, evenly spaced, whose distances give the typical one."""

WHOLE_ROWS = 64
"""Up to so many rows all differences are taken; of more, only of those that a Gram matrix of a
block at a time cannot tell apart."""

BLOCK = 1024
WORDS = 4


class Scale(NamedTuple):
    """What near means: distances are in units of `size`, which keeps their squares in range."""

    size: Float[Array, ""]
    typical: Float[Array, ""]
    dimension: Float[Array, ""]

    def limit(self, log_pairs: float | Float[Array, ""]) -> Float[Array, ""]:
        """The largest squared distance of a near pair when so many pairs are compared."""
        half = 0.5 * self.dimension
        # P(chi^2_k < x) is (x/2)^(k/2)/Gamma(k/2 + 1) where it is small.
        log_chance = math.log(CHANCE) - log_pairs + jax.scipy.special.gammaln(half + 1)
        by_chance = jnp.exp(log_chance / half) / half
        return self.typical**2 * jnp.minimum(SHARE**2, by_chance)


def log_pairs(n: int, m: int | None = None) -> float:
    """Logarithm of the number of pairs among n rows, or between n and m."""
    return math.log(max(n * (n - 1) // 2 if m is None else n * m, 1))


@jax.jit
def scale_of(x: Float[Array, "n D"], source: PretrainedModel | None = None) -> Scale:
    """The scale of some target rows, the source's law being known or not."""
    some = x[:: max(x.shape[0] // TYPICAL_ROWS, 1)]
    reach = jnp.max(jnp.abs(x - x[0]))
    spread, dimension = jnp.zeros_like(reach), jnp.ones_like(reach)
    if source is not None:
        # Without a mean of its own the source's second moment is no spread.
        spread, dimension = source_spread(source)
        spread = jnp.where(jnp.any(source.mean != 0), spread, 0)
    size = jnp.maximum(reach, spread)
    size = jnp.where((size > 0) & jnp.isfinite(size), size, 1)
    squares = jax.lax.map(lambda row: jnp.sum(((some - row) / size) ** 2, axis=1), some)
    different = squares > 0
    count = jnp.maximum(jnp.sum(different), 1)
    middle = jnp.sort(jnp.where(different, squares, jnp.inf).ravel())[count // 2]
    middle = jnp.where(jnp.isfinite(middle), middle, 0)
    if source is None:
        # A Gaussian law's squared distances have mean 2 tr C and variance 8 tr C^2.
        pairs = count.astype(x.dtype)
        mean = jnp.sum(squares) / pairs
        mean = jnp.where(mean > 0, mean, 1)
        variance = jnp.sum(jnp.where(different, (squares / mean - 1) ** 2, 0)) / pairs
        dimension = 2 / jnp.clip(variance, 2 / x.shape[1], 2)
    typical = jnp.sqrt(jnp.maximum(middle, 2 * (spread / size) ** 2))
    return Scale(size, typical, dimension)


def source_spread(source: PretrainedModel) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Root of the source's total variance, and its effective dimension ``(tr C)^2 / tr C^2``."""
    values, tau2 = source.latent_variance, source.residual_variance
    top = jnp.max(values)
    top = jnp.where(top > 0, top, 1)
    outside = source.basis.shape[0] - values.shape[0]
    trace = jnp.sum(values / top) + outside * (tau2 / top)
    squares = jnp.sum((values / top) ** 2) + outside * (tau2 / top) ** 2
    spread = jnp.sqrt(top) * jnp.sqrt(trace)
    return spread, jnp.where(squares > 0, trace**2 / jnp.where(squares > 0, squares, 1), 1)


@jax.jit
def labels_of(x: Float[Array, "n D"], scale: Scale, among: Float[Array, ""]) -> Int[Array, " n"]:
    """For each row the first row that it is one picture with, in one step or several.

    `among` is the `log_pairs` of the whole set, of which `x` may be a part.
    """
    n, limit = x.shape[0], scale.limit(among)
    own = jnp.arange(n, dtype=jnp.int32)

    def sweep(labels: Int[Array, " n"]) -> Int[Array, " n"]:
        def one(i: Array) -> Array:
            near = jnp.sum(((x - x[i]) / scale.size) ** 2, axis=1) <= limit
            return jnp.minimum(labels[i], jnp.min(jnp.where(near, labels, n)))

        return jax.lax.map(one, own)

    def unsettled(pair: tuple[Array, Array]) -> Bool[Array, ""]:
        return jnp.any(pair[0] != pair[1])

    _, labels = jax.lax.while_loop(
        unsettled, lambda pair: (pair[1], sweep(pair[1])), (own, sweep(own))
    )
    return labels


def concrete_labels(x: Float[Array, "n D"], scale: Scale) -> np.ndarray:
    """`labels_of` on the host; where rows are many, for those only that have a neighbour."""
    n = x.shape[0]
    among = np.asarray(log_pairs(n), x.dtype)
    if n <= WHOLE_ROWS:
        return np.asarray(labels_of(x, scale, among))
    suspects = _suspects(x, x, scale, among)
    labels = np.arange(n)
    if suspects.size > 1:
        found = np.asarray(labels_of(_taken(x, suspects), scale, among))[: suspects.size]
        labels[suspects] = suspects[found]
    return labels


def _taken(rows: Float[Array, "m D"], chosen: np.ndarray) -> Float[Array, "k D"]:
    """Some rows, filled up with rows of NaN, which are near to nothing: few sizes are compiled."""
    room = 1 << int(chosen.size - 1).bit_length()
    return jnp.pad(rows[chosen], ((0, room - chosen.size), (0, 0)), constant_values=np.nan)


def _suspects(
    x: Float[Array, "n D"], rows: Float[Array, "m D"], scale: Scale, among: np.ndarray
) -> np.ndarray:
    """The rows that a Gram matrix, a block at a time, cannot tell from another row of `x`."""
    m = rows.shape[0]
    found = np.zeros(m, bool)
    for start in range(0, m, BLOCK):
        # The last block is moved back so as to be whole.
        first = max(min(start, m - BLOCK), 0)
        near = _near_in_block(x, rows, scale, among, np.int32(first), itself=x is rows)
        found[first : first + BLOCK] |= np.asarray(near)
    return np.flatnonzero(found)


@partial(jax.jit, static_argnames=("itself",))
def _near_in_block(
    x: Float[Array, "n D"],
    rows: Float[Array, "m D"],
    scale: Scale,
    among: Float[Array, ""],
    first: Int[Array, ""],
    *,
    itself: bool,
) -> Bool[Array, " block"]:
    size = min(BLOCK, rows.shape[0])
    y = (x - x[0]) / scale.size
    block = (jax.lax.dynamic_slice_in_dim(rows, first, size) - x[0]) / scale.size
    norms, own = jnp.sum(y * y, axis=1), jnp.sum(block * block, axis=1)
    squares = own[:, None] + norms - 2 * _linalg.matmul(block, y.T)
    noise = 64 * _linalg.eps_of(x.dtype) * (own[:, None] + norms)
    near = squares <= scale.limit(among) + noise
    if itself:
        near = near & (jnp.arange(x.shape[0]) != first + jnp.arange(size)[:, None])
    return jnp.any(near, axis=1)


@jax.jit
def nearest(
    x: Float[Array, "n D"], rows: Float[Array, "m D"], scale: Scale, among: Float[Array, ""]
) -> tuple[Bool[Array, " m"], Int[Array, " m"]]:
    """Whether each row is near one of `x`, and the nearest one; memory for ``m`` numbers."""

    def step(i: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        square = jnp.sum(((rows - x[i]) / scale.size) ** 2, axis=1)
        closer = square < best[0]
        index = jnp.where(closer, i.astype(jnp.int32), best[1])
        return jnp.where(closer, square, best[0]), index

    start = (jnp.full(rows.shape[0], jnp.inf, x.dtype), jnp.zeros(rows.shape[0], jnp.int32))
    square, index = jax.lax.fori_loop(0, x.shape[0], step, start)
    return square <= scale.limit(among), index


def pairs(x: Array, rows: Array, scale: Scale) -> tuple[tuple[int, int], ...]:
    """``(row of x, row of rows)`` for each of `rows` that is near one of `x`.

    Few rows of `x` are compared by differences with all; of many, with suspects only.
    """
    n, m = x.shape[0], rows.shape[0]
    among = np.asarray(log_pairs(n, m), x.dtype)
    chosen = np.arange(m)
    if n > WHOLE_ROWS:
        chosen = _suspects(x, rows, scale, among)
        if not chosen.size:
            return ()
        rows = _taken(rows, chosen)
    near, index = (np.asarray(a)[: chosen.size] for a in nearest(x, rows, scale, among))
    return tuple((int(index[j]), int(chosen[j])) for j in np.flatnonzero(near))


def joined(labels: np.ndarray, groups: Any) -> np.ndarray:
    """Labels of rows that belong together by either: the least row that can be reached."""
    if groups is None:
        return labels
    if _checks.is_traced(groups):
        raise ValueError("target_groups must be concrete labels; call report outside a trace")
    given = np.asarray(groups)
    if given.shape != labels.shape or given.dtype.kind not in "iubUSO":
        raise ValueError(
            f"target_groups must be {len(labels)} integers or words, one for each target sample, "
            f"got shape {given.shape} and dtype {given.dtype}"
        )
    numbers: dict[Any, int] = {}
    other = np.array([numbers.setdefault(label, len(numbers)) for label in given.tolist()])
    while True:
        merged = labels
        for way in (other, labels):
            least = np.full(len(labels), len(labels))
            np.minimum.at(least, way, merged)
            merged = least[way]
        if np.array_equal(merged, labels):
            return labels
        labels = merged


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Pictures that occur more than once, by row; near copies as well as exact ones.

    Attributes:
        target: groups of target rows that are one picture.
        heldout: groups of held-out rows that are one picture.
        target_heldout: ``(target row, held-out row)``; these held-out rows do not count.
        target_source: ``(target row, source row)``.
        heldout_source: ``(held-out row, source row)``.
        source_compared: whether the source's samples were at hand.
    """

    target: tuple[tuple[int, ...], ...] = ()
    heldout: tuple[tuple[int, ...], ...] = ()
    target_heldout: tuple[tuple[int, int], ...] = ()
    target_source: tuple[tuple[int, int], ...] = ()
    heldout_source: tuple[tuple[int, int], ...] = ()
    source_compared: bool = False

    def __bool__(self) -> bool:
        return any(
            (self.target, self.heldout, self.target_heldout, self.target_source,
             self.heldout_source)
        )  # fmt: skip

    def __str__(self) -> str:
        parts = [
            _listed("target rows", self.target, "left out together"),
            _listed("held-out rows", self.heldout, "counted once"),
            _listed("target and held-out rows", self.target_heldout, "not counted as held-out"),
            _listed("target and source rows", self.target_source, "the source knows them"),
            _listed("held-out and source rows", self.heldout_source, "the source knows them"),
        ]
        words = "; ".join(part for part in parts if part) or "none found"
        if not self.source_compared:
            words += "; source not compared (pass x_source=)"
        return words


def _listed(name: str, groups: tuple[tuple[int, ...], ...], what: str) -> str:
    if not groups:
        return ""
    shown = ", ".join(" = ".join(str(row) for row in group) for group in groups[:WORDS])
    more = f" and {len(groups) - WORDS} more" if len(groups) > WORDS else ""
    return f"{name} {shown}{more} ({what})"


def repeated(labels: np.ndarray) -> tuple[tuple[int, ...], ...]:
    """The groups of more than one row."""
    order = np.argsort(labels, kind="stable")
    edges = np.flatnonzero(np.diff(labels[order])) + 1
    return tuple(
        tuple(int(row) for row in group) for group in np.split(order, edges) if len(group) > 1
    )
