"""What a case is told: how large to be, where to put pictures' data, how to report progress."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Context:
    """Settings of one run.

    Attributes:
        size: ``"quick"``, ``"default"`` or ``"full"``.
        seed: base seed.
        out: folder for arrays that figures need.
        tell: called with a short line when a case reaches its next step.
        data: names of the only data sets to use, for a case with a list of them; none: all.
    """

    size: str
    seed: int
    out: Path
    tell: Callable[[str], None]
    data: tuple[str, ...] = ()

    def pick(self, quick: T, default: T, full: T) -> T:
        """The value for this size."""
        return {"quick": quick, "default": default, "full": full}[self.size]


def side_by_side(function: Callable[[T], Iterable[R]], items: Iterable[T]) -> Iterator[R]:
    """What `function` yields for each item, in order, items being worked on by every core.

    For cases that time nothing: half of their minutes are compilations, and XLA compiles on one
    core with the interpreter's lock released.
    """
    pool, wait = ThreadPoolExecutor(os.cpu_count()), True
    try:
        for results in pool.map(lambda item: list(function(item)), items):
            yield from results
    except KeyboardInterrupt:
        # The process ends, and need not wait for a compilation to do so.
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)
