"""The registry has no holes, and the report says what is there and what is not."""

import dataclasses
import importlib
import json
import re

import pytest

from paper_figures import index, report
from paper_figures.figures import FIGURES
from paper_figures.statements import STATEMENTS
from paper_figures.table import Missing, of_rows, row
from paper_figures.verdicts import NOT_TESTABLE

NUMBERED = (
    "Assumption 3.1",
    "Assumption 4.1",
    "Assumption 4.2",
    "Theorem 4.3",
    "Theorem 5.2",
    "Lemma 5.1",
    "Lemma B.1",
    "Lemma B.2",
    "Lemma C.1",
    "Lemma C.2",
    "Lemma D.1",
    "Lemma D.2",
    "Lemma D.3",
    "Remark 4.4",
    "Remark 5.3",
    "Table 1",
    "Figure 1",
    "Figure 2",
)
KEYS = ("statement", "function", "test", "measured", "low", "high", "exact", "verdict", "reason")


def _exists(name):
    try:
        report.resolve(name)
    except (LookupError, ImportError):
        return False
    return True


def test_every_numbered_statement_is_there_once():
    names = [s.name for s in STATEMENTS]
    assert len(set(names)) == len(names)
    assert set(NUMBERED) <= set(names)
    assert any(name.startswith("Section 5.1") for name in names)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: s.name)
def test_no_holes(statement):
    assert statement.says
    if statement.rule is None:
        # Still to come: then the function or the figure is.
        assert not _exists(statement.function) or statement.figure not in FIGURES
        return
    assert statement.rule.__doc__, "a rule says what decides"
    assert _exists(statement.function)
    assert statement.figure in FIGURES
    assert report.has_test(statement.test)


@pytest.mark.parametrize("page", index.PAGES, ids=str)
def test_pages_are_written_from_the_registries(page):
    written = (report.ROOT / page).read_text(encoding="utf-8")
    assert written == index.PAGES[page](), "run python -m paper_figures.index"


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_has_what_the_command_needs(name):
    module = importlib.import_module(f"paper_figures.figures.{FIGURES[name]}")
    assert "\n" not in module.SUMMARY
    assert module.__doc__
    for part in ("compute", "draw"):
        assert callable(getattr(module, part))
    for quick in (True, False):
        assert json.loads(json.dumps(module.settings(quick)))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"function": "fsd_jax.nowhere.to_be_found"}, "function missing: fsd_jax.nowhere"),
        ({"test": "tests/test_latent.py::test_nothing"}, "test missing: tests/test_latent.py"),
        ({"test": "tests/none.py::test_law"}, "test missing: tests/none.py"),
        ({"figure": "figure-9"}, "figure missing: none is called figure-9"),
        ({"rule": None}, "rule missing"),
    ],
)
def test_what_is_missing_is_named(change, reason):
    whole = next(s for s in STATEMENTS if s.name == "Remark 5.3")
    found = report.judge(
        dataclasses.replace(whole, **change), {"theorem-5.2": Missing("never asked")}
    )
    assert found.verdict == NOT_TESTABLE
    assert found.reason.startswith(reason)


def test_without_results_all_is_missing_and_the_page_says_so(tmp_path):
    tables = {name: Missing(f"no table {name}") for name in FIGURES}
    titles = dict.fromkeys(FIGURES, "a title with n_ta and a<b")
    paths = report.write(tmp_path, tables, titles)
    found = json.loads(paths[0].read_text(encoding="utf-8"))
    assert len(found) == len(STATEMENTS)
    for entry in found:
        assert set(KEYS) <= set(entry)
        assert entry["verdict"] == NOT_TESTABLE
    page = paths[1].read_text(encoding="utf-8")
    assert page.count("<tr>") == len(STATEMENTS) + 1
    assert page.count("Not drawn: no table") == len(FIGURES)
    assert "n<sub>ta</sub> and a&lt;b" in page
    # Nothing is fetched: the only addresses are those of pictures, which are inside.
    assert not re.search(r"(src|href)=\"(?!data:)|@import|url\(", page)
    assert "Kept from other commits" not in page


def test_tables_that_other_code_computed_are_named(tmp_path):
    new = of_rows("appendix", [row("a", 1.0)])
    old = dataclasses.replace(new, made=new.made | {"git": "an-older-one"})
    tables = {"appendix": new, "theorem-5.2": old}
    page = report.page([], tables, dict.fromkeys(tables, "title"), tmp_path)
    assert "Kept from other commits: theorem-5.2 (an-older-one)" in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("n_ta^(-1/2)", "n<sub>ta</sub><sup>-1/2</sup>"),
        ("n^((d+5)/(4(1-alpha(n_s)))) >= 2", "n<sup>(d+5)/(4(1-α(n<sub>s</sub>)))</sup> ≥ 2"),
        ("|| V ||_F^2 and lambda^2", "‖ V ‖<sub>F</sub><sup>2</sup> and λ<sup>2</sup>"),
        ("a < b", "a &lt; b"),
    ],
)
def test_formulas_are_set_without_latex(text, shown):
    assert report._prose(text) == shown
