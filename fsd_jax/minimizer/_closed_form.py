"""The minimisers: rank-d at one time or integrated over times, and orthonormal.

All are spectral: the optimal decoder keeps eigenvectors of the target's second moment and only its
gains differ. Proofs are in docs/equations.md.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from fsd_jax import _checks, _linalg, _process
from fsd_jax._checks import Status
from fsd_jax._moments import ROUTES, SecondMoment
from fsd_jax._process import VP, Process
from fsd_jax.minimizer._objective import QuadraticForm, one_moment, whole_moment


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class Minimizer:
    """A decoder in factored form: ``VV' = basis diag(gains) basis'``.

    Directions that the data cannot determine (``n_ta < d``) are zero in both factors; `rank` and
    `status` say so and the shapes stay ``(D, d)``. Column k belongs to ``latent_variance[k]``.

    Implements: R6, R14.

    Attributes:
        basis: ``(D, d)``, orthonormal or zero columns.
        gains: ``(d,)``, non-negative.
        rank: number of directions found, an integer scalar.
        status: `Status` flags as int32.
    """

    basis: Float[Array, "*batch D d"]
    gains: Float[Array, "*batch d"]
    rank: Int[Array, "*batch"]
    status: Int[Array, "*batch"]

    def __repr__(self) -> str:
        *batch, ambient, d = self.basis.shape
        rank = () if batch or _checks.is_traced(self.rank) else (f"rank={int(self.rank)}",)
        facts = (f"D={ambient}", f"d={d}", *rank, f"{self.basis.dtype}")
        return _checks.one_line("Minimizer", batch, *facts, status=self.status)

    @property
    def decoder(self) -> Float[Array, "*batch D d"]:
        """``V = basis diag(gains)^(1/2)``."""
        return self.basis * jnp.sqrt(self.gains)[..., None, :]


def rank_minimizer(
    moment: SecondMoment,
    *,
    latent_variance: ArrayLike,
    latent_dim: int,
    time: ArrayLike | None = None,
    times: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    process: Process = VP(),
    throw: bool = True,
) -> Minimizer:
    """Exact minimiser of the fine-tuning loss over decoders of rank at most d.

    With eigenpairs ``(c_i, u_i)`` of the second moment, ``VV' = sum_{i<=d} p_i u_i u_i'`` and

        p_i = b c_i / (a c_i + e),
        a = sum w g^2 m^2/s2^2,  e = sum w g^2/s2,  b = sum w g m^2/s2^2;

    at a single time this is ``p_i = (m^2 c_i/(m^2 c_i + s2))/g``.

    Implements: Lemma 5.1 (corrected: ``m_t^2`` before ``C``, and truncated to rank d), R1, R2; R9
    for a diagonal latent. There, at one time only ``V G V'`` is determined (status
    `Status.NOT_IDENTIFIED`); over several times the result is the best assignment of latent
    variances to eigenvectors, a stationary point that need not be the global minimum (status
    `Status.STATIONARY`).

    When the second moment has rank below d, ``rank(V) = d`` is not closed and its infimum is not
    attained; this is the minimiser over ``rank(V) <= d``.

    Jitted at the entry (static: `latent_dim`, `process`); may be vmapped over `moment`, variances,
    times and weights.

    Args:
        moment: second moment of the target.
        latent_variance: variance that the frozen ``f`` uses, scalar or ``(d,)``.
        latent_dim: ``d``.
        time: a single ``t``, or
        times: ``(K,)`` times with
        weights: ``(K,)`` weights, ``1/K`` each by default, never normalised.
        process: forward process.
        throw: raise on errors that only the values show, or set the status.

    Returns:
        The minimiser.

    Raises:
        ValueError: values out of range, or shapes that do not match.

    Example:
        >>> import jax, fsd_jax as fsd
        >>> x = jax.random.normal(jax.random.key(0), (10, 64))
        >>> moment = fsd.SecondMoment.from_samples(x)
        >>> fsd.rank_minimizer(moment, latent_variance=1.0, latent_dim=4, time=0.5)
        Minimizer(D=64, d=4, rank=4, float32, status=ok)
    """
    one_moment("moment", moment)
    _process.check(process, time=time, times=times)
    throw = _checks.boolean("throw", throw)
    d = _latent_dim(moment, latent_dim)
    dtype = moment.values.dtype
    t, w, bad_time = _checks.times_and_weights(time, times, weights, dtype)
    lam2, bad_variance = _checks.scalar_or_variances("latent_variance", latent_variance, d, dtype)
    # Concrete arguments have passed their checks, so the moment's status, which is on the host
    # already, is all that is left: no wait for the result.
    _checks.settle(moment.status, name="moment", throw=throw)
    found = _rank_solution(moment, lam2, t, w, bad_time | bad_variance, process, d=d)
    return _minimizer(moment, d, found)


def orthonormal_minimizer(
    moment: SecondMoment,
    *,
    latent_dim: int,
    latent_variance: ArrayLike | None = None,
    throw: bool = True,
) -> Minimizer:
    """Exact minimiser over orthonormal decoders: the top d eigenvectors, that is PCA.

    ``l_t = const - m^2 g (2 - g) tr(V'CV)`` on ``V'V = I``, so the answer is the same at every
    time, for every weighting and whatever variance the frozen ``f`` uses. For a diagonal latent it
    is Brockett's problem, solved by pairing the largest eigenvalue with the largest variance.

    Implements: Section 5.1 (PCA), R7.

    Args:
        moment: second moment of the target.
        latent_dim: ``d``.
        latent_variance: optional ``(d,)`` variances: column k then belongs to
            ``latent_variance[k]``. Without it columns are in descending order.
        throw: raise on errors that only the values show, or set the status.

    Returns:
        The minimiser, its gains being one (zero where the data determine nothing).

    Raises:
        ValueError: values out of range.
    """
    one_moment("moment", moment)
    throw = _checks.boolean("throw", throw)
    d = _latent_dim(moment, latent_dim)
    bad: jax.Array | np.int32 = np.int32(0)
    lam2 = None
    if latent_variance is not None:
        lam2, bad = _checks.variances("latent_variance", latent_variance, d, moment.values.dtype)
    _checks.settle(moment.status, name="moment", throw=throw)
    return _minimizer(moment, d, _orthonormal_solution(moment, lam2, bad, d=d))


def paper_formula(
    moment: SecondMoment,
    *,
    latent_variance: ArrayLike,
    time: ArrayLike,
    process: Process = VP(),
) -> Minimizer:
    """The paper's untruncated formula, for comparison: ``VV'`` of any rank up to ``min(n, D)``.

    ``((m^2 lam2 + s2)/lam2) (m^2 C + s2 I)^-1 C``. When the second moment has rank above d (noise,
    real data) no ``D x d`` decoder attains it; use `rank_minimizer`.

    Implements: Lemma 5.1 as printed for the empirical solution; R1.

    Args:
        moment: second moment holding every direction (``rank=None``).
        latent_variance: scalar variance that the frozen ``f`` uses.
        time: a single ``t``.
        process: forward process.

    Returns:
        A `Minimizer` with ``k = moment.values.size`` columns instead of d.

    Raises:
        ValueError: values out of range, or a truncated moment.
    """
    whole_moment("moment", moment)
    _process.check(process, time=time)
    dtype = moment.values.dtype
    t, w, bad = _checks.times_and_weights(time, None, None, dtype)
    scalar, bad_variance = _checks.positive("latent_variance", latent_variance, dtype, ndim=(0,))
    k = moment.values.shape[-1]
    _checks.settle(moment.status, name="moment", throw=True)
    found = _rank_solution(moment, scalar, t, w, bad | bad_variance, process, d=k)
    return _minimizer(moment, k, found)


def _latent_dim(moment: SecondMoment, latent_dim: int) -> int:
    ambient, k = moment.basis.shape[-2:]
    d = _checks.dimension("latent_dim", latent_dim, high=ambient, top=" = D")
    if d <= k or _checks.is_traced(moment):
        return d
    # On the host: inside jit even a concrete array's jnp.any would be traced.
    if np.any(np.asarray(moment.next_value) > 0):
        raise ValueError(
            f"latent_dim = {d} but the moment kept only {k} eigenpairs of more; build it with "
            f"rank={d} or more, or rank=None"
        )
    return d


class _Solution(NamedTuple):
    """What the eigenvalues decide; `order` says which eigenvector column k takes, None for k."""

    gains: Float[Array, " d"]
    order: Int[Array, " d"] | None
    rank: Int[Array, ""]
    status: Int[Array, ""]


def _minimizer(moment: SecondMoment, d: int, found: _Solution) -> Minimizer:
    """The solution with its eigenvectors; where all are kept in order, without a copy."""
    basis = moment.basis
    if basis.shape[-1] != d or found.order is not None:
        basis = _columns(basis, found.order, d=d)
    return Minimizer(basis=basis, gains=found.gains, rank=found.rank, status=found.status)


@partial(jax.jit, static_argnames=("d",))
def _columns(
    basis: Float[Array, "*batch D k"], order: Int[Array, "*batch d"] | None, *, d: int
) -> Float[Array, "*batch D d"]:
    """The first d columns, zero where there are none, in the given order."""
    kept = basis[..., :d]
    short = [(0, 0)] * (basis.ndim - 1) + [(0, max(d - basis.shape[-1], 0))]
    kept = jnp.pad(kept, short)
    return kept if order is None else jnp.take_along_axis(kept, order[..., None, :], axis=-1)


def _top(moment: SecondMoment, d: int) -> tuple[Float[Array, " d"], Int[Array, ""], Int[Array, ""]]:
    """The d leading eigenvalues (zero-padded), their number and what the cut at d says."""
    k = moment.values.shape[0]
    short = max(d - k, 0)
    values = jnp.pad(moment.values[:d], (0, short))
    if k > d:
        following = moment.values[d]
    else:
        following = jnp.zeros_like(moment.next_value) if short else moment.next_value
    largest = moment.values[0]
    eps = _linalg.eps_of(values.dtype)
    gap = values[-1] - following
    no_gap = (values[-1] > 0) & (gap <= 8 * eps * largest)
    squared = moment.route_code == ROUTES.index("gram")
    unsafe = squared & (values[-1] > 0) & (gap < _linalg.GAP_MARGIN * eps * largest)
    rank = jnp.sum(values > 0).astype(jnp.int32)
    status = (
        moment.status
        | _checks.flag(rank < d, Status.RANK_DEFICIENT)
        | _checks.flag(no_gap, Status.NO_GAP)
        | _checks.flag(unsafe, Status.ROUTE_UNSAFE)
    )
    return values, rank, status


@partial(jax.jit, static_argnames=("d",))
def _rank_solution(
    moment: SecondMoment,
    latent_variance: Float[Array, "*d"],
    times: Float[Array, " K"],
    weights: Float[Array, " K"],
    bad: Int[Array, ""],
    process: Process,
    *,
    d: int,
) -> _Solution:
    c, rank, status = _top(moment, d)
    one_variance = latent_variance.ndim == 0
    latent_variance = jnp.broadcast_to(latent_variance, d)
    form = QuadraticForm.integrate(latent_variance, times, weights, process)
    a, e = jnp.diagonal(form.a), jnp.diagonal(form.e)
    if one_variance:
        return _Solution(_gains(form, a, e, c, bad), None, rank, status | bad)
    isotropic = jnp.all(latent_variance == latent_variance[0])
    by_size = _ranks(latent_variance)
    if times.shape[0] == 1:
        column_to_pair = by_size
        ambiguous = _checks.flag(~isotropic, Status.NOT_IDENTIFIED)
    else:
        # Loss of giving eigenpair i to column k, least over the gain.
        cost = -(form.b**2) * c[:, None] ** 2 / (a * c[:, None] + e)
        cost = jnp.where(jnp.isfinite(cost), cost, 0.0)
        column_to_pair = jax.lax.cond(isotropic, lambda: by_size, lambda: _assign(cost))
        ambiguous = _checks.flag(~isotropic, Status.STATIONARY)
    gains = _gains(form, a, e, c[column_to_pair], bad)
    return _Solution(gains, column_to_pair, rank, status | ambiguous | bad)


def _gains(
    form: QuadraticForm,
    a: Float[Array, " d"],
    e: Float[Array, " d"],
    c: Float[Array, " d"],
    bad: Int[Array, ""],
) -> Float[Array, " d"]:
    """R2's gains, NaN where an argument was out of range."""
    return jnp.where(bad > 0, jnp.nan, form.b * c / (a * c + e))


def _ranks(latent_variance: Float[Array, " d"]) -> Int[Array, " d"]:
    """Position of each variance when sorted descending (ties in order of appearance)."""
    return jnp.argsort(jnp.argsort(-latent_variance, stable=True), stable=True)


def _assign(cost: Float[Array, "d d"]) -> Int[Array, " d"]:
    """For each column the eigenpair that the optimal assignment gives it."""
    # Optax mixes dtypes inside (its potentials are float64 in x64 mode), whatever the user set.
    with jax.numpy_dtype_promotion("standard"):
        pairs, columns = optax.assignment.hungarian_algorithm(cost)
    return jnp.zeros_like(columns).at[columns].set(pairs)


@partial(jax.jit, static_argnames=("d",))
def _orthonormal_solution(
    moment: SecondMoment,
    latent_variance: Float[Array, " d"] | None,
    bad: Int[Array, ""],
    *,
    d: int,
) -> _Solution:
    values, rank, status = _top(moment, d)
    gains = jnp.where(values > 0, jnp.ones_like(values), 0)
    gains = jnp.where(jnp.isnan(values) | (bad > 0), jnp.nan, gains)
    order = None
    if latent_variance is not None:
        order = _ranks(latent_variance)
        gains = gains[order]
    return _Solution(gains, order, rank, status | bad)
