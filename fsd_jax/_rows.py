"""Samples as they were given, read a block at a time in float64.

Measures are computed in float64 whatever the samples' dtype, and a float64 copy of all of them
would take more memory than they do themselves.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsd_jax import _checks

BLOCK = 2**22
"""Numbers in a block: 32 MiB in float64."""
FAR = 200
"""Powers of two beyond which samples are rescaled, so that fourth powers stay finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """``(n, D)`` samples; `block` returns some of them in float64, rescaled and shifted.

    Attributes:
        data: ``(n, D)`` in the dtype they came in.
        most: the largest absolute entry.
        exponent: blocks are divided by two to this power.
        shift: ``(D,)`` what blocks are shifted by, after rescaling.
        order: rows that count, None for all.
    """

    data: np.ndarray
    most: float
    exponent: int = 0
    shift: np.ndarray | None = None
    order: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.data) if self.order is None else len(self.order)

    @property
    def width(self) -> int:
        """``D``."""
        return self.data.shape[1]

    def block(self, which: slice | np.ndarray, *, shifted: bool = True) -> np.ndarray:
        """Some rows in float64, a copy."""
        rows = self.data[which if self.order is None else self.order[which]]
        # Adding zero makes the two zeros one, which matters to `distinct`.
        x = rows.astype(np.float64) + 0.0
        if self.exponent:
            np.ldexp(x, -self.exponent, out=x)
        if shifted and self.shift is not None:
            x -= self.shift
        return x

    def slices(self, most: int = BLOCK) -> Iterator[slice]:
        """Slices of rows that hold at most so many numbers, or one row."""
        step = max(1, most // self.width)
        for start in range(0, len(self), step):
            yield slice(start, min(start + step, len(self)))

    def mean(self) -> np.ndarray:
        """Mean of the blocks' rows."""
        total = np.zeros(self.width)
        for part in self.slices():
            total += np.sum(self.block(part), axis=0)
        return total / len(self)

    def distinct(self) -> "Rows":
        """Without repetitions: the first of equal rows stays."""
        seen: dict[bytes, int] = {}
        for part in self.slices():
            for i, row in enumerate(self.block(part, shifted=False), start=part.start):
                seen.setdefault(hashlib.sha256(row.data).digest(), i)
        if len(seen) == len(self):
            return self
        first = np.fromiter(seen.values(), np.intp, len(seen))
        return replace(self, order=first if self.order is None else self.order[first])


def rows(name: str, value: Any, *, least: int = 1, features: bool = False) -> Rows:
    """Checked samples, integers included (they are widened, never rescaled).

    Args:
        name: the argument's name.
        value: ``(n, ...)``.
        least: how many there must be.
        features: whether ``(n, k)`` is the only shape allowed.

    Raises:
        ValueError: no numbers, wrong axes, too few rows, or NaN or infinite entries.
    """
    given = _checks.array(name, value)
    if _checks.is_traced(given):
        raise ValueError(f"{name} is traced, and measures run on the host: call them outside jit")
    array = np.asarray(given)
    if array.ndim < 2 or (features and array.ndim > 2):
        shape = "(n, k)" if features else "(n, ...)"
        raise ValueError(
            f"{name} must have shape {shape}, got {array.shape}; a single sample is {name}[None]"
        )
    if len(array) < least or array.size == 0:
        raise ValueError(
            f"{name} has {len(array)} rows, shape {array.shape}, and needs at least {least}"
        )
    found = Rows(data=array.reshape(len(array), -1), most=0.0)
    most = 0.0
    for part in found.slices():
        sizes = np.max(np.abs(found.block(part)), axis=1)
        if not np.all(np.isfinite(sizes)):
            first = part.start + int(np.argmin(np.isfinite(sizes)))
            raise ValueError(
                f"{name} has NaN or infinite entries (first: row {first}); leave such samples "
                "out, and say how many there were"
            )
        most = max(most, float(np.max(sizes)))
    return replace(found, most=most)


def widened(name: str, value: Any) -> np.ndarray | jax.Array:
    """An array that is floating: integers become the float that holds them, not rescaled."""
    given = _checks.array(name, value)
    if np.dtype(given.dtype).kind not in "iu":
        return given
    return given.astype(np.float32 if given.dtype.itemsize <= 2 else np.float64)


def samples_of(name: str, x: Any) -> jax.Array:
    """Finite samples for a score, ``(n, D)``; integers are widened, not rescaled."""
    flat, _ = _checks.samples(name, widened(name, x), images=True)
    return finite(name, flat)


def finite(name: str, x: jax.Array) -> jax.Array:
    """Refuse NaN and infinite entries, unless they are traced."""
    if not _checks.is_traced(x) and not jnp.isfinite(x).all():
        raise ValueError(f"{name} has NaN or infinite entries; leave such samples out")
    return x


def varying(name: str, x: jax.Array) -> jax.Array:
    """Refuse one sample again and again, unless it is traced."""
    if not _checks.is_traced(x) and not jnp.any(x != x[0]):
        raise ValueError(f"{name} holds one sample again and again; give different ones")
    return x


def column_mean(x: jax.Array) -> jax.Array:
    """Mean over rows, corrected once: float32 sums over many rows lose digits of a large mean."""
    first = jnp.mean(x, axis=0)
    return first + jnp.mean(x - first, axis=0)


def common(*sets: Rows, shift: bool = True) -> tuple[Rows, ...]:
    """The same sets on one scale and about one point, the mean of the last of them.

    Raises:
        ValueError: sets of different D.
    """
    _, exponent = np.frexp(max(each.most for each in sets))
    scaled = [replace(x, exponent=int(exponent) if abs(exponent) > FAR else 0) for x in sets]
    centre = scaled[-1].mean() if shift else None
    return tuple(replace(each, shift=centre) for each in scaled)


def same_width(**sets: Rows) -> None:
    """Refuse sets whose samples have different numbers of entries."""
    if len({each.width for each in sets.values()}) > 1:
        words = " and ".join(f"{each.width} in {name}" for name, each in sets.items())
        raise ValueError(f"samples must have the same number of entries, got {words}")
