"""YAML text to a tree of nodes that know their place; caps come before anything is built.

Only the event stream of libyaml is used: its composer and constructor recurse, and a few kilobytes of brackets
crash them. Scalars are YAML 1.2 core: ``no`` and ``12:30`` and ``2026-01-01`` are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from featureflow.core.errors import Problem
from featureflow.spec.paths import Path, path_text

LIMIT_BYTES = 1 << 20
LIMIT_DEPTH = 64
LIMIT_ALIASES = 100
LIMIT_NODES = 100_000
TOO_LARGE = f"the file has more than {LIMIT_BYTES >> 20} MiB. Split it into several files."

_NULL = ("", "~", "null", "Null", "NULL")
_TRUE = ("true", "True", "TRUE")
_FALSE = ("false", "False", "FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_LIBYAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Node:
    """A value of the document and where it is.

    Parameters
    ----------
    value
        Text of a scalar, list of nodes, or a dict of key text to :class:`Entry`.
    plain
        A scalar without quotes, which may be a number, a boolean or null.
    size, height
        Nodes below and including this one, and the longest way down; aliases count as what they stand for.
    """

    value: str | list[Node] | dict[str, Entry]
    file: str
    line: int
    column: int
    plain: bool = False
    size: int = 1
    height: int = 1


@dataclass(slots=True)
class Entry:
    """A key of a mapping, where the key is, and its value."""

    line: int
    column: int
    node: Node
    merged: bool = False


class _Stop(Exception):
    """The rest of the text is not worth reading."""


@dataclass(slots=True)
class _Open:
    """A list or mapping that is being read."""

    node: Node
    anchor: str | None
    key: tuple[str, int, int] | None = None
    merges: list[tuple[Node, int, int]] = field(default_factory=list)


def scalar(text: str, *, plain: bool) -> Any:
    """Value of a scalar by YAML 1.2's core schema; quoted ones are always text.

    Raises
    ------
    ValueError
        For an infinite number or NaN.

    Examples
    --------
    >>> [scalar(text, plain=True) for text in ("no", "12:30", "017", "0x10", "1e3", "~", "true")]
    ['no', '12:30', 17, 16, 1000.0, None, True]
    """
    if not plain:
        return text
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text) and len(text) <= 40:
        return int(text)
    if _OCTAL.fullmatch(text) or (_HEX.fullmatch(text) and len(text) <= 40):
        return int(text[2:], 8 if text[1] == "o" else 16)
    if _FLOAT.fullmatch(text) and len(text) <= 400:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"{text} is too large for a number.")
        return value
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} can't be written in a spec. Use null, or put it in quotes if it is text.")
    return text


@dataclass(frozen=True, slots=True)
class Parsed:
    """One document.

    Parameters
    ----------
    root
        None for an empty document, and for one that could not be read to its end.
    problems
        Mistakes of form. Some, such as a key given twice, leave a document that can be checked further.
    whole
        Whether the text was read to its end.
    """

    root: Node | None
    problems: list[Problem]
    whole: bool


def parse(text: str, file: str) -> Parsed:
    """Read one document, and collect every mistake of form."""
    reader = _Reader(file)
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        reader.problem(
            text.count("\n", 0, error.start) + 1, 1, (), "half a surrogate pair is not a character."
        )
        return Parsed(None, reader.problems, whole=False)
    if size > LIMIT_BYTES:
        reader.problem(0, 0, (), TOO_LARGE)
        return Parsed(None, reader.problems, whole=False)
    try:
        for event in _events(text):
            reader.read(event)
        return Parsed(reader.root, reader.problems, whole=True)
    except _Stop:
        pass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        what = ", ".join(part for part in (error.context, error.problem) if part)
        written = "".join(text.splitlines()[line - 1 : line]) if line else ""
        hint = " Put texts with ${…} in quotes." if "${" in written else ""
        if "'\\t'" in what or "\t" in written[:column]:
            hint = " Indent with spaces, not tabs."
        reader.problem(line, column, reader.path(), f"not YAML: {what}.{hint}")
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 0
        reader.problem(line, 1 if line else 0, (), f"not YAML: {error.reason}.")
    return Parsed(None, reader.problems, whole=False)


def decode(data: bytes, file: str) -> tuple[str | None, list[Problem]]:
    """Text of a file: UTF-8, with or without a byte order mark."""
    try:
        return data.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8."
        return None, [Problem(file, line, column, "", message)]


def _events(text: str) -> Iterator[Any]:
    loader = _LIBYAML(text)
    try:
        while loader.check_event():
            yield loader.get_event()
    finally:
        loader.dispose()


class _Reader:
    """Builds the tree from events with a stack of its own: depth costs no recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.documents = 0
        self.aliases = 0
        self.nodes = 0
        self.stack: list[_Open] = []
        self.anchors: dict[str, Node] = {}

    def problem(self, line: int, column: int, path: Path, message: str) -> None:
        self.problems.append(Problem(self.file, line, column, path_text(path), message))

    def path(self) -> Path:
        """Where reading is: the keys and indices of all that is open."""
        steps: list[str | int] = []
        for open_ in self.stack:
            if isinstance(open_.node.value, list):
                steps.append(len(open_.node.value))
            elif open_.key is not None:
                steps.append(open_.key[0])
        return tuple(steps)

    def read(self, event: Any) -> None:
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        if isinstance(event, yaml.ScalarEvent):
            self._tag(event, line, column)
            plain = event.style in (None, "")
            node = Node(event.value, self.file, line, column, plain=plain)
            self._finish(node, event.anchor)
        elif isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self._tag(event, line, column)
            if len(self.stack) >= LIMIT_DEPTH:
                self._stop(line, column, f"lists and mappings are nested more than {LIMIT_DEPTH} deep.")
            empty: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
            self._refuse_as_key(line, column)
            self.stack.append(_Open(Node(empty, self.file, line, column), event.anchor))
        elif isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
            open_ = self.stack.pop()
            self._merge(open_)
            self._finish(open_.node, open_.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event, line, column)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self._stop(line, column, "a second document begins here. Put it into a file of its own.")

    def _stop(self, line: int, column: int, message: str) -> None:
        self.problem(line, column, (), message)
        raise _Stop

    def _tag(self, event: Any, line: int, column: int) -> None:
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            self.problem(line, column, self.path(), f"tags such as {tag} are not accepted. Remove it.")

    def _refuse_as_key(self, line: int, column: int) -> None:
        top = self.stack[-1] if self.stack else None
        if top is not None and isinstance(top.node.value, dict) and top.key is None:
            self._stop(
                line, column, "a key must be text, not a list or mapping. Put texts with ${…} in quotes."
            )

    def _alias(self, event: Any, line: int, column: int) -> None:
        self.aliases += 1
        if self.aliases > LIMIT_ALIASES:
            self._stop(line, column, f"more than {LIMIT_ALIASES} aliases (*name).")
        target = self.anchors.get(event.anchor)
        if target is None:
            self._stop(
                line, column, f"alias *{event.anchor} stands before the end of its anchor, or has none."
            )
            return
        self._refuse_as_key(line, column)
        if len(self.stack) + target.height > LIMIT_DEPTH:
            self._stop(line, column, f"with *{event.anchor} the nesting is more than {LIMIT_DEPTH} deep.")
        self._finish(target, None, alias=(line, column))

    def _finish(self, node: Node, anchor: str | None, alias: tuple[int, int] | None = None) -> None:
        """Put a finished node into what is open."""
        line, column = alias or (node.line, node.column)
        self.nodes += node.size if alias else 1
        if self.nodes > LIMIT_NODES:
            self._stop(line, column, f"more than {LIMIT_NODES} values. Split the project into several files.")
        if anchor is not None:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node
            return
        top = self.stack[-1]
        if isinstance(top.node.value, list):
            top.node.value.append(node)
            self._grow(top.node, node)
        elif top.key is None:
            self._key(top, node)
        elif isinstance(top.node.value, dict):
            self._entry(top, top.node.value, *top.key, node)

    @staticmethod
    def _grow(parent: Node, child: Node) -> None:
        parent.size += child.size
        parent.height = max(parent.height, child.height + 1)

    def _key(self, top: _Open, node: Node) -> None:
        key = str(node.value)
        if "${" in key:
            self.problem(node.line, node.column, self.path(), f"variables are not replaced in keys: {key!r}.")
        top.key = (key, node.line, node.column)

    def _entry(
        self, top: _Open, entries: dict[str, Entry], key: str, line: int, column: int, node: Node
    ) -> None:
        if key == "<<":
            top.merges.append((node, line, column))
        elif key in entries:
            first = entries[key]
            self.problem(line, column, self.path(), f"{key!r} is given twice; first in line {first.line}.")
        else:
            entries[key] = Entry(line, column, node)
            self._grow(top.node, node)
        top.key = None

    def _merge(self, open_: _Open) -> None:
        """Add the keys of ``<<: *other`` that the mapping does not have itself."""
        if not isinstance(open_.node.value, dict):
            return
        for node, line, column in open_.merges:
            others = node.value if isinstance(node.value, list) else [node]
            for other in others:
                if not isinstance(other.value, dict):
                    self.problem(
                        line, column, self.path(), "<< takes a mapping (an alias such as *defaults)."
                    )
                    continue
                for key, entry in other.value.items():
                    if key not in open_.node.value:
                        open_.node.value[key] = Entry(entry.line, entry.column, entry.node, merged=True)
                        self._grow(open_.node, entry.node)
