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
from fsd_jax._process import VP

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
    given = _checks.positive("times", times, dtype, ndim=(1,))[0]
    if given.shape[0] < 2:
        raise ValueError(
            f"times must hold at least two times, delta < ... < T, got {given.shape[0]}; "
            "see geometric_grid"
        )
    if _checks.is_traced(given):
        grid = jnp.asarray(given)
        size = jnp.diff(process.integrated_rate(grid))
        # Under a trace a step backwards is found in the result.
        size = jnp.where(size > 0, size, jnp.nan)
    else:
        grid = jnp.asarray(given)
        if not np.all(np.diff(np.asarray(given)) > 0):
            raise ValueError(
                f"times must increase from delta to T in {grid.dtype}, got {_checks.named(times)}; "
                "the sampler itself walks them backwards"
            )
        # On the host in float64: the difference of neighbours keeps its digits.
        size = jnp.asarray(np.diff(process.host_integrated_rate(np.asarray(times))), grid.dtype)
    backwards = grid[::-1]
    return Steps(backwards[:-1], backwards[1:], size[::-1])


TOLD, REFUSED = 1.5, 1e3
"""Standard deviations that data of standard deviation one may come out with: above the first a
sampler says so, above the second it refuses."""


def check_stable(times: ArrayLike, method: str, dtype: DTypeLike, process: VP) -> None:
    """Tell, or refuse, a grid whose steps are too long for the method; concrete times only.

    The rule: the exact law of the samples, by the same steps, for two laws of which every score has
    something: N(0, 1), whose score is that of all data as ``t`` grows, and a point, whose score is
    the steepest of all. A step also must leave some digits: it multiplies by ``e^(h/2)`` and
    subtracts.

    Raises:
        ValueError: standard deviations above `REFUSED`, or steps that no digit survives.
    """
    if _checks.is_traced(times):
        return
    levels = process.host_integrated_rate(np.asarray(times, np.float64))[::-1]
    h = levels[:-1] - levels[1:]
    advice = (
        f"; of {h.size} steps the longest is {h.max():.3g} in the clock of rate one: take more "
        "steps or a smaller T"
    )
    if not method.startswith("ei") or h.max() < 2 * np.log(0.1 / float(jnp.finfo(dtype).eps)):
        spread = [_reference_spread(levels, method, variance) for variance in (1.0, 0.0)]
    else:
        spread = [np.inf, np.inf]
    unit = spread[0]
    wrong = max(unit, spread[1] - np.sqrt(-np.expm1(-levels[-1])) + 1)
    if not wrong < REFUSED:
        raise ValueError(f"times are too coarse for {method}: its steps diverge" + advice)
    if wrong > TOLD:
        _checks.tell(
            f"times are coarse for {method}: data of standard deviation 1 come out with {unit:.2g},"
            f" a single point as a cloud of {spread[1]:.2g}" + advice
        )


def _reference_spread(levels: np.ndarray, method: str, variance: float) -> float:
    """Standard deviation of samples whose score is that of ``N(0, variance)``, in float64."""
    slope = -1 / (np.exp(-levels) * variance - np.expm1(-levels))
    found = 1.0
    with np.errstate(over="ignore"):
        for t, s, h in zip(slope[:-1], slope[1:], levels[:-1] - levels[1:], strict=True):
            if method == "heun_ode":
                first = (1 + t) / 2
                factor, noise = 1 + h / 2 * (first + (1 + s) / 2 * (1 + h * first)), 0.0
            else:
                keep, push, noise = _host_coefficients(method, h)
                factor = keep + push * t
            found = factor * factor * found + noise
    return float(np.sqrt(found))


def _host_coefficients(method: str, h: float) -> tuple[float, float, float]:
    """`coefficients` in NumPy."""
    if method == "em_sde":
        return 1 + h / 2, h, h
    growth = float(np.expm1(h / 2))
    if method == "ei_sde":
        return 1 + growth, 2 * growth, float(np.expm1(h))
    return 1 + growth, growth, 0.0


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
