"""The command line: ``python -m paper_figures [NAME ...] [--quick] [--out DIR]``, or ``--list``."""

import importlib
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from benchmarks import processes
from benchmarks.console import Parser, configure, tell
from paper_figures import report, style, table
from paper_figures.figures import FIGURES
from paper_figures.work import Work, as_json

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 130
CHEAP = "--xla_backend_optimization_level=0"
"""A quick run spends its time on compiling, not on what is compiled: this halves it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the chosen figures and the report; returns the exit status."""
    options = _parse(list(sys.argv[1:] if arguments is None else arguments))
    if options.list:
        for name in FIGURES:
            print(f"{name:<14} {_module(name).SUMMARY}")
        return 0
    if options.quick:
        # Read when JAX starts its backend, which has not happened yet.
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {CHEAP}".strip()
    configure()
    failed: dict[str, str] = {}
    names = options.names or _usual(quick=options.quick)
    # The longest first, so that no core waits at the end.
    tasks = [(name, options.out, options.quick) for name in sorted(names, key=_waits)]
    try:
        for done in processes.run(attempt, tasks, tell=tell, jobs=options.jobs):
            tell("")
            if done.failure:
                failed[done.name] = done.failure
                print(f"paper_figures: {done.name} {done.failure}", file=sys.stderr)
            else:
                print(f"{done.name}: {done.picture} ({done.seconds:.0f} s)", flush=True)
        for path in summarise(options.out, quick=options.quick, failed=failed):
            print(f"report: {path}")
    except KeyboardInterrupt:
        print("paper_figures: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    return 1 if failed else 0


class Made(NamedTuple):
    """A figure's picture, or why there is none, and the seconds it took."""

    name: str
    picture: Path | None
    failure: str
    seconds: float


def attempt(name: str, out: Path, quick: bool, tell: Callable[[str], None]) -> Made:
    """Make one figure; a failure must not cost the others and the report, which names it."""
    start = time.perf_counter()
    picture, failure = None, ""
    try:
        picture = make(name, out, quick=quick, tell=tell)
    except ImportError as error:
        failure = f"skipped: needs {error.name}: pip install 'fsd-jax[figures]'"
    except Exception as error:
        failure = f"failed: {type(error).__name__}: {error}"
    return Made(name, picture, failure, time.perf_counter() - start)


def make(name: str, out: Path, *, quick: bool, tell: Callable[[str], None]) -> Path:
    """Compute a figure's table unless it is there, and draw it; returns the picture's path."""
    module = _module(name)
    settings = as_json(module.settings(quick))
    path = table.path_of(out, name, settings)
    work = Work(folder=path.with_suffix(""), tell=tell)
    results = table.obtain(path, name, settings, lambda: module.compute(settings, work))
    table.write_csv(results, out / f"{name}.csv")
    return style.store(module.draw(results), results, out, name)[0]


def summarise(out: Path, *, quick: bool, failed: Mapping[str, str]) -> list[Path]:
    """Write the report from the tables of this size that are there, and why others are not."""
    tables: dict[str, table.Table | table.Missing] = {}
    for name in FIGURES:
        path = table.path_of(out, name, as_json(_module(name).settings(quick)))
        try:
            tables[name] = table.read(path)
        except table.Missing as lost:
            why = f"{lost}: {failed[name]}" if name in failed else str(lost)
            if quick and name not in _usual(quick=True):
                tables[name] = table.LeftOut("a quick run leaves this figure out")
            else:
                tables[name] = table.Missing(why)
    return report.write(out, tables, {name: _module(name).SUMMARY for name in FIGURES})


def _parse(given: list[str]) -> Namespace:
    parser = Parser(prog="python -m paper_figures", description=__doc__, allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to make (default: all)")
    parser.add_argument("--quick", action="store_true", help="within a minute, with fewer draws")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "figures",
                        help="default: results/figures/")  # fmt: skip
    parser.add_jobs("figures")
    parser.add_argument("--list", action="store_true", help="name the figures and stop")
    options = parser.parse_args(given)
    for name in options.names:
        if name not in FIGURES:
            parser.error(f"no figure named {name!r}; choose from {', '.join(FIGURES)}")
    if not options.list:
        parser.need_folder(options.out)
    return options


def _usual(*, quick: bool) -> list[str]:
    """What is made when no name is given."""
    return [name for name in FIGURES if not quick or getattr(_module(name), "IN_QUICK", True)]


def _waits(name: str) -> bool:
    """Whether a figure has time: the long ones are started first."""
    return not getattr(_module(name), "LONG", False)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"paper_figures.figures.{FIGURES[name]}")


if __name__ == "__main__":
    sys.exit(main())
