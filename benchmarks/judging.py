"""Statements of the paper, and verdicts: words that follow from numbers by stated rules."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.records import Record
from benchmarks.table import Table
from fsd_jax.theory import Slope

CONFIRMED, SHARPER, CORRECTED = "confirmed", "sharper", "corrected"
NOT_REPRODUCED, NOT_TESTABLE = "not reproduced", "not testable here"
VERDICTS = (CONFIRMED, SHARPER, CORRECTED, NOT_REPRODUCED, NOT_TESTABLE)
SIGMAS = 4.0
"""A mean may be this many standard errors from its exact value: one in 16,000 is not, by chance."""

EXACT = 1e-9
"""Numbers without chance in them, in float64, are equal to this."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the results say about a statement.

    Attributes:
        verdict: one of `VERDICTS`.
        reason: why, with the numbers.
        measured: the number that decides.
        low: lower end of its interval.
        high: upper end.
        exact: its exact value, where known.
    """

    verdict: str
    reason: str
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    exact: float | None = None


Rule = Callable[[Table], Verdict]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One claim.

    Attributes:
        name: where the paper makes it.
        place: the section or result, by which statements are sorted: ``"3.1"``, ``"B.2"``,
            ``"slip"``, ``"z"`` for what goes beyond the paper.
        says: what it says, in our words.
        function: dotted name of what implements it.
        test: node id of the test that pins that; None only while the function is missing.
        rule: from the study's table to a verdict; None only while the function is missing.
        figure: the figure whose table the rule reads; filled in by the study that holds it.
    """

    name: str
    place: str
    says: str
    function: str
    test: str | None = None
    rule: Rule | None = None
    figure: str = ""


def slip(where: str, says: str, function: str, test: str, rule: Rule) -> Statement:
    """A slip of the paper's text."""
    return Statement(
        name=f"Slip: {where}", place="slip", says=says, function=function, test=test, rule=rule
    )


def decide(*, ours: bool, printed: bool = True, beyond: bool = False) -> str:
    """The verdict of two comparisons with the measurement.

    Args:
        ours: the exact form that this project puts beside it holds in it. If not, nothing has been
            shown, whatever the paper says.
        printed: the paper's statement holds in it; it need not be told if it is `ours`.
        beyond: more than the statement holds, so that it can be sharpened.
    """
    if not ours:
        return NOT_REPRODUCED
    if not printed:
        return CORRECTED
    return SHARPER if beyond else CONFIRMED


def judged(
    number: Record | Slope | tuple[float, float, float],
    reason: str,
    *,
    exact: float | None = None,
    **compared: bool,
) -> Verdict:
    """A verdict on one number.

    Args:
        number: a row, which brings its interval and its exact value; a slope; or a value and its
            ends.
        reason: why, with the numbers.
        exact: its exact value, where no row brings it.
        **compared: see `decide`.
    """
    if isinstance(number, dict):
        value, (low, high), exact = number["value"], interval(number), number.get("exact")
    elif isinstance(number, tuple):
        value, low, high = number
    else:
        value, low, high = number.value, number.low, number.high
    verdict = decide(**compared)
    return Verdict(verdict=verdict, reason=reason, measured=value, low=low, high=high, exact=exact)


def sigmas(row: Record) -> float:
    """Distance of a mean from its exact value in standard errors."""
    return abs(row["value"] - row["exact"]) / row["stderr"]


def worst_sigmas(rows: Iterable[Record]) -> float:
    """The largest such distance."""
    return max(sigmas(r) for r in rows)


def interval(row: Record) -> tuple[float, float]:
    """Two standard errors on both sides, or the row's own interval."""
    if row.get("low") is not None:
        return row["low"], row["high"]
    width = 2 * (row["stderr"] or 0.0)
    return row["value"] - width, row["value"] + width


def close(a: float, b: float, tolerance: float) -> bool:
    """Equal up to a relative tolerance, for numbers without chance in them."""
    return abs(a - b) <= tolerance * max(abs(a), abs(b))
