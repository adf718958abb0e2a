"""Paths that are not variance preserving: variance exploding, rectified flow, any two functions."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks
from fsd_jax._process._path import Process, host_numbers, library


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class VE(Process):
    """Variance exploding, as in EDM: ``x_t = x_0 + t xi``, so the time is the noise's deviation.

    Implements: "Any Gaussian path".

    Source: Karras, Aittala, Aila and Laine, "Elucidating the design space of
    diffusion-based generative models" (2022), whose ``sigma(t) = t`` this is.

    Example:
        >>> import fsd_jax as fsd
        >>> float(fsd.VE().noise_variance(3.0)), float(fsd.VE().signal(3.0))
        (9.0, 1.0)
    """

    def _signal(self, t: Any) -> Any:
        # NaN where the time is.
        return 1 + 0 * t

    def _noise(self, t: Any) -> Any:
        return t**2

    def _slopes(self, t: Any) -> tuple[Any, Any]:
        return library(t).zeros_like(t), 2 * t

    def _spread_slope(self, t: Any) -> Any:
        return library(t).ones_like(t)

    def host_time(self, level: ArrayLike) -> np.ndarray:
        """The ``t`` at which ``B(t) = level``: ``sqrt(e^level - 1)``."""
        return np.sqrt(np.expm1(host_numbers("level", level)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Flow(Process):
    """The straight path of flow matching: ``x_t = (1 - t) x_0 + t xi``, data at 0, noise at 1.

    Its velocity is ``dx/dt = xi - x_0``.

    Implements: "Any Gaussian path".

    Sources: Lipman et al., "Flow matching
    for generative modeling" (2023), and Liu, Gong and Liu, "Flow straight and fast" (2023), which
    have noise at 0; Esser et al. (2024, "Stable Diffusion 3") have it here.

    Example:
        >>> import fsd_jax as fsd
        >>> times, weights = fsd.Flow().quadrature()
        >>> bool(0.001 < times[0]) and bool(times[-1] < 0.999)
        True
    """

    @property
    def end(self) -> float:
        """One, where nothing is left of the data."""
        return 1.0

    def _signal(self, t: Any) -> Any:
        return 1 - t

    def _noise(self, t: Any) -> Any:
        return t**2

    def _slopes(self, t: Any) -> tuple[Any, Any]:
        return -library(t).ones_like(t), 2 * t

    def _spread_slope(self, t: Any) -> Any:
        return library(t).ones_like(t)

    def _prior(self, t: Any) -> Any:
        return library(t).ones_like(t)

    def host_time(self, level: ArrayLike) -> np.ndarray:
        """The ``t`` at which ``B(t) = level``: ``r/(1 + r)``, ``r = sqrt(e^level - 1)``."""
        ratio = np.sqrt(np.expm1(host_numbers("level", level)))
        return np.asarray(ratio / (1 + ratio))


@jax.tree_util.register_static
@dataclass(frozen=True, init=False)
class GaussianPath(Process):
    """Any path ``x_t = alpha_t x_0 + sigma_t xi`` from two functions of ``t``.

    ``sigma_t/alpha_t`` has to grow from 0 at ``t = 0``. The functions must work on arrays of JAX
    and be differentiable; made of operators alone they serve NumPy too, and what is computed on the
    host is then exact in float64. They are compared by identity: keep one path, or every new one is
    compiled anew.

    Implements: "Any Gaussian path".

    Args:
        signal: ``t`` to ``alpha_t``, positive before the end.
        noise_variance: ``t`` to ``sigma_t^2``, positive after 0.
        end: all times lie below it; None is no end.

    Raises:
        ValueError: what are no functions, or an end that is not positive.

    Example:
        >>> import fsd_jax as fsd
        >>> path = fsd.GaussianPath(signal=lambda t: 1 - t, noise_variance=lambda t: t**2, end=1)
        >>> round(float(path.integrated_rate(0.5)), 4), round(float(path.host_time(0.6931472)), 4)
        (0.6931, 0.5)
    """

    alpha: Callable[[Any], Any]
    variance: Callable[[Any], Any]
    last: float

    def __init__(
        self,
        *,
        signal: Callable[[Any], Any],
        noise_variance: Callable[[Any], Any],
        end: float | None = None,
    ) -> None:
        for name, function in (("signal", signal), ("noise_variance", noise_variance)):
            if not callable(function):
                raise ValueError(f"{name} must be a function of t, got {_checks.named(function)}")
        last = math.inf if end is None else _checks.number("end", end)
        if last <= 0:
            raise ValueError(f"end must be positive, got {end!r}")
        for name, value in (("alpha", signal), ("variance", noise_variance), ("last", last)):
            object.__setattr__(self, name, value)

    @property
    def end(self) -> float:
        """As given, else infinite."""
        return self.last

    def _signal(self, t: Any) -> Any:
        return _level("signal", self.alpha, t)

    def _noise(self, t: Any) -> Any:
        return _level("noise_variance", self.variance, t)

    def _slopes(self, t: Any) -> tuple[Any, Any]:
        found = []
        for name, function in (("signal", self.alpha), ("noise_variance", self.variance)):
            times = jnp.asarray(t)

            def values(t: Any, name: str = name, function: Any = function) -> Any:
                return _level(name, function, t)

            slope = jax.jvp(values, (times,), (jnp.ones_like(times),))[1]
            found.append(np.asarray(slope, np.float64) if library(t) is np else slope)
        return found[0], found[1]


def _level(name: str, function: Callable[[Any], Any], t: Any) -> Any:
    """A level at times of either library, in their shape and dtype."""
    value = function(t)
    shape = getattr(value, "shape", ())
    if shape not in ((), t.shape):
        raise ValueError(
            f"{name} must return one number for each time, got shape {shape} for {t.shape}"
        )
    if library(t) is np:
        return np.broadcast_to(np.asarray(value, t.dtype), t.shape)
    return jnp.broadcast_to(jnp.asarray(value).astype(t.dtype), t.shape)
