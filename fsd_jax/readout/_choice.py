"""The strength with the least leave-one-out loss, and what is gained over the prior."""

from dataclasses import dataclass

import numpy as np
from jax.typing import ArrayLike

from fsd_jax.readout._left_out import leave_one_out
from fsd_jax.readout._solve import checked_strengths, solve
from fsd_jax.readout._sums import Readout


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Choice:
    """Weights fitted with a strength that the data chose.

    Attributes:
        weights: ``(p, q)``.
        strength: the chosen one; infinity is the prior.
        losses: ``(k, groups)`` leave-one-out losses at every strength.
        strengths: ``(k,)``.
        gain: the prior's leave-one-out loss minus the chosen one's, mean over groups.
        gain_stderr: its standard error over groups, paired; NaN with one group.
    """

    weights: np.ndarray
    strength: float
    losses: np.ndarray
    strengths: np.ndarray
    gain: float
    gain_stderr: float

    def __repr__(self) -> str:
        return (
            f"Choice(strength={self.strength:g}, leave-one-out gain {self.gain:.4g} +- "
            f"{self.gain_stderr:.2g} over the prior)"
        )


def choose(
    sums: Readout,
    *,
    prior: ArrayLike,
    strengths: ArrayLike,
    metric: ArrayLike | Readout | None = None,
) -> Choice:
    """Fit with the strength whose leave-one-out loss is least; the prior if none is sure to help.

    A strength is taken only if its gain over the prior is above its own standard error over the
    groups, so that the result is no worse than the prior beyond that.

    Args:
        sums: of the data.
        prior: see `solve`.
        strengths: ``(k,)`` to choose from; the prior itself always is one.
        metric: see `solve`.

    Raises:
        ValueError: as `leave_one_out`.
    """
    mus = checked_strengths(strengths)
    mus = mus if np.isinf(mus).any() else np.append(mus, np.inf)
    losses = leave_one_out(sums, prior=prior, strengths=mus, metric=metric)
    there = sums.count > 0
    gains = losses[np.isinf(mus)][:1] - losses
    mean = gains[:, there].mean(axis=1)
    stderr = gains[:, there].std(axis=1, ddof=1) / np.sqrt(there.sum())
    best = int(np.argmax(mean))
    if not mean[best] > stderr[best]:
        best = int(np.argmax(np.isinf(mus)))
    strength = float(mus[best])
    return Choice(
        weights=solve(sums, prior=prior, strength=strength, metric=metric),
        strength=strength,
        losses=losses,
        strengths=mus,
        gain=float(mean[best]),
        gain_stderr=float(stderr[best]),
    )
