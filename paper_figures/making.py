"""Making one figure, in whichever process: its table and its picture."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from paper_figures import style, table
from paper_figures.figures import FIGURES
from paper_figures.work import Work, as_json


def make(name: str, out: Path, quick: bool, tell: Callable[[str], None]) -> Path:
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
