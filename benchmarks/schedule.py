"""Which cases run when: those that time nothing side by side, then those that do, one by one."""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks.console import configure
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
    modules: dict[str, str], *, size: str, seed: int, out: Path, tell: Callable[[str], None]
) -> Iterator[Done]:
    """Run cases and yield each as it ends.

    Most of a case is compilation on one core. So on a CPU with several cores, cases that time
    nothing share them, each in a process of its own.

    Args:
        modules: the cases' names and modules.
        size: see `Context`.
        seed: base seed.
        out: folder.
        tell: progress.
    """
    together = [name for name, module in modules.items() if module not in TIMED]
    workers = min(os.cpu_count() or 1, len(together))
    if workers < 2 or jax.default_backend() != "cpu":
        together = []
    alone = [name for name in modules if name not in together]
    if together:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            tell(f"{', '.join(together)}, {workers} at a time")
            started = [pool.submit(_alone, name, modules[name], size, seed, out)
                       for name in together]  # fmt: skip
            yield from (future.result() for future in as_completed(started))
    for name in alone:
        yield _run(name, modules[name], Context(size=size, seed=seed, out=out, tell=tell))


def _run(name: str, module: str, context: Context) -> Done:
    start = time.perf_counter()
    rows = list(import_module(f"benchmarks.cases.{module}").run(context))
    return Done(name, rows, time.perf_counter() - start)


def _alone(name: str, module: str, size: str, seed: int, out: Path) -> Done:
    """A case in a process that knows nothing yet."""
    configure()
    return _run(name, module, Context(size=size, seed=seed, out=out, tell=_silent))


def _silent(_line: str) -> None:
    """Processes side by side would overwrite each other's line."""


def in_order(names: Sequence[str], finished: dict[str, Done]) -> list[Record]:
    """All records so far, in the order in which cases were asked for."""
    return [row for name in names if name in finished for row in finished[name].rows]
