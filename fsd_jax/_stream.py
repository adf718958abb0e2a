"""One pass over batches of rows: a sketch whose second moment stays close to that of all rows."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from fsd_jax import _linalg

EXACT_STREAM_DIM = 1024
"""Up to this D a stream keeps a full triangular factor, which loses nothing."""


class Stream(NamedTuple):
    """What one pass has seen: ``sketch' sketch`` is close to the (centred) sum of ``x x'``."""

    sketch: Float[Array, "l D"]
    rows: Float[Array, ""]
    mean: Float[Array, " D"]
    energy: Float[Array, ""]
    dropped: Float[Array, ""]


def empty(x: Float[Array, "m D"], rank: int) -> Stream:
    """A stream that has seen nothing, for batches like `x`."""
    ambient = x.shape[1]
    size = ambient if ambient <= EXACT_STREAM_DIM else min(ambient, 4 * rank + 64)
    zero = jnp.zeros((), x.dtype)
    return Stream(jnp.zeros((size, ambient), x.dtype), zero, jnp.zeros_like(x[0]), zero, zero)


@partial(jax.jit, static_argnames=("centre",))
def merge(state: Stream, x: Float[Array, "m D"], rows: Float[Array, ""], *, centre: bool) -> Stream:
    """Add the first `rows` rows of a batch; the others are padding."""
    real = jnp.arange(x.shape[0]) < rows
    count = state.rows + rows
    mean = state.mean
    stack = [state.sketch]
    if centre:
        batch_mean = _linalg.matmul(real / rows, x)
        x = jnp.where(real[:, None], x - batch_mean, 0)
        step = batch_mean - state.mean
        mean = state.mean + step * (rows / count)
        stack.append(jnp.sqrt(state.rows * rows / count) * step[None])
    stacked = jnp.concatenate([*stack, x])
    energy = jnp.sum(x * x) + (jnp.sum(stack[-1] ** 2) if centre else 0)
    size = state.sketch.shape[0]
    one = jnp.ones((), x.dtype)
    spectrum = _linalg.svd_spectrum(stacked, one, size)
    return Stream(
        jnp.sqrt(spectrum.values)[:, None] * spectrum.basis.T,
        count,
        mean,
        state.energy + energy,
        state.dropped + spectrum.next_value,
    )


@partial(jax.jit, static_argnames=("k",))
def finish(state: Stream, *, k: int) -> tuple[_linalg.Spectrum, Bool[Array, ""]]:
    """Leading eigenpairs, and whether what was dropped could have moved the cut."""
    spectrum = _linalg.svd_spectrum(state.sketch, state.rows, k)
    spectrum = spectrum._replace(total=state.energy / state.rows)
    # Davis and Kahan: what was dropped moves the projector by at most dropped/gap.
    gap = spectrum.values[-1] - spectrum.next_value
    return spectrum, state.dropped / state.rows > 0.1 * gap
