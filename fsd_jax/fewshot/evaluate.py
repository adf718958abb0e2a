"""A model beside its baselines, on samples that none of them has seen."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from fsd_jax import _checks
from fsd_jax.fewshot import duplicates as doubles
from fsd_jax.fewshot import fit as fitting
from fsd_jax.fewshot.adapt import leave_out
from fsd_jax.fewshot.duplicates import Duplicates
from fsd_jax.fewshot.fit import Recipe
from fsd_jax.fewshot.model import FewShotModel
from fsd_jax.fewshot.oddities import target_notes
from fsd_jax.fewshot.report import Report, compare
from fsd_jax.fewshot.tune import build

MOST_COPIES = 0.5
"""Held-out samples of which a larger share are target samples are refused."""


def evaluate(
    model: FewShotModel,
    x_heldout: ArrayLike | None,
    target_groups: Any = None,
    x_source: ArrayLike | None = None,
) -> Report:
    """What `FewShotModel.report` returns."""
    source, d, x = model.source, model.recipe.latent_dim, model.samples
    if source is None:
        raise ValueError("report needs a model with a source; call it on the few-shot model")
    if _checks.is_traced(model, x_heldout, x_source):
        raise ValueError("report answers in words; call it outside jit, grad and vmap")
    n = x.shape[0]
    if x_heldout is None and n < 2:
        raise ValueError("leave-one-out needs at least 2 target samples, got 1; pass x_heldout=")
    scale = doubles.scale_of(x, source)
    same = doubles.concrete_labels(x, scale)
    labels = doubles.joined(same, target_groups)
    held = None if x_heldout is None else _heldout_rows(model, x_heldout)
    found, copies, units = _compare_sets(model, held, x_source, scale, same)
    seen = None
    if held is not None:
        seen = np.asarray([j not in copies for j in range(held.shape[0])])
        units = units[seen]
    pictures = len(np.unique(labels))

    def losses(of: FewShotModel) -> np.ndarray:
        if held is not None:
            values = np.asarray(of.losses(held.reshape(-1, *of.shape)))
            return values[seen]
        if pictures < 2:
            # One picture: nothing is left to fit when it is left out.
            return np.full(n, np.nan)
        if of.choices is not None:
            return leave_out(of, labels)
        return np.asarray(
            fitting.leave_one_out(
                source, x, labels.astype(np.int32), of.kept, of.times, of.weights,
                of.linear.process, recipe=of.recipe,
            )
        )  # fmt: skip

    ours = losses(model)
    rivals, scratch = _rivals(model, labels, pictures)
    alone = ("target only (needs 2 samples)", np.full_like(ours, np.inf))
    if scratch is not None:
        alone = (scratch.name, losses(scratch))
    return compare(
        model.name,
        ours,
        {rival.name: losses(rival) for rival in rivals},
        alone,
        evaluation="leave-one-out" if held is None else "held-out",
        n_ta=n,
        rank=int(model.rank),
        latent_dim=d,
        units=labels if held is None else units,
        n_units=pictures,
        duplicates=found,
        notes=target_notes(source, x),
    )


def _rivals(
    model: FewShotModel, labels: np.ndarray, pictures: int
) -> tuple[list[FewShotModel], FewShotModel | None]:
    """Source-as-is with either mean, and target-only where two pictures allow it."""
    shots = model.samples.reshape(-1, *model.shape)
    assert model.source is not None, "evaluate refuses models without a source"
    d = model.source.latent_dim
    # One objective for all: the model's own times and weights.
    objective = (model.times, model.weights)
    as_is = [
        build(
            model.source,
            shots,
            Recipe(method="source-as-is", mean=mean, latent_dim=d),
            *objective,
            throw=True,
        )
        for mean in ("target", "source")
    ]
    if pictures < 2:
        return as_is, None
    recipe = Recipe(method="target-only", latent_dim=d)
    process, groups = model.linear.process, jnp.asarray(labels, jnp.int32)
    return as_is, build(None, shots, recipe, *objective, True, process, groups)


def _heldout_rows(model: FewShotModel, x_heldout: ArrayLike) -> Array:
    x = _rows(model, "x_heldout", x_heldout)
    if not np.all(np.isfinite(np.asarray(model.losses(x.reshape(-1, *model.shape))))):
        raise ValueError("x_heldout has NaN or infinite entries; remove them")
    return x


def _rows(model: FewShotModel, name: str, value: ArrayLike) -> Array:
    x, _ = _checks.samples(name, value, images=True)
    shape = _checks.sample_shape(name, value)
    flat = len(shape) == 1 and shape[0] == x.shape[1] == model.samples.shape[1]
    if shape != model.shape and not (name == "x_source" and flat):
        raise ValueError(f"{name} must end in the sample shape {model.shape}, got {shape}")
    return x.astype(model.samples.dtype)


def _compare_sets(
    model: FewShotModel,
    held: Array | None,
    x_source: ArrayLike | None,
    scale: doubles.Scale,
    same: np.ndarray,
) -> tuple[Duplicates, set[int], np.ndarray]:
    """What occurs more than once, the held-out rows that are targets, and held-out labels."""
    x = model.samples
    copied: tuple[tuple[int, int], ...] = ()
    units = np.zeros(0, int)
    if held is not None:
        copied = doubles.pairs(x, held, scale)
        units = doubles.concrete_labels(held, scale)
        if len(copied) > MOST_COPIES * held.shape[0]:
            row, copy = copied[0]
            raise ValueError(
                f"x_heldout holds target samples: {len(copied)} of its {held.shape[0]} rows are "
                f"(nearly) the same as one (first: row {copy} is target row {row}); pass other "
                "samples, or none for leave-one-out"
            )
    from_source: tuple[tuple[int, int], ...] = ()
    held_source: tuple[tuple[int, int], ...] = ()
    if x_source is not None:
        rows = _rows(model, "x_source", x_source)
        from_source = doubles.pairs(x, rows, scale)
        held_source = () if held is None else doubles.pairs(held, rows, scale)
    found = Duplicates(
        target=doubles.repeated(same),
        heldout=doubles.repeated(units),
        target_heldout=copied,
        target_source=from_source,
        heldout_source=held_source,
        source_compared=x_source is not None,
    )
    return found, {copy for _, copy in copied}, units
