"""The command line: ``python -m benchmarks [NAME ...] [--quick | --full] [--out DIR]``.

Also ``python -m benchmarks compare A B`` and ``python -m benchmarks sweep --help``.
"""

import importlib
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import compare, processes, records, schedule, table
from benchmarks.console import Parser, configure, folder, seed, tell
from benchmarks.ending import INTERRUPTED

CASES = {
    "agreement": "agreement",
    "ten-images": "ten_images",
    "solve": "solve",
    "optimise": "optimise",
    "linear-rates": "linear_rates",
    "gain": "gain",
    "simulate": "simulate",
    "durability": "durability",
    "scaling": "scaling",
}
"""Of those that time nothing the longest come first, so that all cores end together."""
BY_NAME = {
    "images": "images",
    "section4": "section4",
    "section4-rates": "section4_rates",
    "memorisation": "memorisation",
    "pretraining": "pretraining",
    "unet": "unet",
    "digits": "digits",
}
"""Studies of one to ten minutes each, `unet` of two hours, which run only when they are named."""
ALL = CASES | BY_NAME
NOT_QUICK = ("durability", "scaling")
"""They start processes that compile anew, so a quick run has them only if they are named."""
WITHOUT_FIGURE = ("simulate", "durability", "scaling", "memorisation", "pretraining", "digits")
ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen cases; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] == "compare":
        return _compare(given[1:])
    if given and given[0] == "sweep":
        from benchmarks import sweep

        parser = Parser(
            prog="python -m benchmarks sweep", description=sweep.__doc__, allow_abbrev=False
        )
        return sweep.main(given[1:], parser, ROOT)
    parser = Parser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    options = _parse(given, parser)
    if options.list:
        for name, module in ALL.items():
            when = " (by name only)" if name in BY_NAME else ""
            print(f"{name:<14} {_module('cases', module).SUMMARY}{when}")
        return 0
    usual = [name for name in CASES if not (options.quick and name in NOT_QUICK)]
    names = list(dict.fromkeys(options.names or usual))
    size = "quick" if options.quick else "full" if options.full else "default"
    with parser.own(options.out):
        try:
            results = records.Results(
                options.out, names, seed=options.seed, size=size, data=options.data
            )
        except (ValueError, OSError) as error:
            parser.error(str(error))
        try:
            return _run(names, size, options, results)
        except KeyboardInterrupt:
            tell("")
            print(f"benchmarks: interrupted; what ended is in {results.path}", file=sys.stderr)
            return INTERRUPTED


def _run(names: list[str], size: str, options: Namespace, results: records.Results) -> int:
    configure()
    failed = False
    for done in schedule.run_all(
        {name: ALL[name] for name in names},
        size=size,
        seed=options.seed,
        out=options.out,
        tell=tell,
        data=tuple(options.data),
        jobs=options.jobs,
    ):
        tell("")
        failure = done.failure
        if not failure:
            results.replace(done.name, done.result)
            shown = processes.attempt(_show, (done.name, done, options.out), "bench", tell)
            failure = shown.failure
        if failure:
            print(f"benchmarks: {done.name} {failure}", file=sys.stderr)
            failed = True
    print(f"records: {results.path}")
    return 1 if failed else 0


def _show(name: str, done: processes.Done, out: Path, _tell: object) -> None:
    """Print a case's table and draw its figures."""
    module = ALL[name]
    text = table.render(done.result, getattr(_module("cases", module), "lines", None))
    print(f"\n{text}\n\n{name}: {done.seconds:.0f} s", flush=True)
    if module not in WITHOUT_FIGURE:
        for picture in _module("figures", module).draw(done.result, out):
            print(f"figure: {picture}")


def _parse(given: list[str], parser: Parser) -> Namespace:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="cases to run (default: all but some)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="in one to two minutes")
    size.add_argument("--full", action="store_true", help="everything")
    parser.add_argument("--out", type=folder, default=ROOT / "results", help="default: results/")
    parser.add_argument("--seed", type=seed, default=0, help="base seed (default 0)")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="SET",
        help="only this data set, of `images` and `unet`; may be given again",
    )
    parser.add_jobs("cases that time nothing")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    options = parser.parse_args(given)
    for name in options.names:
        if name not in ALL:
            parser.error(f"no case named {name!r}; choose from {', '.join(ALL)}")
    for name in options.names if options.data else ():
        known = getattr(_module("cases", ALL[name]), "DATA", ())
        for data in options.data:
            if data not in known:
                parser.error(f"{name} has no data set {data!r}; it has {', '.join(known) or 'one'}")
    if options.data and not options.names:
        parser.error("--data needs the name of a case")
    return options


def _compare(given: list[str]) -> int:
    parser = Parser(prog="python -m benchmarks compare", allow_abbrev=False)
    parser.add_argument("first", type=Path, metavar="A", help="a results.jsonl or its folder")
    parser.add_argument("second", type=Path, metavar="B", help="another")
    options = parser.parse_args(given)
    try:
        print(compare.compare(options.first, options.second))
    except ValueError as error:
        parser.error(str(error))
    return 0


def _module(kind: str, name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{kind}.{name}")
