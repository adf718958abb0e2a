"""The forward process: variance preserving, with constant or scheduled rate; grids and quadrature.

``dX = -beta_t X/2 dt + sqrt(beta_t) dB``, so ``X_t | X_0 ~ N(m_t X_0, sigma_t^2 I)`` with
``m_t = exp(-B(t)/2)``, ``sigma_t^2 = 1 - exp(-B(t))`` and ``B(t) = int_0^t beta``. The paper takes
``beta = 1``; its footnote allows a non-decreasing bounded rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from fsd_jax import _checks

_static = partial(field, metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class VP:
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

    def integrated_rate(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``B(t) = int_0^t beta``, exact for the piecewise linear rate.

        Args:
            t: times of any shape, not negative; they may be zero.

        Raises:
            ValueError: concrete times that are negative or not finite (traced ones become NaN).
        """
        return self._integral(_times(t))

    def host_variances(self, t: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """``(m_t^2, sigma_t^2)`` by NumPy in float64, whatever JAX's precision."""
        rate = self.host_integrated_rate(t)
        return np.exp(-rate), -np.expm1(-rate)

    def host_integrated_rate(self, t: ArrayLike) -> np.ndarray:
        """``B(t)`` by NumPy in float64, whatever JAX's precision."""
        return np.asarray(self._integral(_host_times("t", t)))

    def host_time(self, level: ArrayLike) -> np.ndarray:
        """The ``t`` at which ``B(t) = level``, by NumPy in float64: the inverse of the integral."""
        wanted = _host_times("level", level)
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

    def signal(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``m_t = exp(-B(t)/2)``, the factor on the clean sample."""
        return jnp.exp(-0.5 * self.integrated_rate(t))

    def signal_variance(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``m_t^2 = exp(-B(t))``."""
        return jnp.exp(-self.integrated_rate(t))

    def noise_variance(self, t: ArrayLike) -> Float[Array, "*times"]:
        """``sigma_t^2 = -expm1(-B(t))``, accurate for small ``t`` too."""
        return -jnp.expm1(-self.integrated_rate(t))

    def quadrature(
        self, delta: float = 1e-3, T: float = 10.0, nodes: int = 64
    ) -> tuple[Float[Array, " K"], Float[Array, " K"]]:
        """Nodes and weights for the average over ``t`` uniform on ``[delta, T]``.

        Gauss-Legendre in ``log t``, because the losses fall like ``1/t`` or ``1/t^2``. With the
        default 64 nodes the integrals of this library are exact to rounding in float64.

        Args:
            delta: early stopping time, positive.
            T: final time, above `delta`.
            nodes: number of nodes.

        Returns:
            times: ``(nodes,)``, increasing.
            weights: ``(nodes,)``, summing to one.

        Raises:
            ValueError: unless ``0 < delta < T`` and ``nodes >= 1``.
        """
        times, weights = _log_legendre(*_interval(delta, T), _checks.dimension("nodes", nodes))
        return jnp.asarray(times, float), jnp.asarray(weights, float)


def _times(t: ArrayLike) -> Float[Array, "*times"]:
    """Times in their own dtype if that is floating."""
    given = _checks.array("t", t)
    own = isinstance(given, jax.Array) or (isinstance(t, np.ndarray | np.generic))
    dtype = given.dtype if own and jnp.issubdtype(given.dtype, jnp.floating) else float
    return jnp.asarray(_checks.time("t", given, jax.dtypes.canonicalize_dtype(dtype), zero=True))


def _host_times(name: str, t: ArrayLike) -> np.ndarray:
    return np.asarray(_checks.positive(name, np.asarray(t), np.float64, ndim=None, zero=True)[0])


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


@lru_cache(maxsize=64)
def _log_legendre(low: float, high: float, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(nodes)
    times = low * np.exp(0.5 * np.log(high / low) * (x + 1))
    return times, w * times / np.sum(w * times)


def uniform_grid(delta: float, T: float, steps: int) -> Float[Array, " points"]:
    """``steps + 1`` equally spaced times from `delta` to `T`, increasing."""
    low, high = _interval(delta, T)
    return jnp.asarray(np.linspace(low, high, _checks.dimension("steps", steps) + 1), float)


def geometric_grid(delta: float, T: float, steps: int) -> Float[Array, " points"]:
    """``steps + 1`` times from `delta` to `T` with a constant ratio, increasing."""
    low, high = _interval(delta, T)
    return jnp.asarray(np.geomspace(low, high, _checks.dimension("steps", steps) + 1), float)


def paper_grid(delta: float, T: float, *, rate: float, lipschitz: float) -> Float[Array, " points"]:
    """Appendix C's step rule, ``h_k = c min(max(t_k, 1/L), 1)``, walked back from `T` to `delta`.

    The paper writes ``1/lambda_max^2`` for ``1/L``; the score of ``N(0, Sigma)`` has Lipschitz
    constant ``1/lambda_min^2``, so pass ``lipschitz = 1/lambda_min^2`` for a step rule that its
    own argument supports.

    Args:
        delta: early stopping time.
        T: final time.
        rate: the constant ``c``, in ``(0, 1)``.
        lipschitz: ``L``, the Lipschitz constant of the latent score, positive.

    Returns:
        Increasing times from `delta` to `T`; their number depends on the arguments.

    Raises:
        ValueError: arguments out of range, or a rule that needs more than a million steps.
    """
    low, high = _interval(delta, T)
    rate, lipschitz = _number("rate", rate), _number("lipschitz", lipschitz)
    if rate >= 1:
        raise ValueError(f"rate must be in (0, 1), got {rate!r}")
    times = [high]
    while times[-1] > low:
        step = rate * min(max(times[-1], 1 / lipschitz), 1.0)
        times.append(max(times[-1] - step, low))
        if len(times) > 1_000_000:
            raise ValueError(f"rate={rate!r} needs over a million steps; choose a larger one")
    return jnp.asarray(times[::-1], float)


def _interval(delta: float, T: float) -> tuple[float, float]:
    low, high = _number("delta and T", delta), _number("delta and T", T)
    if not low < high:
        raise ValueError(f"delta and T must satisfy 0 < delta < T, got delta={delta!r}, T={T!r}")
    return low, high


def _number(name: str, value: float) -> float:
    """A positive Python number that the devices' default dtype holds."""
    if _checks.is_traced(value):
        raise ValueError(f"{name} must be Python numbers here, not traced: they fix the grid")
    _checks.positive(name, value, jax.dtypes.canonicalize_dtype(float), ndim=(0,))
    return float(value)
