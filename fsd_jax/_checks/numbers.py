"""Checks of numbers, in the dtype that is used: times, weights and variances."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsd_jax._checks.arrays import array
from fsd_jax._checks.kinds import named
from fsd_jax._checks.status import Status, flag, is_traced

Numbers = np.ndarray | jax.Array
"""Checked numbers: on the host when they were there, on the device or traced otherwise."""


def smallest(dtype: Any) -> float:
    """The smallest positive number that devices do not round to zero."""
    return float(jnp.finfo(dtype).smallest_normal)


def _inside(values: Any, zero: bool) -> Any:
    """Which values are finite and positive (or zero) and not subnormal: devices flush those."""
    least = values >= values.dtype.type(smallest(values.dtype))
    return ((least | (values == 0)) if zero else least) & (values < values.dtype.type(math.inf))


@partial(jax.jit, static_argnames=("zero",))
def _all_inside(values: jax.Array, *, zero: bool) -> jax.Array:
    return jnp.all(_inside(values, zero))


def positive(
    name: str,
    value: Any,
    dtype: Any,
    *,
    ndim: Sequence[int] | None = (0, 1),
    zero: bool = False,
) -> tuple[Numbers, jax.Array | np.int32]:
    """An array of positive finite numbers in `dtype`, and a status for traced ones.

    Values from the host stay NumPy arrays: every eager JAX operation costs as much as a small
    decomposition, and the jitted functions they are meant for take them as they are.

    Args:
        name: the argument's name.
        value: Python number, sequence or array (integers are fine here).
        dtype: floating dtype of the result.
        ndim: allowed numbers of axes; None allows all.
        zero: whether zero is allowed too.

    Raises:
        ValueError: concrete values out of range in `dtype`, or wrong axes.
    """
    dtype = np.dtype(dtype)
    if type(value) is float and 0 < value < math.inf and (ndim is None or 0 in ndim):
        # The common case, without the array operations that the general one needs.
        with np.errstate(over="ignore"):
            common = np.asarray(value, dtype)
        if smallest(dtype) <= common < math.inf:
            return common, np.int32(0)
    values = _numbers(name, value, dtype)
    if ndim is not None and values.ndim not in ndim:
        wanted = " or ".join(str(n) for n in ndim)
        raise ValueError(f"{name} must have {wanted} axes, got shape {tuple(values.shape)}")
    if isinstance(values, np.ndarray):
        fine = np.all(_inside(values, zero))
    else:
        fine = _all_inside(values, zero=zero)
    # Inside a trace nothing can be looked at, not even an array from outside.
    if is_traced(fine):
        return values, flag(~fine, Status.BAD_VALUE)
    if (values.size == 0 and ndim is not None) or not bool(fine):
        rule = "not negative and finite" if zero else "positive and finite"
        least = f", zero or at least {smallest(dtype):.3g}" if zero else ""
        least = least or f", at least {smallest(dtype):.3g}"
        raise ValueError(f"{name} must be {rule} in {dtype}{least}; got {named(value)}")
    return values, np.int32(0)


def _numbers(name: str, value: Any, dtype: np.dtype) -> Numbers:
    narrow = dtype == np.float64 and not jax.config.read("jax_enable_x64")
    if isinstance(value, jax.Array) and (is_traced(value) or not narrow):
        values = array(name, value)
        return values.astype(jnp.float32 if narrow else dtype)
    try:
        host = np.asarray(array(name, value))
    except ValueError:
        raise ValueError(f"{name} must be real numbers, got {named(value)}") from None
    with np.errstate(over="ignore", under="ignore"):
        return host.astype(dtype)


def time(name: str, value: Any, dtype: Any, *, zero: bool = False) -> Numbers:
    """Times of any shape in `dtype`; traced ones that are not positive become NaN.

    Args:
        name: the argument's name.
        value: the times.
        dtype: floating dtype of the result.
        zero: whether ``t = 0`` is allowed.

    Raises:
        ValueError: concrete times out of range.
    """
    values, status = positive(name, value, dtype, ndim=None, zero=zero)
    if not is_traced(status):
        return values
    return jnp.where(_inside(values, zero), values, values.dtype.type(math.nan))


def times_and_weights(
    time: Any, times: Any, weights: Any, dtype: Any
) -> tuple[Numbers, Numbers, jax.Array | np.int32]:
    """``(times (K,), weights (K,), status)`` from the ``time= | times=, weights=`` convention.

    Weights default to ``1/K`` and are never normalised.
    """
    if (time is None) == (times is None):
        raise ValueError(
            "give exactly one of time= (a single t) and times= (several, with optional weights=); "
            f"got time={time!r}, times={times!r}"
        )
    if time is not None and weights is not None:
        raise ValueError("weights go with times=, not with time=; leave weights out")
    name, value = ("time", time) if times is None else ("times", times)
    checked, status = positive(name, value, dtype, ndim=(0,) if times is None else (1,))
    checked = checked.reshape(-1)
    if weights is None:
        return checked, np.full(checked.shape, 1.0 / checked.shape[0], checked.dtype), status
    weight, bad = positive("weights", weights, dtype, ndim=(1,), zero=True)
    if weight.shape != checked.shape:
        raise ValueError(
            f"weights must match times: got {weight.shape[0]} weights for {checked.shape[0]} times"
        )
    if isinstance(weight, np.ndarray) and not weight.any():
        raise ValueError("weights must not all be zero; give at least one time a positive weight")
    return checked, weight, status | bad


def scalar_or_variances(
    name: str, value: Any, latent_dim: int, dtype: Any
) -> tuple[Numbers, jax.Array | np.int32]:
    """A scalar or a ``(d,)`` array of variances, as given, with its status."""
    checked, status = positive(name, value, dtype)
    if checked.ndim and checked.shape[0] != latent_dim:
        raise ValueError(
            f"{name} must be a scalar or have latent_dim = {latent_dim} entries, "
            f"got shape {tuple(checked.shape)}"
        )
    return checked, status


def variances(
    name: str, value: Any, latent_dim: int, dtype: Any
) -> tuple[Numbers, jax.Array | np.int32]:
    """A ``(d,)`` array of variances from a scalar or a ``(d,)`` array, with its status."""
    checked, status = scalar_or_variances(name, value, latent_dim, dtype)
    if isinstance(checked, np.ndarray):
        return np.broadcast_to(checked, (latent_dim,)), status
    return jnp.broadcast_to(checked, (latent_dim,)), status
