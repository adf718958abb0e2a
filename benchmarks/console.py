"""What the command lines of the benchmarks and of the figures share."""

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from benchmarks.ending import tidy_up_first
from fsd_jax import _files

CORES = os.cpu_count() or 1
MOST_SEED = 2**32 - 1
"""A generator is seeded with 32 bits; what is above them would be dropped."""


class Parser(argparse.ArgumentParser):
    """One line of advice instead of a usage dump; `prog` is ``python -m PACKAGE ...``."""

    def error(self, message: str) -> None:  # type: ignore[override]
        package = self.prog.split()[2]
        line = " ".join(message.splitlines())
        self.exit(2, f"{package}: error: {line}; see {self.prog} --help\n")

    def add_jobs(self, what: str) -> None:
        """The option ``--jobs``: how many of `what` run side by side."""
        self.add_argument(
            "--jobs",
            type=positive,
            default=CORES,
            metavar="N",
            help=f"{what} run side by side (default: one a core)",
        )

    @contextlib.contextmanager
    def own(self, out: Path) -> Iterator[None]:
        """Make the folder of ``--out``, try to write there, and keep other runs out of it.

        The lock is the folder's own: it leaves no file, and a kill opens it.
        """
        handle = None
        tidy_up_first()
        try:
            out.mkdir(parents=True, exist_ok=True)
            _files.check_writable(out)
            if os.name == "posix":
                handle = os.open(out, os.O_RDONLY)
        except OSError as error:
            self.error(f"--out must be a writable folder, got {str(out)!r}: {error.strerror}")
        try:
            if handle is not None and not _files.try_lock(handle):
                self.error(
                    f"another run is writing to {str(out)!r}; wait for it or end it, or choose "
                    "another --out"
                )
            yield
        finally:
            if handle is not None:
                os.close(handle)


def integer(given: str) -> int:
    """For argparse: ``1e6`` is one, too."""
    with contextlib.suppress(ValueError, OverflowError):
        value = float(given)
        if value == int(value):
            return int(value)
    raise argparse.ArgumentTypeError(f"must be an integer, got {given!r:.80}")


def positive(given: str) -> int:
    """For argparse: an integer from 1."""
    value = integer(given)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {given!r:.80}")
    return value


def seed(given: str) -> int:
    """For argparse: different seeds give different draws."""
    value = integer(given)
    if not 0 <= value <= MOST_SEED:
        raise argparse.ArgumentTypeError(f"must be from 0 to {MOST_SEED}, got {given!r:.80}")
    return value


def folder(given: str) -> Path:
    """For argparse: a path that was not forgotten."""
    if not given.strip():
        raise argparse.ArgumentTypeError("must name a folder, got nothing")
    return Path(given)


def configure() -> None:
    """What every process that computes numbers sets."""
    jax.config.update("jax_enable_x64", True)
    logging.getLogger("fsd_jax").setLevel(logging.ERROR)


def tell(line: str) -> None:
    """Progress on one line, for people only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[:100]}", end="", file=sys.stderr, flush=True)
