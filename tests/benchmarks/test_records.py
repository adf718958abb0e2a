"""Records: strict JSON lines that say where they come from, read back as written, and compared."""

import json
import math

import pytest

from benchmarks import compare, records, table
from benchmarks.cases import agreement
from benchmarks.context import Context


def _row(value=1.5, **change):
    given = dict(case="solve", data="digits", method="ours", metric="time") | change
    return records.record(value=value, **given)


def test_a_record_is_flat_and_complete():
    row = _row(stderr=0.1, unit="s", seconds=2, floor=1, n=10, tau=None)
    assert set(records.FIXED) <= set(row)
    assert (row["value"], row["stderr"], row["seconds"], row["status"]) == (1.5, 0.1, 2.0, "ok")
    assert records.parameters(row) == {"n": 10, "tau": None}


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_numbers_that_are_not_finite_become_null(bad):
    row = _row(bad, stderr=bad, seconds=bad, floor=bad)
    assert [row[name] for name in ("value", "stderr", "seconds", "floor")] == [None] * 4


def test_what_is_written_is_read_back(tmp_path):
    rows = [_row(n=10), _row(None, method="peer", status="skipped: not installed", n=20)]
    folder = tmp_path / "a" / "b"
    path = records.write(folder, rows, seed=3, size="quick")
    assert path == folder / records.RESULTS
    for source in (path, folder):
        back = records.read(source)
        assert [{k: row[k] for k in rows[0]} for row in back] == rows
        assert all((row["seed"], row["size"]) == (3, "quick") for row in back)
        assert [records.parameters(row) for row in back] == [{"n": 10}, {"n": 20}]


def test_every_line_carries_its_provenance(tmp_path):
    path = records.write(tmp_path, [_row(), _row()], seed=0, size="default")
    lines = path.read_text().splitlines()
    assert len(lines) == 2
    for line in lines:
        origin = json.loads(line)["provenance"]
        assert {"versions", "python", "device", "processor", "git"} <= set(origin)
        assert origin["versions"]["jax"]
        assert "cpu" in origin["device"] or "gpu" in origin["device"]


def test_a_number_from_an_earlier_run_keeps_its_own_provenance(tmp_path):
    row = _row() | {"seed": 5, "provenance": {"git": "earlier"}}
    (found,) = records.read(records.write(tmp_path, [row], seed=0, size="quick"))
    assert (found["seed"], found["size"], found["provenance"]) == (5, "quick", {"git": "earlier"})


def test_writing_replaces_and_leaves_nothing_else(tmp_path):
    records.write(tmp_path, [_row(), _row()], seed=0, size="quick")
    records.write(tmp_path, [_row(2.0)], seed=0, size="quick")
    assert [row["value"] for row in records.read(tmp_path)] == [2.0]
    assert [path.name for path in tmp_path.iterdir()] == [records.RESULTS]


def test_a_row_that_is_no_json_leaves_the_old_file(tmp_path):
    records.write(tmp_path, [_row()], seed=0, size="quick")
    before = (tmp_path / records.RESULTS).read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        records.write(tmp_path, [_row(tau=math.nan)], seed=0, size="quick")
    assert (tmp_path / records.RESULTS).read_bytes() == before


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"case": "solve"}', ""])
def test_reading_names_the_bad_line(tmp_path, line):
    path = records.write(tmp_path, [_row()], seed=0, size="quick")
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match=r"results.jsonl' line 2 is not a benchmark record"):
        records.read(path)


def test_reading_names_the_file(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read .*none"):
        records.read(tmp_path / "none")
    with pytest.raises(ValueError, match=r"cannot read .*results\.jsonl"):
        records.read(tmp_path)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="binary"):
        records.read(binary)


def test_select():
    rows = [_row(n=10), _row(n=20), _row(method="peer", n=20)]
    assert records.select(rows, n=20) == rows[1:]
    assert records.select(rows, n=20, method="peer") == rows[2:]
    assert records.select(rows, absent=1) == []


# Comparing


def _store(folder, rows, **kwargs):
    records.write(folder, rows, **(dict(seed=0, size="quick") | kwargs))
    return folder


def test_compare_gives_values_ratio_and_standard_errors(tmp_path):
    a = _store(tmp_path / "a", [_row(2.0, stderr=0.3, n=10, calls=5), _row(1.0, metric="gone")])
    b = _store(tmp_path / "b", [_row(3.0, stderr=0.4, n=10, calls=9)], seed=1, size="full")
    lines = compare.compare(a, b).splitlines()
    assert lines == [
        "solve digits ours time (n=10): 2 -> 3, x1.5, +2.0 standard errors",
        "only in the first: 1",
    ]


def test_compare_tells_parameters_apart(tmp_path):
    a = _store(tmp_path / "a", [_row(1.0, n=10), _row(2.0, n=20), _row(None, n=30, status="slow")])
    b = _store(tmp_path / "b", [_row(4.0, n=20), _row(0.0, n=30), _row(5.0, n=40)])
    lines = compare.compare(a, b).splitlines()
    assert lines[0].endswith("(n=20): 2 -> 4, x2")
    assert lines[1].endswith("(n=30): None -> 0.0 (slow -> ok)")
    assert lines[2:] == ["only in the first: 1", "only in the second: 1"]


def test_compare_from_zero(tmp_path):
    a, b = _store(tmp_path / "a", [_row(0.0)]), _store(tmp_path / "b", [_row(1.0)])
    assert "0 -> 1" in compare.compare(a, b)


def test_compare_nothing_in_common(tmp_path):
    a, b = _store(tmp_path / "a", [_row()]), _store(tmp_path / "b", [_row(metric="memory")])
    with pytest.raises(ValueError, match="no case in common"):
        compare.compare(a, b)


# Tables and sizes


def test_a_table_for_each_case_and_data_set():
    rows = [
        _row(2.0, floor=1.0, unit="s", seconds=0.5, n=10, calls=7),
        _row(3.0, method="peer", stderr=0.25, unit="s", n=10),
        _row(None, method="absent", status="skipped"),
        _row(1.0, data="power-law"),
    ]
    first, second = table.render(rows).split("\n\n")
    lines = first.splitlines()
    assert lines[0] == "solve: digits"
    assert set(lines[2].strip()) == {"-"}
    assert "2 s" in lines[3]
    assert "2.00" in lines[3]
    assert "calls" not in first
    assert "3 +- 0.25 s" in lines[4]
    assert lines[5].rstrip().endswith("skipped")
    assert second.startswith("solve: power-law\n")
    assert all(line == line.rstrip() for line in lines)


def test_a_long_agreement_case_shrinks_to_its_worst():
    where = dict(objective="one t", D=64, d=4, n_ta=5, steps=150)
    rows = [
        _row(gap, case="agreement", metric=metric, **where)
        for gap in (1e-12, -3e-12, 2e-12)
        for metric in ("loss_gap", "projector_distance")
    ]
    lines = table.render(rows, agreement.lines).splitlines()
    assert len(lines) == 4
    assert "-3e-12" in lines[-1]
    assert "150" in lines[-1]


@pytest.mark.parametrize(("size", "expected"), [("quick", 1), ("default", 2), ("full", 3)])
def test_context_picks_by_size(tmp_path, size, expected):
    context = Context(size=size, seed=0, out=tmp_path, tell=lambda _: None)
    assert context.pick(1, 2, 3) == expected
