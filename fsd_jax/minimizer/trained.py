"""The gradient-trained rival: optax on the same exact loss, inside one jitted scan."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _linalg
from fsd_jax._checks import Status
from fsd_jax.minimizer.closed_form import orthonormal_minimizer, rank_minimizer
from fsd_jax.minimizer.objective import QuadraticForm, decoder_moments
from fsd_jax.moments import SecondMoment
from fsd_jax.process import VP


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class Trained:
    """Outcome of `train`.

    Attributes:
        decoder: ``(D, d)``, the last iterate.
        losses: ``(steps + 1,)`` loss before each step and at the end, constants included.
        gap: final loss minus the closed form's, relative to the closed form's.
        gradient_norm: Euclidean norm of the last gradient.
        status: `Status` flags; `Status.NOT_CONVERGED` when the gap exceeds ``sqrt(eps)``,
            `Status.NON_FINITE` when the run diverged.
    """

    decoder: Float[Array, "*batch D d"]
    losses: Float[Array, "*batch steps"]
    gap: Float[Array, "*batch"]
    gradient_norm: Float[Array, "*batch"]
    status: Int[Array, "*batch"]

    def __repr__(self) -> str:
        *batch, ambient, d = self.decoder.shape
        steps = f"steps={self.losses.shape[-1] - 1}"
        facts = (f"D={ambient}", f"d={d}", steps, f"{self.decoder.dtype}")
        return _checks.one_line("Trained", batch, *facts, status=self.status)


def train(
    key: Key[Array, ""],
    moment: SecondMoment,
    *,
    latent_variance: ArrayLike,
    latent_dim: int,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    optimizer: str = "lbfgs",
    steps: int = 500,
    learning_rate: float = 0.03,
    constraint: str = "rank",
    initial: ArrayLike | None = None,
    process: VP = VP(),
) -> Trained:
    """Minimise the expected loss over the decoder by gradient descent from a random start.

    The independent route to the closed form: it knows the loss and its gradient, nothing of
    eigenvectors. Full batch, cold start; vmap over `key` for restarts. With
    ``constraint="orthonormal"`` the decoder is the orthonormal factor of a free matrix.

    Args:
        key: for the random start.
        moment: second moment of the target.
        latent_variance: variance that the frozen ``f`` uses, scalar or ``(d,)``.
        latent_dim: ``d``.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default.
        optimizer: ``"lbfgs"`` (zoom line search) or ``"adam"`` (cosine-decayed).
        steps: number of iterations.
        learning_rate: Adam's peak rate, in units of the start's scale; L-BFGS ignores it.
        constraint: ``"rank"`` or ``"orthonormal"``.
        initial: ``(D, d)`` start, to continue a run or to start warm; None is random.
        process: forward process.

    Returns:
        The last iterate with its trajectory.

    Raises:
        ValueError: values out of range or unknown words.
    """
    _checks.choice("optimizer", optimizer, ("lbfgs", "adam"))
    _checks.choice("constraint", constraint, ("rank", "orthonormal"))
    steps = _checks.dimension("steps", steps)
    dtype = moment.values.dtype
    d = _checks.dimension("latent_dim", latent_dim, high=moment.basis.shape[-2], top=" = D")
    t, w, _ = _checks.times_and_weights(time, times, weights, dtype)
    lam2, _ = _checks.variances("latent_variance", latent_variance, d, dtype)
    rate, _ = _checks.positive("learning_rate", learning_rate, dtype, ndim=(0,))
    shape = (moment.basis.shape[-2], d)
    if initial is None:
        start = jax.random.normal(key, shape, dtype) / shape[0] ** 0.5
    else:
        start, _ = _checks.floating("initial", initial, ndim=(2,))
        if start.shape != shape:
            raise ValueError(f"initial must have shape {shape}, got {tuple(start.shape)}")
        start = start.astype(dtype)
    return _train(
        start,
        moment,
        lam2,
        t,
        w,
        rate,
        process,
        optimizer=optimizer,
        steps=steps,
        constraint=constraint,
    )


@partial(jax.jit, static_argnames=("optimizer", "steps", "constraint"))
def _train(
    start: Float[Array, "D d"],
    moment: SecondMoment,
    latent_variance: Float[Array, " d"],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    rate: Float[Array, ""],
    process: VP,
    *,
    optimizer: str,
    steps: int,
    constraint: str,
) -> Trained:
    d = latent_variance.shape[0]
    form = QuadraticForm.integrate(latent_variance, times, weights, process)
    best = (
        rank_minimizer(
            moment,
            latent_variance=latent_variance,
            latent_dim=d,
            times=times,
            weights=weights,
            process=process,
            throw=False,
        )
        if constraint == "rank"
        else orthonormal_minimizer(
            moment, latent_dim=d, latent_variance=latent_variance, throw=False
        )
    )
    constant = form.constant * moment.total
    # Unit-free loss: optimisers see gradients of order one whatever the times and the data's scale.
    unit = form.b[0] * jnp.maximum(moment.values[0], jnp.finfo(rate.dtype).tiny)

    def decoder_of(free: Array) -> Array:
        return free if constraint == "rank" else _linalg.orthonormal_columns(free)

    def loss(free: Array) -> Array:
        return form.variable(*decoder_moments(decoder_of(free), moment)) / unit

    solver: Any
    if optimizer == "lbfgs":
        solver = optax.lbfgs(memory_size=20)
    else:
        solver = optax.adam(optax.cosine_decay_schedule(1.0, steps, alpha=1e-3))
    value_and_grad = jax.value_and_grad(loss)
    adam_scale = rate / start.shape[0] ** 0.5

    def step(carry: tuple[Array, Any], _: None) -> tuple[tuple[Array, Any], Array]:
        free, state = carry
        value, gradient = value_and_grad(free)
        if optimizer == "lbfgs":
            updates, state = solver.update(
                gradient, state, free, value=value, grad=gradient, value_fn=loss
            )
        else:
            updates, state = solver.update(gradient, state, free)
            updates = updates * adam_scale
        # A line search that finds no descent returns NaN at rounding level: stay put.
        updates = jnp.where(jnp.all(jnp.isfinite(updates)), updates, 0)
        return (free + updates, state), value

    (free, _), values = jax.lax.scan(step, (start, solver.init(start)), length=steps)
    final, gradient = value_and_grad(free)
    target = form.variable(*decoder_moments(best.decoder, moment))
    gap = form.scale * (final * unit - target) / (constant + form.scale * target)
    status = (
        moment.status
        | _checks.flag(~jnp.isfinite(final), Status.NON_FINITE)
        | _checks.flag(~(gap <= _linalg.eps_of(gap.dtype) ** 0.5), Status.NOT_CONVERGED)
    )
    return Trained(
        decoder=decoder_of(free),
        losses=constant + form.scale * unit * jnp.append(values, final),
        gap=gap,
        gradient_norm=jnp.sqrt(jnp.sum(gradient**2)),
        status=status,
    )
