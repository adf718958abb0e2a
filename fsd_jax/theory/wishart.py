"""Exact expectations over the eigenvalues of a real Wishart mean, for every dimension and sample.

The joint density of the eigenvalues carries ``prod |x_i - x_j|``, so by de Bruijn's formula
``E prod h(x_i)`` is a ratio of Pfaffians. With ``h = 1 + eps F`` its derivative at zero is

    E sum_i F(x_i/n) = tr(A^-1 B)/2,
    A_jk = int int sgn(v - u) f_j(u) f_k(v) du dv,

``B`` being the same with ``F(u^2/n) + F(v^2/n)`` inserted and ``f_j(u)`` the Laguerre functions at
``x = u^2``, which keep ``A`` well conditioned. Implements: R19, see docs/equations.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from fsd_jax import _checks, _linalg

PANELS, NODES = 48, 16
REACH = 12.0
"""The spectrum's edges in u are ``sqrt(M) -+ sqrt(N)``; beyond them densities fall like
``exp(-u^2/2)``, so 12 more loses nothing in float64."""
LARGEST = 320
"""Largest ``min(dim, n)``: from about 350 on the first Laguerre function, from which the others
follow, underflows within the spectrum."""


def wishart_mean(function: Callable[[np.ndarray], np.ndarray], *, dim: int, n: int) -> np.ndarray:
    """``E sum_i F(s_i)`` over all `dim` eigenvalues of ``(1/n) sum z z'``, ``z ~ N(0, I_dim)``.

    Exact for every `dim` and `n` (when ``n < dim`` the ``dim - n`` zero eigenvalues count), to
    about ten digits for functions that vary on the scale of the spectrum or slower.

    Args:
        function: ``F``, from eigenvalues ``(nodes,)`` to values ``(..., nodes)``.
        dim: dimension of the samples.
        n: number of samples.

    Returns:
        The expectation, an array of the leading shape of ``F`` (a scalar array as a rule).

    Raises:
        ValueError: dimensions below one.

    Example:
        >>> from fsd_jax import theory
        >>> round(float(theory.wishart_mean(lambda s: s**2, dim=3, n=5)), 9)  # d(1 + (d+1)/n)
        5.4
    """
    dim, n = _checks.dimension("dim", dim), _checks.dimension("n", n)
    small = min(dim, n)
    if small > LARGEST:
        raise ValueError(
            f"min(dim, n) must be at most {LARGEST}, got dim={dim}, n={n}; "
            "the asymptotic form (marchenko_pastur_mean) is accurate there"
        )
    u, half, weight, basis = _basis(small, max(dim, n))
    values = np.asarray(function(u**2 / n), float)
    tails, totals = _tails(basis, half, weight)
    A = _even((basis * weight) @ tails.T, totals)

    def expectation(F: np.ndarray) -> float:
        weighted = basis * F
        beyond, moments = _tails(weighted, half, weight)
        B = _even((weighted * weight) @ tails.T + (basis * weight) @ beyond.T, moments)
        return 0.5 * float(np.trace(_linalg.host_solve(A, B)))

    flat = np.array([expectation(F) for F in values.reshape(-1, u.size)])
    if dim > n:
        flat += (dim - n) * np.asarray(function(np.zeros(1)), float).reshape(-1)
    return flat.reshape(values.shape[:-1])


def _tails(
    functions: np.ndarray, half: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``int sgn(v - u) f(v) dv`` at the nodes u, and ``int f``, for rows of values at the nodes."""
    panels = functions.reshape(len(functions), half.size, NODES)
    whole = np.sum(panels * weight.reshape(half.size, NODES), axis=2)
    before = np.cumsum(whole, axis=1) - whole
    upto = before[:, :, None] + half[:, None] * (panels @ _running_integral().T)
    totals = np.sum(whole, axis=1)
    return totals[:, None] - 2 * upto.reshape(functions.shape), totals


def _even(matrix: np.ndarray, border: np.ndarray) -> np.ndarray:
    """An antisymmetric matrix of even size: bordered if there are an odd number of eigenvalues."""
    matrix = 0.5 * (matrix - matrix.T)
    if len(border) % 2 == 0:
        return matrix
    column = border[:, None]
    return np.block([[matrix, column], [-column.T, np.zeros((1, 1))]])


@lru_cache(maxsize=16)
def _basis(small: int, large: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nodes in u, half the panels' widths, weights, and Laguerre functions at the nodes.

    Everything is written in ``delta = u - sqrt(M)``, so that nothing cancels for large n.
    """
    centre = large**0.5
    width = small**0.5 + REACH
    start = -min(width, centre)
    fraction = np.linspace(0, 1, max(PANELS, small) + 1)
    if start == -centre:
        # Where the spectrum touches zero, functions of w may vary on a tiny scale near it: panels
        # shrink towards it, and the first one is halved again and again.
        fraction = np.concatenate(
            [[0], fraction[1] ** 2 * 0.5 ** np.arange(16, 0, -1), fraction[1:] ** 2]
        )
    edges = start + (width - start) * fraction
    x, w = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges) / 2
    delta = (edges[:-1, None] + half[:, None] * (x + 1)).ravel()
    weight = (half[:, None] * w).ravel()
    return centre + delta, half, weight, _laguerre(delta, small, large)


@lru_cache(maxsize=1)
def _running_integral() -> np.ndarray:
    """Matrix from values at a panel's Legendre nodes to integrals from -1 to each node."""
    x = np.polynomial.legendre.leggauss(NODES)[0]
    integrals = np.stack(
        [
            np.polynomial.legendre.legval(x, np.polynomial.legendre.legint(row, lbnd=-1))
            for row in np.eye(NODES)
        ],
        axis=1,
    )
    values = np.polynomial.legendre.legvander(x, NODES - 1)
    return _linalg.host_solve(values.T, integrals.T).T


def _laguerre(delta: np.ndarray, small: int, large: int) -> np.ndarray:
    """Laguerre functions of parameter ``M - N`` at ``(sqrt(M) + delta)^2``, up to one factor."""
    centre = large**0.5
    with np.errstate(divide="ignore"):
        log_first = (large - small) * np.log1p(delta / centre) - centre * delta - delta**2 / 2
    functions = [np.exp(log_first - np.max(log_first))]
    order = large - small
    for j in range(small - 1):
        step = (2 * j + 1 - small - 2 * centre * delta - delta**2) * functions[-1]
        if j:
            step = step - (j * (j + order)) ** 0.5 * functions[-2]
        functions.append(step / ((j + 1) * (j + 1 + order)) ** 0.5)
    return np.stack(functions)
