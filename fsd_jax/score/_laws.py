"""Exact distances between Gaussian laws, as sums of squares and with exact gradients.

Both laws are restricted to a span that holds their bases; outside it they are isotropic. Within it
each has a frame of eigenvectors that is completed, not computed, so that eigenvalues may coincide.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fsd_jax import _linalg
from fsd_jax._linear_model import ThinGaussian, law_pair


def gaussian_kl(p: ThinGaussian, q: ThinGaussian) -> Float[Array, ""]:
    """``KL(p || q)`` in nats; infinite where either law is singular.

        2 KL = sum_i f(R_ii^2) + sum_(i<j) R_ij^2 + |Q^(-1/2) (mean difference)|^2,
        P^(1/2) Q^(-1/2) = O R,   f(x) = x - 1 - log x,

    a sum of squares, so that close laws keep their digits; laws far apart take traces and
    logarithms of the variances. Gradients are exact and finite where the laws coincide. Two laws
    are told apart down to ``eps^2`` times the largest variance over the smallest.

    Diffuse both to some ``t > 0`` when the residual variance is zero.

    Implements: "KL and Bures W2 in the thin span".

    Args:
        p: first law.
        q: second law.

    Returns:
        The divergence; NaN for traced laws that are none.

    Raises:
        ValueError: what is no `ThinGaussian`, laws of different dimension, a basis that is not
            orthonormal, or variances that are negative or not finite.
    """
    return _kl_jitted(*law_pair(p=p, q=q))


def bures_w2(p: ThinGaussian, q: ThinGaussian) -> Float[Array, ""]:
    """Squared 2-Wasserstein (Bures) distance between two Gaussian laws.

    ``|mean difference|^2 + tr(P + Q - 2 (P^(1/2) Q P^(1/2))^(1/2))``, computed as a sum of squares,
    ``|P^(1/2) - U Q^(1/2)|_F^2`` at the best rotation ``U``. Singular laws are fine. First
    derivatives are exact (by the optimal map between the laws) and finite where the laws coincide;
    second ones are refused. Two laws are told apart down to ``eps`` times a standard deviation.

    Implements: "KL and Bures W2 in the thin span".

    Args:
        p: first law.
        q: second law.

    Returns:
        The squared distance; NaN for traced laws that are none.

    Raises:
        ValueError: what is no `ThinGaussian`, laws of different dimension, a basis that is not
            orthonormal, or variances that are negative or not finite.
    """
    return _w2_jitted(*law_pair(p=p, q=q))


def divergence_excess(ratio: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``ratio - 1 - log(ratio)``, without cancellation near one."""
    return _excess(ratio - 1)


def _excess(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """``x - log(1 + x)``: near zero ``x u - 2 (u^3/3 + u^5/5 + ...)`` with ``u = x/(2 + x)``."""
    near = jnp.abs(x) < 0.4
    u = jnp.where(near, x, 0) / (2 + jnp.where(near, x, 0))
    series = jnp.zeros_like(x)
    for power in range(25, 1, -2):
        series = u * u * (series + 1 / power)
    return jnp.where(near, jnp.where(near, x, 0) * u - 2 * u * series, x - jnp.log1p(x))


class _Frames(NamedTuple):
    """Two laws in coordinates of a span: frames of eigenvectors with their variances."""

    span: Float[Array, "D m"]
    p_frame: Float[Array, "m m"]
    p: Float[Array, " m"]
    q_frame: Float[Array, "m m"]
    q: Float[Array, " m"]

    @classmethod
    def of(cls, p: ThinGaussian, q: ThinGaussian) -> "_Frames":
        span = _linalg.joint_span(p.basis, q.basis)
        ours, theirs = (_linalg.matmul(span.T, law.basis) for law in (p, q))
        p_frame, p_values = _linalg.full_frame(ours, p.variance, p.residual_variance)
        theirs = _linalg.after(theirs, p_frame)
        return cls(
            span, p_frame, p_values,
            *_linalg.full_frame(theirs, q.variance, q.residual_variance),
        )  # fmt: skip


# --- Kullback-Leibler -----------------------------------------------------------------------------


@jax.custom_jvp
def kl_of_laws(p: ThinGaussian, q: ThinGaussian) -> Float[Array, ""]:
    """`gaussian_kl` of laws that have passed their checks."""
    at = _Frames.of(p, q)
    rest = p.mean.shape[0] - at.span.shape[1]
    ours, theirs = (jnp.where(v == 0, 1, v) for v in (at.p, at.q))
    scaled = _linalg.matmul(at.p_frame.T, at.q_frame) * jnp.sqrt(ours)[:, None] / jnp.sqrt(theirs)
    R = _linalg.triangle(scaled)
    d = jnp.abs(jnp.diagonal(R)) - 1
    near = jnp.sum(d**2 + 2 * _excess(d)) + jnp.sum(jnp.triu(R, 1) ** 2)
    far = jnp.sum(scaled**2) - ours.shape[0] - jnp.sum(jnp.log(ours) - jnp.log(theirs))
    shift = p.mean - q.mean
    inside = _linalg.matmul(shift, at.span)
    turned = _linalg.matmul(inside, at.q_frame)
    # Far apart the small diagonal entries of R are lost, and the traces have nothing to cancel.
    total = jnp.where(near > 1, far, near) + jnp.sum(turned**2 / theirs)
    singular = jnp.any(at.p == 0) | jnp.any(at.q == 0)
    if rest:
        outside = jnp.sum((shift - _linalg.matmul(at.span, inside)) ** 2)
        mine, yours = p.residual_variance, q.residual_variance
        singular = singular | (mine == 0) | (yours == 0)
        mine, yours = (jnp.where(r == 0, 1, r) for r in (mine, yours))
        total = total + rest * _excess((mine - yours) / yours) + outside / yours
    return jnp.where(singular, jnp.inf, total / 2)


@kl_of_laws.defjvp
def _(
    laws: tuple[ThinGaussian, ThinGaussian], tangents: tuple[ThinGaussian, ThinGaussian]
) -> tuple[Array, Array]:
    p, q = laws
    value = kl_of_laws(p, q)
    slope = sum(map(_dot, _kl_gradients(p, q), tangents), jnp.zeros_like(value))
    return value, slope


def _kl_gradients(p: ThinGaussian, q: ThinGaussian) -> tuple[ThinGaussian, ThinGaussian]:
    """By traces: ``dKL/dP = (Q^-1 - P^-1)/2``, ``dKL/dQ = (Q^-1 - Q^-1 (P + ss') Q^-1)/2``."""
    (p, p_alive), (q, q_alive) = _plain(p), _plain(q)
    a = _solve(q, p.mean - q.mean)
    p_image = (_solve(q, p.basis) - p.basis / p.variance) / 2
    inverse = _inverse_trace(q, q_alive, 1)
    p_trace = (inverse - _inverse_trace(p, p_alive, 1)) / 2
    theirs = q.basis / q.variance
    excess = p.variance - p.residual_variance
    moved = p.residual_variance * theirs
    moved = moved + _linalg.matmul(p.basis * excess, _linalg.matmul(p.basis.T, theirs))
    pull = a[:, None] * _linalg.matmul(a, q.basis)
    q_image = (theirs - _solve(q, moved) - pull) / 2
    double = p.residual_variance * _inverse_trace(q, q_alive, 2)
    double = double + jnp.sum(excess * jnp.sum(_solve(q, p.basis) ** 2, axis=0))
    q_trace = (inverse - double - jnp.sum(a**2)) / 2
    return _gradient(p, a, p_image, p_trace), _gradient(q, -a, q_image, q_trace)


def _plain(law: ThinGaussian) -> tuple[ThinGaussian, Float[Array, ""]]:
    """The law with a residual variance that is not zero where none is left, and its rank."""
    alive = jnp.sum(law.basis**2, axis=0) > 0.5
    count = jnp.sum(alive)
    full = count == law.mean.shape[0]
    largest = jnp.max(law.variance, initial=0)
    residual = jnp.where(full, largest, law.residual_variance)
    variance = jnp.where(alive, law.variance, residual)
    return (
        ThinGaussian(mean=law.mean, basis=law.basis, variance=variance, residual_variance=residual),
        count.astype(law.mean.dtype),
    )


def _solve(law: ThinGaussian, x: Float[Array, "D *j"]) -> Float[Array, "D *j"]:
    """The inverse covariance times `x`."""
    excess = 1 / law.variance - 1 / law.residual_variance
    inside = _linalg.matmul(law.basis * excess, _linalg.matmul(law.basis.T, x))
    return inside + x / law.residual_variance


def _inverse_trace(law: ThinGaussian, alive: Array, power: int) -> Float[Array, ""]:
    inside = jnp.sum(jnp.sum(law.basis**2, axis=0) / law.variance**power)
    return inside + (law.mean.shape[0] - alive) / law.residual_variance**power


def _gradient(
    law: ThinGaussian,
    mean: Float[Array, " D"],
    image: Float[Array, "D k"],
    trace: Float[Array, ""],
) -> ThinGaussian:
    """From a gradient by the covariance, given as ``G basis`` and ``tr G``, to the fields'."""
    along = jnp.sum(law.basis * image, axis=0)
    return ThinGaussian(
        mean=mean,
        basis=2 * image * (law.variance - law.residual_variance),
        variance=along,
        residual_variance=trace - jnp.sum(along),
    )


def _dot(gradient: ThinGaussian, tangent: ThinGaussian) -> Float[Array, ""]:
    parts = jax.tree.map(lambda a, b: jnp.sum(a * b), gradient, tangent)
    return jnp.sum(jnp.stack(jax.tree.leaves(parts)))


# --- Wasserstein ----------------------------------------------------------------------------------


class _Transport(NamedTuple):
    """The best rotation between two roots, and what it leaves: in the frame of either law."""

    at: _Frames
    p_left: Float[Array, "m m"]
    q_left: Float[Array, "m m"]
    outer: Float[Array, ""]

    @classmethod
    def of(cls, p: ThinGaussian, q: ThinGaussian) -> "_Transport":
        at = _Frames.of(p, q)
        ours, theirs = jnp.sqrt(at.p), jnp.sqrt(at.q)
        overlap = _linalg.matmul(at.q_frame.T, at.p_frame)
        turn = _linalg.graded_polar(theirs, overlap, ours)
        p_left = jnp.diag(ours) - _linalg.matmul(turn.T * theirs, overlap)
        q_left = jnp.diag(theirs) - _linalg.matmul(turn * ours, overlap.T)
        mine, yours = p.residual_variance, q.residual_variance
        both = jnp.sqrt(mine) + jnp.sqrt(yours)
        outer = (mine - yours) / jnp.where(both == 0, 1, both)
        return cls(at, p_left, q_left, outer)


@jax.custom_jvp
def w2_of_laws(p: ThinGaussian, q: ThinGaussian) -> Float[Array, ""]:
    """`bures_w2` of laws that have passed their checks."""
    found = _Transport.of(p, q)
    rest = p.mean.shape[0] - found.at.span.shape[1]
    inside = jnp.sum((p.mean - q.mean) ** 2) + jnp.sum(found.p_left**2)
    return inside + rest * found.outer**2 if rest else inside


@w2_of_laws.defjvp
def _(
    laws: tuple[ThinGaussian, ThinGaussian], tangents: tuple[ThinGaussian, ThinGaussian]
) -> tuple[Array, Array]:
    value = w2_of_laws(*laws)
    slope = sum(map(_dot, _w2_gradients(*laws), tangents), jnp.zeros_like(value))
    return value, slope


@jax.custom_jvp
def _w2_gradients(p: ThinGaussian, q: ThinGaussian) -> tuple[ThinGaussian, ThinGaussian]:
    """``dW2^2/dP = I - T``, T the optimal map from p to q, in the frame of p; and the reverse."""
    found = _Transport.of(p, q)
    at, shift = found.at, 2 * (p.mean - q.mean)
    rest = p.mean.shape[0] - at.span.shape[1]
    gradients = []
    for law, frame, values, left, sign in (
        (p, at.p_frame, at.p, found.p_left, 1),
        (q, at.q_frame, at.q, found.q_left, -1),
    ):
        slope = _per_root(left, jnp.sqrt(values))
        coordinates = _linalg.matmul(frame.T, _linalg.matmul(at.span.T, law.basis))
        image = _linalg.matmul(_linalg.matmul(at.span, frame), _linalg.matmul(slope, coordinates))
        root = jnp.sqrt(law.residual_variance)
        outer = _per_root((sign * found.outer).reshape(1, 1), root.reshape(1))
        trace = jnp.trace(slope) + rest * jnp.trace(outer)
        gradients.append(_gradient(law, sign * shift, image, trace))
    return gradients[0], gradients[1]


@_w2_gradients.defjvp
def _(laws: object, tangents: object) -> Any:
    raise NotImplementedError("bures_w2 has first derivatives only")


def _per_root(left: Float[Array, "m m"], root: Float[Array, " m"]) -> Float[Array, "m m"]:
    """The symmetric ``G`` of ``diag(root) G = left``, by the equation of the larger root.

    Between two roots that are zero the slope is infinite, unless nothing is left there: as large
    as the dtype allows.
    """
    larger = root[:, None] >= root
    size = jnp.where(larger, root[:, None], root)
    value = jnp.where(larger, left, left.T)
    noise = 8 * _linalg.eps_of(left.dtype) * jnp.max(jnp.abs(left) + root)
    null = jnp.where(jnp.diag(jnp.diagonal(value)) < -noise, -jnp.finfo(left.dtype).max, 0)
    return jnp.where(size > 0, value / jnp.where(size > 0, size, 1), null.astype(left.dtype))


_kl_jitted, _w2_jitted = jax.jit(kl_of_laws), jax.jit(w2_of_laws)
