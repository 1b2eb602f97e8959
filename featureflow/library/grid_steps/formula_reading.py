"""Texts of expressions to trees of Python's parser, of which everything that is no expression of numbers is refused."""

from __future__ import annotations

import ast
import re

from featureflow.contracts.grid_step import StepMistake
from featureflow.library.grid_steps.axes import hint
from featureflow.library.grid_steps.formula_functions import COMPARISONS, FUNCTIONS, OPERATORS, TIME_PARTS

LONGEST = 4096
QUOTED = "quoted_name_"
_TOKEN = re.compile(
    r"('(?:[^']|'')*')|\"([^\"]+)\"|`([^`]+)`|([A-Za-z_]\w*)|(<>|<=|>=|!=|==|=)|(\s+|.)", re.DOTALL
)
#: SQL that is spelled in another way here
_OTHER_SPELLINGS = {
    "between": "Write 1 <= x <= 2 for BETWEEN.",
    "case": "Write where(condition, x, y) for CASE.",
    "cast": "Convert with the step cast.",
    "like": "Texts are compared as a whole: name in ('a', 'b').",
}
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "true", "false", "null"})


def read(text: str) -> tuple[ast.expr, tuple[str, ...]]:
    """Read an expression: its tree, and the names that stand in quotes.

    Raises
    ------
    StepMistake
        If it is none: what is wrong where, and how it is written here.
    """
    if len(text) > LONGEST:
        raise StepMistake((), f"an expression has at most {LONGEST} characters; this one has {len(text)}.")
    quoted: list[str] = []
    try:
        tree = ast.parse(
            "".join(_python(token, quoted) for token in _TOKEN.findall(text)).strip(), mode="eval"
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        detail = error.msg if isinstance(error, SyntaxError) else str(error)
        words = {token[3].lower() for token in _TOKEN.findall(text)}
        other = next((said for word, said in _OTHER_SPELLINGS.items() if word in words), None)
        spelled = other or 'Write it as in "where(t > 273.15 and lat < 60, t - 273.15, 0)".'
        raise StepMistake((), f"{text!r} is no expression: {detail}. {spelled}") from None
    _allowed(text, tree.body)
    return tree.body, tuple(quoted)


def _python(token: tuple[str, ...], quoted: list[str]) -> str:
    literal, double, back, word, operator, other = token
    if literal:
        return repr(literal[1:-1].replace("''", "'"))
    if double or back:
        quoted.append(double or back)
        return f"{QUOTED}{len(quoted) - 1}"
    if word:
        return word.lower() if word.lower() in _KEYWORDS else word
    if operator:
        return {"=": "==", "<>": "!="}.get(operator, operator)
    return " " if other.isspace() else other


def _allowed(text: str, node: ast.AST, depth: int = 0) -> None:
    """Refuse everything that is no expression of numbers, before anything is evaluated."""
    if depth > 64:
        raise StepMistake((), f"{text[:60]!r}… is nested more than 64 deep. Split it into derive steps.")
    hints: dict[type[ast.AST], str] = {
        ast.BitXor: "Write x ** y for a power.",
        ast.BitAnd: "Write and.",
        ast.BitOr: "Write or.",
        ast.Invert: "Write not.",
        ast.FloorDiv: "Write floor(x / y).",
        ast.IfExp: "Write where(condition, x, y).",
    }
    inner: list[ast.AST] = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name):
            raise StepMistake((), f"{ast.unparse(node)!r} in {text!r} can't be called.")
        _check_call(text, node, node.func.id)
        inner = list(node.args)
    elif type(node) in hints or not isinstance(node, _NODES):
        shown = ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__
        advice = hints.get(
            type(node), "Known are numbers, names, arithmetic, comparisons, and, or, not, functions."
        )
        raise StepMistake((), f"{shown!r} can't be used in {text!r}. {advice}")
    if isinstance(node, ast.Constant) and not isinstance(node.value, int | float | str):
        raise StepMistake((), f"{ast.unparse(node)!r} can't be used in {text!r}.")
    for one in inner:
        _allowed(text, one, depth + 1)


def _check_call(text: str, node: ast.Call, name: str) -> None:
    known = {**FUNCTIONS, **dict.fromkeys(TIME_PARTS, FUNCTIONS["abs"])}
    if name not in known:
        raise StepMistake((), f"unknown function {name!r} in {text!r}. {hint(name, known)}")
    if node.keywords:
        raise StepMistake((), f"{name}() takes no names of arguments, in {text!r}.")
    least, most = known[name].least, known[name].most
    if not least <= len(node.args) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        text = f"{name}() takes {wanted} arguments; {len(node.args)} are given, in {text!r}."
        raise StepMistake((), text)


_NODES: tuple[type[ast.AST], ...] = (
    *(ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Name, ast.Constant, ast.Load, ast.Tuple, ast.List),
    *(ast.And, ast.Or, ast.Not, ast.In, ast.NotIn, ast.Is, ast.IsNot),
    *OPERATORS,
    *COMPARISONS,
)
