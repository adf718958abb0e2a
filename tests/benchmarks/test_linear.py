"""The numbers of linear studies lie where theory puts them."""

import re

import pytest

from benchmarks import text
from benchmarks.command import ROOT
from benchmarks.judging import CORRECTED
from benchmarks.studies.linear import gain
from benchmarks.studies.linear.gain import assumptions
from benchmarks.study import Work, studies
from tests.paper_figures.record import read

LINEAR = {
    name: held
    for name, held in read().items()
    if studies()[held.study].compute.__module__.startswith("benchmarks.studies.linear")
}


@pytest.mark.parametrize("name", LINEAR)
def test_a_table_fits_on_the_terminal_and_leaves_nothing_out(name):
    shown = text.render(studies()[LINEAR[name].study].lines(LINEAR[name])).splitlines()
    assert max(map(len, shown)) <= text.WIDTH
    assert 3 <= len(shown) <= text.LINES + 2
    assert not [line for line in shown if line.startswith("...")]


def test_the_example_of_a_study_works(tmp_path):
    given = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = re.search("```python\n(.*?)```", given, re.DOTALL)[1]
    names = {}
    exec(compile(code, "CONTRIBUTING.md", "exec"), names)
    study = names["STUDY"]
    held = study.table(Work(size="quick", seed=0, folder=tmp_path, tell=lambda line: None))
    assert study.says(held).startswith("In 32 dimensions")
    assert study.statements[0].rule(held).verdict == CORRECTED


def test_names_do_not_clash():
    pictures = [picture for study in studies().values() for picture in study.pictures]
    assert len(set(pictures)) == len(pictures)
    named = [study.figure for study in studies().values() if study.figure]
    assert len(set(named)) == len(named)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_the_gain_agrees_with_its_exact_curves(tmp_path):
    work = Work(size="quick", seed=1, folder=tmp_path, tell=lambda line: None)
    settings = gain.STUDY.settings("quick")
    rows = list(assumptions.compute(settings, work))
    known = [row for row in rows if row["exact"] is not None]
    assert len(known) > 20
    for row in known:
        # Directions that are missing cost the same in every replicate, hence the last term.
        allowed = 4.5 * row["stderr"] + 1e-6 * row["exact"]
        assert abs(row["value"] - row["exact"]) < allowed, row
    at_d = {r["method"]: r["value"] for r in rows if (r["n_ta"], r["metric"]) == (8, "score_error")}
    assert at_d[assumptions.COMPLETED] < 1e-3 * at_d[assumptions.SCRATCH]
    assert at_d[assumptions.RANK_T] == pytest.approx(at_d[assumptions.SCRATCH], rel=1e-9)


def test_words_for_ratios():
    assert [text.times(a, 2.0) for a in (1e5, 3.0, 2e-3)] == [
        "50,000 times more than",
        "1.50 times",
        "1,000 times less than",
    ]
