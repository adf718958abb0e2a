"""How each method turns target samples into a linear score; refits are masks."""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fsd_jax import _checks, _linalg, _spectra, _sums
from fsd_jax._checks import Status
from fsd_jax._moments import SecondMoment
from fsd_jax._process import Process
from fsd_jax.fewshot.source import PretrainedModel
from fsd_jax.minimizer._closed_form import Minimizer, orthonormal_minimizer, rank_minimizer
from fsd_jax.score._linear import LinearScore


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The choices behind a model; hashable, so that a refit shares its compilation.

    Attributes:
        method: ``"few-shot"``, ``"source-as-is"`` or ``"target-only"``.
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
    process: Process,
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
        mean = _sums.mean_of_rows(x, mask) if centre else offset
        found = Minimizer(
            basis=source.basis,
            gains=jnp.ones_like(source.latent_variance),
            rank=jnp.int32(source.latent_dim),
            status=source.status,
        )
        return _finish(source, found, mean, process)
    # The cut that is used is d: asking for no more lets the cheaper route through its check.
    kept_pairs = min(recipe.latent_dim, *x.shape)
    moment = SecondMoment.from_samples(
        x - offset, rank=kept_pairs, centre=centre, mask=mask, throw=False
    )
    if recipe.mean == "source":
        moment = _about(offset, moment)
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
            found.rank < recipe.latent_dim,
            lambda: complete(found, source.basis, source.latent_variance),
            lambda: found,
        )
    mean = offset if moment.mean is None else moment.mean
    return _finish(source, found, mean, process)


def _about(offset: Float[Array, " D"], moment: SecondMoment) -> SecondMoment:
    """A moment of rows minus a given mean, without what may be the rounding of the difference."""
    centring = _spectra.Centring(jnp.abs(offset), moment.count)
    rounding = jnp.sqrt(moment.values) <= centring.floor(moment.basis)
    return replace(
        moment,
        values=jnp.where(rounding, 0, moment.values),
        basis=jnp.where(rounding, 0, moment.basis),
    )


def complete(
    found: Minimizer, basis: Float[Array, "D d"], variance: Float[Array, " d"]
) -> Minimizer:
    """Fill undetermined directions from the source's, projected off the found ones.

    Among those projections the ones with the most source variance left come first.
    """
    remainder = basis * jnp.sqrt(variance)
    for _ in range(2):
        inside = _linalg.matmul(found.basis.T, remainder)
        remainder = remainder - _linalg.matmul(found.basis, inside)
    directions, size = _linalg.left_singular(remainder)
    missing = found.gains == 0
    slot = jnp.clip(jnp.cumsum(missing) - 1, 0, None)
    cutoff = 32 * _linalg.eps_of(size.dtype) * jnp.sqrt(jnp.max(variance))
    real = missing & (size[slot] > cutoff)
    return Minimizer(
        basis=jnp.where(real, directions[:, slot], found.basis),
        gains=jnp.where(real, 1.0, found.gains),
        rank=found.rank,
        status=found.status,
    )


def _finish(
    source: PretrainedModel, found: Minimizer, mean: Float[Array, " D"], process: Process
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
    process: Process,
    recipe: Recipe,
) -> Fit:
    """Training from scratch on the target: probabilistic PCA with `kept` directions."""
    d = min(recipe.latent_dim, *x.shape)
    moment = SecondMoment.from_samples(x, rank=d, centre=True, mask=mask, throw=False)
    linear, rank = _scratch(moment, kept, d, process)
    deficient = _checks.flag(rank < recipe.latent_dim, Status.RANK_DEFICIENT)
    return Fit(linear=linear, rank=rank, status=moment.status | deficient)


def _scratch(
    moment: SecondMoment, kept: Int[Array, ""], d: int, process: Process
) -> tuple[LinearScore, Int[Array, ""]]:
    """The probabilistic PCA score that keeps the first `kept` of d directions."""
    values = jnp.where(jnp.arange(d, dtype=jnp.int32) < kept, moment.values[:d], 0)
    ambient = moment.basis.shape[0]
    left = jnp.clip(moment.total - jnp.sum(values), 0)
    # As in pre-training: the trace of noise-free data is reached to rounding, which is no residual.
    left = jnp.where(left > 8 * _linalg.eps_of(values.dtype) * moment.total, left, 0)
    residual = left / jnp.maximum(ambient - kept, 1).astype(values.dtype)
    alive = values > 0
    rank = jnp.sum(alive).astype(jnp.int32)
    found = Minimizer(
        basis=jnp.where(alive, moment.basis[:, :d], 0),
        gains=alive.astype(values.dtype),
        rank=rank,
        status=moment.status,
    )
    linear = LinearScore.from_minimizer(
        found,
        latent_variance=jnp.where(alive, values, 1.0),
        residual_variance=residual,
        mean=moment.mean,
        process=process,
    )
    return linear, rank


@partial(jax.jit, static_argnames=("recipe",))
def leave_one_out(
    source: PretrainedModel | None,
    x: Float[Array, "n D"],
    labels: Int[Array, " n"],
    kept: Int[Array, ""],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    process: Process,
    *,
    recipe: Recipe,
) -> Float[Array, " n"]:
    """Loss of each sample under the model fitted to all that do not share its label.

    Groups are masks: their number and sizes may change without a compilation.
    """

    def one(i: Array) -> Array:
        mask = _others(labels, i)
        fitted = fit(source, x, mask, kept, times, weights, process, recipe=recipe)
        return fitted.linear.losses(x[i][None], times, weights)[0]

    return jax.lax.map(one, jnp.arange(x.shape[0], dtype=jnp.int32))


def _others(labels: Int[Array, " n"], i: Int[Array, ""]) -> Bool[Array, " n"]:
    """The rows of other pictures; all rows where there are none, lest 0 be divided by 0."""
    mask = labels != labels[i]
    return mask | ~jnp.any(mask)


@partial(jax.jit, static_argnames=("recipe",))
def choose_dimension(
    x: Float[Array, "n D"],
    labels: Int[Array, " n"],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    process: Process,
    *,
    recipe: Recipe,
) -> Int[Array, ""]:
    """The dimension with the least leave-one-out loss for training on the target alone.

    Rows that share a label are one picture, left out together and counted once.
    """
    # With one sample held out and the mean estimated, n - 2 directions leave no residual at all.
    n, d = x.shape[0], min(recipe.latent_dim, *x.shape)
    most = max(min(d, n - 3), 0)
    same = labels[:, None] == labels
    share = 1 / jnp.sum(same, axis=1).astype(x.dtype)
    # The number of different pictures: rows without an earlier one of their label.
    pictures = jnp.sum(~jnp.any(jnp.tril(same, -1), axis=1), dtype=jnp.int32)
    possible = jnp.arange(most + 1, dtype=pictures.dtype) <= jnp.maximum(pictures - 3, 0)

    def one(i: Array) -> Float[Array, " dims"]:
        moment = SecondMoment.from_samples(
            x, rank=d, centre=True, mask=_others(labels, i), throw=False
        )

        def loss(kept: Array) -> Array:
            return _scratch(moment, kept, d, process)[0].losses(x[i][None], times, weights)[0]

        return jax.lax.map(loss, jnp.arange(most + 1, dtype=jnp.int32))

    losses = _linalg.matmul(share, jax.lax.map(one, jnp.arange(n)))
    return jnp.argmin(jnp.where(possible, losses, jnp.inf)).astype(jnp.int32)
