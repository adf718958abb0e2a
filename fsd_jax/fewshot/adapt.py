"""`adapt`: from a source and a few samples to the model one would choose, with nothing to set."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Key

from fsd_jax import _checks, _linalg
from fsd_jax._moments import SecondMoment
from fsd_jax.fewshot import choice as choosing
from fsd_jax.fewshot import duplicates, heldout
from fsd_jax.fewshot.choice import Choices
from fsd_jax.fewshot.family import Family, Few, Member, leave_one_out
from fsd_jax.fewshot.fit import Recipe
from fsd_jax.fewshot.model import FewShotModel
from fsd_jax.fewshot.oddities import target_notes
from fsd_jax.fewshot.source import MUCH, PretrainedModel, pretrain
from fsd_jax.score._linear import LinearScore

WORDS = {
    "heldout": "variances of directions are energies of held-out source samples",
    "shrunk": "variances of directions are eigenvalues corrected by nonlinear shrinkage",
    "sample": "variances of directions are the source's own",
}


def adapt(
    source: ArrayLike | SecondMoment | PretrainedModel,
    target: ArrayLike,
    *,
    groups: Any = None,
    target_groups: Any = None,
    key: Key[Array, ""] | None = None,
) -> FewShotModel:
    """The model of a few target samples that a source allows; nothing needs to be set.

    A Gaussian law between the source's, as that generalises, and the target's: the mean is partly
    the target's, the covariance ``(1 - r) s Sigma_s + r S_t + c``, where ``s`` is a curve over the
    source's spectrum. All weights are chosen together by the exact leave-one-out loss and a
    weak prior. ``r`` near one with a ridge is shrinkage of the target alone, ``r`` near zero the
    source with another scale.

    Args:
        source: ``(n_s, *shape)`` floating samples, or a `SecondMoment`, or what `pretrain` returns.
            From samples the spectrum is that of held-out folds; from eigenvalues alone it
            is corrected by nonlinear shrinkage. A moment without a mean takes the target's.
        target: ``(n_ta, *shape)`` target samples.
        groups: ``(n_s,)`` integers or words; source samples with the same one share a fold.
        target_groups: ``(n_ta,)`` the same for target samples, which are then left out together,
            as those are anyway that are (nearly) one picture.
        key: for folds, for the choice among more than 128 samples, and for large decompositions.

    Returns:
        The model; ``FewShotModel.choices`` says what was chosen.

    Raises:
        ValueError: bad samples, groups or a traced argument.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> problem = fsd.LinearProblem.random(
        ...     jax.random.key(0), ambient_dim=64, latent_dim=4, latent_variance=1.0,
        ...     residual_variance=0.01,
        ... )
        >>> source = problem.sample_source(jax.random.key(1), 1000)
        >>> model = fsd.adapt(source, problem.sample_target(jax.random.key(2), 10))
        >>> model.sample(jax.random.key(3), 5).shape
        (5, 64)
    """
    if _checks.is_traced(source, target):
        raise ValueError("adapt chooses by values; call it outside jit, grad and vmap")
    if key is not None:
        key = _checks.key("key", key)
    x, extra = _checks.samples("target", target, images=True)
    shape = _checks.sample_shape("target", target)
    whole, mean = _source(source, groups, key)
    if x.shape[1] != whole.basis.shape[0]:
        raise ValueError(
            f"target has D = {x.shape[1]} (shape {shape}) but the source has "
            f"D = {whole.basis.shape[0]} (shape {whole.shape}); both need the same D"
        )
    status = _checks.flag(~jnp.isfinite(jnp.sum(x)), _checks.Status.NON_FINITE) | int(extra)
    _checks.settle(status, name="target", throw=True)
    x = x.astype(whole.basis.dtype)
    for note in target_notes(whole, x):
        _checks.tell(f"target: {note}")
    same = duplicates.concrete_labels(x, duplicates.scale_of(x, whole))
    units = duplicates.joined(same, target_groups)
    if not mean:
        whole = _about(whole, x)
    return _adapted(whole, x, units, shape, status, key, mean=mean)


def _source(source: Any, groups: Any, key: Key[Array, ""] | None) -> tuple[PretrainedModel, bool]:
    """The source as it generalises, and whether it has a mean."""
    if isinstance(source, SecondMoment | PretrainedModel) and groups is not None:
        raise ValueError(
            f"groups needs the source's samples, not a {type(source).__name__}; leave it out"
        )
    if isinstance(source, PretrainedModel):
        _checks.settle(source.status, name="source", throw=True)
        return _generalised(source), True
    if isinstance(source, SecondMoment):
        _checks.settle(source.status, name="source", throw=True)
        return pretrain(source), source.mean is not None
    return pretrain(source, groups=groups, key=key), True


def _generalised(source: PretrainedModel) -> PretrainedModel:
    """A model with its source's own eigenvalues gets them corrected."""
    if source.spectrum != "sample":
        return source
    rest = (source.basis.shape[0] - source.latent_dim) * source.residual_variance
    moment = SecondMoment(
        values=source.latent_variance, basis=source.basis, count=source.count,
        total=jnp.sum(source.latent_variance) + rest, next_value=source.residual_variance,
        mean=source.mean, route_code=jnp.int32(0), status=source.status,
    )  # fmt: skip
    fitted = heldout.shrunk(moment)
    return replace(
        source,
        latent_variance=fitted.values,
        residual_variance=fitted.next_value,
        spectrum="shrunk",
    )


def _about(source: PretrainedModel, x: Array) -> PretrainedModel:
    """The source about the target's mean."""
    return replace(source, mean=jnp.mean(x, axis=0))


def _adapted(
    source: PretrainedModel,
    x: Array,
    units: np.ndarray,
    shape: tuple[int, ...],
    status: Array,
    key: Key[Array, ""] | None,
    *,
    mean: bool,
) -> FewShotModel:
    """The choice, and the model that it makes of all samples."""
    process = source.process
    times, weights = process.quadrature()
    blocks = choosing.blocks_of(source)
    family = choosing.family_of(blocks)
    y = np.asarray(x, np.float64) - np.asarray(source.mean, np.float64)
    few = choosing.few_of(source, blocks, y, units, choosing.levels(process, choosing.NODES))
    prior = choosing.prior_of(family, blocks, choosing.levels(process, 64), mean=mean)
    rows, notes = _rows(units, key)
    if source.left_out > MUCH:
        notes += (
            f"the source keeps {source.latent_dim} directions, and {float(source.left_out):.0%} of "
            "its variance is outside them",
        )
    point = choosing.choose(family, choosing.without(few, rows), prior)
    member = family.member(point, len(x))
    choices = Choices(
        source=WORDS[source.spectrum],
        target_share=member.b,
        mean_share=member.a,
        ridge=float(np.exp(point[0])),
        scales=tuple(float(s) for s in np.exp(point[3:])),
        point=tuple(float(v) for v in point),
        loss=_loss(family, choosing.without(few, rows), point),
        units=len(np.unique(units[rows])),
        notes=notes,
    )
    linear = thin(source, blocks, member, y)
    k = linear.basis.shape[1]
    return FewShotModel(
        linear=linear,
        source=source,
        samples=x,
        times=jnp.asarray(times, x.dtype),
        weights=jnp.asarray(weights, x.dtype),
        kept=jnp.int32(k),
        rank=jnp.int32(min(len(np.unique(units)), k)),
        status=status | (source.status & ~int(_checks.ERRORS)),
        recipe=Recipe(method="adapted", latent_dim=k, mean="target"),
        shape=shape,
        choices=choices,
    )


def _rows(units: np.ndarray, key: Key[Array, ""] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """The samples that choose: all, or of very many some, whole units together."""
    n = len(units)
    if n <= choosing.MOST_SAMPLES:
        return np.arange(n), ()
    seed = 0 if key is None else int(jax.random.randint(key, (), 0, 2**31 - 1))
    different = np.random.default_rng(seed).permutation(np.unique(units))
    sizes = np.cumsum([np.sum(units == unit) for unit in different])
    kept = different[: max(2, int(np.sum(sizes <= choosing.MOST_SAMPLES)))]
    rows = np.flatnonzero(np.isin(units, kept))
    return rows, (f"{len(rows)} of the {n} target samples chose",)


def _loss(family: Family, few: Few, point: np.ndarray) -> float:
    """Mean leave-one-out loss, every unit counting once."""
    _, unit, counts = np.unique(few.units, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return float("nan")
    losses, _ = leave_one_out(family, few, point, gradient=False)
    return float(np.mean(np.bincount(unit, weights=losses) / counts))


def thin(
    source: PretrainedModel, blocks: choosing.Blocks, member: Member, y: np.ndarray
) -> LinearScore:
    """The member's law for samples `y` from the source's mean, as a score in thin form.

    The samples add directions outside the source's; in the span of both the covariance is
    decomposed, on the host in float64.
    """
    ambient, d = source.basis.shape
    dtype, n = source.basis.dtype, len(y)
    basis = np.asarray(source.basis, np.float64)
    step = member.a * np.mean(y, axis=0)
    about = y - step
    inside, new = about @ basis, np.zeros((ambient, 0))
    rest = float(member.base[-1]) if ambient > d else 0.0
    if ambient > d:
        new = _outside(about, basis)
    parts = np.hstack([inside, about @ new])
    base = np.append(blocks.each(member.base, d), np.full(new.shape[1], rest))
    small = np.diag(base) + (member.b / n) * (parts.T @ parts)
    values, vectors = _linalg.host_eigh(small)
    frame = jnp.asarray(np.hstack([basis, new]), dtype)
    turned = _linalg.matmul(frame, jnp.asarray(vectors[:, ::-1], dtype))
    k = len(values)
    return LinearScore(
        basis=turned,
        mixing=jnp.eye(k, dtype=dtype),
        latent_variance=jnp.asarray(np.maximum(values[::-1], 0), dtype),
        residual_variance=jnp.asarray(rest, dtype),
        mean=source.mean + jnp.asarray(step, dtype),
        process=source.process,
    )


def _outside(y: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Orthonormal directions of rows `y` outside an orthonormal basis; none that are rounding."""
    left = y - (y @ basis) @ basis.T
    values, vectors = _linalg.host_eigh(left @ left.T)
    real = values > 1e-10 * float(np.sum(y**2))
    room = basis.shape[0] - basis.shape[1]
    found = (left.T @ vectors[:, real] / np.sqrt(values[real]))[:, ::-1][:, :room]
    # A basis in float32 is orthonormal to its own rounding only.
    for _ in range(2):
        found = found - basis @ (basis.T @ found)
    return found / np.sqrt(np.maximum(np.sum(found**2, axis=0), 1e-300))


def leave_out(
    model: FewShotModel, units: np.ndarray, judged: choosing.Levels | None = None
) -> np.ndarray:
    """Loss of each target sample under a model that was chosen and fitted without its unit.

    The choice is made anew each time, so what is judged had no part in it. The loss is that of
    `judged` times, by default those of the process.
    """
    source, choices = model.source, model.choices
    assert source is not None, "what adapt returns has a source"
    assert choices is not None, "what adapt returns has choices"
    blocks = choosing.blocks_of(source)
    family = choosing.family_of(blocks)
    y = np.asarray(model.samples, np.float64) - np.asarray(source.mean, np.float64)
    process = source.process
    search, over = choosing.levels(process, choosing.NODES), choosing.levels(process, 64)
    mean = choices.point[2] > -20
    prior = choosing.prior_of(family, blocks, over, mean=mean)
    few = choosing.few_of(source, blocks, y, units, search)
    whole = choosing.few_of(source, blocks, y, units, over if judged is None else judged)
    losses = np.empty(len(y))
    for unit in np.unique(units):
        held = units == unit
        rows, _ = _rows(units[~held], None)
        others = np.flatnonzero(~held)[rows]
        point = choosing.choose(family, choosing.without(few, others), prior, near=choices.point)
        losses[held] = leave_one_out(family, whole, point, gradient=False)[0][held]
    return losses
