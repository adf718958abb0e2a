"""Pre-training in closed form: the source's mean, subspace, spectrum and residual variance."""

from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Key

from fsd_jax import _checks, _linalg
from fsd_jax._moments import SecondMoment
from fsd_jax._process import VP
from fsd_jax.fewshot.columns import source_notes


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
    """

    latent_variance: Float[Array, " d"]
    residual_variance: Float[Array, ""]
    mean: Float[Array, " D"]
    basis: Float[Array, "D d"]
    count: Int[Array, ""]
    status: Int[Array, ""]
    shape: tuple[int, ...] = field(metadata={"static": True})
    process: VP

    def __repr__(self) -> str:
        ambient, d = self.basis.shape
        return (
            f"PretrainedModel(shape={self.shape}, D={ambient}, d={d}, {self.basis.dtype}, "
            f"status={_checks.describe(self.status)})"
        )

    @property
    def latent_dim(self) -> int:
        """``d``."""
        return self.basis.shape[1]


def pretrain(
    x_source: ArrayLike | SecondMoment,
    *,
    latent_dim: int,
    mean: bool = True,
    residual: bool = True,
    isotropic: bool = False,
    process: VP = VP(),
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
        latent_dim: ``d``.
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
        >>> fsd.pretrain(faces, latent_dim=4)
        PretrainedModel(shape=(8, 8), D=64, d=4, float32, status=ok)
    """
    shape: tuple[int, ...]
    mean, residual = _checks.boolean("mean", mean), _checks.boolean("residual", residual)
    isotropic, throw = _checks.boolean("isotropic", isotropic), _checks.boolean("throw", throw)
    _checks.instance("process", process, VP)
    if key is not None:
        key = _checks.key("key", key)
    notes: tuple[str, ...] = ()
    if isinstance(x_source, SecondMoment):
        moment, shape = x_source, (x_source.basis.shape[0],)
        d = _checks.dimension(
            "latent_dim", latent_dim, high=moment.values.shape[0], top=" = eigenpairs kept"
        )
    else:
        # In their own dtype: float64 is centred before it is narrowed.
        x = _checks.sample_rows("x_source", x_source, least=2 if mean else 1, images=True)
        shape = _checks.sample_shape("x_source", x_source)
        d = _checks.dimension("latent_dim", latent_dim, high=min(x.shape), top=" = min(n_s, D)")
        moment = SecondMoment.from_samples(
            x, rank=d, centre=mean, route=route, key=key, throw=False
        )
        if throw:
            notes = source_notes(x, moment.values.dtype)
    model = _pretrain(moment, process, d=d, shape=shape, residual=residual, isotropic=isotropic)
    if throw and _constant(model):
        raise ValueError(
            "x_source has no variance: its samples are all the same, or differ by so little that "
            "their squares vanish; give different ones, or rescale them"
        )
    _checks.settle(model.status, name="x_source", throw=throw)
    for note in notes:
        _checks.tell(note)
    return model


def _constant(model: PretrainedModel) -> bool:
    """Whether the source has no direction at all; never under a trace."""
    top = model.latent_variance
    return not _checks.is_traced(top) and bool(np.any(np.max(np.asarray(top), axis=-1) == 0))


@partial(jax.jit, static_argnames=("d", "shape", "residual", "isotropic"))
def _pretrain(
    moment: SecondMoment,
    process: VP,
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
