"""The command line: ``python -m benchmarks [NAME ...] [--quick | --full] [--out DIR]``.

Also ``python -m benchmarks compare A B`` and ``python -m benchmarks sweep --help``.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from benchmarks import compare, making, processes, records, text
from benchmarks.console import Parser, configure, folder, seed, tell
from benchmarks.ending import INTERRUPTED
from benchmarks.making import Asked
from benchmarks.study import studies

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen studies; returns the exit status."""
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
        for name, study in studies().items():
            when = "" if study.usual else " (by name only)"
            print(f"{name:<14} {study.summary}{when}")
        return 0
    usual = [n for n, s in studies().items() if s.usual and (s.quick or not options.quick)]
    names = list(dict.fromkeys(options.names or usual))
    with parser.own(options.out):
        try:
            results = records.Results(options.out, names, data=options.data)
        except (ValueError, OSError) as error:
            parser.error(str(error))
        try:
            return _run(names, options, results)
        except KeyboardInterrupt:
            tell("")
            print(f"benchmarks: interrupted; what ended is in {results.path}", file=sys.stderr)
            return INTERRUPTED


def _run(names: list[str], options: Namespace, results: records.Results) -> int:
    from benchmarks import index

    configure()
    asked = Asked(
        size="quick" if options.quick else "full" if options.full else "default",
        out=options.out,
        seed=options.seed,
        data=tuple(options.data),
        anew=True,
    )
    failed = False
    for done in making.run(names, asked, extra="bench", tell=tell, jobs=options.jobs):
        tell("")
        failure = done.failure
        if not failure:
            results.replace(done.name, done.result.table.records())
            shown = processes.attempt(_show, (done.name, done), "bench", tell)
            failure = shown.failure
        if failure:
            print(f"benchmarks: {done.name} {failure}", file=sys.stderr)
            failed = True
    print(f"\nall findings: {index.write(options.out)}\nrecords: {results.path}")
    return 1 if failed else 0


def _show(name: str, done: processes.Done, _tell: object) -> None:
    """Print a study's finding, its table, and where its pictures are."""
    made = done.result
    print(f"\n{name} ({done.seconds:.0f} s): {made.finding}\n", flush=True)
    print(text.render(studies()[name].lines(made.table)))
    for picture in made.pictures:
        print(f"picture: {picture}", flush=True)


def _parse(given: list[str], parser: Parser) -> Namespace:
    known = studies()
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="studies to run (default: all but some)"
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
        help="only this data set, of a study that has several; may be given again",
    )
    parser.add_jobs("studies that time nothing")
    parser.add_argument("--list", action="store_true", help="name the studies and stop")
    options = parser.parse_args(given)
    for name in options.names:
        if name not in known:
            parser.error(f"no case named {name!r}; choose from {', '.join(known)}")
    for name in options.names if options.data else ():
        for data in options.data:
            if data not in known[name].data:
                have = ", ".join(known[name].data) or "one"
                parser.error(f"{name} has no data set {data!r}; it has {have}")
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
