"""Verdicts and findings follow from results: recorded numbers give them, changed numbers others."""

import dataclasses

import pytest

from benchmarks.judging import (
    CONFIRMED,
    CORRECTED,
    NOT_REPRODUCED,
    NOT_TESTABLE,
    SHARPER,
    VERDICTS,
    decide,
)
from benchmarks.study import Work, figures, statements
from benchmarks.table import Missing, of_rows
from paper_figures import report
from tests.paper_figures.record import read

NUMBERS = ("value", "low", "high")
TABLES, FIGURES = read(), figures()
STATEMENTS = statements()
BY_NAME = {s.name: s for s in STATEMENTS}
READY = [s for s in STATEMENTS if s.rule is not None]


def _changed(table, change):
    """The same cells with other results."""
    return dataclasses.replace(table, rows=[change(dict(row)) for row in table.rows])


def _judge(statement, table):
    return report.judge(statement, {statement.figure: table})


def _lost(table):
    return _changed(table, lambda row: row | {"value": None, "status": "failed: out of memory"})


def test_every_figure_is_recorded():
    assert set(TABLES) == set(FIGURES)


@pytest.mark.parametrize("statement", READY, ids=lambda s: s.name)
def test_recorded_results_give_a_verdict_with_its_number(statement):
    found = _judge(statement, TABLES[statement.figure])
    assert found.verdict in (CONFIRMED, SHARPER, CORRECTED, NOT_REPRODUCED), found.reason
    # One claim of the paper has no reading under which its own condition gives its numbers.
    assert (found.verdict == NOT_REPRODUCED) == (statement.name == "Table 1, its condition")
    assert found.measured is not None
    if found.low is not None:
        assert found.low <= found.measured <= found.high or statement.name.startswith("Table 1")


@pytest.mark.parametrize("statement", READY, ids=lambda s: s.name)
def test_a_missing_result_is_named(statement):
    found = _judge(statement, _lost(TABLES[statement.figure]))
    assert found.verdict == NOT_TESTABLE
    assert found.reason.startswith("result missing: ")
    gone = _judge(statement, Missing("no table x.json"))
    assert (gone.verdict, gone.reason) == (NOT_TESTABLE, "result missing: no table x.json")


def _shifted(row):
    """Far from everything that it was, in both directions of every comparison."""
    if isinstance(row["value"], (int, float)):
        for name in NUMBERS:
            if row.get(name) is not None:
                row[name] = 3 * row[name] + 50
    return row


# What these say is a comparison with the printed value alone, which a shift does not repair.
PRINTED_ALONE = {"Table 1, its condition", "Table 1, enough samples", "Slip: Theorem 5.2, constant"}


@pytest.mark.parametrize(
    "statement", [s for s in READY if s.name not in PRINTED_ALONE], ids=lambda s: s.name
)
def test_shifted_results_reproduce_nothing(statement):
    found = _judge(statement, _changed(TABLES[statement.figure], _shifted))
    assert found.verdict == NOT_REPRODUCED, found


@pytest.mark.parametrize("statement", READY, ids=lambda s: s.name)
def test_words_in_place_of_numbers_do_not_take_the_report_down(statement):
    broken = _changed(TABLES[statement.figure], lambda row: row | {"value": "a lot"})
    assert _judge(statement, broken).verdict in (NOT_TESTABLE, NOT_REPRODUCED)


@pytest.mark.parametrize("name", FIGURES)
def test_a_finding_follows_from_its_numbers_and_names_what_is_missing(name):
    study, table = FIGURES[name], TABLES[name]
    assert study.says(_lost(table)).startswith("No finding")
    assert study.says(_changed(table, _shifted)) != study.says(table)


def test_a_figure_computed_now_gives_the_recorded_verdicts(tmp_path):
    # The only figure without a compilation.
    study, recorded = FIGURES["appendix"], TABLES["appendix"]
    settings = {**recorded.settings, "draws": 500, "spectra": 500}
    work = Work(size="quick", seed=0, folder=tmp_path, tell=lambda line: None)
    asked = recorded.asked | {"settings": settings}
    table = of_rows(study.name, study.compute(settings, work), asked)
    assert not table.absent()
    for statement in READY:
        if statement.figure == "appendix":
            assert _judge(statement, table).verdict == _judge(statement, recorded).verdict


def _with(name, change):
    statement = BY_NAME[name]
    return _judge(statement, _changed(TABLES[statement.figure], change)).verdict


def test_a_bound_that_fails_is_not_sharper():
    assert _with("Theorem 5.2", lambda row: row | {"bound": 1e-9}) == CORRECTED


def test_a_source_that_falls_as_the_theorem_says_is_no_longer_sharper():
    def slow(row):
        if row["data"].startswith("n_s alone"):
            for field in ("value", "exact"):
                row[field] = row["n_s"] ** -0.5
            row["stderr"] = 1e-3 * row["value"]
        return row

    assert _with("Theorem 5.2", slow) == CONFIRMED
    assert _with("Section 5.1, better in n_ta", slow) == CONFIRMED


def test_a_row_that_its_rule_gives_is_confirmed():
    def printed(row):
        if row["method"] in ("printed", "stated"):
            row["value"] = next(
                r["value"]
                for r in TABLES["table-1"].rows
                if r["method"] == "four_over_d" and r["data"] == row["data"]
            )
        return row

    assert _with("Table 1", printed) == CONFIRMED
    assert _with("Table 1, its condition", printed) == CONFIRMED


def test_a_constant_below_one_confirms_the_bound():
    one = lambda row: row | ({"value": 0.9} if row["data"] == "least constant" else {})
    assert _with("Slip: Theorem 5.2, constant", one) == CONFIRMED


def test_a_slip_whose_printed_value_is_measured_is_none():
    def right(row):
        return row | (
            {"value": row["printed"], "exact": row["printed"]} if "printed" in row else {}
        )

    for name in ("Slip: Section 5, score", "Slip: Lemma C.1, Lipschitz", "Slip: Theorem 5.2, KL"):
        assert _with(name, right) == CONFIRMED


def test_one_lost_cell_is_named():
    table = TABLES["theorem-5.2"]
    lost = dataclasses.replace(
        table,
        rows=[r for r in table.rows if not (r["data"] == "against n_s" and r["n_s"] == 1000)],
    )
    found = _judge(BY_NAME["Theorem 5.2"], lost)
    assert found.verdict == NOT_TESTABLE
    assert "against n_s" in found.reason
    assert "n_s = 1000" in found.reason
    # A statement that does not need the cell keeps its verdict.
    assert _judge(BY_NAME["Remark 5.3"], lost).verdict == CONFIRMED


@pytest.mark.parametrize(
    ("printed", "ours", "beyond", "verdict"),
    [
        (True, True, False, CONFIRMED),
        (True, True, True, SHARPER),
        (False, True, False, CORRECTED),
        (False, True, True, CORRECTED),
        (True, False, True, NOT_REPRODUCED),
    ],
)
def test_the_word_for_two_comparisons(printed, ours, beyond, verdict):
    assert decide(printed=printed, ours=ours, beyond=beyond) == verdict
    assert verdict in VERDICTS


def test_costs_that_add_up_are_confirmed():
    def additive(row):
        if row["data"] == "cost" and row["part"] == "alone":
            others = {"interaction": 0.0, "decoder": _TOTALS[row["setting"]]}
            row["value"] = others.get(row["ingredient"], 0.0)
        return row

    assert _with("Sections 4 and 5, error ledger", additive) == CONFIRMED


_TOTALS = {r["setting"]: r["value"] for r in TABLES["ledger"].rows if r["data"] == "total"}


def test_networks_that_need_no_source_do_not_escape():
    few = {r["n_ta"]: r for r in TABLES["theorem-4.3"].rows if r.get("method") == "fewshot"}

    def alike(row):
        if row["metric"] == "score_error":
            row |= {name: few[row["n_ta"]][name] for name in ("value", "stderr")}
        return row

    assert _with("Theorem 4.3", alike) == NOT_REPRODUCED
    assert _with("Section 4.1, everything tuned", alike) == NOT_REPRODUCED


def test_a_faster_few_shot_rate_is_sharper_and_the_claimed_one_of_full_tuning_confirmed():
    def faster(row):
        if row["metric"] == "score_error":
            row["value"] = {"fewshot": 0.1, "scratch": 10.0, "full": 10.0}[row["method"]]
            row["value"] /= row["n_ta"]
            row["stderr"] = 0.05 * row["value"]
        return row

    assert _with("Theorem 4.3", faster) == SHARPER
    assert _with("Section 4.1, everything tuned", faster) == CONFIRMED


def test_pictures_judged_to_be_of_the_source_correct_the_figure():
    def judged(share):
        def change(row):
            own = row["metric"] == "target_share" and row["method"] == "encoder_decoder_empirical"
            return row | (dict.fromkeys(NUMBERS, share) if own else {})

        return change

    for name in ("Figure 1", "Figure 2"):
        assert _with(name, judged(0.9)) == CONFIRMED
        assert _with(name, judged(0.3)) == CORRECTED

    def copied(row):
        own = row["metric"] == "f_mem" and row["method"] != "real"
        return row | ({"high": 1.0, "value": 1.0} if own else {})

    assert _with("Figure 1", copied) == NOT_REPRODUCED
    assert _with("Section 4.1, memorisation", copied) == NOT_REPRODUCED


def test_the_order_of_a_sampler_is_read_from_its_slope():
    def slow(row):
        return row | ({"value": row["K"] ** -0.5} if row["data"] == "steps" else {})

    assert _with("Section 3.1, sampler", slow) == NOT_REPRODUCED

    def stays(row):
        own = row["data"] == "step rule" and row["rule"] == "printed"
        return row | ({"value": 0.1 * row["rate"] ** 0.5} if own else {})

    assert _with("Lemma C.1", stays) == CORRECTED


def test_a_network_worse_than_the_linear_model_judges_nothing():
    statement = BY_NAME["Section 6, U-Net"]

    def weak(row):
        if row["metric"] == "heldout_loss" and row["method"] == "encoder_decoder":
            row["value"] *= 3
        return row

    found = _judge(statement, _changed(TABLES["u-net"], weak))
    assert found.verdict == NOT_TESTABLE
    assert "too weak to judge" in found.reason
