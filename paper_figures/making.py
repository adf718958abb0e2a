"""Making one figure, in whichever process: its table, its picture, or why there is none."""

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from paper_figures import style, table
from paper_figures.figures import FIGURES
from paper_figures.work import Work, as_json


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
    module = module_of(name)
    settings = as_json(module.settings(quick))
    path = table.path_of(out, name, settings)
    work = Work(folder=path.with_suffix(""), tell=tell)
    results = table.obtain(path, name, settings, lambda: module.compute(settings, work))
    table.write_csv(results, out / f"{name}.csv")
    return style.store(module.draw(results), results, out, name)[0]


def module_of(name: str) -> ModuleType:
    """The module behind a figure's name."""
    return importlib.import_module(f"paper_figures.figures.{FIGURES[name]}")
