"""What the checks share: a world, its levels, and the verdict on three numbers."""

import jax
import numpy as np

import fsd_jax as fsd
from benchmarks.judging import SIGMAS, Verdict, close, judged
from benchmarks.records import Record
from benchmarks.study import Settings


def problem(s: Settings, seed: int) -> fsd.LinearProblem:
    """A linear world with different latent variances."""
    return fsd.LinearProblem.random(
        jax.random.key(seed), ambient_dim=s["D"], latent_dim=s["d"], latent_variance=s["lam2"]
    )


def levels(t: float) -> tuple[float, float]:
    """Signal and noise variance at a time."""
    signal, noise = fsd.VP().host_variances(np.asarray(t))
    return float(signal), float(noise)


def three(row: Record, words: str, *, tolerance: float = 1e-6) -> Verdict:
    """Measured against ours and against what is printed."""
    measured, ours, printed = row["value"], row["exact"], row["printed"]
    if row["stderr"]:
        agree, holds = (abs(measured - x) <= SIGMAS * row["stderr"] for x in (ours, printed))
    else:
        agree, holds = (close(measured, x, tolerance) for x in (ours, printed))
    reason = f"{words}: measured {measured:.5g}, ours {ours:.5g}, printed {printed:.5g}"
    return judged(row, reason, printed=holds, ours=agree)
