"""A folder of results: whose it is, and which of its rows a run replaces."""

import fcntl
import json
import os

import jax
import pytest

from benchmarks import command, index, making, records
from benchmarks.study import Study
from fsd_jax import sweep

ROW = records.record("x", 1.0) | {"case": "one"}
ADVICE = "; see python -m benchmarks --help\n"


@pytest.fixture(autouse=True)
def precision():
    """The command switches x64 on for its own process."""
    before = jax.config.read("jax_enable_x64")
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def cases(monkeypatch):
    """Studies by name; each yields one row a data set, or fails."""
    values = {"one": 1.0, "two": 2.0, "three": 3.0}

    def study(name):
        def compute(_settings, work):
            if isinstance(values[name], BaseException):
                raise values[name]
            for data in work.data or ("x", "y"):
                yield records.record(data, values[name], method="m", metric="v")

        finding = lambda table: f"{len(table.rows)} numbers."
        return Study(name=name, summary=name, compute=compute, finding=finding, data=("x", "y"))

    known = {name: study(name) for name in values}
    for module in (command, making, index):
        monkeypatch.setattr(module, "studies", lambda: known)
    return values


def _run(folder, *names):
    return command.main([*names, "--jobs", "1", "--out", str(folder)])


def _rows(folder):
    return [(r["case"], r["data"], r["value"]) for r in records.read(folder)]


def _refused(capsys, folder, *names):
    held = lambda: {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    before = held()
    with pytest.raises(SystemExit) as caught:
        _run(folder, *names)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("benchmarks: error: ")
    assert err.endswith(ADVICE)
    assert held() == before
    return err


def test_a_run_replaces_the_rows_of_its_own_cases_only(cases, tmp_path):
    assert _run(tmp_path, "one", "two") == 0
    old = (tmp_path / records.RESULTS).read_text().splitlines()
    cases.update(two=5.0, three=6.0)
    assert _run(tmp_path, "three", "two") == 0
    assert _rows(tmp_path) == [
        *(("one", data, 1.0) for data in "xy"),
        *(("two", data, 5.0) for data in "xy"),
        *(("three", data, 6.0) for data in "xy"),
    ]
    # What another run measured keeps every byte.
    assert (tmp_path / records.RESULTS).read_text().splitlines()[:2] == old[:2]
    assert {path.name for path in tmp_path.iterdir()} == {
        *(f"{name}.csv" for name in ("one", "two", "three")),
        "tables",
        "index.html",
        records.RESULTS,
    }


def test_a_run_of_one_data_set_keeps_the_others(cases, tmp_path):
    assert _run(tmp_path, "one") == 0
    cases["one"] = 4.0
    assert _run(tmp_path, "one", "--data", "x") == 0
    assert sorted(_rows(tmp_path)) == [("one", "x", 4.0), ("one", "y", 1.0)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("out of memory"), ImportError])
def test_a_run_that_does_not_end_keeps_what_was_there_and_what_ended(
    cases, tmp_path, capsys, error
):
    assert _run(tmp_path, "one", "two", "three") == 0
    capsys.readouterr()
    cases.update(one=7.0, two=error() if isinstance(error, type) else error)
    status = _run(tmp_path, "one", "two")
    assert [value for _, _, value in _rows(tmp_path)] == [7.0, 7.0, 2.0, 2.0, 3.0, 3.0]
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    if isinstance(error, KeyboardInterrupt):
        assert status == 130
        assert err.startswith("benchmarks: interrupted; what ended is in ")
    else:
        assert status == 1
        assert err.startswith(("benchmarks: two failed: RuntimeError", "benchmarks: two skipped"))


def test_a_failure_costs_the_others_nothing(cases, tmp_path, capsys):
    cases["one"] = ValueError("bad\nbecause")
    assert _run(tmp_path, "one", "two") == 1
    assert _rows(tmp_path) == [("two", "x", 2.0), ("two", "y", 2.0)]
    assert capsys.readouterr().err == "benchmarks: one failed: ValueError: bad\n"


@pytest.mark.usefixtures("cases")
def test_a_sweep_and_benchmarks_do_not_share_a_folder(tmp_path, capsys):
    plan = sweep.plan_errors(n_ta=[4], d=[2], t=[1.0], replicates=5)
    sweep.run(plan, tmp_path / "sweep")
    assert "holds a sweep" in _refused(capsys, tmp_path / "sweep", "one")
    (tmp_path / "sweep" / "manifest.json").unlink()
    assert "holds a sweep" in _refused(capsys, tmp_path / "sweep", "one")
    (tmp_path / "sweep" / "journal.jsonl").unlink()
    assert "line 1 is not a benchmark record" in _refused(capsys, tmp_path / "sweep", "one")
    assert _run(tmp_path / "bench", "one") == 0
    held = (tmp_path / "bench" / records.RESULTS).read_bytes()
    for resume in (False, True):
        with pytest.raises(ValueError, match=r"holds results\.jsonl"):
            sweep.run(plan, tmp_path / "bench", resume=resume)
    assert (tmp_path / "bench" / records.RESULTS).read_bytes() == held
    # What the refused sweep left there is in nobody's way.
    assert _run(tmp_path / "bench", "one") == 0


@pytest.mark.usefixtures("cases")
def test_a_sweep_that_has_just_begun_is_seen(tmp_path, capsys):
    with open(tmp_path / "journal.jsonl", "w") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert "holds a sweep" in _refused(capsys, tmp_path, "one")


@pytest.mark.usefixtures("cases")
def test_two_runs_at_once_do_not_share_a_folder(tmp_path, capsys):
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert "another run is writing to" in _refused(capsys, tmp_path, "one")
    os.close(handle)
    assert _run(tmp_path, "one") == 0


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "3",
        '{"case": "one"}',
        "[" * 100_000,
        json.dumps(ROW | {"value": "1"}),
        json.dumps(ROW | {"value": True}),
        json.dumps(ROW | {"stderr": float("nan")}),
        json.dumps(ROW | {"case": ["one"]}),
    ],
    ids=lambda value: value[:12],
)
@pytest.mark.usefixtures("cases")
def test_a_damaged_record_is_refused_by_name_and_left_alone(tmp_path, capsys, line):
    assert _run(tmp_path, "one") == 0
    capsys.readouterr()
    with open(tmp_path / records.RESULTS, "a") as file:
        file.write(line + "\n")
    assert "results.jsonl' line 3 is not a benchmark record" in _refused(capsys, tmp_path, "two")


@pytest.mark.usefixtures("cases")
def test_a_folder_that_cannot_be_written_is_found_before_the_work(
    cases, tmp_path, capsys, monkeypatch
):
    cases["one"] = AssertionError("it worked first")
    (tmp_path / "results.jsonl").mkdir()
    with pytest.raises(SystemExit):
        _run(tmp_path, "one")
    assert "results.jsonl': Is a directory" in capsys.readouterr().err

    def full(_folder):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("fsd_jax._files.check_writable", full)
    with pytest.raises(SystemExit):
        _run(tmp_path / "new", "one")
    assert "--out must be a writable folder" in capsys.readouterr().err


@pytest.mark.usefixtures("cases")
def test_nothing_is_no_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        command.main(["one", "--out", ""])
    assert "argument --out: must name a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
