"""Section 3.2's loss as a function of the decoder, from a second moment alone.

With ``s(x, t) = (V G_t V' x - x)/sigma_t^2``, ``G_t = diag(g_k(t))`` and
``g_k = m^2 l_k/(m^2 l_k + s2)``, integrating the noise out of the denoising loss gives, with
``B = V'CV`` and ``M = V'V``,

    l_t(V) = [ m^2 tr C - 2 m^2 tr(G B) + m^2 tr(G B G M) + s2 tr(G M G M) ] / s2^2.

Only three small arrays of the times and weights enter its integral (`QuadraticForm`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _linalg, _process, _sums
from fsd_jax._moments import SecondMoment
from fsd_jax._process import VP, Process
from fsd_jax._scores import Score, as_pytree, drawn_losses


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class QuadraticForm:
    """The integrated loss as ``constant tr C + scale (sum_ij (a B + e M) M - 2 sum_i b B_ii)``.

    The common factor `scale` is taken out so that neither ``t -> 0`` (``1/s2^2``) nor large ``t``
    (``m^2 -> 0``) overflows in float32; minimisers do not depend on it.

    Attributes:
        a: ``(d, d)``, weights of ``B_ij M_ij``.
        e: ``(d, d)``, weights of ``M_ij^2``.
        b: ``(d,)``, weights of ``B_ii``.
        scale: common factor.
        constant: factor of ``tr C``.
    """

    a: Float[Array, "d d"]
    e: Float[Array, "d d"]
    b: Float[Array, " d"]
    scale: Float[Array, ""]
    constant: Float[Array, ""]

    @classmethod
    def integrate(
        cls,
        latent_variance: Float[Array, " d"],
        times: Float[Array, " K"],
        weights: Float[Array, " K"],
        process: Process,
    ) -> "QuadraticForm":
        """Sum the loss's coefficients over times (R2's ``a``, ``e``, ``b``, for each pair)."""
        signal = process.signal_variance(times)
        noise = process.noise_variance(times)
        w, scale = relative_weights(times, weights, process)
        h = relative_gains(latent_variance, times, process)
        return cls(
            a=_linalg.einsum("t,ti,tj->ij", w * signal, h, h),
            e=_linalg.einsum("t,ti,tj->ij", w * noise, h, h),
            b=_linalg.einsum("t,ti->i", w, h),
            scale=scale,
            constant=jnp.sum(weights * signal / noise**2),
        )

    def variable(self, B: Float[Array, "d d"], M: Float[Array, "d d"]) -> Float[Array, ""]:
        """The part of the loss that depends on the decoder, divided by `scale`."""
        return jnp.sum((self.a * B + self.e * M) * M) - 2 * jnp.sum(self.b * jnp.diagonal(B))


def relative_weights(
    times: Float[Array, " K"], weights: Float[Array, " K"], process: Process
) -> tuple[Float[Array, " K"], Float[Array, ""]]:
    """``w m^4/s2^2`` divided by its largest value, and that value."""
    log_weight = (
        jnp.log(weights)
        + 2 * process.log_signal_variance(times)
        - 2 * jnp.log(process.noise_variance(times))
    )
    log_scale = jnp.max(log_weight)
    return jnp.exp(log_weight - log_scale), jnp.exp(log_scale)


def relative_gains(
    latent_variance: Float[Array, " d"], times: Float[Array, " K"], process: Process
) -> Float[Array, "K d"]:
    """``h = g/m^2 = l/(m^2 l + s2)``, at most ``1/m^2``, and bounded at every time of `VP`."""
    signal = process.signal_variance(times)[:, None]
    return latent_variance / (signal * latent_variance + process.noise_variance(times)[:, None])


def decoder_moments(
    decoder: Float[Array, "D d"], moment: SecondMoment
) -> tuple[Float[Array, "d d"], Float[Array, "d d"]]:
    """``B = V'CV`` and ``M = V'V``; directions left out of the moment count by their mean."""
    inside = _linalg.matmul(moment.basis.T, decoder)
    gram = _linalg.matmul(decoder.T, decoder)
    r = moment.residual
    return _linalg.matmul(inside.T * (moment.values - r), inside) + r * gram, gram


def one_moment(name: str, moment: Any) -> None:
    """Refuse what is no second moment, and a batch of them."""
    advice = "make one with SecondMoment.from_samples(x)"
    _checks.instance(name, moment, SecondMoment, advice)
    if jnp.ndim(moment.values) != 1:
        raise ValueError(
            f"{name} is a batch of shape {tuple(moment.values.shape[:-1])}; "
            "use jax.vmap, one moment goes in at a time"
        )


def whole_moment(name: str, moment: Any) -> None:
    """`one_moment`, and that no direction was left out of it (looked at where it is concrete)."""
    one_moment(name, moment)
    if not _checks.is_traced(moment) and float(moment.next_value) > 0:
        raise ValueError(
            f"{name} holds {moment.values.shape[0]} of more directions and all are needed; "
            "build it with rank=None"
        )


def expected_loss(
    decoder: Float[Array, "D d"],
    moment: SecondMoment,
    *,
    latent_variance: ArrayLike,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    process: Process = VP(),
) -> Float[Array, ""]:
    """Section 3.2's loss of the linear score with this decoder, constants included.

    ``sum_k w_k E || -(x_t - m_t x)/sigma_t^2 - s(x_t, t_k) ||^2``, the expectation over the samples
    behind `moment` and over the noise, in closed form. Differentiable in `decoder`; may be jitted
    and vmapped. Exact when the moment holds every direction; one truncated by ``rank=`` stands for
    the covariance described in `SecondMoment.residual`.

    Implements: Section 3.2 (objective); the form used in Lemma 5.1; "The loss, noise integrated
    out".

    Args:
        decoder: ``V``, ``(D, d)``, any matrix.
        moment: second moment of the target.
        latent_variance: variance that the frozen ``f`` uses, scalar or ``(d,)``.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default, never normalised.
        process: forward process.

    Returns:
        The loss, a scalar; NaN where a traced argument is out of range.

    Raises:
        ValueError: values out of range or shapes that do not match.
    """
    one_moment("moment", moment)
    _process.check(process, time=time, times=times)
    decoder, _ = _checks.floating("decoder", decoder, ndim=(2,))
    if decoder.shape[0] != moment.basis.shape[-2]:
        raise ValueError(
            f"decoder has D = {decoder.shape[0]} rows but the moment has D = "
            f"{moment.basis.shape[-2]}; they must come from the same space"
        )
    dtype = moment.values.dtype
    t, w, bad = _checks.times_and_weights(time, times, weights, dtype)
    d = decoder.shape[1]
    lam2, bad_variance = _checks.variances("latent_variance", latent_variance, d, dtype)
    return _expected_loss(decoder, moment, lam2, t, w, bad | bad_variance, process)


@jax.jit
def _expected_loss(
    decoder: Float[Array, "D d"],
    moment: SecondMoment,
    latent_variance: Float[Array, " d"],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    bad: Int[Array, ""],
    process: Process,
) -> Float[Array, ""]:
    form = QuadraticForm.integrate(latent_variance, times, weights, process)
    B, M = decoder_moments(decoder, moment)
    loss = form.constant * moment.total + form.scale * form.variable(B, M)
    return jnp.where(bad > 0, jnp.nan, loss)


def monte_carlo_loss(
    key: Key[Array, ""],
    score: Score,
    x: ArrayLike,
    *,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    draws: int = 64,
    process: Process = VP(),
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The same loss for any score, by drawing the noise, with its standard error.

    Each draw noises every sample once at every time (the same noise at all times). The standard
    error is that of the mean over draws, the samples being held fixed.

    Implements: Section 3.2 (objective), by Monte Carlo; "The loss, noise integrated out".

    Args:
        key: random key.
        score: ``score(x_t, t)`` for ``x_t`` of shape ``(n, D)`` and a scalar ``t``.
        x: ``(n, D)`` samples.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default.
        draws: number of independent noise draws, at least 2.
        process: forward process.

    Returns:
        Mean and standard error.

    Raises:
        ValueError: values out of range, or a score whose values do not have the shape of ``x``.
    """
    key = _checks.key("key", key)
    _process.check(process, time=time, times=times)
    x, _ = _checks.samples("x", x)
    t, w, bad = _checks.times_and_weights(time, times, weights, x.dtype)
    draws = _checks.dimension("draws", draws, low=2)
    values = _denoising_losses(key, as_pytree(score), x, t, w, process, draws)
    values = jnp.where(bad > 0, jnp.nan, values)
    return jnp.mean(values), jnp.std(values, ddof=1) / draws**0.5


@partial(jax.jit, static_argnames=("draws",))
def _denoising_losses(
    key: Key[Array, ""],
    score: Score,
    x: Float[Array, "n D"],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    process: Process,
    draws: int,
) -> Float[Array, " draws"]:
    def one(draw: Array) -> Array:
        noise = jax.random.normal(jax.random.fold_in(key, draw), x.shape, x.dtype)

        def at(tw: tuple[Array, Array]) -> Array:
            t, w = tw
            return w * _sums.total(drawn_losses(score, x, noise, t, process)) / x.shape[0]

        return jnp.sum(jax.lax.map(at, (times, weights)))

    return jax.lax.map(one, jnp.arange(draws))
