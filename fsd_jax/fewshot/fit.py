"""How each method turns target samples into a linear score: one pure function, refitted by masks."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fsd_jax import _checks, _linalg
from fsd_jax._checks import Status
from fsd_jax.fewshot.source import PretrainedModel
from fsd_jax.minimizer.closed_form import Minimizer, orthonormal_minimizer, rank_minimizer
from fsd_jax.moments import SecondMoment
from fsd_jax.process import VP
from fsd_jax.score.linear import LinearScore

METHODS = ("few-shot", "source-as-is", "target-only")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The choices behind a model; hashable, so that a refit shares its compilation.

    Attributes:
        method: one of `METHODS`.
        constraint: ``"orthonormal"`` or ``"rank"`` (few-shot only).
        mean: ``"target"``, ``"source"`` or None.
        complete: ``"source"`` or ``"none"`` (few-shot only).
        latent_dim: ``d``.
    """

    method: str
    constraint: str = "orthonormal"
    mean: str | None = "target"
    complete: str = "source"
    latent_dim: int = 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Fit:
    """A fitted score, the number of directions the target determined, and the status."""

    linear: LinearScore
    rank: Int[Array, ""]
    status: Int[Array, ""]


@partial(jax.jit, static_argnames=("recipe",))
def fit(
    source: PretrainedModel | None,
    x: Float[Array, "n D"],
    mask: Bool[Array, " n"],
    kept: Int[Array, ""],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    process: VP,
    *,
    recipe: Recipe,
) -> Fit:
    """Fit one recipe to the rows in `mask`; `kept` is the dimension that target-only uses."""
    if recipe.method == "target-only":
        return _target_only(x, mask, kept, process, recipe)
    assert source is not None, "recipes other than target-only have a source"
    centre = recipe.mean == "target"
    offset = source.mean if recipe.mean == "source" else jnp.zeros_like(source.mean)
    if recipe.method == "source-as-is":
        mean = _linalg.matmul(mask / jnp.sum(mask), x) if centre else offset
        found = Minimizer(
            basis=source.basis,
            gains=jnp.ones_like(source.latent_variance),
            rank=jnp.int32(source.latent_dim),
            status=source.status,
        )
        return _finish(source, found, mean, process)
    moment = SecondMoment.from_samples(x - offset, centre=centre, mask=mask, throw=False)
    if recipe.constraint == "orthonormal":
        found = orthonormal_minimizer(moment, latent_dim=recipe.latent_dim, throw=False)
    else:
        found = rank_minimizer(
            moment,
            latent_variance=source.latent_variance,
            latent_dim=recipe.latent_dim,
            times=times,
            weights=weights,
            process=process,
            throw=False,
        )
    if recipe.complete == "source":
        found = jax.lax.cond(
            found.rank < recipe.latent_dim, lambda: complete(found, source), lambda: found
        )
    mean = offset if moment.mean is None else moment.mean
    return _finish(source, found, mean, process)


def complete(found: Minimizer, source: PretrainedModel) -> Minimizer:
    """Fill undetermined directions from the source, projected off the found ones.

    Among those projections the ones with the most source variance left come first.
    """
    remainder = source.basis * jnp.sqrt(source.latent_variance)
    for _ in range(2):
        inside = _linalg.matmul(found.basis.T, remainder)
        remainder = remainder - _linalg.matmul(found.basis, inside)
    directions, size = _linalg.left_singular(remainder)
    missing = found.gains == 0
    slot = jnp.clip(jnp.cumsum(missing) - 1, 0, None)
    cutoff = 32 * _linalg.eps_of(size.dtype) * jnp.sqrt(jnp.max(source.latent_variance))
    real = missing & (size[slot] > cutoff)
    return Minimizer(
        basis=jnp.where(real, directions[:, slot], found.basis),
        gains=jnp.where(real, 1.0, found.gains),
        rank=found.rank,
        status=found.status,
    )


def _finish(
    source: PretrainedModel, found: Minimizer, mean: Float[Array, " D"], process: VP
) -> Fit:
    linear = LinearScore.from_minimizer(
        found,
        latent_variance=source.latent_variance,
        residual_variance=source.residual_variance,
        mean=mean,
        process=process,
    )
    return Fit(linear=linear, rank=found.rank, status=found.status)


def _target_only(
    x: Float[Array, "n D"],
    mask: Bool[Array, " n"],
    kept: Int[Array, ""],
    process: VP,
    recipe: Recipe,
) -> Fit:
    """Training from scratch on the target: probabilistic PCA with `kept` directions."""
    moment = SecondMoment.from_samples(x, centre=True, mask=mask, throw=False)
    d = min(recipe.latent_dim, *x.shape)
    inside = jnp.arange(d) < kept
    values = jnp.where(inside, moment.values[:d], 0)
    ambient = x.shape[1]
    residual = jnp.clip(moment.total - jnp.sum(values), 0) / jnp.maximum(ambient - kept, 1)
    alive = inside & (values > 0)
    found = Minimizer(
        basis=jnp.where(alive, moment.basis[:, :d], 0),
        gains=alive.astype(x.dtype),
        rank=jnp.sum(alive).astype(jnp.int32),
        status=moment.status,
    )
    linear = LinearScore.from_minimizer(
        found,
        latent_variance=jnp.where(alive, values, 1.0),
        residual_variance=residual,
        mean=moment.mean,
        process=process,
    )
    deficient = _checks.flag(found.rank < recipe.latent_dim, Status.RANK_DEFICIENT)
    return Fit(linear=linear, rank=found.rank, status=found.status | deficient)


@partial(jax.jit, static_argnames=("recipe",))
def leave_one_out(
    source: PretrainedModel | None,
    x: Float[Array, "n D"],
    kept: Int[Array, ""],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    process: VP,
    *,
    recipe: Recipe,
) -> Float[Array, " n"]:
    """Loss of each sample under the model fitted to all the others."""

    def one(i: Array) -> Array:
        mask = jnp.arange(x.shape[0]) != i
        fitted = fit(source, x, mask, kept, times, weights, process, recipe=recipe)
        return fitted.linear.losses(x[i][None], times, weights)[0]

    return jax.lax.map(one, jnp.arange(x.shape[0]))


@partial(jax.jit, static_argnames=("recipe",))
def choose_dimension(
    x: Float[Array, "n D"],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    process: VP,
    *,
    recipe: Recipe,
) -> Int[Array, ""]:
    """The dimension with the least leave-one-out loss for training on the target alone."""
    # With one sample held out and the mean estimated, n - 2 directions leave no residual at all.
    most = max(min(recipe.latent_dim, x.shape[0] - 3), 0)

    def loss(kept: Array) -> Array:
        each = leave_one_out(None, x, kept, times, weights, process, recipe=recipe)
        return jnp.mean(each)

    return jnp.argmin(jax.lax.map(loss, jnp.arange(most + 1))).astype(jnp.int32)
