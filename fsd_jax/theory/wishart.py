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
    about ten digits for functions that vary on the scale of the spectrum or slower; near zero the
    scale may be down to ``1e-9`` of it.

    Args:
        function: ``F``, from eigenvalues ``(nodes,)`` to values ``(..., nodes)``.
        dim: dimension of the samples.
        n: number of samples.

    Returns:
        The expectation, an array of the leading shape of ``F`` (a scalar array as a rule).

    Raises:
        ValueError: dimensions below one, or both above `LARGEST`.

    Example:
        >>> from fsd_jax import theory
        >>> round(float(theory.wishart_mean(lambda s: s**2, dim=3, n=5)), 9)  # d(1 + (d+1)/n)
        5.4
    """
    dim, n, rule = _prepare(dim, n)
    values = np.asarray(function(rule.u**2 / n), float)
    flat = np.array([0.5 * np.trace(rule.first(F)) for F in values.reshape(-1, rule.u.size)])
    if dim > n:
        flat += (dim - n) * np.asarray(function(np.zeros(1)), float).reshape(-1)
    return flat.reshape(values.shape[:-1])


def wishart_covariance(
    function: Callable[[np.ndarray], np.ndarray], *, dim: int, n: int
) -> np.ndarray:
    """Covariances of ``T_a = sum_i F_a(s_i)`` over the eigenvalues of `wishart_mean`.

    The second derivative of the logarithm of the same Pfaffian: with ``C`` as ``A`` but with
    ``F_a(u) F_b(v)`` inserted (both orders averaged, no border),

        Cov(T_a, T_b) = E sum_i F_a F_b + tr(A^-1 C_ab) - tr(A^-1 B_a A^-1 B_b)/2.

    The terms cancel if ``F`` is nearly constant over the spectrum, so subtract a constant first.

    Implements: R19 (second moments), see docs/equations.

    Args:
        function: ``F``, from eigenvalues ``(nodes,)`` to values ``(nodes,)`` or ``(K, nodes)``.
        dim: dimension of the samples.
        n: number of samples.

    Returns:
        The variance, a scalar array, or covariances ``(K, K)``.

    Raises:
        ValueError: dimensions below one, or both above `LARGEST`.

    Example:
        >>> from fsd_jax import theory
        >>> round(float(theory.wishart_covariance(lambda s: s, dim=3, n=5)), 9)  # 2d/n
        1.2
    """
    dim, n, rule = _prepare(dim, n)
    values = np.asarray(function(rule.u**2 / n), float)
    rows = values.reshape(-1, rule.u.size)
    first = [rule.first(F) for F in rows]
    covariance = np.empty((len(rows), len(rows)))
    for i, j in zip(*np.triu_indices(len(rows)), strict=True):
        product = 0.5 * np.trace(rule.first(rows[i] * rows[j]))
        second = np.trace(rule.second(rows[i], rows[j]))
        covariance[i, j] = product + second - 0.5 * np.sum(first[i] * first[j].T)
        covariance[j, i] = covariance[i, j]
    return covariance.reshape(values.shape[:-1] * 2)


class _Rule:
    """Quadrature for one pair of sizes, and the matrix ``A`` of the Pfaffian."""

    def __init__(self, small: int, large: int) -> None:
        self.u, self.half, self.weight, self.basis = _basis(small, large)
        self.tails, totals = self._tails(self.basis)
        self.A = _even((self.basis * self.weight) @ self.tails.T, totals)

    def first(self, F: np.ndarray) -> np.ndarray:
        """``A^-1 B`` for a function's values at the nodes."""
        weighted = self.basis * F
        beyond, moments = self._tails(weighted)
        B = (weighted * self.weight) @ self.tails.T + (self.basis * self.weight) @ beyond.T
        return _linalg.host_solve(self.A, _even(B, moments))

    def second(self, F: np.ndarray, G: np.ndarray) -> np.ndarray:
        """``A^-1 C`` for two functions; taking the odd part averages both orders."""
        beyond, moments = self._tails(self.basis * G)
        C = (self.basis * (F * self.weight)) @ beyond.T
        return _linalg.host_solve(self.A, _even(C, 0 * moments))

    def _tails(self, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``int sgn(v - u) f(v) dv`` at the nodes u, and ``int f``, for rows of values."""
        panels = functions.reshape(len(functions), self.half.size, NODES)
        whole = np.sum(panels * self.weight.reshape(self.half.size, NODES), axis=2)
        before = np.cumsum(whole, axis=1) - whole
        upto = before[:, :, None] + self.half[:, None] * (panels @ _running_integral().T)
        totals = np.sum(whole, axis=1)
        return totals[:, None] - 2 * upto.reshape(functions.shape), totals


def _prepare(dim: int, n: int) -> tuple[int, int, _Rule]:
    dim, n = _checks.dimension("dim", dim), _checks.dimension("n", n)
    if min(dim, n) > LARGEST:
        raise ValueError(
            f"min(dim, n) must be at most {LARGEST}, got dim={dim}, n={n}; "
            "the asymptotic form (marchenko_pastur_mean) is accurate there"
        )
    return dim, n, _rule(min(dim, n), max(dim, n))


@lru_cache(maxsize=16)
def _rule(small: int, large: int) -> _Rule:
    return _Rule(small, large)


def _even(matrix: np.ndarray, border: np.ndarray) -> np.ndarray:
    """An antisymmetric matrix of even size: bordered if there are an odd number of eigenvalues."""
    matrix = 0.5 * (matrix - matrix.T)
    if len(border) % 2 == 0:
        return matrix
    column = border[:, None]
    return np.block([[matrix, column], [-column.T, np.zeros((1, 1))]])


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
