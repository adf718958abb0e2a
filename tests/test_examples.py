"""The README read from top to bottom runs as printed; pytest finds every example in a docstring."""

import ast
import doctest
import importlib
import pathlib
import re

import pytest

import fsd_jax

PACKAGE = pathlib.Path(fsd_jax.__file__).parent
README = PACKAGE.parent / "README.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
KINDS = (ast.Module, ast.ClassDef, ast.FunctionDef)
SHOWN = {
    path: names
    for path in PACKAGE.rglob("*.py")
    if (
        names := sorted(
            getattr(node, "name", path.parent.name if path.stem == "__init__" else path.stem)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, KINDS) and ">>> " in (ast.get_docstring(node) or "")
        )
    )
}
"""Names by file of the definitions whose docstring shows an example."""


@pytest.mark.parametrize("path", sorted(SHOWN), ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_no_example_escapes_the_finder(path):
    """Nested in a function, say, or behind a decorator that hides it: it would never run."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    module = importlib.import_module(name.removesuffix(".__init__"))
    found = [test.name for test in doctest.DocTestFinder().find(module) if test.examples]
    assert sorted(name.rpartition(".")[2] for name in found) == SHOWN[path]


def test_readme(tmp_path, monkeypatch):
    text = README.read_text(encoding="utf-8")
    blocks = list(BLOCK.finditer(text))
    assert blocks
    # Padded, so that a traceback shows the README's own line numbers.
    source = ""
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        source += "\n" * (line - source.count("\n")) + block.group(1)
    monkeypatch.chdir(tmp_path)
    exec(compile(source, str(README), "exec"), {"__name__": "__main__"})
