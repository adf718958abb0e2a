"""Adapting: fine-tuning and the baselines; all build a `FewShotModel`."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Int

from fsd_jax import _checks, _process
from fsd_jax._process import VP, Process
from fsd_jax.fewshot import duplicates
from fsd_jax.fewshot import fit as fitting
from fsd_jax.fewshot.fit import Recipe
from fsd_jax.fewshot.model import FewShotModel
from fsd_jax.fewshot.oddities import target_notes
from fsd_jax.fewshot.source import PretrainedModel


def finetune(
    pretrained: PretrainedModel,
    x_target: ArrayLike,
    *,
    constraint: str = "orthonormal",
    mean: str | None = "target",
    complete: str = "source",
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    throw: bool = True,
) -> FewShotModel:
    """Adapt a pre-trained model to a few target samples, in closed form.

    Implements: Section 5 (few-shot fine-tuning). ``"orthonormal"`` is the exact minimiser over
    ``V`` with the residual gain (R7). ``"rank"`` is the exact minimiser of the paper's class, which
    has no residual gain (R2); the source's residual gain is then added outside its span; R8, R12,
    "Completion from the source".

    Args:
        pretrained: from `pretrain`.
        x_target: ``(n_ta, *shape)`` floating samples of the source's shape.
        constraint: ``"orthonormal"`` (PCA of the target with the source's spectrum: where the
            few-shot gain is) or ``"rank"`` (the paper's Section 5 class).
        mean: subtract the ``"target"`` mean, the ``"source"`` mean, or None.
        complete: ``"source"`` fills directions that the target does not determine from the
            pre-trained basis; ``"none"`` leaves them to the residual.
        times: times of the integrated loss; the default is ``process.quadrature()``.
        weights: their weights.
        throw: raise on errors that only the values show, or set the status.

    Returns:
        The adapted model.

    Raises:
        ValueError: bad samples or options.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> problem = fsd.LinearProblem.random(
        ...     jax.random.key(0), ambient_dim=64, latent_dim=4, latent_variance=1.0
        ... )
        >>> source = problem.sample_source(jax.random.key(1), 1000)
        >>> model = fsd.finetune(
        ...     fsd.pretrain(source, latent_dim=4),
        ...     problem.sample_target(jax.random.key(2), 10),
        ... )
        >>> bool(fsd.subspace_error(model.decoder, problem.A_ta) < 1e-6)
        True
    """
    _check_source(pretrained)
    throw = _checks.boolean("throw", throw)
    _checks.choice("constraint", constraint, ("orthonormal", "rank"))
    _checks.choice("mean", mean, ("target", "source", None))
    _checks.choice("complete", complete, ("source", "none"))
    recipe = Recipe(
        method="few-shot",
        constraint=constraint,
        mean=mean,
        complete=complete,
        latent_dim=pretrained.latent_dim,
    )
    model = build(pretrained, x_target, recipe, times, weights, throw)
    _tell_oddities(model, throw)
    return model


def source_as_is(
    pretrained: PretrainedModel,
    x_target: ArrayLike,
    *,
    mean: str | None = "target",
    throw: bool = True,
) -> FewShotModel:
    """Baseline: keep the source's subspace; only the mean may come from the target.

    Args:
        pretrained: from `pretrain`.
        x_target: ``(n_ta, *shape)`` target samples.
        mean: ``"target"``, ``"source"`` or None.
        throw: as in `finetune`.

    Raises:
        ValueError: bad samples or options.
    """
    _check_source(pretrained)
    throw = _checks.boolean("throw", throw)
    _checks.choice("mean", mean, ("target", "source", None))
    recipe = Recipe(method="source-as-is", mean=mean, latent_dim=pretrained.latent_dim)
    model = build(pretrained, x_target, recipe, None, None, throw)
    _tell_oddities(model, throw)
    return model


def _check_source(pretrained: object) -> None:
    advice = "make one with pretrain(x_source, latent_dim=...)"
    _checks.instance("pretrained", pretrained, PretrainedModel, advice)


def _tell_oddities(model: FewShotModel, throw: bool) -> None:
    """Warn of data on another scale; without `throw` nothing waits for the values."""
    if throw and model.source is not None and not _checks.is_traced(model):
        for note in target_notes(model.source, model.samples):
            _checks.tell(f"x_target: {note}")


def target_only(
    x_target: ArrayLike, *, latent_dim: int, process: Process = VP(), throw: bool = True
) -> FewShotModel:
    """Baseline: train from scratch on the target, its dimension chosen by leave-one-out.

    Probabilistic PCA of the target with ``k <= latent_dim`` directions and a residual variance.
    Pictures that occur more than once, exactly or nearly, are left out together.

    Implements: "Leave-one-out".

    Args:
        x_target: ``(n_ta, *shape)`` target samples, at least two.
        latent_dim: the largest dimension considered.
        process: forward process.
        throw: as in `finetune`.

    Raises:
        ValueError: bad samples.
    """
    latent_dim = _checks.dimension("latent_dim", latent_dim)
    _process.check(process)
    throw = _checks.boolean("throw", throw)
    recipe = Recipe(method="target-only", latent_dim=latent_dim)
    return build(None, x_target, recipe, None, None, throw, process)


def build(
    source: PretrainedModel | None,
    x_target: ArrayLike,
    recipe: Recipe,
    times: ArrayLike | None,
    weights: ArrayLike | None,
    throw: bool,
    process: Process | None = None,
    labels: Int[Array, " n"] | None = None,
) -> FewShotModel:
    """The model of a recipe; `labels` say which rows are one picture, where that is known."""
    needs_mean = recipe.mean == "target" and recipe.method != "source-as-is"
    x, extra = _checks.samples("x_target", x_target, rows=2 if needs_mean else 1, images=True)
    shape = _checks.sample_shape("x_target", x_target)
    if source is not None:
        process = source.process
        x = x.astype(source.basis.dtype)
        if x.shape[1] != source.basis.shape[0]:
            raise ValueError(
                f"x_target has D = {x.shape[1]} (shape {shape}) but the source has "
                f"D = {source.basis.shape[0]} (shape {source.shape}); both need the same D"
            )
    assert process is not None, "either a source or a process is given"
    if times is None:
        if weights is not None:
            raise ValueError("weights go with times; give both or neither")
        times, weights = process.quadrature()
    t, w, bad = _checks.times_and_weights(None, times, weights, x.dtype)
    everyone: Bool[Array, " n"] = jnp.ones(x.shape[0], bool)
    kept = jnp.int32(recipe.latent_dim)
    if recipe.method == "target-only":
        if labels is None:
            labels = duplicates.labels_of(
                x, duplicates.scale_of(x), duplicates.log_pairs(x.shape[0])
            )
        kept = fitting.choose_dimension(x, labels, t, w, process, recipe=recipe)
    fitted = fitting.fit(source, x, everyone, kept, t, w, process, recipe=recipe)
    status = fitted.status | bad | int(extra)
    status = status | (0 if source is None else source.status & int(_checks.ERRORS))
    status = status | _checks.flag(~jnp.isfinite(jnp.sum(x)), _checks.Status.NON_FINITE)
    _checks.settle(status, name="x_target", throw=throw)
    return FewShotModel(
        linear=fitted.linear,
        source=source,
        samples=x,
        times=jnp.asarray(t),
        weights=jnp.asarray(w),
        kept=kept,
        rank=fitted.rank,
        status=status,
        recipe=recipe,
        shape=shape,
    )
