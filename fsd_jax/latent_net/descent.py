"""Training by the denoising loss: noised batches, a validation split, the best parameters kept."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _linalg
from fsd_jax.latent_net.relu import ReLUNet

WEIGHTINGS = ("noise", "paper")
VALIDATION = 1024
"""Noised draws for one validation loss, always the same ones, so that its changes are real."""
LEAST_HELD_OUT = 5
"""With fewer samples than this none is held out, and the training loss chooses."""

SCREENING = 512
"""Noised draws on which many decoders are compared."""

Batch = tuple[Float[Array, "n D"], Float[Array, " n"], Float[Array, "n d"]]
Parameters = dict[str, Any]
Assemble = Callable[[Parameters], tuple[Float[Array, "D d"], ReLUNet]]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train; hashable, so that equal recipes share a compilation.

    Attributes:
        steps: optimiser steps.
        batch_size: noised samples of each.
        learning_rate: peak of a cosine schedule with a short warm-up, for Adam.
        checks: how often the validation loss is taken.
        weighting: ``"noise"``: times uniform in ``log t``, loss weighted by ``sigma_t^2``, as
            predicting the noise does. ``"paper"``: times uniform on ``[delta, T]``, no weight; the
            loss is then ruled by the smallest times.
        delta: early stopping time.
        T: final time.
        held_out: share of the samples that only choose when to stop.
        average: decay of an exponential moving average of the parameters, in ``[0, 1)``; 0 is none.
        weight_bound: ``kappa``: the network's weights are clipped to it; None is no bound.
    """

    steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 3e-3
    checks: int = 20
    weighting: str = "noise"
    delta: float = 1e-3
    T: float = 10.0
    held_out: float = 0.2
    average: float = 0.0
    weight_bound: float | None = None

    def check(self) -> None:
        """Refuse values out of range.

        Raises:
            ValueError: naming the field.
        """
        for name in ("steps", "batch_size", "checks"):
            _checks.dimension(name, getattr(self, name))
        _checks.choice("weighting", self.weighting, WEIGHTINGS)
        if self.checks > self.steps:
            raise ValueError(f"checks must be at most steps = {self.steps}, got {self.checks}")
        if not 0 < self.delta < self.T < math.inf:
            raise ValueError(f"delta and T must satisfy 0 < delta < T, got {self.delta}, {self.T}")
        for name in ("learning_rate", "weight_bound"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value!r}")
        for name in ("held_out", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)!r}")


class Rows(NamedTuple):
    """Samples ``(n, D)``, the first `real` ones being data and the rest padding."""

    samples: Float[Array, "n D"]
    real: Int[Array, ""]


class Descent(NamedTuple):
    """What training gives.

    `parameters` are those of the least validation loss, `least`, met at `best_step`; `training`
    and `validation` are the losses at each check; `diverged_at` is the first step whose loss was
    not finite, -1 when there was none.
    """

    parameters: Parameters
    training: Float[Array, " checks"]
    validation: Float[Array, " checks"]
    least: Float[Array, ""]
    best_step: Int[Array, ""]
    diverged_at: Int[Array, ""]


def denoising_losses(
    decoder: Float[Array, "D d"],
    net: ReLUNet,
    x: Float[Array, "n D"],
    t: Float[Array, " n"],
    xi: Float[Array, "n d"],
) -> Float[Array, " n"]:
    """``sigma_t^2`` times Section 3.2's loss, for an orthonormal decoder.

    Then ``|V f - m x|^2 = |f - m z|^2 + m^2 (|x|^2 - |z|^2)``, ``z = V'x``, so that only the noise
    ``xi = V' eps`` within the subspace enters: ``d`` random numbers instead of ``D``, and what is
    outside of the subspace without any.
    """
    signal = net.process.signal(t)[:, None]
    noise = net.process.noise_variance(t)[:, None]
    z = _linalg.matmul(x, decoder)
    f = net(signal * z + jnp.sqrt(noise) * xi, t)
    inside = jnp.sum((f - signal * z) ** 2, axis=1)
    outside = jnp.sum(x**2, axis=1) - jnp.sum(z**2, axis=1)
    return (inside + signal[:, 0] ** 2 * outside) / noise[:, 0]


def descend(
    key: Key[Array, ""], start: Parameters, assemble: Assemble, rows: Rows, recipe: Recipe
) -> Descent:
    """Train what `start` holds; all else is frozen by not being among the parameters.

    Args:
        key: random key.
        start: ``"decoder"``, kept orthonormal, or ``"layers"``, or both.
        assemble: the decoder and network that parameters stand for.
        rows: samples.
        recipe: how.

    Returns:
        The best parameters and the losses on the way.
    """
    solver = _solver(start, recipe)
    held = jnp.where(rows.real >= LEAST_HELD_OUT, jnp.floor(recipe.held_out * rows.real), 0).astype(
        jnp.int32
    )
    draw = partial(_draw, rows=rows, latent_dim=assemble(start)[0].shape[1], recipe=recipe)

    def loss(parameters: Parameters, batch: Batch) -> Array:
        return _mean_loss(*assemble(parameters), batch, recipe)

    # Without held-out samples the training ones choose.
    last = jnp.where(held > 0, held, rows.real)
    held_batch = draw(jax.random.fold_in(key, 0), 0, last, size=VALIDATION)

    def step(state: "_State", number: Array) -> tuple["_State", Array]:
        fresh = draw(jax.random.fold_in(key, number + 1), held, rows.real, size=recipe.batch_size)
        value, gradient = jax.value_and_grad(loss)(state.now, fresh)
        updates, memory = solver.update(gradient, state.memory, state.now)
        now = _feasible(optax.apply_updates(state.now, updates), recipe)
        mean = optax.incremental_update(now, state.mean, 1 - recipe.average)
        lost = jnp.where((state.lost < 0) & ~jnp.isfinite(value), number, state.lost)
        return state._replace(now=now, mean=mean, memory=memory, lost=lost), value

    def check(state: "_State", numbers: Array) -> tuple["_State", tuple[Array, Array]]:
        state, values = jax.lax.scan(step, state, numbers)
        candidate = _feasible(state.mean, recipe) if recipe.average else state.now
        value = loss(candidate, held_batch)
        better = value < state.least
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), candidate, state.best)
        return state._replace(
            best=best,
            least=jnp.where(better, value, state.least),
            best_step=jnp.where(better, numbers[-1] + 1, state.best_step),
        ), (jnp.mean(values), value)

    first = _State(
        now=start, mean=start, memory=solver.init(start), best=start,
        least=loss(start, held_batch), best_step=jnp.int32(0), lost=jnp.int32(-1),
    )  # fmt: skip
    numbers = jnp.arange(_rounded(recipe), dtype=jnp.int32).reshape(recipe.checks, -1)
    end, (training, validation) = jax.lax.scan(check, first, numbers)
    return Descent(end.best, training, validation, end.least, end.best_step, end.lost)


def screening_losses(
    key: Key[Array, ""],
    decoders: Float[Array, "candidates D d"],
    net: ReLUNet,
    rows: Rows,
    recipe: Recipe,
) -> Float[Array, " candidates"]:
    """The loss of each decoder on the same noised draws of all samples."""
    batch = _draw(
        key, 0, rows.real, size=SCREENING, rows=rows, latent_dim=decoders.shape[2], recipe=recipe
    )
    return jax.lax.map(lambda decoder: _mean_loss(decoder, net, batch, recipe), decoders)


def _draw(
    key: Key[Array, ""], low: ArrayLike, high: Array, *, size: int, rows: Rows, latent_dim: int,
    recipe: Recipe,
) -> Batch:  # fmt: skip
    """Rows with numbers in ``[low, high)``, each with a time and with noise."""
    pick, clock, noise = jax.random.split(key, 3)
    x = rows.samples[jax.random.randint(pick, (size,), low, high)]
    xi = jax.random.normal(noise, (size, latent_dim), x.dtype)
    return x, _times(clock, size, recipe, x.dtype), xi


def _mean_loss(
    decoder: Float[Array, "D d"], net: ReLUNet, batch: Batch, recipe: Recipe
) -> Float[Array, ""]:
    losses = denoising_losses(decoder, net, *batch)
    if recipe.weighting == "paper":
        losses = losses / net.process.noise_variance(batch[1])
    return jnp.mean(losses)


class _State(NamedTuple):
    now: Parameters
    mean: Parameters
    memory: Any
    best: Parameters
    least: Float[Array, ""]
    best_step: Int[Array, ""]
    lost: Int[Array, ""]


def _rounded(recipe: Recipe) -> int:
    """Steps, rounded up to equally many between checks."""
    return recipe.checks * -(-recipe.steps // recipe.checks)


def _solver(start: Parameters, recipe: Recipe) -> optax.GradientTransformation:
    """Adam for the layers; for the decoder one second moment for the whole matrix.

    The decoder's gradient lies in the span of the samples. Scaling each entry by itself, as Adam
    does, would push the decoder out of that span, where the loss grows like ``1/sigma_t^2``.
    """
    steps = _rounded(recipe)
    rate = optax.warmup_cosine_decay_schedule(
        0.0, recipe.learning_rate, max(steps // 50, 1), steps + 1, 0.01 * recipe.learning_rate
    )
    whole = optax.chain(
        optax.scale_by_novograd(b1=0.9, b2=0.999), optax.scale_by_learning_rate(rate)
    )
    rules = {"decoder": whole, "layers": optax.adam(rate)}
    return optax.multi_transform(
        {name: rules[name] for name in start}, {name: name for name in start}
    )


def _feasible(parameters: Parameters, recipe: Recipe) -> Parameters:
    """Back to orthonormal columns and bounded weights."""
    feasible = dict(parameters)
    if "decoder" in feasible:
        feasible["decoder"] = _linalg.polar_factor(feasible["decoder"])
    bound = recipe.weight_bound
    if "layers" in feasible and bound is not None:
        feasible["layers"] = jax.tree.map(lambda w: jnp.clip(w, -bound, bound), feasible["layers"])
    return feasible


def _times(key: Key[Array, ""], size: int, recipe: Recipe, dtype: Any) -> Float[Array, " size"]:
    share = jax.random.uniform(key, (size,), dtype)
    if recipe.weighting == "paper":
        return recipe.delta + (recipe.T - recipe.delta) * share
    return recipe.delta * jnp.exp(math.log(recipe.T / recipe.delta) * share)
