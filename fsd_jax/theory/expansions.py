"""Expansions for large dimensions or samples: Marchenko-Pastur with its correction."""

from collections.abc import Callable

import numpy as np

from fsd_jax import _checks

PANELS, NODES = 48, 16


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
    dim, n = _checks.dimension("dim", dim), _checks.dimension("n", n)
    y = dim / n
    # w = 1 + y - 2 sqrt(y) cos a removes the square roots at both edges. A function with a scale r
    # near w = 0 has a pole at distance sqrt(r) from a = 0 if y is near 1, so panels halve there.
    edges = np.concatenate([[0.0], np.pi * 0.5 ** np.arange(PANELS - 1, -1, -1)])
    x, weight = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges)[:, None] / 2
    angle = (edges[:-1, None] + half * (x + 1)).ravel()
    weight = (half * weight).ravel()
    low = ((n - dim) / n / (1 + y**0.5)) ** 2
    w = low + 4 * y**0.5 * np.sin(angle / 2) ** 2
    bottom, top = function(np.array([low, (1 + y**0.5) ** 2]))
    values = np.asarray(function(w), float)
    law = 2 / np.pi * np.sum(weight * np.sin(angle) ** 2 / w * values)
    correction = (bottom + top) / 4 - np.sum(weight * values) / (2 * np.pi)
    missing = float(function(np.zeros(1))[0]) * (dim - n) if n < dim else 0.0
    return float(dim * law + correction) + missing
