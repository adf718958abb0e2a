"""Work side by side: who runs alone, what is told meanwhile, and what a failure costs."""

import os

import jax
import pytest

from benchmarks import making, processes
from benchmarks.making import Asked
from benchmarks.study import studies


def test_what_times_runs_alone_and_a_brief_study_comes_first(monkeypatch, tmp_path):
    seen = {}
    run = lambda work, tasks, **options: seen.update(options, tasks=tasks) or iter(())
    monkeypatch.setattr(processes, "run", run)
    usual = [name for name, study in studies().items() if study.usual]
    list(making.run(usual, Asked(size="quick", out=tmp_path), extra="", tell=print))
    names = [name for name, _ in seen["tasks"]]
    assert sorted(names) == sorted(usual)
    assert studies()[names[0]].first
    assert studies()[names[1]].long
    assert set(seen["alone"]) == {name for name in usual if studies()[name].timed} != set()


def test_processes_share_the_work_and_report_every_end():
    lines = []
    tasks = [("a", 2, 3), ("b", 3, 2), ("c", 5, 1), ("d", 2, 0)]
    done = list(processes.run(power, tasks, extra="", tell=lines.append, jobs=2, alone=["a"]))
    assert sorted((d.name, d.result) for d in done) == [("a", 8), ("b", 9), ("c", 5), ("d", 1)]
    assert all(d.seconds >= 0 and not d.failure for d in done)
    # What must be alone comes when the others have ended.
    assert done[-1].name == "a"
    # The line says what runs and how much more there is.
    assert lines[0] == "running b, c (2 more to run)"
    assert lines[-2:] == ["a", "computing"]


def test_on_an_accelerator_tasks_run_one_after_the_other(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    lines = []
    done = list(processes.run(power, [("a", 2, 3), ("b", 3, 2)], extra="", tell=lines.append))
    assert [d.name for d in done] == ["a", "b"]
    assert lines == ["a (1 more to run)", "computing (1 more to run)", "b", "computing"]


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


def power(_name, base, exponent, tell):
    tell("computing")
    return base**exponent


def killed(_name, _zero, _tell):
    os._exit(9)
