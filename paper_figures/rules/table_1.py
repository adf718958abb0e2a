"""Table 1."""

from paper_figures.figures import table_1 as figure
from paper_figures.table import Table
from paper_figures.verdicts import CONFIRMED, CORRECTED, NOT_REPRODUCED, Verdict, decide


def _values(table: Table, rule: str) -> list[int | None]:
    return [r["value"] for r in table.select(series="n_ta", rule=rule)]


def printed_row(table: Table) -> Verdict:
    """Confirmed if the summary's rule gives the printed row; corrected if it gives another."""
    printed, short = _values(table, figure.PRINTED), _values(table, figure.SHORT)
    floored = _values(table, figure.FLOORED)
    equal = sum(a == b for a, b in zip(printed, short, strict=True))
    # The rule that does give the printed row must be what it says it is.
    works = all(f == max(5, s or 0) for f, s in zip(floored, short, strict=True))
    words = (
        f"ceil(n_s^(4/d)) gives {_join(short)} against the printed {_join(printed)}: "
        f"{equal} of {len(printed)} agree; max(5, ceil(n_s^(4/d))) gives {_join(floored)}"
    )
    verdict = decide(printed=equal == len(printed), ours=works)
    return Verdict(verdict=verdict, reason=words, measured=equal, exact=len(printed))


def condition(table: Table) -> Verdict:
    """Confirmed if Theorem 4.3's own condition gives the printed numbers."""
    stated, printed = _values(table, figure.STATED), _values(table, figure.PRINTED)
    alphas = [r["value"] for r in table.select(series="alpha")]
    given = sum(value is not None for value in stated)
    verdict = CONFIRMED if stated == printed else NOT_REPRODUCED
    words = (
        f"the condition gives a number for {given} of {len(stated)} data sets: alpha(n_s) is "
        f"{min(alphas):.1f} to {max(alphas):.1f}, and a positive exponent needs alpha < 1"
    )
    return Verdict(
        verdict=verdict,
        reason=words,
        measured=min(alphas),
        low=min(alphas),
        high=max(alphas),
        exact=1.0,
    )


def few_enough(table: Table) -> Verdict:
    """Confirmed if the printed numbers show every direction of a latent Gaussian's subspace."""
    printed, whole = _values(table, figure.PRINTED), _values(table, figure.WHOLE)
    short = [w - p for p, w in zip(printed, whole, strict=True) if p is not None and w is not None]
    verdict = CONFIRMED if max(short) <= 0 else CORRECTED
    words = (
        f"n_ta samples of a latent Gaussian span n_ta directions, so n_ta >= d = {_join(whole)} is "
        f"needed; the printed row leaves {min(short)} to {max(short)} directions unseen, and the "
        "subspace error is at least that"
    )
    return Verdict(
        verdict=verdict,
        reason=words,
        measured=max(short),
        low=min(short),
        high=max(short),
        exact=0.0,
    )


def _join(values: list[int | None]) -> str:
    return ", ".join("none" if value is None else str(value) for value in values)
