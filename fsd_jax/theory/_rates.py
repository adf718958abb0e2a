"""Rates as slopes: a line through logarithms, with an interval."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks
from fsd_jax.theory._bounds import number


@dataclass(frozen=True, kw_only=True)
class Slope:
    """A fitted power law ``y = exp(intercept) x^value``.

    Attributes:
        value: the slope.
        stderr: its standard error.
        low: lower end of its interval.
        high: upper end.
        intercept: of the line, at ``log x = 0``.
        misfit: sum of squared residuals over their variances per degree of freedom. Near one if a
            power law fits; far above one it does not, and the interval means little. None if
            there is nothing to compare with (no `stderr` given, or only two points).
    """

    value: float
    stderr: float
    low: float
    high: float
    intercept: float
    misfit: float | None


def loglog_slope(
    x: ArrayLike, y: ArrayLike, stderr: ArrayLike | None = None, *, level: float = 0.95
) -> Slope:
    """Slope of ``log y`` against ``log x`` by weighted least squares.

    By the delta method ``log y`` has the standard error ``stderr/y``; its inverse square is the
    weight, and the interval is normal. Without `stderr` all points weigh the same, their scatter
    is estimated from the residuals, and the interval is Student's.

    Implements: "Slopes".

    Args:
        x: ``(K,)`` positive numbers, not all equal.
        y: ``(K,)`` positive means.
        stderr: ``(K,)`` standard errors of `y`, small against `y`; or None.
        level: probability that the interval covers the slope.

    Returns:
        Slope and interval.

    Raises:
        ValueError: shapes that differ, values that are not positive, fewer than two different
            `x` (three points without `stderr`), or a level outside ``(0, 1)``.

    Example:
        >>> from fsd_jax import theory
        >>> fit = theory.loglog_slope([10, 100, 1000], [0.2, 0.021, 0.002], [0.01, 0.001, 1e-4])
        >>> round(fit.value, 2), fit.low < -1 < fit.high
        (-1.0, True)
    """
    across, up = _logs("x", x), _logs("y", y)
    if across.shape != up.shape:
        raise ValueError(f"x and y must be equally long, got {across.size} and {up.size}")
    needed = 2 if stderr is not None else 3
    if across.size < needed or np.ptp(across) == 0:
        raise ValueError(
            f"a slope needs {needed} points and x that differ, got x={np.asarray(x)!r}; add points"
        )
    from scipy.special import stdtrit

    level = number("level", level)
    if not level < 1:
        raise ValueError(f"level must be in (0, 1), got {level!r}")
    weight = np.ones_like(up)
    if stderr is not None:
        error = np.asarray(_checks.positive("stderr", stderr, np.float64, ndim=(1,))[0])
        if error.shape != up.shape:
            raise ValueError(f"y and stderr must be equally long, got {up.size} and {error.size}")
        weight = np.exp(2 * up) / error**2
    centre = np.sum(weight * across) / np.sum(weight)
    height = np.sum(weight * up) / np.sum(weight)
    spread = np.sum(weight * (across - centre) ** 2)
    slope = float(np.sum(weight * (across - centre) * (up - height)) / spread)
    freedom = up.size - 2
    residual = float(np.sum(weight * (up - height - slope * (across - centre)) ** 2))
    if stderr is None:
        deviation = (residual / freedom / spread) ** 0.5
        width = deviation * stdtrit(freedom, (1 + level) / 2)
        misfit = None
    else:
        deviation = spread**-0.5
        width = deviation * NormalDist().inv_cdf((1 + level) / 2)
        misfit = residual / freedom if freedom else None
    return Slope(
        value=slope,
        stderr=float(deviation),
        low=slope - float(width),
        high=slope + float(width),
        intercept=float(height - slope * centre),
        misfit=misfit,
    )


def _logs(name: str, value: ArrayLike) -> np.ndarray:
    return np.log(np.asarray(_checks.positive(name, value, np.float64, ndim=(1,))[0]))
