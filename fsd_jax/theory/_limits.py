"""What is possible with fewer target samples than directions, with a near source or none."""

import math

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks, _process
from fsd_jax._process import VP, Process
from fsd_jax.theory._bounds import number
from fsd_jax.theory._wishart import MOST_SAMPLES

STEPS = 200
"""Halvings of an interval: more than there are digits."""


def minimax_score_error(
    *,
    ambient_dim: int,
    latent_dim: int,
    n_ta: int,
    latent_variance: float,
    time: float,
    process: Process = VP(),
) -> float:
    """The least worst-case score error over linear scores, without a source and for ``n_ta < d``.

        (d - n)(1 - q) a^2/((a + s2) s2 (s2 + a q)),   a = m^2 lambda^2, q = (d - n)/(D - n),

    for an isotropic latent without residual noise, whose ``d`` and ``lambda^2`` are known. It is
    attained by spreading the missing variance ``q lambda^2`` over all directions that the samples
    do not show. To leave them out costs ``(d - n) a^2/((a + s2) s2^2)``, far more at small ``t``.

    Implements: "The best possible without a source".

    Args:
        ambient_dim: ``D``.
        latent_dim: ``d``.
        n_ta: number of target samples, below ``d``.
        latent_variance: ``lambda^2``.
        time: ``t``.
        process: forward process.

    Returns:
        The minimax risk.

    Raises:
        ValueError: values out of range, or ``n_ta >= d``.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=8, n_ta=5, latent_variance=1.0, time=0.5)
        >>> round(theory.minimax_score_error(ambient_dim=40, **size), 3)
        5.757
        >>> round(theory.expected_score_error(**size), 3)  # what is not seen is left out
        7.129
    """
    d, n = _few(latent_dim, n_ta)
    D = _checks.dimension("ambient_dim", ambient_dim, low=d, high=MOST_SAMPLES)
    a, s2 = _levels(latent_variance, time, process)
    q = (d - n) / (D - n)
    return (D - d) * q * a**2 / ((a + s2) * s2 * (s2 + a * q))


def completed_score_error(
    *,
    angles: ArrayLike,
    latent_dim: int,
    n_ta: int,
    latent_variance: float,
    time: float,
    completed_variance: float | str | None = None,
    process: Process = VP(),
) -> float:
    """Expected score error of the orthonormal model that is completed from a near source.

    The ``n_ta < d`` directions that the target shows are exact, and the others are those of the
    source's subspace that are orthogonal to them, with the variance ``c``. With
    ``k(c) = m^2 c/(s2 (m^2 c + s2))``, ``a = m^2 lambda^2`` and ``C`` the mean squared cosine
    between a completed direction and the target's subspace, the error is

        (d - n) [k(c)^2 (s2 + a C) - 2 k(c) k(lambda^2) C (s2 + a) + k(lambda^2)^2 (s2 + a)].

    At equal angles ``C = cos^2 theta`` and nothing is random; otherwise ``C`` is the limit of large
    dimensions, within about a per cent. The best variance is ``C lambda^2``, at every ``t`` at
    once, and with it completing always helps; with ``lambda^2`` it helps where
    ``1 - C < (a + s2)/(a + 2 s2)``.

    Implements: R21.

    Args:
        angles: ``(d,)`` principal angles between source's and target's subspace, in radians,
            between 0 and pi/2.
        latent_dim: ``d``.
        n_ta: number of target samples, below ``d``.
        latent_variance: ``lambda^2``.
        time: ``t``.
        completed_variance: ``c``; None is ``lambda^2``, ``"best"`` is ``C lambda^2``.
        process: forward process.

    Returns:
        The expected error.

    Raises:
        ValueError: values out of range, or ``n_ta >= d``.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=10, n_ta=5, latent_variance=1.0, time=0.3)
        >>> found = theory.completed_score_error(angles=[0.3] * 10, **size)
        >>> round(found, 4), round(theory.expected_score_error(**size), 3)
        (4.4921, 40.849)
    """
    d, n = _few(latent_dim, n_ta)
    theta = _angles(angles, d)
    a, s2 = _levels(latent_variance, time, process)
    C = _mean_cosine(np.cos(theta) ** 2, n)
    ours = a
    if isinstance(completed_variance, str):
        _checks.choice("completed_variance", completed_variance, ("best",))
        ours = a * C
    elif completed_variance is not None:
        ours = a / number("latent_variance", latent_variance)
        ours *= number("completed_variance", completed_variance)
    k, true = ours / (s2 * (ours + s2)), a / (s2 * (a + s2))
    # The square completed: what is left at the best variance, and the distance from it.
    best = a * C / (s2 * (a * C + s2))
    sine = 1 - C
    least = true**2 * (s2 + a) * sine * (s2 * (1 + C) + a * C) / (s2 + a * C)
    return (d - n) * float((k - best) ** 2 * (s2 + a * C) + least)


def _few(latent_dim: int, n_ta: int) -> tuple[int, int]:
    d = _checks.dimension("latent_dim", latent_dim, high=MOST_SAMPLES)
    n = _checks.dimension("n_ta", n_ta, high=MOST_SAMPLES)
    if n >= d:
        raise ValueError(
            f"n_ta must be below latent_dim = {d}, where directions are missing, got {n}; "
            "from there on expected_score_error is the orthonormal model's error"
        )
    return d, n


def _levels(latent_variance: float, time: float, process: Process) -> tuple[float, float]:
    """``m^2 lambda^2`` and ``s2``."""
    _process.check(process)
    t = _checks.positive("time", time, np.float64, ndim=(0,))[0]
    signal, noise = process.host_variances(np.asarray(t))
    return float(signal) * number("latent_variance", latent_variance), float(noise)


def _angles(angles: ArrayLike, d: int) -> np.ndarray:
    theta = np.asarray(_checks.positive("angles", angles, np.float64, ndim=(1,), zero=True)[0])
    if theta.shape != (d,):
        raise ValueError(f"angles must be latent_dim = {d} numbers, got {theta.shape[0]}")
    if np.max(theta) > math.pi / 2 * (1 + 1e-12):
        raise ValueError(f"angles must be at most pi/2 (radians), got {float(np.max(theta)):.6g}")
    return theta


def _mean_cosine(squares: np.ndarray, n: int) -> float:
    """Mean squared cosine of completed directions, from the squared cosines of all.

    ``sum c^2 kappa/(c^2 + kappa)/(d - n)`` with ``sum c^2/(c^2 + kappa) = n``, by bisection in
    ``log kappa``.
    """
    d = len(squares)
    if np.ptp(squares) == 0:
        return float(squares[0])
    if np.count_nonzero(squares) <= n:
        return 0.0
    low, high = math.log(np.min(squares[squares > 0])) - 80, math.log(d / n) + 1
    for _ in range(STEPS):
        middle = (low + high) / 2
        more = np.sum(squares / (squares + math.exp(middle))) > n
        low, high = (middle, high) if more else (low, middle)
    kappa = math.exp(low)
    return float(np.sum(squares * kappa / (squares + kappa))) / (d - n)
