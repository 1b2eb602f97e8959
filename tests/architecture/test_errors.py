"""Every error survives the way back from a worker, and has its place in the tree and an exit code."""

from __future__ import annotations

import pickle

import pytest

from featureflow.core import errors

CLASSES = sorted(
    (c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.FeatureflowError)),
    key=lambda c: c.__name__,
)
PROBLEM = errors.Problem("a.yaml", 14, 3, "features.clicks", "unknown aggregation 'maen'.")


def make(cls):
    if cls is errors.SpecError:
        return cls([PROBLEM])
    if cls is errors.FetchFailed:
        return cls("manifest", ("a.arrow",), "its host is gone")
    if cls is errors.CubeMistake:
        return cls(("chunks", "day"), "what is wrong; what to do")
    return cls("what is wrong; what to do")


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_survives_pickling_with_its_notes(cls):
    error = make(cls)
    error.add_note("while running: slice day=2026-01-01")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is cls
    assert str(back) == str(error) != ""
    assert back.args == error.args
    assert back.__notes__ == error.__notes__
    assert {k: v for k, v in vars(back).items() if k != "__notes__"} == {
        k: v for k, v in vars(error).items() if k != "__notes__"
    }


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_has_an_exit_code_and_a_place_in_the_drawn_tree(cls):
    assert cls.exit_code in {1, 2, 3, 4}
    drawn = [line for line in errors.__doc__.splitlines() if cls.__name__ in line.split()]
    assert len(drawn) == 1
    if "exit code" not in drawn[0]:
        code = drawn[0].split(cls.__name__)[1].split()[0]
        assert int(code) == cls.exit_code


def test_no_error_is_defined_elsewhere():
    """One tree in one place: a user who catches FeatureflowError catches all."""
    import ast
    from pathlib import Path

    names = {c.__name__ for c in CLASSES}
    package = Path(errors.__file__).parents[1]
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and path != Path(errors.__file__):
                own = {ast.unparse(base).split(".")[-1] for base in node.bases} & names
                assert not own, f"{path.name}:{node.lineno}: {node.name}"


def test_a_spec_error_lists_problems_in_the_order_of_the_file():
    later = errors.Problem("a.yaml", 20, 1, "x", "second.")
    text = str(errors.SpecError([later, PROBLEM]))
    assert text.splitlines() == [
        "a.yaml:14:3: features.clicks: unknown aggregation 'maen'.",
        "a.yaml:20:1: x: second.",
    ]
