"""What all forward processes are: a Gaussian path ``x_t = alpha_t x_0 + sigma_t xi``.

Divided by ``sqrt(alpha_t^2 + sigma_t^2)`` a path is the variance-preserving process at the time
``B = log(1 + sigma_t^2/alpha_t^2)``. What depends on the ratio ``sigma/alpha`` alone (minimisers at
one time, divergences, samplers) is therefore that of `VP` on this clock.
"""

import abc
import math
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks

LEAST, MOST = 1e-30, 1e30
"""Where the time of a given clock is looked for."""


class Process(abc.ABC):
    """A Gaussian path: `VP`, `VE`, `Flow` or `GaussianPath`; each makes and checks its own.

        x_t = alpha_t x_0 + sigma_t xi,   xi ~ N(0, I),   0 < t < end.

    Data are at ``t = 0``; noise grows with ``t``. A process is hashable, may be closed over by
    `jax.jit` and starts no backend. All methods take times of any shape, zero included; traced
    times out of range become NaN.

    Implements: "Any Gaussian path"; "Model and process".
    """

    @property
    def end(self) -> float:
        """All times lie below it; infinite unless the path reaches pure noise."""
        return math.inf

    @abc.abstractmethod
    def _signal(self, t: Any) -> Any:
        """``alpha_t``, with the operations of the library of `t`; so in all that follows."""

    @abc.abstractmethod
    def _noise(self, t: Any) -> Any:
        """``sigma_t^2``."""

    @abc.abstractmethod
    def _slopes(self, t: Any) -> tuple[Any, Any]:
        """The derivatives of ``alpha_t`` and of ``sigma_t^2``."""

    def _spread_slope(self, t: Any) -> Any:
        """The derivative of ``sigma_t``."""
        return self._slopes(t)[1] / (2 * library(t).sqrt(self._noise(t)))

    def _signal_variance(self, t: Any) -> Any:
        return self._signal(t) ** 2

    def _log_signal_variance(self, t: Any) -> Any:
        return 2 * library(t).log(self._signal(t))

    def _integral(self, t: Any) -> Any:
        return library(t).log1p(self._noise(t) / self._signal_variance(t))

    def drift(self, t: Any) -> tuple[Any, Any]:
        """``(p, q)`` of the velocity ``v(x, t) = p x + q s(x, t)``, s the score, unchecked.

        With ``x = alpha x_0 + sigma xi`` it is the mean of ``alpha' x_0 + sigma' xi`` given x, and
        ``p = alpha'/alpha``, ``q = p sigma^2 - (sigma^2)'/2``.
        """
        signal_slope, noise_slope = self._slopes(t)
        p = signal_slope / self._signal(t)
        return p, p * self._noise(t) - noise_slope / 2

    def _scale(self, t: Any) -> Any:
        """``sqrt(alpha_t^2 + sigma_t^2)``, what makes a path variance preserving."""
        return library(t).sqrt(self._signal_variance(t) + self._noise(t))

    def _prior(self, t: Any) -> Any:
        """Variance of the noise that a sampler starts from."""
        return self._noise(t)

    def signal(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``alpha_t``, the factor on the clean sample (``m_t`` for `VP`)."""
        return self._signal(self._times(t))

    def signal_variance(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``alpha_t^2``."""
        return self._signal_variance(self._times(t))

    def log_signal_variance(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``log alpha_t^2``, where the variance itself may be too small for its dtype."""
        return self._log_signal_variance(self._times(t))

    def noise_variance(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``sigma_t^2``, accurate for small ``t`` too."""
        return self._noise(self._times(t))

    def integrated_rate(self, t: ArrayLike) -> Float[Array, "*times"]:
        """The clock ``B(t) = log(1 + sigma_t^2/alpha_t^2)``; ``int_0^t beta`` for `VP`.

        Args:
            t: times of any shape, not negative; they may be zero.

        Raises:
            ValueError: concrete times out of range (traced ones become NaN).
        """
        return self._integral(self._times(t))

    def scale(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``sqrt(alpha_t^2 + sigma_t^2)``: divided by it, the path is `VP` on its clock."""
        return self._scale(self._times(t))

    def prior_variance(self, T: ArrayLike) -> Float[Array, "*times"]:
        """Variance of the centred noise that samplers start from at ``T``.

        One for `VP` and `Flow`, ``sigma_T^2`` for `VE` and `GaussianPath`.
        """
        times = self._times(T)
        return jnp.ones_like(times) * self._prior(times)

    def shares(self, t: ArrayLike) -> tuple[Float[Array, "*times"], Float[Array, "*times"]]:
        """``alpha_t^2`` and ``sigma_t^2`` over their sum: the levels of `VP` on this clock."""
        times = self._times(t)
        whole = self._scale(times) ** 2
        return self._signal_variance(times) / whole, self._noise(times) / whole

    def host_variances(self, t: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """``(alpha_t^2, sigma_t^2)`` by NumPy in float64, whatever JAX's precision."""
        times = self._host_times(t)
        return _host(self._signal_variance(times)), _host(self._noise(times))

    def host_integrated_rate(self, t: ArrayLike) -> np.ndarray:
        """``B(t)`` by NumPy in float64, whatever JAX's precision."""
        return _host(self._integral(self._host_times(t)))

    def host_time(self, level: ArrayLike) -> np.ndarray:
        """The ``t`` at which ``B(t) = level``, by NumPy in float64: the inverse of the clock."""
        from scipy import optimize

        levels = host_numbers("level", level)
        high = math.log(MOST) if math.isinf(self.end) else -math.log(4 * np.finfo(float).eps)

        def time(u: float) -> float:
            t = math.exp(u)
            return t if math.isinf(self.end) else self.end * t / (1 + t)

        def one(value: float) -> float:
            def gap(u: float) -> float:
                return float(np.log(_host(self._integral(np.asarray(time(u)))) / value))

            if value == 0:
                return 0.0
            try:
                return time(optimize.brentq(gap, math.log(LEAST), high, xtol=1e-14, rtol=1e-14))
            except ValueError:
                raise ValueError(
                    f"level must be reached by {self!r}, got {value:.6g}; choose a smaller one"
                ) from None

        return np.array([one(float(v)) for v in levels.ravel()]).reshape(levels.shape)

    def quadrature(
        self, delta: float = 1e-3, T: float | None = None, nodes: int = 64
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        """Nodes and weights for the average over ``t`` uniform on ``[delta, T]``.

        Gauss-Legendre in ``log t``, because the losses fall like ``1/t`` or ``1/t^2``; in
        ``log t/(end - t)`` for a path that ends. With the default 64 nodes the integrals of this
        library are exact to rounding in float64.

        Args:
            delta: early stopping time, positive.
            T: final time, above `delta`; None is 10, and ``end - delta`` for a path that ends.
            nodes: number of nodes.

        Returns:
            times: ``(nodes,)``, increasing.
            weights: ``(nodes,)``, summing to one.

        Raises:
            ValueError: unless ``0 < delta < T < end`` and ``nodes >= 1``.
        """
        if T is None:
            T = 10.0 if math.isinf(self.end) else self.end - plain_number("delta and T", delta)
        low, high = interval(delta, T)
        self.admit(T=high)
        times, weights = _legendre(low, high, self.end, _checks.dimension("nodes", nodes))
        return jnp.asarray(times, float), jnp.asarray(weights, float)

    def admit(self, **times: Any) -> None:
        """Refuse concrete times at or beyond the end of the path; what else is wrong is not seen.

        Raises:
            ValueError: naming the argument.
        """
        if math.isinf(self.end):
            return
        for name, value in times.items():
            if value is None or _checks.is_traced(value):
                continue
            given = np.asarray(value)
            if given.dtype.kind in "fiu" and np.any(given >= self.end):
                raise ValueError(
                    f"{name} must lie below {self.end:g}, where {self!r} is pure noise, "
                    f"got {_checks.named(value)}"
                )

    def _times(self, t: ArrayLike) -> Float[Array, "*times"]:
        """Times in their own dtype if that is floating."""
        given = _checks.array("t", t)
        own = isinstance(given, jax.Array) or (isinstance(t, np.ndarray | np.generic))
        dtype = given.dtype if own and jnp.issubdtype(given.dtype, jnp.floating) else float
        checked = _checks.time("t", given, jax.dtypes.canonicalize_dtype(dtype), zero=True)
        times = jnp.asarray(checked)
        if math.isinf(self.end):
            return times
        if not _checks.is_traced(times):
            self._within(np.asarray(times))
            return times
        return jnp.where(times <= self.end, times, jnp.nan)

    def _host_times(self, t: ArrayLike) -> np.ndarray:
        times = host_numbers("t", t)
        self._within(times)
        return times

    def _within(self, times: np.ndarray) -> None:
        if np.any(times > self.end):
            raise ValueError(
                f"t must be at most {self.end:g}, where {self!r} ends, got {float(np.max(times))!r}"
            )


def check(process: Any, **times: Any) -> None:
    """Refuse what is no process, and concrete times that it does not reach.

    Raises:
        ValueError: naming the argument.
    """
    if not isinstance(process, Process):
        raise ValueError(
            f"process must be a VP, VE, Flow or GaussianPath, got {_checks.named(process)}; "
            "for example VP()"
        )
    process.admit(**times)


def library(t: Any) -> Any:
    """`jnp` for arrays of JAX, traced ones included, else NumPy."""
    return jnp if isinstance(t, jax.Array) else np


def _host(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)


def host_numbers(name: str, value: ArrayLike) -> np.ndarray:
    """Numbers that are not negative, in float64 on the host."""
    return np.asarray(
        _checks.positive(name, np.asarray(value), np.float64, ndim=None, zero=True)[0]
    )


@lru_cache(maxsize=64)
def _legendre(low: float, high: float, end: float, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(nodes)
    if math.isinf(end):
        times = low * np.exp(0.5 * np.log(high / low) * (x + 1))
        return times, w * times / np.sum(w * times)
    first, last = (math.log(t / (end - t)) for t in (low, high))
    odds = np.exp(first + 0.5 * (last - first) * (x + 1))
    times, pace = end * odds / (1 + odds), odds / (1 + odds) ** 2
    return times, w * pace / np.sum(w * pace)


def interval(delta: float, T: float) -> tuple[float, float]:
    """``delta`` and ``T`` as Python numbers, in order."""
    low, high = plain_number("delta and T", delta), plain_number("delta and T", T)
    if not low < high:
        raise ValueError(f"delta and T must satisfy 0 < delta < T, got delta={delta!r}, T={T!r}")
    return low, high


def plain_number(name: str, value: float) -> float:
    """A positive Python number that the devices' default dtype holds."""
    if _checks.is_traced(value):
        raise ValueError(f"{name} must be Python numbers here, not traced: they fix the grid")
    _checks.positive(name, value, jax.dtypes.canonicalize_dtype(float), ndim=(0,))
    return float(value)
