"""Sampling in the span of a thin basis, the directions outside being drawn from their exact law."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _linalg, _points
from fsd_jax._process import Process
from fsd_jax._scores import Score, process_of
from fsd_jax.sampler._grid import Steps, steps_of
from fsd_jax.sampler._law import transition_of
from fsd_jax.sampler._reverse import normals, sample, threefry
from fsd_jax.score._linear import LinearScore


def sample_latent(
    key: Key[Array, ""],
    latent_score: Score,
    *,
    basis: Float[Array, "D d"],
    times: ArrayLike,
    n: int,
    residual_variance: ArrayLike = 0.0,
    mean: ArrayLike | None = None,
    method: str = "ei_sde",
    process: Process | None = None,
    denoise: bool = False,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Array, "n D"]:
    """Reverse-time samples whose score is thin, with d numbers a step instead of ``D``.

    For ``s(x, t) = U latent_score(U'x, t) - (I - UU')(x - m_t mean)/(m_t^2 tau2 + sigma_t^2)``, the
    form of Section 3.1, every method moves ``U'x`` and the rest apart. ``U'x`` is sampled; the rest
    is one draw from its exact Gaussian law. The result has the law of `sample` with the whole
    score, on the same grid.

    Implements: Section 3.1's decomposition of the score, for samplers; R16.

    Args:
        key: random key.
        latent_score: score in ``R^d``, any mean in the span included; `LinearScore.latent` is one.
        basis: ``(D, d)`` orthonormal (or zero) columns ``U``.
        times: as in `sample`.
        n: number of samples.
        residual_variance: ``tau2`` of the model outside the span.
        mean: ``(D,)`` mean of the clean law, of which only the part outside the span counts here.
        method: as in `sample`.
        process: as in `sample`.
        denoise: as in `sample`.
        chunk: as in `sample`.
        progress: as in `sample`.

    Returns:
        ``(n, D)`` samples.

    Raises:
        ValueError: as `sample`, shapes that do not match, or a basis that is not orthonormal.
    """
    U, _ = _checks.floating("basis", basis, ndim=(2,))
    if U.size == 0:
        raise ValueError(f"basis must have entries, got shape {U.shape}")
    bad = _checks.orthonormal("basis", U)
    if not callable(latent_score):
        raise ValueError(
            f"latent_score must be a function of (z, t), got {_checks.named(latent_score)}"
        )
    tau2, worse = _checks.positive(
        "residual_variance", residual_variance, U.dtype, ndim=(0,), zero=True
    )
    # A score without a basis: all directions are outside.
    outside = LinearScore(
        basis=U[:, :0], mixing=U[:0, :0], latent_variance=U[0, :0],
        residual_variance=jnp.asarray(tau2), mean=U[:, 0],
        process=process_of(latent_score, process),
    )  # fmt: skip
    given = np.zeros(U.shape[0], U.dtype) if mean is None else mean
    centre = _points.vector("mean", given, dim=U.shape[0], dtype=U.dtype)
    key = threefry(_checks.key("key", key))
    inner, outer = jax.random.split(key)
    z = sample(
        inner, latent_score, times=times, n=n, shape=U.shape[1], method=method, process=process,
        denoise=denoise, chunk=chunk, progress=progress,
    )  # fmt: skip
    steps = steps_of(times, U.dtype, outside.process)
    share, variance = _outside(
        outside, steps, method=method, denoise=_checks.boolean("denoise", denoise)
    )
    variance = variance + _points.nan_if(bad | worse, U.dtype)
    return _join(outer, z, U, share * centre, variance)


@partial(jax.jit, static_argnames=("method", "denoise"))
def _outside(
    score: LinearScore, steps: Steps, *, method: str, denoise: bool
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean, in units of the model's, and variance of a direction outside the basis."""
    way = transition_of(score, steps, method=method, denoise=denoise)
    start = score.process.prior_variance(steps.start[0])
    return way.shift[-1], way.matrix[-1, -1] ** 2 * start + way.noise[-1, -1]


@jax.jit
def _join(
    key: Key[Array, ""],
    z: Float[Array, "n d"],
    basis: Float[Array, "D d"],
    centre: Float[Array, " D"],
    variance: Float[Array, ""],
) -> Float[Array, "n D"]:
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(z.shape[0]))
    rest = centre + jnp.sqrt(variance) * normals(keys, 0, centre.shape, basis.dtype)
    rest = rest - _linalg.matmul(_linalg.matmul(rest, basis), basis.T)
    return _linalg.matmul(z.astype(basis.dtype), basis.T) + rest
