"""The reverse SDE and ODE themselves, with a linear score: the limit of ever finer grids (R16)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks
from fsd_jax._linear_model import ThinGaussian
from fsd_jax.sampler._grid import tweedie
from fsd_jax.sampler._law import Transition, arrive, centre_of, checked_pair, finite_law, then
from fsd_jax.score._linear import LinearScore


def continuous_law(
    score: LinearScore,
    *,
    delta: ArrayLike,
    T: ArrayLike,
    kind: str = "sde",
    initial: ThinGaussian | None = None,
    denoise: bool = False,
) -> ThinGaussian:
    """The limit of `generated_law` for ever finer grids: the reverse SDE or ODE itself, exactly.

    Along a basis vector with gain p and variance l, with ``v = m^2 l + s2``, what is at ``T``
    reaches ``delta`` multiplied by

        phi = (m_T/m_delta) (v_delta/v_T)^p (s2_delta/s2_T)^(1-p)     (SDE)
        phi = (v_delta/v_T)^(p/2) (s2_delta/s2_T)^((1-p)/2)           (ODE)

    the SDE adds noise of variance ``int phi(delta, t)^2 dB(t)``, with ``y = s2/v``

        e^B v_delta^2 y_delta^(2-2p) (y_T^(2p-1) - y_delta^(2p-1))/(l (2p-1)),

    and the mean is ``m_delta mean + phi (mean at T - m_T mean)``. For ``p != 1`` the score is no
    Gaussian's, and the variance goes like ``delta^(1 - p)`` (ODE) or ``delta^(2 - 2p)`` (SDE,
    ``p > 1/2``). Other paths than `VP` follow the same formulas on their clock and scale.

    Implements: R16 (continuous limit).

    Args:
        score: a linear score with a diagonal `mixing` (closed-form decoders have one).
        delta: early stopping time.
        T: final time.
        kind: ``"sde"`` or ``"ode"``.
        initial: law at time ``T``; None is the noise that `sample` starts from.
        denoise: the law after a last step of Tweedie's.

    Returns:
        The law at time ``delta``, or of the denoised samples; NaN for traced arguments that are out
        of range.

    Raises:
        ValueError: arguments out of range, or a score of another form.
    """
    _checks.choice("kind", kind, ("sde", "ode"))
    denoise = _checks.boolean("denoise", denoise)
    score, initial = checked_pair(score, initial)
    if not has_diagonal_mixing(score):
        raise ValueError(
            "score must have a diagonal mixing, as LinearScore.from_minimizer gives; for another "
            "decoder take generated_law on a fine grid"
        )
    score.process.admit(T=T)
    ends = []
    for name, value in (("delta", delta), ("T", T)):
        ends.append(_checks.positive(name, value, score.basis.dtype, ndim=(0,))[0])
    if not _checks.is_traced(*ends) and not ends[0] < ends[1]:
        raise ValueError(f"delta must be below T, got delta={delta!r}, T={T!r}")
    law = continuous_limit(score, *ends, initial, kind=kind, denoise=denoise)
    return finite_law(law, "a gain far above one has no such limit: take a larger delta")


@partial(jax.jit, static_argnames=("kind", "denoise"))
def continuous_limit(
    score: LinearScore,
    delta: Float[Array, ""],
    T: Float[Array, ""],
    initial: ThinGaussian | None,
    *,
    kind: str,
    denoise: bool,
) -> ThinGaussian:
    """`continuous_law` of arguments that have passed their checks."""
    process, delta, T = score.process, jnp.asarray(delta), jnp.asarray(T)
    low, high = process.integrated_rate(delta), process.integrated_rate(T)
    # The directions outside behave like one more with gain one.
    gains = jnp.append(jnp.diagonal(score.mixing) ** 2, 1.0)
    variances = jnp.append(score.latent_variance, score.residual_variance)
    bad = jnp.any(score.mixing != jnp.diag(jnp.diagonal(score.mixing))) | ~(low < high)
    gains = jnp.where(bad, jnp.nan, gains)
    # Divided by its scale the path is variance preserving, and B its time.
    start, stop = process.scale(T), process.scale(delta)
    along = _factor(gains, variances, low, high, kind)
    noise = _noise(gains, variances, low, high) if kind == "sde" else jnp.zeros_like(along)
    along, noise = stop / start * along, stop**2 * noise
    shift = (process.signal(delta) - process.signal(T) * along) * centre_of(score)
    way = Transition(jnp.diag(along), shift, jnp.diag(noise))
    if denoise:
        way = then(way, score, tweedie(delta, process), delta)
    return arrive(score, way, initial, process.prior_variance(T))


def _factor(p: Array, variance: Array, low: Array, level: Array, kind: str) -> Array:
    """What a value at ``B = level`` is multiplied by until ``B = low``."""

    def total(b: Array) -> Array:
        return jnp.exp(-b) * variance - jnp.expm1(-b)

    inside = p * jnp.log(total(low) / total(level))
    inside = inside + (1 - p) * jnp.log(jnp.expm1(-low) / jnp.expm1(-level))
    return jnp.exp(inside / 2) if kind == "ode" else jnp.exp(inside - (level - low) / 2)


def _noise(p: Array, variance: Array, low: Array, high: Array) -> Array:
    """``int phi(low, b)^2 db`` of the SDE, from ``B = low`` to `high`.

    With ``y = s2/v`` and ``L = log(y_T/y_delta)`` it is ``e^low v s2 L/l expm1(x)/x`` at `low`,
    ``x = (2p - 1) L``. As ``1/y = 1 + l/expm1(b)``, ``L`` is ``log1p(l k)`` for the k below, and
    nothing cancels, whatever the variance l, zero included.
    """
    share = jnp.expm1(low - high) / jnp.expm1(-high)
    k = share / jnp.expm1(low) / (1 + variance / jnp.expm1(high))
    some = variance > 0
    safe = jnp.where(some, variance, 1)
    length = jnp.log1p(safe * k)
    per_variance = jnp.where(some, length / safe, k)
    x = (2 * p - 1) * jnp.where(some, length, 0)
    tilt = jnp.where(x == 0, 1, jnp.expm1(x) / jnp.where(x == 0, 1, x))
    total = jnp.exp(-low) * variance - jnp.expm1(-low)
    # e^low s2 is expm1(low).
    return jnp.expm1(low) * total * per_variance * tilt


def has_diagonal_mixing(score: LinearScore) -> bool:
    """Whether ``V`` is a basis with a length for each column; true as far as a trace can tell."""
    rows, columns = score.mixing.shape[-2:]
    if rows != columns or _checks.is_traced(score.mixing):
        return rows == columns
    mixing = np.asarray(score.mixing)
    return mixing.ndim == 2 and not np.any(mixing - np.diag(np.diag(mixing)))
