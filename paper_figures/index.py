"""Write docs/statements.md, statement by function and test: ``python -m paper_figures.index``."""

from pathlib import Path

from fsd_jax._files import write_text
from paper_figures.report import ROOT, has_test
from paper_figures.statements import STATEMENTS

PAGE = Path("docs/statements.md")
HEAD = """# Statement, function, test

Every statement of the paper that is judged, what implements it, what pins that, and the figure
whose results decide ([figures.md](figures.md)). Written by `python -m paper_figures.index`; a test
compares.

| statement | what it says | function | test | figure |
|---|---|---|---|---|
"""


def text() -> str:
    """The page."""
    lines = []
    for s in STATEMENTS:
        test = f"`{s.test}`" if s.test and has_test(s.test) else "to come"
        says = s.says.replace("||", "‖").replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| {s.name} | {says} | `{s.function}` | {test} | `{s.figure}` |\n")
    return HEAD + "".join(lines)


if __name__ == "__main__":
    write_text(ROOT / PAGE, text())
