"""Lemmas B.1, B.2, D.1, D.2, D.3: what their numbers say, and the statements."""

import math

import numpy as np

from benchmarks.judging import SIGMAS, Statement, Verdict, close, judged, worst_sigmas
from benchmarks.records import Record
from benchmarks.table import Table
from fsd_jax import theory


def _slope(rows: list[Record]) -> tuple[theory.Slope, float, float]:
    """In n_s, from 100 on: measured, of the exact curve, and of the bound."""
    own = [r for r in rows if r["n_s"] >= 100]
    fields = ("n_s", "value", "stderr", "exact", "bound")
    n, value, stderr, curve, limit = (np.array([r[k] for r in own]) for k in fields)
    exact, bound = (theory.loglog_slope(n, y).value for y in (curve, limit))
    return theory.loglog_slope(n, value, stderr), exact, bound


def finding(table: Table) -> str:
    """The rate that pre-training has beside Lemma D.3's, and where Lemma D.2 fails."""
    slope, _, bound = _slope(table.select(data="pre-training", lemma="D.3"))
    worst = max(table.select(data="beyond D.2"), key=lambda r: r["value"])
    return (
        f"What pre-training leaves falls like n_s^({slope.value:.3f} +- {slope.stderr:.1g}), Lemma "
        f"D.3's bound like n_s^({bound:.2f}); Lemma D.2's bound, allowed to fail with chance "
        f"{worst['bound']}, fails with up to {worst['value']:.3f} +- {worst['stderr']:.1g} "
        f"(d = {worst['d']}, n = {worst['n']})."
    )


def _source(rows: list[Record], lemma: str, claim: str) -> Verdict:
    """Sharper if the bound holds, the exact curve fits, and the measured rate beats the bound's."""
    (slope, exact, bound), worst = _slope(rows), worst_sigmas(rows)
    words = (
        f"Lemma {lemma}, latent Gaussian: the error falls like n_s^({slope.value:.3f}), the bound "
        f"like n_s^({bound:.2f}) ({claim}) and {min(r['bound'] / r['value'] for r in rows):.0e} "
        f"times above it or more; within {worst:.1f} standard errors of exact values"
    )
    return judged(
        slope,
        words,
        exact=exact,
        printed=all(r["value"] <= r["bound"] for r in rows),
        ours=worst <= SIGMAS and abs(slope.value - exact) <= SIGMAS * slope.stderr + 0.01,
        beyond=slope.high < bound,
    )


def lemma_b_1(table: Table) -> Verdict:
    """See `_source`."""
    rows = table.select(data="pre-training", lemma="B.1")
    return _source(rows, "B.1", "exponent -(2 - 2 alpha)/(d + 5)")


def lemma_d_3(table: Table) -> Verdict:
    """See `_source`."""
    return _source(table.select(data="pre-training", lemma="D.3"), "D.3", "claimed -1/2")


def lemma_b_2(table: Table) -> Verdict:
    """Sharper if the exact covering number lies below the bound and grows at a lower rate."""
    rows = sorted(table.select(data="covering"), key=lambda r: -r["iota"])
    apart = table.one(data="distance of two scores")
    first, last = rows[-3], rows[-1]
    step = math.log(first["iota"] / last["iota"])
    rate = (last["value"] - first["value"]) / step
    claimed = (last["bound"] - first["bound"]) / step
    words = (
        f"D = 2, d = 1, linear f: log N grows with log(1/iota) at the rate {rate:.3f}, the "
        f"subspaces' dimension d(D - d) = 1; the bound's is {claimed:.2f}"
    )
    return judged(
        (rate, rate, rate),
        words,
        exact=1.0,
        printed=all(r["value"] <= r["bound"] for r in rows),
        ours=close(apart["value"], apart["exact"], 1e-9) and abs(rate - 1) < 0.01,
        beyond=rate < 0.5 * claimed,
    )


def lemma_d_1(table: Table) -> Verdict:
    """Confirmed if the exact chance of failing never exceeds delta_1, over coins and slacks."""
    rows = table.select(data="coins")
    worst = max(rows, key=lambda r: r["value"])
    words = (
        f"exact binomial chances for classes of 1 and 8 coins, {len(rows)} cells, the worst of 24 "
        f"biases and slacks in each: at most {worst['value']:.1e} where {worst['bound']} is allowed"
    )
    sound = all(0 <= r["value"] <= 1 for r in rows)
    ends = worst["value"], 0.0, worst["value"]
    return judged(ends, words, printed=worst["value"] <= worst["bound"], ours=sound)


def lemma_d_2(table: Table) -> Verdict:
    """Printed: the bound fails with probability delta_1 at most. Ours: from x <= 1, times 1.5."""
    rows = table.select(data="beyond D.2")
    scale = table.select(data="quantile over D.2")
    settled = [r["value"] for r in scale if r["n"] >= r["d"] + 3]
    worst = max(rows, key=lambda r: r["value"])
    over = [r for r in rows if r["value"] - SIGMAS * r["stderr"] > r["bound"]]
    one = next(r for r in rows if r["n"] == 1 and r["d"] == max(c["d"] for c in rows))
    exact = _one_vector(one["d"], one["bound"])
    words = (
        f"normal vectors, delta_1 = {worst['bound']}: the bound fails too often in {len(over)} of "
        f"{len(rows)} cells, with chance {one['value']:.3f} at d = {one['d']}, n = 1 (chi-square: "
        f"{exact:.3f}); where n >= d + log(1/delta_1), {max(settled):.2f} times the bound serves"
    )
    agree = abs(one["value"] - exact) <= SIGMAS * one["stderr"] and max(settled) < 1.6
    return judged(one | {"exact": exact}, words, printed=not over, ours=agree)


def _one_vector(d: int, failure: float) -> float:
    """P(| |a|^2 - 1 | > bound) for one normal vector of even dimension (Erlang's sum)."""
    limit = theory.lemma_d_2(latent_dim=d, n=1, failure=failure).value
    half = (1 + limit) / 2
    above = sum(math.exp(k * math.log(half) - half - math.lgamma(k + 1)) for k in range(d // 2))
    # The bound exceeds one, so that the lower side cannot be left.
    return above


LEMMAS = "tests/theory/test_lemmas.py::"
STATEMENTS = (
    Statement(
        name="Lemma B.1",
        place="B.1",
        says="With the right V the frozen network costs d eps^2/delta and a power of n_s",
        function="fsd_jax.theory.lemma_b_1",
        test=LEMMAS + "test_lemma_b_1_is_theorem_4_3s_source_term_over_the_interval",
        rule=lemma_b_1,
    ),
    Statement(
        name="Lemma B.2",
        place="B.2",
        says="The fine-tuned class has log covering number O(2 D d log(1/(delta iota)))",
        function="fsd_jax.theory.lemma_b_2",
        test=LEMMAS + "test_lemma_b_2_bounds_the_covering_of_a_circle",
        rule=lemma_b_2,
    ),
    Statement(
        name="Lemma D.1",
        place="D.1",
        says="Means over a bounded class are near expectations: Bernstein's bound with coverings",
        function="fsd_jax.theory.lemma_d_1",
        test=LEMMAS + "test_lemma_d_1_holds_for_coins",
        rule=lemma_d_1,
    ),
    Statement(
        name="Lemma D.2",
        place="D.2",
        says="A sample covariance is within 2 rho^2 sqrt((d + log(1/delta_1))/n) of the identity, "
        "for every n",
        function="fsd_jax.theory.lemma_d_2",
        test=LEMMAS + "test_lemma_d_2_fails_where_vectors_are_few_and_its_constant_is_short",
        rule=lemma_d_2,
    ),
    Statement(
        name="Lemma D.3",
        place="D.3",
        says="For a Gaussian latent pre-training leaves a score error of order 1/sqrt(n_s)",
        function="fsd_jax.theory.lemma_d_3",
        test=LEMMAS + "test_lemma_d_3_lies_above_the_exact_error_and_falls_half_as_fast",
        rule=lemma_d_3,
    ),
)
