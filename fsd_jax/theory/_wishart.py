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
HALVINGS = 40
"""Panels next to a spectrum's end at zero, each a quarter of the next in u: the innermost is far
below any scale on which a function can vary in float64."""
SMALL, SERIES = 0.25, 26
"""Below the first a logarithm's series with as many terms is exact to float64's last digit."""
LARGEST = 1024
"""Largest ``min(dim, n)``: beyond it the quadrature's matrices fill gigabytes."""
KEPT = 256
"""Largest one whose quadrature is kept for the next call."""
MOST_SAMPLES = 10**300
"""Numbers of samples must be floats."""

Centred = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""A function of eigenvalues ``s`` and of ``s - 1``, each to its own last digit."""


def wishart_mean(function: Callable[[np.ndarray], np.ndarray], *, dim: int, n: int) -> np.ndarray:
    """``E sum_i F(s_i)`` over all `dim` eigenvalues of ``(1/n) sum z z'``, ``z ~ N(0, I_dim)``.

    Exact for every `dim` and `n` (when ``n < dim`` the ``dim - n`` zero eigenvalues count), to
    about ten digits for functions that vary on the scale of the spectrum or slower; near zero they
    may vary on any scale. A function of ``s - 1`` loses digits for many samples, because ``s`` does
    not hold them.

    Implements: R19.

    Args:
        function: ``F``, from eigenvalues ``(nodes,)`` to values ``(..., nodes)``.
        dim: dimension of the samples.
        n: number of samples.

    Returns:
        The expectation, an array of the leading shape of ``F`` (a scalar array as a rule).

    Raises:
        ValueError: dimensions below one, or both above `LARGEST`; no function of that kind.

    Example:
        >>> from fsd_jax import theory
        >>> round(float(theory.wishart_mean(lambda s: s**2, dim=3, n=5)), 9)  # d(1 + (d+1)/n)
        5.4
    """
    check_function(function)
    return centred_mean(lambda s, _: function(s), dim=dim, n=n)


def centred_mean(function: Centred, *, dim: int, n: int) -> np.ndarray:
    """`wishart_mean` of a function of ``(s, s - 1)``, which keeps its digits for every n."""
    dim, n, rule = _prepare(dim, n)
    values = centred_values(function, rule.eigenvalues(n), rule.deviations(n))
    flat = np.array([0.5 * np.trace(rule.first(F)) for F in values.reshape(-1, rule.u.size)])
    if dim > n:
        flat += (dim - n) * centred_values(function, np.zeros(1), -np.ones(1)).reshape(-1)
    return flat.reshape(values.shape[:-1])


def check_function(function: object) -> None:
    """Refuse what cannot be called."""
    if not callable(function):
        raise ValueError(f"function must be a function of eigenvalues, got {function!r}")


def centred_values(function: Centred, s: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """What the function returns, of shape ``(..., nodes)``."""
    values = np.asarray(function(s, deviation), float)
    if values.shape[-1:] != s.shape:
        raise ValueError(
            f"function must return values of shape (..., {s.size}) for {s.size} eigenvalues, "
            f"got shape {values.shape}"
        )
    return values


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
        ValueError: dimensions below one, or both above `LARGEST`; no function of that kind.

    Example:
        >>> from fsd_jax import theory
        >>> round(float(theory.wishart_covariance(lambda s: s, dim=3, n=5)), 9)  # 2d/n
        1.2
    """
    check_function(function)
    return centred_covariance(lambda s, _: function(s), dim=dim, n=n)


def centred_covariance(function: Centred, *, dim: int, n: int) -> np.ndarray:
    """`wishart_covariance` of functions of ``(s, s - 1)``."""
    dim, n, rule = _prepare(dim, n)
    values = centred_values(function, rule.eigenvalues(n), rule.deviations(n))
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
        self.large = large
        self.u, self.delta, self.half, self.weight, self.basis = _basis(small, large)
        self.tails, totals = self._tails(self.basis)
        self.A = _even((self.basis * self.weight) @ self.tails.T, totals)

    def eigenvalues(self, n: int) -> np.ndarray:
        """``s`` at the nodes."""
        return (self.u / float(n) ** 0.5) ** 2

    def deviations(self, n: int) -> np.ndarray:
        """``s - 1`` at the nodes, without ``1`` being subtracted where it would cancel."""
        centre = float(self.large) ** 0.5
        shift = (2 * centre + self.delta) * self.delta
        return (float(self.large - n) + shift) / float(n)

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
    dim = _checks.dimension("dim", dim, high=MOST_SAMPLES)
    n = _checks.dimension("n", n, high=MOST_SAMPLES)
    if min(dim, n) > LARGEST:
        raise ValueError(
            f"min(dim, n) must be at most {LARGEST}, got dim={dim}, n={n}; "
            "the asymptotic form (marchenko_pastur_mean) is accurate there"
        )
    return dim, n, _rule(min(dim, n), max(dim, n))


def _rule(small: int, large: int) -> _Rule:
    # Beyond a few hundred a rule fills a hundred megabytes and more.
    return _kept_rule(small, large) if small <= KEPT else _Rule(small, large)


@lru_cache(maxsize=16)
def _kept_rule(small: int, large: int) -> _Rule:
    return _Rule(small, large)


def _even(matrix: np.ndarray, border: np.ndarray) -> np.ndarray:
    """An antisymmetric matrix of even size: bordered if there are an odd number of eigenvalues."""
    matrix = 0.5 * (matrix - matrix.T)
    if len(border) % 2 == 0:
        return matrix
    column = border[:, None]
    return np.block([[matrix, column], [-column.T, np.zeros((1, 1))]])


def _basis(
    small: int, large: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Nodes u, ``u - sqrt(M)``, half the panels' widths, weights, and Laguerre functions.

    Away from zero nodes are placed by their distance ``delta`` from ``sqrt(M)``, so that nothing
    cancels for large n; where the spectrum touches zero they are placed by u itself.
    """
    centre = float(large) ** 0.5
    width = small**0.5 + REACH
    touches = width >= centre
    fraction = np.linspace(0, 1, max(PANELS, small) + 1)
    if touches:
        # Functions of w may vary on a tiny scale near zero: panels shrink towards it.
        inner = fraction[1] ** 2 * 0.25 ** np.arange(HALVINGS, 0, -1)
        edges = (centre + width) * np.concatenate([[0], inner, fraction[1:] ** 2])
    else:
        edges = -width + 2 * width * fraction
    x, w = np.polynomial.legendre.leggauss(NODES)
    half = np.diff(edges) / 2
    nodes = (edges[:-1, None] + half[:, None] * (x + 1)).ravel()
    weight = (half[:, None] * w).ravel()
    u, delta = (nodes, nodes - centre) if touches else (centre + nodes, nodes)
    return u, delta, half, weight, _laguerre(u, delta, small, large)


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


def _laguerre(u: np.ndarray, delta: np.ndarray, small: int, large: int) -> np.ndarray:
    """Laguerre functions of parameter ``M - N`` at ``u = sqrt(M) + delta``, up to one factor.

    Each is held as a number and a power of two, one for each node: the first one, from which the
    others follow, may be too small for float64 where the last ones are of order one.
    """
    centre = float(large) ** 0.5
    x = delta / centre
    # (M - N) log(u/centre) - centre delta - delta^2/2, with what cancels for large M taken out.
    log_first = (
        float(large - small) * log_tail(x, 2, u / centre) - small * (x - x**2 / 2) - delta**2
    )
    log_first -= np.max(log_first)
    power = np.floor(log_first / np.log(2))
    before, now = np.zeros_like(u), np.exp(log_first - power * np.log(2))
    functions = [np.ldexp(now, _exponent(power))]
    order = large - small
    for j in range(small - 1):
        step = (2 * j + 1 - small - 2 * centre * delta - delta**2) * now
        if j:
            step = step - (j * (j + order)) ** 0.5 * before
        before, now = now, step / ((j + 1) * (j + 1 + order)) ** 0.5
        large_now = np.abs(now) > 2.0**200
        scale = np.where(large_now, 2.0**-200, 1.0)
        before, now, power = before * scale, now * scale, power + np.where(large_now, 200, 0)
        functions.append(np.ldexp(now, _exponent(power)))
    return np.stack(functions)


def log_tail(y: np.ndarray, order: int, whole: np.ndarray) -> np.ndarray:
    """``log(whole)``, ``whole = 1 + y``, less its Taylor polynomial of degree `order` in y."""
    small = np.abs(y) < SMALL
    z = np.where(small, y, 0.0)
    series = np.zeros_like(z)
    for k in range(order + SERIES, order, -1):
        series = series * z + (-1.0) ** (k + 1) / k
    direct = np.log(np.where(small, 1.0, whole))
    for k in range(1, order + 1):
        direct = direct - (-1.0) ** (k + 1) / k * y**k
    return np.where(small, series * z ** (order + 1), direct)


def _exponent(power: np.ndarray) -> np.ndarray:
    return np.clip(power, -(2**15), 2**15).astype(np.int32)
