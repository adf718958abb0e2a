"""Errors of fitted models, replicate by replicate, without drawing data.

Isotropic latent, no residual noise. Everything is written in units of ``lambda^2``: the target's
second moment has eigenvalues ``s_i = 1 + e_i``, the source's estimate is ``lam2 = 1 + eps``, and
``r = sigma_t^2/(m_t^2 lambda^2)``. All errors are sums over ``e_i`` of functions that vanish at a
perfect fit, so they keep their digits however large the samples are.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float, Key

from fsd_jax import _checks
from fsd_jax.process import VP
from fsd_jax.simulate.chi_square import centred_chi_square, log1p_tail
from fsd_jax.simulate.spectra import WishartSpectra, wishart_freedom

METHODS = ("rank", "integrated", "orthonormal")
METRICS = ("subspace_error", "score_error", "loss_gap", "kl")
BLOCK = 1024
"""Replicates that are drawn together; part of what a key means."""
LEAST_BLOCKS = 2
"""XLA unrolls a loop over one block, and rounds differently then."""

Errors = dict[tuple[str, str], Float[Array, "K replicates"]]


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
    process: VP = VP(),
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
        dtype: of the draws; None is JAX's default. float32 is enough for any sample size.
        process: forward process.

    Returns:
        ``(replicates, K)`` errors.

    Raises:
        ValueError: values out of range.

    Example:
        >>> import jax
        >>> from fsd_jax import simulate
        >>> setting = dict(latent_dim=4, n_ta=100, n_s=None, latent_variance=1.0, times=[1.0])
        >>> errors = simulate.subspace_errors(jax.random.key(0), replicates=10_000, **setting)
        >>> bool(abs(errors.mean() - 0.0798) < 0.002)  # theory.expected_subspace_error
        True
    """
    return errors(
        key, latent_dim=latent_dim, n_ta=n_ta, n_s=n_s, latent_variance=latent_variance,
        times=times, replicates=replicates, method="rank", metric="subspace_error", dtype=dtype,
        process=process,
    )  # fmt: skip


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
    process: VP = VP(),
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
        dtype: of the draws; None is JAX's default. float32 is enough for any sample size.
        process: forward process.

    Returns:
        ``(replicates, K)`` errors.

    Raises:
        ValueError: values out of range or unknown words.
    """
    dtype = jnp.zeros((), dtype).dtype
    d = _checks.dimension("latent_dim", latent_dim)
    n = _checks.dimension("n_ta", n_ta)
    source = np.inf if n_s is None else _checks.dimension("n_s", n_s)
    _checks.choice("method", method, METHODS)
    _checks.choice("metric", metric, METRICS)
    t = _checks.positive("times", times, dtype, ndim=(1,))[0]
    lam2 = _checks.positive("latent_variance", latent_variance, dtype, ndim=(0, 1))[0]
    wanted = _checks.dimension("replicates", replicates)
    drawn = _map_blocks(
        key, jnp.asarray(n, dtype), jnp.asarray(source, dtype), jnp.asarray(t),
        jnp.broadcast_to(jnp.asarray(lam2), jnp.shape(t)), process,
        latent_dim=d, blocks=max(-(-wanted // BLOCK), LEAST_BLOCKS), method=method, metric=metric,
    )  # fmt: skip
    return drawn.reshape(-1, drawn.shape[-1])[:wanted]


@partial(jax.jit, static_argnames=("process", "latent_dim", "blocks", "method", "metric"))
def _map_blocks(
    key: Key[Array, ""],
    n_ta: Float[Array, ""],
    n_s: Float[Array, ""],
    times: Float[Array, " K"],
    latent_variance: Float[Array, " K"],
    process: VP,
    *,
    latent_dim: int,
    blocks: int,
    method: str,
    metric: str,
) -> Float[Array, "blocks replicates K"]:
    def one(block: Array) -> Array:
        found = block_errors(
            jax.random.fold_in(key, block), n_ta, n_s, times, latent_variance,
            latent_dim=latent_dim, methods=(method,), metrics=(metric,), process=process,
        )  # fmt: skip
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
    process: VP = VP(),
) -> Errors:
    """All errors of `BLOCK` replicates from one set of draws, for use inside `jit`.

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
    """
    draws = jnp.where(jnp.isinf(n_s), 1, latent_dim * n_s)
    freedom = jnp.concatenate([wishart_freedom(n_ta, latent_dim), draws[None]])
    deviations = centred_chi_square(key, freedom, BLOCK)
    spectra = WishartSpectra.from_deviations(deviations[:-1], n_ta, latent_dim)
    eps = jnp.where(jnp.isinf(n_s), 0, deviations[-1] / draws)
    rate = process.integrated_rate(times)
    signal, noise = jnp.exp(-rate), -jnp.expm1(-rate)
    setting = _Setting(spectra, eps, n_ta, latent_variance[:, None], signal[:, None],
                       noise[:, None], process)  # fmt: skip
    shape = (len(times), BLOCK)
    return {
        (method, metric): jnp.broadcast_to(getattr(setting, f"{method}_{metric}")(), shape)
        for method in methods
        for metric in metrics
    }


class _Setting:
    """Draws and parameters; a method for each estimator and metric, in the units above."""

    def __init__(
        self,
        spectra: WishartSpectra,
        eps: Float[Array, " replicates"],
        n_ta: Float[Array, ""],
        variance: Float[Array, "K 1"],
        signal: Float[Array, "K 1"],
        noise: Float[Array, "K 1"],
        process: VP,
    ) -> None:
        self.spectra, self.eps, self.variance, self.process = spectra, eps, variance, process
        self.r = noise / (signal * variance)
        self.level = signal * variance + noise
        self.noise = noise
        d = spectra.diagonal.shape[0]
        self.found = jnp.minimum(d, n_ta)
        self.lost = d - self.found
        self.unseen = jnp.full((), -1, eps.dtype)

    def rank_subspace_error(self) -> Array:
        return self.spectra.sum_of_squares(
            self.r / (1 + self.eps), -self.r * self.eps / (1 + self.eps), self.r
        )

    def rank_score_error(self) -> Array:
        # V G V' is the plug-in denoiser, whatever the source said.
        return self.spectra.sum_of_squares(1.0, 0.0, self.r) / self.level

    def rank_loss_gap(self) -> Array:
        # The population's decoder has no score error.
        return self.rank_score_error()

    def rank_kl(self) -> Array:
        return self.spectra.sum_of_divergences(self.r) / 2

    def integrated_subspace_error(self) -> Array:
        ratio, off, rho = self._integrated()
        return self.spectra.sum_of_squares(ratio - 1, off, rho)

    def integrated_score_error(self) -> Array:
        a, b, rho = self._integrated_gains()
        return self.spectra.sum_of_squares(a, b, rho) * (1 + self.r) / (self.r * self.noise)

    def integrated_loss_gap(self) -> Array:
        a, b, rho = self._integrated_gains()
        population = self.spectra.diagonal.shape[0] * (b / (1 + rho)) ** 2
        excess = self.spectra.sum_of_squares(a, b, rho) - population
        return excess * (1 + self.r) / (self.r * self.noise)

    def integrated_kl(self) -> Array:
        return jnp.full((), jnp.nan, self.eps.dtype)

    def orthonormal_subspace_error(self) -> Array:
        return self.lost

    def orthonormal_score_error(self) -> Array:
        return self.found * self._score(self.eps) + self.lost * self._score(self.unseen)

    def orthonormal_loss_gap(self) -> Array:
        # The population's decoder spans the true subspace and has the same gains.
        return self.lost * (self._score(self.unseen) - self._score(self.eps))

    def orthonormal_kl(self) -> Array:
        return (self.found * self._kl(self.eps) + self.lost * self._kl(self.unseen)) / 2

    def _score(self, deviation: Array) -> Array:
        return (deviation / (1 + deviation + self.r)) ** 2 / self.level

    def _kl(self, deviation: Array) -> Array:
        y = deviation / (1 + self.r)
        return y**2 / (1 + y) + log1p_tail(y, 1)

    def _integrated_gains(self) -> tuple[Array, Array, Array]:
        """The gain at ``t`` less the true one is ``(a e + b)/(1 + e + rho)``."""
        ratio, off, rho = self._integrated()
        truth = 1 / (1 + self.r)
        # The gain that the frozen f uses less the true one: nothing but the source's error.
        excess = self.r * self.eps / ((1 + self.eps + self.r) * (1 + self.r))
        return (truth + excess) * ratio - truth, excess * ratio + truth * off, rho

    def _integrated(self) -> tuple[Array, Array, Array]:
        """R2's gains ``ratio s/(s + rho)``, and ``ratio - 1 - rho`` free of cancellation."""
        times, weights = self.process.quadrature()
        rate = self.process.integrated_rate(times.astype(self.eps.dtype))[:, None, None]
        r = jnp.expm1(rate) / self.variance
        weight = (
            weights.astype(self.eps.dtype)[:, None, None] * jnp.exp(rate) / jnp.expm1(rate) ** 2
        )
        gain = (1 + self.eps) / (1 + self.eps + r)
        a, b = jnp.sum(weight * gain**2, axis=0), jnp.sum(weight * gain, axis=0)
        e = jnp.sum(weight * gain**2 * r, axis=0)
        off = -jnp.sum(weight * gain * r / (1 + self.eps + r), axis=0) * self.eps
        return b / a, off / a, e / a
