"""Second moments in thin form: eigenpairs of ``C = (1/n) sum x x'``, never the ``D x D`` matrix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from fsd_jax import _checks, _krylov, _linalg, _stream
from fsd_jax._checks import Status

ROUTES = ("svd", "gram", "krylov", "covariance", "stream")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class SecondMoment:
    """Eigenpairs of a second moment (or, with a mean, of a covariance), largest first.

    Build one with `from_samples`, `from_covariance` or `from_batches`. Null directions are zero in
    `values` and `basis`.

    Attributes:
        values: ``(k,)`` eigenvalues ``c_i``.
        basis: ``(D, k)`` orthonormal eigenvectors ``u_i`` in columns.
        count: number of samples, a float scalar (zero for a population covariance).
        total: ``tr C``, of all directions, kept or not.
        next_value: the first eigenvalue left out (zero when nothing is).
        mean: ``(D,)`` the mean that was subtracted, or None.
        route_code: index into ``("svd", "gram", "krylov", "covariance", "stream")``.
        status: `Status` flags as int32.
    """

    values: Float[Array, "*batch k"]
    basis: Float[Array, "*batch D k"]
    count: Float[Array, "*batch"]
    total: Float[Array, "*batch"]
    next_value: Float[Array, "*batch"]
    mean: Float[Array, "*batch D"] | None
    route_code: Int[Array, "*batch"]
    status: Int[Array, "*batch"]

    def __repr__(self) -> str:
        *batch, ambient, k = self.basis.shape
        facts = (f"D={ambient}", f"k={k}", f"{self.values.dtype}", f"route={self.route}")
        centred = f"centred={self.mean is not None}"
        return _checks.one_line("SecondMoment", batch, *facts, centred, status=self.status)

    @property
    def route(self) -> str:
        """Name of the route taken; for a batch, the distinct names joined by ``+``."""
        if _checks.is_traced(self.route_code):
            return "traced"
        return "+".join(ROUTES[code] for code in np.unique(np.asarray(self.route_code)))

    @property
    def residual(self) -> Float[Array, "*batch"]:
        """Mean eigenvalue of the directions left out; zero when none is.

        A truncated moment stands for ``U diag(c) U' + residual (I - U U')``, which has the right
        trace.
        """
        rank = jnp.sum(self.values > 0, axis=-1)
        left = jnp.maximum(self.basis.shape[-2] - rank, 1)
        rest = jnp.clip(self.total - jnp.sum(self.values, axis=-1), 0) / left
        return jnp.where(self.next_value > 0, rest, 0)

    @classmethod
    def from_samples(
        cls,
        x: ArrayLike,
        *,
        rank: int | None = None,
        centre: bool = False,
        mask: ArrayLike | None = None,
        route: str = "auto",
        key: Key[Array, ""] | None = None,
        throw: bool = True,
    ) -> "SecondMoment":
        """Second moment of samples, either side larger.

        Jitted at the entry: one compilation for each shape, `rank`, `centre` and `route`. A mask
        lets a sweep over ``n`` share one compilation.

        Routes: ``"gram"`` (the smaller side's Gram matrix; squares the data), ``"svd"`` (QR and a
        small SVD; never squares), ``"krylov"`` (block Golub-Kahan-Lanczos; for large data and a
        small `rank`; never copies the data). ``"auto"`` takes the cheapest and, when its run-time
        check fails at the cut in use (`rank`, or all directions), falls back to ``"svd"``. Under
        `jax.vmap` both are computed, so name a route where that matters.

        Args:
            x: ``(n, D)`` floating samples.
            rank: number of eigenpairs to keep; None keeps ``min(n, D)``.
            centre: subtract the sample mean (the divisor stays ``n``).
            mask: ``(n,)`` booleans; rows with False do not count, whatever they hold.
            route: ``"auto"``, ``"svd"``, ``"gram"`` or ``"krylov"``.
            key: for the random start of ``"krylov"``; a fixed one by default.
            throw: raise on non-finite data (one host sync) or only set the status.

        Raises:
            ValueError: bad dtype, shape, rank, route or mask; non-finite data if `throw`.

        Example:
            >>> import jax, fsd_jax as fsd
            >>> x = jax.random.normal(jax.random.key(0), (10, 12288))
            >>> fsd.SecondMoment.from_samples(x)
            SecondMoment(D=12288, k=10, float32, route=gram, centred=False, status=ok)
        """
        x, downcast = _checks.samples("x", x, rows=2 if centre and mask is None else 1)
        _checks.choice("route", route, ("auto", "svd", "gram", "krylov"))
        side = min(x.shape)
        if rank is not None:
            rank = _checks.dimension("rank", rank, high=side, top=" = min(n, D)")
        if mask is not None:
            mask = _checks.row_mask("mask", mask, x.shape[0], rows=2 if centre else 1)
        if route == "auto":
            route = "auto-krylov" if _krylov_pays(x.shape, rank) else "auto-gram"
        moment = _from_samples(
            x, mask, key, k=rank or side, centre=bool(centre), route=route, extra=int(downcast)
        )
        _checks.settle(moment.status, name="x", throw=throw)
        return moment

    @classmethod
    def from_covariance(
        cls, C: ArrayLike, *, rank: int | None = None, throw: bool = True
    ) -> "SecondMoment":
        """Second moment given as a ``(D, D)`` matrix, for example a population covariance.

        Args:
            C: symmetric positive semi-definite ``(D, D)`` floating matrix.
            rank: number of eigenpairs to keep; None keeps all ``D``.
            throw: raise on what only the values can show, or set the status.

        Raises:
            ValueError: not square, not symmetric, or indefinite beyond rounding.
        """
        matrix, downcast = _checks.floating("C", C, ndim=(2,))
        ambient = matrix.shape[0]
        if matrix.shape != (ambient, ambient) or ambient == 0:
            raise ValueError(f"C must be a square (D, D) matrix, got shape {tuple(matrix.shape)}")
        if rank is not None:
            rank = _checks.dimension("rank", rank, high=ambient, top=" = D")
        if throw and not _checks.is_traced(matrix):
            _check_covariance(np.asarray(matrix))
        moment = _from_covariance(matrix, k=rank or ambient, extra=int(downcast))
        _checks.settle(moment.status, name="C", throw=throw)
        return moment

    @classmethod
    def from_batches(
        cls,
        batches: Iterable[ArrayLike],
        *,
        rank: int,
        centre: bool = False,
        progress: Callable[[int, int], None] | None = None,
        throw: bool = True,
    ) -> "SecondMoment":
        """Second moment of a source larger than memory, in one pass over batches of rows.

        Keeps a sketch of ``4 rank + 64`` directions (all up to ``D = 1024``, which is exact) and
        merges each batch by QR and SVD; when what it dropped could move the cut, the status says
        `Status.TRUNCATED`.

        Args:
            batches: iterable of ``(n_i, D)`` floating arrays; sizes may differ (a shorter batch is
                padded to the longest seen, to save compilations).
            rank: number of eigenpairs to keep, at most ``D``.
            centre: subtract the mean of all samples.
            progress: called with ``(batches done, rows done)`` after each batch.
            throw: raise on non-finite data or only set the status.

        Raises:
            ValueError: no batches, mismatched ``D``, bad dtype, too few rows.
        """
        rank = _checks.dimension("rank", rank)
        state: _stream.Stream | None = None
        extra, seen, longest = Status.OK, 0, 0
        for number, batch in enumerate(batches, start=1):
            x, downcast = _checks.samples(f"batch {number}", batch)
            extra |= downcast
            if state is None:
                _checks.dimension("rank", rank, high=x.shape[1], top=" = D")
                state = _stream.empty(x, rank)
            if x.shape[1] != state.sketch.shape[1]:
                raise ValueError(
                    f"batch {number} has D = {x.shape[1]} but earlier batches have "
                    f"D = {state.sketch.shape[1]}; all batches need the same columns"
                )
            seen, longest = seen + x.shape[0], max(longest, x.shape[0])
            padded = jnp.pad(x, ((0, longest - x.shape[0]), (0, 0)))
            rows = jnp.asarray(x.shape[0], x.dtype)
            state = _stream.merge(state, padded, rows, centre=bool(centre))
            if progress is not None:
                progress(number, seen)
        if state is None:
            raise ValueError("batches is empty: from_batches needs at least one batch")
        if centre and seen < 2:
            raise ValueError(f"batches hold {seen} row and need at least 2 to be centred")
        moment = _from_stream(state, rank, centre=bool(centre), extra=extra)
        _checks.settle(moment.status, name="batches", throw=throw)
        return moment


def _krylov_pays(shape: tuple[int, ...], rank: int | None) -> bool:
    """Whether about 16 products with the data cost less than the Gram matrix and its eigh.

    The constant is measured (python -m benchmarks solve): products with a few columns run at a
    fraction of the matrix-product rate.
    """
    return rank is not None and min(shape) >= 48 * (rank + 8)


@partial(jax.jit, static_argnames=("k", "centre", "route", "extra"))
def _from_samples(
    x: Float[Array, "n D"],
    mask: Bool[Array, " n"] | None,
    key: Key[Array, ""] | None,
    *,
    k: int,
    centre: bool,
    route: str,
    extra: int,
) -> SecondMoment:
    n, ambient = x.shape
    rows = jnp.int32(n)
    if mask is not None:
        # Padded rows may hold anything, NaN included: `where`, not a product.
        x = jnp.where(mask[:, None], x, 0)
        rows = jnp.sum(mask).astype(jnp.int32)
    count = rows.astype(x.dtype)
    mean = None
    if centre:
        # A product, because XLA's CPU reduction over the long axis is eight times slower.
        share = jnp.full(n, 1 / count) if mask is None else mask / count
        mean = _linalg.matmul(share, x)
    cut = jnp.minimum(jnp.minimum(k, ambient), rows - (1 if centre else 0))

    def centred() -> Float[Array, "n D"]:
        if mean is None:
            return x
        return x - mean if mask is None else jnp.where(mask[:, None], x - mean, 0)

    def compute(name: str) -> _linalg.Spectrum:
        if name == "krylov":
            start = jax.random.key(0) if key is None else key
            return _krylov.krylov_spectrum(x, mask, mean, count, k, start)
        if name == "gram":
            return _linalg.gram_spectrum(centred(), count, k, cut)
        return _linalg.svd_spectrum(centred(), count, k)

    named = route.removeprefix("auto-")
    spectrum, code = compute(named), jnp.int32(ROUTES.index(named))
    if named != route:
        keep = spectrum.trusted | ~spectrum.finite
        spectrum = jax.lax.cond(keep, lambda first: first, lambda _: compute("svd"), spectrum)
        code = jnp.where(keep, code, ROUTES.index("svd"))
    distrust = Status.NOT_CONVERGED if named == "krylov" else Status.ROUTE_UNSAFE
    status = _checks.flag(spectrum.finite & ~spectrum.trusted, distrust) | extra
    return _moment(spectrum, count, mean, code, status)


def _moment(
    spectrum: _linalg.Spectrum,
    count: Float[Array, ""],
    mean: Float[Array, " D"] | None,
    route_code: Int[Array, ""],
    status: Int[Array, ""],
) -> SecondMoment:
    return SecondMoment(
        values=spectrum.values,
        basis=spectrum.basis,
        count=count,
        total=spectrum.total,
        next_value=spectrum.next_value,
        mean=mean,
        route_code=route_code,
        status=status | _checks.flag(~spectrum.finite, Status.NON_FINITE),
    )


def _check_covariance(matrix: np.ndarray) -> None:
    if not np.all(np.isfinite(matrix)):
        return
    scale = np.max(np.abs(matrix), initial=0.0)
    tolerance = 100 * np.finfo(matrix.dtype).eps * scale
    asymmetry = np.max(np.abs(matrix - matrix.T), initial=0.0)
    if asymmetry > tolerance:
        raise ValueError(
            f"C must be symmetric, got |C - C'| up to {asymmetry:.3g}; pass (C + C.T)/2"
        )


@partial(jax.jit, static_argnames=("k", "extra"))
def _from_covariance(matrix: Float[Array, "D D"], *, k: int, extra: int) -> SecondMoment:
    spectrum, least = _linalg.symmetric_spectrum(matrix, k, jnp.int32(k))
    allowed = 100 * _linalg.eps_of(matrix.dtype) * jnp.max(jnp.abs(spectrum.values))
    status = _checks.flag(least < -allowed, Status.INDEFINITE) | extra
    code = jnp.int32(ROUTES.index("covariance"))
    return _moment(spectrum, jnp.zeros((), matrix.dtype), None, code, status)


def _from_stream(state: _stream.Stream, rank: int, *, centre: bool, extra: Status) -> SecondMoment:
    spectrum, lossy = _stream.finish(state, k=rank)
    status = _checks.flag(spectrum.finite & lossy, Status.TRUNCATED) | int(extra)
    code = jnp.int32(ROUTES.index("stream"))
    return _moment(spectrum, state.rows, state.mean if centre else None, code, status)
