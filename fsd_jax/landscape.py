"""The loss around its critical points: every choice of eigenvectors is one, one is the minimum.

For an isotropic latent the loss, less its constant, is ``tr(P (aC + eI) P) - 2b tr(PC)`` with
``P = VV'``. Any set of eigenvectors of ``C`` with the gains ``p_i = b c_i/(a c_i + e)`` is
stationary. With ``s_i = a c_i + e``, the Hessian there, modulo the rotations ``V -> VQ`` that
change nothing, has the eigenvalues

    2 (p_i + p_k)(s_i + s_k)                            i <= k, both chosen,
    2 b (c_i - c_j) (a c_i + 2e)/(a c_i + e)            i chosen, j not,

so one for each pair with ``c_j > c_i`` is negative: the top d are the only minimum, all others are
strict saddles. A chosen direction with ``c_i = 0`` contributes ``-4 b c_j``; when all remaining
``c_j`` vanish too (``n_ta < d``), these are zero and gradient descent is sublinear (R17). On
orthonormal decoders the eigenvalues are ``2 (2b - a)(c_i - c_j)``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks, _linalg, _process
from fsd_jax._moments import SecondMoment
from fsd_jax._process import VP, Process
from fsd_jax.minimizer import _descent
from fsd_jax.minimizer._objective import QuadraticForm, decoder_moments, one_moment, whole_moment

__all__ = ["Landscape", "critical_decoder", "measure", "predicted_spectrum"]

MOST_ENTRIES = 2000


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """Curvature of the loss at a critical point.

    Attributes:
        eigenvalues: of the Riemannian Hessian modulo rotations, ascending.
        gradient_norm: zero up to rounding at a critical point.
    """

    eigenvalues: Float[Array, " m"]
    gradient_norm: Float[Array, ""]

    @property
    def negative(self) -> int:
        """Number of directions of descent: zero at the minimum."""
        scale = float(jnp.max(jnp.abs(self.eigenvalues)))
        eps = _linalg.eps_of(self.eigenvalues.dtype)
        return int(jnp.sum(self.eigenvalues < -(eps**0.5) * scale))

    @property
    def condition_number(self) -> float:
        """Largest over smallest eigenvalue; infinite at a degenerate minimum or a saddle."""
        low, high = float(self.eigenvalues[0]), float(self.eigenvalues[-1])
        eps = _linalg.eps_of(self.eigenvalues.dtype)
        return high / low if low > 100 * eps * high else float("inf")

    def __repr__(self) -> str:
        return (
            f"Landscape(directions={self.eigenvalues.shape[0]}, negative={self.negative}, "
            f"condition_number={self.condition_number:.3g})"
        )


def critical_decoder(
    moment: SecondMoment,
    chosen: Sequence[int],
    *,
    latent_variance: ArrayLike,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    constraint: str = "rank",
    process: Process = VP(),
) -> Float[Array, "D d"]:
    """The stationary decoder on some of the moment's eigenvectors.

    Implements: "The landscape (isotropic latent)".

    Args:
        moment: second moment of the target.
        chosen: indices of eigenpairs, ``d`` different ones; ``range(d)`` is the minimiser.
        latent_variance: scalar variance that the frozen ``f`` uses.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default.
        constraint: ``"rank"`` or ``"orthonormal"``.
        process: forward process.

    Raises:
        ValueError: indices that repeat or do not exist; values out of range.
    """
    _checks.choice("constraint", constraint, _descent.CONSTRAINTS)
    one_moment("moment", moment)
    index = _indices(moment, chosen)
    a, e, b = _coefficients(_form(moment, latent_variance, time, times, weights, process))
    c = moment.values[index]
    gains = jnp.ones_like(c) if constraint == "orthonormal" else b * c / (a * c + e)
    return moment.basis[:, index] * jnp.sqrt(gains)


def predicted_spectrum(
    moment: SecondMoment,
    chosen: Sequence[int],
    *,
    latent_variance: ArrayLike,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    constraint: str = "rank",
    process: Process = VP(),
) -> Float[Array, " m"]:
    """The Hessian's eigenvalues at a critical point by formula, ascending (see the module).

    Arguments as in `critical_decoder`; the moment must hold every direction with variance, and the
    chosen eigenvalues must be positive. In the loss's own units.

    Implements: "The landscape (isotropic latent)".
    """
    _checks.choice("constraint", constraint, _descent.CONSTRAINTS)
    whole_moment("moment", moment)
    index = _indices(moment, chosen)
    a, e, b = _coefficients(_form(moment, latent_variance, time, times, weights, process))
    ambient, held = moment.basis.shape
    rest = np.setdiff1d(np.arange(held), index)
    inside = moment.values[index]
    outside = jnp.append(moment.values[rest], jnp.zeros(ambient - held, moment.values.dtype))
    gap = inside[:, None] - outside
    if constraint == "orthonormal":
        return jnp.sort((2 * (2 * b - a) * gap).ravel())
    size = a * inside + e
    p = b * inside / size
    pairs = jnp.triu_indices(len(index))
    within = (2 * (p[:, None] + p) * (size[:, None] + size))[pairs]
    across = 2 * b * gap * ((size + e) / size)[:, None]
    return jnp.sort(jnp.concatenate([within, across.ravel()]))


def measure(
    decoder: ArrayLike,
    moment: SecondMoment,
    *,
    latent_variance: ArrayLike,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    constraint: str = "rank",
    process: Process = VP(),
) -> Landscape:
    """The Riemannian Hessian's spectrum at a decoder, by automatic differentiation.

    Costs ``(D d)^2`` numbers and their eigenvalues; not for use inside a trace.

    Implements: "The landscape (isotropic latent)".

    Args:
        decoder: ``(D, d)``; orthonormal for that constraint.
        moment: second moment of the target.
        latent_variance: scalar variance that the frozen ``f`` uses.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default.
        constraint: ``"rank"`` or ``"orthonormal"``.
        process: forward process.

    Raises:
        ValueError: more than 2000 entries in the decoder, or values out of range.
    """
    one_moment("moment", moment)
    V, _ = _checks.floating("decoder", decoder, ndim=(2,))
    if _checks.is_traced(V, moment):
        raise ValueError("measure counts directions; call it outside jit, grad and vmap")
    ambient, d = V.shape
    if ambient * d > MOST_ENTRIES:
        raise ValueError(
            f"decoder has D d = {ambient * d} entries and the dense Hessian is limited to "
            f"{MOST_ENTRIES}; project the problem to fewer dimensions"
        )
    if ambient != moment.basis.shape[0]:
        raise ValueError(
            f"decoder has D = {ambient} rows but the moment has D = {moment.basis.shape[0]}; "
            "they must come from the same space"
        )
    _checks.choice("constraint", constraint, _descent.CONSTRAINTS)
    if constraint == "orthonormal":
        _checks.orthonormal("decoder", V)
    form = _form(moment, latent_variance, time, times, weights, process)
    flow = _flat_directions(V, constraint)
    frame = _linalg.complement(flow) if flow.shape[1] else jnp.eye(V.size, dtype=V.dtype)
    hessian, gradient = _derivatives(V, moment, form, constraint=constraint)
    reduced = _linalg.matmul(frame.T, _linalg.matmul(hessian, frame))
    return Landscape(
        eigenvalues=_linalg.eigenvalues(0.5 * (reduced + reduced.T)),
        gradient_norm=jnp.sqrt(jnp.sum(gradient**2)),
    )


@partial(jax.jit, static_argnames=("constraint",))
def _derivatives(
    V: Float[Array, "D d"],
    moment: SecondMoment,
    form: QuadraticForm,
    *,
    constraint: str,
) -> tuple[Float[Array, "Dd Dd"], Float[Array, " Dd"]]:
    """Hessian and gradient of the loss, pulled back through the polar factor if orthonormal."""
    retract = _descent.retraction(constraint, "polar")

    def loss(flat: Array) -> Array:
        B, M = decoder_moments(retract(flat.reshape(V.shape)), moment)
        return form.scale * form.variable(B, M)

    return jax.hessian(loss)(V.ravel()), jax.grad(loss)(V.ravel())


def _flat_directions(V: Float[Array, "D d"], constraint: str) -> Float[Array, "Dd m"]:
    """Directions that change nothing: rotations ``V W`` (and ``V S``, for orthonormal decoders)."""
    d = V.shape[1]
    if constraint == "orthonormal":
        generators = jnp.eye(d * d, dtype=V.dtype).reshape(-1, d, d)
    else:
        i, k = np.triu_indices(d, 1)
        pair = np.arange(len(i))
        skew = np.zeros((len(i), d, d))
        skew[pair, i, k], skew[pair, k, i] = 1.0, -1.0
        generators = jnp.asarray(skew, V.dtype)
    moved = _linalg.einsum("Dk,gkl->gDl", V, generators)
    return moved.reshape(len(generators), V.size).T


def _indices(moment: SecondMoment, chosen: Sequence[int]) -> np.ndarray:
    most = moment.values.shape[0] - 1
    if not isinstance(chosen, Sequence | np.ndarray | range):
        raise ValueError(f"chosen must be a sequence of indices, got {_checks.named(chosen)}")
    index = [_checks.dimension("chosen", i, low=0, high=most, top=" (pairs held)") for i in chosen]
    if not index or len(set(index)) != len(index):
        raise ValueError(f"chosen must hold different eigenpairs, at least one; got {list(chosen)}")
    return np.array(index)


def _form(
    moment: SecondMoment,
    latent_variance: ArrayLike,
    time: ArrayLike | None,
    times: ArrayLike | None,
    weights: ArrayLike | None,
    process: Process,
) -> QuadraticForm:
    """The isotropic loss: coefficients of size one, which broadcast over pairs of columns."""
    _process.check(process, time=time, times=times)
    dtype = moment.values.dtype
    t, w, _ = _checks.times_and_weights(time, times, weights, dtype)
    lam2, _ = _checks.positive("latent_variance", latent_variance, dtype, ndim=(0,))
    return QuadraticForm.integrate(
        jnp.reshape(jnp.asarray(lam2), 1), jnp.asarray(t), jnp.asarray(w), process
    )


def _coefficients(
    form: QuadraticForm,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """``a``, ``e`` and ``b`` in the loss's own units."""
    return form.scale * form.a[0, 0], form.scale * form.e[0, 0], form.scale * form.b[0]
