"""Exact distances between subspaces and between scores, as sums of squares; never ``D x D``."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg, _points
from fsd_jax._linear_model import LinearProblem, ThinGaussian
from fsd_jax.score._linear import LinearScore, checked_score


def subspace_error(decoder: ArrayLike, subspace: ArrayLike) -> Float[Array, ""]:
    """``||VV' - AA'||_F^2`` for any decoder ``V`` and an orthonormal basis ``A``.

    With ``V = A R + W``, ``W`` orthogonal to ``A``, it is
    ``|RR' - I|^2 + 2 tr(R'R W'W) + |W'W|^2``: a sum of squares,
    so small errors keep their digits in float32.

    Implements: the metric of Theorem 5.2 and Remark 5.3; R11.

    Args:
        decoder: ``V``, ``(D, d)``.
        subspace: ``A``, ``(D, k)`` with orthonormal (or zero) columns.

    Returns:
        The error, a scalar; NaN for a traced subspace that is not orthonormal.

    Raises:
        ValueError: arrays over different spaces, entries that are not finite, or a subspace whose
            columns are not orthonormal.
    """
    V, A = _checks.same_rows(decoder=decoder, subspace=subspace)
    _points.finite("decoder", V)
    return _subspace_error(V, A) + _points.nan_if(_checks.orthonormal("subspace", A), V.dtype)


@jax.jit
def _subspace_error(V: Float[Array, "D d"], A: Float[Array, "D k"]) -> Float[Array, ""]:
    R, W = _inside_and_outside(V, A)
    # A zero column is no direction.
    alive = (jnp.sum(A**2, axis=0) > 0.5).astype(R.dtype)
    defect = _linalg.matmul(R, R.T) - jnp.diag(alive)
    outside = _linalg.matmul(W.T, W)
    cross = _linalg.matmul(R.T, R)
    return jnp.sum(defect**2) + 2 * jnp.sum(cross * outside) + jnp.sum(outside**2)


def _inside_and_outside(
    x: Float[Array, "D j"], basis: Float[Array, "D k"]
) -> tuple[Float[Array, "k j"], Float[Array, "D j"]]:
    """Coordinates of `x` in an orthonormal basis, and what is left; the rest is projected twice.

    Once would leave in it what the basis lacks of being orthonormal.
    """
    inside = _linalg.matmul(basis.T, x)
    rest = x - _linalg.matmul(basis, inside)
    more = _linalg.matmul(basis.T, rest)
    return inside + more, rest - _linalg.matmul(basis, more)


def principal_angles(a: ArrayLike, b: ArrayLike) -> Float[Array, " m"]:
    """Principal angles between two subspaces in radians, smallest first.

    Uses ``atan2(sine, cosine)``; arccos alone would lose half the digits of small angles. A zero
    column is no direction and is counted as orthogonal.

    Implements: R11.

    Args:
        a: ``(D, d)`` orthonormal (or zero) columns.
        b: ``(D, k)`` orthonormal (or zero) columns.

    Returns:
        ``min(d, k)`` angles in ``[0, pi/2]``; NaN for traced columns that are not orthonormal.

    Raises:
        ValueError: arrays over different spaces, or columns that are not orthonormal.
    """
    ours, theirs = _checks.same_rows(a=a, b=b)
    status = _checks.orthonormal("a", ours) | _checks.orthonormal("b", theirs)
    return _principal_angles(ours, theirs) + _points.nan_if(status, ours.dtype)


@jax.jit
def _principal_angles(a: Float[Array, "D d"], b: Float[Array, "D k"]) -> Float[Array, " m"]:
    if a.shape[1] < b.shape[1]:
        a, b = b, a
    overlap, rest = _inside_and_outside(b, a)
    dead = jnp.sum(b**2, axis=0) < 0.5
    cosine = _linalg.singular_values(overlap)
    sine = _linalg.singular_values(jnp.concatenate([rest, jnp.diag(dead).astype(rest.dtype)]))[::-1]
    return jnp.arctan2(sine, cosine)


def score_error(
    score: LinearScore,
    problem: LinearProblem,
    *,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> Float[Array, ""]:
    """``sum_k w_k E || s(X_t) - grad log q_t(X_t) ||^2`` under the true diffused target, exactly.

    A sum of squares, with finite gradients where the scores coincide. A basis is known to rounding
    only, and a direction of variance v that it misses by an angle a costs ``v a^2/t^2``: in float32
    errors below about ``d v 1e-14/t^2`` mean nothing.

    Implements: R11; the left side of Theorem 4.3 for linear scores.

    Args:
        score: a linear score (``model.linear`` for a `FewShotModel`).
        problem: the truth.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default, never normalised.

    Returns:
        The error, a scalar.

    Raises:
        ValueError: values out of range, a score that is not linear, or another space.
    """
    score = checked_score("score", score)
    _checks.instance("problem", problem, LinearProblem)
    _checks.same_rows(score=score.basis, problem=problem.A_ta)
    dtype = jnp.promote_types(score.basis.dtype, problem.A_ta.dtype)
    t, w, status = _checks.times_and_weights(time, times, weights, dtype)
    score.process.admit(time=time, times=times)
    ours, truth = jax.tree.map(lambda a: jnp.asarray(a, dtype), (score, problem.target_law))
    return _score_error_jitted(ours, truth, t, w) + _points.nan_if(status, dtype)


def score_error_to_law(
    score: LinearScore, truth: ThinGaussian, times: Float[Array, " K"], weights: Float[Array, " K"]
) -> Float[Array, ""]:
    """`score_error` for any clean Gaussian law, with arguments that have passed their checks.

    With ``S`` and ``S*`` the matrices of the two scores and ``B`` the law's basis, the sum of
    ``|(S - S*) b_j|^2 v_j`` over its columns and of ``|(S - S*)(I - BB')|_F^2 r``. Each is taken
    apart into what lies in the score's basis ``U`` and what does not: no two large matrices are
    subtracted, and no common span is needed.
    """
    process, U, B = score.process, score.basis, truth.basis
    ambient = U.shape[0]
    modelled, known = (jnp.sum(a**2, axis=0) > 0.5 for a in (U, B))
    overlap, missed = _inside_and_outside(B, U)
    strange = _inside_and_outside(U, B)[1]
    size = jnp.sum(missed**2, axis=0)
    # Directions that neither knows: those outside of B, less those of U outside of B.
    rest = jnp.maximum(ambient - jnp.sum(known, dtype=U.dtype) - jnp.sum(strange**2), 0)
    shift_in, shift_out = _inside_and_outside((truth.mean - score.mean)[:, None], U)

    def at(t: Array, w: Array) -> Array:
        signal, noise = process.signal_variance(t), process.noise_variance(t)
        inner, outer = score.precision(t)
        inner = jnp.where(modelled[:, None] & modelled, inner, 0)
        v, r = signal * truth.variance + noise, signal * truth.residual_variance + noise
        # 1/r - 1/(the model's r), from the difference of the variances themselves.
        gap = signal * (score.residual_variance - truth.residual_variance) * outer
        inside = jnp.sum((overlap / v - _linalg.matmul(inner, overlap)) ** 2, axis=0)
        latent = jnp.sum(v * (inside + (1 / v - outer) ** 2 * size))
        eye = jnp.diag(modelled.astype(inner.dtype))
        foreign = jnp.sum(_linalg.matmul(eye / r - inner, strange.T) ** 2)
        moved = jnp.sum(_linalg.matmul(inner, shift_in) ** 2) + outer**2 * jnp.sum(shift_out**2)
        return w * (latent + r * foreign + rest * gap**2 / r + signal * moved)

    return jnp.sum(jax.vmap(at)(times, weights))


_score_error_jitted = jax.jit(score_error_to_law)
