"""Theorem 4.3's rates, measured: slopes in n_ta and n_s, the floor, where scratch catches up."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks import table
from benchmarks.cases.section4 import FINETUNING, PRETRAINING, rows_of
from benchmarks.context import Context
from benchmarks.records import Record, record, select
from fsd_jax import theory
from fsd_jax.latent_net import plan_section4

SUMMARY = "slopes of trained networks' score error in n_ta and n_s beside Theorem 4.3"
WIDTHS = (64, 64)


def run(context: Context) -> Iterator[Record]:
    """Yield mean errors, then what follows from them; a killed run goes on where it stopped."""
    dims = context.pick([2], [2, 4], [2, 4, 8, 16])
    n_s = context.pick([256, 1024], [2**9, 2**11, 2**13], [2**k for k in range(7, 18, 2)])
    n_ta = context.pick([1, 8, 64], [2**k for k in range(12)], [2**k for k in range(13)])
    for d in dims:
        plan = plan_section4(
            n_ta=n_ta,
            n_s=n_s,
            d=[d],
            replicates=context.pick(2, 8, 16),
            block=context.pick(2, 4, 8),
            seed=context.seed,
            widths=WIDTHS,
            pretraining=PRETRAINING,
            finetuning=FINETUNING,
        )
        folder = context.out / "section4-rates" / f"{context.size}-d{d}"
        rows = list(rows_of("section4-rates", f"d = {d}", plan, context, folder))
        yield from rows
        yield from findings(rows)


def findings(rows: list[Record]) -> Iterator[Record]:
    """Slopes with intervals, crossovers and floors, from the rows of one d."""
    d, sizes = rows[0]["d"], sorted({row["n_s"] for row in rows})
    errors = select(rows, metric="score_error")
    claims = {"fewshot": -0.5, "scratch": -2 / d}
    for n_s in sizes:
        for method, claimed in claims.items():
            own = [r for r in select(errors, method=method, n_s=n_s) if r["n_ta"] >= 2 * d]
            yield from _slope("n_ta", method, own, claimed, n_s=n_s)
        yield _crossover(select(errors, n_s=n_s))
        missing = [
            r
            for r in select(rows, metric="off_support", method="fewshot", n_s=n_s)
            if r["n_ta"] < d
        ]
        for row in missing:
            yield _finding(
                "floor_below_d",
                "fewshot",
                row["value"],
                d,
                stderr=row["stderr"],
                n_s=n_s,
                n_ta=row["n_ta"],
            )
    most = max(row["n_ta"] for row in rows)
    own = select(errors, method="fewshot", n_ta=most)
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
    yield _finding(
        f"slope_in_{axis}",
        method,
        fit.value,
        rows[0]["d"],
        stderr=fit.stderr,
        low=fit.low,
        high=fit.high,
        claimed=claimed,
        **where,
    )


def _crossover(rows: list[Record]) -> Record:
    """The least n_ta from which on training from scratch is no worse on average."""
    sizes = sorted({row["n_ta"] for row in rows})
    mean = {
        name: np.array([select(rows, method=name, n_ta=n)[0]["value"] for n in sizes])
        for name in ("fewshot", "scratch")
    }
    worse = np.flatnonzero(mean["scratch"] > mean["fewshot"])
    after = int(worse[-1]) + 1 if worse.size else 0
    found = sizes[after] if after < len(sizes) else None
    status = "ok" if found else f"not up to n_ta = {sizes[-1]}"
    return _finding("crossover", "scratch", found, rows[0]["d"], n_s=rows[0]["n_s"], status=status)


def _finding(metric: str, method: str, value: float | None, d: int, **own: Any) -> Record:
    return record("section4-rates", f"d = {d}, findings", method, metric, value, d=d, **own)


def lines(rows: list[Record]) -> table.Lines:
    """Errors by n_ta and n_s with a column a method; findings one a line."""
    if "findings" in rows[0]["data"]:
        return table.plain(rows)
    errors = select(rows, metric="score_error")
    return table.pivot(errors, ("n_s", "n_ta"), lambda row: row["method"], table.short)
