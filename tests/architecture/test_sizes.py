"""Modules and functions stay short enough to be read in one go."""

from __future__ import annotations

import ast
import re
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import featureflow

PACKAGE = Path(featureflow.__file__).parent
TESTS = Path(__file__).parents[1]
MODULES = sorted(path for path in PACKAGE.rglob("*.py"))
LONGEST_MODULE, LONGEST_TEST_MODULE, LONGEST_FUNCTION = 500, 600, 60


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


def n_lines(path: Path) -> int:
    return len(path.read_text().splitlines())


@cache
def parsed(path: Path) -> ast.Module:
    """A module's syntax tree; all tests look at the same."""
    return ast.parse(path.read_text())


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Everything in it."""
    return tuple(ast.walk(parsed(path)))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring: a text that explains costs nothing."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        text = function.body[0]
        lines -= (text.end_lineno or text.lineno) - text.lineno + 1
    return lines


def test_counting_of_function_lines():
    source = 'def f(\n    a,\n):\n    """One.\n\n    Two.\n    """\n    b = a\n    return b\n'
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    assert code_lines(function) == 5


def test_no_module_is_too_long():
    too_long = {name(p): n for p in MODULES if (n := n_lines(p)) > LONGEST_MODULE}
    assert not too_long, f"split them by what their parts do: {too_long}"


def test_modules_are_short_as_a_rule():
    sizes = sorted(n_lines(path) for path in MODULES if path.name != "__init__.py")
    assert statistics.median(sizes) <= 150, sizes
    assert sizes[int(len(sizes) * 0.9)] <= 350, sizes


def test_no_test_module_is_too_long():
    too_long = {p.name: n for p in TESTS.rglob("*.py") if (n := n_lines(p)) > LONGEST_TEST_MODULE}
    assert not too_long, too_long


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_function_is_too_long(path):
    too_long = {f.name: n for f in functions(path) if (n := code_lines(f)) > LONGEST_FUNCTION}
    assert not too_long, f"{name(path)}: {too_long}"


def test_functions_are_short_as_a_rule():
    sizes = [code_lines(f) for path in MODULES for f in functions(path)]
    assert statistics.median(sizes) <= 12


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=name)
def test_init_holds_imports_only(path):
    """A docstring, imports, `__all__`, `__version__`; lazy attributes of the top are the one exception."""
    allowed = (ast.Import, ast.ImportFrom)
    for node in parsed(path).body:
        if isinstance(node, allowed):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if all(isinstance(t, ast.Name) and t.id.startswith("_") for t in targets):
                continue
        if path == PACKAGE / "__init__.py" and isinstance(node, ast.FunctionDef):
            assert node.name in {"__getattr__", "__dir__"}
            continue
        pytest.fail(f"{name(path)}:{node.lineno}: {ast.unparse(node)[:80]}")


def test_names_say_what_is_inside():
    forbidden = re.compile(r"^(utils?|helpers?|common|misc|base|managers?|handlers?)$")
    assert [name(p) for p in PACKAGE.rglob("*") if forbidden.match(p.stem)] == []


def test_no_work_is_left_for_later():
    """No TODO, no stub: what is not there is in the README's status or an issue."""
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    found = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in MODULES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marks.search(line)
    ]
    assert found == []


def test_only_private_base_classes_leave_methods_open():
    for path in MODULES:
        private = {
            id(inner)
            for node in nodes(path)
            if isinstance(node, ast.ClassDef) and node.name.startswith("_")
            for inner in ast.walk(node)
        }
        for node in nodes(path):
            stub = isinstance(node, ast.Raise) and "NotImplemented" in ast.unparse(node)
            assert not stub or id(node) in private, f"{name(path)}:{node.lineno}"


def test_every_module_starts_with_a_docstring_and_postponed_annotations():
    for path in MODULES:
        tree = parsed(path)
        assert ast.get_docstring(tree), f"{name(path)} has no docstring"
        future = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
        only_docstring = len(tree.body) == 1
        assert future or only_docstring, f"{name(path)} lacks `from __future__ import annotations`"


def test_no_relative_imports():
    for path in MODULES:
        for node in nodes(path):
            assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name(path)}:{node.lineno}"
