"""What the simulators accept: words, sizes and dtypes, checked in the dtype of the draws."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from fsd_jax import _checks

METHODS = ("rank", "integrated", "orthonormal")
METRICS = ("subspace_error", "score_error", "loss_gap", "kl")

Errors = dict[tuple[str, str], Float[Array, "K replicates"]]


def words(methods: Sequence[str], metrics: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """All pairs of a method and a metric, checked."""
    for name, given, options in (("methods", methods, METHODS), ("metrics", metrics, METRICS)):
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise ValueError(f"{name} must be a tuple of words, got {given!r}")
        for word in given:
            _checks.choice(name, word, options)
    return tuple((method, metric) for method in methods for metric in metrics)


def draw_dtype(dtype: DTypeLike | None) -> np.dtype:
    """The dtype of draws: JAX's default, float32, or float64 where x64 mode is on.

    Raises:
        ValueError: any other; half precision holds no sample above 65504.
    """
    try:
        wanted = np.dtype(float if dtype is None else dtype)
    except TypeError:
        wanted = np.dtype(object)
    if wanted not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
    return np.dtype(jax.dtypes.canonicalize_dtype(wanted))


def sample_size(name: str, value: object, dtype: np.dtype, *, each: int = 1) -> int:
    """A number of samples whose degrees of freedom, `each` times as many, the dtype can hold."""
    number = _checks.dimension(name, value, high=math.inf)
    most = int(np.finfo(dtype).max) // (8 * each)
    if number > most:
        raise ValueError(
            f"{name} must be at most {float(most):.1e}, which {dtype} can hold, got {number}"
        )
    return number


def size(
    name: str, value: ArrayLike, dtype: np.dtype, *, infinite: bool = False
) -> Float[Array, ""]:
    """A number of samples as an array that may be traced, NaN where it is no positive integer."""
    given = _checks.array(name, value)
    if given.ndim:
        raise ValueError(f"{name} must be a single number, got shape {tuple(given.shape)}")
    number = jnp.asarray(given).astype(dtype)
    # Infinity is its own floor.
    right = (number >= 1) & (number == jnp.floor(number)) & (infinite | jnp.isfinite(number))
    if not _checks.is_traced(right) and not bool(right):
        kind = "a positive integer" + (", or infinite for a perfect source" if infinite else "")
        raise ValueError(f"{name} must be {kind}, got {value!r}")
    return jnp.where(right, number, number.dtype.type(np.nan))


def times_and_variances(
    times: ArrayLike, latent_variance: ArrayLike, *, ndim: int
) -> tuple[Float[Array, " K"], Float[Array, "K *d"]]:
    """Times and the variances that go with them in one dtype, NaN where they are out of range."""
    t, _ = _checks.floating("times", times, ndim=(1,))
    variance, _ = _checks.floating("latent_variance", latent_variance, ndim=(ndim,))
    if len(t) != len(variance):
        raise ValueError(
            f"latent_variance must match times: got shape {tuple(variance.shape)} for "
            f"{len(t)} times"
        )
    dtype = max(t.dtype, variance.dtype, key=lambda dtype: dtype.itemsize)
    return in_range("times", t, dtype), in_range("latent_variance", variance, dtype)


def in_range(
    name: str, value: ArrayLike, dtype: np.dtype, *, zero: bool = False
) -> Float[Array, "*shape"]:
    """Times or variances in one dtype: refused when concrete and out of range, NaN when traced."""
    given = _checks.array(name, value)
    if isinstance(given, jax.Array):
        # Inside jit also a concrete array becomes one that cannot be looked at.
        given = given + jnp.zeros((), given.dtype)
    return jnp.asarray(_checks.time(name, given, dtype, zero=zero))
