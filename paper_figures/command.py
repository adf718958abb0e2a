"""The command line: ``python -m paper_figures [NAME ...] [--quick] [--out DIR]``, or ``--list``."""

import os
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import making, table
from benchmarks.console import Parser, configure, folder, tell
from benchmarks.ending import INTERRUPTED
from benchmarks.making import Asked
from benchmarks.study import figures
from paper_figures import report

ROOT = Path(__file__).resolve().parent.parent
CHEAP = "--xla_backend_optimization_level=0"
"""A quick run spends its time on compiling, not on what is compiled: this halves it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the chosen figures and the report; returns the exit status."""
    parser = Parser(prog="python -m paper_figures", description=__doc__, allow_abbrev=False)
    options = _parse(list(sys.argv[1:] if arguments is None else arguments), parser)
    if options.list:
        for name, study in figures().items():
            print(f"{name:<14} {study.summary}")
        return 0
    with parser.own(options.out):
        try:
            return _run(options)
        except KeyboardInterrupt:
            tell("")
            print("paper_figures: interrupted; the same command goes on from here", file=sys.stderr)
            return INTERRUPTED


def _run(options: Namespace) -> int:
    if options.quick:
        # Read when JAX starts its backend, which has not happened yet.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CHEAP}".strip()
    configure()
    failed: dict[str, str] = {}
    asked = Asked(size="quick" if options.quick else "default", out=options.out)
    chosen = dict.fromkeys(options.names) or _usual(quick=options.quick)
    called = {figures()[name].name: name for name in chosen}
    for done in making.run(list(called), asked, extra="figures", tell=tell, jobs=options.jobs):
        tell("")
        name = called[done.name]
        if done.failure:
            failed[name] = done.failure
            print(f"paper_figures: {name} {done.failure}", file=sys.stderr)
        else:
            print(f"{name} ({done.seconds:.0f} s): {done.result.finding}")
            for picture in done.result.pictures:
                print(f"  picture: {picture}", flush=True)
    for path in summarise(asked, failed=failed):
        print(f"report: {path}")
    return 1 if failed else 0


def summarise(asked: Asked, *, failed: Mapping[str, str]) -> list[Path]:
    """Write the report from the tables of this size that are there, and why others are not."""
    tables: dict[str, table.Table | table.Missing] = {}
    quick = asked.size == "quick"
    for name, study in figures().items():
        try:
            tables[name] = table.read(asked.path(study))
        except table.Missing as lost:
            tables[name] = lost
            if name in failed:
                tables[name] = table.Missing(f"{lost}: {failed[name]}")
            elif quick and name not in _usual(quick=True):
                tables[name] = table.LeftOut("a quick run leaves this figure out")
    return report.write(asked.out, tables)


def _parse(given: list[str], parser: Parser) -> Namespace:
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to make (default: all)")
    parser.add_argument("--quick", action="store_true", help="within a minute, with fewer draws")
    parser.add_argument(
        "--out", type=folder, default=ROOT / "results" / "figures", help="default: results/figures/"
    )
    parser.add_jobs("figures")
    parser.add_argument("--list", action="store_true", help="name the figures and stop")
    options = parser.parse_args(given)
    for name in options.names:
        if name not in figures():
            parser.error(f"no figure named {name!r}; choose from {', '.join(figures())}")
    return options


def _usual(*, quick: bool) -> list[str]:
    """What is made when no name is given."""
    return [name for name, study in figures().items() if study.quick or not quick]
