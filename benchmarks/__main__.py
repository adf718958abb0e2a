"""The command line: ``python -m benchmarks [NAME ...] [--quick | --full] [--out DIR]``.

Also ``python -m benchmarks compare A B`` and ``python -m benchmarks sweep --help``.
"""

import importlib
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks import compare, records, schedule, table
from benchmarks.console import Parser, configure, tell

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
    options = _parse(given)
    if options.list:
        for name, module in ALL.items():
            when = " (by name only)" if name in BY_NAME else ""
            print(f"{name:<14} {_module('cases', module).SUMMARY}{when}")
        return 0
    configure()
    size = "quick" if options.quick else "full" if options.full else "default"
    usual = [name for name in CASES if not (options.quick and name in NOT_QUICK)]
    names = list(dict.fromkeys(options.names or usual))
    modules = {name: ALL[name] for name in names}
    finished: dict[str, schedule.Done] = {}
    try:
        for done in schedule.run_all(
            modules,
            size=size,
            seed=options.seed,
            out=options.out,
            tell=tell,
            data=tuple(options.data),
            jobs=options.jobs,
        ):
            tell("")
            finished[done.name] = done
            rows = schedule.in_order(names, finished)
            path = records.write(options.out, rows, seed=options.seed, size=size)
            _show(done, options.out)
    except ImportError as error:
        print(f"benchmarks: {error.name} is missing: pip install 'fsd-jax[bench]'", file=sys.stderr)
        return 1
    print(f"records: {path}")
    return 0


def _show(done: schedule.Done, out: Path) -> None:
    """A case's table and figures."""
    module = ALL[done.name]
    text = table.render(done.rows, getattr(_module("cases", module), "lines", None))
    print(f"\n{text}\n\n{done.name}: {done.seconds:.0f} s", flush=True)
    if module not in WITHOUT_FIGURE:
        for picture in _module("figures", module).draw(done.rows, out):
            print(f"figure: {picture}")


def _parse(given: list[str]) -> Namespace:
    parser = Parser(prog="python -m benchmarks", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="cases to run (default: all but some)"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="in one to two minutes")
    size.add_argument("--full", action="store_true", help="everything")
    parser.add_argument("--out", type=Path, default=ROOT / "results", help="default: results/")
    parser.add_argument("--seed", type=int, default=0, help="base seed (default 0)")
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
    if options.seed < 0:
        parser.error(f"--seed must not be negative, got {options.seed}")
    if not options.list:
        parser.need_folder(options.out)
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


if __name__ == "__main__":
    sys.exit(main())
