"""The report: a verdict on every statement, computed from the results tables, as JSON and HTML."""

import ast
import importlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.judging import NOT_TESTABLE, VERDICTS, Statement, Verdict
from benchmarks.study import Study, figures, statements
from benchmarks.table import LeftOut, Missing, Table, words
from fsd_jax._files import write_text

ROOT = Path(__file__).resolve().parent.parent
Tables = Mapping[str, Table | Missing]
"""The table of each figure, or why there is none."""


def resolve(name: str) -> Any:
    """The object with this dotted name.

    Raises:
        LookupError: a part of it does not exist.
    """
    parts = name.split(".")
    found, depth = importlib.import_module(parts[0]), 1
    for part in parts[1:]:
        depth += 1
        module = ".".join(parts[:depth])
        if hasattr(found, part):
            found = getattr(found, part)
        elif hasattr(found, "__path__") and util.find_spec(module):
            found = importlib.import_module(module)
        else:
            raise LookupError(f"{module} is missing")
    return found


@cache
def _tests_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def has_test(node_id: str) -> bool:
    """Whether the file of this test id exists and defines the test."""
    file, _, name = node_id.partition("::")
    path = ROOT / file
    return path.is_file() and name in _tests_of(path)


def judge(statement: Statement, tables: Tables) -> Verdict:
    """The rule's verdict, or that it cannot be had and why."""
    lacking = _lacking(statement, tables)
    if lacking or statement.rule is None:
        return _cannot(lacking)
    table = tables[statement.figure]
    try:
        if isinstance(table, Missing):
            raise table
        return statement.rule(table)
    except LeftOut as error:
        return _cannot(f"left out: {error}")
    except Missing as error:
        return _cannot(f"result missing: {error}")
    except (KeyError, TypeError, ValueError, ArithmeticError, IndexError) as error:
        # A table that was tampered with must not take the report down.
        return _cannot(f"result unreadable: {type(error).__name__}: {error}")


def _lacking(statement: Statement, tables: Tables) -> str:
    """What stands between a statement and its results; empty if nothing does."""
    try:
        resolve(statement.function)
    except LookupError as error:
        return f"function missing: {error}"
    except ImportError as error:
        needs = "cannot be imported"
        if isinstance(error, ModuleNotFoundError):
            needs = f"needs {error.name}"
        return f"function missing: {statement.function} {needs}"
    if statement.figure not in tables:
        return f"figure missing: none is called {statement.figure}"
    if statement.rule is None:
        return f"rule missing: none reads the figure {statement.figure}"
    if statement.test is None or not has_test(statement.test):
        return f"test missing: {statement.test or 'none is named'}"
    return ""


def _cannot(reason: str) -> Verdict:
    return Verdict(verdict=NOT_TESTABLE, reason=reason)


def entries(tables: Tables, judged: Sequence[Statement] | None = None) -> list[dict[str, Any]]:
    """One entry a statement, ready for JSON."""
    found = []
    for statement in statements() if judged is None else judged:
        verdict = judge(statement, tables)
        known = statement.test if statement.test and has_test(statement.test) else None
        found.append(
            {
                "statement": statement.name,
                "says": statement.says,
                "function": statement.function,
                "test": known,
                "figure": statement.figure,
                "measured": verdict.measured,
                "low": verdict.low,
                "high": verdict.high,
                "exact": verdict.exact,
                "verdict": verdict.verdict,
                "reason": verdict.reason,
            }
        )
    return found


def write(folder: Path, tables: Tables) -> list[Path]:
    """``report.json`` and ``report.html``, each replaced atomically."""
    found = entries(tables)
    paths = [folder / "report.json", folder / "report.html"]
    write_text(paths[0], json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_text(paths[1], html(found, tables, folder))
    return paths


def html(found: Sequence[dict[str, Any]], tables: Tables, folder: Path) -> str:
    """The whole page, with its pictures inside."""
    there = {name: table for name, table in tables.items() if isinstance(table, Table)}
    return page.render(
        "report.html",
        counts={v: sum(e["verdict"] == v for e in found) for v in VERDICTS},
        entries=found,
        figures=[_figure(s, name, tables[name], folder) for name, s in figures().items()],
        origin=page.origin(),
        others=page.of_others(there),
    )


def _figure(study: Study, name: str, table: Table | Missing, folder: Path) -> dict[str, Any]:
    entry = {"name": name, "summary": study.summary, "numbers": study.name, "lost": ""}
    if isinstance(table, Missing):
        return entry | {"lost": str(table)}
    paths = [folder / f"{picture}.png" for picture in study.pictures]
    return entry | {
        "absent": [words(cell) for cell in table.absent()],
        "finding": study.says(table),
        "pictures": [path for path in paths if path.is_file()],
        "undrawn": [path.name for path in paths if not path.is_file()],
        "commit": str(table.made.get("git")),
    }
