"""The runner of both command lines: work that times nothing on all cores, the rest alone."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing.connection import wait
from typing import Any, NamedTuple

import jax

from benchmarks.console import CORES, configure

Task = tuple[Any, ...]


class Done(NamedTuple):
    """What a task gave, or why it gave nothing, and the seconds it took."""

    name: str
    result: Any
    failure: str
    seconds: float


def run(
    work: Callable[..., Any],
    tasks: Sequence[Task],
    *,
    extra: str,
    tell: Callable[[str], None],
    jobs: int = CORES,
    alone: Collection[str] = (),
) -> Iterator[Done]:
    """Yield the end of every task, ``work(*task, tell)``, as it comes, in no fixed order.

    A failure costs neither the others nor what they have done. Most of such work is compilation,
    which uses one core. With one job, or on a device that processes would fight for, tasks run here
    one after the other. Processes end with this one, however it ends, and when the iterator is
    closed or interrupted.

    Args:
        work: a function at the top level of its module, with what it returns fit to be sent.
        tasks: its arguments, all but the last; the first is the task's name.
        extra: the optional packages that it needs.
        tell: progress.
        jobs: processes at most.
        alone: names of tasks that wait for the others and share the machine with none.
    """
    together = [task for task in tasks if task[0] not in alone]
    last = [task for task in tasks if task[0] in alone]
    jobs = min(jobs, len(together))
    if jobs < 2 or jax.default_backend() != "cpu":
        together, last = [], together + last
    if together:
        yield from _side_by_side(work, together, extra, tell, jobs, len(last))
    for left, task in zip(reversed(range(len(last))), last, strict=True):
        tell(_progress(str(task[0]), left))
        yield attempt(work, task, extra, lambda line, left=left: tell(_progress(line, left)))  # type: ignore[misc]


def _progress(line: str, left: int) -> str:
    """What runs, and how much more there is to run."""
    return f"{line} ({left} more to run)" if left else line


def attempt(work: Callable[..., Any], task: Task, extra: str, tell: Callable[[str], None]) -> Done:
    """One task, here and now."""
    start = time.perf_counter()
    result, failure = None, ""
    try:
        result = work(*task, tell)
    except ImportError as error:
        failure = f"skipped: needs {error.name}: pip install 'fsd-jax[{extra}]'"
    except BrokenPipeError:
        # Nobody reads what is printed; the command line's end sees to that.
        raise
    except Exception as error:
        failure = _words(error)
    return Done(task[0], result, failure, time.perf_counter() - start)


def _words(error: BaseException) -> str:
    return f"failed: {type(error).__name__}: {error}".splitlines()[0]


def _side_by_side(
    work: Callable[..., Any],
    tasks: Sequence[Task],
    extra: str,
    tell: Callable[[str], None],
    jobs: int,
    later: int,
) -> Iterator[Done]:
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin)
    try:
        with _uninterrupted():
            started = {pool.submit(attempt, work, t, extra, _silent): t[0] for t in tasks}
        _tell_running(started, tell, jobs, later)
        for future in as_completed(started):
            error = future.exception()
            if error is None:
                yield future.result()
            else:  # A process was killed, or a result cannot be sent.
                yield Done(started[future], None, _words(error), 0.0)
            _tell_running(started, tell, jobs, later)
    except BaseException:
        # The pool would wait for what runs, which may take hours.
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _tell_running(
    started: dict[Future, Any], tell: Callable[[str], None], jobs: int, later: int
) -> None:
    """The pool starts tasks in their order, so the first that are not done are running."""
    left = [str(name) for future, name in started.items() if not future.done()]
    if left:
        tell(_progress(f"running {', '.join(left[:jobs])}", len(left[jobs:]) + later))


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Start processes that Ctrl-C passes over: a terminal sends it to all, and one must answer.

    This one answers when all are started, for one that is half started would be forgotten.
    """
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    answer = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    # A handler is not inherited, and what is blocked is.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGINT, answer)
        if came:
            signal.raise_signal(signal.SIGINT)


def _begin() -> None:
    """What a process of the pool does first."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    configure()


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone.

    The pool's queue does not tell: every process of the pool holds both of its ends.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _silent(_line: str) -> None:
    """Processes side by side would overwrite each other's line."""
