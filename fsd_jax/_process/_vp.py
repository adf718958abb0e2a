"""The variance-preserving process, with constant or scheduled rate.

``dX = -beta_t X/2 dt + sqrt(beta_t) dB``, so ``X_t | X_0 ~ N(m_t X_0, sigma_t^2 I)`` with
``m_t = exp(-B(t)/2)``, ``sigma_t^2 = 1 - exp(-B(t))`` and ``B(t) = int_0^t beta``. The paper takes
``beta = 1``; its footnote allows a non-decreasing bounded rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks
from fsd_jax._process._path import Process, host_numbers, library

_static = partial(field, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class VP(Process):
    """Variance-preserving process whose rate is piecewise linear between knots.

    ``VP()`` is the paper's (rate one). `VP.constant`, `VP.linear` and `VP.scheduled` build the
    others. All check their arguments. A process holds only Python numbers, so it is hashable,
    may be closed over by `jax.jit` and starts no backend.

    Implements: Section 3 (forward process) and its footnote on ``beta_t``; "Model and process".

    Attributes:
        knots: times of the knots, increasing, the first one 0 (the SDE's ``t``).
        rates: ``beta`` at the knots: positive, non-decreasing; constant after the last.

    Raises:
        ValueError: knots or rates that are not so.

    Example:
        >>> import fsd_jax as fsd
        >>> process = fsd.VP()
        >>> float(process.noise_variance(1e-6)) == float(-jax.numpy.expm1(-1e-6))
        True
    """

    knots: tuple[float, ...] = _static(default=(0.0,))
    rates: tuple[float, ...] = _static(default=(1.0,))

    @classmethod
    def constant(cls, rate: float) -> "VP":
        """A constant rate ``beta``, which only rescales time."""
        return cls.scheduled((0.0,), (_checks.number("rate", rate),))

    @classmethod
    def linear(cls, rate_min: float, rate_max: float, horizon: float = 1.0) -> "VP":
        """``beta`` linear from `rate_min` at 0 to `rate_max` at `horizon`, then constant."""
        low, high = _checks.number("rate_min", rate_min), _checks.number("rate_max", rate_max)
        return cls.scheduled((0.0, _checks.number("horizon", horizon)), (low, high))

    @classmethod
    def scheduled(cls, knots: Sequence[float], rates: Sequence[float]) -> "VP":
        """A piecewise linear rate.

        Args:
            knots: increasing times, starting at 0.
            rates: ``beta`` at each knot: positive, non-decreasing, finite.

        Raises:
            ValueError: if they are not.
        """
        return cls(knots=knots, rates=rates)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        # What is stored is hashable and made of Python numbers, whatever was given.
        for name, values in zip(("knots", "rates"), _schedule(self.knots, self.rates), strict=True):
            object.__setattr__(self, name, values)

    def host_time(self, level: ArrayLike) -> np.ndarray:
        """The ``t`` at which ``B(t) = level``, by NumPy in float64: the inverse of the integral."""
        wanted = host_numbers("level", level)
        knots, rates = np.asarray(self.knots), np.asarray(self.rates)
        reached = self.host_integrated_rate(knots)
        i = np.clip(np.searchsorted(reached, wanted, side="right") - 1, 0, len(knots) - 1)
        slopes = np.append(np.diff(rates) / np.diff(knots), 0.0)
        rest, rate = wanted - reached[i], rates[i]
        # The stable root of rate x + slope x^2/2 = rest.
        root = np.sqrt(rate**2 + 2 * slopes[i] * rest)
        return np.asarray(knots[i] + 2 * rest / (rate + root))

    def _integral(self, t: Any) -> Any:
        """The rate's integral, with the operations of `t`'s own library."""
        if len(self.knots) == 1:
            return self.rates[0] * t
        total = 0.0 * t
        for i, (start, rate) in enumerate(zip(self.knots, self.rates, strict=True)):
            last = i + 1 == len(self.knots)
            length = (t - start).clip(0, None if last else self.knots[i + 1] - start)
            slope = (
                0.0 if last else (self.rates[i + 1] - rate) / (self.knots[i + 1] - self.knots[i])
            )
            total = total + length * (rate + 0.5 * slope * length)
        return total

    def _signal(self, t: Any) -> Any:
        return library(t).exp(-0.5 * self._integral(t))

    def _log_signal_variance(self, t: Any) -> Any:
        return -self._integral(t)

    def _signal_variance(self, t: Any) -> Any:
        return library(t).exp(-self._integral(t))

    def _noise(self, t: Any) -> Any:
        return -library(t).expm1(-self._integral(t))

    def _slopes(self, t: Any) -> tuple[Any, Any]:
        rate = library(t).interp(t, np.asarray(self.knots), np.asarray(self.rates))
        rate = rate.astype(t.dtype)
        return -rate / 2 * self._signal(t), rate * self._signal_variance(t)

    def _scale(self, t: Any) -> Any:
        """One, exactly: the variances sum to it only up to rounding."""
        return library(t).ones_like(t)

    def _prior(self, t: Any) -> Any:
        return library(t).ones_like(t)


def _schedule(knots: Any, rates: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    plain = []
    for name, values in (("knots", knots), ("rates", rates)):
        if isinstance(values, tuple) and all(type(value) is float for value in values):
            plain.append(values)
            continue
        listed = np.asarray(_checks.array(name, values), np.float64)
        if listed.ndim != 1:
            raise ValueError(f"{name} must be a sequence of numbers, got {values!r}")
        plain.append(tuple(listed.tolist()))
    _check_schedule(*plain)
    return plain[0], plain[1]


@lru_cache(maxsize=256)
def _check_schedule(knots: tuple[float, ...], rates: tuple[float, ...]) -> None:
    """Remembered, because a process is built anew whenever a tree that holds it is."""
    times, beta = np.asarray(knots, np.float64), np.asarray(rates, np.float64)
    if times.shape != beta.shape or times.size == 0:
        raise ValueError(
            f"knots and rates must be equally long sequences, got {knots!r} and {rates!r}"
        )
    if times[0] != 0 or np.any(np.diff(times) <= 0) or not np.all(np.isfinite(times)):
        raise ValueError(f"knots must start at 0 and increase, got {knots!r}")
    if not (np.all(beta > 0) and np.all(np.diff(beta) >= 0) and np.all(np.isfinite(beta))):
        raise ValueError(f"rates must be positive, finite and non-decreasing, got {rates!r}")
