"""One pass over batches of rows: a sketch whose second moment stays close to that of all rows."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fsd_jax import _checks, _spectra, _sums

EXACT_STREAM_DIM = 1024
"""Up to this D a stream keeps a full triangular factor, which loses nothing."""


class Stream(NamedTuple):
    """What one pass has seen: ``sketch' sketch`` is close to the (centred) sum of ``x x'``.

    Means are kept relative to `offset`, about the first batch's mean, and the energy with what its
    last addition lost: both then keep their digits over any number of batches. `size` is that of
    what was subtracted from each column, in units of this dtype's eps (`_spectra.Centring`).
    """

    sketch: Float[Array, "l D"]
    rows: Int[Array, ""]
    offset: Float[Array, " D"]
    size: Float[Array, " D"]
    mean: Float[Array, " D"]
    energy: Float[Array, ""]
    lost: Float[Array, ""]
    dropped: Float[Array, ""]


def start(x: np.ndarray | jax.Array, rank: int, *, centre: bool) -> Stream:
    """A stream that has seen nothing, for batches like `x`, which may still be on the host."""
    ambient = x.shape[1]
    size = ambient if ambient <= EXACT_STREAM_DIM else min(ambient, 4 * rank + 64)
    first, _ = _checks.on_device(x[:1])
    zero, none = jnp.zeros((), first.dtype), jnp.zeros(ambient, first.dtype)
    offset = none
    if centre:
        with np.errstate(over="ignore", invalid="ignore"):
            about, _ = _checks.on_device(x[:128].mean(axis=0, keepdims=True))
        offset = jnp.where(jnp.isfinite(about[0]), about[0], 0)
    sketch = jnp.zeros((size, ambient), first.dtype)
    return Stream(sketch, jnp.int32(0), offset, none, none, zero, zero, zero)


@partial(jax.jit, static_argnames=("centre", "subtract", "quantum"))
def merge(
    state: Stream,
    x: Float[Array, "m D"],
    rows: Int[Array, ""],
    *,
    centre: bool,
    subtract: bool,
    quantum: float,
) -> Stream:
    """Add the first `rows` rows of a batch; the others are padding.

    Args:
        state: what was seen before.
        x: the batch.
        rows: how many of its rows count.
        centre: whether the moment is about the mean.
        subtract: whether the stream's offset is still to be subtracted from the batch.
        quantum: eps of the batch as it was given, over that of `x`.
    """
    real = jnp.arange(x.shape[0], dtype=rows.dtype) < rows
    count = state.rows + rows
    share = rows.astype(x.dtype) / count.astype(x.dtype)
    mean = state.mean
    stack = [state.sketch]
    if centre:
        x = x - state.offset if subtract else x
        shift, rest = _sums.centre(x, real)
        x = jnp.where(real[:, None], (x - shift) - rest, 0)
        step = (shift - state.mean) + rest
        mean = state.mean + step * share
        stack.append(jnp.sqrt(state.rows.astype(x.dtype) * share) * step[None])
    stacked = jnp.concatenate([*stack, x])
    energy = _sums.energy(x) + (_sums.energy(stack[-1]) if centre else 0)
    size = state.sketch.shape[0]
    # The sketch is a root: it holds scales whose squares the dtype does not.
    unit = _sums.unit_scale(jnp.max(jnp.abs(stacked)))
    spectrum = _spectra.svd_spectrum(stacked * unit, jnp.ones((), x.dtype), size)
    missed = energy - state.lost
    total = state.energy + missed
    return Stream(
        (jnp.sqrt(spectrum.values) / unit)[:, None] * spectrum.basis.T,
        count,
        state.offset,
        jnp.maximum(state.size, quantum * jnp.abs(state.offset)),
        mean,
        total,
        (total - state.energy) - missed,
        state.dropped + spectrum.next_value / unit / unit,
    )


@partial(jax.jit, static_argnames=("k", "centre"))
def finish(state: Stream, *, k: int, centre: bool) -> tuple[_spectra.Spectrum, Bool[Array, ""]]:
    """Leading eigenpairs, and whether what was dropped could have moved the cut."""
    rows = state.rows.astype(state.sketch.dtype)
    spectrum = _spectra.svd_spectrum(state.sketch, rows, k)
    if centre:
        spectrum = _spectra.beyond_rounding(spectrum, _spectra.Centring(state.size, state.rows))
    whole = jnp.maximum(state.energy / rows, spectrum.total)
    total = jnp.where(spectrum.total > 0, whole, spectrum.total)
    spectrum = spectrum._replace(total=total)
    # Davis and Kahan: what was dropped moves the projector by at most dropped/gap.
    gap = spectrum.values[-1] - spectrum.next_value
    return spectrum, state.dropped / rows > 0.1 * gap
