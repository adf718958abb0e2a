"""Time grids for samplers: equal steps, equal ratios, and the paper's rule."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fsd_jax import _checks
from fsd_jax._process._path import interval, plain_number


def uniform_grid(delta: float, T: float, steps: int) -> Float[Array, " points"]:
    """``steps + 1`` equally spaced times from `delta` to `T`, increasing."""
    low, high = interval(delta, T)
    return jnp.asarray(np.linspace(low, high, _checks.dimension("steps", steps) + 1), float)


def geometric_grid(delta: float, T: float, steps: int) -> Float[Array, " points"]:
    """``steps + 1`` times from `delta` to `T` with a constant ratio, increasing."""
    low, high = interval(delta, T)
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
    low, high = interval(delta, T)
    rate, lipschitz = plain_number("rate", rate), plain_number("lipschitz", lipschitz)
    if rate >= 1:
        raise ValueError(f"rate must be in (0, 1), got {rate!r}")
    times = [high]
    while times[-1] > low:
        step = rate * min(max(times[-1], 1 / lipschitz), 1.0)
        times.append(max(times[-1] - step, low))
        if len(times) > 1_000_000:
            raise ValueError(f"rate={rate!r} needs over a million steps; choose a larger one")
    return jnp.asarray(times[::-1], float)
