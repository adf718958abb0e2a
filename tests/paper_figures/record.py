"""Record what the rules are tested on: ``python -m tests.paper_figures.record DIR [NAME ...]``.

DIR is the output of a quick run of the figures. Rules are tested on these numbers, and on these
numbers changed. Figures that are not named keep what was recorded.
"""

import json
import sys
from pathlib import Path

from benchmarks import table
from benchmarks.making import Asked
from benchmarks.study import figures

RECORDED = Path(__file__).parent / "recorded.jsonl"
ONLY_DRAWN = ("plane", "plane minimum", "trajectory", "pictures")


def read() -> dict[str, table.Table]:
    """The recorded table of every figure."""
    heads, rows = {}, {}
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        if "figure" in entry:
            name = entry["figure"]
            heads[name], rows[name] = entry["asked"], []
        else:
            rows[name].append(entry)
    return {
        name: table.of_rows(study.name, rows[name], heads[name], study.measured)
        for name, study in figures().items()
        if name in rows
    }


def main(folder: str, *names: str) -> None:
    held = read() if RECORDED.exists() else {}
    asked = Asked(size="quick", out=Path(folder))
    lines = []
    for name, study in figures().items():
        found = held[name] if names and name not in names else table.read(asked.path(study))
        lines.append({"figure": name, "asked": found.asked})
        lines += [
            {k: float(f"{v:.12g}") if isinstance(v, float) else v for k, v in row.items()}
            for row in found.rows
            if row["data"] not in ONLY_DRAWN and row["metric"] not in ONLY_DRAWN
        ]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    RECORDED.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
