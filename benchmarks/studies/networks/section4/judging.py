"""Theorem 4.3 for ReLU networks, and its assumptions in the worlds where it is measured."""

import numpy as np

from benchmarks.judging import SIGMAS, Statement, Verdict, close, interval, judged, worst_sigmas
from benchmarks.records import Record
from benchmarks.table import Table
from fsd_jax import theory

ESCAPES = 2.0
"""How many times above few-shot another method must lie, two standard errors of both included."""


def settled(table: Table, method: str, d: int) -> list[Record]:
    """Enough samples to see every direction, fewest first."""
    rows = table.select(metric="score_error", method=method, d=d)
    return sorted((r for r in rows if r["n_ta"] >= d), key=lambda r: r["n_ta"])


def _slope(rows: list[Record]) -> theory.Slope:
    n, value, bar = (np.array([r[name] for r in rows]) for name in ("n_ta", "value", "stderr"))
    return theory.loglog_slope(n, value, bar)


def _gap(upper: Record, lower: Record) -> float:
    """The least ratio in the two intervals, two standard errors each."""
    return float(interval(upper)[0] / interval(lower)[1])


def _within_the_rate(rows: list[Record]) -> bool:
    """No error above the first one's n_ta^(-1/2), on top of the floor that n_s leaves."""
    first, floor = rows[0], rows[-1]["value"]
    return all(
        r["value"] - SIGMAS * r["stderr"]
        <= first["value"] * (r["n_ta"] / first["n_ta"]) ** -0.5 + floor
        for r in rows
    )


def theorem(table: Table) -> Verdict:
    """Confirmed if few-shot keeps to n_ta^(-1/2) above its floor and scratch needs more samples.

    From n_ta >= d on. Scratch must have more than twice few-shot's error, two standard errors of
    both included, at the least such n_ta of every d. Sharper if few-shot falls faster than
    n_ta^(-1/2).
    """
    words, right, slopes = [], True, []
    for d in table.settings["d"]:
        few, scratch = (settled(table, method, d) for method in ("fewshot", "scratch"))
        own, rival = _slope(few), _slope(scratch)
        gap = _gap(scratch[0], few[0])
        right = right and gap > ESCAPES and _within_the_rate(few) and rival.high < 0
        met = [
            str(s["n_ta"]) for s, f in zip(scratch, few, strict=True) if s["value"] <= f["value"]
        ]
        meets = (
            f"is no worse at {', '.join(met)}" if met else f"is above it up to {few[-1]['n_ta']}"
        )
        slopes.append(own)
        words.append(
            f"d = {d}: at n_ta = {few[0]['n_ta']} few-shot has {few[0]['value']:.2g} +- "
            f"{2 * few[0]['stderr']:.1g}, scratch {scratch[0]['value']:.2g} +- "
            f"{2 * scratch[0]['stderr']:.1g} and {meets}; slopes past d {own.value:.2f} "
            f"[{own.low:.2f}, {own.high:.2f}] (claimed at most -1/2, down to the floor that n_s "
            f"leaves) and {rival.value:.2f} [{rival.low:.2f}, {rival.high:.2f}] (claimed -2/d)"
        )
    beyond = all(s.high < -0.5 for s in slopes)
    return judged(slopes[0], "; ".join(words), ours=right, beyond=beyond)


def overfits(table: Table) -> Verdict:
    """Printed: everything tuned falls like n_ta^(-2/d). Ours: it is far above few-shot at first."""
    words, printed, worse, slopes = [], True, True, []
    for d in table.settings["d"]:
        few, full = (settled(table, method, d) for method in ("fewshot", "full"))
        own = _slope(full)
        worse = worse and _gap(full[0], few[0]) > ESCAPES
        printed = printed and own.low <= -2 / d <= own.high
        slopes.append(own)
        words.append(
            f"d = {d}: tuning all weights from the few-shot model takes the error from "
            f"{few[0]['value']:.2g} to {full[0]['value']:.2g} +- {2 * full[0]['stderr']:.1g} at "
            f"n_ta = {few[0]['n_ta']}; it then falls with slope {own.value:.2f} "
            f"[{own.low:.2f}, {own.high:.2f}], claimed {-2 / d:.2g}"
        )
    return judged(slopes[0], "; ".join(words), printed=printed, ours=worse)


def moments(table: Table) -> Verdict:
    """Confirmed if sampled moments are those of the law, and the least of them is positive."""
    rows = [r for name in ("C_Z", "c_0") for r in table.select(metric=name)]
    worst = worst_sigmas(rows)
    right = worst <= SIGMAS and all(r["exact"] > 0 for r in rows)
    words = (
        "an assumption, satisfied by the mixtures of Gaussians that networks are trained on: "
        f"C_Z and c_0 within {worst:.1f} standard errors of samples"
    )
    return judged(table.select(metric="C_Z")[0], words, ours=right)


def lipschitz(table: Table) -> Verdict:
    """Confirmed if the slopes stay below the mixture's bound as t goes to 0, and end at noise's."""
    rows = table.select(metric="Lipschitz")
    worst = max(rows, key=lambda r: r["value"] / r["bound"])
    latest = max(r["t"] for r in rows)
    right = all(r["value"] <= r["bound"] for r in rows)
    right = right and all(close(r["value"], 1.0, 0.02) for r in rows if r["t"] == latest)
    words = (
        "an assumption, satisfied by the mixtures: largest slope of the on-support score at "
        f"sampled points {worst['value']:.3g} at t = {worst['t']:g}, bound {worst['bound']:.3g}"
    )
    return judged(worst, words, ours=right)


CONSTANTS = "tests/test_latent.py::test_constants_of_the_assumptions"
TAKEN = "tests/latent_net/test_latent_net.py::test_few_shot_takes_the_network_along"
STATEMENTS = (
    Statement(
        name="Assumption 4.1, networks",
        place="4.1 assumptions",
        says="The latents that networks are trained on have lambda_min >= c_0 and E |Z|^2 <= C_Z",
        function="fsd_jax.latent_constants",
        test=CONSTANTS,
        rule=moments,
    ),
    Statement(
        name="Assumption 4.2, networks",
        place="4.1 assumptions",
        says="The on-support score of these latents is beta-Lipschitz at every t",
        function="fsd_jax.latent_constants",
        test=CONSTANTS,
        rule=lipschitz,
    ),
    Statement(
        name="Theorem 4.3",
        place="4.3",
        says="Few-shot models have score error O(n_s^(-2/d) + n_ta^(-1/2)), for ReLU networks",
        function="fsd_jax.latent_net.plan_section4",
        test=TAKEN,
        rule=theorem,
    ),
    Statement(
        name="Section 4.1, everything tuned",
        place="4.3 Section 4.1",
        says="Fine-tuning every weight falls back to n_ta^(-2/d)",
        function="fsd_jax.latent_net.finetune",
        test=TAKEN,
        rule=overfits,
    ),
)
