"""Classifier-free guidance between a few-shot and the source model, and the law it generates."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg
from fsd_jax._linear_model import ThinGaussian
from fsd_jax._process import Process
from fsd_jax._scores import Score
from fsd_jax.sampler._grid import METHODS, Steps, steps_of
from fsd_jax.sampler._law import checked_pair, finite_law, law_of_steps
from fsd_jax.score._linear import LinearScore, checked_score


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class GuidedScore:
    """``s_w = w s_target + (1 - w) s_source``: for samplers, of any two scores on one path.

    With ``w = 1`` it is the target's score; beyond, what tells it from the source is enlarged.

    Implements: "Any Gaussian path"; "Guidance".

    Source: Ho and Salimans, "Classifier-free diffusion guidance"
    (2022), whose weight is ``w - 1``.

    Attributes:
        target: score of the adapted model.
        source: score of the source's model.
        weight: ``w``.
    """

    target: Score | Any
    source: Score | Any
    weight: ArrayLike

    def __repr__(self) -> str:
        return f"GuidedScore(target={self.target!r}, source={self.source!r})"

    @property
    def process(self) -> Process | None:
        """That of the target's score, if it has one."""
        return getattr(self.target, "process", None)

    @property
    def mean(self) -> Array | None:
        """That of the target's score, if it has one."""
        return getattr(self.target, "mean", None)

    def __call__(self, x: Float[Array, "*batch D"], t: ArrayLike) -> Float[Array, "*batch D"]:
        """The guided score at `x`.

        Raises:
            ValueError: scores of different processes, and what either of them refuses.
        """
        _same_process(self.target, self.source)
        target, source = self.target(x, t), self.source(x, t)
        return source + jnp.asarray(self.weight, source.dtype) * (target - source)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class GuidedLaw:
    """The law of guided samples, and what guidance changed of the unguided model's.

    Attributes:
        law: the law of the samples.
        mean_shift: ``(D,)`` its mean less that of the samples without guidance.
        ratios: ``(m,)`` variances with guidance over those without, descending, along
        directions: ``(D, m)`` unit columns. They are uncorrelated under both laws.
        residual_ratio: the same ratio in every direction outside.
        times: ``(K + 1,)`` the sampler's times, increasing.
        least_precision: ``(K + 1,)`` smallest eigenvalue of ``w P_target + (1 - w) P_source`` at
            them. Where it is negative no density has the guided score.
    """

    law: ThinGaussian
    mean_shift: Float[Array, " D"]
    ratios: Float[Array, " m"]
    directions: Float[Array, "D m"]
    residual_ratio: Float[Array, ""]
    times: Float[Array, " points"]
    least_precision: Float[Array, " points"]

    def __repr__(self) -> str:
        if self.ratios.ndim > 1 or _checks.is_traced(self.ratios):
            return f"GuidedLaw(D={self.mean_shift.shape[-1]})"
        wide, narrow = (len(which) for which in (self.widened, self.narrowed))
        return (
            f"GuidedLaw(D={self.mean_shift.shape[0]}, widened={wide}, narrowed={narrow}, "
            f"definite={self.definite})"
        )

    @property
    def widened(self) -> np.ndarray:
        """Indices of directions that guidance made wider, beyond rounding."""
        return np.flatnonzero(np.asarray(self.ratios) > 1 + self._rounding)

    @property
    def narrowed(self) -> np.ndarray:
        """Indices of directions that guidance made narrower, beyond rounding."""
        return np.flatnonzero(np.asarray(self.ratios) < 1 - self._rounding)

    @property
    def definite(self) -> bool:
        """Whether the combined precision is positive at every time."""
        return bool(np.all(np.asarray(self.least_precision) > 0))

    @property
    def _rounding(self) -> float:
        return 1e3 * _linalg.eps_of(self.ratios.dtype)


def guided_law(
    target: LinearScore,
    source: LinearScore,
    *,
    weight: ArrayLike,
    times: ArrayLike,
    method: str = "ei_sde",
    initial: ThinGaussian | None = None,
    denoise: bool = False,
) -> GuidedLaw:
    """The exact law of samples under guidance by two linear scores, for the discretised sampler.

    ``s_w(x, t) = -P_w x + alpha_t (w P_target mean_target + (1 - w) P_source mean_source)`` with
    ``P_w = w P_target + (1 - w) P_source``, the precisions of the diffused laws, is affine, so the
    law follows as in `generated_law`. It is not the density ``q_target^w q_source^(1-w)`` at
    ``delta``, which exists only where ``P_w`` is positive definite.

    Jitted at the entry (static: `method`, `denoise`); may be vmapped.

    Implements: R16; "Guidance".

    Args:
        target: score of the adapted model, ``model.linear`` of a `FewShotModel`.
        source: score of the source's model on the same space and process.
        weight: ``w``; 1 is the target, 0 the source.
        times: as in `generated_law`.
        method: one of `METHODS`.
        initial: as in `generated_law`.
        denoise: as in `generated_law`; the ratios are then those of the estimates.

    Returns:
        The law and its terms.

    Raises:
        ValueError: scores that are not linear or not of one space and process, a weight that is no
            number, options or times out of range.

    Warns:
        DataWarning: ``P_w`` is not positive definite at some of the times.

    Example:
        >>> import jax.numpy as jnp, fsd_jax as fsd
        >>> make = fsd.LinearScore.from_decoder
        >>> wide, narrow = (
        ...     make(jnp.eye(3, 1), latent_variance=v, residual_variance=0.1) for v in (4.0, 1.0)
        ... )
        >>> times = fsd.geometric_grid(1e-2, 10.0, 100)
        >>> fsd.sampler.guided_law(narrow, wide, weight=2.0, times=times)
        GuidedLaw(D=3, widened=0, narrowed=1, definite=True)
    """
    _checks.choice("method", method, METHODS)
    denoise = _checks.boolean("denoise", denoise)
    target, initial = checked_pair(target, initial)
    source = checked_score("source", source)
    _checks.same_rows(target=target.basis, source=source.basis)
    _same_process(target, source)
    dtype = target.basis.dtype
    if not _checks.is_traced(weight):
        weight = _checks.number("weight", weight)
    source = jax.tree.map(lambda a: jnp.asarray(a, dtype), source)
    steps = steps_of(times, dtype, target.process)
    w = jnp.asarray(weight, dtype)
    found = _guided(target, source, w, steps, initial, method=method, denoise=denoise)
    finite_law(found.law, "take more steps, a smaller T or a smaller weight")
    if not _checks.is_traced(found.least_precision) and not found.definite:
        bad = np.asarray(found.times)[np.asarray(found.least_precision) <= 0]
        _checks.tell(
            f"w P_target + (1 - w) P_source is not positive definite at {bad.size} of the times, "
            f"from t = {bad.min():.3g} to {bad.max():.3g}: no density has the guided score there; "
            "the law of the samples is exact all the same"
        )
    return found


def _same_process(target: Any, source: Any) -> None:
    ours, theirs = (getattr(score, "process", None) for score in (target, source))
    if ours is not None and theirs is not None and ours != theirs:
        raise ValueError(
            f"target and source must have the same process, got {ours!r} and {theirs!r}"
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class _Joint:
    """A guided score in a span of both bases and means, as an `AffineScore`."""

    basis: Float[Array, "D k"]
    mean: Float[Array, " D"]
    target: LinearScore
    source: LinearScore
    weight: Float[Array, ""]

    @property
    def process(self) -> Process:
        """That of both."""
        return self.target.process

    def affine(self, t: Float[Array, ""]) -> tuple[Float[Array, "k1 k1"], Float[Array, " k1"]]:
        """``(S, u)`` with ``s(y, t) = S y - m_t u``; nothing of the means is outside."""
        k = self.basis.shape[1]
        S, u = jnp.zeros((k + 1, k + 1), self.mean.dtype), jnp.zeros(k + 1, self.mean.dtype)
        for score, share in ((self.target, self.weight), (self.source, 1 - self.weight)):
            core, q = score.core(t)
            inside = _linalg.matmul(self.basis.T, score.basis)
            part = _linalg.matmul(_linalg.matmul(inside, core), inside.T)
            part = jnp.pad(part, (0, 1)) + q * jnp.eye(k + 1, dtype=part.dtype)
            centre = jnp.append(_linalg.matmul(self.basis.T, score.mean), 0)
            S, u = S + share * part, u + share * _linalg.matmul(part, centre)
        return S, u

    def least_precision(self, t: Float[Array, ""]) -> Float[Array, ""]:
        """Smallest eigenvalue of ``-S_t``, the directions outside included."""
        S = self.affine(t)[0]
        inside = jnp.min(_linalg.eigenvalues(-S[:-1, :-1]))
        # Without directions outside the last coordinate stands for none.
        outside = self.basis.shape[0] > self.basis.shape[1]
        return jnp.minimum(inside, -S[-1, -1]) if outside else inside


@partial(jax.jit, static_argnames=("method", "denoise"))
def _guided(
    target: LinearScore,
    source: LinearScore,
    weight: Float[Array, ""],
    steps: Steps,
    initial: ThinGaussian | None,
    *,
    method: str,
    denoise: bool,
) -> GuidedLaw:
    basis = _linalg.joint_span(
        target.basis, source.basis, target.mean[:, None], source.mean[:, None]
    )
    both = _Joint(basis=basis, mean=target.mean, target=target, source=source, weight=weight)
    alone = _Joint(
        basis=basis, mean=target.mean, target=target, source=source, weight=jnp.ones_like(weight)
    )
    law = law_of_steps(both, steps, initial, method=method, denoise=denoise)
    # Decompositions in a row, see `_linalg.after`.
    alone = jax.tree.map(lambda a: _linalg.after(a, law.variance), alone)
    plain = law_of_steps(alone, steps, initial, method=method, denoise=denoise)
    seen = plain.variance > 0
    size = jnp.sqrt(jnp.where(seen, plain.variance, 1))
    turned = _linalg.matmul(plain.basis.T, law.basis) / size[:, None]
    ratios, vectors = _linalg.eigh_descending(_linalg.matmul(turned * law.variance, turned.T))
    columns = _linalg.matmul(plain.basis, vectors / size[:, None])
    times = jnp.append(steps.start, steps.stop[-1])[::-1]
    times = _linalg.after(times, ratios)
    return GuidedLaw(
        law=law,
        mean_shift=law.mean - plain.mean,
        ratios=ratios,
        directions=columns / jnp.sqrt(jnp.sum(columns**2, axis=0)),
        residual_ratio=law.residual_variance / plain.residual_variance,
        times=times,
        least_precision=jax.lax.map(both.least_precision, times),
    )
