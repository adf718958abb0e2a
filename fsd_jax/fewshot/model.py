"""The front door: fine-tune on plain arrays, baselines with the same interface, save and load."""

import os
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from fsd_jax import _checks, _files
from fsd_jax.fewshot import fit as fitting
from fsd_jax.fewshot.fit import Recipe
from fsd_jax.fewshot.report import Report, compare
from fsd_jax.fewshot.source import PretrainedModel
from fsd_jax.linear_model import ThinGaussian
from fsd_jax.process import VP
from fsd_jax.score.linear import LinearScore


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class FewShotModel:
    """An adapted model; baselines are of this class too.

    Samples go in and come out with their own trailing shape.

    Attributes:
        linear: the score.
        source: the pre-trained model (None when trained on the target alone).
        samples: ``(n_ta, D)`` the target samples, kept for `report`.
        times: ``(K,)`` times of the integrated loss.
        weights: ``(K,)`` their weights.
        kept: dimension used by target-only.
        rank: number of directions that the target determined.
        status: `Status` flags.
        recipe: the choices made.
        shape: trailing shape of one sample.
    """

    linear: LinearScore
    source: PretrainedModel | None
    samples: Float[Array, "n D"]
    times: Float[Array, " K"]
    weights: Float[Array, " K"]
    kept: Int[Array, ""]
    rank: Int[Array, ""]
    status: Int[Array, ""]
    recipe: Recipe = field(metadata={"static": True})
    shape: tuple[int, ...] = field(metadata={"static": True})

    def __repr__(self) -> str:
        n, ambient = self.samples.shape
        return (
            f"FewShotModel({self.name}, shape={self.shape}, D={ambient}, "
            f"d={self.recipe.latent_dim}, n_ta={n}, rank={int(self.rank)}, {self.samples.dtype}, "
            f"status={_checks.describe(self.status)})"
        )

    @property
    def name(self) -> str:
        """Short name of the method."""
        if self.recipe.method == "few-shot":
            return f"few-shot {self.recipe.constraint}"
        if self.recipe.method == "source-as-is":
            return f"source as is, {self.recipe.mean or 'no'} mean"
        return f"target only, k={int(self.kept)}"

    @property
    def decoder(self) -> Float[Array, "D d"]:
        """``V``, ``(D, d)``."""
        return self.linear.decoder

    @property
    def law(self) -> ThinGaussian:
        """The Gaussian law whose diffused score this is (orthonormal decoders only).

        Raises:
            ValueError: for a rank-d decoder, whose score belongs to no Gaussian law.
        """
        if self.recipe.constraint != "orthonormal":
            raise ValueError(
                "a rank-constrained model is not the score of one Gaussian law, so its samples "
                "need the reverse-time sampler, which this release does not have; "
                "use constraint='orthonormal' to sample"
            )
        alive = jnp.diagonal(self.linear.mixing) > 0
        tau2 = self.linear.residual_variance
        # A direction left out (complete="none") has the residual's variance.
        return ThinGaussian(
            mean=self.linear.mean,
            basis=jnp.where(alive, self.linear.basis, 0),
            variance=jnp.where(alive, self.linear.latent_variance, tau2),
            residual_variance=tau2,
        )

    def score(self, x: ArrayLike, t: ArrayLike) -> Array:
        """``s(x, t)`` for ``x`` of shape ``(..., *shape)`` and one time ``t > 0``."""
        flat, batch = self._flat(x)
        return self.linear(flat, t).reshape(*batch, *self.shape)

    def denoise(self, x: ArrayLike, t: ArrayLike) -> Array:
        """Estimate of the clean sample behind ``x`` at time ``t``."""
        flat, batch = self._flat(x)
        return self.linear.denoise(flat, t).reshape(*batch, *self.shape)

    def loss(self, x: ArrayLike) -> Float[Array, ""]:
        """Section 3.2's loss on clean samples ``(n, *shape)``, noise integrated out exactly."""
        return jnp.mean(self.losses(x))

    def losses(self, x: ArrayLike) -> Float[Array, " n"]:
        """The loss of each clean sample."""
        flat, batch = self._flat(x)
        if len(batch) != 1:
            raise ValueError(f"x must have shape (n, {self.shape}), got {tuple(jnp.shape(x))}")
        return _losses(self.linear, flat, self.times, self.weights)

    def sample(self, key: Key[Array, ""], n: int) -> Array:
        """``n`` draws from the model's exact Gaussian law, ``(n, *shape)``.

        Raises:
            ValueError: for a rank-constrained model (see `law`).
        """
        draws = self.law.sample(key, _checks.dimension("n", n))
        return draws.reshape(n, *self.shape)

    def report(self, x_heldout: ArrayLike | None = None) -> Report:
        """Loss beside "source as is" and "target only": is this many samples enough?

        Without held-out samples every method is refitted with each target sample left out in turn.
        Its standard errors treat those losses as independent, which is approximate.

        Args:
            x_heldout: ``(n, *shape)`` target samples not used in fine-tuning, or None.

        Raises:
            ValueError: no source, or a single target sample and nothing held out.
        """
        if self.source is None:
            raise ValueError("report needs a model with a source; call it on the few-shot model")
        n = self.samples.shape[0]
        if x_heldout is None and n < 2:
            raise ValueError(
                "leave-one-out needs at least 2 target samples, got 1; pass x_heldout="
            )
        rivals = [
            source_as_is(self.source, self._shaped(), mean="target"),
            source_as_is(self.source, self._shaped(), mean="source"),
        ]
        d = self.recipe.latent_dim
        scratch = (
            target_only(self._shaped(), latent_dim=d, process=self.linear.process) if n > 1 else None
        )

        def losses(model: FewShotModel) -> np.ndarray:
            if x_heldout is not None:
                return np.asarray(model.losses(x_heldout))
            return np.asarray(
                fitting.leave_one_out(
                    model.source,
                    model.samples,
                    model.kept,
                    model.times,
                    model.weights,
                    model.linear.process,
                    recipe=model.recipe,
                )
            )

        ours = losses(self)
        alone = losses(scratch) if scratch is not None else np.full_like(ours, np.inf)
        return compare(
            self.name,
            ours,
            {model.name: losses(model) for model in rivals},
            (scratch.name if scratch is not None else "target only (n_ta = 1)", alone),
            evaluation="leave-one-out" if x_heldout is None else "held-out",
            n_ta=n,
            rank=int(self.rank),
            latent_dim=d,
        )

    def _flat(self, x: ArrayLike) -> tuple[Array, tuple[int, ...]]:
        array, _ = _checks.floating("x", x)
        k = len(self.shape)
        if array.shape[array.ndim - k :] != self.shape:
            raise ValueError(
                f"x must end in the sample shape {self.shape}, got shape {tuple(array.shape)}"
            )
        batch = array.shape[: array.ndim - k]
        return array.reshape(*batch, -1), batch

    def _shaped(self) -> Array:
        return self.samples.reshape(-1, *self.shape)


@jax.jit
def _losses(linear: LinearScore, x: Array, times: Array, weights: Array) -> Array:
    return linear.losses(x, times, weights)


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
    """Adapt a pre-trained model to a few target samples: the exact minimiser over ``V``.

    Implements: Section 5 (few-shot fine-tuning); R7 (orthonormal), R2 (rank).

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
    _checks.choice("constraint", constraint, ("orthonormal", "rank"))
    _checks.choice("mean", mean, ("target", "source", None))  # type: ignore[list-item]
    _checks.choice("complete", complete, ("source", "none"))
    recipe = Recipe(
        method="few-shot",
        constraint=constraint,
        mean=mean,
        complete=complete,
        latent_dim=pretrained.latent_dim,
    )
    return _build(pretrained, x_target, recipe, times, weights, throw)


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
    _checks.choice("mean", mean, ("target", "source", None))  # type: ignore[list-item]
    recipe = Recipe(method="source-as-is", mean=mean, latent_dim=pretrained.latent_dim)
    return _build(pretrained, x_target, recipe, None, None, throw)


def target_only(
    x_target: ArrayLike, *, latent_dim: int, process: VP = VP(), throw: bool = True
) -> FewShotModel:
    """Baseline: train from scratch on the target, its dimension chosen by leave-one-out.

    Probabilistic PCA of the target with ``k <= latent_dim`` directions and a residual variance.

    Args:
        x_target: ``(n_ta, *shape)`` target samples, at least two.
        latent_dim: the largest dimension considered.
        process: forward process.
        throw: as in `finetune`.

    Raises:
        ValueError: bad samples.
    """
    latent_dim = _checks.dimension("latent_dim", latent_dim)
    recipe = Recipe(method="target-only", latent_dim=latent_dim)
    return _build(None, x_target, recipe, None, None, throw, process)


def _build(
    source: PretrainedModel | None,
    x_target: ArrayLike,
    recipe: Recipe,
    times: ArrayLike | None,
    weights: ArrayLike | None,
    throw: bool,
    process: VP | None = None,
) -> FewShotModel:
    needs_mean = recipe.mean == "target" and recipe.method != "source-as-is"
    x, extra = _checks.samples("x_target", x_target, rows=2 if needs_mean else 1, images=True)
    shape = tuple(jnp.shape(x_target)[1:])
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
        kept = fitting.choose_dimension(x, t, w, process, recipe=recipe)
    fitted = fitting.fit(source, x, everyone, kept, t, w, process, recipe=recipe)
    status = fitted.status | bad | int(extra)
    status = status | (0 if source is None else source.status & int(_checks.ERRORS))
    status = status | _checks.flag(~jnp.isfinite(jnp.sum(x)), _checks.Status.NON_FINITE)
    _checks.settle(status, name="x_target", throw=throw)
    return FewShotModel(
        linear=fitted.linear,
        source=source,
        samples=x,
        times=t,
        weights=w,
        kept=kept,
        rank=fitted.rank,
        status=status,
        recipe=recipe,
        shape=shape,
    )


_STORED = {c.__name__: c for c in (PretrainedModel, FewShotModel, LinearScore, Recipe, VP)}


def save(path: str | os.PathLike[str], model: PretrainedModel | FewShotModel) -> None:
    """Store a model as npz with a JSON header and a format version; atomic, no pickle.

    Args:
        path: destination; used as it is, no suffix is added.
        model: a pre-trained or adapted model.

    Raises:
        ValueError: for anything else.
        OSError: if the file cannot be written.
    """
    if type(model).__name__ not in ("PretrainedModel", "FewShotModel"):
        raise ValueError(
            f"model must be a PretrainedModel or FewShotModel, got {type(model).__name__}"
        )
    _files.write_record(path, model)


def load(path: str | os.PathLike[str]) -> PretrainedModel | FewShotModel:
    """Read a model stored by `save`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, damaged, or written by a newer format.
    """
    return _files.read_record(path, _STORED)
