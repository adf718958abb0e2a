"""The paper's bounds as numbers, one function a statement, with what each one hides."""

import math
from dataclasses import dataclass, field

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks, _process
from fsd_jax._process import VP, Process

MOST = 10**60
"""Largest number of samples or dimensions in a bound."""


@dataclass(frozen=True, kw_only=True)
class FormulaValue:
    """What a statement gives for one setting.

    Attributes:
        value: the sum of the terms.
        terms: each term by its name.
        valid: whether the statement's own condition holds; the value is there all the same.
        reason: the condition and how it came out, in words.
        hidden: what the value leaves out (constants, logarithms).
    """

    value: float
    terms: dict[str, float] = field(hash=False)
    valid: bool
    reason: str
    hidden: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LeastConstant:
    """The least constant for which a bound holds on a grid.

    Attributes:
        value: the largest ratio of exact value and bound.
        index: where on the grid it is attained.
    """

    value: float
    index: tuple[int, ...]


def log_exponent(n: int, latent_dim: int) -> float:
    """``alpha(n) = d log log n/log n``, the loss in Theorem 4.3's exponents.

    It is below one only for huge samples: from ``n`` about 1e44 on for ``d = 22``.

    Implements: Theorem 4.3; "The paper's bounds as numbers".

    Args:
        n: number of samples, at least 3.
        latent_dim: ``d``.

    Returns:
        ``alpha``.

    Raises:
        ValueError: values out of range.
    """
    d = samples("latent_dim", latent_dim)
    log = math.log(_checks.dimension("n", n, low=3, high=math.inf))
    return d * math.log(log) / log


def theorem_4_3(
    *,
    latent_dim: int,
    ambient_dim: int,
    n_ta: int,
    n_s: int,
    beta: float,
    second_moment: float,
    least_eigenvalue: float,
    delta: float = 1e-3,
    T: float = 10.0,
    failure: float = 0.05,
) -> FormulaValue:
    """Bound on the score error averaged over ``t`` uniform on ``[delta, T]``, with constant one.

        [ (1+beta)^2 D d^3/(delta (T - delta) sqrt(n_ta))
          + (d + C_Z) d^2 beta^2/(delta^2 c_0) n_s^(-(2 - 2 alpha)/(d + 5)) ] log(1/failure)

    with ``alpha = alpha(n_s)``, see `log_exponent`. The condition is
    ``n_ta^((d+5)/(4(1 - alpha))) >= n_s``; with ``alpha > 1`` its exponent is negative and the
    source's term grows with ``n_s``, which is so for every row of Table 1.

    Implements: Theorem 4.3; "The paper's bounds as numbers".

    Args:
        latent_dim: ``d``.
        ambient_dim: ``D``.
        n_ta: number of target samples.
        n_s: number of source samples, at least 3.
        beta: Lipschitz constant of the on-support score (Assumption 4.2); for a Gaussian latent of
            variance ``lambda^2`` it is ``max(1, 1/lambda^2)``.
        second_moment: ``C_Z >= E |Z|^2``; Gaussian ``d lambda^2``.
        least_eigenvalue: ``c_0 <= lambda_min(E ZZ')``; Gaussian ``lambda^2``.
        delta: early stopping time.
        T: final time.
        failure: the probability ``delta_1`` with which the bound may fail.

    Returns:
        The terms ``target`` and ``source`` and their sum.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import theory
        >>> bound = theory.theorem_4_3(
        ...     latent_dim=25, ambient_dim=3072, n_ta=6, n_s=60_000,
        ...     beta=1.0, second_moment=25.0, least_eigenvalue=1.0,
        ... )
        >>> bound.valid, f"{bound.terms['target']:.0e}"
        (False, '2e+10')
    """
    d, D, n = _sizes(latent_dim, ambient_dim, n_ta)
    n_s = _checks.dimension("n_s", n_s, low=3, high=math.inf)
    alpha = log_exponent(n_s, d)
    rate, energy, least = (
        number(name, value)
        for name, value in [
            ("beta", beta),
            ("second_moment", second_moment),
            ("least_eigenvalue", least_eigenvalue),
        ]
    )
    delta, length = interval(delta, T)
    log = confidence(failure)
    target = (1 + rate) ** 2 * D * d**3 / (delta * length * n**0.5) * log
    source = (d + energy) * d**2 * rate**2 / (delta**2 * least) * log
    source *= math.exp(-(2 - 2 * alpha) / (d + 5) * math.log(n_s))
    valid, reason = _sizes_match(d, n, n_s, alpha)
    return FormulaValue(
        value=target + source,
        terms={"target": target, "source": source},
        valid=valid,
        reason=reason,
        hidden=("an absolute constant", "logarithms of D, d, 1/delta, n_s and n_ta"),
    )


def _sizes_match(d: int, n_ta: int, n_s: int, alpha: float) -> tuple[bool, str]:
    """Theorem 4.3's condition on the sizes, and words for it."""
    stated = "n_ta^((d+5)/(4(1-alpha))) >= n_s"
    if alpha >= 1:
        return False, (
            f"{stated} has no positive exponent: alpha(n_s) = {alpha:.3g} is not below 1, "
            "and the source's term does not fall with n_s"
        )
    power = (d + 5) / (4 * (1 - alpha))
    valid = power * math.log(n_ta) >= math.log(n_s)
    return valid, f"{stated} {'holds' if valid else 'fails'}: the exponent is {power:.3g}"


def theorem_5_2(
    *,
    latent_dim: int,
    ambient_dim: int,
    n_ta: int,
    n_s: int,
    latent_variance: float,
    time: float,
    beta: float | None = None,
    delta: float = 1e-3,
    failure: float = 0.05,
    process: Process = VP(),
) -> FormulaValue:
    """Bound on ``|| VV' - AA' ||_F^2`` of the empirical solution, with constant one.

        d log(1/failure)/(m^2 lambda^2 + s2)
            * ( M/(d delta sqrt(n_s)) + (d/n_ta) (m^2 lambda^2 + s2)^2 ),
        M = d^2 beta^2 (d + lambda^2)/lambda * sqrt(D d log(D d n_s) max(d^2, D))

    The truth (R4) has ``1/n_s`` in place of ``1/sqrt(n_s)`` and no ``D``. The target's term with
    constant one is no bound: see `least_constant`.

    Implements: Theorem 5.2 (as stated; its proof ends with ``D^2`` in place of the leading ``d``);
    "The paper's bounds as numbers".

    Args:
        latent_dim: ``d``.
        ambient_dim: ``D``.
        n_ta: number of target samples.
        n_s: number of source samples.
        latent_variance: ``lambda^2``.
        time: the ``t`` of the fit.
        beta: Lipschitz constant of the on-support score; ``max(1, 1/lambda^2)`` by default, which
            is that of the latent Gaussian over all ``t``.
        delta: early stopping time.
        failure: the probability ``delta_1`` with which the bound may fail.
        process: forward process.

    Returns:
        The terms ``target`` and ``source`` and their sum.

    Raises:
        ValueError: values out of range.

    Example:
        >>> from fsd_jax import theory
        >>> size = dict(latent_dim=4, n_ta=100, n_s=10**6, latent_variance=1.0, time=0.5)
        >>> bound = theory.theorem_5_2(ambient_dim=40, failure=0.1, **size)
        >>> round(bound.terms["target"], 3), bound.terms["source"] > 1e4
        (0.368, True)
        >>> round(theory.expected_subspace_error(**size), 3)
        0.032
    """
    d, D, n = _sizes(latent_dim, ambient_dim, n_ta)
    source_size = samples("n_s", n_s)
    _process.check(process)
    variance, t = number("latent_variance", latent_variance), number("time", time)
    rate = max(1.0, 1 / variance) if beta is None else number("beta", beta)
    # The error depends on sigma/alpha alone, so the bound on the clock is one for every path.
    signal, noise = VP().host_variances(process.host_integrated_rate(np.asarray(t)))
    level = float(signal * variance + noise)
    lead = d * confidence(failure) / level
    spread = D * d * math.log(D * d * source_size) * max(d**2, D)
    M = d**2 * rate**2 * (d + variance) / variance**0.5 * spread**0.5
    source = lead * M / (d * number("delta", delta) * source_size**0.5)
    target = lead * d / n * level**2
    reason = "no condition on the sizes is stated, and the second moment has rank d"
    if n < d:
        reason = (
            f"n_ta = {n} < d = {d}: the second moment has rank n_ta, Lemma 5.1's infimum over "
            f"rank d is not attained, and the error is at least d - n_ta = {d - n}"
        )
    return FormulaValue(
        value=target + source,
        terms={"target": target, "source": source},
        valid=n >= d,
        reason=reason,
        hidden=("an absolute constant", "logarithms"),
    )


def least_constant(bound: ArrayLike, exact: ArrayLike) -> LeastConstant:
    """The least constant that makes a bound hold on a whole grid: ``max exact/bound``.

    Implements: "The paper's bounds as numbers".

    Args:
        bound: values of the bound with constant one, any shape, positive.
        exact: exact values in the same places.

    Returns:
        The constant, and the index at which it is attained.

    Raises:
        ValueError: shapes that differ, or values that are not positive and finite.

    Example:
        >>> from fsd_jax import theory
        >>> theory.least_constant([1.0, 2.0, 4.0], [0.5, 3.0, 4.0])
        LeastConstant(value=1.5, index=(1,))
    """
    below = np.asarray(_checks.positive("bound", bound, np.float64, ndim=None)[0])
    value = np.asarray(_checks.positive("exact", exact, np.float64, ndim=None, zero=True)[0])
    if below.shape != value.shape:
        raise ValueError(
            f"bound and exact must have the same shape, got {below.shape} and {value.shape}"
        )
    ratio = value / below
    place = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    return LeastConstant(value=float(np.max(ratio)), index=tuple(int(i) for i in place))


def _sizes(latent_dim: int, ambient_dim: int, n_ta: int) -> tuple[int, int, int]:
    d = samples("latent_dim", latent_dim)
    return d, samples("ambient_dim", ambient_dim, low=d), samples("n_ta", n_ta)


def samples(name: str, value: int, *, low: int = 1) -> int:
    """A number of samples or dimensions, checked; few enough that products of them are floats."""
    return _checks.dimension(name, value, low=low, high=MOST)


def number(name: str, value: float) -> float:
    """A positive finite number, checked."""
    return float(_checks.positive(name, value, np.float64, ndim=(0,))[0])


def interval(delta: float, T: float) -> tuple[float, float]:
    """``delta`` and ``T - delta``, checked."""
    start, end = number("delta", delta), number("T", T)
    if not start < end:
        raise ValueError(f"delta and T must satisfy 0 < delta < T, got delta={start}, T={end}")
    return start, end - start


def confidence(failure: float) -> float:
    """``log(1/delta_1)``, checked."""
    share = number("failure", failure)
    if not share < 1:
        raise ValueError(f"failure must be a probability below 1, got {failure!r}")
    return -math.log(share)
