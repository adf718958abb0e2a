"""The exact law of what a sampler generates with a linear score: R16.

Every step is affine, so the law stays Gaussian. All steps are composed to one map in coordinates of
the score's basis, with one more coordinate for the directions outside, where the score is a
multiple of the identity; only then does the initial law enter.
"""

from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg, _points
from fsd_jax._linear_model import ThinGaussian, checked_law
from fsd_jax._process import Process
from fsd_jax.sampler._grid import METHODS, Again, Coefficients, Steps, step_of, steps_of, tweedie
from fsd_jax.score._linear import LinearScore, checked_score


def generated_law(
    score: LinearScore,
    *,
    times: ArrayLike,
    method: str = "ei_sde",
    initial: ThinGaussian | None = None,
    denoise: bool = False,
) -> ThinGaussian:
    """The law of the samples that `sample` draws with a linear score, without sampling.

    On any path: each step of `sample` is affine. A step
    ``Y' = a Y + b s(Y, t) + sqrt(v) xi`` with ``s(y, t) = S_t (y - m_t mean)`` has
    ``Cov' = M Cov M' + v I``, ``M = a I + b S_t``; Heun's is affine too. The matrices ``S_t`` need
    not commute. Never ``D x D``. Jitted at the entry (static: `method`, `denoise`); may be vmapped.

    Implements: R16 (the discretised sampler has an exact law).

    Args:
        score: a linear score.
        times: ``(K + 1,)`` increasing times from ``delta`` to ``T``.
        method: one of `METHODS`.
        initial: law at time ``T``; None is the noise that `sample` starts from, ``N(0, I)`` on
            `VP` and `Flow`, ``N(0, sigma_T^2 I)`` else.
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
    denoise = _checks.boolean("denoise", denoise)
    score, initial = checked_pair(score, initial)
    steps = steps_of(times, score.basis.dtype, score.process)
    law = law_of_steps(score, steps, initial, method=method, denoise=denoise)
    return finite_law(law, "take more steps or a smaller T")


def denoised_law(score: LinearScore, law: ThinGaussian, t: ArrayLike) -> ThinGaussian:
    """The law of Tweedie's estimates of the clean samples behind draws from `law` at time `t`.

    Implements: R16.

    Args:
        score: a linear score.
        law: law of the samples at time `t`.
        t: one time, positive.

    Returns:
        The law of the estimates; NaN for a traced time that is not positive.

    Raises:
        ValueError: a score that is not linear, no law or one of another space, a time out of range.
    """
    score, checked = checked_pair(score, law, name="law")
    time = jnp.asarray(_checks.time("t", t, score.basis.dtype))
    score.process.admit(t=t)
    if time.ndim:
        raise ValueError(f"t must be one time, got shape {time.shape}")
    return law_of_estimates(score, checked, time)


@jax.jit
def law_of_estimates(score: LinearScore, law: ThinGaussian, t: Float[Array, ""]) -> ThinGaussian:
    """`denoised_law` of arguments that have passed their checks."""
    return arrive(score, then(_nothing(score), score, tweedie(t, score.process), t), law)


@runtime_checkable
class AffineScore(Protocol):
    """What of a score its law needs: in coordinates of the basis and one more, see `affine_of`."""

    basis: Float[Array, "D k"]
    mean: Float[Array, " D"]
    process: Process

    def affine(self, t: Float[Array, ""]) -> tuple[Array, Array]:
        """``(S, u)`` with ``s(y, t) = S y - m_t u``."""


Linear = LinearScore | AffineScore


class Transition(NamedTuple):
    """A sampler as one affine map: ``Y = matrix Y_T + shift + N(0, noise)``.

    In coordinates of the score's basis and one more, which stands for every direction outside: the
    score is a multiple of the identity there. In it `shift` is in units of the score's mean.
    """

    matrix: Float[Array, "k1 k1"]
    shift: Float[Array, " k1"]
    noise: Float[Array, "k1 k1"]


def _nothing(score: Linear) -> Transition:
    eye = _eye(score)
    return Transition(eye, jnp.zeros_like(eye[0]), jnp.zeros_like(eye))


def _eye(score: Linear) -> Float[Array, "k1 k1"]:
    return jnp.eye(score.basis.shape[1] + 1, dtype=score.basis.dtype)


def centre_of(score: LinearScore) -> Float[Array, " k1"]:
    """The score's mean in the coordinates of a `Transition`."""
    return jnp.append(_linalg.matmul(score.basis.T, score.mean), 1.0)


def affine_of(
    score: Linear, t: Float[Array, ""]
) -> tuple[Float[Array, "k1 k1"], Float[Array, " k1"]]:
    """``(S, u)`` with ``s(y, t) = S y - m_t u``; ``u = S mean`` for a linear score."""
    if not isinstance(score, LinearScore):
        return score.affine(t)
    core, q = score.core(t)
    S = jnp.pad(core, (0, 1)) + q * _eye(score)
    return S, _linalg.matmul(S, centre_of(score))


def then(before: Transition, score: Linear, step: Coefficients, t: Float[Array, ""]) -> Transition:
    """Followed by ``Y' = keep Y + push s(Y, t) + sqrt(noise) xi``."""
    (S, u), eye = affine_of(score, t), _eye(score)
    pull = step.push * score.process.signal(t) * u
    return _affine(before, step.keep * eye + step.push * S, -pull, step.noise * eye)


def _then_again(
    before: Transition, score: Linear, step: Coefficients, again: Again, row: Steps
) -> Transition:
    """Followed by Heun's step, which looks at the score at both of its ends."""
    (S, u), (S_stop, u_stop) = affine_of(score, row.start), affine_of(score, row.stop)
    eye, at = _eye(score), score.process.signal
    ahead = step.keep * eye + step.push * S
    pull = step.push * at(row.start) * u
    second = again.carry * eye + again.push * S_stop
    M = again.keep * eye + _linalg.matmul(second, ahead)
    shift = _linalg.matmul(second, pull) + again.push * at(row.stop) * u_stop
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


def transition_of(score: Linear, steps: Steps, *, method: str, denoise: bool) -> Transition:
    """All steps of a sampler as one map; it does not depend on where the sampler starts."""

    def advance(before: Transition, row: Steps) -> tuple[Transition, None]:
        step, again = step_of(score.process, method, row)
        if again is not None:
            return _then_again(before, score, step, again, row), None
        return then(before, score, step, row.start), None

    found, _ = jax.lax.scan(advance, _nothing(score), steps)
    delta = steps.stop[-1]
    return then(found, score, tweedie(delta, score.process), delta) if denoise else found


def arrive(
    score: Linear, way: Transition, initial: ThinGaussian | None, prior: ArrayLike = 1.0
) -> ThinGaussian:
    """The law at the end of the way, in a span of the basis and of the means.

    Without an `initial` law the way starts from centred noise of variance `prior`.
    """
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
    covariance = prior * eye
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
    score: Linear, steps: Steps, initial: ThinGaussian | None, *, method: str, denoise: bool
) -> ThinGaussian:
    """`generated_law` on steps that have passed their checks."""
    way = transition_of(score, steps, method=method, denoise=denoise)
    return arrive(score, way, initial, score.process.prior_variance(steps.start[0]))


def checked_pair(
    score: LinearScore, law: ThinGaussian | None, *, name: str = "initial"
) -> tuple[LinearScore, ThinGaussian | None]:
    """A score and a law of one space and dtype.

    Raises:
        ValueError: what they are not; the law of another score's samples is not Gaussian.
    """
    score = checked_score("score", score)
    if law is None and name == "initial":
        return score, None
    checked = checked_law(name, law)  # type: ignore[arg-type]
    _checks.same_rows(score=score.basis, **{name: checked.basis})
    dtype = score.basis.dtype
    return score, jax.tree.map(lambda a: a.astype(dtype), checked)


def finite_law(law: ThinGaussian, advice: str) -> ThinGaussian:
    """The law, unless it is concrete and not finite: it overflowed."""
    finite = _points.all_finite(law)
    if not _checks.is_traced(finite) and not bool(finite):
        raise ValueError(f"the law of the samples is not finite in its dtype; {advice}")
    return law
