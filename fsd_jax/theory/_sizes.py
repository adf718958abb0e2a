"""Sample sizes and variances as the exact curves take them."""

import numpy as np
from jax.typing import ArrayLike

from fsd_jax import _checks, _process
from fsd_jax._process import Process
from fsd_jax.theory._bounds import number
from fsd_jax.theory._wishart import LARGEST, MOST_SAMPLES


def shares(
    latent_variance: float, t: ArrayLike, process: Process
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Signal's and noise's share of the noised truth's variance, and that variance.

    Neither share is one less the other, which would lose the small one.
    """
    _process.check(process)
    lam2 = number("latent_variance", latent_variance)
    signal, noise = process.host_variances(np.asarray(t))
    level = signal * lam2 + noise
    return signal * lam2 / level, noise / level, level


def sizes(latent_dim: int, n_ta: int, *, exact: bool) -> tuple[int, int]:
    """``(d, n_ta)``, refused by their own names where the `exact` expectation cannot go."""
    d = _checks.dimension("latent_dim", latent_dim, high=MOST_SAMPLES)
    n = _checks.dimension("n_ta", n_ta, high=MOST_SAMPLES)
    if exact and min(d, n) > LARGEST:
        raise ValueError(
            f"latent_dim = {d} with n_ta = {n}: the exact expectation goes up to {LARGEST} for the "
            "smaller of the two; expected_subspace_error(method='asymptotic') is accurate there, "
            "and estimator='orthonormal' has no such limit"
        )
    return d, n


def draws(d: int, n_s: int) -> int:
    """Degrees of freedom of the source's variance."""
    return d * _checks.dimension("n_s", n_s, high=MOST_SAMPLES // d)
