"""A source's spectrum as it generalises: held-out energies by folds, or shrinkage of eigenvalues.

The eigenvalues of a sample are too far apart: its strong directions hold less of the next sample,
and its weak ones more. What a model needs is the energy of new samples along each direction.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from fsd_jax import _checks, _linalg
from fsd_jax._moments import SecondMoment

FOLDS = 5
MOST_GROUPS = 10
"""With up to so many groups each is a fold of its own."""

WHOLE, MOST, REDUCED = 2048, 1024, 512
"""All directions of a source are kept while its smaller side is at most `WHOLE`, and `MOST` of
them; of a larger one `REDUCED`, because every fold is decomposed anew."""


def folds_of(n: int, groups: Any, key: Key[Array, ""] | None) -> np.ndarray:
    """A fold for each of n source rows: random ones, or whole groups.

    Raises:
        ValueError: groups that are no labels of n rows.
    """
    seed = 0 if key is None else int(jax.random.randint(key, (), 0, 2**31 - 1))
    if groups is None:
        return np.random.default_rng(seed).permutation(n) % min(FOLDS, n)
    if _checks.is_traced(groups):
        raise ValueError("groups must be concrete labels; call this outside a trace")
    given = np.asarray(groups)
    if given.shape != (n,) or given.dtype.kind not in "iubUSO":
        raise ValueError(
            f"groups must be {n} integers or words, one for each source sample, got shape "
            f"{given.shape} and dtype {given.dtype}"
        )
    numbers: dict[Any, int] = {}
    labels = np.array([numbers.setdefault(label, len(numbers)) for label in given.tolist()])
    if len(numbers) < 2:
        raise ValueError("groups must name at least 2 groups, got 1; leave it out")
    if len(numbers) <= MOST_GROUPS:
        return labels
    return (np.random.default_rng(seed).permutation(len(numbers)) % FOLDS)[labels]


def most_directions(folds: np.ndarray, ambient: int, *, centre: bool) -> int:
    """How many directions every fold can determine, and that are worth their cost."""
    n = len(folds)
    determined = n - int(np.max(np.bincount(folds))) - int(centre)
    side = min(n, ambient)
    return max(1, min(determined, ambient, MOST if side <= WHOLE else REDUCED))


def heldout(
    x: Float[Array, "n D"], moment: SecondMoment, folds: np.ndarray, *, centre: bool
) -> SecondMoment:
    """The moment with the energies of left-out folds in place of its values.

    The k-th value is the mean energy of the rows of each fold along the k-th direction of the
    others, made monotone together with what is outside all directions, and the total is right.
    """
    d = moment.values.shape[0]
    sums, whole = np.zeros(d), 0.0
    for fold in np.unique(folds):
        mask = jnp.asarray(folds != fold)
        others = SecondMoment.from_samples(x, rank=d, centre=centre, mask=mask, throw=False)
        inside, total = _energies(x, ~mask, others)
        sums, whole = sums + np.asarray(inside, np.float64), whole + float(total)
    n = x.shape[0]
    return _with_values(moment, sums / n, max(whole - float(sums.sum()), 0.0) / n)


@jax.jit
def _energies(
    x: Float[Array, "n D"], mask: Bool[Array, " n"], others: SecondMoment
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    y = x if others.mean is None else x - others.mean
    weights = mask.astype(x.dtype)
    inside = _linalg.matmul(weights, _linalg.matmul(y, others.basis) ** 2)
    return inside, _linalg.matmul(weights, jnp.sum(y**2, axis=1))


def _with_values(moment: SecondMoment, inside: np.ndarray, outside: float) -> SecondMoment:
    """Monotone values, the energy `outside` being that of all other directions together."""
    d, ambient = len(inside), moment.basis.shape[0]
    rest = ambient - d
    values, sizes = inside, np.ones(d)
    if rest:
        values, sizes = np.append(inside, outside / rest), np.append(sizes, rest)
    fitted = monotone(values, sizes)
    dtype = moment.values.dtype
    return replace(
        moment,
        values=jnp.asarray(fitted[:d], dtype),
        total=jnp.asarray(np.sum(fitted * sizes), dtype),
        next_value=jnp.asarray(fitted[d] if rest else 0.0, dtype),
    )


def monotone(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The nearest sequence that does not increase, each entry weighing its size (Ayer 1955)."""
    stack: list[tuple[float, float, int]] = []
    for value, size in zip(values, sizes, strict=True):
        stack.append((float(value), float(size), 1))
        while len(stack) > 1 and stack[-2][0] < stack[-1][0]:
            (u, m, i), (v, n, j) = stack[-2], stack.pop()
            stack[-1] = ((u * m + v * n) / (m + n), m + n, i + j)
    return np.concatenate([np.full(count, value) for value, _, count in stack])


TAIL = 512
"""Nodes for eigenvalues that were not kept."""


def shrunk(moment: SecondMoment) -> SecondMoment:
    """The moment with its values corrected from values, count and total alone.

    Ledoit and Wolf's quadratic inverse shrinkage (2022), an estimate of ``u_k' Sigma u_k``, then
    made monotone. Eigenvalues that were not kept are taken to fall geometrically from the last one.
    A population covariance stays as it is.
    """
    values = np.asarray(moment.values, np.float64)
    ambient, top = moment.basis.shape[0], values.max(initial=0.0)
    freedom = int(moment.count) - (moment.mean is not None)
    kept = int(np.sum(values > 1e-12 * top))
    if freedom < 2 or kept == 0:
        return moment
    left = max(float(moment.total) - float(values.sum()), 0.0)
    missing = max(min(freedom, ambient) - kept, 0)
    nodes, sizes = _geometric_tail(values[kept - 1], left, missing)
    sample = np.concatenate([values[:kept], nodes])
    weights = np.concatenate([np.ones(kept), sizes])
    delta, null = _quadratic_inverse(sample, weights, ambient, freedom)
    whole = np.sum(delta * weights) + null * max(ambient - freedom, 0)
    scale = (values.sum() + left) / whole
    inside = np.full(len(values), null * scale)
    inside[:kept] = delta[:kept] * scale
    return _with_values(moment, inside, max(values.sum() + left - inside.sum(), 0.0))


def _geometric_tail(last: float, left: float, missing: int) -> tuple[np.ndarray, np.ndarray]:
    """`missing` values that fall geometrically from `last` and sum to `left`, in few nodes."""
    if missing == 0 or left <= 0:
        return np.zeros(0), np.zeros(0)
    count = min(missing, TAIL)
    place = (np.arange(count) + 0.5) * (missing / count)
    sizes = np.full(count, missing / count)
    low, high = 0.0, 50.0
    for _ in range(60):
        rate = 0.5 * (low + high)
        above = np.sum(last * np.exp(-rate * place) * sizes) > left
        low, high = (rate, high) if above else (low, rate)
    nodes = last * np.exp(-0.5 * (low + high) * place)
    nodes *= left / np.sum(nodes * sizes)
    alive = nodes > 1e-12 * last
    return nodes[alive], sizes[alive]


def _quadratic_inverse(
    sample: np.ndarray, weights: np.ndarray, ambient: int, freedom: int
) -> tuple[np.ndarray, float]:
    """Shrunk values of the non-zero sample eigenvalues, and of each null direction."""
    c = ambient / freedom
    smoothing = min(c**2, 1 / c**2) ** 0.35 / ambient**0.35
    inverse, share = 1 / sample, weights / np.sum(weights)
    gap = inverse[None, :] - inverse[:, None]
    level = (inverse * smoothing) ** 2
    shape = inverse / (gap**2 + level)
    theta = (shape * gap) @ share
    conjugate = (shape * smoothing * inverse) @ share
    square = theta**2 + conjugate**2
    if ambient <= freedom:
        bent = (1 - c) ** 2 * inverse + 2 * c * (1 - c) * inverse * theta + c**2 * inverse * square
        return 1 / bent, 0.0
    null = 1 / ((c - 1) * float(np.sum(inverse * share)))
    return 1 / (inverse * square), null
