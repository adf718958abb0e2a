"""Second moments in thin form: eigenpairs of ``C = (1/n) sum x x'``, never the ``D x D`` matrix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key

from fsd_jax import _checks, _linalg, _routes, _spectra, _stream
from fsd_jax._checks import Status

ROUTES = ("svd", "gram", "krylov", "covariance", "stream")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class SecondMoment:
    """Eigenpairs of a second moment (or, with a mean, of a covariance), largest first.

    Build one with `from_samples`, `from_covariance` or `from_batches`. Null directions are zero in
    `values` and `basis`.

    Implements: R14.

    Attributes:
        values: ``(k,)`` eigenvalues ``c_i``.
        basis: ``(D, k)`` orthonormal eigenvectors ``u_i`` in columns.
        count: number of samples, an integer (zero for a population covariance).
        total: ``tr C``, of all directions, kept or not.
        next_value: the first eigenvalue left out (zero when nothing is).
        mean: ``(D,)`` the mean that was subtracted, or None.
        route_code: index into ``("svd", "gram", "krylov", "covariance", "stream")``.
        status: `Status` flags as int32.
    """

    values: Float[Array, "*batch k"]
    basis: Float[Array, "*batch D k"]
    count: Int[Array, "*batch"]
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
        missing = jnp.clip(self.total - jnp.sum(self.values, axis=-1), 0)
        rest = missing / left.astype(missing.dtype)
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

        Sums over samples keep their digits whatever ``n`` is, and centring loses none to a mean far
        above the spread; float64 samples are centred before they are narrowed. A centred direction
        counts where its standard deviation exceeds a few eps of what was subtracted.

        Routes: ``"gram"`` (the smaller side's Gram matrix; squares the data), ``"svd"`` (QR and a
        small SVD; never squares), ``"krylov"`` (block Golub-Kahan-Lanczos; for large data and a
        small `rank`; copies the data only where their mean is far above the spread). ``"auto"``
        takes the cheapest and, when its run-time check fails at the cut in use (`rank`, or all
        directions), falls back to ``"svd"``. Under `jax.vmap` both are computed, so name a route
        where that matters.

        Implements: R15.

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
        centre = _checks.boolean("centre", centre)
        given = _checks.sample_rows("x", x, least=2 if centre and mask is None else 1)
        _checks.choice("route", route, ("auto", "svd", "gram", "krylov"))
        side = min(given.shape)
        if rank is not None:
            rank = _checks.dimension("rank", rank, high=side, top=" = min(n, D)")
        if mask is not None:
            mask = _checks.row_mask("mask", mask, given.shape[0], rows=2 if centre else 1)
        if key is not None:
            key = _checks.key("key", key)
        if route == "auto":
            route = "auto-krylov" if _routes.krylov_pays(given.shape, rank) else "auto-gram"
        offset = _routes.host_offset(given, mask) if centre else None
        x, downcast = _checks.on_device(given if offset is None else given - offset)
        moment = _from_samples(
            x, mask, key, offset, k=rank or side, centre=centre, route=route, extra=int(downcast)
        )
        _checks.settle(moment.status, name="x", throw=_checks.boolean("throw", throw))
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
            ValueError: not square, not symmetric (status ``ASYMMETRIC``), or indefinite beyond
                rounding.
        """
        matrix, downcast = _checks.floating("C", C, ndim=(2,))
        ambient = matrix.shape[0]
        if matrix.shape != (ambient, ambient) or ambient == 0:
            raise ValueError(f"C must be a square (D, D) matrix, got shape {tuple(matrix.shape)}")
        if rank is not None:
            rank = _checks.dimension("rank", rank, high=ambient, top=" = D")
        moment = _from_covariance(matrix, k=rank or ambient, extra=int(downcast))
        _checks.settle(moment.status, name="C", throw=_checks.boolean("throw", throw))
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
        centre, throw = _checks.boolean("centre", centre), _checks.boolean("throw", throw)
        _checks.callback("progress", progress)
        state: _stream.Stream | None = None
        extra, seen, longest = Status.OK, 0, 0
        for number, batch in enumerate(_iterate(batches), start=1):
            given = _checks.sample_rows(f"batch {number}", batch)
            if state is None:
                _checks.dimension("rank", rank, high=given.shape[1], top=" = D")
                state = _stream.start(given, rank, centre=centre)
            if given.shape[1] != state.offset.shape[0]:
                raise ValueError(
                    f"batch {number} has D = {given.shape[1]} but earlier batches have "
                    f"D = {state.offset.shape[0]}; all batches need the same columns"
                )
            if centre and isinstance(given, np.ndarray):
                # Before float64 is narrowed; the merge itself subtracts what is on the device.
                given = given - np.asarray(state.offset)
            x, downcast = _checks.on_device(given)
            extra |= downcast
            seen, longest = seen + x.shape[0], max(longest, x.shape[0])
            padded = jnp.pad(x, ((0, longest - x.shape[0]), (0, 0)))
            state = _stream.merge(
                state,
                padded,
                jnp.int32(x.shape[0]),
                centre=centre,
                subtract=centre and isinstance(given, jax.Array),
                quantum=_linalg.eps_of(given.dtype) / _linalg.eps_of(x.dtype),
            )
            if progress is not None:
                progress(number, seen)
        if state is None:
            raise ValueError("batches is empty: from_batches needs at least one batch")
        if centre and seen < 2:
            raise ValueError(f"batches hold {seen} row and need at least 2 to be centred")
        moment = _from_stream(state, rank, centre=centre, extra=extra)
        _checks.settle(moment.status, name="batches", throw=throw)
        return moment


def _iterate(batches: Iterable[ArrayLike]) -> Iterable[ArrayLike]:
    if not isinstance(batches, Iterable):
        raise ValueError(
            f"batches must be an iterable of (n, D) arrays, got {_checks.named(batches)}"
        )
    return batches


@partial(jax.jit, static_argnames=("k", "centre", "route", "extra"))
def _from_samples(
    x: Float[Array, "n D"],
    mask: Bool[Array, " n"] | None,
    key: Key[Array, ""] | None,
    offset: Float[Array, " D"] | None,
    *,
    k: int,
    centre: bool,
    route: str,
    extra: int,
) -> SecondMoment:
    rows = _routes.Rows.of(x, mask, offset, centre=centre)
    spectrum, kept = _routes.decompose(rows, k=k, route=route, key=key)
    distrust = Status.NOT_CONVERGED if route.endswith("krylov") else Status.ROUTE_UNSAFE
    status = _checks.flag(spectrum.finite & ~spectrum.trusted, distrust) | extra
    named = jnp.int32(ROUTES.index(route.removeprefix("auto-")))
    code = jnp.where(kept, named, ROUTES.index("svd"))
    return _moment(spectrum, rows.number, rows.mean, code, status)


def _moment(
    spectrum: _spectra.Spectrum,
    count: Int[Array, ""],
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
        status=status
        | _checks.flag(~spectrum.finite, Status.NON_FINITE)
        | _checks.flag(spectrum.underflow, Status.UNDERFLOW),
    )


@partial(jax.jit, static_argnames=("k", "extra"))
def _from_covariance(matrix: Float[Array, "D D"], *, k: int, extra: int) -> SecondMoment:
    spectrum, least = _spectra.symmetric_spectrum(matrix, k, jnp.int32(k))
    rounding = 100 * _linalg.eps_of(matrix.dtype)
    allowed = rounding * jnp.max(jnp.abs(spectrum.values))
    status = _checks.flag(least < -allowed, Status.INDEFINITE) | extra
    asymmetry = jnp.max(jnp.abs(matrix - matrix.T))
    status |= _checks.flag(asymmetry > rounding * jnp.max(jnp.abs(matrix)), Status.ASYMMETRIC)
    code = jnp.int32(ROUTES.index("covariance"))
    return _moment(spectrum, jnp.int32(0), None, code, status)


def _from_stream(state: _stream.Stream, rank: int, *, centre: bool, extra: Status) -> SecondMoment:
    spectrum, lossy = _stream.finish(state, k=rank, centre=centre)
    status = _checks.flag(spectrum.finite & lossy, Status.TRUNCATED) | int(extra)
    code = jnp.int32(ROUTES.index("stream"))
    mean = state.offset + state.mean if centre else None
    return _moment(spectrum, state.rows, mean, code, status)
