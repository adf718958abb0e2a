"""Work that times nothing, on all cores: most of it is compilation, which uses one."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

import jax

from benchmarks.console import CORES, configure

R = TypeVar("R")


def run(
    work: Callable[..., R],
    tasks: Sequence[tuple[Any, ...]],
    *,
    tell: Callable[[str], None],
    jobs: int = CORES,
) -> Iterator[R]:
    """Yield ``work(*task, tell)`` for every task as it ends, in no fixed order.

    With one job, or on a device that processes would fight for, they run here one after the other.
    An interruption drops what has not begun.

    Args:
        work: a function at the top level of its module, with what it returns fit to be sent.
        tasks: its arguments, all but the last.
        tell: progress.
        jobs: processes at most.
    """
    jobs = min(jobs, len(tasks))
    if jobs < 2 or jax.default_backend() != "cpu":
        yield from (work(*task, tell) for task in tasks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=configure)
    try:
        started = [pool.submit(work, *task, _silent) for task in tasks]
        for count, future in enumerate(as_completed(started)):
            yield future.result()
            tell(f"{count + 1} of {len(tasks)}, {jobs} at a time")
    finally:
        pool.shutdown(cancel_futures=True)


def _silent(_line: str) -> None:
    """Processes side by side would overwrite each other's line."""
