"""What all samplers share: the names of the methods, their grids, and the formula of one step.

Time runs backwards over a grid ``delta = t_0 < ... < t_K = T``. A step from t to s < t has the size
``h = B(t) - B(s)``, so that a scheduled rate is a change of clock. In this clock the reverse SDE is
``dY = (Y/2 + s(Y)) dr + dW`` and the probability-flow ODE ``dY = (Y + s(Y))/2 dr``.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from fsd_jax import _checks
from fsd_jax.process import VP

METHODS = ("ei_sde", "em_sde", "ei_ode", "heun_ode")
"""Exponential integrator (EI) and Euler-Maruyama (EM) for the reverse SDE; EI and Heun for the
probability-flow ODE."""


class Steps(NamedTuple):
    """One entry a step, from ``T`` down: where it starts and stops, and its size in ``B``."""

    start: Float[Array, " K"]
    stop: Float[Array, " K"]
    size: Float[Array, " K"]


def steps_of(times: ArrayLike, dtype: DTypeLike, process: VP) -> Steps:
    """The steps of an increasing grid.

    Args:
        times: ``(K + 1,)`` increasing positive times; the first is the early stopping time.
        dtype: floating dtype of the sampler.
        process: forward process.

    Raises:
        ValueError: fewer than two times, or times that do not increase.
    """
    grid, _ = _checks.positive("times", times, dtype, ndim=(1,))
    if grid.shape[0] < 2:
        raise ValueError(
            f"times must hold at least two times, delta < ... < T, got {grid.shape[0]}; "
            "see geometric_grid"
        )
    if isinstance(grid, np.ndarray) and not np.all(np.diff(grid) > 0):
        raise ValueError(
            f"times must increase from delta to T in {grid.dtype}, got {times!r}; "
            "the sampler itself walks them backwards"
        )
    if isinstance(grid, np.ndarray):
        # On the host in float64: the difference of neighbours keeps its digits.
        size = jnp.asarray(np.diff(process.host_integrated_rate(times)), grid.dtype)
    else:
        size = jnp.diff(process.integrated_rate(grid))
    backwards = jnp.asarray(grid)[::-1]
    return Steps(backwards[:-1], backwards[1:], size[::-1])


class Coefficients(NamedTuple):
    """A step ``Y' = keep Y + push s(Y, t) + sqrt(noise) xi`` with the score at the step's start."""

    keep: Float[Array, ""]
    push: Float[Array, ""]
    noise: Float[Array, ""]


def coefficients(method: str, size: Float[Array, ""]) -> Coefficients:
    """The step of a method that evaluates the score once.

    With the score frozen, ``"ei_sde"`` and ``"ei_ode"`` solve the remaining linear equation
    exactly; ``"em_sde"`` freezes the whole drift.
    """
    zero = jnp.zeros_like(size)
    if method == "em_sde":
        return Coefficients(1 + size / 2, size, size)
    growth = jnp.expm1(size / 2)
    if method == "ei_sde":
        return Coefficients(1 + growth, 2 * growth, jnp.expm1(size))
    return Coefficients(1 + growth, growth, zero)


def tweedie(t: Float[Array, ""], process: VP) -> Coefficients:
    """Denoising as a step: ``(x + sigma_t^2 s(x, t))/m_t``."""
    signal = process.signal(t)
    return Coefficients(1 / signal, process.noise_variance(t) / signal, jnp.zeros_like(t))
