"""Chi-square draws for any degrees of freedom: exact in law, fast in bulk, safe in float32."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from fsd_jax import _checks, _linalg

SMALL = 0.25
"""Below this the series is used, to the dtype's last digit."""

THREEFRY = "threefry2x32"


class ChiSquares(NamedTuple):
    """Chi-squares of ``k`` degrees of freedom in both forms that keep digits.

    The deviation ``chi^2_k - k`` keeps them for large ``k``, where ``chi^2_k`` itself is constant
    in float32; the value keeps them near zero, where ``k`` and the deviation cancel.
    """

    deviation: Float[Array, "rows replicates"]
    value: Float[Array, "rows replicates"]


def centred_chi_square(
    key: Key[Array, ""], freedom: Float[Array, " rows"], replicates: int
) -> Float[Array, "rows replicates"]:
    """Independent ``chi^2_k - k``, one row for each entry of `freedom`.

    The deviation is drawn, not the value, so that in float32 it keeps its digits at ``k = 10^12``,
    where ``chi^2_k`` itself is constant. Marsaglia and Tsang's rejection (2000) takes one normal
    and one uniform a proposal and accepts 97% of them at ``k = 3``, all but ``.06/k`` later on;
    what is left is proposed again, one entry of a column at a time. ``k = 1`` and ``k = 2`` are a
    squared normal and an exponential.

    Implements: R13 (the random numbers of a Wishart spectrum).

    Args:
        key: random key.
        freedom: ``(rows,)`` degrees of freedom ``k``, integers in a floating dtype, which is that
            of the result; may be traced. Where ``k <= 0`` the chi-square is zero.
        replicates: number of columns.

    Returns:
        ``(rows, replicates)`` deviations; rows of NaN where a traced ``k`` is not an integer.

    Raises:
        ValueError: concrete degrees of freedom that are no finite integers.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fsd_jax import simulate
        >>> k = jnp.array([3.0, 1e12])
        >>> draws = simulate.centred_chi_square(jax.random.key(0), k, 4096)
        >>> bool(jnp.all(abs(jnp.mean(draws, axis=1)) < 5 * jnp.sqrt(2 * k / 4096)))
        True
    """
    key = stable_key(_checks.key("key", key))
    freedom, _ = _checks.floating("freedom", freedom, ndim=(1,))
    if freedom.size == 0:
        raise ValueError("freedom is empty; give the degrees of freedom of at least one row")
    fine = jnp.all(_whole(freedom))
    if not _checks.is_traced(fine) and not bool(fine):
        raise ValueError(
            "freedom must hold finite integers (in a floating dtype), got "
            f"{np.asarray(freedom).tolist()}"
        )
    return draw(key, freedom, _checks.dimension("replicates", replicates)).deviation


def stable_key(key: Key[Array, ""]) -> Key[Array, ""]:
    """A threefry key that depends on nothing but the given key's data.

    What a key of another generator draws may depend on how it is batched (``vmap``) and on the
    device, and this room promises numbers that do not.
    """
    if str(jax.random.key_impl(key)) == THREEFRY:
        return key
    words = jax.random.key_data(key)
    derived = jax.random.wrap_key_data(words[:2], impl=THREEFRY)
    for i in range(2, words.shape[-1]):
        derived = jax.random.fold_in(derived, words[i])
    return derived


def _whole(freedom: Float[Array, " rows"]) -> Bool[Array, " rows"]:
    return jnp.isfinite(freedom) & (freedom == jnp.floor(freedom))


@partial(jax.jit, static_argnames="replicates")
def draw(key: Key[Array, ""], freedom: Float[Array, " rows"], replicates: int) -> ChiSquares:
    """`centred_chi_square` in both forms and without checks.

    Jitted, so that the NaN of what is proposed again is seen by nobody.
    """
    whole = _whole(freedom)
    # A row that can never be accepted must not keep the loop going.
    k = jnp.where(whole, freedom, 0)
    # int32 also where x64 mode would double it: these comparisons are a third of the time.
    rows = jnp.arange(len(k), dtype=jnp.int32)[:, None]

    def first_missing(seeds: Array) -> Int[Array, " replicates"]:
        return jnp.min(jnp.where(jnp.isnan(seeds), rows, jnp.int32(len(k))), axis=0)

    def unfinished(state: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        return jnp.any(state[1] < len(k))

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        seeds, missing, turn = state
        fresh = _propose(jax.random.fold_in(key, turn), k[missing], (replicates,))
        seeds = jnp.where(rows == missing, fresh, seeds)
        return seeds, first_missing(seeds), turn + 1

    seeds = _propose(key, k[:, None], (len(k), replicates))
    start = (seeds, first_missing(seeds), jnp.int32(1))
    seeds = jax.lax.while_loop(unfinished, again, start)[0]
    invalid = jnp.where(whole, k, jnp.full_like(k, jnp.nan))[:, None] - k[:, None]
    found = _from_seeds(seeds, k[:, None])
    return ChiSquares(found.deviation + invalid, found.value + invalid)


def _propose(
    key: Key[Array, ""], freedom: Float[Array, "..."], shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """What `_from_seeds` makes chi-squares of, NaN where the proposal is rejected."""
    normal, uniform = jax.random.split(key)
    x = jax.random.normal(normal, shape, freedom.dtype)
    # Uniforms sit at the lower ends of their steps; at the middle an exponential is neither
    # infinite nor zero.
    middle = _linalg.eps_of(freedom.dtype) / 2
    log_u = jnp.log(1 - jax.random.uniform(uniform, shape, freedom.dtype) - middle)
    d = _shape_parameter(freedom)
    y = x * (1 / (3 * jnp.sqrt(d)))
    # The textbook's x^2/2 + d - d v + d log v, with what cancels taken out.
    accepted = log_u < 3 * d * log1p_tail(y, 3)
    seeds = jnp.where(accepted, y, jnp.nan)
    return jnp.where(freedom <= 2, jnp.where(freedom == 1, x, log_u), seeds)


def _shape_parameter(freedom: Float[Array, "..."]) -> Float[Array, "..."]:
    """``d = k/2 - 1/3``: a chi-square is ``2 d v``, ``v = (1 + y)^3``, ``y = x/(3 sqrt(d))``."""
    return jnp.maximum(freedom / 2 - 1 / 3, 0.5)


def _from_seeds(seeds: Float[Array, "..."], freedom: Float[Array, "..."]) -> ChiSquares:
    """Of ``y`` for ``k > 2``, of a normal for ``k = 1``, of a uniform's logarithm for ``k = 2``."""
    d, y = _shape_parameter(freedom), seeds
    deviation = 2 * d * y * (3 + y * (3 + y)) - 2 / 3
    value = 2 * d * (1 + y) ** 3
    simple = jnp.where(freedom == 1, seeds * seeds, -2 * seeds)
    deviation = jnp.where(freedom <= 2, simple - freedom, deviation)
    value = jnp.where(freedom <= 2, simple, value)
    drawn = freedom > 0
    return ChiSquares(jnp.where(drawn, deviation, -freedom), jnp.where(drawn, value, 0))


def log1p_tail(
    y: Float[Array, "..."], order: int, whole: Float[Array, "..."] | None = None
) -> Float[Array, "..."]:
    """``log(1 + y)`` less its Taylor polynomial of degree `order`; ``-inf`` for ``y <= -1``.

    Args:
        y: where.
        order: of the polynomial.
        whole: ``1 + y`` to its own last digit, which `y` near -1 cannot give.
    """
    terms = math.ceil(math.log(_linalg.eps_of(y.dtype)) / math.log(SMALL))
    polynomial = jnp.zeros_like(y)
    for k in range(order + terms, order, -1):
        polynomial = polynomial * y + (-1.0) ** (k + 1) / k
    series = polynomial * y ** (order + 1)
    direct = jnp.log(1 + jnp.maximum(y, -1) if whole is None else whole)
    for k in range(1, order + 1):
        direct = direct - (-1.0) ** (k + 1) / k * y**k
    return jnp.where(jnp.abs(y) < SMALL, series, direct)
