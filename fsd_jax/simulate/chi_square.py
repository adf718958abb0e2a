"""Chi-square draws for any degrees of freedom: exact in law, fast in bulk, safe in float32."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from fsd_jax import _linalg

SMALL = 0.25
"""Below this the series is used, to the dtype's last digit."""


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
        ``(rows, replicates)`` deviations.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from fsd_jax import simulate
        >>> k = jnp.array([3.0, 1e12])
        >>> draws = simulate.centred_chi_square(jax.random.key(0), k, 4096)
        >>> bool(jnp.all(abs(jnp.mean(draws, axis=1)) < 5 * jnp.sqrt(2 * k / 4096)))
        True
    """
    # int32 also where x64 mode would double it: these comparisons are a third of the time.
    rows = jnp.arange(len(freedom), dtype=jnp.int32)[:, None]

    def first_missing(values: Array) -> Int[Array, " replicates"]:
        return jnp.min(jnp.where(jnp.isnan(values), rows, jnp.int32(len(freedom))), axis=0)

    def unfinished(state: tuple[Array, Array, Array]) -> Bool[Array, ""]:
        return jnp.any(state[1] < len(freedom))

    def again(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        values, missing, turn = state
        fresh = _propose(jax.random.fold_in(key, turn), freedom[missing], (replicates,))
        values = jnp.where(rows == missing, fresh, values)
        return values, first_missing(values), turn + 1

    values = _propose(key, freedom[:, None], (len(freedom), replicates))
    start = (values, first_missing(values), jnp.int32(1))
    return jax.lax.while_loop(unfinished, again, start)[0]


def _propose(
    key: Key[Array, ""], freedom: Float[Array, "..."], shape: tuple[int, ...]
) -> Float[Array, "..."]:
    """Deviations, NaN where the proposal is rejected."""
    normal, uniform = jax.random.split(key)
    x = jax.random.normal(normal, shape, freedom.dtype)
    # Uniforms may be zero but not one, and an exponential must be finite.
    log_u = jnp.log(1 - jax.random.uniform(uniform, shape, freedom.dtype))
    # A chi-square of k degrees is 2 d v, v = (1 + y)^3, y = x/(3 sqrt(d)), d = k/2 - 1/3.
    d = jnp.maximum(freedom / 2 - 1 / 3, 0.5)
    y = x * (1 / (3 * jnp.sqrt(d)))
    # The textbook's x^2/2 + d - d v + d log v, with what cancels taken out.
    accepted = log_u < 3 * d * log1p_tail(y, 3)
    deviation = 2 * d * y * (3 + y * (3 + y)) - 2 / 3
    deviation = jnp.where(accepted, deviation, jnp.nan)
    simple = jnp.where(freedom == 1, x * x - 1, -2 * log_u - 2)
    deviation = jnp.where(freedom <= 2, simple, deviation)
    return jnp.where(freedom > 0, deviation, -freedom)


def log1p_tail(y: Float[Array, "..."], order: int) -> Float[Array, "..."]:
    """``log(1 + y)`` less its Taylor polynomial of degree `order`; ``-inf`` for ``y <= -1``."""
    terms = math.ceil(math.log(_linalg.eps_of(y.dtype)) / math.log(SMALL))
    polynomial = jnp.zeros_like(y)
    for k in range(order + terms, order, -1):
        polynomial = polynomial * y + (-1.0) ** (k + 1) / k
    series = polynomial * y ** (order + 1)
    direct = jnp.log(1 + jnp.maximum(y, -1))
    for k in range(1, order + 1):
        direct = direct - (-1.0) ** (k + 1) / k * y**k
    return jnp.where(jnp.abs(y) < SMALL, series, direct)
