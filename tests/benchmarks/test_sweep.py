"""The sweep's command line: what it prints, writes and refuses."""

import json
from dataclasses import dataclass, replace

import pytest

from benchmarks.command import main
from fsd_jax import sweep

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
    # It ends with one sentence, and fits a terminal.
    assert max(len(line) for line in printed.splitlines()[:-2]) <= 100
    last = printed.splitlines()[-1]
    assert last.startswith("Mean subspace_error of rank at n_s = 10, d = 2, t = 1: ")
    assert " for n_ta = 2, " in last
    assert "slope in log-log -" in last
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
        (("--out", ""), "--out: must name a folder"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--n-s", "100:inf:log10"), "--n-s: the ends of"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--n-s=-inf"), "--n-s must be finite"),
        (("--n-ta", "4", "--d", "4", "--t", "-inf"), "--t: expected one argument"),
        (("--n-ta", "4", "--d", "4", "--t=-inf"), "--t must be finite"),
        (("--n-ta", "4", "--d", "4", "--t", "-1"), "t must be positive"),
        (("--n-ta", "4", "--d", "4", "--t", "nan"), "--t must be finite"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--seed", "1.5"), "--seed: must be an integer"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--seed", "-1"), "--seed: must be from 0"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--seed", "4294967296"), "--seed: must be from"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--seed", "1e400"), "--seed: must be an integer"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--replicates", "inf"), "--replicates: must be"),
        (("--n-ta", "4", "--d", "4", "--t", "1", "--devices", "0"), "--devices: must be"),
    ],
)
def test_bad_values_get_one_line_of_advice(capsys, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    line = _refused(capsys, *arguments)
    assert message in line
    assert line.startswith("benchmarks: error: ")
    assert line.endswith("see python -m benchmarks sweep --help")


def _failing(monkeypatch, sizes):
    """Groups of these sizes fail, as where memory runs out."""
    plan_errors = sweep.plan_errors

    def plan(**asked):
        found = plan_errors(**asked)
        groups = [
            replace(g, program=Broken()) if found.cells[g.cells[0]]["n_ta"] in sizes else g
            for g in found.groups
        ]
        return replace(found, groups=groups)

    monkeypatch.setattr(sweep, "plan_errors", plan)


@dataclass(frozen=True)
class Broken:
    """A program that cannot run."""

    block: int = 4096

    def __call__(self, key, *arguments):
        raise MemoryError("out of memory\nafter a while")


def test_a_failed_group_is_told_and_the_others_are_shown(capsys, monkeypatch, tmp_path):
    _failing(monkeypatch, (4, 8))
    assert main([*GOOD, "--out", str(tmp_path)]) == 1
    done = capsys.readouterr()
    assert done.err.splitlines()[-1] == (
        "benchmarks: 2 of 3 cells failed: MemoryError: out of memory (first: n_ta = 4, d = 2, "
        "t = 1, latent_variance = 1, tau = 0, method = rank, metric = subspace_error)"
    )
    assert "results: " in done.out
    assert done.out.count("out of memory") == 2
    statuses = [row["status"] for row in sweep.read_results(tmp_path)]
    assert statuses == ["ok", *["failed: MemoryError: out of memory"] * 2]


def test_a_sweep_whose_every_group_failed_shows_no_numbers(capsys, monkeypatch, tmp_path):
    _failing(monkeypatch, (2, 4, 8))
    assert main([*GOOD, "--out", str(tmp_path)]) == 1
    done = capsys.readouterr()
    assert "mean" not in done.out
    assert "benchmarks: 3 of 3 cells failed: MemoryError: out of memory" in done.err


def test_an_interrupted_sweep_says_how_to_go_on(capsys, monkeypatch, tmp_path):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "run", stopped)
    assert main([*GOOD, "--out", str(tmp_path / "a b")]) == 130
    advice = f"python -m benchmarks sweep --resume '{tmp_path}/a b'\n"
    assert capsys.readouterr().err.endswith(advice)
