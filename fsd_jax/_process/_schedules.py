"""The schedules of well-known models, by name: a path and the times at which they stop on it."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fsd_jax import _checks
from fsd_jax._process._path import Process
from fsd_jax._process._paths import VE, Flow
from fsd_jax._process._vp import VP

SCHEDULES = ("ddpm_linear", "ddpm_cosine", "edm", "sd3")
LEVELS = 1000
"""Noise levels that DDPM's and Stable Diffusion's networks are trained on."""


class Schedule(NamedTuple):
    """What `schedule` returns.

    Attributes:
        process: the path.
        times: ``(steps + 1,)`` increasing times on it, for the samplers.
        labels: ``(steps + 1,)`` what the source's networks are told at these times.
    """

    process: Process
    times: Float[Array, " points"]
    labels: Float[Array, " points"]


def schedule(name: str, *, steps: int) -> Schedule:
    """The noise schedule of a well-known model.

    Each of them ends with a step to the clean image: pass ``denoise=True`` to the sampler.

    - ``"ddpm_linear"``: ``beta_k`` from 1e-4 to .02 at 1000 levels, ``alpha_bar = prod (1 - beta)``
      (Ho, Jain and Abbeel, "Denoising diffusion probabilistic models", 2020). Any such product is
      ``VP()`` at ``t = -log alpha_bar``, exactly; `VP.linear` with .1 and 20 is its limit for many
      levels. Of the levels `steps` + 1 are taken at equal distances. Labels: the level k from 0.
    - ``"ddpm_cosine"``: ``alpha_bar`` like ``cos^2((k/1000 + .008)/1.008 pi/2)``, every ``beta`` at
      most .999 (Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", 2021).
      Labels: the level.
    - ``"edm"``: `VE` with ``sigma^(1/7)`` at equal distances from .002 to 80 (Karras, Aittala, Aila
      and Laine, "Elucidating the design space of diffusion-based generative models", 2022, eq. 5).
      Its sampler is ``"velocity_heun_ode"``. Labels: ``log(sigma)/4``.
    - ``"sd3"``: `Flow` at equal distances, then shifted, ``3t/(1 + 2t)`` (Esser et al., "Scaling
      rectified flow transformers for high-resolution image synthesis", 2024, eq. 23, for 1024
      pixels a side); before the shift a thousandth is left at either end. Its sampler is
      ``"velocity_ode"``. Labels: ``1000 t``.

    Implements: "Any Gaussian path".

    Args:
        name: one of the above.
        steps: steps between the times, at most 999 for DDPM.

    Returns:
        The path, the times and the labels.

    Raises:
        ValueError: an unknown name, or a number of steps out of range.

    Example:
        >>> import fsd_jax as fsd
        >>> process, times, labels = fsd.schedule("edm", steps=17)
        >>> process, [round(float(t), 3) for t in (times[0], times[-1])]
        (VE(), [0.002, 80.0])
    """
    _checks.choice("name", name, SCHEDULES)
    ddpm = name.startswith("ddpm")
    steps = _checks.dimension("steps", steps, high=LEVELS - 1 if ddpm else np.inf)
    share = np.linspace(0.0, 1.0, steps + 1)
    if ddpm:
        level = np.rint((LEVELS - 1) * share).astype(int)
        beta = _linear_rates() if name == "ddpm_linear" else _cosine_rates()
        return _schedule(VP(), -np.cumsum(np.log1p(-beta))[level], level)
    if name == "edm":
        low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
        sigma = (low + (high - low) * share) ** 7
        return _schedule(VE(), sigma, np.log(sigma) / 4)
    even = (1 + (LEVELS - 2) * share) / LEVELS
    shifted = 3 * even / (1 + 2 * even)
    return _schedule(Flow(), shifted, LEVELS * shifted)


def _schedule(process: Process, times: np.ndarray, labels: np.ndarray) -> Schedule:
    return Schedule(process, jnp.asarray(times, float), jnp.asarray(labels, float))


def _linear_rates() -> np.ndarray:
    return np.linspace(1e-4, 0.02, LEVELS)


def _cosine_rates() -> np.ndarray:
    angle = (np.arange(LEVELS + 1) / LEVELS + 0.008) / 1.008 * np.pi / 2
    left = np.cos(angle) ** 2
    return np.minimum(1 - left[1:] / left[:-1], 0.999)
