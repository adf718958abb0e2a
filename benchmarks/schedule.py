"""Which cases run when: those that time nothing side by side, then those that do, one by one."""

import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from benchmarks import processes
from benchmarks.console import CORES
from benchmarks.context import Context
from benchmarks.records import Record

TIMED = ("solve", "optimise", "simulate", "durability", "scaling")
"""Modules whose numbers are times, which company would spoil."""


class Done(NamedTuple):
    """A case's records, and the seconds it took."""

    name: str
    rows: list[Record]
    seconds: float


def run_all(
    modules: dict[str, str],
    *,
    size: str,
    seed: int,
    out: Path,
    tell: Callable[[str], None],
    data: tuple[str, ...] = (),
    jobs: int = CORES,
) -> Iterator[Done]:
    """Run cases and yield each as it ends.

    Args:
        modules: the cases' names and modules.
        size: see `Context`.
        seed: base seed.
        out: folder.
        tell: progress.
        data: see `Context`.
        jobs: cases at most that run side by side.
    """
    tasks = {name: (name, module, size, seed, out, data) for name, module in modules.items()}
    together = [task for task in tasks.values() if task[1] not in TIMED]
    yield from processes.run(_run, together, tell=tell, jobs=jobs)
    for task in tasks.values():
        if task not in together:
            yield _run(*task, tell)


def _run(
    name: str,
    module: str,
    size: str,
    seed: int,
    out: Path,
    data: tuple[str, ...],
    tell: Callable[[str], None],
) -> Done:
    start = time.perf_counter()
    context = Context(size=size, seed=seed, out=out, tell=tell, data=data)
    rows = list(import_module(f"benchmarks.cases.{module}").run(context))
    return Done(name, rows, time.perf_counter() - start)


def in_order(names: Sequence[str], finished: dict[str, Done]) -> list[Record]:
    """All records so far, in the order in which cases were asked for."""
    return [row for name in names if name in finished for row in finished[name].rows]
