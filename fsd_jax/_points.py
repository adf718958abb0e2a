"""What scores are called on: points and times that fit, and NaN where a trace met a bad number."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks


def at_points(
    name: str, x: ArrayLike, t: ArrayLike, *, dim: int, dtype: DTypeLike, zero: bool = False
) -> tuple[Float[Array, "*batch dim"], Float[Array, "*times"]]:
    """Points and times in `dtype`: one time ``t > 0``, or times that fit the batch of points.

    With `zero` the time may be zero, where a law has a density of its own.

    Raises:
        ValueError: points of another size, times that do not fit, concrete times out of range.
    """
    points = vectors(name, x, dim=dim, dtype=dtype)
    times = jnp.asarray(_checks.time("t", t, dtype, zero=zero))
    batch = points.shape[:-1]
    _fit("t", times, name, batch, word="time")
    return points, times


def _fit(
    name: str, values: Array, points: str, batch: tuple[int, ...], *, word: str = "number"
) -> None:
    """Refuse numbers that do not fit a batch of points."""
    fits = values.ndim <= len(batch) and all(
        a in (1, b) for a, b in zip(values.shape[::-1], batch[::-1], strict=False)
    )
    if not fits:
        raise ValueError(
            f"{name} must be one {word} or fit the batch of {points}, {batch}, "
            f"got shape {values.shape}"
        )


def vectors(name: str, x: ArrayLike, *, dim: int, dtype: DTypeLike) -> Float[Array, "*batch dim"]:
    """Points in `dtype` whose last axis has `dim` entries.

    Raises:
        ValueError: what is no floating array of that size.
    """
    points, _ = _checks.floating(name, x)
    if points.ndim == 0 or points.shape[-1] != dim:
        raise ValueError(
            f"{name} must have {dim} entries along its last axis, got shape {tuple(points.shape)}"
        )
    return points.astype(dtype)


def vector(name: str, value: Any, *, dim: int, dtype: DTypeLike, letter: str = "D") -> Array:
    """A ``(dim,)`` array in `dtype`, finite if it is concrete.

    Raises:
        ValueError: another shape, or entries that are not finite.
    """
    array = jnp.asarray(_checks.array(name, value)).astype(dtype)
    if array.shape != (dim,):
        raise ValueError(
            f"{name} must have {letter} = {dim} entries, got shape {tuple(array.shape)}"
        )
    finite(name, array)
    return array


def finite(name: str, *arrays: Array) -> None:
    """Refuse concrete arrays that are not finite; a traced one shows it by itself.

    Raises:
        ValueError: NaN or infinite entries.
    """
    good = all_finite(list(arrays))
    if not _checks.is_traced(good) and not bool(good):
        raise ValueError(f"{name} has NaN or infinite entries; remove or rescale them")


@jax.jit
def all_finite(tree: Any) -> Array:
    """Whether all numbers of a tree are finite."""
    found = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    return jnp.all(jnp.stack(found))


def nan_if(status: ArrayLike, dtype: DTypeLike) -> Array | np.ndarray:
    """A zero to add, or NaN where a trace found something wrong."""
    if not _checks.is_traced(status):
        return np.zeros((), dtype)
    return jnp.where(jnp.asarray(status) == 0, 0, jnp.nan).astype(dtype)


def draw(key: Key[Array, ""], n: int) -> tuple[Key[Array, ""], int]:
    """What a law's ``sample(key, n)`` is called with.

    Raises:
        ValueError: no key, or no positive number.
    """
    return _checks.key("key", key), _checks.dimension("n", n)


def levels_at(
    dim: int,
    z: ArrayLike,
    signal: ArrayLike,
    variance: ArrayLike,
    dtype: DTypeLike,
    *,
    zero: bool = False,
) -> tuple[Float[Array, "*batch dim"], Array, Array]:
    """Points, the signal and the noise's variance, as a law's ``score_at`` takes them.

    Raises:
        ValueError: points of another size, a signal that is negative, a variance not positive
            (with `zero`: negative).
    """
    # As for times: traced ones that are out of range become NaN each for itself.
    m = _checks.time("signal", signal, dtype, zero=True)
    v = _checks.time("variance", variance, dtype, zero=zero)
    points, m, v = vectors("z", z, dim=dim, dtype=dtype), jnp.asarray(m), jnp.asarray(v)
    for name, level in (("signal", m), ("variance", v)):
        _fit(name, level, "z", points.shape[:-1])
    return points, m, v


def default_dtype() -> np.dtype:
    """The dtype of what is made from Python numbers: double where x64 mode is on."""
    return np.dtype(jax.dtypes.canonicalize_dtype(float))
