"""The rotation within a known subspace that a frozen network needs."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from fsd_jax import _linalg
from fsd_jax.latent_net._descent import Descent, Recipe, Rows, descend, screening_losses
from fsd_jax.latent_net._relu import ReLUNet

CANDIDATES, STARTS = 256, 8
"""Rotations whose loss is taken, and the best of them, from which descent starts."""
RATE = 0.03
"""Peak learning rate, for entries that are of order one whatever the data's scale."""


def search_rotation(
    key: Key[Array, ""], net: ReLUNet, axes: Float[Array, "d d"], rows: Rows, recipe: Recipe
) -> Descent:
    """Tune a rotation ``Q`` of the subspace's axes, the network being frozen.

    The loss has many local minima. So `CANDIDATES` rotations are compared, the best `STARTS` of
    them descend, and the best of these goes on.

    Args:
        key: random key.
        net: the frozen network.
        axes: ``(d, d)`` source axes in latent coordinates, by descending variance.
        rows: samples in the target's axes, by descending variance too.
        recipe: steps of the whole search, and the rest.

    Returns:
        The last descent, with ``"decoder"`` as ``(d, d)`` rotation.
    """
    turns, screen, train = jax.random.split(key, 3)
    # d(d-1)/2 numbers cannot overfit as a network can, and need every sample.
    whole = replace(recipe, held_out=0.0, learning_rate=RATE)
    # All starts together take half of one run's steps, and the best of them goes on for the rest.
    short = replace(whole, steps=max(recipe.steps // (2 * STARTS), 1), checks=1)
    rest = replace(whole, steps=max(recipe.steps // 2, recipe.checks))

    def search(start: Array, recipe: Recipe) -> Descent:
        return descend(train, {"decoder": start}, lambda p: (p["decoder"], net), rows, recipe)

    candidates = _rotations(turns, _linalg.after(axes, rows.samples))
    losses = screening_losses(screen, candidates, net, rows, recipe)
    starts = candidates[jax.lax.top_k(-losses, STARTS)[1]]
    found = jax.vmap(partial(search, recipe=short))(starts)
    return search(found.parameters["decoder"][jnp.argmin(found.least)], rest)


def _rotations(key: Key[Array, ""], axes: Float[Array, "d d"]) -> Float[Array, "candidates d d"]:
    """Where to look: half by pairing axes with the source's in the order of their variances.

    The signs are free then, and the axes are off by more or less, since few samples estimate them.
    The other half is anywhere, since variances may be equal.
    """
    d, half = axes.shape[0], CANDIDATES // 2
    signs, nudges, turns = jax.random.split(key, 3)
    off = jax.random.normal(nudges, (half, d, d), axes.dtype)
    off = off * (jnp.linspace(0, 0.5, half, dtype=axes.dtype)[:, None, None] / d**0.5)
    near = jax.vmap(_linalg.polar_factor)(jnp.eye(d, dtype=axes.dtype) + off)
    paired = near * jax.random.rademacher(signs, (half, 1, d), axes.dtype) @ axes.T
    free = jax.random.normal(turns, (half // 2, d, d), axes.dtype)
    free = _linalg.orthonormal_columns(_linalg.after(free, axes))
    # Descent keeps the determinant's sign, so each rotation comes with a reflection.
    return jnp.concatenate([paired, free, free.at[:, :, 0].multiply(-1)])
