"""Records: flat rows that are strict JSON, read back as written, and compared."""

import json
import math

import pytest

from benchmarks import compare, records, table, text


def _row(value=1.5, **change):
    case = change.pop("case", "solve")
    given = {"data": "digits", "method": "ours", "metric": "time"} | change
    return records.record(value=value, **given) | {"case": case}


def _store(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    held = records.Results(folder, ())
    for name in dict.fromkeys(row["case"] for row in rows):
        held._held.setdefault(name, [])
        held.replace(name, [row for row in rows if row["case"] == name])
    return folder


def test_a_record_is_flat_and_complete():
    row = _row(stderr=0.1, unit="s", seconds=2, floor=1, n=10, tau=None)
    assert set(records.FIXED) <= set(row)
    assert (row["value"], row["stderr"], row["seconds"], row["status"]) == (1.5, 0.1, 2.0, "ok")
    assert (row["n"], row["tau"]) == (10, None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_numbers_that_are_not_finite_become_null(bad):
    row = _row(bad, stderr=bad, seconds=bad, floor=bad)
    assert [row[name] for name in ("value", "stderr", "seconds", "floor")] == [None] * 4


def test_what_is_written_is_read_back_without_its_pictures(tmp_path):
    rows = [_row(n=10), _row(None, method="peer", status="skipped: not installed", n=20)]
    folder = _store(tmp_path / "a", [*rows, _row(3, metric=records.PICTURES, note="AAAA")])
    for source in (folder / records.RESULTS, folder):
        assert records.read(source) == rows


def test_a_row_says_where_it_comes_from_and_keeps_what_an_earlier_run_said():
    asked = {"size": "quick", "seed": 3, "data": [], "settings": {}}
    earlier = {"seed": 5, "provenance": {"git": "earlier"}}
    made = table.of_rows("solve", [_row(), _row(metric="memory") | earlier], asked)
    first, second = made.records()
    assert (first["case"], first["seed"], first["size"]) == ("solve", 3, "quick")
    assert {"versions", "python", "device", "processor", "git"} <= set(first["provenance"])
    assert first["provenance"]["versions"]["jax"]
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    assert second["value"] == 1.5


def test_a_status_that_is_an_answer_is_not_missing():
    asked = {"size": "quick", "seed": 0, "data": [], "settings": {}}
    rows = [_row(None, status=status, n=n) for n, status in enumerate(records.ANSWERS)]
    assert table.of_rows("solve", rows, asked).absent() == []
    lost = table.of_rows("solve", [_row(None, status="failed: out of memory")], asked)
    assert len(lost.absent()) == 1


@pytest.mark.parametrize("line", ["{", "[]", "3", '{"case": "solve"}', ""])
def test_reading_names_the_bad_line(tmp_path, line):
    path = _store(tmp_path, [_row()]) / records.RESULTS
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


def test_compare_gives_values_ratio_and_standard_errors(tmp_path):
    a = _store(tmp_path / "a", [_row(2.0, stderr=0.3, n=10, calls=5), _row(1.0, metric="gone")])
    b = _store(tmp_path / "b", [_row(3.0, stderr=0.4, n=10, calls=9)])
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


# Tables as people read them


def test_a_table_on_the_terminal_is_narrow_and_short():
    many = [
        {"n": str(n), "same": "x", "word": f"{n:60}.", "more": "m" * (n + 30)} for n in range(30)
    ]
    shown = text.render(many)
    lines = shown.splitlines()
    assert max(map(len, lines)) <= text.WIDTH
    assert len(lines) == 2 + text.LINES + 1
    assert lines[-1] == "... 10 more lines and 1 more columns in the file"
    assert "same" not in shown
    assert all(line == line.rstrip() for line in lines)


def test_a_line_has_what_was_measured_with_its_error_and_why_there_is_none():
    found = text.line(_row(2.0, stderr=0.25, floor=1.0, unit="s", n=10))
    assert found == {
        "data": "digits",
        "method": "ours",
        "metric": "time",
        "value": "2 +- 0.25 s",
        "over floor": "2.00",
        "n": "10",
    }
    lost = text.line(_row(None, status="skipped: not installed"))
    assert (lost["value"], lost["status"]) == ("-", "skipped: not installed")
