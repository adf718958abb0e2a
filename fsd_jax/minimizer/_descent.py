"""How a rival descends: what it sees of the loss, how it stays feasible, which step it takes.

Losses here are divided by a unit, ``b c_1`` of R2, so that the curvature along the leading
direction is 8 at the minimiser, whatever the times and the scale of the data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Key

from fsd_jax import _linalg
from fsd_jax._moments import SecondMoment
from fsd_jax._process import Process
from fsd_jax.minimizer._objective import (
    QuadraticForm,
    decoder_moments,
    relative_gains,
    relative_weights,
)

CONSTRAINTS = ("rank", "orthonormal")
RETRACTIONS = ("polar", "qr")
OPTIMIZERS = ("lbfgs", "adam", "gd")
LEARNING_RATES = {"lbfgs": 1.0, "adam": 0.03, "gd": 0.1}


def retraction(constraint: str, name: str) -> Callable[[Float[Array, "D d"]], Float[Array, "D d"]]:
    """The map from a free matrix to a decoder: the identity, or onto the Stiefel manifold.

    Differentiated at an orthonormal matrix, the polar factor projects onto the tangent space. So a
    step on the pulled-back loss, retracted, is a Riemannian step.
    """
    if constraint == "rank":
        return lambda free: free
    return _linalg.polar_factor if name == "polar" else _linalg.orthonormal_columns


class Batches(NamedTuple):
    """Target samples to draw noised batches from; rows outside `mask` are never drawn."""

    samples: Float[Array, "n D"]
    mask: Bool[Array, " n"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The fine-tuning loss without its constant, exactly and on noised samples."""

    form: QuadraticForm
    moment: SecondMoment
    latent_variance: Float[Array, " d"]
    times: Float[Array, " K"]
    weights: Float[Array, " K"]
    process: Process

    @property
    def unit(self) -> Float[Array, ""]:
        """What the losses are divided by."""
        tiny = jnp.finfo(self.moment.values.dtype).tiny
        return self.form.b[0] * jnp.maximum(self.moment.values[0], tiny)

    def exact(self, decoder: Float[Array, "D d"]) -> Float[Array, ""]:
        """The expected loss."""
        return self.form.variable(*decoder_moments(decoder, self.moment)) / self.unit

    def noised(
        self, key: Key[Array, ""], decoder: Float[Array, "D d"], batches: Batches, size: int
    ) -> Float[Array, ""]:
        """An unbiased estimate of the loss from `size` noised samples, as networks are trained.

        Each has its own time, drawn in proportion to the time's share of the gradient at small
        decoders: drawing times by their weights alone would let ``1/sigma_t^4`` ruin the variance.
        """
        pick, clock, noise = jax.random.split(key, 3)
        samples, mask = batches
        counts = mask.astype(samples.dtype)
        rows = jax.random.choice(pick, samples.shape[0], (size,), p=counts / jnp.sum(counts))
        weight, _ = relative_weights(self.times, self.weights, self.process)
        gains = relative_gains(self.latent_variance, self.times, self.process)
        share = weight * jnp.mean(gains, axis=1)
        k = jax.random.choice(clock, share.shape[0], (size,), p=share / jnp.sum(share))
        signal = self.process.signal(self.times[k])[:, None]
        spread = jnp.sqrt(self.process.noise_variance(self.times[k]))[:, None]
        x = samples[rows]
        noised = signal * x + spread * jax.random.normal(noise, x.shape, x.dtype)
        scaled = gains[k] * _linalg.matmul(noised, decoder)
        energy = jnp.sum(
            scaled * _linalg.matmul(scaled, _linalg.matmul(decoder.T, decoder)), axis=1
        )
        overlap = jnp.sum(scaled * _linalg.matmul(x / signal, decoder), axis=1)
        importance = jnp.sum(share) / jnp.mean(gains[k], axis=1)
        return jnp.mean(importance * (energy - 2 * overlap)) / self.unit


class State(NamedTuple):
    """What a step carries on."""

    free: Float[Array, "D d"]
    memory: Any


class Method(NamedTuple):
    """`start` makes the first state, `step` goes from ``(state, key)`` to the next."""

    start: Callable[[Float[Array, "D d"]], State]
    step: Callable[[State, Key[Array, ""]], State]


def first_order(
    solver: optax.GradientTransformation,
    rate: Float[Array, ""],
    loss: Callable[[Key[Array, ""], Float[Array, "D d"]], Float[Array, ""]],
    retract: Callable[[Float[Array, "D d"]], Float[Array, "D d"]],
) -> Method:
    """Any optax transformation, its updates times `rate`, on a loss that may draw from a key."""

    def step(state: State, key: Key[Array, ""]) -> State:
        gradient = jax.grad(lambda free: loss(key, retract(free)))(state.free)
        # Optax itself mixes integers and floats (Adam's bias correction), whatever the user set.
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = solver.update(gradient, state.memory, state.free)
        return State(retract(state.free + rate * jnp.asarray(updates)), memory)

    return Method(lambda free: State(retract(free), solver.init(free)), step)


def lbfgs(
    loss: Callable[[Float[Array, "D d"]], Float[Array, ""]],
    retract: Callable[[Float[Array, "D d"]], Float[Array, "D d"]],
) -> Method:
    """L-BFGS with zoom line search on the exact loss, retracted after every step."""
    solver = optax.lbfgs(memory_size=20)

    def pulled_back(free: Array) -> Array:
        return loss(retract(free))

    def step(state: State, _: Key[Array, ""]) -> State:
        value, gradient = jax.value_and_grad(pulled_back)(state.free)
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = solver.update(
                gradient, state.memory, state.free, value=value, grad=gradient, value_fn=pulled_back
            )
        # A line search that finds no descent returns NaN at rounding level: stay put.
        updates = jnp.where(jnp.all(jnp.isfinite(updates)), updates, 0)
        return State(retract(state.free + updates), memory)

    return Method(lambda free: State(retract(free), solver.init(free)), step)
