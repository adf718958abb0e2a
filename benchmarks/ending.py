"""How a command line ends: with its status, or quietly when it is interrupted or not read."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

INTERRUPTED = 128 + 2
"""As a shell has it for a program that Ctrl-C ended (signal 2)."""
UNREAD = 128 + 13
"""As a shell has it for one whose output nobody reads any more (signal 13, SIGPIPE)."""


def end(package: str, main: Callable[[], int]) -> NoReturn:
    """Run a command line and leave the process with its status.

    This module loads nothing, so that an interruption is quiet while the libraries load, too.
    """
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


def _leave(status: int, words: str = "") -> NoReturn:
    """End at once: threads that still compile would be waited for, and files are whole anyway."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        if words and sys.stderr:
            print(words, file=sys.stderr)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)
