"""``index.html``: what a folder of results says, findings first."""

from pathlib import Path
from typing import Any

from benchmarks import page, table
from benchmarks.study import Study, studies
from fsd_jax._files import write_text

NAME = "index.html"
LINES = 60


def write(folder: Path) -> Path:
    """The page of every study whose table is in `folder`, the newest table of each."""
    entries, tables = [], {}
    for study in studies().values():
        found = newest(folder, study)
        if found is not None:
            tables[study.name] = found
            entries.append(_entry(folder, study, found))
    report = folder / "report.html"
    html = page.render(
        "index.html",
        entries=entries,
        origin=page.origin(),
        others=page.of_others(tables),
        report=report.name if report.exists() else "",
    )
    write_text(folder / NAME, html)
    return folder / NAME


def newest(folder: Path, study: Study) -> table.Table | None:
    """The table of a study that was written last, whatever its size."""
    paths = (folder / "tables").glob(f"{study.name}-{'[0-9a-f]' * 12}.json")
    for path in sorted(paths, key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            return table.read(path)
        except table.Missing:
            continue
    return None


def _entry(folder: Path, study: Study, found: table.Table) -> dict[str, Any]:
    lines = study.lines(found)
    columns = list(dict.fromkeys(name for line in lines for name in line))
    pictures = [folder / f"{name}.png" for name in study.pictures]
    return {
        "name": study.name,
        "summary": study.summary,
        "finding": study.says(found),
        "size": found.asked["size"],
        "columns": columns,
        "lines": [[line.get(name, "") for name in columns] for line in lines[:LINES]],
        "more": max(0, len(lines) - LINES),
        "pictures": [path for path in pictures if path.is_file()],
    }
