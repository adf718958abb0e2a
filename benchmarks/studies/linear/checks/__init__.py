"""Assumptions, identities and slips that one number decides: printed, ours, and measured.

By what is checked: the `worlds` that everything is measured in, the `objective` and the reverse
process, and steps of the theorems' `bounds`. Each file computes its numbers and judges them.
"""

from collections.abc import Iterator
from typing import Any

from benchmarks import drawing, text
from benchmarks.judging import SIGMAS, close
from benchmarks.records import Record
from benchmarks.studies.linear.checks import bounds, objective, worlds
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Table

ROOMS = (worlds, objective, bounds)
SHOWN = {
    "score inside": r"Section 5: factor of the latent score, $\lambda^2 = 2$",
    "Lipschitz at 0": r"Lemma C.1: Lipschitz constant, $\lambda_k^2$ = 4, 1, 1/2",
    "Lipschitz over t": r"Assumption 4.2: $\beta$ over all $t$",
    "reverse variance": r"Section 3.1: variance after the reverse process",
    "divergence": r"Theorem 5.2: KL of two Gaussians",
    "least n_ta": r"Theorem 4.3: least $n_{ta}$ for the accuracy",
    "coefficient D/delta": r"Remark 4.4: $D/\delta$",
    "last step": r"Theorem 5.2: factor of the last step",
    "loss by drawing the noise": "Section 3.2: loss, by drawing the noise",
    "simplified objective": "Section 5.1: simplified objective",
    "C_Z": r"Assumption 4.1: $C_Z$",
    "c_0": r"Assumption 4.1: $c_0$",
}
PARAMETERS = {"t": "$t$", "lam2": r"$\lambda^2$", "d": "$d$", "n_s": "$n_s$"}


def settings(size: str) -> Settings:
    """Sizes."""
    quick = size == "quick"
    return {
        "D": 20,
        "d": 3,
        "lam2": [4.0, 1.0, 0.5],
        "score_lam2": 2.0,
        "t": [0.1, 0.5, 2.0],
        "samples": 4000 if quick else 40_000,
        "draws": 2000 if quick else 20_000,
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """One part a statement or two."""
    for part in (part for room in ROOMS for part in room.PARTS):
        work.tell(part.__name__)
        yield from part(settings, work.seed)


def _compared(table: Table) -> list[tuple[str, Record]]:
    """The rows that are shown, and where each was measured."""
    return [
        (", ".join(f"{w} = {r[k]:g}" for k, w in PARAMETERS.items() if k in r), r)
        for data in SHOWN
        for r in table.present(data=data)
    ]


def _numbers(row: Record) -> dict[str, str]:
    measured = f"{row['value']:.5g}"
    if row["stderr"]:
        measured += f" ± {2 * row['stderr']:.1g}"
    others = {name: row.get(key) for name, key in (("ours", "exact"), ("printed", "printed"))}
    return {"measured (2 s.e.)": measured} | {
        name: "–" if value is None else f"{value:.5g}" for name, value in others.items()
    }


def draw(table: Table) -> Any:
    """A table: measured, exact, printed."""
    lines = [
        [SHOWN[r["data"]] + (f"; {where}" if where else ""), *_numbers(r).values()]
        for where, r in _compared(table)
    ]
    figure, axes = drawing.canvas(figsize=(9.6, 0.9 + 0.27 * len(lines)))
    heads = ["", "measured (2 s.e.)", "ours", "printed"]
    drawing.text_table(axes[0, 0], heads, lines, widths=(0.5, 0.2, 0.15, 0.15))
    axes[0, 0].set_title("One number decides", loc="left", pad=14)
    return figure


def lines(table: Table) -> text.Lines:
    """The same in plain text."""
    return [
        {"what": r["data"], "where": where.replace("$", "").replace(r"\lambda", "lambda")}
        | _numbers(r)
        for where, r in _compared(table)
    ]


def finding(table: Table) -> str:
    """How many numbers fit our formula, and how many what is printed."""
    rows = [r for data in SHOWN for r in table.select(data=data)]
    printed = [r for r in rows if "printed" in r]
    ours = sum(_equal(r, "exact") for r in rows)
    theirs = sum(_equal(r, "printed") for r in printed)
    theirs_are = "is the printed one" if theirs == 1 else "are the printed ones"
    return (
        f"Of {len(rows)} measured numbers {ours} are our exact ones (within {SIGMAS:g} standard "
        f"errors, or 0.1% where there is no chance); of {len(printed)} beside which the paper "
        f"prints a number {theirs} {theirs_are}."
    )


def _equal(row: Record, field: str) -> bool:
    if row["stderr"]:
        return bool(abs(row["value"] - row[field]) <= SIGMAS * row["stderr"])
    return close(row["value"], row[field], 1e-3)


STUDY = Study(
    name="checks",
    figure="checks",
    summary="identities, assumptions and slips that one number decides: printed, ours, measured",
    settings=settings,
    compute=compute,
    pictures={"checks": draw},
    lines=lines,
    finding=finding,
    statements=tuple(statement for room in ROOMS for statement in room.STATEMENTS),
)
