"""A study: one question, what it computes, how it is drawn, what it says, and what it judges.

A study is a module or a folder in a chapter of `benchmarks.studies`, and its ``STUDY`` says all
that the command lines need. There is no list of them: a module that is there is found.
"""

import importlib
import json
import os
import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from benchmarks import table, text
from benchmarks.judging import Statement
from benchmarks.records import Record, record
from benchmarks.table import Missing, Table
from fsd_jax import sweep
from fsd_jax.sweep._run import BATCH_SIZE

T = TypeVar("T")
R = TypeVar("R")
Settings = dict[str, Any]
SIZES = ("quick", "default", "full")
PAIRS: Settings = {
    "method": ["rank", "orthonormal"],
    "metric": ["subspace_error", "score_error"],
}
"""Studies that ask for all of these together share a compiled program."""
CELL = ("n_ta", "n_s", "d", "D", "t", "latent_variance", "tau", "replicates")


@dataclass(frozen=True, kw_only=True)
class Work:
    """The surroundings of one computation.

    Attributes:
        size: one of `SIZES`.
        seed: base seed.
        folder: where a study keeps what it resumes from.
        tell: called with a short line at each step.
        data: names of the only data sets to use, for a study with a list of them; none: all.
    """

    size: str
    seed: int
    folder: Path
    tell: Callable[[str], None]
    data: tuple[str, ...] = ()

    def sweep(self, series: str, *, batch_size: int = BATCH_SIZE, **plan: Any) -> Iterator[Record]:
        """Rows of a sweep over few-shot errors, resumed from its journal where it has one.

        An interruption waits for the running batch, and loses it.
        """
        self.tell(series)
        asked = sweep.plan_errors(**PAIRS | plan, seed=self.seed, dtype=np.float32)
        out = self.folder / series.replace(" ", "-").replace("^", "").replace(",", "")
        sweep.run(asked, out, batch_size=batch_size, resume=True)
        for found in sweep.read_results(out):
            yield record(
                series,
                found["mean"],
                method=found["method"],
                metric=found["metric"],
                stderr=found["stderr"],
                status=found["status"],
                **{name: found[name] for name in CELL},
            )


def _none(_size: str) -> Settings:
    return {}


@dataclass(frozen=True, kw_only=True)
class Study:
    """One question.

    Attributes:
        name: on the command line, in files, and the ``case`` of its records.
        summary: what it asks, in one line.
        compute: yields its records.
        finding: what its table says, in one sentence with its number and error.
        settings: the plain values that decide every number at a size.
        pictures: by file name, each from the table to a Matplotlib figure; None where it has
            nothing to show, as for a data set that was not asked for.
        lines: the table as people read it, by default one line a record.
        figure: its name among the paper's figures; empty if it is none of them.
        statements: of the paper, judged from its table.
        usual: part of a run of the benchmarks that names none.
        quick: part of a quick run that names none.
        timed: its numbers are times, which company would spoil.
        long: started before the others, so that no core waits at the end.
        first: started before those, so that who waits soon reads a finding.
        data: the data sets that ``--data`` chooses from.
        measured: fields of its records that hold results, besides `benchmarks.table.MEASURED`.
    """

    name: str
    summary: str
    compute: Callable[[Settings, Work], Iterable[Record]]
    finding: Callable[[Table], str]
    settings: Callable[[str], Settings] = _none
    pictures: Mapping[str, Callable[[Table], Any]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    lines: Callable[[Table], text.Lines] = text.plain
    figure: str = ""
    statements: tuple[Statement, ...] = ()
    usual: bool = False
    quick: bool = True
    timed: bool = False
    long: bool = False
    first: bool = False
    data: tuple[str, ...] = ()
    measured: tuple[str, ...] = ()

    def says(self, table: Table) -> str:
        """The finding, or which result is missing for it."""
        try:
            return self.finding(table)
        except Missing as lost:
            why = next((f" ({r['status']})" for r in table.rows if r["status"] != "ok"), "")
            return f"No finding, a result is missing: {lost}{why}."

    def drawn(self, table: Table) -> dict[str, Any]:
        """The figures by their names; of a table without any result there are none."""
        made = {name: draw(table) for name, draw in self.pictures.items() if table.present()}
        return {name: figure for name, figure in made.items() if figure is not None}

    def asked(self, size: str, seed: int = 0, data: Iterable[str] = ()) -> dict[str, Any]:
        """What names a table of this study, as it comes back from a file."""
        found = {"size": size, "seed": seed, "data": sorted(data), "settings": self.settings(size)}
        return json.loads(json.dumps(found))

    def table(self, work: Work) -> Table:
        """Compute its table."""
        asked = self.asked(work.size, work.seed, work.data)
        rows = self.compute(asked["settings"], work)
        return table.of_rows(self.name, rows, asked, self.measured)


@cache
def studies() -> dict[str, Study]:
    """Every study by its name, in the order of chapters and files."""
    package = importlib.import_module("benchmarks.studies")
    found: dict[str, Study] = {}
    for chapter in pkgutil.iter_modules(package.__path__, "benchmarks.studies."):
        path = importlib.import_module(chapter.name).__path__
        for module in pkgutil.iter_modules(path, f"{chapter.name}."):
            study = importlib.import_module(module.name).STUDY
            found[study.name] = study
    return found


def figures() -> dict[str, Study]:
    """The studies that are figures or tables of the paper, by that name."""
    return {study.figure: study for study in studies().values() if study.figure}


def statements() -> tuple[Statement, ...]:
    """Every statement of the paper, in the paper's order, with the figure that judges it."""
    found = [replace(s, figure=name) for name, study in figures().items() for s in study.statements]
    return tuple(sorted(found, key=lambda s: s.place))


def mean(values: Iterable[float]) -> dict[str, Any]:
    """The mean of independent draws as the ``value`` of a record, and its standard error."""
    found = np.array(list(values), float)
    error = float(found.std(ddof=1) / found.size**0.5) if found.size > 1 else None
    return {"value": float(found.mean()), "stderr": error}


def estimated(found: Any) -> dict[str, Any]:
    """An estimate with its bootstrap interval (`fsd_jax.image.metrics`), as fields of a record."""
    return {name: getattr(found, name) for name in ("value", "stderr", "low", "high")}


def side_by_side(function: Callable[[T], Iterable[R]], items: Iterable[T]) -> Iterator[R]:
    """What `function` yields for each item, in order, items being worked on by every core.

    For studies that time nothing: half of their minutes are compilations, and XLA compiles on one
    core with the interpreter's lock released.
    """
    pool, wait = ThreadPoolExecutor(os.cpu_count()), True
    try:
        for results in pool.map(lambda item: list(function(item)), items):
            yield from results
    except KeyboardInterrupt:
        # The process ends, and need not wait for a compilation to do so.
        wait = False
        raise
    finally:
        pool.shutdown(wait=wait, cancel_futures=True)
