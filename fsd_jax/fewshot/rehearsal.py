"""Rehearsal: encoder and decoder tuned on the target together with a share of the source."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg
from fsd_jax._moments import SecondMoment
from fsd_jax._rows import finite
from fsd_jax.fewshot.source import PretrainedModel
from fsd_jax.minimizer._closed_form import orthonormal_minimizer
from fsd_jax.minimizer._ridge import pooled_moment
from fsd_jax.score._linear import LinearScore

SOURCE_SHARES = (1e-6, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
"""Shares of the source to choose from: the first only completes, the last is the source as is."""

MEAN_SHARES = (0.0, 0.5, 1.0)
"""Shares of the target's mean to choose from."""


def rehearse(
    pretrained: PretrainedModel,
    source: SecondMoment,
    x_target: ArrayLike,
    *,
    source_share: ArrayLike,
    mean_share: ArrayLike = 1.0,
) -> LinearScore:
    """Encoder and decoder tuned on the target and, with a share, on the source.

    The orthonormal minimiser of the pooled second moment, about a mean between the source's and the
    target's. ``source_share=1`` is the source's subspace as it is; a share near 0 is the target's
    principal components, completed from the source.

    Implements: R18.

    Args:
        pretrained: from `pretrain`.
        source: the source's second moment about its own mean, at least ``d`` directions of it.
        x_target: ``(n, ...)`` target samples.
        source_share: of the pooled moment, in ``(0, 1]``.
        mean_share: of the target's mean, in ``[0, 1]``.

    Returns:
        The score, with the source's variances and residual variance.

    Raises:
        ValueError: bad samples or shares.
    """
    x = _world(pretrained, source, x_target, rows=1)
    everyone = jnp.ones(len(x), bool)
    q = _shares("source_share", source_share, x.dtype, ndim=0)
    a = _shares("mean_share", mean_share, x.dtype, ndim=0)
    return _rehearsed(pretrained, source, x, everyone, q, a)


def _world(
    pretrained: PretrainedModel, source: SecondMoment, x_target: ArrayLike, *, rows: int
) -> Float[Array, "n D"]:
    """The target samples, once the three are known to be of one space and about one centre."""
    _checks.instance("pretrained", pretrained, PretrainedModel, "pass what pretrain returns")
    _checks.instance(
        "source", source, SecondMoment, "SecondMoment.from_samples(x_source, centre=True)"
    )
    x = finite("x_target", _checks.samples("x_target", x_target, rows=rows, images=True)[0])
    ambient, d = pretrained.basis.shape
    for name, width in (("source", source.basis.shape[0]), ("x_target", x.shape[1])):
        if width != ambient:
            raise ValueError(f"{name} has D = {width} and pretrained D = {ambient}")
    kept = source.values.shape[0]
    if kept < d:
        raise ValueError(
            f"source keeps {kept} directions and pretrained has {d}; build it with rank={d} or more"
        )
    if source.mean is None and not _checks.is_traced(pretrained.mean) and pretrained.mean.any():
        raise ValueError(
            "source must be about its own mean, as pretrained is; build it with centre=True"
        )
    return x


def _shares(name: str, value: Any, dtype: Any, *, ndim: int) -> Any:
    shares, _ = _checks.positive(name, value, dtype, ndim=(ndim,), zero=True)
    if not _checks.is_traced(shares) and np.any(np.asarray(shares) > 1):
        raise ValueError(f"{name} must be at most 1, got {_checks.named(value)}")
    return shares


@jax.jit
def _rehearsed(
    pretrained: PretrainedModel,
    source: SecondMoment,
    x: Float[Array, "n D"],
    mask: Array,
    source_share: Array,
    mean_share: Array,
) -> LinearScore:
    weights = mask.astype(x.dtype)
    # From the source's mean, so that an offset that both share costs no digits.
    step = _linalg.matmul(weights / jnp.sum(weights), x - pretrained.mean)
    mean = pretrained.mean + mean_share * step
    moment = SecondMoment.from_samples(x - mean, mask=mask, route="svd", throw=False)
    pooled = pooled_moment(moment, source, source_share=source_share)
    found = orthonormal_minimizer(pooled, latent_dim=pretrained.latent_dim, throw=False)
    return LinearScore.from_minimizer(
        found,
        latent_variance=pretrained.latent_variance,
        residual_variance=pretrained.residual_variance,
        mean=mean,
        process=pretrained.process,
    )


def choose_rehearsal(
    pretrained: PretrainedModel,
    source: SecondMoment,
    x_target: ArrayLike,
    *,
    source_shares: Sequence[float] = SOURCE_SHARES,
    mean_shares: Sequence[float] = MEAN_SHARES,
) -> tuple[float, float, np.ndarray]:
    """The shares with the least leave-one-out loss on the target samples.

    Args:
        pretrained: from `pretrain`.
        source: as in `rehearse`.
        x_target: ``(n, ...)`` target samples, at least two.
        source_shares: candidates.
        mean_shares: candidates.

    Returns:
        The source's share, the target's share of the mean, and all mean losses,
        ``(source shares, mean shares)``.

    Raises:
        ValueError: fewer than two samples, or bad shares.
    """
    x = _world(pretrained, source, x_target, rows=2)
    times, weights = pretrained.process.quadrature()
    q = np.asarray(_shares("source_shares", source_shares, x.dtype, ndim=1))
    a = np.asarray(_shares("mean_shares", mean_shares, x.dtype, ndim=1))
    grid = jnp.asarray(np.stack([v.ravel() for v in np.meshgrid(q, a, indexing="ij")], axis=1))
    t, w = times.astype(x.dtype), weights.astype(x.dtype)
    losses = np.asarray(_leave_one_out(pretrained, source, x, grid, t, w))
    best = np.asarray(grid)[np.argmin(losses)]
    return float(best[0]), float(best[1]), losses.reshape(len(q), len(a))


@jax.jit
def _leave_one_out(
    pretrained: PretrainedModel,
    source: SecondMoment,
    x: Float[Array, "n D"],
    grid: Float[Array, "m 2"],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
) -> Float[Array, " m"]:
    n, ambient = x.shape
    # All that any refit sees lies in the span of the source's directions and the samples, so the
    # refits are done in its coordinates; the other directions add the same to every loss.
    y = x - pretrained.mean
    span = _linalg.orthonormal_columns(jnp.concatenate([source.basis, y.T], axis=1))
    inside = partial(_linalg.matmul, span.T)
    small = replace(
        pretrained, mean=jnp.zeros(span.shape[1], x.dtype), basis=inside(pretrained.basis)
    )
    moment = replace(source, basis=inside(source.basis), mean=None)
    z = _linalg.matmul(y, span)

    def one(item: tuple[Array, Array]) -> Array:
        shares, i = item
        score = _rehearsed(small, moment, z, jnp.arange(n) != i, shares[0], shares[1])
        return score.losses(z[i][None], times, weights)[0]

    each = (jnp.repeat(grid, n, axis=0), jnp.tile(jnp.arange(n), grid.shape[0]))
    losses = jnp.mean(jax.lax.map(one, each).reshape(-1, n), axis=1)
    noise = pretrained.process.noise_variance(times)
    left = pretrained.process.signal_variance(times) * pretrained.residual_variance
    outside = jnp.sum(weights * (left / (left + noise)) ** 2 / noise)
    return losses + (ambient - span.shape[1]) * outside
