"""Timing side by side: warm up, interleave, take medians; peak memory where Linux tells it."""

import ctypes
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

BRIEF = 0.1
PAUSE = 0.1
"""Idle worker threads of OpenBLAS and OpenMP spin for a while and would slow a brief rival."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Seconds of one method, measured in turn with the others.

    Attributes:
        first: the first call, compilation included.
        median: median of the timed calls.
        spread: median absolute deviation over the root of their number.
        calls: number of timed calls.
        result: what the first call returned.
    """

    first: float
    median: float
    spread: float
    calls: int
    result: Any


def interleave(
    methods: Mapping[str, Callable[[], Any]],
    *,
    seconds: float,
    most: int = 200,
    least: int = 3,
    slow: float = float("inf"),
    brief: float = 0.0,
) -> dict[str, Timing]:
    """Time `methods` in turn, so that a busy machine slows all of them alike.

    Args:
        methods: functions without arguments; results are waited for.
        seconds: stop after about this long in all (but not before `least` rounds).
        most: most rounds.
        least: fewest rounds.
        brief: methods quicker than this are called several times a turn, after a pause.
        slow: methods whose warm call takes longer join the first round only.
    """
    first: dict[str, float] = {}
    results: dict[str, Any] = {}
    first_warm: dict[str, float] = {}
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for name, method in methods.items():
        first[name], results[name] = _once(method)
        warm = first_warm[name] = _once(method)[0]
        if warm > slow:
            taken[name].append(warm)
    start = time.perf_counter()
    for done in range(most):
        if done >= least and time.perf_counter() - start > seconds:
            break
        for name, method in methods.items():
            if max(taken[name], default=0.0) <= slow:
                taken[name].append(_calm(method) if first_warm[name] < brief else _once(method)[0])
    return {name: _summary(first[name], taken[name], results[name]) for name in methods}


def _calm(method: Callable[[], Any]) -> float:
    """Median of a few calls after other libraries' thread pools have stopped spinning."""
    time.sleep(PAUSE)
    # The calls that wake our own pools again are no part of it.
    _once(method)
    _once(method)
    return float(np.median([_once(method)[0] for _ in range(3)]))


def _once(method: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = jax.block_until_ready(method())
    return time.perf_counter() - start, result


def _summary(first: float, taken: list[float], result: Any) -> Timing:
    values = np.array(taken)
    median = float(np.median(values))
    spread = float(np.median(np.abs(values - median))) / len(values) ** 0.5
    return Timing(first=first, median=median, spread=spread, calls=len(values), result=result)


def peak_extra_bytes(method: Callable[[], Any]) -> float | None:
    """How far the process's memory rises during one (warm) call; None where unknown."""
    try:
        gc.collect()
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status_kilobytes("VmRSS")
        jax.block_until_ready(method())
        return 1024.0 * max(_status_kilobytes("VmHWM") - before, 0)
    except (OSError, AttributeError, StopIteration):
        return None


def _status_kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name + ":")))
