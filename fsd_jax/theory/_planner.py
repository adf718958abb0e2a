"""How many target samples: from the exact curves, or by the paper's rules."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fsd_jax import _checks, _process
from fsd_jax._process import VP, Process
from fsd_jax.theory._curves import expected_subspace_error, source_subspace_error
from fsd_jax.theory._score_curves import ESTIMATORS, expected_kl, expected_score_error
from fsd_jax.theory._table_one import samples_by_rule
from fsd_jax.theory._wishart import LARGEST

RULES = ("curve", "match_source", "four_over_d", "stated")
METRICS = ("subspace", "score", "kl")
MOST = 10**15
"""More samples than this are not looked for: the curves keep eight digits up to here."""


@dataclass(frozen=True, kw_only=True)
class SampleSize:
    """An answer to "how many target samples?".

    Attributes:
        n_ta: the number, or None where the rule gives none.
        rule: the rule that was used.
        reason: how the number came about, or why there is none, and the floor.
        error: the exact expected error at `n_ta`; None without a number, or without a latent
            variance and a time.
        floor: ``max(d - n_ta, 0)``, below which the subspace error cannot be; None without a
            number.
    """

    n_ta: int | None
    rule: str
    reason: str
    error: float | None = None
    floor: int | None = None


def plan(
    *,
    latent_dim: int,
    n_s: int | None = None,
    rule: str = "curve",
    target: float | None = None,
    metric: str = "subspace",
    estimator: str = "orthonormal",
    latent_variance: float | None = None,
    time: float | None = None,
    process: Process = VP(),
) -> SampleSize:
    """How many target samples are needed.

    Rules:

    - ``"curve"``: the smallest ``n_ta`` whose exact expected error is at most `target`.
    - ``"match_source"``: the smallest ``n_ta`` whose part of the exact subspace error is at most
      the source's, ``d(d+1)/n_ta <= 2/n_s`` to leading order. So matching the pre-training error
      takes about ``d(d+1) n_s/2`` target samples.
    - ``"four_over_d"``, ``"stated"``: the paper's, see `samples_by_rule`.

    Below ``n_ta = d`` at least ``d - n_ta`` directions are missing (R6), which every reason states.

    Implements: R4, R6, R8, R19 (curves); Table 1 (the paper's rules); "Planning".

    Args:
        latent_dim: ``d``.
        n_s: number of source samples; None is a perfect source (``"curve"`` only).
        rule: one of the above.
        target: the error to reach (``"curve"`` only).
        metric: ``"subspace"``, the error of the rank-d minimiser as in `expected_subspace_error`;
            ``"score"``, as in `expected_score_error`; or ``"kl"`` in nats, as in `expected_kl`.
        estimator: for ``"score"`` and ``"kl"``: ``"orthonormal"`` or ``"scratch"``.
        latent_variance: ``lambda^2``; needed by the first two rules.
        time: ``t``; needed by the first two rules.
        process: forward process.

    Returns:
        The plan. With the paper's rules its `error` is exact if `latent_variance` and `time` are
        given.

    Raises:
        ValueError: values out of range, or arguments that the rule needs and that are missing.

    Example:
        >>> from fsd_jax import theory
        >>> world = dict(latent_dim=25, n_s=60_000, latent_variance=1.0, time=0.5)
        >>> theory.plan(target=0.1, **world).n_ta
        1032
        >>> paper = theory.plan(rule="four_over_d", **world)
        >>> paper.n_ta, paper.floor, paper.error > 19
        (6, 19, True)
        >>> theory.plan(rule="match_source", **world).n_ta // 60_000
        324
    """
    for name, value, options in [
        ("rule", rule, RULES),
        ("metric", metric, METRICS),
        ("estimator", estimator, ESTIMATORS),
    ]:
        _checks.choice(name, value, options)
    d = _checks.dimension("latent_dim", latent_dim)
    _process.check(process)
    known = latent_variance is not None and time is not None
    limited = metric == "subspace" or estimator == "scratch"
    if known and limited and d > LARGEST and rule in ("curve", "match_source"):
        raise ValueError(
            f"latent_dim must be at most {LARGEST} for rule={rule!r}, whose exact curve goes no "
            f"further, got {d}; metric='score' or 'kl' with estimator='orthonormal' has no limit"
        )
    if rule in ("curve", "match_source") and not known:
        raise ValueError(f"rule={rule!r} needs latent_variance= and time=; give both")
    if rule != "curve" and n_s is None:
        raise ValueError(f"rule={rule!r} needs n_s=; give the number of source samples")
    world: dict[str, Any] = dict(
        latent_dim=d, latent_variance=latent_variance, time=time, process=process
    )
    curve: Callable[..., float] = partial(expected_subspace_error, **world, n_s=n_s)
    if metric != "subspace":
        error = expected_score_error if metric == "score" else expected_kl
        curve = partial(error, **world, n_s=n_s, estimator=estimator)
    if rule == "curve":
        if target is None:
            raise ValueError("rule='curve' needs target=; give the error to reach")
        goal = float(_checks.positive("target", target, np.float64, ndim=(0,))[0])
        n_ta, reason = _by_curve(curve, goal, metric)
    elif rule == "match_source":
        n_ta, reason = _match_source(world, n_s)
    else:
        n_ta = samples_by_rule(n_s=n_s or 0, latent_dim=d, rule=rule)
        reason = _paper_reason(rule)
    if n_ta is None:
        return SampleSize(n_ta=None, rule=rule, reason=f"{reason}; {_floor_words(d, 0)}")
    return SampleSize(
        n_ta=n_ta,
        rule=rule,
        reason=f"{reason}; {_floor_words(d, n_ta)}",
        error=curve(n_ta=n_ta) if known else None,
        floor=max(d - n_ta, 0),
    )


def _by_curve(curve: Callable[..., float], goal: float, metric: str) -> tuple[int | None, str]:
    n = _smallest(lambda n: curve(n_ta=n) <= goal)
    if n is None:
        left = curve(n_ta=MOST)
        return None, (
            f"no number of target samples brings the exact {metric} error to {goal:.3g}: "
            f"{left:.3g} is left by the source even after {MOST:.0e}"
        )
    words = f"the exact {metric} error is {curve(n_ta=n):.4g} <= {goal:.4g} at n_ta = {n}"
    return n, words + (f" and {curve(n_ta=n - 1):.4g} one sample earlier" if n > 1 else "")


def _match_source(world: dict[str, Any], n_s: int | None) -> tuple[int | None, str]:
    part = source_subspace_error(**world, n_s=n_s or 0)
    if not np.isfinite(part):
        return None, "the source's expected error is infinite: it needs d n_s > 4"
    n = _smallest(lambda n: expected_subspace_error(**world, n_ta=n) <= part)
    if n is None:
        return None, f"more than {MOST:.0e} target samples are needed to match {part:.3g}"
    d = world["latent_dim"]
    return n, (
        f"the target's part of the exact subspace error falls to the source's, {part:.3g}, "
        f"at n_ta = {n}, about d(d+1) n_s/2 = {d * (d + 1) * (n_s or 0) // 2}"
    )


def _paper_reason(rule: str) -> str:
    if rule == "stated":
        return (
            "Theorem 4.3's condition n_ta^((d+5)/(4(1-alpha(n_s)))) >= n_s, which gives no number "
            "where alpha(n_s) = d log log n_s/log n_s is not below one"
        )
    return "n_s^(4/d) rounded up equates two rates whose constants and logarithms are dropped"


def _floor_words(d: int, n_ta: int) -> str:
    if n_ta >= d:
        return f"the floor d - n_ta does not bind for n_ta >= d = {d}"
    if n_ta == 0:
        return f"below n_ta = d = {d} the subspace error is at least d - n_ta"
    return f"the target shows {n_ta} of {d} directions: subspace error at least {d - n_ta}"


def _smallest(reached: Callable[[int], bool]) -> int | None:
    """The least n that is enough, by doubling and bisection on a falling curve."""
    high = 1
    while not reached(high):
        if high >= MOST:
            return None
        high = min(2 * high, MOST)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
