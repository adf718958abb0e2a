"""Columns that can hardly be meant: a constant that is no background, a huge offset.

Each is a sentence, with which pre-training warns. Nothing is said about arrays that are traced or
spread over devices.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg

ROWS = 512
"""Evenly spaced rows of a source that are looked at."""

LEAST_ROWS = 20
"""With fewer rows a column may be constant by chance."""

DIGITS = 2e-3
"""An offset is told where its rounding is this share of the spread: 17,000 times it in float32."""


def source_notes(x: np.ndarray | jax.Array, dtype: Any) -> tuple[str, ...]:
    """What is odd about source samples that are computed with in `dtype`.

    A constant column is told when its value lies outside the range of all columns that vary. The
    background of pictures does not: some pixels show it only sometimes.
    """
    if x.shape[0] < LEAST_ROWS or elsewhere(x):
        return ()
    step = max(x.shape[0] // ROWS, 1)
    if isinstance(x, np.ndarray):
        with np.errstate(invalid="ignore", over="ignore"):
            outside, ratio = _look(x[::step].astype(np.float64), np)
    else:
        outside, ratio = (np.asarray(a) for a in _look_on_device(x, step=step))
    notes = []
    columns = [int(j) for j in np.flatnonzero(outside) if bool((x[:, j] == x[0, j]).all())]
    if columns:
        notes.append(
            f"x_source has {len(columns)} constant columns outside the range of all others "
            f"(first: column {columns[0]}, always {float(x[0, columns[0]]):.6g}); drop them"
        )
    limit = DIGITS / _linalg.eps_of(dtype)
    if ratio > limit:
        notes.append(
            f"x_source has means up to {float(ratio):.2g} times its spread, of which "
            f"{np.dtype(dtype)} keeps few digits; subtract a constant from source and target"
        )
    return tuple(notes)


def elsewhere(x: Any) -> bool:
    """Whether an array's numbers cannot be looked at without moving data."""
    return _checks.is_traced(x) or (isinstance(x, jax.Array) and len(x.sharding.device_set) > 1)


def _look(some: Any, xp: Any) -> tuple[Any, Any]:
    """Which columns are constant outside the range of those that vary; largest mean over spread."""
    low, high = some.min(axis=0), some.max(axis=0)
    varies = low < high
    floor = xp.min(xp.where(varies, low, xp.inf))
    top = xp.max(xp.where(varies, high, -xp.inf))
    outside = ~varies & ((low > top) | (low < floor)) & xp.any(varies)
    # In units of the largest range, which keeps squares in range.
    unit = xp.max(high - low)
    unit = xp.where((unit > 0) & xp.isfinite(unit), unit, 1)
    y = (some - some[0]) / unit
    spread = xp.sqrt(xp.mean((y - xp.mean(y, axis=0)) ** 2))
    mean = xp.abs(some[0] / unit + xp.mean(y, axis=0))
    size = xp.max(xp.where(varies, mean, 0))
    return outside, xp.where(spread > 0, size / xp.where(spread > 0, spread, 1), 0)


@partial(jax.jit, static_argnames=("step",))
def _look_on_device(x: Float[Array, "n D"], *, step: int) -> tuple[Array, Array]:
    return _look(x[::step], jnp)
