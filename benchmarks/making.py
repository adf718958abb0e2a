"""One study made in whichever process: its table, its pictures, its sentence."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import drawing, processes, table
from benchmarks.console import CORES
from benchmarks.study import Study, Work, studies


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a run asks of every study.

    Attributes:
        size: one of `benchmarks.study.SIZES`.
        out: folder of tables, pictures and pages.
        seed: base seed.
        data: data sets; see `benchmarks.study.Work`.
        anew: compute what is there already.
    """

    size: str
    out: Path
    seed: int = 0
    data: tuple[str, ...] = ()
    anew: bool = False

    def path(self, study: Study) -> Path:
        """Where the table of this run lies."""
        asked = study.asked(self.size, self.seed, self.data)
        return table.path_of(self.out, study.name, asked)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of it.

    Attributes:
        table: the numbers.
        pictures: paths of the PNG files.
        finding: one sentence.
    """

    table: table.Table
    pictures: list[Path]
    finding: str


def run(
    names: Sequence[str],
    asked: Asked,
    *,
    extra: str,
    tell: Callable[[str], None],
    jobs: int = CORES,
) -> Iterator[processes.Done]:
    """Make studies and yield the end of each, in no fixed order; the result is a `Made`.

    Those that time nothing run side by side, then the others one by one. First comes what soon
    has a finding, then what takes long.
    """
    known = studies()
    ordered = sorted(names, key=lambda name: (not known[name].first, not known[name].long))
    tasks = [(name, asked) for name in ordered]
    alone = [name for name in names if known[name].timed]
    return processes.run(make, tasks, extra=extra, tell=tell, jobs=jobs, alone=alone)


def make(name: str, asked: Asked, tell: Callable[[str], None]) -> Made:
    """Compute a study's table unless it is there, draw it, and say what it found."""
    study = studies()[name]
    path = asked.path(study)
    work = Work(
        size=asked.size,
        seed=asked.seed,
        folder=path.with_suffix(""),
        tell=lambda line: tell(f"{name}: {line}"),
        data=asked.data,
    )
    if asked.anew and path.exists():
        # A killed run goes on from what it kept; after one that ended, that would be no new run.
        shutil.rmtree(work.folder, ignore_errors=True)
        path.unlink()
    found = table.obtain(path, lambda: study.table(work), anew=asked.anew)
    table.write_csv(found, asked.out / f"{name}.csv")
    pictures = [
        drawing.store(figure, found, asked.out, picture)[0]
        for picture, figure in study.drawn(found).items()
    ]
    return Made(table=found, pictures=pictures, finding=study.says(found))
