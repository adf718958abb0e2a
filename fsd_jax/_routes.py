"""From rows to leading eigenpairs: centring, the choice of a route, and the fall-back from it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from fsd_jax import _checks, _krylov, _linalg, _spectra, _sums

FAR_MEAN = 16.0
"""Mean's squared length over the variance beyond which centred data are copied."""


def krylov_pays(shape: tuple[int, ...], rank: int | None) -> bool:
    """Whether about 16 products with the data cost less than the Gram matrix and its eigh.

    The constant is measured (python -m benchmarks solve): products with a few columns run at a
    fraction of the matrix-product rate.
    """
    return rank is not None and min(shape) >= 48 * (rank + 8)


def host_offset(given: np.ndarray | jax.Array, mask: Array | None) -> np.ndarray | None:
    """A float32 mean of float64 rows on the host that are about to be narrowed, else None.

    Around 1.7e9 neighbouring float32 numbers are 128 apart: the offset must go first.
    """
    narrowed = given.dtype == np.float64 and not jax.config.read("jax_enable_x64")
    if not narrowed or isinstance(given, jax.Array) or _checks.is_traced(mask):
        return None
    kept = given if mask is None else given[np.asarray(mask)]
    with np.errstate(over="ignore", invalid="ignore"):
        offset = kept.mean(axis=0).astype(np.float32)
    return offset if np.all(np.isfinite(offset)) else None


class Rows(NamedTuple):
    """Samples, those that count, and their mean in two parts (see `_sums.centre`).

    Attributes:
        x: ``(n, D)``, zero outside the mask.
        mask: rows that count, or None.
        number: how many they are, an integer: float32 ends at 2^24.
        shift: first part of the mean, or None for rows that are not centred.
        rest: second part.
        mean: the mean of what was given, whose `offset` was subtracted before.
        centring: what is subtracted, for the cutoffs.
    """

    x: Float[Array, "n D"]
    mask: Bool[Array, " n"] | None
    number: Int[Array, ""]
    shift: Float[Array, " D"] | None = None
    rest: Float[Array, " D"] | None = None
    mean: Float[Array, " D"] | None = None
    centring: _spectra.Centring | None = None

    @classmethod
    def of(
        cls,
        x: Float[Array, "n D"],
        mask: Bool[Array, " n"] | None,
        offset: Float[Array, " D"] | None,
        *,
        centre: bool,
    ) -> "Rows":
        """Rows of which `offset` was subtracted already, in float64."""
        number = jnp.int32(x.shape[0])
        if mask is not None:
            # Padded rows may hold anything, NaN included: `where`, not a product.
            x = jnp.where(mask[:, None], x, 0)
            number = jnp.sum(mask).astype(jnp.int32)
        if not centre:
            return cls(x, mask, number)
        shift, rest = _sums.centre(x, mask)
        mean, size = shift + rest, jnp.abs(shift)
        if offset is not None:
            mean = mean + offset
            # It was subtracted in float64, which rounds that much less.
            size += jnp.abs(offset) * (
                _linalg.eps_of(np.dtype(np.float64)) / _linalg.eps_of(x.dtype)
            )
        return cls(x, mask, number, shift, rest, mean, _spectra.Centring(size, number, mask))

    @property
    def divisor(self) -> Float[Array, ""]:
        """`number` in the samples' dtype."""
        return self.number.astype(self.x.dtype)

    def centred(self, *, exactly: bool = True) -> Float[Array, "n D"]:
        """The rows minus their mean, a copy; or minus a point close to it, at half the cost."""
        if self.shift is None or self.rest is None:
            return self.x
        y = self.x - self.shift
        y = y - self.rest if exactly else y
        return y if self.mask is None else jnp.where(self.mask[:, None], y, 0)


def decompose(
    rows: Rows, *, k: int, route: str, key: Key[Array, ""] | None
) -> tuple[_spectra.Spectrum, Bool[Array, ""]]:
    """Leading eigenpairs, and whether the route that was named computed them.

    Args:
        rows: the samples.
        k: number of pairs.
        route: ``"svd"``, ``"gram"`` or ``"krylov"``; after ``"auto-"`` the SVD replaces it where
            its check fails.
        key: for the Krylov route's start; a fixed one by default.
    """
    named = route.removeprefix("auto-")
    spectrum = _compute(rows, k, named, key)
    keep = jnp.asarray(True)
    if named != route:
        keep = spectrum.trusted | ~spectrum.finite
        spectrum = jax.lax.cond(
            keep, lambda first: first, lambda _: _compute(rows, k, "svd", key), spectrum
        )
    elif named == "gram":
        # No square of zero is lost.
        null = jax.lax.cond(
            spectrum.total == 0, lambda: jnp.all(rows.x == 0), lambda: jnp.asarray(False)
        )
        spectrum = spectrum._replace(trusted=spectrum.trusted | null)
    if rows.centring is not None:
        spectrum = _spectra.beyond_rounding(spectrum, rows.centring)
    return spectrum, keep


def _compute(rows: Rows, k: int, name: str, key: Key[Array, ""] | None) -> _spectra.Spectrum:
    if name == "gram":
        most = rows.number - (0 if rows.shift is None else 1)
        cut = jnp.minimum(min(k, rows.x.shape[1]), most)
        x = rows.centred(exactly=rows.x.shape[0] > rows.x.shape[1])
        return _spectra.gram_spectrum(x, rows.divisor, k, cut, rows.centring)
    if name == "svd":
        return _spectra.svd_spectrum(rows.centred(), rows.divisor, k)
    start = jax.random.key(0) if key is None else key

    def krylov(x: Array, mean: Array | None) -> _spectra.Spectrum:
        return _krylov.krylov_spectrum(x, rows.mask, mean, rows.divisor, k, start)

    if rows.shift is None or rows.rest is None:
        return krylov(rows.x, None)
    # Subtracting a large mean from products loses digits that a centred copy keeps.
    mean = rows.shift + rows.rest
    square = _sums.total(mean**2)
    far = square > FAR_MEAN * (_sums.energy(rows.x) / rows.divisor - square)
    return jax.lax.cond(far, lambda: krylov(rows.centred(), None), lambda: krylov(rows.x, mean))
