"""The study of Section 4 as a sweep, and what reads it."""

import numpy as np
import pytest

from benchmarks import drawing
from benchmarks.records import record
from benchmarks.studies.networks import section4, section4_rates
from benchmarks.study import Work
from benchmarks.table import of_rows
from fsd_jax import latent_net

RECIPE = {"steps": 60, "checks": 2, "batch_size": 32}
SIZE = dict(
    n_ta=[1, 4, 64],
    n_s=[64],
    d=[2],
    replicates=2,
    block=2,
    widths=[16],
    pretraining=latent_net.Recipe(**RECIPE),
    finetuning=latent_net.Recipe(**RECIPE),
)


@pytest.mark.slow
def test_rows_resume_and_figure(tmp_path):
    settings = section4.settings("quick") | SIZE | {"pretraining": RECIPE, "finetuning": RECIPE}
    work = Work(size="quick", seed=0, folder=tmp_path, tell=lambda line: None)
    metrics = ("score_error", "on_support", "off_support")
    rows = list(section4.trained(settings, work, [2], metrics, section4.DATA))
    plan = latent_net.plan_section4(**SIZE | {"widths": tuple(SIZE["widths"])})
    assert len(rows) == 3 * 3 * 3 == len(plan.cells)
    assert plan.compilations == 1
    assert all(row["status"] == "ok" and row["value"] >= 0 for row in rows)
    whole, on, off = ([r for r in rows if r["metric"] == name] for name in metrics)
    for a, b, c in zip(whole, on, off, strict=True):
        assert np.isclose(a["value"], b["value"] + c["value"], rtol=1e-4)
        # One of two directions is missing, or none is.
        assert c["value"] > 1e-3 if a["n_ta"] == 1 else c["value"] < 1e-5
    # What is done is not done again.
    assert list(section4.trained(settings, work, [2], metrics, section4.DATA)) == rows
    table = of_rows("section4", rows, {"settings": settings}, section4.STUDY.measured)
    assert len(section4.lines(table)) == 3
    (picture, _) = drawing.store(section4.draw(table), table, tmp_path, "section4")
    assert picture.stat().st_size > 10_000


def _row(n_s, n_ta, value, method="fewshot", metric="score_error", error=0.01):
    given = dict(method=method, metric=metric, stderr=error * value, n_s=n_s, n_ta=n_ta, d=2)
    return record("d = 2", value, **given)


def test_findings_from_known_powers():
    rows = []
    for n_s in (100, 1000):
        for n_ta in (1, 8, 32, 128):
            rows.append(_row(n_s, n_ta, 2 * n_ta**-0.5 / n_s))
            rows.append(_row(n_s, n_ta, 1.0 / n_ta / n_s, "scratch"))
        rows.append(_row(n_s, 1, 0.5, metric="off_support", error=0.2))
    found = list(section4_rates.findings(rows))
    slopes = {(r["metric"], r["method"]): r["value"] for r in found}
    assert np.isclose(slopes["slope_in_n_ta", "fewshot"], -0.5)
    assert np.isclose(slopes["slope_in_n_ta", "scratch"], -1.0)
    assert np.isclose(slopes["slope_in_n_s", "fewshot"], -1.0)
    for metric, value in (("crossover", 1), ("floor_below_d", 0.5)):
        assert [r["value"] for r in found if r["metric"] == metric] == [value, value]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(n_ta=4), "n_ta must be a sequence"),
        (dict(n_ta=[4, 4]), "different values"),
        (dict(n_s=[1]), "n_s must be at least d = 2"),
        (dict(method=["lora"]), "method must be one of"),
        (dict(metric=["fid"]), "metric must be one of"),
        (dict(D=1), "D must be at least 2"),
        (dict(finetuning=latent_net.Recipe(steps=0)), "steps must be at least 1"),
    ],
)
def test_bad_plans(change, message):
    with pytest.raises(ValueError, match=message):
        latent_net.plan_section4(**(SIZE | change))
