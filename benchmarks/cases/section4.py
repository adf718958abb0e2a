"""Does a network adapted to few samples beat one trained on them? Theorem 4.3 on one machine."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import table
from benchmarks.context import Context
from benchmarks.records import Record, record
from fsd_jax import sweep
from fsd_jax.latent_net import Recipe, plan_section4

SUMMARY = "score error of few-shot, fully tuned and scratch ReLU networks against n_ta"
SETTING: dict[str, Any] = {"n_s": [4096], "d": [4], "widths": (64, 64)}
PRETRAINING = Recipe(steps=3000, batch_size=64)
FINETUNING = Recipe(steps=1500, batch_size=64, checks=15)


def run(context: Context) -> Iterator[Record]:
    """Yield mean score errors over independent worlds, with standard errors."""
    n_ta = context.pick(
        [4, 32, 512], [2, 4, 8, 16, 32, 128, 512, 2048], [1, 2, 3, *(2**k for k in range(2, 13))]
    )
    quick = context.size == "quick"
    plan = plan_section4(
        n_ta=n_ta,
        replicates=context.pick(3, 8, 32),
        block=context.pick(3, 4, 4),
        seed=context.seed,
        metric=("score_error",),
        pretraining=replace(PRETRAINING, steps=1000) if quick else PRETRAINING,
        finetuning=replace(FINETUNING, steps=300, checks=5) if quick else FINETUNING,
        **SETTING,
    )
    yield from rows_of("section4", "Gaussian mixture, 4 components", plan, context)


def rows_of(
    case: str, data: str, plan: sweep.Plan, context: Context, folder: Path | None = None
) -> Iterator[Record]:
    """Run a plan, resuming what `folder` holds, and yield its rows as records."""
    finetuning, widths = plan.axes["finetuning"], plan.axes["widths"]

    def tell(done: int, total: int) -> None:
        context.tell(f"{case} {done}/{total} blocks of worlds")

    with TemporaryDirectory() as temporary:
        place = Path(temporary) / "sweep" if folder is None else folder
        # A few blocks between two journal entries: a block takes seconds.
        done = sweep.run(plan, place, batch_size=1, resume=folder is not None, progress=tell)
        for row in sweep.read_results(done.parent):
            own = {name: row[name] for name in ("n_ta", "n_s", "d", "D", "replicates")}
            yield record(
                case,
                data,
                row["method"],
                row["metric"],
                row["mean"],
                stderr=row["stderr"],
                status=row["status"],
                median=row["q50"],
                delta=finetuning["delta"],
                T=finetuning["T"],
                steps=finetuning["steps"],
                widths=widths,
                **own,
            )


def lines(rows: list[Record]) -> table.Lines:
    """A row for each n_ta, a column for each method."""
    return table.pivot(rows, ("n_ta",), lambda row: row["method"], table.short)
