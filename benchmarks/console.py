"""What the command lines of the benchmarks and of the figures share."""

import argparse
import logging
import os
import sys
from pathlib import Path

import jax

CORES = os.cpu_count() or 1


class Parser(argparse.ArgumentParser):
    """One line of advice instead of a usage dump; `prog` is ``python -m PACKAGE ...``."""

    def error(self, message: str) -> None:  # type: ignore[override]
        package = self.prog.split()[2]
        self.exit(2, f"{package}: {message}; see {self.prog} --help\n")

    def add_jobs(self, what: str) -> None:
        """The option ``--jobs``: how many of `what` run side by side."""
        self.add_argument(
            "--jobs",
            type=_positive,
            default=CORES,
            metavar="N",
            help=f"{what} run side by side (default: one a core)",
        )

    def need_folder(self, out: Path) -> None:
        """Make the folder of ``--out``, or say why it cannot be."""
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.error(f"--out must be a writable folder, got {str(out)!r}: {error.strerror}")


def _positive(given: str) -> int:
    if not given.isdecimal() or int(given) == 0:
        raise argparse.ArgumentTypeError(f"must be a positive number, got {given!r}")
    return int(given)


def configure() -> None:
    """What every process that computes numbers sets."""
    jax.config.update("jax_enable_x64", True)
    logging.getLogger("fsd_jax").setLevel(logging.ERROR)


def tell(line: str) -> None:
    """Progress on one line, for people only."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{line[:100]}", end="", file=sys.stderr, flush=True)
