"""Verdicts: words that follow from numbers by stated rules."""

from collections.abc import Iterable
from dataclasses import dataclass

from paper_figures.table import Row

CONFIRMED, SHARPER, CORRECTED = "confirmed", "sharper", "corrected"
NOT_REPRODUCED, NOT_TESTABLE = "not reproduced", "not testable here"
VERDICTS = (CONFIRMED, SHARPER, CORRECTED, NOT_REPRODUCED, NOT_TESTABLE)
SIGMAS = 4.0
"""A mean may be this many standard errors from its exact value: one in 16,000 is not, by chance."""


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


def decide(*, printed: bool, ours: bool, beyond: bool = False) -> str:
    """The verdict of two comparisons with the measurement.

    Args:
        printed: the paper's statement holds in it.
        ours: the exact form that this project puts beside it holds in it. If not, nothing has been
            shown, whatever the paper says.
        beyond: more than the statement holds, so that it can be sharpened.
    """
    if not ours:
        return NOT_REPRODUCED
    if not printed:
        return CORRECTED
    return SHARPER if beyond else CONFIRMED


def sigmas(row: Row) -> float:
    """Distance of a mean from its exact value in standard errors."""
    return abs(row["value"] - row["exact"]) / row["stderr"]


def worst_sigmas(rows: Iterable[Row]) -> float:
    """The largest such distance."""
    return max(sigmas(r) for r in rows)


def interval(row: Row) -> tuple[float, float]:
    """Two standard errors on both sides, or the row's own interval."""
    if row.get("low") is not None:
        return row["low"], row["high"]
    width = 2 * (row["stderr"] or 0.0)
    return row["value"] - width, row["value"] + width


def close(a: float, b: float, tolerance: float) -> bool:
    """Equal up to a relative tolerance, for numbers without chance in them."""
    return abs(a - b) <= tolerance * max(abs(a), abs(b))
