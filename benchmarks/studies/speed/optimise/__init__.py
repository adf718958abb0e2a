"""How long do gradient-trained rivals take to get where the closed form starts?

Every rival sees the same exact loss (or noised batches of the same samples), with its learning rate
and its horizon chosen among several; the time is that of the steps it needed, compiled. The closed
form's time includes the moment.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks import drawing, text
from benchmarks.records import Record, record
from benchmarks.studies.speed.optimise.race import (
    CLOSED,
    DATA,
    LATENT_DIM,
    ROWS,
    TOLERANCES,
    closed_form,
    problem_of,
    program_of,
    race,
    rivals_at,
    time_of,
    timed,
)
from benchmarks.studies.speed.optimise.stationary import hessian, stationary, sublinear
from benchmarks.study import Settings, Study, Work, side_by_side
from benchmarks.table import Missing, Table


def settings(size: str) -> Settings:
    """Problems by ambient dimension and samples; `rivals` names which of them meet there."""
    quick, full = size == "quick", size == "full"
    return {
        "D": [64] if quick else [64, 784, 12288] if full else [64, 784],
        "n_ta": [10] if quick else [10, LATENT_DIM, 100],
        "rivals": size,
        "sublinear_steps": 2000 if quick else 20_000,
        "stationary": [list(point) for point in stationary(size)],
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Time and steps to each gap, the sublinear regime, and the landscape."""
    dims, size = settings["D"], settings["rivals"]
    work.tell("compiling")
    wanted = {
        (rival.options, rival.stochastic, horizon, ambient)
        for ambient in dims
        for rival in rivals_at(size, ambient, ROWS)
        for horizon in rival.horizons
    }
    list(side_by_side(lambda each: [program_of(*each)], sorted(wanted)))
    for ambient in dims:
        for n in settings["n_ta"]:
            yield from _meet(work, size, ambient, n)
    yield sublinear(work.seed, settings["sublinear_steps"])
    points = [tuple(point) for point in settings["stationary"]]
    yield from side_by_side(partial(hessian, work.seed), points)


def _meet(work: Work, size: str, ambient: int, n: int) -> Iterator[Record]:
    """All methods on one problem."""
    problem = problem_of(work.seed, ambient, n)
    work.tell(f"D={ambient} n_ta={n}: {CLOSED}")
    closed = time_of(partial(closed_form, problem.x[:n]))
    compiling = closed.first - closed.median
    own: dict[str, Any] = {"steps": 0, "stderr": closed.spread}
    yield timed(CLOSED, closed.median, compiling, ambient, n, **own)
    fastest = np.inf
    for rival in rivals_at(size, ambient, n):
        work.tell(f"D={ambient} n_ta={n}: {rival.name}")
        for row in race(rival, problem, ambient):
            yield row
            if row["tolerance"] == TOLERANCES[-1] and row["value"] is not None:
                fastest = min(fastest, row["value"])
    met = bool(np.isfinite(fastest))
    yield record(
        DATA,
        fastest / closed.median if met else None,
        method=CLOSED,
        metric="speedup",
        status="ok" if met else f"not within {TOLERANCES[-1]:g}",
        unit="x fastest rival",
        D=ambient,
        d=LATENT_DIM,
        n_ta=n,
        tolerance=TOLERANCES[-1],
    )


def draw(table: Table) -> Any:
    """One panel a problem, gap against time in units of the closed form's; one look a method."""
    rows = [r for r in table.rows if r["metric"] == "time_to_gap" and r["value"] is not None]
    dims, sizes = table.settings["D"], table.settings["n_ta"]
    rivals = [m for m in dict.fromkeys(r["method"] for r in rows) if m != CLOSED]
    figure, axes = drawing.canvas(
        len(dims), len(sizes), figsize=(4.3 * len(sizes) + 1, 3.4 * len(dims) + 1.2)
    )
    for line, ambient in zip(axes, dims, strict=True):
        for axis, n in zip(line, sizes, strict=True):
            own = [r for r in rows if (r["D"], r["n_ta"]) == (ambient, n)]
            unit = min((r["value"] for r in own if r["method"] == CLOSED), default=1.0)
            axis.axvline(1.0, color="black", lw=1, label=f"{CLOSED}, exact")
            for place, method in enumerate(rivals):
                points = [
                    {"times": r["value"] / unit, "value": r["tolerance"], "stderr": None}
                    for r in own
                    if r["method"] == method
                ]
                drawing.points(axis, points, "times", place, line=True, label=method)
            title = f"D = {ambient}, $n_{{ta}}$ = {n}: {1e3 * unit:.2g} ms is 1"
            drawing.log_axes(axis, "time / closed form's, compiled", "relative loss gap", title)
    drawing.legend_below(figure, axes, 4)
    return figure


def finding(table: Table) -> str:
    """How many times longer the fastest rival takes, over the problems."""
    rows = [r for r in table.rows if r["metric"] == "speedup"]
    met = [r for r in rows if r["value"] is not None]
    if not met:
        raise Missing(f"no rival came within {TOLERANCES[-1]:g} on any problem")
    least, most = (pick(met, key=lambda r: r["value"]) for pick in (min, max))
    closed = table.one(method=CLOSED, metric="time_to_gap", D=least["D"], n_ta=least["n_ta"])
    error = least["value"] * (closed["stderr"] or 0) / closed["value"]
    where = ", ".join(f"{name} = {least[name]}" for name in ("D", "n_ta"))
    words = f"{least['value']:.3g} +- {error:.1g} times"
    if len(met) > 1:
        words += f" (at {where}) to {most['value']:.3g} times"
    lost = len(rows) - len(met)
    never = f"; on {lost} more no rival came so close" if lost else ""
    return (
        f"To a relative loss gap of {TOLERANCES[-1]:g} the fastest rival takes {words} as long as "
        f"the exact closed form{f' on {len(met)} problems' if len(met) > 1 else ''}{never}."
    )


def lines(table: Table) -> text.Lines:
    """The race: a line a problem and method, a column for each gap."""
    rows = [r for r in table.rows if r["metric"] in ("time_to_gap", "speedup")]
    found = text.pivot(rows, ("D", "n_ta", "method"), _heading, _entry)
    return found or text.plain(table)


def _heading(row: Record) -> str:
    if row["metric"] == "speedup":
        return "speed-up"
    return "solve" if row["tolerance"] is None else f"to {row['tolerance']:g}"


def _entry(row: Record) -> str:
    if row["value"] is None:
        return "-"
    if row["metric"] == "speedup":
        return f"{row['value']:.0f}x"
    steps = f" ({row['steps']} steps)" if row.get("steps") else ""
    return f"{1e3 * row['value']:.3g} ms{steps}"


STUDY = Study(
    name="optimise",
    summary="steps and time of Adam, L-BFGS and gradient descent to the closed form; the landscape",
    settings=settings,
    compute=compute,
    pictures={"optimise": draw},
    lines=lines,
    finding=finding,
    usual=True,
    timed=True,
    measured=(
        *("steps", "learning_rate", "horizon", "negative", "flat", "smallest", "largest"),
        "off_formula",
    ),
)
