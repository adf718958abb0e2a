"""Errors of fitted models, replicate by replicate, without drawing data.

Isotropic latent, no residual noise. What is measured, and in which units, is in `measures`.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks, _process
from fsd_jax._process import VP, Process
from fsd_jax.simulate._chi_square import ChiSquares, draw, stable_key
from fsd_jax.simulate._inputs import (
    METHODS,
    METRICS,
    Errors,
    draw_dtype,
    sample_size,
    size,
    times_and_variances,
    words,
)
from fsd_jax.simulate._measures import Measures
from fsd_jax.simulate._spectra import WishartSpectra, wishart_freedom

BLOCK = 1024
"""Replicates that are drawn together; part of what a key means."""
LEAST_BLOCKS = 2
"""XLA unrolls a loop over one block, and rounds differently then."""


def subspace_errors(
    key: Key[Array, ""],
    *,
    latent_dim: int,
    n_ta: int,
    n_s: int | None,
    latent_variance: ArrayLike,
    times: ArrayLike,
    replicates: int,
    dtype: DTypeLike | None = None,
    process: Process = VP(),
) -> Float[Array, "replicates K"]:
    """``||VV' - AA'||_F^2`` of the rank-d minimiser (R1), drawn from its exact law.

    Implements: R3, R13.

    Args:
        key: random key.
        latent_dim: ``d``.
        n_ta: number of target samples, of any size.
        n_s: number of source samples; None is a perfect source, ``lam2 = lambda^2``.
        latent_variance: ``lambda^2``.
        times: ``(K,)`` values of the SDE's ``t``; all see the same draws.
        replicates: number of independent replicates.
        dtype: of the draws, float32 or float64; None is JAX's default. float32 is enough for any
            sample size that it can hold (3e38) and any ratio ``s2/(m^2 lambda^2)``; only errors
            below its smallest number, 1e-38, are zero.
        process: forward process.

    Returns:
        ``(replicates, K)`` errors.

    Raises:
        ValueError: values out of range, also of the dtype's, or of the wrong kind.

    Example:
        >>> import jax
        >>> from fsd_jax import simulate
        >>> setting = dict(latent_dim=4, n_ta=100, n_s=None, latent_variance=1.0, times=[1.0])
        >>> errors = simulate.subspace_errors(jax.random.key(0), replicates=10_000, **setting)
        >>> bool(abs(errors.mean() - 0.0798) < 0.002)  # theory.expected_subspace_error
        True
    """
    return errors(
        key,
        latent_dim=latent_dim,
        n_ta=n_ta,
        n_s=n_s,
        latent_variance=latent_variance,
        times=times,
        replicates=replicates,
        method="rank",
        metric="subspace_error",
        dtype=dtype,
        process=process,
    )


def errors(
    key: Key[Array, ""],
    *,
    latent_dim: int,
    n_ta: int,
    n_s: int | None,
    latent_variance: ArrayLike,
    times: ArrayLike,
    replicates: int,
    method: str = "rank",
    metric: str = "score_error",
    dtype: DTypeLike | None = None,
    process: Process = VP(),
) -> Float[Array, "replicates K"]:
    """One error of one estimator in independent replicates, drawn from its exact law.

    The methods are the minimiser at the ``t`` of the metric, ``"rank"`` (R1); that of the loss
    integrated over ``process.quadrature()``, ``"integrated"`` (R2); and the ``"orthonormal"`` one
    without completion (R7), with one variance for all directions.

    The metrics are ``||VV' - AA'||_F^2``; the exact score error; the ``"loss_gap"``, how far the
    population loss is above that of the decoder that the method would find from the population,
    for the same frozen ``f``; and ``"kl"``, the Kullback-Leibler divergence in nats of the model's
    Gaussian at ``t`` from the truth's: NaN for ``"integrated"``, whose score at ``t`` need not
    belong to a density.

    Implements: R3, R8, R13.

    Args:
        key: random key.
        latent_dim: ``d``.
        n_ta: number of target samples.
        n_s: number of source samples; None is a perfect source.
        latent_variance: ``lambda^2``, a scalar or one for each time.
        times: ``(K,)`` values of ``t``; all see the same draws.
        replicates: number of replicates.
        method: one of `METHODS`.
        metric: one of `METRICS`.
        dtype: of the draws, float32 or float64; None is JAX's default. float32 is enough for any
            sample size that it can hold (3e38) and any ratio ``s2/(m^2 lambda^2)``; only errors
            below its smallest number, 1e-38, are zero.
        process: forward process.

    Returns:
        ``(replicates, K)`` errors.

    Raises:
        ValueError: values out of range, also of the dtype's, of the wrong kind, or unknown words.
    """
    dtype = draw_dtype(dtype)
    key = _checks.key("key", key)
    _process.check(process, times=times)
    d = _checks.dimension("latent_dim", latent_dim)
    n = sample_size("n_ta", n_ta, dtype)
    source = np.inf if n_s is None else sample_size("n_s", n_s, dtype, each=d)
    _checks.choice("method", method, METHODS)
    _checks.choice("metric", metric, METRICS)
    t = _checks.positive("times", times, dtype, ndim=(1,))[0]
    lam2 = _checks.positive("latent_variance", latent_variance, dtype, ndim=(0, 1))[0]
    if lam2.ndim and lam2.shape != t.shape:
        raise ValueError(
            f"latent_variance must be a scalar or match times: got {lam2.shape[0]} variances for "
            f"{t.shape[0]} times"
        )
    wanted = _checks.dimension("replicates", replicates)
    drawn = _map_blocks(
        key,
        np.asarray(n, dtype),
        np.asarray(source, dtype),
        jnp.asarray(t),
        jnp.broadcast_to(jnp.asarray(lam2), jnp.shape(t)),
        process,
        latent_dim=d,
        blocks=max(-(-wanted // BLOCK), LEAST_BLOCKS),
        method=method,
        metric=metric,
    )
    return drawn.reshape(-1, drawn.shape[-1])[:wanted]


@partial(jax.jit, static_argnames=("process", "latent_dim", "blocks", "method", "metric"))
def _map_blocks(
    key: Key[Array, ""],
    n_ta: Float[Array, ""],
    n_s: Float[Array, ""],
    times: Float[Array, " K"],
    latent_variance: Float[Array, " K"],
    process: Process,
    *,
    latent_dim: int,
    blocks: int,
    method: str,
    metric: str,
) -> Float[Array, "blocks replicates K"]:
    def one(block: Array) -> Array:
        found = block_errors(
            jax.random.fold_in(key, block),
            n_ta,
            n_s,
            times,
            latent_variance,
            latent_dim=latent_dim,
            methods=(method,),
            metrics=(metric,),
            process=process,
        )
        return found[method, metric].T

    return jax.lax.map(one, jnp.arange(blocks))


def block_errors(
    key: Key[Array, ""],
    n_ta: Float[Array, ""],
    n_s: Float[Array, ""],
    times: Float[Array, " K"],
    latent_variance: Float[Array, " K"],
    *,
    latent_dim: int,
    methods: Sequence[str] = METHODS,
    metrics: Sequence[str] = METRICS,
    process: Process = VP(),
) -> Errors:
    """All errors of `BLOCK` replicates from one set of draws, for use inside `jit`.

    Sample sizes, times and variances out of range give NaN.

    Implements: R13.

    Args:
        key: random key.
        n_ta: number of target samples, may be traced.
        n_s: number of source samples, may be traced; infinite is a perfect source.
        times: ``(K,)`` values of ``t`` paired with
        latent_variance: ``(K,)`` values of ``lambda^2``.
        latent_dim: ``d``.
        methods: estimators, see `errors`.
        metrics: what to measure.
        process: forward process.

    Returns:
        ``(K, BLOCK)`` errors by method and metric.

    Raises:
        ValueError: arguments of the wrong kind or shape, or unknown words.
    """
    d = _checks.dimension("latent_dim", latent_dim)
    key = stable_key(_checks.key("key", key))
    _process.check(process, times=times)
    pairs = words(methods, metrics)
    times, variance = times_and_variances(times, latent_variance, ndim=1)
    n = size("n_ta", n_ta, times.dtype)
    sources = size("n_s", n_s, times.dtype, infinite=True)
    found = _block(key, n, sources, times, variance, latent_dim=d, pairs=pairs, process=process)
    return dict(zip(pairs, found, strict=True))


@partial(jax.jit, static_argnames=("latent_dim", "pairs", "process"))
def _block(
    key: Key[Array, ""],
    n: Float[Array, ""],
    sources: Float[Array, ""],
    times: Float[Array, " K"],
    variance: Float[Array, " K"],
    *,
    latent_dim: int,
    pairs: tuple[tuple[str, str], ...],
    process: Process,
) -> list[Float[Array, "K replicates"]]:
    perfect = jnp.isinf(sources)
    draws = jnp.where(perfect, 1, latent_dim * sources)
    freedom = jnp.concatenate([wishart_freedom(n, latent_dim), draws[None]])
    deviation, value = draw(key, freedom, BLOCK)
    spectra = WishartSpectra.from_deviations(deviation[:-1], n, latent_dim, value[:-1])
    source = ChiSquares(
        jnp.where(perfect, 0, deviation[-1] / draws), jnp.where(perfect, 1, value[-1] / draws)
    )
    measures = Measures(spectra, source, n, variance[:, None], times[:, None], process)
    return [measures.of(*pair) for pair in pairs]
