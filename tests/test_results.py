"""Every section of the maths has functions and tests: a docstring names the sections that it
implements after ``Implements:``, a test those that it pins, by ``@pytest.mark.result("R2")``.

A section goes by its label or, where it has none, by its heading, which docstrings put in quotes.
``python -m tests.test_results`` writes docs/equation-table.md from both.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import fsd_jax

ROOT = Path(__file__).parents[1]
SECTIONS, PAGE = ROOT / "docs/equations.md", ROOT / "docs/equation-table.md"
HEAD = """# Equation, function, test

Every section of the [equations](equations.md), the functions of `fsd_jax` that use it, and the
tests (in `tests/`) that pin it by a second route. Written by `python -m tests.test_results` from
docstrings and from marks on tests; a test compares, and fails on a section without a function or a
test.

| section | functions | tests |
|---|---|---|
"""
IMPLEMENTS = re.compile(r"Implements:(.*?)(?:\n\s*\n|\Z)", re.DOTALL)
NAMED = re.compile(r'\bR\d+\b|(?<!`)"([^"`]+)"(?!`)')


def headings() -> dict[str, str]:
    """The headings of the page by label, or by themselves where they have none."""
    text = SECTIONS.read_text(encoding="utf-8")
    found = re.findall(r"^## (.+)$", text, re.MULTILINE)
    return {(m[0] if (m := re.match(r"R\d+(?= )", h)) else h): h for h in found}


def _public() -> dict[tuple[str, str], str]:
    """Public names by the module and the name of what they are."""
    rooms = [("", fsd_jax)]
    for name in fsd_jax.__all__:
        room = getattr(fsd_jax, name)
        if hasattr(room, "__path__"):
            rooms.append((f"{name}.", room))
    return {
        (found.__module__, found.__qualname__): f"{prefix}{name}"
        for prefix, room in rooms
        for name in room.__all__
        if hasattr(found := getattr(room, name), "__qualname__")
    }


def _definitions(owner: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(owner):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield f"{prefix}{node.name}", node
            yield from _definitions(node, f"{prefix}{node.name}.")


def implementing() -> Iterator[tuple[str, str]]:
    """``(section, function)`` as docstrings say; functions by their public names."""
    public = _public()
    for path in sorted(Path(fsd_jax.__file__).parent.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name, node in _definitions(ast.parse(path.read_text(encoding="utf-8"))):
            found = IMPLEMENTS.search(ast.get_docstring(node) or "")
            outer, _, inner = name.partition(".")
            known = public.get((module, outer), f"{module}.{outer}".removeprefix("fsd_jax."))
            for match in NAMED.finditer(" ".join(found[1].split()) if found else ""):
                yield match[1] or match[0], f"{known}.{inner}" if inner else known


def pinning() -> Iterator[tuple[str, str]]:
    """``(section, test)`` as the marks say, which are literals."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, node in _definitions(ast.parse(path.read_text(encoding="utf-8"))):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.result":
                    where = path.relative_to(ROOT / "tests").as_posix()
                    for section in mark.args:
                        yield ast.literal_eval(section), f"{where}::{name}"


def _anchor(heading: str) -> str:
    """The link's end that GitHub and the site give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def table() -> str:
    """The page."""
    functions, tests = sorted(set(implementing())), list(pinning())
    lines = [HEAD]
    for name, heading in headings().items():
        cells = [
            "<br>".join(f"`{entry}`" for section, entry in entries if section == name)
            for entries in (functions, tests)
        ]
        lines.append(f"| [{heading}](equations.md#{_anchor(heading)}) | {' | '.join(cells)} |\n")
    return "".join(lines)


def test_labels_are_complete_and_listed_at_the_top():
    labels = [name for name in headings() if re.fullmatch(r"R\d+", name)]
    assert labels == [f"R{i}" for i in range(1, len(labels) + 1)]
    text = SECTIONS.read_text(encoding="utf-8")
    assert re.findall(r"^\| (R\d+) \|", text, re.MULTILINE) == labels


@pytest.mark.parametrize("claims", [implementing, pinning])
def test_no_holes_and_nothing_that_is_no_section(claims):
    assert {section for section, _ in claims()} == set(headings())


def test_the_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == table(), "run python -m tests.test_results"


if __name__ == "__main__":
    PAGE.write_text(table(), encoding="utf-8")
