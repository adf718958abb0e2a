"""Estimates with a bootstrap error and a 95% interval; Wilson's interval for shares."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks
from fsd_jax._rows import BLOCK

DRAWS = 200
"""Bootstrap replicates."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, its bootstrap standard error, and a 95% interval around it.

    Attributes:
        value: the estimate.
        stderr: standard deviation of its replicates; NaN without a bootstrap, as are the ends.
        low: lower end.
        high: upper end.
    """

    value: float
    stderr: float
    low: float
    high: float


def mean_of(values: ArrayLike, *, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """The mean of ``(n,)`` numbers, one a sample.

    Args:
        values: the numbers.
        seed: of the bootstrap.
        draws: bootstrap replicates; 0 leaves the bootstrap out.
    """
    return _mean(_numbers("values", values), seed, draws)


def share_of(hits: ArrayLike, *, seed: int = 0, draws: int = DRAWS) -> Estimate:
    """The share of ``(n,)`` yes-or-no answers, with Wilson's score interval.

    It stays within 0 and 1 and keeps a width where all answers are the same, of which a bootstrap
    makes a point.

    Args:
        hits: booleans, or zeros and ones.
        seed: of the bootstrap, which gives the standard error.
        draws: bootstrap replicates; with 0 the standard error is ``sqrt(p (1 - p) / n)``.
    """
    from scipy.stats import binomtest

    answers: Any = hits
    if isinstance(answers, (list, tuple, np.ndarray, jax.Array)):
        answers = np.asanyarray(answers)
    if getattr(answers, "dtype", None) == np.bool_:
        answers = answers.astype(np.uint8)
    data = _numbers("hits", answers)
    if not np.all((data == 0) | (data == 1)):
        raise ValueError("hits must be booleans, or zeros and ones; for numbers there is mean_of")
    found = _mean(data, seed, draws)
    if math.isnan(found.stderr):
        found = replace(found, stderr=math.sqrt(found.value * (1 - found.value) / len(data)))
    ends = binomtest(int(data.sum()), len(data)).proportion_ci(method="wilson")
    return replace(found, low=float(ends.low), high=float(ends.high))


def _numbers(name: str, values: Any) -> np.ndarray:
    data = np.asarray(_checks.array(name, values)).astype(np.float64)
    if data.ndim != 1 or data.size == 0:
        raise ValueError(f"{name} must be numbers of shape (n,), got shape {data.shape}")
    if not np.all(np.isfinite(data)):
        first = int(np.argmin(np.isfinite(data)))
        raise ValueError(f"{name} has NaN or infinite entries (first: {first})")
    return data


def _mean(data: np.ndarray, seed: int, draws: int) -> Estimate:
    return bootstrap(lambda w: w @ data / np.sum(w, axis=1), (len(data),), seed, draws)


def bootstrap(
    statistic: Callable[..., np.ndarray], sizes: tuple[int, ...], seed: int, draws: int
) -> Estimate:
    """A statistic of counts ``(draws, n)`` for each set: once with ones, then resampled.

    Args:
        statistic: of one array of counts for each set.
        sizes: of the sets.
        seed: of the replicates.
        draws: their number, 0 or at least 2.
    """
    seed = _checks.dimension("seed", seed, low=0)
    draws = _draws(draws)
    value = float(statistic(*[np.ones((1, n)) for n in sizes])[0])
    if not draws or not math.isfinite(value):
        return Estimate(value=value, stderr=math.nan, low=math.nan, high=math.nan)
    rng = np.random.default_rng(seed)
    counts = [_counts(rng, n, draws) for n in sizes]
    step = max(1, BLOCK // max(sizes))
    replicates = np.concatenate(
        [
            statistic(*[each[i : i + step].astype(np.float64) for each in counts])
            for i in range(0, draws, step)
        ]
    )
    # The basic interval: reflected about the estimate, which undoes the bootstrap's own bias.
    ends = 2 * value - np.quantile(replicates, [0.975, 0.025])
    # On a scale of one, because squares of large or small replicates leave the range of floats.
    _, exponent = np.frexp(np.max(np.abs(replicates)))
    spread = float(np.ldexp(np.std(np.ldexp(replicates, -exponent), ddof=1), exponent))
    return Estimate(value=value, stderr=spread, low=float(ends[0]), high=float(ends[1]))


def _draws(draws: int) -> int:
    number = _checks.dimension("draws", draws, low=0)
    if number == 1:
        raise ValueError("draws must be 0 (no bootstrap) or at least 2, got 1")
    return number


def _counts(rng: np.random.Generator, n: int, draws: int) -> np.ndarray:
    """How often each of `n` samples occurs in each replicate."""
    counts = np.empty((draws, n), np.uint32)
    step = max(1, BLOCK // n)
    for i in range(0, draws, step):
        rows = counts[i : i + step]
        rows[:] = rng.multinomial(n, np.full(n, 1 / n), len(rows))
    return counts
