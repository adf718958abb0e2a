"""The report: a verdict on every statement, computed from the results tables, as JSON and HTML."""

import ast
import base64
import html
import importlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

from fsd_jax._files import write_text
from fsd_jax._provenance import provenance
from paper_figures.statements import STATEMENTS, Statement
from paper_figures.table import LeftOut, Missing, Table, words
from paper_figures.verdicts import NOT_TESTABLE, VERDICTS, Verdict

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


def entries(tables: Tables, statements: Sequence[Statement] = STATEMENTS) -> list[dict[str, Any]]:
    """One entry a statement, ready for JSON."""
    found = []
    for statement in statements:
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


def write(folder: Path, tables: Tables, titles: Mapping[str, str]) -> list[Path]:
    """``report.json`` and ``report.html``, each replaced atomically."""
    found = entries(tables)
    paths = [folder / "report.json", folder / "report.html"]
    write_text(paths[0], json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    write_text(paths[1], page(found, tables, titles, folder))
    return paths


def page(
    found: Sequence[dict[str, Any]], tables: Tables, titles: Mapping[str, str], folder: Path
) -> str:
    """The whole page, with its pictures inside."""
    counts = {v: sum(e["verdict"] == v for e in found) for v in VERDICTS}
    summary = "".join(
        f'<li><span class="badge {_class(v)}">{v}</span> {n}</li>' for v, n in counts.items()
    )
    rows = "".join(_row(entry) for entry in found)
    pictures = "".join(_picture(name, tables[name], titles[name], folder) for name in tables)
    made = provenance()
    versions = ", ".join(f"{k} {v}" for k, v in made["versions"].items() if v)
    origin = f"Commit {made['git']}; {versions}; {made['device']}; {made['processor']}."
    origin += _kept(tables, made["git"])
    heads = "".join(f"<th>{text}</th>" for text in HEADS)
    return PAGE.format(
        summary=summary, heads=heads, rows=rows, pictures=pictures, origin=html.escape(origin)
    )


def _kept(tables: Tables, commit: str | None) -> str:
    """Which tables another commit's code computed, if any."""
    others = [
        f"{name} ({table.made.get('git')})"
        for name, table in tables.items()
        if isinstance(table, Table) and table.made.get("git") != commit
    ]
    if not others:
        return ""
    return f" Kept from other commits: {', '.join(others)}; delete their tables to compute again."


HEADS = ("statement", "what it says", "function and test", "measured", "exact", "verdict")


def _row(entry: Mapping[str, Any]) -> str:
    code = f"<code>{html.escape(entry['function'])}</code>"
    if entry["test"]:
        code += f"<br><code>{html.escape(entry['test'])}</code>"
    interval = ""
    if entry["low"] is not None:
        interval = (
            f'<br><span class="faint">{_number(entry["low"])} to {_number(entry["high"])}</span>'
        )
    cells = (
        f"<b>{_prose(entry['statement'])}</b>",
        _prose(entry["says"]),
        code,
        _number(entry["measured"]) + interval,
        _number(entry["exact"]),
        f'<span class="badge {_class(entry["verdict"])}">{entry["verdict"]}</span>'
        f'<span class="reason">{_prose(entry["reason"])}</span>',
    )
    inner = "".join(
        f'<td data-label="{head}"><div>{cell}</div></td>'
        for head, cell in zip(HEADS, cells, strict=True)
    )
    return f"<tr>{inner}</tr>\n"


def _picture(name: str, table: Table | Missing, title: str, folder: Path) -> str:
    head = f'<h3 id="{name}">{name}</h3><p>{_prose(title)}</p>'
    if isinstance(table, Missing):
        return f'<section>{head}<p class="lost">Not drawn: {html.escape(str(table))}.</p></section>'
    lost = "".join(f"<li>{html.escape(words(cell))}</li>" for cell in table.absent())
    if lost:
        head += f'<p class="lost">Missing cells:</p><ul class="lost">{lost}</ul>'
    path = folder / f"{name}.png"
    if not path.is_file():
        return f'<section>{head}<p class="lost">No picture {path.name}.</p></section>'
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<section>{head}<img alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
        f'<p class="faint">Numbers: {name}.csv, for print: {name}.pdf; computed at commit '
        f"{html.escape(str(table.made.get('git')))}.</p></section>"
    )


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e6):
        return f"{int(value):,}"
    return f"{value:.4g}"


SUBSCRIPT = re.compile(
    r"\b(n|m|sigma|lambda|delta|beta|c|C|A|G|x|W|q|f)_(ta|max|min|[a-zZ0-9])\b|(\|\|)_(F)"
)
GREEK = (
    "sigma σ",
    "lambda λ",
    "delta δ",
    "alpha α",
    "eps ε",
    "gamma γ",
    "iota ι",
    "beta β",
    "tau τ",
    "rho ρ",
)
SIGNS = {"||": "‖", "-&gt;": "→", "&gt;=": "≥", "&lt;=": "≤"}


def _prose(text: str) -> str:
    """Plain words with indices and powers set as such."""
    safe = _raised(html.escape(text, quote=False))
    safe = SUBSCRIPT.sub(lambda m: f"{m[1] or m[3]}<sub>{m[2] or m[4]}</sub>", safe)
    for pair in GREEK:
        word, letter = pair.split()
        safe = re.sub(rf"\b{word}\b", letter, safe)
    for written, sign in SIGNS.items():
        safe = safe.replace(written, sign)
    return safe


def _raised(text: str) -> str:
    """``^2`` and ``^(...)``, brackets within brackets too, as superscripts."""
    head, hat, rest = text.partition("^")
    if not hat:
        return text
    if rest.startswith("("):
        depths = itertools.accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in rest)
        end = next((i for i, depth in enumerate(depths, start=1) if depth == 0), len(rest))
        power = rest[1 : end - 1]
    else:
        end = len(rest) - len(rest.lstrip("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        power = rest[:end]
    return f"{head}<sup>{power}</sup>{_raised(rest[end:])}"


def _class(verdict: str) -> str:
    return verdict.replace(" ", "-")


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Few-Shot Diffusion Models Escape the Curse of Dimensionality: verdicts</title>
<style>
:root {{ color-scheme: light; }}
body {{ font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; background: #fff; margin: 0 auto;
  padding: 1.2rem; max-width: 1400px; }}
h1 {{ font-size: 1.5rem; line-height: 1.25; margin: .2rem 0 .6rem; }}
h3 {{ margin: 2rem 0 .2rem; }}
p {{ max-width: 75ch; }}
.counts {{ list-style: none; display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; padding: 0; }}
table {{ border-collapse: collapse; width: 100%; table-layout: fixed; margin-top: 1rem; }}
th {{ text-align: left; border-bottom: 2px solid #444; padding: .4rem .5rem; font-weight: 600; }}
td {{ vertical-align: top; border-bottom: 1px solid #ddd; padding: .5rem;
  overflow-wrap: anywhere; }}
th:nth-child(1) {{ width: 12%; }} th:nth-child(2) {{ width: 19%; }}
th:nth-child(3) {{ width: 21%; }} th:nth-child(4) {{ width: 10%; }}
th:nth-child(5) {{ width: 7%; }}
code {{ font-size: .78rem; }}
.faint {{ color: #5a5a5a; font-size: .85rem; }}
.badge {{ display: inline-block; padding: .05rem .5rem; border: 1.5px solid; border-radius: .6rem;
  font-weight: 600; font-size: .85rem; white-space: nowrap; background: #fff; }}
.confirmed {{ color: #17632c; }} .sharper {{ color: #0b4f8a; }} .corrected {{ color: #8a4b00; }}
.not-reproduced {{ color: #a01616; border-style: double; border-width: 3px; }}
.not-testable-here {{ color: #5a5a5a; border-style: dashed; }}
.reason {{ display: block; margin-top: .3rem; font-size: .92rem; }}
.lost {{ color: #a01616; font-weight: 600; }}
img {{ max-width: 100%; height: auto; border: 1px solid #e3e3e3; }}
@media (max-width: 860px) {{
  body {{ padding: .8rem; }}
  table, tbody, tr, td {{ display: block; width: auto; }}
  thead {{ display: none; }}
  tr {{ border: 1px solid #ccc; border-radius: .5rem; margin: .8rem 0; padding: .3rem .6rem; }}
  td {{ display: flex; gap: .6rem; border: 0; padding: .25rem 0; }}
  td::before {{ content: attr(data-label); flex: 0 0 5.6rem; color: #5a5a5a; font-size: .85rem; }}
  td > div {{ flex: 1 1 auto; min-width: 0; }}
  td:first-child::before {{ display: none; }}
}}
</style></head><body>
<h1>Few-Shot Diffusion Models Escape the Curse of Dimensionality: what holds, as numbers</h1>
<p>Every statement of the paper (Yang et al., NeurIPS 2024), the function that implements it, the
test that pins it, and a verdict that a rule computes from the results below. <b>confirmed</b>: it
holds as stated. <b>sharper</b>: it holds, and more does. <b>corrected</b>: it fails as printed,
and the form put beside it holds. <b>not reproduced</b>: the numbers contradict it, and no
corrected form is shown to hold. <b>not testable here</b>: something is missing, and the reason says
what. A mean counts as equal to its exact value within four standard errors.</p>
<ul class="counts">{summary}</ul>
<table><thead><tr>{heads}</tr></thead><tbody>
{rows}</tbody></table>
<h2>Figures</h2>
{pictures}
<p class="faint">{origin}</p>
</body></html>
"""
