"""Theorem 4.3's rates, measured: slopes in n_ta and n_s, the floor, where scratch catches up.

Apart from `section4`, which varies n_ta only: here n_s varies too, from a hundredth to some
hundred-fold, which is training for an hour.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import drawing, text
from benchmarks.records import Record, record
from benchmarks.studies.networks.section4 import METHODS, curves, trained
from benchmarks.study import Settings, Study, Work
from benchmarks.table import Table
from fsd_jax import theory
from fsd_jax.latent_net._plan_section4 import METRICS

FINDINGS = "findings"


def settings(size: str) -> Settings:
    """Every size of source beside every size of target."""
    quick, full = size == "quick", size == "full"
    few, all_, more = [1, 8, 64], [2**k for k in range(12)], [2**k for k in range(13)]
    return {
        "d": [2] if quick else [2, 4, 8, 16] if full else [2, 4],
        "n_s": [256, 1024]
        if quick
        else [2**k for k in range(7 if full else 9, 18 if full else 14, 2)],
        "n_ta": few if quick else more if full else all_,
        "replicates": 2 if quick else 16 if full else 8,
        "block": 2 if quick else 8 if full else 4,
        "widths": [64, 64],
        "pretraining": {"steps": 3000, "batch_size": 64},
        "finetuning": {"steps": 1500, "batch_size": 64, "checks": 15},
    }


def compute(settings: Settings, work: Work) -> Iterator[Record]:
    """Mean errors, then what follows from them; a killed run goes on where it stopped."""
    for d in settings["d"]:
        rows = list(trained(settings, work, [d], METRICS, f"d = {d}"))
        yield from rows
        yield from findings([row for row in rows if row["value"] is not None])


def _select(rows: list[Record], **wanted: Any) -> list[Record]:
    return [r for r in rows if all(r[name] == value for name, value in wanted.items())]


def findings(rows: list[Record]) -> Iterator[Record]:
    """Slopes with intervals, crossovers and floors, from the rows of one d."""
    d, sizes = rows[0]["d"], sorted({row["n_s"] for row in rows})
    errors = _select(rows, metric="score_error")
    claims = {"fewshot": -0.5, "scratch": -2 / d}
    for n_s in sizes:
        for method, claimed in claims.items():
            own = [r for r in _select(errors, method=method, n_s=n_s) if r["n_ta"] >= 2 * d]
            yield from _slope("n_ta", method, own, claimed, n_s=n_s)
        yield _crossover(_select(errors, n_s=n_s))
        for row in _select(rows, metric="off_support", method="fewshot", n_s=n_s):
            if row["n_ta"] < d:
                where = {"stderr": row["stderr"], "n_s": n_s, "n_ta": row["n_ta"]}
                yield _finding("floor_below_d", "fewshot", row["value"], d, **where)
    most = max(row["n_ta"] for row in rows)
    own = _select(errors, method="fewshot", n_ta=most)
    yield from _slope("n_s", "fewshot", own, -2 / d, n_ta=most, theorem=-2 / (d + 5))


def _slope(
    axis: str, method: str, rows: list[Record], claimed: float, **where: Any
) -> Iterator[Record]:
    rows = [r for r in rows if r["value"] and r["stderr"]]
    if len(rows) < 2:
        return
    x, value, stderr = (
        np.array([r[name] for r in rows], float) for name in (axis, "value", "stderr")
    )
    fit = theory.loglog_slope(x, value, stderr)
    found = {"stderr": fit.stderr, "low": fit.low, "high": fit.high, "claimed": claimed}
    yield _finding(f"slope_in_{axis}", method, fit.value, rows[0]["d"], **found, **where)


def _crossover(rows: list[Record]) -> Record:
    """The least n_ta from which on training from scratch is no worse on average."""
    sizes = sorted({row["n_ta"] for row in rows})
    mean = {
        name: np.array([_select(rows, method=name, n_ta=n)[0]["value"] for n in sizes])
        for name in ("fewshot", "scratch")
    }
    worse = np.flatnonzero(mean["scratch"] > mean["fewshot"])
    after = int(worse[-1]) + 1 if worse.size else 0
    found = sizes[after] if after < len(sizes) else None
    status = "ok" if found else f"not up to n_ta = {sizes[-1]}"
    return _finding("crossover", "scratch", found, rows[0]["d"], n_s=rows[0]["n_s"], status=status)


def _finding(metric: str, method: str, value: float | None, d: int, **own: Any) -> Record:
    return record(f"d = {d}, {FINDINGS}", value, method=method, metric=metric, d=d, **own)


def draw(table: Table) -> Any:
    """A row for each d, a column for each n_s."""
    dims, sizes = table.settings["d"], table.settings["n_s"]
    figure, axes = drawing.canvas(
        len(dims), len(sizes), figsize=(4.4 * len(sizes), 3.8 * len(dims) + 0.8)
    )
    for line, d in zip(axes, dims, strict=True):
        for axis, n_s in zip(line, sizes, strict=True):
            curves(axis, table.present(metric="score_error", d=d, n_s=n_s), d)
    drawing.legend_below(figure, axes, 3)
    return figure


def finding(table: Table) -> str:
    """Slopes at the largest source, and where scratch catches up there."""
    d, n_s = table.settings["d"][-1], max(table.settings["n_s"])
    own = {"d": d, "n_s": n_s}
    met = [r for r in table.rows if r["metric"] == "crossover" and r["d"] == d and r["n_s"] == n_s]
    few, scratch = (
        table.one(metric="slope_in_n_ta", method=name, **own) for name in ("fewshot", "scratch")
    )
    caught = [f"no worse from n_ta = {r['value']} on" for r in met if r["value"]]
    never = f"worse at n_ta = {max(table.settings['n_ta'])} still"
    return (
        f"ReLU networks, d = {d}, n_s = {n_s}, n_ta >= {2 * d}: few-shot's score error falls with "
        f"slope {text.number(few)} in n_ta (claimed {few['claimed']:.2g}, down to the floor that "
        f"n_s leaves), from scratch with {text.number(scratch)} (claimed "
        f"{scratch['claimed']:.2g}); scratch is {(caught or [never])[0]}."
    )


def lines(table: Table) -> text.Lines:
    """Errors by d, n_s and n_ta with a column a method."""
    rows = table.present(metric="score_error")
    return text.pivot(rows, ("d", "n_s", "n_ta"), lambda row: METHODS[row["method"]], text.short)


STUDY = Study(
    name="section4-rates",
    summary="slopes of trained networks' score error in n_ta and n_s beside Theorem 4.3",
    settings=settings,
    compute=compute,
    pictures={"section4-rates": draw},
    lines=lines,
    finding=finding,
    quick=False,
    long=True,
    measured=("median", "claimed", "theorem"),
)
