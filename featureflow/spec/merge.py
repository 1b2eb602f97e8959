"""Several files to one document."""

from __future__ import annotations

from featureflow.core.errors import Problem
from featureflow.spec.paths import Path, path_text
from featureflow.spec.yaml_text import Entry, Node

#: sections whose names may be spread over files
SECTIONS = ("sources", "features", "datasets", "targets")
#: lists that are joined in the order of the files
LISTS = ("tests",)


def merge_files(documents: list[Node]) -> tuple[Node, list[Problem]]:
    """Merge the sections of several documents; a name given twice is a mistake that shows both places.

    A setting outside sections (``project``, ``store``) may be repeated if it says the same.
    """
    problems: list[Problem] = []
    merged: dict[str, Entry] = {}
    for document in documents:
        if not isinstance(document.value, dict):
            message = "a spec is a mapping with sources: and features:. Begin with `featureflow: 1`."
            problems.append(Problem(document.file, document.line, document.column, "", message))
            continue
        for key, entry in document.value.items():
            first = merged.get(key)
            if first is None:
                merged[key] = Entry(entry.line, entry.column, _copied(entry.node))
            else:
                problems += _join(key, first, entry)
    root = Node(merged, documents[0].file, documents[0].line, documents[0].column)
    return root, problems


def _copied(node: Node) -> Node:
    """The same node with a container of its own, which others can be merged into."""
    value = dict(node.value) if isinstance(node.value, dict) else node.value
    value = list(value) if isinstance(value, list) else value
    return Node(value, node.file, node.line, node.column, node.plain, node.size, node.height)


def _join(key: str, first: Entry, entry: Entry) -> list[Problem]:
    into, more = first.node.value, entry.node.value
    if key in SECTIONS and isinstance(into, dict) and isinstance(more, dict):
        problems = [_twice((key, name), into[name], more[name]) for name in more if name in into]
        into.update({name: item for name, item in more.items() if name not in into})
        return problems
    if key in LISTS and isinstance(into, list) and isinstance(more, list):
        into.extend(more)
        return []
    if isinstance(into, str) and into == more:
        return []
    return [_twice((key,), first, entry)]


def _twice(path: Path, first: Entry, second: Entry) -> Problem:
    message = (
        f"{str(path[-1])!r} is given twice; first in {first.node.file}:{first.line}. Remove or rename one."
    )
    return Problem(second.node.file, second.line, second.column, path_text(path), message)
