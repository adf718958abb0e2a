"""A target that hardly fits its source: another scale, or another mean.

Each is a sentence; fine-tuning warns with it, and a report repeats it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fsd_jax import _checks
from fsd_jax.fewshot.columns import elsewhere
from fsd_jax.fewshot.duplicates import source_spread
from fsd_jax.fewshot.source import PretrainedModel

APART = 10.0
"""Two sets are on different scales where their spreads differ by this factor, or their means by
this many spreads."""


def target_notes(source: PretrainedModel, x: Float[Array, "n D"]) -> tuple[str, ...]:
    """How target samples fail to fit their source: the spread, or the mean.

    A small spread is told where the samples themselves are small too; otherwise they are nearly one
    picture, which a report calls duplicates. A few samples of a law with few dimensions are not
    enough to compare, nor is a source of fewer than five.
    """
    if elsewhere(x) or _checks.is_traced(source):
        return ()
    ratio, size, gap, freedom = (float(a) for a in _compare(source, x))
    if 0 < float(source.count) < 5:
        return ()
    notes = []
    if freedom >= 5 and (ratio > APART or (0 < ratio < 1 / APART and size < 1 / APART)):
        notes.append(
            f"the target's spread is {ratio:.3g} times the source's; "
            "put both on one scale, for example pixels in [0, 1]"
        )
    if gap > APART:
        notes.append(
            f"the target's mean is {gap:.3g} spreads away from the source's; "
            "put both on one scale, for example pixels in [0, 1]"
        )
    return tuple(notes)


@jax.jit
def _compare(
    source: PretrainedModel, x: Float[Array, "n D"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Target's spread over the source's, its size, the means' distance in spreads, freedom."""
    n = x.shape[0]
    spread, dimension = source_spread(source)
    # A source without a mean of its own has its second moment about zero; so has the target then.
    modelled = jnp.any(source.mean != 0)
    largest = jnp.maximum(jnp.max(jnp.abs(x)), jnp.max(jnp.abs(source.mean)))
    reach = jnp.maximum(largest, spread)
    # In these units every square is in range.
    unit = jnp.where((reach > 0) & jnp.isfinite(reach), reach, 1)
    y = (x - x[0]) / unit
    centre = jnp.mean(y, axis=0)
    about_mean = jnp.sum((y - centre) ** 2) / max(n - 1, 1)
    about_zero = jnp.sum((x / unit) ** 2) / n
    own = jnp.sqrt(jnp.where(modelled, about_mean, about_zero))
    of_source = spread / unit
    gap = jnp.sqrt(jnp.sum((centre + (x[0] - source.mean) / unit) ** 2))
    known = of_source > 0
    of_source = jnp.where(known, of_source, 1)
    ratio = jnp.where(known, own / of_source, 1)
    size = jnp.sqrt(about_zero / (of_source**2 + jnp.sum((source.mean / unit) ** 2)))
    gap = jnp.where(known & modelled, gap / jnp.maximum(own, of_source), 0)
    freedom = dimension * jnp.where(modelled, n - 1, n).astype(x.dtype)
    return ratio, size, gap, freedom
