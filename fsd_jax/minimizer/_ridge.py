"""Pulling the decoder towards the source, for when the target alone cannot determine it.

Neither is in the paper's class: both assume that the target's subspace is near the source's.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg, _process
from fsd_jax._checks import Status
from fsd_jax._moments import ROUTES, SecondMoment
from fsd_jax._process import VP, Process
from fsd_jax.minimizer._closed_form import Minimizer
from fsd_jax.minimizer._objective import QuadraticForm, one_moment, whole_moment


def ridge_minimizer(
    moment: SecondMoment,
    source_basis: ArrayLike,
    *,
    strength: ArrayLike,
    latent_variance: ArrayLike,
    latent_dim: int | None = None,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    process: Process = VP(),
    throw: bool = True,
) -> Minimizer:
    """Minimise the fine-tuning loss plus ``mu ||P - P_s||_F^2``, with ``P = VV'``, ``P_s`` source.

    In the eigenbasis of the second moment, and with R2's ``a``, ``e``, ``b``,

        P_ij = 2 (b C + mu P_s)_ij / (k_i + k_j + 2 mu),   k_i = a c_i + e.

    It is positive semi-definite (it solves a Lyapunov equation) and lives in the joint span of the
    moment and the source, so nothing larger than that is formed. Its rank is above d: with
    `latent_dim` it is cut to its top d eigenpairs, which is near the optimum of that rank but is
    not it.

    Implements: R18.

    Args:
        moment: second moment of the target, holding every direction (``rank=None``).
        source_basis: ``(D, d)`` orthonormal columns.
        strength: ``mu >= 0``, in units of the loss.
        latent_variance: scalar variance that the frozen ``f`` uses.
        latent_dim: rank to cut to; None keeps the exact minimiser.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default, never normalised.
        process: forward process.
        throw: raise on errors that only the values show, or set the status.

    Returns:
        The minimiser; its basis has ``min(D, k + d)`` columns, or `latent_dim`.

    Raises:
        ValueError: values out of range, a basis whose columns are not orthonormal, or shapes that
            do not match; a truncated moment.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> x = jax.random.normal(jax.random.key(0), (5, 64))
        >>> moment = fsd.SecondMoment.from_samples(x)
        >>> source = jax.numpy.eye(64)[:, :8]
        >>> fsd.ridge_minimizer(
        ...     moment, source, strength=1.0, latent_variance=1.0, latent_dim=8, time=0.5
        ... )
        Minimizer(D=64, d=8, rank=8, float32, status=ok)
    """
    whole_moment("moment", moment)
    _process.check(process, time=time, times=times)
    throw = _checks.boolean("throw", throw)
    dtype = moment.values.dtype
    basis, _ = _checks.floating("source_basis", source_basis, ndim=(2,))
    if basis.shape[0] != moment.basis.shape[0]:
        raise ValueError(
            f"source_basis has D = {basis.shape[0]} rows but the moment has D = "
            f"{moment.basis.shape[0]}; they must come from the same space"
        )
    if basis.shape[1] == 0:
        raise ValueError("source_basis has no columns; pass the d directions of the source")
    bad_basis = _checks.orthonormal("source_basis", basis)
    joint = min(basis.shape[0], moment.basis.shape[1] + basis.shape[1])
    d = joint
    if latent_dim is not None:
        d = _checks.dimension("latent_dim", latent_dim, high=joint, top=" = k + d")
    t, w, bad_time = _checks.times_and_weights(time, times, weights, dtype)
    mu, bad_mu = _checks.positive("strength", strength, dtype, ndim=(0,), zero=True)
    lam2, bad_variance = _checks.positive("latent_variance", latent_variance, dtype, ndim=(0,))
    _checks.settle(moment.status, name="moment", throw=throw)
    bad = bad_time | bad_mu | bad_variance | bad_basis
    return _ridge(moment, basis.astype(dtype), mu, lam2, t, w, bad, process, d=d)


@partial(jax.jit, static_argnames=("d",))
def _ridge(
    moment: SecondMoment,
    source: Float[Array, "D s"],
    strength: Float[Array, ""],
    latent_variance: Float[Array, ""],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    bad: Array,
    process: Process,
    *,
    d: int,
) -> Minimizer:
    form = QuadraticForm.integrate(latent_variance[None], times, weights, process)
    a, e, b = form.a[0, 0], form.e[0, 0], form.b[0]
    mu = strength / form.scale
    span, c = joint_eigenbasis(moment, source)
    inside = _linalg.matmul(span.T, source)
    k = a * c + e
    right = jnp.diag(b * c) + mu * _linalg.matmul(inside, inside.T)
    P = 2 * right / (k[:, None] + k + 2 * mu)
    gains, vectors = _linalg.eigh_descending(P)
    gains = jnp.where(gains > 8 * _linalg.eps_of(c.dtype) * gains[0], gains, 0)
    kept = jnp.where(bad > 0, jnp.nan, gains[:d])
    rank = jnp.sum(kept > 0).astype(jnp.int32)
    basis = jnp.where(kept == 0, 0, _linalg.matmul(span, vectors[:, :d]))
    return Minimizer(basis=basis, gains=kept, rank=rank, status=moment.status | bad)


def joint_eigenbasis(
    moment: SecondMoment, source: Float[Array, "D s"]
) -> tuple[Float[Array, "D j"], Float[Array, " j"]]:
    """An eigenbasis of the moment that also holds the source's span, and its eigenvalues.

    Null columns of the moment are replaced by directions of the source, whose eigenvalue is zero.
    """
    span = _linalg.orthonormal_columns(jnp.concatenate([moment.basis, source], axis=1))
    held = _linalg.matmul(span.T, moment.basis)
    values, vectors = _linalg.eigh_descending(_linalg.matmul(held * moment.values, held.T))
    cutoff = 8 * _linalg.eps_of(values.dtype) * values[0]
    return _linalg.matmul(span, vectors), jnp.where(values > cutoff, values, 0)


def pooled_moment(
    target: SecondMoment, source: SecondMoment, *, source_share: ArrayLike
) -> SecondMoment:
    """The second moment ``(1 - q) C_ta + q C_s`` in thin form.

    The orthonormal minimiser of this moment is the exact minimiser of the fine-tuning loss on
    target samples and source samples together, the source having the share ``q``: rehearsal. It
    fills directions that the target does not determine with the source's strongest ones, and
    it damps those that a few samples show by chance.

    Implements: R18.

    Args:
        target: second moment of the target.
        source: second moment of the source, truncated as far as is wanted; both about the centre
            that they have in the model.
        source_share: ``q`` in ``[0, 1]``.

    Returns:
        The pooled moment, with the sum of both ranks, ``D`` at most.

    Raises:
        ValueError: a share outside ``[0, 1]``, or moments of different spaces.
    """
    one_moment("target", target)
    one_moment("source", source)
    if target.basis.shape[0] != source.basis.shape[0]:
        raise ValueError(
            f"target has D = {target.basis.shape[0]} and source D = {source.basis.shape[0]}; "
            "both moments must come from the same space"
        )
    dtype = target.values.dtype
    share, bad = _checks.positive("source_share", source_share, dtype, ndim=(0,), zero=True)
    if not _checks.is_traced(share) and share > 1:
        raise ValueError(f"source_share must be at most 1, got {source_share!r}")
    return _pool(target, source, jnp.asarray(share), bad)


@jax.jit
def _pool(
    target: SecondMoment, source: SecondMoment, share: Float[Array, ""], bad: Array
) -> SecondMoment:
    sides = ((target, 1 - share), (source, share))
    factor = jnp.concatenate(
        [side.basis * jnp.sqrt(weight * side.values) for side, weight in sides], axis=1
    )
    basis, singular = _linalg.left_singular(factor)
    values = singular**2
    # A factor is not squared by this route, so its noise is that of singular values.
    noise = 8 * _linalg.eps_of(values.dtype) * singular[0]
    alive = singular > noise
    status = target.status | source.status | _checks.flag(share > 1, Status.BAD_VALUE) | bad
    return SecondMoment(
        values=jnp.where(alive, values, 0),
        basis=jnp.where(alive, basis, 0),
        count=target.count,
        total=(1 - share) * target.total + share * source.total,
        next_value=share * source.next_value,
        mean=target.mean,
        route_code=jnp.int32(ROUTES.index("svd")),
        status=status,
    )
