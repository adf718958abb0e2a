"""A small autoencoder of the source: an embedding in which the linear theory may fit better."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg
from fsd_jax._rows import column_mean, finite, varying

__all__ = ["Autoencoder", "train_autoencoder"]

Weights = dict[str, Array]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class Autoencoder:
    """``encode: relu((x - mean) E + b) F``, scaled, and ``decode: relu(z G + c) H + e``.

    Appendix E sees the outer blocks of a U-Net as an autoencoder and the next one as the linear
    ``A``; this is the outer part, trained on the source alone. Embeddings of the source have
    zero mean and mean variance one.

    Attributes:
        weights: matrices and offsets.
        mean: ``(D,)`` mean of the source.
        shift: ``(k,)`` mean of its raw embeddings.
        scale: their root mean variance.
        losses: ``(steps,)`` squared error while training.
    """

    weights: Weights
    mean: Float[Array, " D"]
    shift: Float[Array, " k"]
    scale: Float[Array, ""]
    losses: Float[Array, " steps"]

    def __repr__(self) -> str:
        ambient, k = self.mean.shape[0], self.shift.shape[0]
        return f"Autoencoder(D={ambient}, k={k}, {self.mean.dtype})"

    def encode(self, x: ArrayLike) -> Float[Array, "n k"]:
        """Embeddings of ``(n, ...)`` samples."""
        flat = _of_width("x", x, self.mean.shape[0])
        return (_encode(self.weights, flat - self.mean) - self.shift) / self.scale

    def decode(self, z: ArrayLike) -> Float[Array, "n D"]:
        """Samples behind ``(n, k)`` embeddings, flattened."""
        flat = _of_width("z", z, self.shift.shape[0])
        return _decode(self.weights, flat * self.scale + self.shift)


def train_autoencoder(
    key: Key[Array, ""],
    x_source: ArrayLike,
    *,
    dim: int,
    hidden: int = 256,
    steps: int = 2000,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
) -> Autoencoder:
    """Train on the source by Adam with a cosine schedule; seconds to minutes on a CPU.

    Args:
        key: random key.
        x_source: ``(n_s, ...)`` source samples.
        dim: ``k``, size of the embedding.
        hidden: width of the hidden layers.
        steps: optimiser steps.
        batch_size: samples a step.
        learning_rate: at the start.

    Raises:
        ValueError: bad samples or sizes.

    Example:
        >>> import jax
        >>> from fsd_jax.image.autoencoder import train_autoencoder
        >>> x = jax.random.uniform(jax.random.key(0), (50, 4, 4))
        >>> train_autoencoder(jax.random.key(1), x, dim=3, steps=5)
        Autoencoder(D=16, k=3, float32)
    """
    key = _checks.key("key", key)
    x = finite("x_source", _checks.samples("x_source", x_source, rows=2, images=True)[0])
    k, h = _checks.dimension("dim", dim), _checks.dimension("hidden", hidden)
    steps = _checks.dimension("steps", steps)
    batch_size = _checks.dimension("batch_size", batch_size)
    rate, _ = _checks.positive("learning_rate", learning_rate, x.dtype, ndim=(0,))
    mean = column_mean(varying("x_source", x))
    start = _start(jax.random.fold_in(key, 0), x.shape[1], k, h, mean)
    weights, losses = _train(
        jax.random.fold_in(key, 1), start, x, mean, rate, steps=steps, batch_size=batch_size
    )
    raw = _encode(weights, x - mean)
    shift = column_mean(raw)
    scale = jnp.sqrt(jnp.mean((raw - shift) ** 2))
    return Autoencoder(weights=weights, mean=mean, shift=shift, scale=scale, losses=losses)


def _of_width(name: str, value: ArrayLike, width: int) -> Float[Array, "n w"]:
    flat, _ = _checks.samples(name, value, images=True)
    if flat.shape[1] != width:
        raise ValueError(f"{name} has {flat.shape[1]} entries a sample, and {width} are wanted")
    return flat


def _start(
    key: Key[Array, ""], ambient: int, k: int, hidden: int, mean: Float[Array, " D"]
) -> Weights:
    sizes = {"E": (ambient, hidden), "F": (hidden, k), "G": (k, hidden), "H": (hidden, ambient)}
    keys = jax.random.split(key, len(sizes))
    weights: Weights = {
        name: jax.random.normal(key, shape, mean.dtype) / np.sqrt(shape[0])
        for key, (name, shape) in zip(keys, sizes.items(), strict=True)
    }
    zero = jnp.zeros(hidden, mean.dtype)
    return weights | {"b": zero, "c": zero, "e": mean}


def _encode(weights: Weights, y: Float[Array, "n D"]) -> Float[Array, "n k"]:
    inner = jax.nn.relu(_linalg.matmul(y, weights["E"]) + weights["b"])
    return _linalg.matmul(inner, weights["F"])


def _decode(weights: Weights, z: Float[Array, "n k"]) -> Float[Array, "n D"]:
    inner = jax.nn.relu(_linalg.matmul(z, weights["G"]) + weights["c"])
    return _linalg.matmul(inner, weights["H"]) + weights["e"]


@partial(jax.jit, static_argnames=("steps", "batch_size"))
def _train(
    key: Key[Array, ""],
    weights: Weights,
    x: Float[Array, "n D"],
    mean: Float[Array, " D"],
    learning_rate: Float[Array, ""],
    *,
    steps: int,
    batch_size: int,
) -> tuple[Weights, Float[Array, " steps"]]:
    fade = optax.cosine_decay_schedule(1.0, steps)
    optimizer = optax.chain(optax.scale_by_adam(), optax.scale_by_schedule(fade))

    def loss(weights: Weights, batch: Float[Array, "b D"]) -> Array:
        again = _decode(weights, _encode(weights, batch - mean))
        return jnp.mean(jnp.sum((again - batch) ** 2, axis=1))

    def step(
        carry: tuple[Weights, optax.OptState], number: Array
    ) -> tuple[tuple[Weights, optax.OptState], Array]:
        weights, state = carry
        rows = jax.random.randint(jax.random.fold_in(key, number), (batch_size,), 0, x.shape[0])
        value, slope = jax.value_and_grad(loss)(weights, x[rows])
        move, state = optimizer.update(slope, state)
        weights = jax.tree.map(lambda w, m: w - learning_rate * m, weights, move)
        return (weights, state), value

    (weights, _), losses = jax.lax.scan(step, (weights, optimizer.init(weights)), jnp.arange(steps))
    return weights, losses
