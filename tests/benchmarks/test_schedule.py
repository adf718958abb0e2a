"""Which cases share the cores, and in which order records come out."""

import os
import sys
import types

import jax
import pytest

from benchmarks import processes, schedule
from benchmarks.command import CASES
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
    assert all(d.seconds >= 0 and not d.failure for d in done)
    assert [[(r["case"], r["data"]) for r in d.result] for d in done] == [
        [("first", "quick")],
        [("second", "quick")],
    ]


def test_an_accelerator_is_not_shared(fake, monkeypatch, tmp_path):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    done = schedule.run_all(fake, size="full", seed=0, out=tmp_path, tell=print)
    assert [d.name for d in done] == ["first", "second"]


def test_cases_that_time_are_cases():
    assert set(schedule.TIMED) < set(CASES.values())


def test_processes_share_the_work_and_report_every_end():
    lines = []
    tasks = [("a", 2, 3), ("b", 3, 2), ("c", 5, 1), ("d", 2, 0)]
    done = list(processes.run(power, tasks, extra="", tell=lines.append, jobs=2, alone=["a"]))
    assert sorted((d.name, d.result) for d in done) == [("a", 8), ("b", 9), ("c", 5), ("d", 1)]
    # What must be alone comes when the others have ended.
    assert done[-1].name == "a"
    assert lines == [f"{n} of 3, 2 at a time" for n in (1, 2, 3)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_failure_costs_the_others_nothing(jobs):
    tasks = [("bad", "2", 3), ("good", 3, 2)]
    done = {d.name: d for d in processes.run(power, tasks, extra="", tell=print, jobs=jobs)}
    assert done["bad"].failure.startswith("failed: TypeError: unsupported operand")
    assert (done["good"].result, done["good"].failure) == (9, "")


def test_a_process_that_is_killed_is_a_failure_with_a_name():
    tasks = [("one", 0), ("two", 0)]
    done = list(processes.run(killed, tasks, extra="", tell=print, jobs=2))
    assert {d.name for d in done} == {"one", "two"}
    assert all(d.failure.startswith("failed: BrokenProcessPool") for d in done)


def power(_name, base, exponent, _tell):
    return base**exponent


def killed(_name, _zero, _tell):
    os._exit(9)
