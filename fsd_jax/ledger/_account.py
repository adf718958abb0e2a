"""Which ingredient of a few-shot model costs what: exact substitution of one at a time.

A generated law is wrong because of the decoder, of the time it was fitted at, of the variances that
the frozen ``f`` uses, of the mean, of the steps, of stopping early, and of a finite ``T``. Each is
exchanged with its true value in the exact law of the sampler, with no Monte Carlo.
"""

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from fsd_jax import _checks, _linalg
from fsd_jax._linear_model import LinearProblem, ThinGaussian
from fsd_jax._process import Process
from fsd_jax.ledger._ledger import EFFORTS, INGREDIENTS, Ledger
from fsd_jax.sampler._grid import METHODS, Steps, steps_of
from fsd_jax.sampler._law import law_of_estimates, law_of_steps
from fsd_jax.sampler._limit import continuous_limit, has_diagonal_mixing
from fsd_jax.score._errors import score_error_to_law
from fsd_jax.score._laws import divergence_excess, kl_of_laws, w2_of_laws
from fsd_jax.score._linear import LinearScore, checked_score


def account(
    score: LinearScore,
    problem: LinearProblem,
    *,
    times: ArrayLike,
    method: str = "ei_sde",
    denoise: bool = False,
    refit: LinearScore | None = None,
) -> Ledger:
    """Account for the errors of a few-shot model against the truth, exactly.

    Every ingredient is exchanged between the model's and the true value: the decoder ``V`` (true:
    ``A_ta`` with gains one), the latent variances (true: ``c_k = lambda_k^2 + tau^2``), the
    residual variance, the mean, the discretisation (true: `continuous_law`), early stopping (true:
    the comparison is made at ``delta``) and the law at ``T`` (true: the diffused target). Variances
    and directions are paired by rank. An ingredient's cost `alone` starts from everything exact,
    `removed` from everything as it is; they differ by the interaction.

    The population's minimiser is the true decoder whatever time it is fitted at, so ``fit_time``
    costs nothing alone.

    Jitted (static: `method`, `denoise`, the process); may be vmapped over `score`, `problem` and
    `refit`. ``kl`` takes neither denoising nor early stopping into account, because a noise-free
    truth has no density; the score error knows nothing of the sampler.

    Implements: R16 (splitting the error); "The ledger".

    Args:
        score: the model's score (``model.linear``), with a diagonal `mixing`.
        problem: the truth.
        times: ``(K + 1,)`` increasing times from ``delta`` to ``T``, not traced.
        method: one of `sampler.METHODS`.
        denoise: whether the sampler ends with Tweedie's estimate.
        refit: the score of the same data fitted over all times, where `score` was fitted at one;
            adds the row ``fit_time``.

    Returns:
        The ledger.

    Raises:
        ValueError: options or times out of range, or scores of another form.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> problem = fsd.LinearProblem.random(
        ...     jax.random.key(0), ambient_dim=20, latent_dim=3, latent_variance=1.0,
        ...     residual_variance=0.1,
        ... )
        >>> source = fsd.pretrain(problem.sample_source(jax.random.key(1), 1000), latent_dim=3)
        >>> model = fsd.finetune(source, problem.sample_target(jax.random.key(2), 10))
        >>> found = fsd.ledger.account(
        ...     model.linear, problem, times=fsd.geometric_grid(1e-3, 10.0, 300)
        ... )
        >>> found.rows("w2")[0]["ingredient"], found.advice("w2").rpartition(". ")[2]
        ('decoder', 'Next: target samples.')
    """
    _checks.choice("method", method, METHODS)
    denoise = _checks.boolean("denoise", denoise)
    _checks.instance("problem", problem, LinearProblem)
    score = _diagonal("score", score, problem)
    if refit is not None:
        refit = _diagonal("refit", refit, problem)
    if _checks.is_traced(times):
        raise ValueError("times must be concrete numbers, not traced; close over them")
    steps = steps_of(times, score.basis.dtype, score.process)
    grid = np.asarray(_checks.array("times", times), np.float64)
    nodes = score.process.quadrature(float(grid[0]), float(grid[-1]))
    dtype = jnp.promote_types(score.basis.dtype, problem.A_ta.dtype)
    models = jax.tree.map(lambda a: jnp.asarray(a, dtype), (score, problem, refit))
    found = _account(*models, steps, nodes, method=method, denoise=denoise)
    broken = jnp.any(jnp.isnan(found.total))
    if not _checks.is_traced(broken) and bool(broken):
        raise ValueError(
            "the model's errors are not numbers: the sampler overflows on these times; take more "
            "steps or a smaller T"
        )
    return found


def _diagonal(name: str, score: LinearScore, problem: LinearProblem) -> LinearScore:
    """A score on the problem's space, with a diagonal mixing, in its own dtype."""
    score = checked_score(name, score)
    if not has_diagonal_mixing(score):
        raise ValueError(
            f"{name} must be a LinearScore with a diagonal mixing, as closed-form decoders "
            f"have (model.linear), got {score!r}"
        )
    _checks.same_rows(**{name: score.basis, "problem": problem.A_ta})
    return score


class _Parts(NamedTuple):
    """A score taken apart: columns in descending order of their variance."""

    basis: Float[Array, "j k"]
    gains: Float[Array, " k"]
    variance: Float[Array, " k"]
    residual: Float[Array, ""]
    mean: Float[Array, " j"]

    @classmethod
    def of(cls, score: LinearScore, span: Float[Array, "D j"], width: int) -> "_Parts":
        # A dead column of the basis is a direction of the residual, whatever its gain says.
        alive = jnp.sum(score.basis**2, axis=0) > 0.5
        gains = jnp.where(alive, jnp.diagonal(score.mixing) ** 2, 0)
        return cls.sorted(
            _linalg.matmul(span.T, score.basis), gains,
            score.latent_variance, score.residual_variance, _linalg.matmul(span.T, score.mean),
            width,
        )  # fmt: skip

    @classmethod
    def sorted(
        cls,
        basis: Float[Array, "j k"],
        gains: Float[Array, " k"],
        variance: Float[Array, " k"],
        residual: Float[Array, ""],
        mean: Float[Array, " j"],
        width: int,
    ) -> "_Parts":
        order, pad = jnp.argsort(-variance, stable=True), width - len(gains)
        # A direction that is not modelled has the residual's variance.
        more = jnp.full(pad, 1.0, variance.dtype) * residual
        return cls(
            basis=jnp.pad(basis[:, order], ((0, 0), (0, pad))),
            gains=jnp.pad(gains[order], (0, pad)),
            variance=jnp.concatenate([variance[order], more]),
            residual=residual,
            mean=mean,
        )


@partial(jax.jit, static_argnames=("method", "denoise"))
def _account(
    score: LinearScore,
    problem: LinearProblem,
    refit: LinearScore | None,
    steps: Steps,
    nodes: tuple[Array, Array],
    *,
    method: str,
    denoise: bool,
) -> Ledger:
    truth = problem.target_law
    models = [score] if refit is None else [score, refit]
    columns = [a for s in models for a in (s.basis, s.mean[:, None])]
    # The true subspace comes first, so that in these coordinates it is the first axes and the
    # truth is diagonal: no law or distance below needs a basis of its own.
    span = _linalg.orthonormal_columns(
        jnp.concatenate([truth.basis, truth.mean[:, None], *columns], axis=1)
    )
    axes, true_dim = jnp.eye(span.shape[1], dtype=span.dtype), truth.basis.shape[1]
    rest = jnp.full(span.shape[1] - true_dim, 1.0, span.dtype) * truth.residual_variance
    here = _World(
        truth=ThinGaussian(
            mean=_linalg.matmul(span.T, truth.mean),
            basis=axes,
            variance=jnp.concatenate([truth.variance, rest]),
            residual_variance=truth.residual_variance,
        ),
        beyond=span.shape[0] - span.shape[1],
        steps=steps,
        nodes=nodes,
    )
    width = max(true_dim, *(s.basis.shape[1] for s in models))
    ours, *again = (_Parts.of(s, span, width) for s in models)
    right = _Parts.sorted(
        axes[:, :true_dim], jnp.ones_like(truth.variance), truth.variance,
        truth.residual_variance, here.truth.mean, width,
    )  # fmt: skip

    def measure(wrong: Bool[Array, " 8"]) -> Float[Array, " 3"]:
        pick = _Pick(wrong)
        mixed = pick.score(ours, again[-1] if again else ours, right, score.process)
        return here.measure(mixed, pick, method=method, denoise=denoise)

    values = jax.lax.map(measure, jnp.asarray(_masks()))
    count = len(INGREDIENTS)
    total, alone = values[0], values[1 : 1 + count]
    without, saved = values[1 + count : 1 + 2 * count], values[1 + 2 * count :]
    return Ledger(
        total=total,
        alone=alone.T,
        removed=(total - without).T,
        saved=(total - saved).T,
        missing=jnp.sum(right.gains > 0) - jnp.sum(ours.gains > 0),
        method=method,
        refitted=refit is not None,
    )


class _Pick(NamedTuple):
    """Which ingredients are the model's; the others are the truth's."""

    wrong: Bool[Array, " 8"]

    def __call__(self, name: str, model: Any, truth: Any) -> Any:
        chosen = self.wrong[INGREDIENTS.index(name)]
        return jax.tree.map(lambda a, b: jnp.where(chosen, a, b), model, truth)

    def score(self, ours: _Parts, again: _Parts, right: _Parts, process: Process) -> LinearScore:
        basis, gains = self(
            "decoder",
            self("fit_time", (ours.basis, ours.gains), (again.basis, again.gains)),
            (right.basis, right.gains),
        )
        return LinearScore(
            basis=basis,
            mixing=jnp.diag(jnp.sqrt(gains)),
            latent_variance=self("latent_variance", ours.variance, right.variance),
            residual_variance=self("residual_variance", ours.residual, right.residual),
            mean=self("mean", ours.mean, right.mean),
            process=process,
        )


class _World(NamedTuple):
    """The truth in coordinates of a span, the `beyond` directions off it, and the sampler's grid.

    Off the span every law and every score is isotropic, so those directions add one number each.
    """

    truth: ThinGaussian
    beyond: int
    steps: Steps
    nodes: tuple[Array, Array]

    def measure(
        self, score: LinearScore, pick: _Pick, *, method: str, denoise: bool
    ) -> Float[Array, " 3"]:
        delta, T = self.steps.stop[-1], self.steps.start[0]
        truth = self.truth.diffuse(delta, score.process)
        late = self.truth.diffuse(T, score.process)
        noise = score.process.prior_variance(T)
        start = dataclasses.replace(
            late,
            mean=pick("finite_time", jnp.zeros_like(late.mean), late.mean),
            variance=pick("finite_time", noise * jnp.ones_like(late.variance), late.variance),
            residual_variance=pick("finite_time", noise, late.residual_variance),
        )
        kind = method.rpartition("_")[2]
        # Each decomposition below waits for the one before: see _linalg.after.
        stepped = law_of_steps(score, self.steps, start, method=method, denoise=False)
        start = _after(start, stepped.variance)
        limit = continuous_limit(score, delta, T, start, kind=kind, denoise=False)
        law = pick("discretisation", stepped, limit)
        kl = self._kl(truth, law)
        at_delta = self._w2(truth, _after(law, kl))
        if denoise:
            law = law_of_estimates(score, _after(law, at_delta), delta)
        clean = self._w2(self.truth, _after(law, at_delta))
        w2 = pick("early_stopping", clean, at_delta)
        return jnp.stack([self._score_error(score), kl, w2])

    def _score_error(self, score: LinearScore) -> Float[Array, ""]:
        times, weights = self.nodes

        def outside(t: Array) -> Array:
            r = self.truth.diffuse(t, score.process).residual_variance
            return (score.core(t)[1] + 1 / r) ** 2 * r

        inside = score_error_to_law(score, self.truth, times, weights)
        return inside + self.beyond * jnp.sum(weights * jax.vmap(outside)(times))

    def _kl(self, truth: ThinGaussian, law: ThinGaussian) -> Float[Array, ""]:
        ratio = truth.residual_variance / law.residual_variance
        return kl_of_laws(truth, law) + 0.5 * self.beyond * divergence_excess(ratio)

    def _w2(self, truth: ThinGaussian, law: ThinGaussian) -> Float[Array, ""]:
        gap = jnp.sqrt(truth.residual_variance) - jnp.sqrt(law.residual_variance)
        return w2_of_laws(truth, law) + self.beyond * gap**2


def _after(law: ThinGaussian, done: Array) -> ThinGaussian:
    return dataclasses.replace(law, variance=_linalg.after(law.variance, done))


def _masks() -> np.ndarray:
    """Which ingredients are the model's: all, each alone, all but each, all but an effort's."""
    one = np.eye(len(INGREDIENTS), dtype=bool)
    bought = np.array([[name in group for name in INGREDIENTS] for group in EFFORTS.values()])
    return np.concatenate([np.ones((1, len(INGREDIENTS)), bool), one, ~one, ~bought])
