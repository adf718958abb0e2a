"""Distances between samples: a Gram product finds the candidates, differences measure them."""

from collections.abc import Callable

import numpy as np

from fsd_jax._rows import BLOCK, Rows, common

CANDIDATES = 8
"""Training points whose distances are measured directly; two are wanted."""
CLOSE = 1e-8
"""Squared distances below this share of the squared sizes are measured directly."""
TIE = 1e-10
"""Share by which a squared distance may be off where many training points are as far away."""


def nearest(samples: Rows, train: Rows, count: int) -> tuple[np.ndarray, np.ndarray]:
    """``(n, count)`` distances of each sample to its nearest training points, and which those are.

    Distances increase along a row; of equally near points the first one comes first.

    ``|a|^2 + |b|^2 - 2 a'b`` loses the digits of small distances. It serves to find the training
    points that are least far away by its own error bound; their distances are then measured by
    differences. A sample for which a point that was left out might be nearer, by the same bound,
    is compared with all points directly. Memory: a few blocks, and 16 `CANDIDATES` bytes a sample.
    """
    x, y = common(samples, train)
    place, least = _candidates(x, y)
    # In the order of the training points, of which the first is to win a tie.
    place.sort(axis=1)
    found, which = np.empty((len(x), count)), np.empty((len(x), count), np.intp)
    for part in x.slices(BLOCK // place.shape[1]):
        lengths = _norms(x.block(part, shifted=False)[:, None] - _picked(y, place[part]))
        best = np.argsort(lengths, axis=1, kind="stable")[:, :count]
        found[part] = np.take_along_axis(lengths, best, axis=1)
        which[part] = np.take_along_axis(place[part], best, axis=1)
    if place.shape[1] < len(y):
        unsure = np.flatnonzero(~(least >= (1 - TIE) * found[:, -1] ** 2))
        found[unsure], which[unsure] = _directly(x, y, unsure, count)
    return np.ldexp(found, x.exponent), which


def _picked(y: Rows, place: np.ndarray) -> np.ndarray:
    return y.block(place.ravel(), shifted=False).reshape(*place.shape, y.width)


def _candidates(x: Rows, y: Rows) -> tuple[np.ndarray, np.ndarray]:
    """``(n, k)`` places of the nearest, and ``(n,)`` how near the squares of the others may be."""
    keep = min(CANDIDATES, len(y))
    # A dot product of D numbers is right to D eps |a||b|; the sum of three to a little more.
    share = 1 - 2 * (x.width + 8) * np.finfo(np.float64).eps
    bound = np.full((len(x), keep), np.inf)
    place = np.zeros((len(x), keep), np.intp)
    for there in y.slices():
        b = y.block(there)
        size = share * np.sum(b**2, axis=1)
        for here in x.slices(min(BLOCK, BLOCK // len(b) * x.width)):
            a = x.block(here)
            low = a @ b.T
            low *= -2
            low += size
            low += share * np.sum(a**2, axis=1)[:, None]
            low = np.concatenate([bound[here], low], axis=1)
            best = np.argpartition(low, keep - 1, axis=1)[:, :keep]
            old = np.take_along_axis(place[here], np.minimum(best, keep - 1), axis=1)
            place[here] = np.where(best < keep, old, best - keep + there.start)
            bound[here] = np.take_along_axis(low, best, axis=1)
    return place, np.max(bound, axis=1)


def _directly(x: Rows, y: Rows, which: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by differences with every training point."""
    found = np.full((len(which), count), np.inf)
    place = np.zeros((len(which), count), np.intp)
    for there in y.slices():
        b = y.block(there, shifted=False)
        for i, row in enumerate(which):
            lengths = np.append(found[i], _norms(b - x.block(slice(row, row + 1), shifted=False)))
            places = np.append(place[i], np.arange(there.start, there.stop))
            best = np.argsort(lengths, kind="stable")[:count]
            found[i], place[i] = lengths[best], places[best]
    return found, place


def _norms(differences: np.ndarray) -> np.ndarray:
    """Lengths along the last axis, neither overflowing nor underflowing on the way."""
    _, exponent = np.frexp(np.max(np.abs(differences), axis=-1, keepdims=True))
    small = np.ldexp(differences, -exponent)
    return np.ldexp(np.sqrt(np.sum(small**2, axis=-1)), exponent[..., 0])


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``(n, m)`` distances of all pairs of two blocks; those that would cancel by differences."""
    sizes = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)
    found = a @ b.T
    found *= -2
    found += sizes
    i, j = np.nonzero(found < CLOSE * sizes)
    np.sqrt(np.maximum(found, 0, out=found), out=found)
    step = max(1, BLOCK // a.shape[1])
    for start in range(0, len(i), step):
        rows, columns = i[start : start + step], j[start : start + step]
        found[rows, columns] = _norms(a[rows] - b[columns])
    return found


def pair_sums(
    w: np.ndarray,
    x: Rows,
    v: np.ndarray,
    y: Rows,
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """``sum_ij w_ri measure(x_i, y_j) v_rj`` for each row r, no sample being its own partner.

    Args:
        w: ``(draws, n)`` counts.
        x: ``n`` samples.
        v: ``(draws, m)`` counts.
        y: ``m`` samples; the same object as `x` for pairs within a set.
        measure: of two blocks.
    """
    total = np.zeros(len(w))
    for there in y.slices():
        b = y.block(there)
        for here in x.slices(min(BLOCK, BLOCK // len(b) * x.width)):
            matrix = measure(x.block(here), b)
            if x is y:
                i = np.arange(max(here.start, there.start), min(here.stop, there.stop))
                matrix[i - here.start, i - there.start] = 0
            total += np.sum((w[:, here] @ matrix) * v[:, there], axis=1)
    return total
