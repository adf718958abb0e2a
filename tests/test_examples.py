"""Every example in a docstring, and the README read from top to bottom, runs as printed."""

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


def _modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _written(path):
    """Names of the definitions whose docstring shows an example."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    return sorted(
        getattr(node, "name", path.stem)
        for node in nodes
        if ">>> " in (ast.get_docstring(node) or "")
    )


WITH_EXAMPLES = {name: path for name, path in _modules() if _written(path)}


def test_there_are_examples():
    assert len(WITH_EXAMPLES) >= 5


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples(name):
    module = importlib.import_module(name)
    tests = [test for test in doctest.DocTestFinder().find(module, name) if test.examples]
    # Nothing with an example escapes the finder.
    assert sorted(test.name.rpartition(".")[2] for test in tests) == _written(WITH_EXAMPLES[name])
    for test in tests:
        text = []
        runner = doctest.DocTestRunner(verbose=False)
        failed, tried = runner.run(test, out=text.append)
        assert tried > 0
        assert not failed, "".join(text)


@pytest.mark.skipif(not README.exists(), reason="there is no README yet")
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
