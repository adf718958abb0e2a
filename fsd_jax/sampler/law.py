"""The exact law of what a sampler generates with a linear score: R16, and its continuous limit.

Every step is affine, so the law stays Gaussian. All steps are composed to one map in coordinates of
the score's basis, with one more coordinate for the directions outside, where the score is a
multiple of the identity; only then does the initial law enter.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg
from fsd_jax.linear_model import ThinGaussian
from fsd_jax.sampler.grid import METHODS, Coefficients, Steps, coefficients, steps_of, tweedie
from fsd_jax.score.linear import LinearScore

NODES = 64
"""Gauss-Legendre nodes in log time for the noise of the continuous limit: rounding in float64."""


def generated_law(
    score: LinearScore,
    *,
    times: ArrayLike,
    method: str = "ei_sde",
    initial: ThinGaussian | None = None,
    denoise: bool = False,
) -> ThinGaussian:
    """The law of the samples that `sample` draws with a linear score, without sampling.

    A step ``Y' = a Y + b s(Y, t) + sqrt(v) xi`` with ``s(y, t) = S_t (y - m_t mean)`` has
    ``Cov' = M Cov M' + v I``, ``M = a I + b S_t``; Heun's is affine too. The matrices ``S_t`` need
    not commute. Never ``D x D``. Jitted at the entry (static: `method`, `denoise`); may be vmapped.

    Implements: R16 (the discretised sampler has an exact law).

    Args:
        score: a linear score.
        times: ``(K + 1,)`` increasing times from ``delta`` to ``T``.
        method: one of `METHODS`.
        initial: law at time ``T``; None is ``N(0, I)``.
        denoise: the law after a last step of Tweedie's.

    Returns:
        The law at time ``delta``, or of the denoised samples.

    Raises:
        ValueError: options or times out of range, or a score that is not linear.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> problem = fsd.LinearProblem.random(
        ...     jax.random.key(0), ambient_dim=40, latent_dim=8, latent_variance=1.0
        ... )
        >>> score = fsd.LinearScore.from_decoder(problem.A_ta, latent_variance=1.0)
        >>> law = fsd.sampler.generated_law(score, times=fsd.geometric_grid(1e-3, 10.0, 400))
        >>> bool(fsd.bures_w2(law, problem.target_law.diffuse(1e-3)) < 1e-3)
        True
    """
    _checks.choice("method", method, METHODS)
    _check_score(score)
    steps = steps_of(times, score.basis.dtype, score.process)
    return law_of_steps(score, steps, initial, method=method, denoise=bool(denoise))


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

    the SDE adds noise of variance ``int phi(delta, t)^2 dB(t)``, and the mean is
    ``m_delta mean + phi (mean at T - m_T mean)``. For ``p != 1`` the score is no Gaussian's, and
    the variance goes like ``delta^(1 - p)`` (ODE) or ``delta^(2 - 2p)`` (SDE, ``p > 1/2``).

    Implements: R16 (continuous limit).

    Args:
        score: a linear score with a diagonal `mixing` (closed-form decoders have one).
        delta: early stopping time.
        T: final time.
        kind: ``"sde"`` or ``"ode"``.
        initial: law at time ``T``; None is ``N(0, I)``.
        denoise: the law after a last step of Tweedie's.

    Returns:
        The law at time ``delta``, or of the denoised samples; NaN for traced arguments that are out
        of range.

    Raises:
        ValueError: arguments out of range, or a score of another form.
    """
    _checks.choice("kind", kind, ("sde", "ode"))
    _check_score(score)
    if not has_diagonal_mixing(score):
        raise ValueError(
            "score must have a diagonal mixing, as LinearScore.from_minimizer gives; for another "
            "decoder take generated_law on a fine grid"
        )
    ends = []
    for name, value in (("delta", delta), ("T", T)):
        ends.append(_checks.positive(name, value, score.basis.dtype, ndim=(0,))[0])
    if not _checks.is_traced(*ends) and not ends[0] < ends[1]:
        raise ValueError(f"delta must be below T, got delta={delta!r}, T={T!r}")
    return _continuous(score, *ends, initial, kind=kind, denoise=bool(denoise))


@jax.jit
def denoised_law(score: LinearScore, law: ThinGaussian, t: ArrayLike) -> ThinGaussian:
    """The law of Tweedie's estimates of the clean samples behind draws from `law` at time `t`."""
    t = jnp.asarray(t, score.basis.dtype)
    return _arrive(score, _then(_nothing(score), score, tweedie(t, score.process), t), law)


class Transition(NamedTuple):
    """A sampler as one affine map: ``Y = matrix Y_T + shift + N(0, noise)``.

    In coordinates of the score's basis and one more, which stands for every direction outside: the
    score is a multiple of the identity there. In it `shift` is in units of the score's mean.
    """

    matrix: Float[Array, "k1 k1"]
    shift: Float[Array, " k1"]
    noise: Float[Array, "k1 k1"]


def _nothing(score: LinearScore) -> Transition:
    eye = _eye(score)
    return Transition(eye, jnp.zeros_like(eye[0]), jnp.zeros_like(eye))


def _eye(score: LinearScore) -> Float[Array, "k1 k1"]:
    return jnp.eye(score.basis.shape[1] + 1, dtype=score.basis.dtype)


def _centre(score: LinearScore) -> Float[Array, " k1"]:
    return jnp.append(_linalg.matmul(score.basis.T, score.mean), 1.0)


def _matrix(score: LinearScore, t: Float[Array, ""]) -> Float[Array, "k1 k1"]:
    """``S_t`` of ``s(y, t) = S_t (y - m_t mean)``."""
    core, q = score.core(t)
    return jnp.pad(core, (0, 1)) + q * _eye(score)


def _then(
    before: Transition, score: LinearScore, step: Coefficients, t: Float[Array, ""]
) -> Transition:
    """Followed by ``Y' = keep Y + push s(Y, t) + sqrt(noise) xi``."""
    S, eye = _matrix(score, t), _eye(score)
    pull = step.push * score.process.signal(t) * _linalg.matmul(S, _centre(score))
    return _affine(before, step.keep * eye + step.push * S, -pull, step.noise * eye)


def _then_heun(
    before: Transition,
    score: LinearScore,
    t: Float[Array, ""],
    s: Float[Array, ""],
    h: Float[Array, ""],
) -> Transition:
    """Followed by Heun's step, whose drift at either end is ``A y - c``."""
    eye, centre = _eye(score), _centre(score)
    S_t, S_s = _matrix(score, t), _matrix(score, s)
    A_t, A_s = (eye + S_t) / 2, (eye + S_s) / 2
    c_t = score.process.signal(t) * _linalg.matmul(S_t, centre) / 2
    c_s = score.process.signal(s) * _linalg.matmul(S_s, centre) / 2
    M = eye + h / 2 * (A_t + _linalg.matmul(A_s, eye + h * A_t))
    shift = h / 2 * (c_t + c_s + h * _linalg.matmul(A_s, c_t))
    return _affine(before, M, -shift, jnp.zeros_like(eye))


def _affine(
    before: Transition,
    M: Float[Array, "k1 k1"],
    shift: Float[Array, " k1"],
    noise: Float[Array, "k1 k1"],
) -> Transition:
    return Transition(
        _linalg.matmul(M, before.matrix),
        _linalg.matmul(M, before.shift) + shift,
        _linalg.matmul(_linalg.matmul(M, before.noise), M.T) + noise,
    )


def transition_of(score: LinearScore, steps: Steps, *, method: str, denoise: bool) -> Transition:
    """All steps of a sampler as one map; it does not depend on where the sampler starts."""

    def advance(before: Transition, row: Steps) -> tuple[Transition, None]:
        t, s, h = row
        if method == "heun_ode":
            return _then_heun(before, score, t, s, h), None
        return _then(before, score, coefficients(method, h), t), None

    found, _ = jax.lax.scan(advance, _nothing(score), steps)
    delta = steps.stop[-1]
    return _then(found, score, tweedie(delta, score.process), delta) if denoise else found


def _arrive(score: LinearScore, way: Transition, initial: ThinGaussian | None) -> ThinGaussian:
    """The law at the end of the way, in a span of the basis and of the means."""
    parts = [score.basis, score.mean[:, None]]
    if initial is not None:
        parts += [initial.basis, initial.mean[:, None]]
    span = _linalg.joint_span(*parts)

    def lift(a: Array) -> Array:
        # Again one coordinate more, for the directions outside the span.
        inside = _linalg.matmul(span.T, a)
        return jnp.concatenate([inside, jnp.zeros_like(inside[:1])])

    basis, mean = lift(score.basis), lift(score.mean)
    eye = jnp.eye(span.shape[1] + 1, dtype=span.dtype)

    def spread(a: Float[Array, "k1 k1"]) -> Float[Array, "j1 j1"]:
        inner = a[:-1, :-1] - a[-1, -1] * jnp.eye(a.shape[0] - 1, dtype=a.dtype)
        return _linalg.matmul(_linalg.matmul(basis, inner), basis.T) + a[-1, -1] * eye

    phi, noise = spread(way.matrix), spread(way.noise)
    outside = mean - _linalg.matmul(basis, _linalg.matmul(basis.T, mean))
    shift = _linalg.matmul(basis, way.shift[:-1]) + way.shift[-1] * outside
    covariance = eye
    if initial is not None:
        shift = shift + _linalg.matmul(phi, lift(initial.mean))
        start, excess = lift(initial.basis), initial.variance - initial.residual_variance
        covariance = _linalg.matmul(start * excess, start.T) + initial.residual_variance * eye
    covariance = _linalg.matmul(_linalg.matmul(phi, covariance), phi.T) + noise
    values, vectors = _linalg.eigh_descending(covariance[:-1, :-1])
    return ThinGaussian(
        mean=_linalg.matmul(span, shift[:-1]),
        basis=_linalg.matmul(span, vectors),
        variance=jnp.clip(values, 0),
        residual_variance=covariance[-1, -1],
    )


@partial(jax.jit, static_argnames=("method", "denoise"))
def law_of_steps(
    score: LinearScore, steps: Steps, initial: ThinGaussian | None, *, method: str, denoise: bool
) -> ThinGaussian:
    """`generated_law` on steps that have passed their checks."""
    return _arrive(score, transition_of(score, steps, method=method, denoise=denoise), initial)


@partial(jax.jit, static_argnames=("kind", "denoise"))
def _continuous(
    score: LinearScore,
    delta: Float[Array, ""],
    T: Float[Array, ""],
    initial: ThinGaussian | None,
    *,
    kind: str,
    denoise: bool,
) -> ThinGaussian:
    process, delta, T = score.process, jnp.asarray(delta), jnp.asarray(T)
    low, high = process.integrated_rate(delta), process.integrated_rate(T)
    x, w = np.polynomial.legendre.leggauss(NODES)
    span = jnp.log(high / low) / 2
    nodes = low * jnp.exp(span * (jnp.asarray(x, low.dtype) + 1))
    # dB = B d log B.
    weights = span * jnp.asarray(w, low.dtype) * nodes
    # The directions outside behave like one more with gain one.
    gains = jnp.append(jnp.diagonal(score.mixing) ** 2, 1.0)
    variances = jnp.append(score.latent_variance, score.residual_variance)
    bad = jnp.any(score.mixing != jnp.diag(jnp.diagonal(score.mixing))) | ~(low < high)
    gains = jnp.where(bad, jnp.nan, gains)
    along = _factor(gains, variances, low, high, kind)
    noise = jnp.zeros_like(along)
    if kind == "sde":
        squares = _factor(gains, variances, low, nodes[:, None], kind) ** 2
        noise = jnp.sum(weights[:, None] * squares, axis=0)
    shift = (process.signal(delta) - process.signal(T) * along) * _centre(score)
    way = Transition(jnp.diag(along), shift, jnp.diag(noise))
    if denoise:
        way = _then(way, score, tweedie(delta, process), delta)
    return _arrive(score, way, initial)


def _factor(p: Array, variance: Array, low: Array, level: Array, kind: str) -> Array:
    """What a value at ``B = level`` is multiplied by until ``B = low``."""

    def total(b: Array) -> Array:
        return jnp.exp(-b) * variance - jnp.expm1(-b)

    inside = p * jnp.log(total(low) / total(level))
    inside = inside + (1 - p) * jnp.log(jnp.expm1(-low) / jnp.expm1(-level))
    return jnp.exp(inside / 2) if kind == "ode" else jnp.exp(inside - (level - low) / 2)


def has_diagonal_mixing(score: LinearScore) -> bool:
    """Whether ``V`` is a basis with a length for each column; true as far as a trace can tell."""
    rows, columns = score.mixing.shape[-2:]
    if rows != columns or _checks.is_traced(score.mixing):
        return rows == columns
    mixing = np.asarray(score.mixing)
    return mixing.ndim == 2 and not np.any(mixing - np.diag(np.diag(mixing)))


def _check_score(score: object) -> None:
    if not isinstance(score, LinearScore):
        raise ValueError(
            f"score must be a LinearScore, got {type(score).__name__}; the law of another score's "
            "samples is not Gaussian, so draw them with sample"
        )
