"""Training by the denoising loss: noised batches, a validation split, the best parameters kept."""

import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _linalg
from fsd_jax.latent_net._relu import ReLUNet

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

    def check(self) -> "Recipe":
        """The same recipe in Python's own numbers.

        Raises:
            ValueError: naming the field that is out of range or of the wrong kind.
        """
        found: dict[str, Any] = {}
        for name in ("steps", "batch_size", "checks"):
            found[name] = _checks.dimension(name, getattr(self, name))
        _checks.choice("weighting", self.weighting, WEIGHTINGS)
        for name in ("delta", "T", "learning_rate", "weight_bound", "held_out", "average"):
            value = getattr(self, name)
            if name == "weight_bound" and value is None:
                continue
            zero = name in ("held_out", "average")
            number = _checks.positive(name, value, np.float64, ndim=(0,), zero=zero)[0]
            found[name] = float(number)
            if zero and not number < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value!r}")
        if found["checks"] > found["steps"]:
            raise ValueError(f"checks must be at most steps = {self.steps}, got {self.checks}")
        if not found["delta"] < found["T"]:
            raise ValueError(f"delta and T must satisfy 0 < delta < T, got {self.delta}, {self.T}")
        return replace(self, **found)


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

    Raises:
        ValueError: shapes that do not match, which broadcasting would hide.
    """
    _same_shapes(decoder, net, x, t, xi)
    signal = net.process.signal(t)[:, None]
    noise = net.process.noise_variance(t)[:, None]
    z = _linalg.matmul(x, decoder)
    f = net(signal * z + jnp.sqrt(noise) * xi, t)
    inside = jnp.sum((f - signal * z) ** 2, axis=1)
    outside = jnp.sum(x**2, axis=1) - jnp.sum(z**2, axis=1)
    return (inside + signal[:, 0] ** 2 * outside) / noise[:, 0]


def _same_shapes(decoder: Array, net: ReLUNet, x: Array, t: Array, xi: Array) -> None:
    _checks.instance("net", net, ReLUNet)
    n, ambient = x.shape
    d = net.layers[-1][0].shape[-1]
    wanted = {"decoder": (ambient, d), "t": (n,), "xi": (n, d)}
    given = {"decoder": decoder, "t": t, "xi": xi}
    for name, shape in wanted.items():
        if jnp.shape(given[name]) != shape:
            raise ValueError(
                f"{name} must have shape {shape} for x of shape {(n, ambient)} and a network in "
                f"{d} dimensions, got {jnp.shape(given[name])}"
            )


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
        now=start,
        mean=start,
        memory=solver.init(start),
        best=start,
        least=loss(start, held_batch),
        best_step=jnp.int32(0),
        lost=jnp.int32(-1),
    )
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
    key: Key[Array, ""],
    low: ArrayLike,
    high: Array,
    *,
    size: int,
    rows: Rows,
    latent_dim: int,
    recipe: Recipe,
) -> Batch:
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


def check_memory(d: int, widths: tuple[int, ...], recipe: Recipe, *, members: int) -> None:
    """Refuse what cannot fit, before anything is allocated."""
    sizes = [d + 3, *widths, d]
    weights = sum((a + 1) * b for a, b in itertools.pairwise(sizes))
    # Parameters, best, mean, gradient and Adam's two moments; activations and their gradients.
    numbers = 6 * weights + 2 * max(recipe.batch_size, VALIDATION) * sum(sizes)
    needed = members * numbers * jnp.zeros((), float).dtype.itemsize
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        raise ValueError(
            f"widths = {widths} with latent_dim = {d} need about {needed / 2**30:.1f} GiB and this "
            f"machine has {available / 2**30:.1f}; choose smaller widths or a smaller batch_size"
        )
