"""Record what the rules are tested on: ``python -m tests.paper_figures.record DIR``.

DIR is the output of a quick run. Rules are tested on these numbers, and on these numbers changed.
"""

import json
import sys
from pathlib import Path

from paper_figures.figures import FIGURES
from paper_figures.making import module_of
from paper_figures.table import path_of, read
from paper_figures.work import as_json

RECORDED = Path(__file__).parent / "recorded.jsonl"
ONLY_DRAWN = ("plane", "plane minimum", "trajectory", "pictures")


def main(folder: str) -> None:
    lines = []
    for name in FIGURES:
        settings = as_json(module_of(name).settings(True))
        table = read(path_of(Path(folder), name, settings))
        lines.append({"figure": name, "settings": settings})
        lines += [
            {k: float(f"{v:.12g}") if isinstance(v, float) else v for k, v in row.items()}
            for row in table.rows
            if row["series"] not in ONLY_DRAWN
        ]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    RECORDED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
