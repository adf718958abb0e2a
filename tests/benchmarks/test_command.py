"""The command line: ``python -m benchmarks``. A mistake costs one line of advice and status 2."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from benchmarks import records
from benchmarks.command import main

ROOT = pathlib.Path(records.__file__).resolve().parent.parent
NAMES = ["agreement", "solve", "optimise", "gain", "ten-images", "images"]
OLD = """
agreement appendix checks digits durability figure-1 figure-2 gain images ledger lemma-5.1
linear-rates memorisation noise optimise pca pretraining sampler-orders scaling section4
section4-rates simulate solve table-1 ten-images u-net unet
"""


@pytest.fixture(autouse=True)
def settings_unchanged():
    """A command that only talks leaves JAX as it is."""
    before = jax.config.read("jax_enable_x64")
    yield
    assert jax.config.read("jax_enable_x64") == before


def _run(*arguments, seconds=60):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def _refused(capsys, *arguments):
    """Run in this process, expect status 2 and one line of advice; returns the line."""
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert err.startswith("benchmarks: error: ")
    return err


def test_list_names_every_case():
    done = _run("--list")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    listed = [line.split()[0] for line in lines]
    assert set(listed) == set(OLD.split())
    assert all(len(line.split()) > 3 for line in lines)


def test_a_wrong_name_from_the_shell():
    done = _run("solv")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "'solv'" in done.stderr
    for name in NAMES:
        assert name in done.stderr


def test_help_shows_the_options(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option in ("--quick", "--full", "--out", "--list"):
        assert option in text


WRONG = [
    (("nosuch",), "'nosuch'"),
    (("solve", "nosuch"), "'nosuch'"),
    (("--list", "nosuch"), "'nosuch'"),
    (("Solve",), "'Solve'"),
    (("",), "''"),
    (("--nosuch",), "--nosuch"),
    (("--qui",), "--qui"),
    (("--quick", "--full"), "--full"),
    (("--quick=3",), "--quick"),
    (("--out",), "--out"),
    (("--seed", "x"), "--seed"),
    (("--seed", "-1"), "--seed"),
    (("--seed", "1.5"), "'1.5'"),
    (("--seed", "4294967296"), "--seed"),
    (("--jobs", "0"), "--jobs"),
    (("--out", ""), "--out"),
    (("images", "--data", "cats"), "'cats'"),
    (("solve", "--data", "critters"), "'critters'"),
    (("--data", "critters"), "--data"),
    (("compare",), "A, B"),
    (("compare", "a"), "B"),
    (("compare", "a", "b", "c"), "c"),
]


@pytest.mark.parametrize(("arguments", "named"), WRONG, ids=lambda value: repr(value)[:30])
def test_a_wrong_option_is_named(capsys, arguments, named):
    assert named in _refused(capsys, *arguments)


def test_a_file_for_a_folder(capsys, tmp_path):
    file = tmp_path / "file"
    file.write_text("kept")
    assert "--out" in _refused(capsys, "solve", "--quick", "--out", file)
    assert file.read_text() == "kept"


def test_compare_prints_a_line_for_each_number(capsys, tmp_path):
    for name, value in (("a", 2.0), ("b", 3.0)):
        (tmp_path / name).mkdir()
        row = records.record("digits", value, method="ours", metric="time", unit="s", n=5)
        records.Results(tmp_path / name, ["solve"]).replace("solve", [row | {"case": "solve"}])
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b" / records.RESULTS)]) == 0
    assert capsys.readouterr().out == "solve digits ours time (n=5): 2 -> 3, x1.5\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_quick_run_leaves_records(name, tmp_path):
    done = _run(name, "--quick", "--out", tmp_path, seconds=300)
    assert done.returncode == 0, done.stderr
    rows = records.read(tmp_path)
    assert {row["case"] for row in rows} == {name}
    assert {row["size"] for row in rows} == {"quick"}
    assert any(row["value"] is not None for row in rows)
    assert done.stderr == ""
    # A finding, a table that fits, and where the picture is.
    assert f"\n{name} (" in done.stdout
    table = [line for line in done.stdout.splitlines() if not line.startswith((name, "picture"))]
    assert max(map(len, table)) <= 100
    assert "picture: " in done.stdout
    assert (tmp_path / "index.html").exists()
