"""The documentation says what the committed records say."""

import re

import pytest

from benchmarks.docs import filling, pictures, tables
from benchmarks.study import studies

SITE = filling.ROOT / "docs"
PICTURE = re.compile(r"!\[[^\]]+\]\(([^)]+)\)")


@pytest.mark.parametrize("page", filling.PAGES, ids=lambda path: path.stem)
def test_pages_hold_what_the_records_say(page):
    written = page.read_text(encoding="utf-8")
    assert filling.PLACE.search(written)
    assert filling.filled(written) == written, "run python -m benchmarks.docs"
    # No place without its end, which would swallow what follows.
    assert written.count("<!-- table ") + written.count("<!-- finding ") == written.count(
        "<!-- end"
    )


def test_every_table_is_on_a_page():
    text = "".join(page.read_text(encoding="utf-8") for page in filling.PAGES)
    shown = {place["name"] for place in filling.PLACE.finditer(text) if place["kind"] == "table"}
    assert set(tables.TABLES) <= shown
    assert shown <= set(tables.TABLES) | set(studies())


@pytest.mark.parametrize("written", [SITE.parent / "README.md", *SITE.glob("*.md")], ids=str)
def test_every_picture_is_there(written):
    for found in PICTURE.findall(written.read_text(encoding="utf-8")):
        assert (written.parent / found).is_file(), found


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_pictures_of_the_readme_are_small(name):
    assert 1000 < (SITE / "_static" / f"{name}.png").stat().st_size <= 150_000


def test_numbers_in_cells_are_for_people():
    lines = [{"a": "1.76e+06 +-2e+01", "b": "1e+12", "same": "x"}, {"a": "3 |x|", "same": "x"}]
    assert filling.markdown(lines) == (
        "| a | b |\n| --- | --- |\n| 1760000 ± 20 | 1e12 |\n| 3 \\|x\\| |  |"
    )
