"""The statements have no holes, and the report says what is there and what is not."""

import dataclasses
import json
import re

import pytest

from benchmarks import page, records
from benchmarks.judging import NOT_TESTABLE
from benchmarks.study import figures, statements
from benchmarks.table import Missing, of_rows
from paper_figures import index, report

FIGURES, STATEMENTS = figures(), statements()
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


def test_every_numbered_statement_is_there_once():
    names = [s.name for s in STATEMENTS]
    assert len(set(names)) == len(names)
    assert set(NUMBERED) <= set(names)
    assert any(name.startswith("Section 5.1") for name in names)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: s.name)
def test_no_holes(statement):
    assert statement.says
    assert statement.rule.__doc__, "a rule says what decides"
    assert report.resolve(statement.function)
    assert statement.figure in FIGURES
    assert report.has_test(statement.test)


@pytest.mark.parametrize("name", index.PAGES, ids=str)
def test_pages_are_written_from_the_studies(name):
    written = (report.ROOT / name).read_text(encoding="utf-8")
    assert written == index.PAGES[name](), "run python -m paper_figures.index"


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


def _lost(**tables):
    return {name: Missing(f"no table {name}") for name in FIGURES} | tables


def test_without_results_all_is_missing_and_the_page_says_so(tmp_path):
    paths = report.write(tmp_path, _lost())
    found = json.loads(paths[0].read_text(encoding="utf-8"))
    assert len(found) == len(STATEMENTS)
    for entry in found:
        assert set(KEYS) <= set(entry)
        assert entry["verdict"] == NOT_TESTABLE
    html = paths[1].read_text(encoding="utf-8")
    assert html.count("<tr>") == len(STATEMENTS) + 1
    assert html.count("Not drawn: no table") == len(FIGURES)
    assert "|| VV" not in html
    # Nothing is fetched: the only addresses are those of pictures, which are inside.
    assert not re.search(r"(src|href)=\"(?!data:)|@import|url\(", html)
    assert "Kept from other commits" not in html


def test_tables_that_other_code_computed_are_named(tmp_path):
    new = of_rows("appendix", [records.record("a", 1.0)], {"settings": {}})
    old = dataclasses.replace(new, made=new.made | {"git": "an-older-one"})
    tables = _lost(appendix=new, pca=old)
    html = report.html(report.entries(tables), tables, tmp_path)
    assert "Kept from other commits: pca (an-older-one)" in html


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
    assert page.prose(text) == shown
