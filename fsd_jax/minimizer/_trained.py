"""The gradient-trained rival: optax on the same loss as the closed form, inside one scan."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _linalg, _process
from fsd_jax._checks import Status
from fsd_jax._moments import SecondMoment
from fsd_jax._process import VP, Process
from fsd_jax.minimizer import _descent
from fsd_jax.minimizer._closed_form import Minimizer, orthonormal_minimizer, rank_minimizer
from fsd_jax.minimizer._objective import QuadraticForm, decoder_moments, one_moment


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class Trained:
    """Outcome of `train`.

    Implements: R17.

    Attributes:
        decoder: ``(D, d)``, the last iterate.
        losses: ``(steps + 1,)`` exact loss before each step and at the end, constants included.
        gaps: ``(steps + 1,)`` the same, minus the closed form's loss and relative to it; computed
            without the constants, so small gaps keep their digits.
        gradient_norm: Euclidean norm of the last exact gradient, in units of ``b c_1`` (R2).
        diverged_at: first step whose loss is not finite, -1 when there is none.
        status: `Status` flags; `Status.NOT_CONVERGED` when the gap exceeds ``sqrt(eps)``,
            `Status.NON_FINITE` when the run diverged.
    """

    decoder: Float[Array, "*batch D d"]
    losses: Float[Array, "*batch steps"]
    gaps: Float[Array, "*batch steps"]
    gradient_norm: Float[Array, "*batch"]
    diverged_at: Int[Array, "*batch"]
    status: Int[Array, "*batch"]

    def __repr__(self) -> str:
        *batch, ambient, d = self.decoder.shape
        facts = [f"D={ambient}", f"d={d}", f"steps={self.losses.shape[-1] - 1}"]
        if not batch and not _checks.is_traced(self.diverged_at) and int(self.diverged_at) >= 0:
            facts.append(f"diverged_at={int(self.diverged_at)}")
        return _checks.one_line(
            "Trained", batch, *facts, f"{self.decoder.dtype}", status=self.status
        )

    @property
    def gap(self) -> Float[Array, "*batch"]:
        """Final loss minus the closed form's, relative to the closed form's."""
        return self.gaps[..., -1]


def train(
    key: Key[Array, ""],
    moment: SecondMoment,
    *,
    latent_variance: ArrayLike,
    latent_dim: int,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    optimizer: str | optax.GradientTransformation = "lbfgs",
    steps: int = 500,
    learning_rate: ArrayLike | None = None,
    constraint: str = "rank",
    retraction: str = "polar",
    initial: ArrayLike | None = None,
    samples: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    batch_size: int = 16,
    process: Process = VP(),
) -> Trained:
    """Minimise the fine-tuning loss over the decoder by gradient descent.

    The independent route to the closed form: it knows the loss and its gradient, nothing of
    eigenvectors. Full batch on the exact loss by default; with `samples` each step draws a batch of
    them, their noise and their times, as a network is trained. `vmap` over keys or `initial` for
    restarts, over `learning_rate` to tune it, over `moment` for problems.

    Implements: R17.

    Args:
        key: for the random start and for batches.
        moment: second moment of the target.
        latent_variance: variance that the frozen ``f`` uses, scalar or ``(d,)``.
        latent_dim: ``d``.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default.
        optimizer: ``"lbfgs"`` (zoom line search), ``"adam"`` (cosine-decayed to a thousandth),
            ``"gd"`` (plain, constant rate), or an optax transformation with its own rate.
        steps: number of iterations.
        learning_rate: Adam's peak rate in units of the start's scale (default .03); the rate of
            gradient descent in units in which the curvature at the minimiser is 8, hence stable
            below .25 (default .1). L-BFGS ignores it.
        constraint: ``"rank"`` or ``"orthonormal"`` (the Stiefel manifold).
        retraction: ``"polar"`` or ``"qr"``, for the orthonormal constraint.
        initial: ``(D, d)`` start, for example the source's basis; None is random.
        samples: ``(n, D)`` target samples, less the mean if `moment` is centred, for stochastic
            training; not with ``"lbfgs"``.
        mask: ``(n,)`` booleans, the samples that count; None is all.
        batch_size: noised samples a step.
        process: forward process.

    Returns:
        The last iterate with its trajectory.

    Raises:
        ValueError: values out of range or unknown words.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> x = jax.random.normal(jax.random.key(0), (50, 8))
        >>> moment = fsd.SecondMoment.from_samples(x)
        >>> fsd.train(jax.random.key(1), moment, latent_variance=1.0, latent_dim=2, time=0.5)
        Trained(D=8, d=2, steps=500, float32, status=ok)
    """
    key = _checks.key("key", key)
    one_moment("moment", moment)
    _process.check(process, time=time, times=times)
    _check_options(optimizer, constraint, retraction)
    steps = _checks.dimension("steps", steps)
    dtype = moment.values.dtype
    d = _checks.dimension("latent_dim", latent_dim, high=moment.basis.shape[-2], top=" = D")
    t, w, bad = _checks.times_and_weights(time, times, weights, dtype)
    lam2, bad_variance = _checks.scalar_or_variances("latent_variance", latent_variance, d, dtype)
    rate, bad_rate = _rate(optimizer, learning_rate, dtype)
    first, later = jax.random.split(key)
    if samples is not None and isinstance(optimizer, str) and optimizer == "lbfgs":
        raise ValueError(
            "optimizer='lbfgs' needs exact gradients; leave out samples, or choose 'adam'"
        )
    batches = _batches(samples, mask, moment)
    batch_size = _checks.dimension("batch_size", batch_size)
    return _train(
        _start(first, initial, (moment.basis.shape[-2], d), dtype),
        later,
        moment,
        batches,
        lam2,
        t,
        w,
        rate,
        bad | bad_variance | bad_rate,
        process,
        optimizer=optimizer,
        steps=steps,
        constraint=constraint,
        retraction=retraction,
        batch_size=batch_size,
    )


def _check_options(optimizer: object, constraint: object, retraction: object) -> None:
    if not isinstance(optimizer, optax.GradientTransformation):
        _checks.choice("optimizer", optimizer, _descent.OPTIMIZERS)
    _checks.choice("constraint", constraint, _descent.CONSTRAINTS)
    _checks.choice("retraction", retraction, _descent.RETRACTIONS)


def _rate(
    optimizer: str | optax.GradientTransformation, learning_rate: ArrayLike | None, dtype: jnp.dtype
) -> tuple[_checks.Numbers, Array | np.int32]:
    if isinstance(optimizer, str):
        value = _descent.LEARNING_RATES[optimizer] if learning_rate is None else learning_rate
        return _checks.positive("learning_rate", value, dtype, ndim=(0,))
    if learning_rate is not None:
        raise ValueError(
            f"learning_rate goes with a named optimizer, got {learning_rate!r} with an optax "
            "transformation; give the transformation its own rate"
        )
    return _checks.positive("learning_rate", 1.0, dtype, ndim=(0,))


def _start(
    key: Key[Array, ""], initial: ArrayLike | None, shape: tuple[int, int], dtype: jnp.dtype
) -> Float[Array, "D d"]:
    if initial is None:
        return jax.random.normal(key, shape, dtype) / shape[0] ** 0.5
    start, _ = _checks.floating("initial", initial, ndim=(2,))
    if start.shape != shape:
        raise ValueError(f"initial must have shape {shape}, got {tuple(start.shape)}")
    _finite("initial", start)
    return start.astype(dtype)


def _finite(name: str, x: Array) -> None:
    """Refuse concrete numbers that are not finite; traced ones show in the outcome's status."""
    fine = jnp.all(jnp.isfinite(x))
    if not _checks.is_traced(fine) and not bool(fine):
        raise ValueError(f"{name} has NaN or infinite entries; remove them")


def _batches(
    samples: ArrayLike | None, mask: ArrayLike | None, moment: SecondMoment
) -> _descent.Batches | None:
    if samples is None:
        if mask is not None:
            raise ValueError("mask goes with samples; a moment has its own mask (from_samples)")
        return None
    x, _ = _checks.samples("samples", samples)
    n, ambient = x.shape
    if ambient != moment.basis.shape[-2]:
        raise ValueError(
            f"samples have D = {ambient} but the moment has D = {moment.basis.shape[-2]}; they "
            "must come from the same space"
        )
    counts = jnp.ones(n, bool) if mask is None else _checks.row_mask("mask", mask, n, rows=1)
    # Rows that do not count may hold anything.
    kept = jnp.where(counts[:, None], x, 0).astype(moment.values.dtype)
    _finite("samples", kept)
    return _descent.Batches(kept, counts)


@partial(jax.jit, static_argnames=("optimizer", "steps", "constraint", "retraction", "batch_size"))
def _train(
    start: Float[Array, "D d"],
    key: Key[Array, ""],
    moment: SecondMoment,
    batches: _descent.Batches | None,
    latent_variance: Float[Array, "*d"],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    rate: Float[Array, ""],
    bad: Int[Array, ""],
    process: Process,
    *,
    optimizer: str | optax.GradientTransformation,
    steps: int,
    constraint: str,
    retraction: str,
    batch_size: int,
) -> Trained:
    ambient, d = start.shape
    best = _closed_form(moment, latent_variance, d, times, weights, process, constraint)
    latent_variance = jnp.broadcast_to(latent_variance, d)
    objective = _descent.Objective(
        form=QuadraticForm.integrate(latent_variance, times, weights, process),
        moment=moment,
        latent_variance=latent_variance,
        times=times,
        weights=weights,
        process=process,
    )
    retract = _descent.retraction(constraint, retraction)

    def seen(key: Array, decoder: Array) -> Array:
        if batches is None:
            return objective.exact(decoder)
        return objective.noised(key, decoder, batches, batch_size)

    if optimizer == "lbfgs":
        method = _descent.lbfgs(objective.exact, retract)
    elif optimizer == "adam":
        schedule = optax.cosine_decay_schedule(1.0, steps, alpha=1e-3)
        method = _descent.first_order(optax.adam(schedule), rate / ambient**0.5, seen, retract)
    elif optimizer == "gd":
        method = _descent.first_order(optax.sgd(1.0), rate, seen, retract)
    else:
        method = _descent.first_order(optimizer, rate, seen, retract)

    def step(state: _descent.State, i: Array) -> tuple[_descent.State, Array]:
        value = objective.exact(state.free)
        return method.step(state, jax.random.fold_in(key, i)), value

    state, values = jax.lax.scan(step, method.start(start), jnp.arange(steps))
    outcome = _outcome(state.free, values, objective, _value(best, objective, constraint), retract)
    return replace(outcome, status=outcome.status | bad)


def _value(best: Minimizer, objective: _descent.Objective, constraint: str) -> Float[Array, ""]:
    """The closed form's loss without its constant.

    An orthonormal decoder has d columns even where the data determine fewer: those it cannot use
    cost what any completion in the data's null space costs.
    """
    B, M = decoder_moments(best.decoder, objective.moment)
    if constraint == "orthonormal":
        M = jnp.eye(M.shape[0], dtype=M.dtype)
    return objective.form.variable(B, M)


def _closed_form(
    moment: SecondMoment,
    latent_variance: Float[Array, "*d"],
    d: int,
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    process: Process,
    constraint: str,
) -> Minimizer:
    """What the run is measured against."""
    if constraint == "orthonormal":
        return orthonormal_minimizer(
            moment,
            latent_dim=d,
            latent_variance=latent_variance if latent_variance.ndim else None,
            throw=False,
        )
    return rank_minimizer(
        moment,
        latent_variance=latent_variance,
        latent_dim=d,
        times=times,
        weights=weights,
        process=process,
        throw=False,
    )


def _outcome(
    decoder: Float[Array, "D d"],
    values: Float[Array, " steps"],
    objective: _descent.Objective,
    target: Float[Array, ""],
    retract: Callable[[Array], Array],
) -> Trained:
    form, moment = objective.form, objective.moment
    final, gradient = jax.value_and_grad(lambda free: objective.exact(retract(free)))(decoder)
    values = jnp.append(values, final)
    constant = form.constant * moment.total
    gaps = form.scale * (values * objective.unit - target) / (constant + form.scale * target)
    lost = ~jnp.isfinite(values)
    status = (
        moment.status
        | _checks.flag(jnp.any(lost), Status.NON_FINITE)
        | _checks.flag(~(gaps[-1] <= _linalg.eps_of(gaps.dtype) ** 0.5), Status.NOT_CONVERGED)
    )
    return Trained(
        decoder=decoder,
        losses=constant + form.scale * objective.unit * values,
        gaps=gaps,
        gradient_norm=jnp.sqrt(jnp.sum(gradient**2)),
        diverged_at=jnp.where(jnp.any(lost), jnp.argmax(lost), -1).astype(jnp.int32),
        status=status,
    )
