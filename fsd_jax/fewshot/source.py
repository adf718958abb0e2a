"""Pre-training in closed form: the source's mean, subspace, spectrum and residual variance."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _linalg, _process
from fsd_jax._moments import SecondMoment
from fsd_jax._process import VP, Process
from fsd_jax.fewshot import heldout as folds
from fsd_jax.fewshot.columns import source_notes

MUCH = 0.02
"""A model says so when more than this part of its source's variance is outside its directions."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class PretrainedModel:
    """What pre-training learned, and all that fine-tuning reuses.

    Attributes:
        latent_variance: ``(d,)``, descending: what the frozen ``f`` uses. These are the top
            eigenvalues ``c_k`` of the source, residual noise included (R12).
        residual_variance: mean of the discarded eigenvalues, 0 without residual gain.
        mean: ``(D,)`` source mean (zero if it was not modelled).
        basis: ``(D, d)`` source subspace.
        count: number of source samples, an integer scalar.
        status: `Status` flags of the decomposition.
        shape: trailing shape of one sample, ``(D,)`` or an image's.
        process: forward process.
        spectrum: ``"sample"``: the variances are the source's own eigenvalues; ``"heldout"``: the
            energies of left-out folds; ``"shrunk"``: eigenvalues corrected without the samples.
    """

    latent_variance: Float[Array, " d"]
    residual_variance: Float[Array, ""]
    mean: Float[Array, " D"]
    basis: Float[Array, "D d"]
    count: Int[Array, ""]
    status: Int[Array, ""]
    shape: tuple[int, ...] = field(metadata={"static": True})
    process: Process
    spectrum: str = field(default="sample", metadata={"static": True})

    def __repr__(self) -> str:
        ambient, d = self.basis.shape
        kind = "" if self.spectrum == "sample" else f"spectrum={self.spectrum}, "
        if not _checks.is_traced(self.latent_variance) and self.left_out > MUCH:
            kind += f"left out={float(self.left_out):.0%}, "
        return (
            f"PretrainedModel(shape={self.shape}, D={ambient}, d={d}, {kind}{self.basis.dtype}, "
            f"status={_checks.describe(self.status)})"
        )

    @property
    def left_out(self) -> Float[Array, ""]:
        """The part of the source's variance outside its d directions (0 without residual)."""
        rest = (self.basis.shape[0] - self.latent_dim) * self.residual_variance
        whole = jnp.sum(self.latent_variance) + rest
        return rest / jnp.where(whole > 0, whole, 1)

    @property
    def latent_dim(self) -> int:
        """``d``."""
        return self.basis.shape[1]


def pretrain(
    x_source: ArrayLike | SecondMoment,
    *,
    latent_dim: int | str = "auto",
    spectrum: str | None = None,
    groups: Any = None,
    mean: bool = True,
    residual: bool = True,
    isotropic: bool = False,
    process: Process = VP(),
    route: str = "auto",
    key: Key[Array, ""] | None = None,
    throw: bool = True,
) -> PretrainedModel:
    """Fit the linear diffusion model to the source: the exact minimiser, no iterations.

    Implements: Section 3.2 (pre-training) for a Gaussian latent; R12 for the residual gain, whose
    minimiser is ``lambda_k^2 = c_k`` and ``tau^2`` = mean discarded eigenvalue, at every time,
    among models whose latent variances are not below the residual one.

    Args:
        x_source: ``(n_s, ...)`` floating samples with any trailing (image) shape, or a
            `SecondMoment`, for example from `SecondMoment.from_batches` when the source does not
            fit in memory (its own centring then counts).
        latent_dim: ``d``, or ``"auto"``: all directions that hold more of new samples than the
            other directions do, but at most 1024 (512 of more than 2048).
        spectrum: ``"heldout"``: a direction's variance is the energy of samples that had no part in
            finding it (five folds, made monotone), for a `SecondMoment` an estimate of that
            from its eigenvalues; ``"sample"``: the eigenvalues. None is ``"heldout"`` with
            ``latent_dim="auto"``, else ``"sample"``.
        groups: ``(n_s,)`` integers or words; rows with the same one share a fold.
        mean: model the source's mean (a row is needed for it), or take it as zero.
        residual: give the model a residual gain outside the subspace.
        isotropic: use one variance, the mean of the top d, as in Section 5.
        process: forward process.
        route: see `SecondMoment.from_samples`.
        key: for ``route="krylov"``.
        throw: raise on errors that only the values show, or set the status.

    Returns:
        The pre-trained model.

    Raises:
        ValueError: bad samples or options.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> faces = jax.random.normal(jax.random.key(0), (500, 8, 8))
        >>> fsd.pretrain(faces, latent_dim=60)
        PretrainedModel(shape=(8, 8), D=64, d=60, left out=3%, float32, status=ok)
    """
    shape: tuple[int, ...]
    mean, residual = _checks.boolean("mean", mean), _checks.boolean("residual", residual)
    isotropic, throw = _checks.boolean("isotropic", isotropic), _checks.boolean("throw", throw)
    _process.check(process)
    if key is not None:
        key = _checks.key("key", key)
    if isinstance(latent_dim, str) and latent_dim != "auto":
        raise ValueError(f"latent_dim must be an integer or 'auto', got {latent_dim!r}")
    _checks.choice("spectrum", spectrum, (None, "heldout", "sample"))
    wanted = spectrum or ("heldout" if latent_dim == "auto" else "sample")
    notes: tuple[str, ...] = ()
    if isinstance(x_source, SecondMoment):
        if groups is not None:
            raise ValueError("groups needs the source's samples, not a SecondMoment; leave it out")
        shape = (x_source.basis.shape[0],)
        moment, d, kind = _from_moment(x_source, latent_dim, wanted)
    else:
        # In their own dtype: float64 is centred before it is narrowed.
        x = _checks.sample_rows("x_source", x_source, least=2 if mean else 1, images=True)
        shape = _checks.sample_shape("x_source", x_source)
        moment, d, kind = _from_rows(x, latent_dim, wanted, groups, mean, route, key)
        if throw:
            notes = source_notes(x, moment.values.dtype)
    model = _pretrain(moment, process, d=d, shape=shape, residual=residual, isotropic=isotropic)
    model = replace(model, spectrum=kind)
    if throw and _constant(model):
        raise ValueError(
            "x_source has no variance: its samples are all the same, or differ by so little that "
            "their squares vanish; give different ones, or rescale them"
        )
    _checks.settle(model.status, name="x_source", throw=throw)
    for note in notes:
        _checks.tell(note)
    return model


def _from_moment(
    given: SecondMoment, latent_dim: int | str, wanted: str
) -> tuple[SecondMoment, int, str]:
    """A moment with the spectrum that is wanted, its dimension, and what the spectrum is."""
    kept = given.values.shape[0]
    most = kept if latent_dim == "auto" else latent_dim
    d = _checks.dimension("latent_dim", most, high=kept, top=" = eigenpairs kept")
    if wanted == "sample":
        return given, d, "sample"
    if _checks.is_traced(given):
        raise ValueError('spectrum="heldout" looks at values; call it outside jit, grad and vmap')
    moment = folds.shrunk(given)
    return moment, _informative(moment) if latent_dim == "auto" else d, "shrunk"


def _from_rows(
    x: np.ndarray | jax.Array,
    latent_dim: int | str,
    wanted: str,
    groups: Any,
    mean: bool,
    route: str,
    key: Key[Array, ""] | None,
) -> tuple[SecondMoment, int, str]:
    """The same from samples."""
    side = min(x.shape)
    automatic = latent_dim == "auto"
    if not automatic:
        _checks.dimension("latent_dim", latent_dim, high=side, top=" = min(n_s, D)")
    if wanted == "sample" and not automatic:
        if groups is not None:
            raise ValueError('groups form folds; they go with spectrum="heldout"')
        rank = int(latent_dim)
        options: Any = {"route": route, "key": key, "throw": False}
        return SecondMoment.from_samples(x, rank=rank, centre=mean, **options), rank, "sample"
    if _checks.is_traced(x):
        raise ValueError('spectrum="heldout" looks at values; call it outside jit, grad and vmap')
    if x.shape[0] < 4:
        raise ValueError(
            f"x_source has {x.shape[0]} rows and folds need at least 4; give more samples, or "
            'latent_dim=... with spectrum="sample"'
        )
    fold = folds.folds_of(x.shape[0], groups, key)
    most = folds.most_directions(fold, x.shape[1], centre=mean)
    d = most if automatic else int(latent_dim)
    if d > most:
        raise ValueError(
            f'latent_dim must be at most {most} with spectrum="heldout", which every fold without '
            f"its own rows determines, got {d}"
        )
    own = SecondMoment.from_samples(x, rank=d, centre=mean, route=route, key=key, throw=False)
    y, _ = _checks.on_device(x - x.mean(axis=0) if mean else x)
    moment = folds.heldout(y, own, fold, centre=mean)
    d = _informative(moment) if automatic else d
    return (moment, d, "heldout") if wanted == "heldout" else (own, d, "sample")


def _informative(moment: SecondMoment) -> int:
    """Directions with more variance than those outside have on average, at least one."""
    values = np.asarray(moment.values)
    # Where all directions are there, those that folds cannot tell from the last are the others.
    whole = len(values) == moment.basis.shape[0]
    rest = float(values[-1]) if whole else float(moment.next_value)
    return max(1, int(np.sum(values > rest * (1 + 1e-4))))


def _constant(model: PretrainedModel) -> bool:
    """Whether the source has no direction at all; never under a trace."""
    top = model.latent_variance
    return not _checks.is_traced(top) and bool(np.any(np.max(np.asarray(top), axis=-1) == 0))


@partial(jax.jit, static_argnames=("d", "shape", "residual", "isotropic"))
def _pretrain(
    moment: SecondMoment,
    process: Process,
    *,
    d: int,
    shape: tuple[int, ...],
    residual: bool,
    isotropic: bool,
) -> PretrainedModel:
    values = moment.values[:d]
    ambient = moment.basis.shape[0]
    left = jnp.clip(moment.total - jnp.sum(values), 0) / max(ambient - d, 1)
    # The trace of noise-free data is reached to rounding: that is no residual.
    left = jnp.where(left * ambient > 8 * _linalg.eps_of(values.dtype) * moment.total, left, 0)
    tau2 = left if residual else jnp.zeros_like(left)
    floor = jnp.maximum(tau2, _linalg.eps_of(values.dtype) * jnp.max(values))
    lam2 = jnp.maximum(values, floor)
    if isotropic:
        lam2 = jnp.full_like(lam2, jnp.mean(values))
    mean = jnp.zeros(ambient, values.dtype) if moment.mean is None else moment.mean
    deficient = _checks.flag(jnp.any(values <= 0), _checks.Status.RANK_DEFICIENT)
    # Without any variance there is no law to diffuse.
    deficient |= _checks.flag(jnp.max(lam2) == 0, _checks.Status.BAD_VALUE)
    return PretrainedModel(
        latent_variance=lam2,
        residual_variance=tau2,
        mean=mean,
        basis=moment.basis[:, :d],
        count=moment.count,
        status=moment.status | deficient,
        shape=shape,
        process=process,
    )
