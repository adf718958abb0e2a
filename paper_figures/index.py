"""Write the pages of functions and tests from the registries: ``python -m paper_figures.index``."""

from pathlib import Path

from fsd_jax._files import write_text
from paper_figures import equations
from paper_figures.report import ROOT, has_test
from paper_figures.statements import STATEMENTS

HEAD = """# Statement, function, test

Every statement of the paper that is judged, what implements it, what pins that, and the figure
whose results decide ([figures](figures.md)). Written by `python -m paper_figures.index`; a test
compares.

| statement | what it says | function | test | figure |
|---|---|---|---|---|
"""
EQUATIONS_HEAD = """# Equation, function, test

Every section of the [equations](equations.md), the functions of `fsd_jax` that use it, and the
tests (in `tests/`) that pin it by a second route. Written by `python -m paper_figures.index`; a
test compares, and fails on a section without a function or a test and on one that does not exist.

| section | functions | tests |
|---|---|---|
"""


def text() -> str:
    """The page of the paper's statements."""
    lines = []
    for s in STATEMENTS:
        test = f"`{s.test}`" if s.test and has_test(s.test) else "to come"
        says = s.says.replace("||", "‖").replace("|", "\\|").replace("*", "\\*")
        lines.append(f"| {s.name} | {says} | `{s.function}` | {test} | `{s.figure}` |\n")
    return HEAD + "".join(lines)


def equation_table() -> str:
    """The page of the maths' sections."""
    heads = equations.headings()
    lines = []
    for section in equations.SECTIONS:
        heading = heads[section.name]
        link = f"[{heading}](equations.md#{equations.anchor(heading)})"
        functions = "<br>".join(f"`{name}`" for name in section.functions)
        tests = "<br>".join(f"`{name}`" for name in section.tests)
        lines.append(f"| {link} | {functions} | {tests} |\n")
    return EQUATIONS_HEAD + "".join(lines)


PAGES = {Path("docs/statements.md"): text, Path("docs/equation-table.md"): equation_table}
"""What writes each page."""

if __name__ == "__main__":
    for page, write in PAGES.items():
        write_text(ROOT / page, write())
