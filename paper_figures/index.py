"""Write the pages of functions and tests: ``python -m paper_figures.index``."""

from pathlib import Path

from benchmarks.study import statements
from fsd_jax._files import write_text
from paper_figures.report import ROOT, has_test

HEAD = """# Statement, function, test

Every statement of the paper that is judged, what implements it, what pins that, and the figure
whose results decide ([figures](figures.md)). Written by `python -m paper_figures.index`; a test
compares.

| statement | what it says | function | test | figure |
|---|---|---|---|---|
"""


def text() -> str:
    """The page of the paper's statements."""
    lines = []
    for s in statements():
        test = f"`{s.test}`" if s.test and has_test(s.test) else "to come"
        says = s.says.replace("||", "‖").replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| {s.name} | {says} | `{s.function}` | {test} | `{s.figure}` |\n")
    return HEAD + "".join(lines)


PAGES = {Path("docs/statements.md"): text}
"""What writes each page."""

if __name__ == "__main__":
    for page, write in PAGES.items():
        write_text(ROOT / page, write())
