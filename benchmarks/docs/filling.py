"""Tables and findings in the pages of the documentation, from the committed records.

A page says where they stand, between ``<!-- table NAME -->`` or ``<!-- finding NAME -->`` and
``<!-- end -->``; its sentences are written by hand.
"""

import re
from functools import cache
from pathlib import Path

from benchmarks import records, table, text
from benchmarks.docs.tables import TABLES, note
from benchmarks.study import studies
from benchmarks.table import Table

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "benchmarks" / "results" / "cpu-2-cores"
PAGES = tuple(ROOT / "docs" / f"{name}.md" for name in ("benchmarks", "images", "networks"))
PLACE = re.compile(
    r"^(<!-- (?P<kind>table|finding) (?P<name>\S+) -->\n).*?^(?P<end><!-- end -->)$",
    re.DOTALL | re.MULTILINE,
)
POWER = re.compile(r"\b(\d(?:\.\d+)?)e\+(\d\d)\b")
MOST_DIGITS = 7


@cache
def kept() -> dict[str, Table]:
    """The table of every study with a committed record."""
    rows = [row for path in sorted(KEPT.glob("*.jsonl")) for row in records.read(path)]
    found = {}
    for name in dict.fromkeys(row["case"] for row in rows):
        study, own = studies()[name], [row for row in rows if row["case"] == name]
        asked = study.asked(own[0]["size"])
        found[name] = table.of_rows(name, own, asked, study.measured)
    return found


def filled(page: str) -> str:
    """The text of a page, with what the records say today."""
    return PLACE.sub(_fill, page)


def _fill(place: re.Match[str]) -> str:
    kind, name = place["kind"], place["name"]
    study, lines = TABLES.get(name, (name, None))
    held = kept()[study]
    if kind == "finding":
        inside = studies()[study].says(held)
    else:
        inside = markdown((lines or studies()[study].lines)(held)) + "\n\n" + note(held)
    return f"{place[1]}\n{inside}\n\n{place['end']}"


def markdown(lines: text.Lines) -> str:
    """Lines as a table; a column that never changes is left out."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    cells = {name: [_cell(line.get(name, "")) for line in lines] for name in names}
    shown = [n for n in names if len(lines) == 1 or len(set(cells[n])) > 1]
    rows = [[name.replace("|", "\\|") for name in shown], ["---"] * len(shown)]
    rows += [list(row) for row in zip(*(cells[name] for name in shown), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(written: str) -> str:
    return re.sub(r" \+-\s*", " ± ", POWER.sub(_plain, written)).replace("|", "\\|")


def _plain(number: re.Match[str]) -> str:
    """A number without a power of ten, or with a short one."""
    digits, power = number[1], int(number[2])
    return f"{float(number[0]):.0f}" if power <= MOST_DIGITS else f"{digits}e{power}"
