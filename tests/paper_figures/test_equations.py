"""Every section of the maths has functions and tests, and docstrings agree with that."""

import ast
import re

import pytest

from paper_figures.equations import PAGE, SECTIONS, headings
from paper_figures.report import ROOT, has_test, resolve

IMPLEMENTS = re.compile(r"Implements:(.*?)(?:\n\s*\n|\Z)", re.DOTALL)
ROWS = {section.name: section for section in SECTIONS}


def _claims():
    """``(dotted name, label)`` of each docstring that says which result it implements."""
    for path in sorted((ROOT / "fsd_jax").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        for prefix, owner in [("", tree), *((f"{node.name}.", node) for node in classes)]:
            for node in owner.body:
                if isinstance(node, ast.FunctionDef | ast.ClassDef):
                    found = IMPLEMENTS.search(ast.get_docstring(node) or "")
                    for label in re.findall(r"\bR\d+\b", found[1] if found else ""):
                        yield f"{module}.{prefix}{node.name}", label


def test_every_section_is_there_once_and_in_order():
    assert [section.name for section in SECTIONS] == list(headings())


def test_labels_are_complete_and_listed_at_the_top():
    labels = [name for name in headings() if re.fullmatch(r"R\d+", name)]
    assert labels == [f"R{i}" for i in range(1, 20)]
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert re.findall(r"^\| (R\d+) \|", text, re.MULTILINE) == labels


@pytest.mark.parametrize("section", SECTIONS, ids=lambda s: s.name)
def test_no_holes(section):
    assert section.functions
    assert section.tests
    for name in section.functions:
        resolve(f"fsd_jax.{name}")
    for test in section.tests:
        assert has_test(f"tests/{test}"), test


def test_docstrings_name_only_sections_that_list_them():
    claims = sorted(set(_claims()))
    assert len(claims) > 20
    for name, label in claims:
        listed = [resolve(f"fsd_jax.{function}") for function in ROWS[label].functions]
        assert any(resolve(name) == function for function in listed), f"{name} implements {label}"
