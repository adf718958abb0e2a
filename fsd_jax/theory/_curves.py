"""Expected errors of the subspace as functions of the sample sizes, exact or asymptotic."""

import math
from fractions import Fraction

import numpy as np

from fsd_jax import _checks
from fsd_jax._process import VP, Process
from fsd_jax.theory._expansions import centred_marchenko_pastur
from fsd_jax.theory._sizes import draws, shares, sizes
from fsd_jax.theory._wishart import (
    MOST_SAMPLES,
    Centred,
    centred_covariance,
    centred_mean,
)

METHODS = ("exact", "asymptotic")


def expected_subspace_error(
    *,
    latent_dim: int,
    n_ta: int,
    latent_variance: float,
    time: float,
    n_s: int | None = None,
    method: str = "exact",
    process: Process = VP(),
) -> float:
    """``E || VV' - AA' ||_F^2`` of the rank-d minimiser, isotropic and without residual noise.

    With ``w_i`` the eigenvalues of a Wishart mean and ``l`` the source's variance in units of
    ``lambda^2``, a mean of ``k = d n_s`` squares, the error is

        sum_i (p_i - 1)^2,   p_i - 1 = s2 (w_i/l - 1)/(m^2 lambda^2 w_i + s2).

    It is quadratic in ``1/l - 1``, which is independent of the target and has the moments
    ``2/(k - 2)`` and ``(2k + 8)/((k - 2)(k - 4))``. So one expectation over the eigenvalues is
    left. For many samples it is
    ``(s2/(m^2 lambda^2 + s2))^2 (d(d+1)/n_ta + 2/n_s)``, and it never is below ``d - n_ta``.

    Implements: R3, R4 (with its exact source term), R5 (asymptotic) and R19 (exact).

    Args:
        latent_dim: ``d``.
        n_ta: number of target samples.
        latent_variance: ``lambda^2``.
        time: the ``t`` at which the minimiser is fitted.
        n_s: number of source samples, whose top d eigenvalues are averaged; None is a perfect
            source, ``l = 1``.
        method: ``"exact"``, or ``"asymptotic"``: two terms for large ``d`` and ``n_ta``, which fail
            where ``s2/(m^2 lambda^2)`` is small against ``(1 - sqrt(d/n_ta))^2``.
        process: forward process.

    Returns:
        The expected error; infinite if ``d n_s <= 4``.

    Raises:
        ValueError: values out of range or an unknown method.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=4, latent_variance=1.0, time=0.5)
        >>> round(theory.expected_subspace_error(n_ta=12, n_s=30, **size), 4)
        0.3546
        >>> round(theory.expected_subspace_error(n_ta=3, **size), 3)  # the floor is 4 - 3
        1.64
    """
    _checks.choice("method", method, METHODS)
    d, n = sizes(latent_dim, n_ta, exact=method == "exact")
    parts = _parts(latent_variance, time, process)
    _, first, second, *_ = _inverse_variance_moments(d, n_s)
    if np.isinf(second):
        return float("inf")
    mean = centred_mean if method == "exact" else centred_marchenko_pastur
    weights = np.array([1, 2 * first, second])
    return float(mean(lambda w, off: weights @ parts(w, off), dim=d, n=n))


def subspace_error_variance(
    *,
    latent_dim: int,
    n_ta: int,
    latent_variance: float,
    time: float,
    n_s: int | None = None,
    process: Process = VP(),
) -> float:
    """Exact variance of ``|| VV' - AA' ||_F^2``, whose mean is `expected_subspace_error`.

    The error is ``X_0 + 2 q X_1 + q^2 X_2``, ``q = 1/l - 1``, with sums ``X`` over the target's
    eigenvalues alone; their means and covariances and four moments of ``q`` give the variance.

    Implements: R19 (second moments); R4.

    Args:
        latent_dim: ``d``.
        n_ta: number of target samples.
        latent_variance: ``lambda^2``.
        time: the ``t`` at which the minimiser is fitted.
        n_s: number of source samples; None is a perfect source.
        process: forward process.

    Returns:
        The variance; infinite if ``d n_s <= 8``.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=4, n_ta=12, n_s=30, latent_variance=1.0, time=0.5)
        >>> round(theory.subspace_error_variance(**size) ** 0.5, 3)
        0.176
    """
    d, n = sizes(latent_dim, n_ta, exact=True)
    parts = _parts(latent_variance, time, process)
    q = _inverse_variance_moments(d, n_s)
    if np.isinf(q[4]):
        return float("inf")
    scale = np.array([1, 2, 1])
    mean = scale * centred_mean(parts, dim=d, n=n)
    within = np.outer(scale, scale) * centred_covariance(parts, dim=d, n=n)
    # Moments of (1, q, q^2): of each pair, and less the product of the single ones.
    pair = np.array([[q[i + j] for j in range(3)] for i in range(3)])
    between = pair - np.outer(pair[0], pair[0])
    return float(np.sum(pair * within) + mean @ between @ mean)


def _parts(latent_variance: float, time: float, process: Process) -> Centred:
    """``s2^2/(m^2 lambda^2 w + s2)^2 ((w-1)^2, (w-1) w, w^2)``, the quadratic form in ``1/l - 1``.

    Around ``w = l = 1``, so that nothing cancels for many samples.
    """
    t = _checks.positive("time", time, np.float64, ndim=(0,))[0]
    gain, rest, _ = shares(latent_variance, t, process)

    def parts(w: np.ndarray, off: np.ndarray) -> np.ndarray:
        share = rest / (rest + gain * w)
        return np.stack([(share * off) ** 2, share * off * (share * w), (share * w) ** 2])

    return parts


def source_subspace_error(
    *, latent_dim: int, n_s: int, latent_variance: float, time: float, process: Process = VP()
) -> float:
    """What a perfect target leaves of `expected_subspace_error`: the limit of many `n_ta`.

        d (s2/(m^2 lambda^2 + s2))^2 (2k + 8)/((k - 2)(k - 4)),   k = d n_s,

    which is ``2/n_s`` times the square for large ``n_s``.

    Implements: R4 (source term, exact).

    Args:
        latent_dim: ``d``.
        n_s: number of source samples.
        latent_variance: ``lambda^2``.
        time: the ``t`` at which the minimiser is fitted.
        process: forward process.

    Returns:
        The error; infinite if ``d n_s <= 4``.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=4, latent_variance=1.0, time=0.5)
        >>> f"{theory.source_subspace_error(n_s=1000, **size):.2e}"
        '3.10e-04'
    """
    d = _checks.dimension("latent_dim", latent_dim, high=MOST_SAMPLES)
    parts = _parts(latent_variance, time, process)(np.ones(1), np.zeros(1))
    return float(d * parts[2, 0] * _inverse_variance_moments(d, n_s)[2])


def _inverse_variance_moments(d: int, n_s: int | None) -> list[float]:
    """``E (1/l - 1)^j`` for j = 0 to 4, ``l`` the mean of ``k = d n_s`` squared normal variables.

    ``E 1/l^j = k^j/((k-2)(k-4)...(k-2j))``; in fractions, because the powers cancel.
    """
    if n_s is None:
        return [1.0, 0.0, 0.0, 0.0, 0.0]
    k = draws(d, n_s)
    inverse = [Fraction(1)]
    for j in range(1, 5):
        if k <= 2 * j:
            break
        inverse.append(inverse[-1] * Fraction(k, k - 2 * j))
    moments = [
        float(sum((-1) ** (j - i) * math.comb(j, i) * inverse[i] for i in range(j + 1)))
        for j in range(len(inverse))
    ]
    return moments + [float("inf")] * (5 - len(moments))
