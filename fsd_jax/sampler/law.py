"""The exact law of what a sampler generates with a linear score: R16, and its continuous limit.

Every step is affine, so the law stays Gaussian. It is followed in an orthonormal span of the
score's basis and of the means; one more coordinate, orthogonal to all of them, stands for each of
the directions outside, where the score is a multiple of the identity.
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
    frame = _Frame.of(score, law)
    t = jnp.asarray(t, score.basis.dtype)
    return frame.thin(frame.push(frame.start(law), tweedie(t, score.process), t))


class _State(NamedTuple):
    mean: Float[Array, " j"]
    covariance: Float[Array, "j j"]


class _Frame(NamedTuple):
    """Coordinates in which a linear score acts; the last one stands for all directions outside."""

    span: Float[Array, "D i"]
    inside: Float[Array, "j k"]
    mean: Float[Array, " j"]
    score: LinearScore

    @classmethod
    def of(cls, score: LinearScore, initial: ThinGaussian | None) -> "_Frame":
        columns = [score.basis, score.mean[:, None]]
        if initial is not None:
            columns += [initial.basis, initial.mean[:, None]]
        span = _linalg.joint_span(*columns)
        inside = _lift(span, score.basis)
        return cls(span=span, inside=inside, mean=_lift(span, score.mean), score=score)

    def start(self, initial: ThinGaussian | None) -> _State:
        eye = jnp.eye(self.mean.shape[0], dtype=self.mean.dtype)
        if initial is None:
            return _State(jnp.zeros_like(self.mean), eye)
        basis = _lift(self.span, initial.basis)
        excess = initial.variance - initial.residual_variance
        covariance = _linalg.matmul(basis * excess, basis.T) + initial.residual_variance * eye
        return _State(_lift(self.span, initial.mean), covariance)

    def matrix(self, t: Float[Array, ""]) -> Float[Array, "j j"]:
        """``S_t`` of ``s(y, t) = S_t (y - m_t mean)``."""
        core, q = self.score.core(t)
        within = _linalg.matmul(_linalg.matmul(self.inside, core), self.inside.T)
        return within + q * jnp.eye(self.mean.shape[0], dtype=self.mean.dtype)

    def push(self, state: _State, step: Coefficients, t: Float[Array, ""]) -> _State:
        """The law after ``Y' = keep Y + push s(Y, t) + sqrt(noise) xi``."""
        S, eye = self.matrix(t), jnp.eye(self.mean.shape[0], dtype=self.mean.dtype)
        pull = step.push * self.score.process.signal(t) * _linalg.matmul(S, self.mean)
        return _affine(state, step.keep * eye + step.push * S, -pull, step.noise * eye)

    def heun(
        self, state: _State, t: Float[Array, ""], s: Float[Array, ""], h: Float[Array, ""]
    ) -> _State:
        """The law after Heun's step, whose drift at either end is ``A y - c``."""
        eye, process = jnp.eye(self.mean.shape[0], dtype=self.mean.dtype), self.score.process
        S_t, S_s = self.matrix(t), self.matrix(s)
        A_t, A_s = (eye + S_t) / 2, (eye + S_s) / 2
        c_t = process.signal(t) * _linalg.matmul(S_t, self.mean) / 2
        c_s = process.signal(s) * _linalg.matmul(S_s, self.mean) / 2
        M = eye + h / 2 * (A_t + _linalg.matmul(A_s, eye + h * A_t))
        shift = h / 2 * (c_t + c_s + h * _linalg.matmul(A_s, c_t))
        return _affine(state, M, -shift, jnp.zeros_like(eye))

    def diagonal(self, along: Float[Array, " k"], outside: Float[Array, ""]) -> Float[Array, "j j"]:
        """The matrix with these values along the basis and that one elsewhere."""
        within = _linalg.matmul(self.inside * (along - outside), self.inside.T)
        return within + outside * jnp.eye(self.mean.shape[0], dtype=self.mean.dtype)

    def thin(self, state: _State) -> ThinGaussian:
        values, vectors = _linalg.eigh_descending(state.covariance[:-1, :-1])
        return ThinGaussian(
            mean=_linalg.matmul(self.span, state.mean[:-1]),
            basis=_linalg.matmul(self.span, vectors),
            variance=jnp.clip(values, 0),
            residual_variance=state.covariance[-1, -1],
        )


def _lift(span: Float[Array, "D i"], a: Float[Array, "D *c"]) -> Float[Array, "j *c"]:
    """Coordinates in the span, and a zero for the directions outside."""
    inside = _linalg.matmul(span.T, a)
    return jnp.concatenate([inside, jnp.zeros_like(inside[:1])])


def _affine(
    state: _State, M: Float[Array, "j j"], shift: Float[Array, " j"], noise: Float[Array, "j j"]
) -> _State:
    moved = _linalg.matmul(_linalg.matmul(M, state.covariance), M.T)
    return _State(_linalg.matmul(M, state.mean) + shift, moved + noise)


@partial(jax.jit, static_argnames=("method", "denoise"))
def law_of_steps(
    score: LinearScore, steps: Steps, initial: ThinGaussian | None, *, method: str, denoise: bool
) -> ThinGaussian:
    """`generated_law` on steps that have passed their checks."""
    frame = _Frame.of(score, initial)

    def advance(state: _State, row: Steps) -> tuple[_State, None]:
        t, s, h = row
        if method == "heun_ode":
            return frame.heun(state, t, s, h), None
        return frame.push(state, coefficients(method, h), t), None

    state, _ = jax.lax.scan(advance, frame.start(initial), steps)
    if denoise:
        delta = steps.stop[-1]
        state = frame.push(state, tweedie(delta, score.process), delta)
    return frame.thin(state)


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
    process, frame = score.process, _Frame.of(score, initial)
    low, high = process.integrated_rate(jnp.asarray(delta)), process.integrated_rate(jnp.asarray(T))
    x, w = np.polynomial.legendre.leggauss(NODES)
    span = jnp.log(high / low) / 2
    nodes = low * jnp.exp(span * (jnp.asarray(x, low.dtype) + 1))
    # dB = B d log B.
    weights = span * jnp.asarray(w, low.dtype) * nodes
    gains = jnp.diagonal(score.mixing) ** 2
    bad = jnp.any(score.mixing != jnp.diag(jnp.diagonal(score.mixing))) | ~(low < high)
    gains = jnp.where(bad, jnp.nan, gains)

    def both(p: Array, variance: Array) -> tuple[Array, Array]:
        def factor(level: Array) -> Array:
            return _transition(p, variance, low, level, kind)

        noise = jnp.sum(weights * jax.vmap(factor)(nodes) ** 2) if kind == "sde" else 0 * low
        return factor(high), noise

    along, noise = jax.vmap(both)(gains, score.latent_variance)
    outside, noise_outside = both(jnp.ones_like(low), score.residual_variance)
    phi = frame.diagonal(along, outside)
    m_delta, m_T = process.signal(delta), process.signal(T)
    shift = m_delta * frame.mean - m_T * _linalg.matmul(phi, frame.mean)
    state = _affine(frame.start(initial), phi, shift, frame.diagonal(noise, noise_outside))
    if denoise:
        state = frame.push(state, tweedie(jnp.asarray(delta), process), jnp.asarray(delta))
    return frame.thin(state)


def _transition(p: Array, variance: Array, low: Array, level: Array, kind: str) -> Array:
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
