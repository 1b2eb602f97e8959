"""Nodes to plain values, with ``${VAR}`` and ``${VAR:-default}`` replaced from the environment.

Both results are kept: the values that the engine uses, and the text as written, which is all that may be recorded.
A variable can hold a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from featureflow.spec.paths import Path
from featureflow.spec.suggest import closest
from featureflow.spec.yaml_text import Node, scalar

_VARIABLE = re.compile(r"\$(?P<escaped>\$\{)|\$\{(?P<body>[^}]*)(?P<end>\}?)")
_BODY = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(:-(?P<default>.*))?", re.DOTALL)

#: called with a node, its path and what is wrong
Report = Callable[[Node, Path, str], None]


@dataclass(slots=True)
class Values:
    """A document as plain data.

    Parameters
    ----------
    expanded
        Variables replaced.
    raw
        As written.
    variables
        Names of the variables that were asked for, and the paths where.
    """

    expanded: Any = None
    raw: Any = None
    variables: dict[str, list[Path]] = field(default_factory=dict)

    def at(self, path: Path) -> tuple[Any, Any]:
        """Both forms of the value at a path, or of the nearest around it."""
        expanded, raw = self.expanded, self.raw
        for step in path:
            try:
                expanded, raw = expanded[step], raw[step]
            except (KeyError, IndexError, TypeError):
                break
        return expanded, raw


def replace_variables(text: str, environment: Mapping[str, str]) -> tuple[str, list[str]]:
    """Replace the variables of a text; ``$${`` stands for ``${``. As in a shell, ``:-`` also replaces an empty one.

    Returns
    -------
    tuple
        The text, and the names that it asked for.

    Raises
    ------
    ValueError
        For a variable that is not set and has no default, or that is badly written.

    Examples
    --------
    >>> replace_variables("${HOME_}/x ${Y:-2} $${Z} cost: 5$", {"HOME_": "/h"})
    ('/h/x 2 ${Z} cost: 5$', ['HOME_', 'Y'])
    """
    names: list[str] = []

    def replaced(found: re.Match[str]) -> str:
        if found["escaped"]:
            return "${"
        body = _BODY.fullmatch(found["body"])
        if body is None or not found["end"]:
            raise ValueError(f"{found[0]!r} is not a variable. Write ${{NAME}} or ${{NAME:-default}}.")
        names.append(body["name"])
        value = environment.get(body["name"])
        if body["default"] is not None:
            return value or body["default"]
        if value is None:
            near = closest(body["name"].lower(), [name.lower() for name in environment])
            hint = next((f" Did you mean {name!r}?" for name in environment if name.lower() == near), "")
            raise ValueError(
                f"environment variable {body['name']!r} is not set.{hint} "
                f"Set it, or write ${{{body['name']}:-default}}."
            )
        return value

    return _VARIABLE.sub(replaced, text), names


def without_values(message: str, value: tuple[Any, Any]) -> str:
    """Put a text as written in the place of the text with its variables replaced, which may be a secret."""
    expanded, raw = value
    if isinstance(expanded, str) and isinstance(raw, str) and expanded and expanded != raw:
        return message.replace(repr(expanded), repr(raw)).replace(f" {expanded} ", f" {raw} ")
    return message


def construct(root: Node, environment: Mapping[str, str], report: Report) -> Values:
    """Make plain values of a tree.

    A text without quotes that holds variables is read again after the replacement, so that ``${N:-4}`` can be a
    number; in quotes it is text.
    """
    values = Values()

    def leaf(node: Node, path: Path) -> tuple[Any, Any]:
        text = str(node.value)
        try:
            raw = scalar(text, plain=node.plain)
            if "${" not in text:
                return raw, raw
            expanded, names = replace_variables(text, environment)
            for name in names:
                values.variables.setdefault(name, []).append(path)
            return scalar(expanded, plain=node.plain), raw
        except ValueError as error:
            report(node, path, str(error))
            return text, text

    def walk(node: Node, path: Path) -> tuple[Any, Any]:
        if isinstance(node.value, dict):
            pairs = {key: walk(entry.node, (*path, key)) for key, entry in node.value.items()}
            return {key: pair[0] for key, pair in pairs.items()}, {
                key: pair[1] for key, pair in pairs.items()
            }
        if isinstance(node.value, list):
            items = [walk(item, (*path, index)) for index, item in enumerate(node.value)]
            return [item[0] for item in items], [item[1] for item in items]
        return leaf(node, path)

    values.expanded, values.raw = walk(root, ())
    return values
