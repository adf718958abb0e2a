"""How a command line ends: with its status, or quietly when it is interrupted or not read."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

INTERRUPTED = 128 + 2
"""As a shell has it for a program that Ctrl-C ended (signal 2)."""
UNREAD = 128 + 13
"""As a shell has it for one whose output nobody reads any more (signal 13, SIGPIPE)."""


def end(package: str, main: Callable[[], int]) -> NoReturn:
    """Run a command line and leave the process with its status.

    This module loads nothing, so that an interruption is quiet while the libraries load, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _AtOnce(package))
    try:
        try:
            status = main()
        finally:
            # Now, while somebody can still be told; not when the interpreter is gone half-way.
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        _leave(UNREAD)
    except KeyboardInterrupt:
        _leave(INTERRUPTED, f"{package}: interrupted")
    if status == INTERRUPTED:
        _leave(status)
    sys.exit(status)


def tidy_up_first() -> None:
    """From here on an interruption is raised, for there is work to tidy up; a second one is not.

    Before, it would only be lost: some library that is loading passes over any exception.
    """
    at_once = signal.getsignal(signal.SIGINT)
    if isinstance(at_once, _AtOnce):

        def first(_number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, at_once)
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, first)


def end_with(parent: int) -> None:
    """End this process, from now on, as soon as it is no longer the child of `parent`.

    For programs that a benchmark starts; a pool's processes have a pipe to watch.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _AtOnce:
    """What an interruption does where nothing is to be tidied up."""

    def __init__(self, package: str) -> None:
        self.package = package

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        _leave(INTERRUPTED, f"{self.package}: interrupted")


def _leave(status: int, words: str = "") -> NoReturn:
    """End at once: threads that still compile would be waited for, and files are whole anyway."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A signal may come in the middle of a write to the same stream, which is a RuntimeError.
    with contextlib.suppress(OSError, RuntimeError):
        if words and sys.stderr:
            print(words, file=sys.stderr)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, RuntimeError):
            stream.flush()
    os._exit(status)
