"""``python -m paper_figures``: a mistake costs one line of advice and status 2."""

import fcntl
import json
import os
import subprocess
import sys

import jax
import pytest

from paper_figures import command, making
from paper_figures.command import ROOT, main
from paper_figures.figures import FIGURES
from paper_figures.table import row


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
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(FIGURES)


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


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["tabel-1"], "no figure named 'tabel-1'; choose from table-1, lemma-5.1"),
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


class _Tiny:
    """A figure of one cell that can be told to fail."""

    SUMMARY = "one cell"
    computed = 0
    error = None

    def settings(self, quick):
        return {"quick": quick}

    def compute(self, settings, work):
        work.tell("one")
        type(self).computed += 1
        if self.error:
            raise self.error
        yield row("point", 1.5, n=2)

    def draw(self, table):
        from paper_figures import style

        figure, axes = style.canvas()
        style.points(axes[0, 0], table.present(), "n")
        return figure


@pytest.mark.usefixtures("precision")
def test_one_figure_end_to_end_and_again(monkeypatch, tmp_path, capsys):
    tiny = _Tiny()
    monkeypatch.setattr(command, "FIGURES", {"table-1": "", "tiny": ""})
    monkeypatch.setattr(making, "module_of", lambda name: tiny)
    assert main(["tiny", "--quick", "--out", str(tmp_path)]) == 0
    assert {p.name for p in tmp_path.iterdir()} == {
        "tables",
        "tiny.png",
        "tiny.pdf",
        "tiny.csv",
        "report.html",
        "report.json",
    }
    entries = {e["statement"]: e for e in json.loads((tmp_path / "report.json").read_text())}
    assert entries["Table 1"]["reason"].startswith("result missing: no table table-1")
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert main(["tiny", "--quick", "--out", str(tmp_path)]) == 0
    assert tiny.computed == 1
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("precision")
def test_one_failure_costs_neither_the_others_nor_the_report(monkeypatch, tmp_path, capsys):
    good, bad = _Tiny(), _Tiny()
    bad.error = RuntimeError("out of memory")
    monkeypatch.setattr(command, "FIGURES", {"bad": "", "good": ""})
    monkeypatch.setattr(making, "module_of", {"bad": bad, "good": good}.get)
    assert main(["--jobs", "1", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "paper_figures: bad failed: RuntimeError: out of memory\n"
    assert (tmp_path / "good.png").exists()
    assert not (tmp_path / "bad.png").exists()
    assert "Not drawn: no table bad" in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("precision")
def test_a_missing_extra_is_a_reason_in_the_report(monkeypatch, tmp_path, capsys):
    good, bare = _Tiny(), _Tiny()
    bare.error = ImportError("no painter", name="painter")
    monkeypatch.setattr(command, "FIGURES", {"figure-1": "", "good": ""})
    monkeypatch.setattr(making, "module_of", {"figure-1": bare, "good": good}.get)
    assert main(["--jobs", "1", "--out", str(tmp_path)]) == 1
    reason = "needs painter: pip install 'fsd-jax[figures]'"
    assert capsys.readouterr().err == f"paper_figures: figure-1 skipped: {reason}\n"
    assert (tmp_path / "good.png").exists()
    entries = {e["statement"]: e for e in json.loads((tmp_path / "report.json").read_text())}
    assert entries["Figure 1"]["verdict"] == "not testable here"
    assert entries["Figure 1"]["reason"].endswith(reason)


@pytest.mark.usefixtures("precision")
def test_a_quick_run_leaves_out_what_is_slow_unless_it_is_named(monkeypatch, tmp_path):
    good, slow = _Tiny(), _Tiny()
    slow.IN_QUICK = False
    monkeypatch.setattr(command, "FIGURES", {"figure-1": "", "good": ""})
    monkeypatch.setattr(making, "module_of", {"figure-1": slow, "good": good}.get)
    assert main(["--quick", "--out", str(tmp_path)]) == 0
    assert not (tmp_path / "figure-1.png").exists()
    entries = {e["statement"]: e for e in json.loads((tmp_path / "report.json").read_text())}
    assert entries["Figure 1"]["reason"] == "left out: a quick run leaves this figure out"
    assert main(["figure-1", "--quick", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figure-1.png").exists()
    assert "a quick run leaves this figure out" not in (tmp_path / "report.json").read_text()


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
def test_a_tampered_table_is_computed_again(monkeypatch, tmp_path, capsys):
    tiny = _Tiny()
    monkeypatch.setattr(command, "FIGURES", {"tiny": ""})
    monkeypatch.setattr(making, "module_of", lambda name: tiny)
    assert main(["tiny", "--quick", "--out", str(tmp_path)]) == 0
    (path,) = (tmp_path / "tables").glob("*.json")
    whole = path.read_text()
    path.write_text(json.dumps({**json.loads(whole), "rows": 3}))
    # A run that does not need it names it in the report; one that does computes it again.
    command.summarise(tmp_path, quick=True, failed={})
    assert "cannot be read, it was changed" in (tmp_path / "report.html").read_text()
    assert main(["tiny", "--quick", "--out", str(tmp_path)]) == 0
    assert path.read_text() == whole
    assert "cannot be read, it was changed" not in (tmp_path / "report.html").read_text()
    assert "it is computed again" in capsys.readouterr().err


@pytest.mark.usefixtures("precision")
def test_an_interruption_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    tiny = _Tiny()
    tiny.error = KeyboardInterrupt()
    monkeypatch.setattr(command, "FIGURES", {"tiny": ""})
    monkeypatch.setattr(making, "module_of", lambda name: tiny)
    assert main(["--jobs", "1", "--out", str(tmp_path)]) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
