"""The study of Section 4 as a sweep, and the benchmark cases that read it."""

import numpy as np
import pytest

from benchmarks import table
from benchmarks.cases import section4, section4_rates
from benchmarks.context import Context
from benchmarks.figures import section4 as figure
from benchmarks.records import record, select
from fsd_jax import latent_net

RECIPE = latent_net.Recipe(steps=60, checks=2, batch_size=32)
SIZE = dict(
    n_ta=[1, 4, 64],
    n_s=[64],
    d=[2],
    replicates=2,
    block=2,
    widths=(16,),
    pretraining=RECIPE,
    finetuning=RECIPE,
)


@pytest.mark.slow
def test_rows_resume_and_figure(tmp_path):
    plan = latent_net.plan_section4(**SIZE)
    context = Context(size="quick", seed=0, out=tmp_path, tell=lambda line: None)
    rows = list(section4.rows_of("section4", "small", plan, context, tmp_path / "sweep"))
    assert len(rows) == 3 * 3 * 3 == len(plan.cells)
    assert plan.compilations == 1
    for row in rows:
        assert row["status"] == "ok"
        assert row["value"] >= 0
    whole, on, off = (
        select(rows, metric=name) for name in ("score_error", "on_support", "off_support")
    )
    for a, b, c in zip(whole, on, off, strict=True):
        assert np.isclose(a["value"], b["value"] + c["value"], rtol=1e-4)
        # One of two directions is missing, or none is.
        assert c["value"] > 1e-3 if a["n_ta"] == 1 else c["value"] < 1e-5
    # What is done is not done again.
    again = section4.rows_of("section4", "small", plan, context, tmp_path / "sweep")
    assert list(again) == rows
    assert len(table.render(whole, section4.lines).splitlines()) == 3 + 3
    (picture,) = figure.draw(whole, tmp_path)
    assert picture.stat().st_size > 10_000


def test_findings_from_known_powers():
    rows = []
    for n_s in (100, 1000):
        for n_ta in (1, 8, 32, 128):
            for method, value in (("fewshot", 2 * n_ta**-0.5 / n_s), ("scratch", 1.0 / n_ta / n_s)):
                rows.append(
                    record(
                        "section4-rates",
                        "d = 2",
                        method,
                        "score_error",
                        value,
                        stderr=0.01 * value,
                        d=2,
                        n_s=n_s,
                        n_ta=n_ta,
                    )
                )
        rows.append(
            record(
                "section4-rates",
                "d = 2",
                "fewshot",
                "off_support",
                0.5,
                stderr=0.1,
                d=2,
                n_s=n_s,
                n_ta=1,
            )
        )
    found = list(section4_rates.findings(rows))
    slopes = {(r["metric"], r["method"]): r["value"] for r in found}
    assert np.isclose(slopes["slope_in_n_ta", "fewshot"], -0.5)
    assert np.isclose(slopes["slope_in_n_ta", "scratch"], -1.0)
    assert np.isclose(slopes["slope_in_n_s", "fewshot"], -1.0)
    assert [r["value"] for r in select(found, metric="crossover")] == [1, 1]
    assert [r["value"] for r in select(found, metric="floor_below_d")] == [0.5, 0.5]


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
