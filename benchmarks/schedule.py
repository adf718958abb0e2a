"""Which cases run when: those that time nothing side by side, then those that do, one by one."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from benchmarks import processes
from benchmarks.console import CORES
from benchmarks.context import Context
from benchmarks.records import Record

TIMED = ("solve", "optimise", "simulate", "durability", "scaling")
"""Modules whose numbers are times, which company would spoil."""


def run_all(
    modules: dict[str, str],
    *,
    size: str,
    seed: int,
    out: Path,
    tell: Callable[[str], None],
    data: tuple[str, ...] = (),
    jobs: int = CORES,
) -> Iterator[processes.Done]:
    """Run cases and yield each as it ends, its records being the result.

    Args:
        modules: the cases' names and modules.
        size: see `Context`.
        seed: base seed.
        out: folder.
        tell: progress.
        data: see `Context`.
        jobs: cases at most that run side by side.
    """
    tasks = [(name, module, size, seed, out, data) for name, module in modules.items()]
    alone = [name for name, module in modules.items() if module in TIMED]
    return processes.run(_run, tasks, extra="bench", tell=tell, jobs=jobs, alone=alone)


def _run(
    _name: str,
    module: str,
    size: str,
    seed: int,
    out: Path,
    data: tuple[str, ...],
    tell: Callable[[str], None],
) -> list[Record]:
    context = Context(size=size, seed=seed, out=out, tell=tell, data=data)
    return list(import_module(f"benchmarks.cases.{module}").run(context))
