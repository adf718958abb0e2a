"""Exact distances: between subspaces, between scores, between Gaussian laws; never ``D x D``."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg
from fsd_jax.linear_model import LinearProblem, ThinGaussian
from fsd_jax.score.linear import LinearScore


@jax.jit
def subspace_error(decoder: Float[Array, "D d"], subspace: Float[Array, "D k"]) -> Float[Array, ""]:
    """``||VV' - AA'||_F^2`` for any decoder ``V`` and an orthonormal basis ``A``.

    With ``V = A R + W``, ``W`` orthogonal to ``A``, it is
    ``|RR' - I|^2 + 2 tr(R'R W'W) + |W'W|^2``: a sum of squares,
    so small errors keep their digits in float32.

    Implements: the metric of Theorem 5.2 and Remark 5.3.

    Args:
        decoder: ``V``, ``(D, d)``.
        subspace: ``A``, ``(D, k)`` with orthonormal columns.
    """
    R = _linalg.matmul(subspace.T, decoder)
    W = decoder - _linalg.matmul(subspace, R)
    defect = _linalg.matmul(R, R.T) - jnp.eye(R.shape[0], dtype=R.dtype)
    outside = _linalg.matmul(W.T, W)
    cross = _linalg.matmul(R.T, R)
    return jnp.sum(defect**2) + 2 * jnp.sum(cross * outside) + jnp.sum(outside**2)


@jax.jit
def principal_angles(a: Float[Array, "D d"], b: Float[Array, "D k"]) -> Float[Array, " m"]:
    """Principal angles between two subspaces in radians, smallest first.

    Uses ``atan2(sine, cosine)``; arccos alone would lose half the digits of small angles.

    Args:
        a: ``(D, d)`` orthonormal columns.
        b: ``(D, k)`` orthonormal columns.

    Returns:
        ``min(d, k)`` angles in ``[0, pi/2]``.
    """
    if a.shape[1] < b.shape[1]:
        a, b = b, a
    overlap = _linalg.matmul(a.T, b)
    cosine = _linalg.singular_values(overlap)
    sine = _linalg.singular_values(b - _linalg.matmul(a, overlap))[::-1]
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

    Evaluated in the joint span of the two bases; the complement adds a scalar per direction.

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
        ValueError: values out of range, or a score that is not linear.
    """
    if not isinstance(score, LinearScore):
        raise ValueError(
            f"score must be a LinearScore, got {type(score).__name__}; pass model.linear, or "
            "LinearScore.from_decoder(...) for a trained decoder"
        )
    t, w, _ = _checks.times_and_weights(time, times, weights, score.basis.dtype)
    return score_error_to_law(score, problem.target_law, t, w)


@jax.jit
def score_error_to_law(
    score: LinearScore, truth: ThinGaussian, times: Float[Array, " K"], weights: Float[Array, " K"]
) -> Float[Array, ""]:
    """`score_error` for any clean Gaussian law, with arguments that have passed their checks."""
    process = score.process
    ambient = score.basis.shape[0]
    shift = truth.mean - score.mean
    span = _linalg.joint_span(score.basis, truth.basis)
    ours = _linalg.matmul(span.T, score.basis)
    theirs = _linalg.matmul(span.T, truth.basis)
    shift_in = _linalg.matmul(shift, span)
    shift_out = jnp.sum((shift - _linalg.matmul(span, shift_in)) ** 2)
    rest = ambient - span.shape[1]

    def at(t: Array, w: Array) -> Array:
        law = truth.diffuse(t, process)
        core, q = score.core(t)
        r = law.residual_variance
        eye = jnp.eye(span.shape[1], dtype=span.dtype)
        ours_t = _linalg.matmul(_linalg.matmul(ours, core), ours.T)
        theirs_t = _linalg.matmul(theirs * (1 / r - 1 / law.variance), theirs.T)
        delta = ours_t - theirs_t + (q + 1 / r) * eye
        root = _linalg.matmul(delta, theirs)
        inside = r * jnp.sum(delta**2) + jnp.sum((law.variance - r) * root**2)
        outside = rest * (q + 1 / r) ** 2 * r
        moved = _linalg.matmul(ours_t + q * eye, shift_in)
        bias = process.signal_variance(t) * (jnp.sum(moved**2) + q**2 * shift_out)
        return w * (inside + outside + bias)

    return jnp.sum(jax.vmap(at)(times, weights))


@jax.jit
def gaussian_kl(p: ThinGaussian, q: ThinGaussian) -> Float[Array, ""]:
    """``KL(p || q)`` in nats; infinite or NaN where `q` is singular and `p` is not.

    Diffuse both to some ``t > 0`` when the residual variance is zero.

    Args:
        p: first law.
        q: second law.
    """
    span = _linalg.joint_span(p.basis, q.basis)
    P, Q = _restrict(p, span), _restrict(q, span)
    rest = p.mean.shape[0] - span.shape[1]
    values, vectors = _linalg.eigh_descending(Q)
    whiten = vectors / jnp.sqrt(values)
    ratios = _linalg.eigh_descending(_linalg.matmul(whiten.T, _linalg.matmul(P, whiten)))[0]
    outer = p.residual_variance / q.residual_variance
    shift = p.mean - q.mean
    inside = _linalg.matmul(shift, span)
    outside = jnp.sum((shift - _linalg.matmul(span, inside)) ** 2)
    mahalanobis = jnp.sum(_linalg.matmul(inside, whiten) ** 2) + outside / q.residual_variance
    spread = jnp.sum(divergence_excess(ratios)) + rest * divergence_excess(outer)
    return 0.5 * (spread + mahalanobis)


def divergence_excess(ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``ratio - 1 - log(ratio)``, without cancellation near one."""
    return (ratio - 1) - jnp.log1p(ratio - 1)


@jax.jit
def bures_w2(p: ThinGaussian, q: ThinGaussian) -> Float[Array, ""]:
    """Squared 2-Wasserstein (Bures) distance between two Gaussian laws.

    ``|mean difference|^2 + tr(P + Q - 2 (P^(1/2) Q P^(1/2))^(1/2))``. Singular laws are fine.

    Args:
        p: first law.
        q: second law.
    """
    span = _linalg.joint_span(p.basis, q.basis)
    P, Q = _restrict(p, span), _restrict(q, span)
    rest = p.mean.shape[0] - span.shape[1]
    root = _linalg.sqrtm_psd(P)
    roots = _linalg.matmul(root, _linalg.sqrtm_psd(_linalg.after(Q, root)))
    inside = jnp.trace(P) + jnp.trace(Q) - 2 * jnp.sum(_linalg.singular_values(roots))
    outer = (jnp.sqrt(p.residual_variance) - jnp.sqrt(q.residual_variance)) ** 2
    return jnp.sum((p.mean - q.mean) ** 2) + jnp.clip(inside, 0) + rest * outer


def _restrict(law: ThinGaussian, span: Float[Array, "D k"]) -> Float[Array, "k k"]:
    """Covariance of `law` in coordinates of `span`, which holds its basis."""
    inside = _linalg.matmul(span.T, law.basis)
    eye = jnp.eye(span.shape[1], dtype=span.dtype)
    return law.residual_variance * eye + _linalg.matmul(
        inside * (law.variance - law.residual_variance), inside.T
    )
