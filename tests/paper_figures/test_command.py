"""``python -m paper_figures``: a mistake costs one line of advice and status 2."""

import fcntl
import json
import os
import subprocess
import sys

import jax
import pytest

from benchmarks import drawing, making
from benchmarks.judging import CONFIRMED, Statement, Verdict
from benchmarks.making import Asked
from benchmarks.records import record
from benchmarks.study import Study, figures
from paper_figures import command, report
from paper_figures.command import ROOT, main


@pytest.fixture
def precision():
    """The command switches x64 on for its own process."""
    before = jax.config.read("jax_enable_x64")
    flags = os.environ.get("XLA_FLAGS")
    yield
    jax.config.update("jax_enable_x64", before)
    if flags is None:
        os.environ.pop("XLA_FLAGS", None)
    else:
        os.environ["XLA_FLAGS"] = flags


def test_list_from_the_shell():
    done = subprocess.run(
        [sys.executable, "-m", "paper_figures", "--list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stderr == ""
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(figures())


def test_figures_side_by_side_from_the_shell(tmp_path):
    """Processes must find the work, which they cannot in a module that is run by its name."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "paper_figures",
            "table-1",
            "appendix",
            "--quick",
            "--jobs",
            "2",
            "--out",
            tmp_path,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {"table-1.png", "appendix.png", "report.html"} <= {p.name for p in tmp_path.iterdir()}
    assert done.stdout.count("  picture: ") == 2
    assert "table-1 (" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["tabel-1"], "no figure named 'tabel-1'; choose from figure-1, figure-2"),
        (["--quik"], "unrecognized arguments"),
        (["--out"], "expected one argument"),
        (["--out", ""], "must name a folder"),
        (["--jobs", "0"], "must be a positive number, got '0'"),
        (["--out", "{file}"], "--out must be a writable folder"),
    ],
)
def test_a_mistake_costs_one_line(arguments, advice, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    given = [a.format(file=tmp_path / "file") for a in arguments]
    with pytest.raises(SystemExit) as caught:
        main(given)
    out, err = capsys.readouterr()
    assert (caught.value.code, out) == (2, "")
    assert err.startswith("paper_figures: error: ")
    assert advice in err
    assert err.count("\n") == 1


class _Figures:
    """Figures of one cell that can be told to fail, in the place of the real ones."""

    def __init__(self, monkeypatch):
        self.known, self.computed = {}, 0
        by_name = lambda: {study.name: study for study in self.known.values()}
        monkeypatch.setattr(command, "figures", lambda: self.known)
        monkeypatch.setattr(report, "figures", lambda: self.known)
        monkeypatch.setattr(making, "studies", by_name)
        monkeypatch.setattr(report, "statements", self._statements)

    def add(self, name, error=None, quick=True):
        def compute(_settings, work):
            work.tell("one")
            self.computed += 1
            if error:
                raise error
            yield record("point", 1.5, n=2)

        def draw(table):
            figure, axes = drawing.canvas()
            drawing.points(axes[0, 0], table.present(), "n")
            return figure

        self.known[name] = Study(
            name=f"study of {name}".replace(" ", "-"),
            figure=name,
            summary="one cell",
            settings=lambda size: {"size": size},
            compute=compute,
            pictures={name: draw},
            finding=lambda table: f"It is {table.one()['value']}.",
            quick=quick,
        )

    def _statements(self):
        rule = lambda table: Verdict(verdict=CONFIRMED, reason="so", measured=table.one()["value"])
        return tuple(
            Statement(
                name=name,
                place="1",
                says="one",
                function="fsd_jax.VP",
                test="tests/test_process.py::test_levels_are_consistent",
                rule=rule,
                figure=name,
            )
            for name in self.known
        )


@pytest.fixture
def tiny(monkeypatch):
    return _Figures(monkeypatch)


def _report(folder):
    return {e["statement"]: e for e in json.loads((folder / "report.json").read_text())}


@pytest.mark.usefixtures("precision")
def test_one_figure_end_to_end_and_again(tiny, tmp_path, capsys):
    tiny.add("tiny")
    tiny.add("other")
    assert main(["tiny", "--quick", "--out", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        "tables",
        "tiny.png",
        "tiny.pdf",
        "study-of-tiny.csv",
        "report.html",
        "report.json",
    }
    assert _report(tmp_path)["tiny"]["verdict"] == CONFIRMED
    assert _report(tmp_path)["other"]["reason"].startswith(
        "result missing: no table study-of-other"
    )
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert main(["tiny", "--quick", "--out", str(tmp_path)]) == 0
    assert tiny.computed == 1
    out, err = capsys.readouterr()
    assert err == ""
    assert out.count("s): It is 1.5.") == 2


@pytest.mark.usefixtures("precision")
def test_one_failure_costs_neither_the_others_nor_the_report(tiny, tmp_path, capsys):
    tiny.add("bad", RuntimeError("out of memory"))
    tiny.add("bare", ImportError("no painter", name="painter"))
    tiny.add("good")
    assert main(["--jobs", "1", "--out", str(tmp_path)]) == 1
    needs = "skipped: needs painter: pip install 'fsd-jax[figures]'"
    assert capsys.readouterr().err.splitlines() == [
        "paper_figures: bad failed: RuntimeError: out of memory",
        f"paper_figures: bare {needs}",
    ]
    assert (tmp_path / "good.png").exists()
    assert not (tmp_path / "bad.png").exists()
    assert "Not drawn: no table study-of-bad" in (tmp_path / "report.html").read_text()
    assert _report(tmp_path)["bare"]["verdict"] == "not testable here"
    assert _report(tmp_path)["bare"]["reason"].endswith(needs)


@pytest.mark.usefixtures("precision")
def test_a_quick_run_leaves_out_what_is_slow_unless_it_is_named(tiny, tmp_path):
    tiny.add("slow", quick=False)
    tiny.add("good")
    assert main(["--quick", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "slow.png").exists()
    left = "left out: a quick run leaves this figure out"
    assert _report(tmp_path)["slow"]["reason"] == left
    assert main(["slow", "--quick", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "slow.png").exists()
    assert _report(tmp_path)["slow"]["verdict"] == CONFIRMED


def test_two_runs_at_once_do_not_share_a_folder(tmp_path, capsys):
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(SystemExit) as caught:
        main(["table-1", "--quick", "--out", str(tmp_path)])
    os.close(handle)
    assert caught.value.code == 2
    assert "another run is writing to" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("precision")
def test_a_tampered_table_is_computed_again(tiny, tmp_path, capsys):
    tiny.add("tiny")
    assert main(["tiny", "--quick", "--out", str(tmp_path)]) == 0
    (path,) = (tmp_path / "tables").glob("*.json")
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({**whole, "rows": 3}))
    # A run that does not need it names it in the report; one that does computes it again.
    changed = "cannot be read, it was changed"
    command.summarise(Asked(size="quick", out=tmp_path), failed={})
    assert changed in (tmp_path / "report.html").read_text()
    assert main(["tiny", "--quick", "--out", str(tmp_path)]) == 0
    assert json.loads(path.read_text()) == whole
    assert changed not in (tmp_path / "report.html").read_text()
    assert "it is computed again" in capsys.readouterr().err


@pytest.mark.usefixtures("precision")
def test_an_interruption_says_how_to_go_on(tiny, tmp_path, capsys):
    tiny.add("tiny", KeyboardInterrupt())
    assert main(["--jobs", "1", "--out", str(tmp_path)]) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
