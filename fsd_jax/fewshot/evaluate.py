"""A model beside its rivals, on samples that none of them has seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from fsd_jax import _checks
from fsd_jax.fewshot import choice as choosing
from fsd_jax.fewshot import duplicates as doubles
from fsd_jax.fewshot import family, shrinkage
from fsd_jax.fewshot import fit as fitting
from fsd_jax.fewshot.adapt import leave_out, thin
from fsd_jax.fewshot.duplicates import Duplicates
from fsd_jax.fewshot.fit import Recipe
from fsd_jax.fewshot.model import FewShotModel, linear_losses
from fsd_jax.fewshot.oddities import target_notes
from fsd_jax.fewshot.report import Report, compare
from fsd_jax.fewshot.tune import build
from fsd_jax.score._linear import LinearScore

MOST_COPIES = 0.5
"""Held-out samples of which a larger share are target samples are refused."""

ONE = "needs 2 samples"
"""Said of what cannot be fitted to one picture."""


def evaluate(
    model: FewShotModel,
    x_heldout: ArrayLike | None,
    rivals: Any = None,
    target_groups: Any = None,
    x_source: ArrayLike | None = None,
    sizes: Any = None,
) -> Report:
    """What `FewShotModel.report` returns."""
    source, x = model.source, model.samples
    if source is None:
        raise ValueError("report needs a model with a source; call it on the few-shot model")
    if _checks.is_traced(model, x_heldout, x_source):
        raise ValueError("report answers in words; call it outside jit, grad and vmap")
    n = x.shape[0]
    if x_heldout is None and n < 2:
        raise ValueError("leave-one-out needs at least 2 target samples, got 1; pass x_heldout=")
    others = _named(rivals)
    scale = doubles.scale_of(x, source)
    same = doubles.concrete_labels(x, scale)
    labels = doubles.joined(same, target_groups)
    held = None if x_heldout is None else _heldout_rows(model, x_heldout)
    found, copies, units = _compare_sets(model, held, x_source, scale, same)
    if held is not None:
        seen = np.asarray([j not in copies for j in range(held.shape[0])])
        held, units = held[seen], units[seen]
    pictures = len(np.unique(labels))
    units = labels if held is None else units
    judge = _Judge(model=model, labels=labels, pictures=pictures, held=held, units=units)
    return compare(
        model.name,
        judge.of_model(model.name, model),
        {rival.name: judge.of_model(rival.name, rival) for rival in _as_is(model)},
        judge.target_only(),
        evaluation="leave-one-out" if held is None else "held-out",
        n_ta=n,
        rank=int(model.rank),
        latent_dim=model.recipe.latent_dim,
        units=units,
        n_units=pictures,
        duplicates=found,
        notes=target_notes(source, x),
        rivals=judge.pooled() | {name: judge.of(name, rival) for name, rival in others.items()},
        curve=() if sizes is None else model.learning_curve(sizes),
    )


def _named(rivals: Any) -> dict[str, Any]:
    """Rivals by name: of a mapping its own, of a list of models theirs."""
    if rivals is None:
        return {}
    kinds = (FewShotModel, LinearScore)
    if isinstance(rivals, kinds) or not isinstance(rivals, Mapping | list | tuple):
        raise ValueError(
            "rivals must be a list of models, or a mapping of names to models or to functions that "
            f"fit one to given target samples, got {_checks.named(rivals)}"
        )
    if isinstance(rivals, Mapping):
        pairs = [(str(name), rival) for name, rival in rivals.items()]
    else:
        pairs = [(getattr(r, "name", f"rival {i + 1}"), r) for i, r in enumerate(rivals)]
    found: dict[str, Any] = {}
    for name, rival in pairs:
        if not (isinstance(rival, kinds) or callable(rival)):
            raise ValueError(
                f"rivals: {name!r} must be a FewShotModel, a LinearScore or a function of target "
                f"samples that returns one, got {_checks.named(rival)}"
            )
        # Two of one name are told apart by their place.
        found[name if name not in found else f"{name} ({len(found) + 1})"] = rival
    return found


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """Losses of any model by the measure of one: its times, and held-out or left-out samples.

    Attributes:
        model: whose targets, times and weights count.
        labels: ``(n,)``; target samples with the same one are left out together.
        pictures: number of different labels.
        units: labels of what is judged.
        held: ``(m, D)`` held-out samples, or None for leave-one-out.
    """

    model: FewShotModel
    labels: np.ndarray
    pictures: int
    units: np.ndarray
    held: Array | None

    @property
    def levels(self) -> choosing.Levels:
        """``m_t^2``, ``sigma_t^2`` and weights of the model's loss."""
        times, weights = (np.asarray(v, np.float64) for v in (self.model.times, self.model.weights))
        return *self.model.linear.process.host_variances(times), weights

    @property
    def _lone(self) -> bool:
        """Whether leaving the only picture out leaves nothing to fit to."""
        return self.held is None and self.pictures < 2

    def of(self, name: str, rival: Any) -> np.ndarray:
        """Losses of a rival that the user gave."""
        if isinstance(rival, FewShotModel):
            return self.of_model(name, rival)
        if isinstance(rival, LinearScore):
            if self.held is None:
                raise ValueError(
                    f"rivals: {name!r} has seen the target samples or not, and leave-one-out "
                    "cannot know; give a function that fits it to given ones, or pass x_heldout="
                )
            return self._scored(name, rival, self.held)
        return self._refitted(name, rival)

    def of_model(self, name: str, of: FewShotModel) -> np.ndarray:
        """Losses of a few-shot model."""
        if self.held is not None:
            return self._scored(name, of.linear, self.held)
        x = self.model.samples
        if of.samples.shape != x.shape or not bool(jnp.all(of.samples == x)):
            raise ValueError(
                f"rivals: {name!r} was fitted to other target samples; fit it to the same ones, "
                "give a function that does, or pass x_heldout="
            )
        if self._lone:
            return np.full(len(x), np.nan)
        if of.choices is not None:
            return leave_out(of, self.labels, self.levels)
        return np.asarray(
            fitting.leave_one_out(
                of.source, x, self.labels.astype(np.int32), of.kept, self.model.times,
                self.model.weights, of.linear.process, recipe=of.recipe,
            )
        )  # fmt: skip

    def target_only(self) -> tuple[str, np.ndarray]:
        """The better shrinkage of the target alone."""
        size = len(self.units)
        if self.pictures < 2:
            return f"target only ({ONE})", np.full(size, np.inf)
        x, held = self._from_centre()
        found = shrinkage.evaluated(x, self.labels, held, self.levels)
        best = min(found, key=lambda name: _mean(found[name], self.units))
        return f"target only, {best}", found[best]

    def pooled(self) -> dict[str, np.ndarray]:
        """All samples of source and target as one set; where the source's number is known."""
        source = self.model.source
        assert source is not None, "evaluate refuses models without a source"
        count = int(source.count)
        if count < 1 or self._lone:
            return {}
        blocks = choosing.blocks_of(source)
        members = choosing.family_of(blocks)
        x = np.asarray(self.model.samples, np.float64) - np.asarray(source.mean, np.float64)
        # The source as it is counts with its number, in the covariance and in the mean.
        point = np.zeros(3 + members.shapes.shape[1])
        point[:3] = -100.0, np.log(count), np.log(count)
        name = "source and target pooled"
        if self.held is not None:
            score = thin(source, blocks, members.member(point, len(x)), x)
            return {name: self._scored(name, score, self.held)}
        few = choosing.few_of(source, blocks, x, self.labels, self.levels)
        return {name: family.leave_one_out(members, few, point, gradient=False)[0]}

    def _from_centre(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Target and held-out samples about the target's mean, in float64."""
        x = np.asarray(self.model.samples, np.float64)
        centre = x.mean(axis=0)
        held = None if self.held is None else np.asarray(self.held, np.float64) - centre
        return x - centre, held

    def _refitted(self, name: str, fit: Callable[[Array], Any]) -> np.ndarray:
        """Losses under what a function fits to all targets, or to those of other units."""
        shots = self.model.samples.reshape(-1, *self.model.shape)
        if self.held is not None:
            return self._scored(name, fit(shots), self.held)
        losses = np.full(len(self.labels), np.nan)
        for unit in np.unique(self.labels) if self.pictures > 1 else ():
            out = self.labels == unit
            losses[out] = self._scored(name, fit(shots[~out]), self.model.samples[out])
        return losses

    def _scored(self, name: str, found: Any, x: Array) -> np.ndarray:
        linear = found.linear if isinstance(found, FewShotModel) else found
        if not isinstance(linear, LinearScore) or linear.mean.shape != x.shape[1:]:
            raise ValueError(
                f"rivals: {name!r} must be or return a FewShotModel or LinearScore of D = "
                f"{x.shape[1]}, got {_checks.named(found)}"
            )
        return np.asarray(linear_losses(linear, x, self.model.times, self.model.weights))


def _mean(losses: np.ndarray, units: np.ndarray) -> float:
    """The mean in which each unit counts once."""
    _, unit, counts = np.unique(units, return_inverse=True, return_counts=True)
    return float(np.mean(np.bincount(unit, weights=losses) / counts))


def _as_is(model: FewShotModel) -> list[FewShotModel]:
    """The source as it is, with either mean."""
    shots = model.samples.reshape(-1, *model.shape)
    assert model.source is not None, "evaluate refuses models without a source"
    # One objective for all: the model's own times and weights.
    return [
        build(
            model.source,
            shots,
            Recipe(method="source-as-is", mean=mean, latent_dim=model.source.latent_dim),
            model.times,
            model.weights,
            throw=True,
        )
        for mean in ("target", "source")
    ]


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
