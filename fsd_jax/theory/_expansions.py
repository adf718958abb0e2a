"""Expansions for large dimensions or samples: Marchenko-Pastur, spiked covariance, eigengaps."""

from collections.abc import Callable

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks, _process
from fsd_jax._process import VP, Process
from fsd_jax.theory._bounds import FormulaValue, samples
from fsd_jax.theory._wishart import MOST_SAMPLES, Centred, centred_values, check_function

PANELS, NODES = 48, 16
GAP_STEPS = 10.0
"""Gaps of the spectrum over ``sqrt(l_i l_j/n)`` from which perturbation theory is good to about
five per cent; measured with d = 2 and 6 (6 to 7 gave up to 13, 2 gave 15 to 20)."""


def marchenko_pastur_mean(
    function: Callable[[np.ndarray], np.ndarray], *, dim: int, n: int
) -> float:
    """Two-term expansion of ``E sum_i F(s_i)`` over a real Wishart mean, for large `dim` and `n`.

        d int F dMP_y + (F(w-) + F(w+))/4 - (1/2 pi) int F(w)/sqrt(4y - (w-1-y)^2) dw,

    ``y = d/n``, ``w-+ = (1 -+ sqrt(y))^2``. The first term is the Marchenko-Pastur law (for
    ``n < d`` with its atom at zero, worth ``(d - n) F(0)``), the rest is the mean term of Bai and
    Silverstein for real data. It is not exact: it needs a function that varies slowly between
    neighbouring eigenvalues. `wishart_mean` is exact.

    Implements: R5, see docs/equations.

    Args:
        function: ``F``, smooth on ``[0, w+]``, from ``(nodes,)`` to ``(nodes,)``.
        dim: ``d``.
        n: number of samples.

    Returns:
        The two-term value.

    Raises:
        ValueError: dimensions below one.

    Example:
        >>> from fsd_jax import theory
        >>> round(theory.marchenko_pastur_mean(lambda s: s**2, dim=3, n=5), 9)  # d(1 + (d+1)/n)
        5.4
    """
    check_function(function)
    return centred_marchenko_pastur(lambda s, _: function(s), dim=dim, n=n)


def centred_marchenko_pastur(function: Centred, *, dim: int, n: int) -> float:
    """`marchenko_pastur_mean` of a function of ``(s, s - 1)``, which keeps digits for every n."""
    dim = _checks.dimension("dim", dim, high=MOST_SAMPLES)
    n = _checks.dimension("n", n, high=MOST_SAMPLES)
    y = dim / n
    # w = 1 + y - 2 sqrt(y) cos a removes the square roots at both edges. A function with a scale r
    # near w = 0 has a pole at distance sqrt(r) from a = 0 if y is near 1, so panels halve there.
    edges = np.concatenate([[0.0], np.pi * 0.5 ** np.arange(PANELS - 1, -1, -1)])
    x, weight = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges)[:, None] / 2
    angle = (edges[:-1, None] + half * (x + 1)).ravel()
    weight = (half * weight).ravel()
    root = y**0.5
    low = ((n - dim) / n / (1 + root)) ** 2
    w = low + 4 * root * np.sin(angle / 2) ** 2
    ends = np.array([low, (1 + root) ** 2])
    bottom, top = centred_values(function, ends, np.array([y - 2 * root, y + 2 * root]))
    values = centred_values(function, w, y - 2 * root * np.cos(angle))
    law = 2 / np.pi * np.sum(weight * np.sin(angle) ** 2 / w * values)
    correction = (bottom + top) / 4 - np.sum(weight * values) / (2 * np.pi)
    missing = 0.0
    if n < dim:
        missing = float(centred_values(function, np.zeros(1), -np.ones(1))[0]) * (dim - n)
    return float(dim * law + correction) + missing


def spiked_subspace_error(
    *,
    latent_dim: int,
    n_ta: int,
    ambient_dim: int,
    latent_variance: ArrayLike,
    residual_variance: float,
) -> float:
    """``E || UU' - AA' ||_F^2`` of the top d eigenvectors `U` under noise, for large ``D, n_ta``.

        2 sum_k (1 - cos^2_k),   cos^2 = (1 - gam/ell^2)/(1 + gam/ell) for ell > sqrt(gam), else 0,

    with ``ell = lambda_k^2/tau^2``. ``D`` and ``n_ta`` grow at a fixed ratio and ``d`` does not, so
    any ratio that tends to ``D/n_ta`` serves; ``gam = (D - d)/(n_ta - d)`` is used, because it is
    right to order ``1/n_ta^2`` for little noise, where the error is
    ``2 d (D - d) tau^2/(lambda^2 (n_ta - d - 1))``. It needs ``d`` far below ``n_ta``. Within a few
    ``n_ta^(-1/3)`` of the threshold the passage is smoother, and below it the true error is short
    of ``2d`` by the chance overlap, about ``2 d^2/D``.

    Implements: R12 (spiked covariance), see docs/equations.

    Args:
        latent_dim: ``d``.
        n_ta: number of target samples, above ``d``.
        ambient_dim: ``D``.
        latent_variance: ``lambda^2``, a scalar or ``(d,)``.
        residual_variance: ``tau^2``.

    Returns:
        The asymptotic error, between 0 and ``2d``.

    Raises:
        ValueError: values out of range, or ``n_ta <= d``.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=8, ambient_dim=40, latent_variance=1.0, residual_variance=0.04)
        >>> round(theory.spiked_subspace_error(n_ta=1000, **size), 4)
        0.0214
    """
    d, gam, tau2 = _spiked(latent_dim, n_ta, ambient_dim, residual_variance)
    lam2 = np.asarray(_checks.variances("latent_variance", latent_variance, d, np.float64)[0])
    # sin^2 with tau^2 multiplied out, so that no noise is no special case.
    sine = gam * tau2 * (lam2 + tau2) / (lam2 * (lam2 + gam * tau2))
    return float(2 * np.sum(np.where(lam2 > tau2 * gam**0.5, sine, 1.0)))


def spiked_threshold(
    *, latent_dim: int, n_ta: int, ambient_dim: int, residual_variance: float
) -> float:
    """The latent variance ``tau^2 sqrt(gam)`` below which a direction cannot be seen in the noise.

    Asymptotically the top eigenvectors are then orthogonal to it, see `spiked_subspace_error`.

    Implements: R12 (spiked covariance).

    Args:
        latent_dim: ``d``.
        n_ta: number of target samples, above ``d``.
        ambient_dim: ``D``.
        residual_variance: ``tau^2``.

    Returns:
        The threshold, a variance.

    Raises:
        ValueError: values out of range, or ``n_ta <= d``.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=10, ambient_dim=910, residual_variance=0.5)
        >>> theory.spiked_threshold(n_ta=110, **size)
        1.5
    """
    _, gam, tau2 = _spiked(latent_dim, n_ta, ambient_dim, residual_variance)
    return tau2 * gam**0.5


def _spiked(
    latent_dim: int, n_ta: int, ambient_dim: int, residual_variance: float
) -> tuple[int, float, float]:
    d = samples("latent_dim", latent_dim)
    D = samples("ambient_dim", ambient_dim, low=d)
    n = samples("n_ta", n_ta)
    if n <= d:
        raise ValueError(
            f"n_ta must be above latent_dim = {d} for the spiked-covariance limit, got {n}; "
            "with fewer samples the error is at least d - n_ta"
        )
    tau2, _ = _checks.positive(
        "residual_variance", residual_variance, np.float64, ndim=(0,), zero=True
    )
    return d, (D - d) / (n - d), float(tau2)


def diagonal_gain_error(
    *,
    latent_variance: ArrayLike,
    n_ta: int,
    time: float,
    n_s: int | None = None,
    process: Process = VP(),
) -> FormulaValue:
    """``E || V G V' - A G* A' ||_F^2`` of the orthonormal minimiser, diagonal latent, many samples.

        (m^2 s2)^2 [ sum_{i != j} h_i h_j/n_ta + sum_i 2 h_i^2/n_s ],
        h_i = lambda_i^2/(m^2 lambda_i^2 + s2)^2

    The eigengaps cancel: an eigenvector's error carries ``1/(l_i - l_j)``, and the gains differ by
    as much. That needs gaps that are large against ``l/sqrt(n)``. If all variances are equal, `V`
    is exact and ``d(d+1) (m^2 s2 h)^2/n_s`` of the separately estimated gains is left.

    Implements: R10, see docs/equations.

    Args:
        latent_variance: ``(d,)`` variances ``lambda_k^2``.
        n_ta: number of target samples.
        time: the ``t`` of the gains.
        n_s: number of source samples, whose eigenvalues give the gains; None is a perfect source.
        process: forward process.

    Returns:
        The terms ``target`` and ``source`` and their sum; not valid where gaps are too small
        (`GAP_STEPS` standard errors) or ``n_ta < d``.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import theory
        >>> error = theory.diagonal_gain_error(latent_variance=[4.0, 1.0], n_ta=1000, time=0.5)
        >>> error.valid, f"{error.value:.2e}"
        (True, '5.73e-05')
    """
    l = np.sort(
        np.asarray(_checks.positive("latent_variance", latent_variance, float, ndim=(1,))[0])
    )
    n = samples("n_ta", n_ta)
    _process.check(process)
    t = _checks.positive("time", time, np.float64, ndim=(0,))[0]
    signal, noise = process.host_variances(np.asarray(t))
    change = signal * noise * l / (signal * l + noise) ** 2
    perfect = n_s is None
    sources = n if n_s is None else samples("n_s", n_s)
    if np.all(l == l[0]):
        target, source = 0.0, float((l.size + 1) * np.sum(change**2)) / sources
        valid, reason = n >= l.size, "all variances are equal: the subspace is exact for n_ta >= d"
    else:
        target = 2 * float(np.sum(np.triu(np.outer(change, change), 1))) / n
        source = 2 * float(np.sum(change**2)) / sources
        gap = float(np.min(np.diff(l) / np.sqrt(l[1:] * l[:-1]))) * min(n, sources) ** 0.5
        valid = gap >= GAP_STEPS and n >= l.size
        reason = (
            f"the smallest gap is {gap:.3g} sampling errors l/sqrt(n), and {GAP_STEPS:g} are needed"
        )
    if perfect:
        source = 0.0
    return FormulaValue(
        value=target + source,
        terms={"target": target, "source": source},
        valid=valid,
        reason=reason,
        hidden=("terms of second order in 1/n",),
    )
