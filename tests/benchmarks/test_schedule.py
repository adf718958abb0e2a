"""Which cases share the cores, and in which order records come out."""

import sys
import types

import jax
import pytest

from benchmarks import processes, schedule
from benchmarks.__main__ import CASES
from benchmarks.records import record


@pytest.fixture
def fake(monkeypatch):
    """Two cases that yield their own name and size."""
    modules = {}
    for name in ("first", "second"):
        module = types.ModuleType(name)
        module.run = lambda context, name=name: [record(name, context.size, "m", "x", 1.0)]
        monkeypatch.setitem(sys.modules, f"benchmarks.cases.{name}", module)
        modules[name] = name
    return modules


def test_one_job_runs_one_case_after_the_other(fake, tmp_path):
    done = list(schedule.run_all(fake, size="quick", seed=0, out=tmp_path, tell=print, jobs=1))
    assert [d.name for d in done] == ["first", "second"]
    assert all(d.seconds >= 0 for d in done)
    finished = {d.name: d for d in reversed(done)}
    rows = schedule.in_order(["second", "missing", "first"], finished)
    assert [(r["case"], r["data"]) for r in rows] == [("second", "quick"), ("first", "quick")]


def test_an_accelerator_is_not_shared(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    done = schedule.run_all(fake, size="full", seed=0, out=tmp_path, tell=print)
    assert [d.name for d in done] == ["first", "second"]


def test_cases_that_time_are_cases():
    assert set(schedule.TIMED) < set(CASES.values())


def test_processes_share_the_work_and_report_every_end():
    lines = []
    found = list(processes.run(power, [(2, 3), (3, 2), (5, 1)], tell=lines.append, jobs=2))
    assert sorted(found) == [5, 8, 9]
    assert lines == [f"{n} of 3, 2 at a time" for n in (1, 2, 3)]


def test_a_failure_reaches_the_caller():
    with pytest.raises(TypeError, match="unsupported operand"):
        list(processes.run(power, [("2", 3), (3, 2)], tell=print, jobs=2))


def power(base, exponent, _tell):
    return base**exponent
