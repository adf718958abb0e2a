"""Argument checks: what is wrong, what was given, what to do; raise or status is decided here."""

import enum
import logging
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Numbers = np.ndarray | jax.Array
"""Checked numbers: on the host when they were concrete, traced otherwise."""

logger = logging.getLogger("fsd_jax")
logger.addHandler(logging.NullHandler())


class Status(enum.IntFlag):
    """What the data said about a result; a batch carries one integer for each member.

    The flags in `ERRORS` make front-door functions raise when they see concrete values; all the
    others describe a result that is usable as it stands.
    """

    OK = 0
    NON_FINITE = 1
    """The input has NaN or infinite entries (or squares that overflow): the result is NaN."""
    BAD_VALUE = 2
    """A traced time, weight or variance was out of range: the result is NaN."""
    INDEFINITE = 1024
    """A covariance matrix has an eigenvalue below zero by more than rounding."""
    RANK_DEFICIENT = 4
    """The data determine fewer than ``latent_dim`` directions; the others are zero or completed."""
    NO_GAP = 8
    """Eigenvalues d and d+1 coincide to rounding: the subspace is one of many minimisers."""
    ROUTE_UNSAFE = 16
    """The route squares away digits that this cut needs; use ``route="svd"`` or float64."""
    NOT_CONVERGED = 32
    """An iteration stopped at its step limit before reaching its tolerance."""
    STATIONARY = 64
    """A stationary point that is not certified as the global minimum (diagonal latent)."""
    NOT_IDENTIFIED = 128
    """The loss fixes ``V G V'`` but not ``VV'`` (diagonal latent at a single time)."""
    TRUNCATED = 256
    """A stream was compressed and dropped more energy than the cut can afford."""
    DOWNCAST = 512
    """float64 input was computed in float32 because JAX's x64 mode is off."""


ERRORS = Status.NON_FINITE | Status.BAD_VALUE | Status.INDEFINITE

_ERROR_BITS = int(ERRORS)

_ADVICE = {
    Status.NON_FINITE: "has NaN or infinite entries, or entries whose squares overflow its dtype; "
    "remove or rescale them",
    Status.INDEFINITE: "is indefinite (an eigenvalue is negative beyond rounding); a second moment "
    "is positive semi-definite, so check how it was estimated or project it",
    Status.BAD_VALUE: "has a time, weight or variance outside its range (times and variances must "
    "be positive and finite)",
}


def describe(status: ArrayLike) -> str:
    """Words for a status: ``"ok"``, ``"rank_deficient|no_gap"``, or counts for a batch.

    Args:
        status: integer status, scalar or batched.

    Returns:
        One short line.
    """
    if is_traced(status):
        return "traced"
    codes = np.asarray(status)
    if codes.ndim:
        return f"{int(np.sum(codes == 0))} of {codes.size} ok"
    flags = Status(int(codes))
    return "|".join(flag.name.lower() for flag in Status if flag in flags and flag.name) or "ok"


def one_line(name: str, batch: Sequence[int], *facts: str, status: ArrayLike) -> str:
    """The `repr` of a result: its name, the batch's shape if any, facts, and the status."""
    words = [f"batch={tuple(batch)}"] if batch else []
    return f"{name}({', '.join([*words, *facts, 'status=' + describe(status)])})"


def is_traced(*values: Any) -> bool:
    """Whether any array in `values` is being traced, so that its numbers cannot be looked at."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def settle(status: ArrayLike, *, name: str, throw: bool) -> None:
    """Raise on the flags in `ERRORS` if `throw` and the status is concrete (one host sync)."""
    if not throw or is_traced(status):
        return
    codes = np.asarray(status)
    if not np.any(codes & _ERROR_BITS):
        return
    found = Status(int(np.bitwise_or.reduce(codes.ravel())))
    for flag, advice in _ADVICE.items():
        if flag in found:
            where = ""
            if codes.ndim:
                bad = np.flatnonzero(codes.ravel() & int(flag))
                where = f" in {bad.size} of {codes.size} batch members (first: {bad[0]})"
            raise ValueError(f"{name}{where} {advice}. Pass throw=False to get a status instead.")


def flag(condition: ArrayLike, status: Status) -> jax.Array:
    """`status` as int32 where `condition` holds, else 0."""
    return jnp.where(condition, jnp.int32(int(status)), jnp.int32(0))


def dimension(
    name: str, value: Any, *, low: int = 1, high: int | None = None, top: str = ""
) -> int:
    """A Python integer in ``[low, high]``; booleans and floats are refused."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(
            f"{name} must be an integer, got {value!r} ({type(value).__name__}); pass an int"
        ) from None
    if number < low:
        raise ValueError(f"{name} must be at least {low}, got {number}")
    if high is not None and number > high:
        raise ValueError(f"{name} must be at most {high}{top}, got {number}; choose a smaller one")
    return number


def choice(name: str, value: Any, options: Sequence[str | None]) -> None:
    """Refuse anything but the words in `options`."""
    if not (value is None or isinstance(value, str)) or value not in options:
        words = ", ".join(repr(option) for option in options)
        raise ValueError(f"{name} must be one of {words}; got {value!r}")


def floating(
    name: str, value: Any, *, ndim: Sequence[int] | None = None
) -> tuple[jax.Array, Status]:
    """A floating JAX array, and `Status.DOWNCAST` if float64 had to be narrowed.

    Half precision is widened to float32, since no decomposition exists for it.

    Raises:
        ValueError: for integer, boolean, object or complex arrays, or a wrong number of axes.
    """
    if not isinstance(value, jax.Array):
        try:
            value = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{name} is not an array: {error}") from None
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(
            f"{name} must be a floating array, got dtype {value.dtype}; convert it first, "
            f"for example {name}.astype('float32') after scaling pixels to [0, 1]"
        )
    if ndim is not None and value.ndim not in ndim:
        wanted = " or ".join(str(n) for n in ndim)
        raise ValueError(
            f"{name} must have {wanted} axes, got shape {tuple(value.shape)}; "
            "a single sample x is x[None]"
        )
    status = Status.OK
    if value.dtype.itemsize < 4:
        value = value.astype(np.float32)
    if value.dtype == np.float64 and not jax.config.read("jax_enable_x64"):
        status = Status.DOWNCAST
        _log_downcast_once()
    return value if isinstance(value, jax.Array) else jnp.asarray(value), status


_told: set[str] = set()


def _log_downcast_once() -> None:
    if "downcast" not in _told:
        _told.add("downcast")
        logger.warning(
            "float64 input is computed in float32, because JAX's x64 mode is off; "
            'jax.config.update("jax_enable_x64", True) at program start keeps float64'
        )


def samples(
    name: str, value: Any, *, rows: int = 1, images: bool = False
) -> tuple[jax.Array, Status]:
    """Samples as a floating ``(n, D)`` array; with `images`, trailing axes are flattened.

    Raises:
        ValueError: wrong dtype or axes, no data, fewer than `rows` rows.
    """
    x, status = floating(name, value)
    if x.ndim < 2 or (x.ndim > 2 and not images):
        shape = "(n, D) or (n, ...)" if images else "(n, D)"
        raise ValueError(
            f"{name} must have shape {shape}, got {tuple(x.shape)}; "
            f"reshape it, or use {name}[None] for a single sample"
        )
    if x.size == 0:
        raise ValueError(f"{name} is empty, got shape {tuple(x.shape)}; pass at least one sample")
    if x.shape[0] < rows:
        raise ValueError(
            f"{name} has {x.shape[0]} row and needs at least {rows} to be centred on its own mean; "
            "give more samples or do not centre it on itself (centre=False, or mean='source')"
        )
    return x if x.ndim == 2 else x.reshape(x.shape[0], -1), status


def row_mask(name: str, mask: Any, n: int, *, rows: int) -> jax.Array:
    """``(n,)`` booleans that keep at least `rows` rows."""
    array = jnp.asarray(mask)
    if array.shape != (n,) or array.dtype != jnp.bool_:
        raise ValueError(
            f"{name} must be {n} booleans, one for each row, got shape {tuple(array.shape)} "
            f"and dtype {array.dtype}"
        )
    if not is_traced(array) and np.sum(np.asarray(array)) < rows:
        raise ValueError(
            f"{name} leaves {int(np.sum(np.asarray(array)))} rows and at least {rows} are needed"
        )
    return array


def positive(
    name: str, value: Any, dtype: Any, *, ndim: Sequence[int] = (0, 1), zero: bool = False
) -> tuple[Numbers, jax.Array | np.int32]:
    """An array of positive finite numbers in `dtype`, and a status for traced ones.

    Concrete values come back as NumPy arrays: every eager JAX operation costs as much as a small
    decomposition, and the jitted functions they are meant for take them as they are.

    Args:
        name: the argument's name.
        value: Python number, sequence or array (integers are fine here).
        dtype: floating dtype of the result.
        ndim: allowed numbers of axes.
        zero: whether zero is allowed too.

    Raises:
        ValueError: concrete values out of range, or wrong axes.
    """
    array: Numbers
    if type(value) is float and 0 < value < math.inf and 0 in ndim:
        # The common case, without the array operations that the general one needs.
        array = np.asarray(value, dtype)
        if 0 < array < math.inf:
            return array, np.int32(0)
    if is_traced(value):
        array = jnp.asarray(value, dtype)
    else:
        try:
            host = np.asarray(value)
            if host.dtype.kind not in "iu" and not jnp.issubdtype(host.dtype, jnp.floating):
                raise TypeError
            with np.errstate(over="ignore"):
                array = host.astype(dtype)
        except (ValueError, TypeError):
            raise ValueError(f"{name} must be real numbers, got {value!r}") from None
        bound = array >= 0 if zero else array > 0
        if array.size == 0 or not np.all(bound & np.isfinite(array)):
            rule = "not negative and finite" if zero else "positive and finite"
            raise ValueError(f"{name} must be {rule}, got {value!r}")
    if array.ndim not in ndim:
        wanted = " or ".join(str(n) for n in ndim)
        raise ValueError(f"{name} must have {wanted} axes, got shape {tuple(array.shape)}")
    if isinstance(array, np.ndarray):
        return array, np.int32(0)
    inside = (array >= 0 if zero else array > 0) & jnp.isfinite(array)
    return array, flag(~jnp.all(inside), Status.BAD_VALUE)


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
    array, status = positive(name, value, dtype, ndim=(0,) if times is None else (1,))
    array = array.reshape(-1)
    if weights is None:
        return array, np.full(array.shape, 1.0 / array.shape[0], array.dtype), status
    weight, bad = positive("weights", weights, dtype, ndim=(1,), zero=True)
    if weight.shape != array.shape:
        raise ValueError(
            f"weights must match times: got {weight.shape[0]} weights for {array.shape[0]} times"
        )
    if isinstance(weight, np.ndarray) and not np.any(weight):
        raise ValueError("weights must not all be zero; give at least one time a positive weight")
    return array, weight, status | bad


def scalar_or_variances(
    name: str, value: Any, latent_dim: int, dtype: Any
) -> tuple[Numbers, jax.Array | np.int32]:
    """A scalar or a ``(d,)`` array of variances, as given, with its status."""
    array, status = positive(name, value, dtype)
    if array.ndim and array.shape[0] != latent_dim:
        raise ValueError(
            f"{name} must be a scalar or have latent_dim = {latent_dim} entries, "
            f"got shape {tuple(array.shape)}"
        )
    return array, status


def variances(
    name: str, value: Any, latent_dim: int, dtype: Any
) -> tuple[Numbers, jax.Array | np.int32]:
    """A ``(d,)`` array of variances from a scalar or a ``(d,)`` array, with its status."""
    array, status = scalar_or_variances(name, value, latent_dim, dtype)
    if isinstance(array, np.ndarray):
        return np.broadcast_to(array, (latent_dim,)), status
    return jnp.broadcast_to(array, (latent_dim,)), status
