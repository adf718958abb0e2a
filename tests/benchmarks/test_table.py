"""Results tables: named by their configuration, whole or absent, and honest about gaps."""

import csv
import dataclasses
import json

import pytest

from benchmarks import drawing, table
from benchmarks.records import record
from benchmarks.table import Missing

ASKED = {"size": "quick", "seed": 0, "data": [], "settings": {"n": 3}}


def _of(*values, asked=ASKED):
    rows = (record("curve", value, n=i, stderr=0.1) for i, value in enumerate(values))
    return table.of_rows("f", rows, asked)


def _path(folder, study="f", **change):
    return table.path_of(folder, study, ASKED | change)


def test_a_finished_table_is_not_computed_again(tmp_path):
    path = _path(tmp_path)
    first = table.obtain(path, lambda: _of(1.0, 2.0))
    again = table.obtain(path, lambda: pytest.fail("computed again"))
    assert again.rows == first.rows
    assert len({path, _path(tmp_path, seed=1), _path(tmp_path, settings={"n": 4})}) == 3
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert table.obtain(path, lambda: _of(3.0), anew=True).rows[0]["value"] == 3.0


def test_an_interrupted_computation_leaves_nothing(tmp_path):
    path = _path(tmp_path)

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table.obtain(path, interrupted)
    assert not path.exists()
    assert table.obtain(path, lambda: _of(2.0)).rows[0]["value"] == 2.0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"value": 1.25', '"value": 1.35'),
        ('"value": 1.25', '"value": null'),
        ('"status": "ok"', '"status": "no"'),
        ('"device": "', '"device": "another '),
        ('"digest": "', '"digest": "0'),
        ('"digest"', '"digestion"'),
        ('"rows"', '"lines"'),
        ("{", "["),
        ("{", "{" * 100_000),
        ("", "cut"),
    ],
)
def test_a_changed_file_is_computed_again_and_named(tmp_path, capsys, old, new):
    path = _path(tmp_path)
    table.obtain(path, lambda: _of(1.25))
    text = path.read_text()
    path.write_text(text.replace(old, new, 1) if old else text[:40])
    with pytest.raises(Missing, match=f"{path.name} cannot be read, it was changed"):
        table.read(path)
    table.obtain(path, lambda: _of(1.25))
    assert path.read_text() == text
    assert f"{path.name} cannot be read, it was changed" in capsys.readouterr().err


def test_rows_that_are_no_list_are_a_changed_file(tmp_path):
    path = _path(tmp_path)
    table.obtain(path, lambda: _of(1.0))
    path.write_text(json.dumps({**json.loads(path.read_text()), "rows": 3}))
    with pytest.raises(Missing, match="cannot be read"):
        table.read(path)
    assert table.obtain(path, lambda: _of(5.0)).rows[0]["value"] == 5.0


def test_the_table_of_another_study_or_of_other_settings_is_not_taken(tmp_path):
    path = _path(tmp_path)
    table.obtain(path, lambda: _of(1.0))
    for other in (_path(tmp_path, settings={"n": 4}), _path(tmp_path, "g")):
        other.write_bytes(path.read_bytes())
        with pytest.raises(Missing, match="of another study"):
            table.read(other)


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path):
    (tmp_path / "tables").write_text("")
    with pytest.raises(OSError, match="tables"):
        table.obtain(_path(tmp_path), lambda: pytest.fail("worked first"))


def test_a_number_that_is_not_finite_is_a_missing_cell(tmp_path):
    found = _of(1.0, float("nan"), 3.0)
    assert [r["value"] for r in found.present(data="curve")] == [1.0, 3.0]
    assert [table.words(cell) for cell in found.absent()] == ["curve (n = 1)"]
    with pytest.raises(Missing, match=r"curve \(n = 1\)"):
        found.select(data="curve")
    with pytest.raises(Missing, match="no such"):
        found.select(data="no such")
    assert found.one(n=0)["value"] == 1.0
    table.write_csv(found, tmp_path / "f.csv")
    lines = list(csv.DictReader((tmp_path / "f.csv").read_text().splitlines()))
    assert [line["value"] for line in lines] == ["1.0", "", "3.0"]


def test_a_row_cut_from_the_file_is_missing():
    whole = _of(1.0, 2.0)
    cut = dataclasses.replace(whole, rows=whole.rows[:1])
    assert [table.words(cell) for cell in cut.absent()] == ["curve (n = 1)"]


def test_a_missing_cell_is_named_on_the_picture(tmp_path):
    found = _of(1.0, float("inf"), 3.0)
    figure, axes = drawing.canvas()
    drawing.points(axes[0, 0], found.present(), "n", line=True, label="x")
    paths = drawing.store(figure, found, tmp_path, "f")
    assert "MISSING: curve (n = 1)" in figure.get_suptitle()
    assert [p.read_bytes()[:4] for p in paths] == [b"\x89PNG", b"%PDF"]


def test_equal_numbers_give_equal_pictures(tmp_path):
    found = _of(1.0, 2.0)
    files = []
    for name in ("a", "b"):
        figure, axes = drawing.canvas()
        drawing.points(axes[0, 0], found.present(), "n")
        files.append([p.read_bytes() for p in drawing.store(figure, found, tmp_path, name)])
    assert files[0] == files[1]
