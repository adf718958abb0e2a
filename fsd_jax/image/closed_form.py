"""Section 6 in closed form: what tuning everything, and encoder and decoder only, would end with.

Tuning everything has an exact optimum, the score of the target images themselves. Tuning encoder
and decoder only keeps the source's latents, and has ours.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg
from fsd_jax._process import Process, geometric_grid
from fsd_jax._rows import finite, samples_of
from fsd_jax._scores import process_of
from fsd_jax.fewshot.model import FewShotModel
from fsd_jax.fewshot.source import PretrainedModel
from fsd_jax.image.metrics import denoising_losses
from fsd_jax.sampler import sample
from fsd_jax.score._empirical import DecodedScore, EmpiricalScore
from fsd_jax.score._linear import LinearScore

__all__ = [
    "generate",
    "heldout_losses",
    "with_source_latents",
]


def with_source_latents(
    score: LinearScore, pretrained: PretrainedModel, x_source: ArrayLike
) -> DecodedScore:
    """The same decoder with the source's own latents in place of a Gaussian.

    The frozen ``f`` is then the exact score of the source's latents, a mixture of deltas. Signs
    matter to such an ``f``, and principal components have none: each column is turned towards
    the source's.

    Args:
        score: with an orthonormal decoder.
        pretrained: the source's model.
        x_source: ``(n_s, ...)`` source samples.
    """
    _checks.instance("score", score, LinearScore, "of an adapted model take its linear")
    _checks.instance("pretrained", pretrained, PretrainedModel, "pass what pretrain returns")
    x = finite("x_source", _checks.samples("x_source", x_source, images=True)[0])
    if score.basis.shape != pretrained.basis.shape or x.shape[1] != score.basis.shape[0]:
        raise ValueError(
            f"score has a basis of shape {score.basis.shape}, pretrained one of "
            f"{pretrained.basis.shape} and x_source {x.shape[1]} entries a sample; all must be of "
            "one space and one latent_dim"
        )
    return _with_latents(score, pretrained, x)


@jax.jit
def _with_latents(
    score: LinearScore, pretrained: PretrainedModel, x: Float[Array, "n D"]
) -> DecodedScore:
    z = _linalg.matmul(x - pretrained.mean, pretrained.basis)
    overlap = jnp.sum(score.basis * pretrained.basis, axis=0)
    return DecodedScore(
        decoder=score.basis * jnp.where(overlap < 0, -1, 1),
        latent=EmpiricalScore.from_samples(z, process=score.process),
        residual_variance=score.residual_variance,
        mean=score.mean,
        process=score.process,
    )


def heldout_losses(
    key: Key[Array, ""],
    score: Any,
    x: ArrayLike,
    *,
    times: ArrayLike,
    process: Process | None = None,
) -> np.ndarray:
    """Loss of each held-out sample at each time: exact for linear scores, else with drawn noise.

    Args:
        key: random key; the same one gives every score the same noise.
        score: a score.
        x: ``(n, ...)`` held-out samples.
        times: ``(K,)`` times.
        process: forward process; None takes the score's own if it has one, else ``VP()``.

    Returns:
        ``(n, K)`` losses.

    Raises:
        ValueError: bad arguments, or another process than the score's.
    """
    if not isinstance(score, LinearScore):
        return denoising_losses(key, score, x, times=times, process=process)
    _checks.key("key", key)
    process_of(score, process).admit(times=times)
    flat = samples_of("x", x)
    if flat.shape[1] != score.mean.shape[0]:
        raise ValueError(f"x has {flat.shape[1]} entries a sample, the score {score.mean.shape[0]}")
    t, _, _ = _checks.times_and_weights(None, times, None, flat.dtype)
    return np.asarray(_linear_losses(score, flat, jnp.asarray(t)))


@jax.jit
def _linear_losses(
    score: LinearScore, x: Float[Array, "n D"], times: Float[Array, " K"]
) -> Float[Array, "n K"]:
    one = jnp.ones(1, x.dtype)
    return jax.vmap(lambda t: score.losses(x, t[None], one), out_axes=1)(times)


def generate(
    key: Key[Array, ""],
    score: Any,
    n: int,
    *,
    shape: int | tuple[int, ...],
    steps: int = 100,
    delta: float = 1e-3,
    T: float = 10.0,
    loop: str = "scan",
) -> np.ndarray:
    """Samples of the reverse process, denoised at its last time.

    The same key gives every score the same noise, so pictures can be compared one by one.

    Args:
        key: random key.
        score: an adapted model, or a score with a ``(D,)`` mean, such as `LinearScore`,
            `EmpiricalScore`, `DecodedScore` or a U-Net's.
        n: number of samples.
        shape: of one sample.
        steps: exponential-integrator steps, of lengths proportional to ``t``.
        delta: last time.
        T: first time.
        loop: as in `fsd_jax.sampler.sample`; ``"host"`` for networks on a CPU.

    Returns:
        ``(n, *shape)``.

    Raises:
        ValueError: bad numbers, or a shape that is not the score's.
    """
    key, n = _checks.key("key", key), _checks.dimension("n", n)
    sides = shape if isinstance(shape, (tuple, list)) else (shape,)
    whole = tuple(_checks.dimension("shape", side) for side in sides)
    linear = score.linear if isinstance(score, FewShotModel) else score
    if not callable(linear) or np.ndim(getattr(linear, "mean", 0.0)) != 1:
        raise ValueError(
            f"score must be an adapted model or a score with a (D,) mean, got "
            f"{_checks.named(score)}; for other functions there is fsd_jax.sampler.sample"
        )
    ambient = linear.mean.shape[0]
    if math.prod(whole) != ambient:
        raise ValueError(f"shape {whole} has {math.prod(whole)} numbers, the score {ambient}")
    times = geometric_grid(delta, T, steps).astype(linear.mean.dtype)
    x = sample(key, linear, times=times, n=n, shape=ambient, denoise=True, loop=loop)
    return np.asarray(x).reshape(n, *whole)
