"""What all samplers share: the names of the methods, their grids, and the formula of one step.

Time runs backwards over a grid ``delta = t_0 < ... < t_K = T``. A step from t to s < t has the size
``h = B(t) - B(s)``, so that a path or a scheduled rate is a change of clock. In this clock, and
divided by ``c_t = sqrt(alpha_t^2 + sigma_t^2)``, samples follow the reverse SDE
``dY = (Y/2 + s(Y)) dr + dW`` or the probability-flow ODE ``dY = (Y + s(Y))/2 dr``, whatever the
path. Two methods take the path's own time instead, along its velocity ``v = p_t Y + q_t s(Y)``.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Float

from fsd_jax import _checks
from fsd_jax._process import Process

METHODS = (
    "ei_sde",
    "em_sde",
    "ei_ode",
    "heun_ode",
    "ddpm_sde",
    "ddim_ode",
    "velocity_ode",
    "velocity_heun_ode",
)
"""Exponential integrator (EI) and Euler-Maruyama (EM) for the reverse SDE; EI and Heun for the
probability-flow ODE: all with the score frozen. With the clean image frozen: DDPM's posterior
sampling, and DDIM, which is the same with the noise frozen. With the velocity frozen: Euler and
Heun in the path's own time."""

ORDERS = dict.fromkeys(METHODS, 1) | {"heun_ode": 2, "velocity_heun_ode": 2}
"""A method of order q is off like ``h^q``."""


class Steps(NamedTuple):
    """One entry a step, from ``T`` down: where it starts and stops, and its size in ``B``."""

    start: Float[Array, " K"]
    stop: Float[Array, " K"]
    size: Float[Array, " K"]


def steps_of(times: ArrayLike, dtype: DTypeLike, process: Process) -> Steps:
    """The steps of an increasing grid.

    Args:
        times: ``(K + 1,)`` increasing positive times; the first is the early stopping time.
        dtype: floating dtype of the sampler.
        process: forward process.

    Raises:
        ValueError: fewer than two times, or times that do not increase.
    """
    given = _checks.positive("times", times, dtype, ndim=(1,))[0]
    process.admit(times=times)
    if given.shape[0] < 2:
        raise ValueError(
            f"times must hold at least two times, delta < ... < T, got {given.shape[0]}; "
            "see geometric_grid"
        )
    if _checks.is_traced(given):
        grid = jnp.asarray(given)
        size = jnp.diff(process.integrated_rate(grid))
        # Under a trace a step backwards is found in the result.
        size = jnp.where(size > 0, size, jnp.nan)
    else:
        grid = jnp.asarray(given)
        if not np.all(np.diff(np.asarray(given)) > 0):
            raise ValueError(
                f"times must increase from delta to T in {grid.dtype}, got {_checks.named(times)}; "
                "the sampler itself walks them backwards"
            )
        # On the host in float64: the difference of neighbours keeps its digits.
        sizes = np.diff(process.host_integrated_rate(np.asarray(times)))
        if not np.all(sizes > 0):
            raise ValueError(
                f"process must have a noise that grows against its signal, got {process!r}, in "
                "which it does not between two of these times"
            )
        size = jnp.asarray(sizes, grid.dtype)
    backwards = grid[::-1]
    return Steps(backwards[:-1], backwards[1:], size[::-1])


TOLD, REFUSED = 1.5, 1e3
"""Standard deviations that data of standard deviation one may come out with: above the first a
sampler says so, above the second it refuses."""


def check_stable(times: ArrayLike, method: str, dtype: DTypeLike, process: Process) -> None:
    """Tell, or refuse, a grid whose steps are too long for the method; concrete times only.

    The rule: the exact law of the samples, by the same steps, for two laws of which every score has
    something: N(0, 1), whose score is that of all data as ``t`` grows, and a point, whose score is
    the steepest of all. A step also must leave some digits: it multiplies by ``e^(h/2)`` and
    subtracts.

    Raises:
        ValueError: standard deviations above `REFUSED`, or steps that no digit survives.
    """
    if _checks.is_traced(times):
        return
    down: Any = np.asarray(times, np.float64)[::-1]
    levels = process.host_integrated_rate(down)
    rows = Steps._make((down[:-1], down[1:], levels[:-1] - levels[1:]))
    h = rows.size
    advice = (
        f"; of {h.size} steps the longest is {h.max():.3g} in the clock of rate one: take more "
        "steps or a smaller T"
    )
    if not method.startswith("ei") or h.max() < 2 * np.log(0.1 / float(jnp.finfo(dtype).eps)):
        spread = [_reference_spread(rows, method, process, variance) for variance in (1.0, 0.0)]
    else:
        spread = [np.inf, np.inf]
    unit = spread[0]
    wrong = max(unit, spread[1] - np.sqrt(process.host_variances(down[-1])[1]) + 1)
    if not wrong < REFUSED:
        raise ValueError(f"times are too coarse for {method}: its steps diverge" + advice)
    if wrong > TOLD:
        _checks.tell(
            f"times are coarse for {method}: data of standard deviation 1 come out with {unit:.2g},"
            f" a single point as a cloud of {spread[1]:.2g}" + advice
        )


def _reference_spread(rows: Steps, method: str, process: Process, variance: float) -> float:
    """Standard deviation of samples whose score is that of ``N(0, variance)``, in float64."""

    def slope(t: Any) -> np.ndarray:
        signal, noise = process.host_variances(t)
        return -1 / (signal * variance + noise)

    step, again = step_of(process, method, rows, np)
    factor = step.keep + step.push * slope(rows.start)
    if again is not None:
        factor = again.keep + (again.carry + again.push * slope(rows.stop)) * factor
    found = float(np.asarray(process._prior(rows.start[0])))
    with np.errstate(over="ignore"):
        for f, noise in zip(factor, np.broadcast_to(step.noise, factor.shape), strict=True):
            found = f * f * found + noise
    return float(np.sqrt(found))


class Coefficients(NamedTuple):
    """A step ``Y' = keep Y + push s(Y, t) + sqrt(noise) xi`` with the score at the step's start."""

    keep: Float[Array, ""]
    push: Float[Array, ""]
    noise: Float[Array, ""]


class Again(NamedTuple):
    """What follows a step to Y' in Heun's methods: ``keep Y + carry Y' + push s(Y', s)``."""

    keep: Float[Array, ""]
    carry: Float[Array, ""]
    push: Float[Array, ""]


def step_of(
    process: Process, method: str, row: Steps, xp: Any = jnp
) -> tuple[Coefficients, Again | None]:
    """One step of a method on a path, computed by `jnp` or by NumPy.

    A step of `coefficients` for ``Y/c_t``, whose score is ``c_t s``, is one for ``Y`` with
    ``keep c_s/c_t``, ``push c_s c_t`` and ``noise c_s^2``.
    """
    t, s, h = row
    if method.startswith("velocity"):
        return _along_velocity(process, method, row)
    c_t, c_s = process._scale(t), process._scale(s)
    if method == "heun_ode":
        # Y' = (Y + ahead)/2 + h/2 (ahead + score)/2 with ahead = Y + h (Y + score)/2.
        keep, push, noise = 1 + h / 2, h / 2, xp.zeros_like(h)
        again = Again(c_s / c_t / 2, 1 / 2 + h / 4, h / 4 * c_s**2)
    else:
        levels = (process._noise(t) / c_t**2, process._noise(s) / c_s**2)
        keep, push, noise = coefficients(method, h, levels, xp)
        again = None
    return Coefficients(keep * c_s / c_t, push * c_s * c_t, noise * c_s**2), again


def _along_velocity(process: Process, method: str, row: Steps) -> tuple[Coefficients, Again | None]:
    t, s, _ = row
    ahead = s - t
    p, q = process.drift(t)
    step = Coefficients(1 + ahead * p, ahead * q, 0 * ahead)
    if method == "velocity_ode":
        return step, None
    p, q = process.drift(s)
    half = ahead / 2
    return step, Again(0 * half + 1 / 2, 1 / 2 + half * p, half * q)


def coefficients(
    method: str, size: Any, levels: tuple[Any, Any] | None = None, xp: Any = jnp
) -> Coefficients:
    """The step of a method that evaluates the score once, on a variance-preserving path.

    With the score frozen, ``"ei_sde"`` and ``"ei_ode"`` solve the remaining linear equation
    exactly; ``"em_sde"`` freezes the whole drift. ``"ddpm_sde"`` and ``"ddim_ode"`` freeze the
    clean image; they need the noise's variances at the step's start and stop, `levels`.
    """
    zero = xp.zeros_like(size)
    if method == "em_sde":
        return Coefficients(1 + size / 2, size, size)
    growth = xp.expm1(size / 2)
    if method == "ei_sde":
        return Coefficients(1 + growth, 2 * growth, xp.expm1(size))
    if method == "ei_ode":
        return Coefficients(1 + growth, growth, zero)
    assert levels is not None, "these methods need the levels"
    start, stop = levels
    if method == "ddpm_sde":
        return Coefficients(1 + growth, 2 * xp.sinh(size / 2), -xp.expm1(-size) * stop / start)
    # sigma_t (e^(h/2) sigma_t - sigma_s), multiplied out so that short steps keep their digits.
    before, after = xp.sqrt(start), xp.sqrt(stop)
    return Coefficients(1 + growth, before * xp.expm1(size) / ((1 + growth) * before + after), zero)


def tweedie(t: Float[Array, ""], process: Process) -> Coefficients:
    """Denoising as a step: ``(x + sigma_t^2 s(x, t))/m_t``."""
    signal = process.signal(t)
    return Coefficients(1 / signal, process.noise_variance(t) / signal, jnp.zeros_like(t))
