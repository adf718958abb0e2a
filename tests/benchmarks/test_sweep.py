"""The sweep's command line: what it prints, writes and refuses."""

import json

import pytest

from benchmarks.command import main

GOOD = ["sweep", "--n-ta", "2:8:log2", "--d", "2", "--t", "1", "--replicates", "50"]


def _refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["sweep", *arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_rows_have_the_promised_fields_in_grid_order(tmp_path, capsys):
    assert main([*GOOD, "--n-s", "10,inf", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "6 cells in 6 groups" in printed
    assert "1 compilations" in printed
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(r["n_ta"], r["n_s"]) for r in rows] == [(n, s) for n in (2, 4, 8) for s in (10, None)]
    assert set(rows[0]) >= {
        "n_ta",
        "n_s",
        "d",
        "D",
        "t",
        "latent_variance",
        "tau",
        "method",
        "metric",
        "mean",
        "stderr",
        "replicates",
        "seed",
        "status",
    }
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["provenance"]["versions"]["jax"]
    assert manifest["configuration"]["dtype"] == "float32"


def test_resume_starts_a_sweep_and_needs_no_options_later(tmp_path, capsys):
    folder = str(tmp_path / "new")
    assert main([*GOOD, "--resume", folder]) == 0
    before = (tmp_path / "new" / "results.jsonl").read_bytes()
    assert main(["sweep", "--resume", folder]) == 0
    assert (tmp_path / "new" / "results.jsonl").read_bytes() == before
    assert "replicates = 50, not 60" in _refused(capsys, "--resume", folder, "--replicates", "60")
    assert "holds a sweep already" in _refused(capsys, *GOOD[1:], "--out", folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--d", "4"), "--n-ta, --t must be given"),
        (("--n-ta", "2.5", "--d", "4", "--t", "1"), "--n-ta takes integers"),
        (("--n-ta", "4:8", "--d", "4", "--t", "1"), "ranges like"),
        (("--n-ta", "4", "--d", "4", "--t", "0"), "t must be positive"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--tau", ".1"), "tau > 0 needs"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--method", "pca"), "method must be"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--replicates", "x"), "--replicates"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--devices", "99"), "devices"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--batch-size", "0"), "--batch-size"),
        (("--out", "a", "--resume", "b"), "give one of them"),
    ],
)
def test_bad_values_get_one_line_of_advice(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    line = _refused(capsys, *arguments)
    assert message in line
    assert line.endswith("see python -m benchmarks sweep --help")
