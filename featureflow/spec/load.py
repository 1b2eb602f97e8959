"""YAML to a :class:`LoadedProject`: read, merge, check everything, and say every mistake at once with its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from featureflow.core.errors import Problem, SpecError
from featureflow.spec.environment import construct, without_values
from featureflow.spec.merge import merge_files
from featureflow.spec.messages import Finding
from featureflow.spec.models import Project
from featureflow.spec.paths import Path, path_text
from featureflow.spec.resolve import resolved
from featureflow.spec.targets import written_secrets
from featureflow.spec.validate import validate
from featureflow.spec.yaml_text import LIMIT_BYTES, TOO_LARGE, Node, Parsed, decode, parse

#: where a project is looked for if none is named
DEFAULT_PLACES = ("featureflow.yaml", "featureflow.yml", "configs")
LIMIT_FILES = 1000
_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class LoadedProject:
    """A valid spec, and where everything in it was written.

    Parameters
    ----------
    project
        The typed spec, variables replaced.
    root
        Folder that relative paths of the spec are meant from: that of the file, or the folder itself.
    files
        The files that it was read from, as in errors.
    raw
        The whole document as plain data with ``${VAR}`` as written. Record and hash this, never ``project``: a
        variable may hold a secret.
    variables
        Names of the environment variables that were asked for, with the paths where.
    """

    project: Project
    root: FilePath
    files: tuple[str, ...]
    raw: dict[str, Any]
    variables: dict[str, tuple[Path, ...]]
    node: Node = field(repr=False)

    def place(self, path: Path) -> tuple[str, int, int]:
        """File, line and column of a path such as ``("features", "clicks", "derive", "x")``.

        What is not written, such as a default, is where the nearest thing around it is.
        """
        return _place(self.node, path, at_key=False)

    def problem(self, path: Path, message: str) -> Problem:
        """A mistake at a path, for a :class:`SpecError` of a later stage; shown as far as the path is written."""
        file, line, column = self.place(path)
        return Problem(file, line, column, path_text(_written(self.node, path)), message)

    def raw_of(self, path: Path) -> Any:
        """What is written at a path, variables not replaced; None if nothing is."""
        found: Any = self.raw
        for step in path:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                return None
        return found


def load_project(
    path: str | FilePath | None = None, *, env: Mapping[str, str] | None = None
) -> LoadedProject:
    """Read a project: one YAML file, or a folder whose ``*.yaml`` and ``*.yml`` files are merged.

    Parameters
    ----------
    path
        File or folder; ``featureflow.yaml`` or ``configs/`` of the working directory if omitted.
    env
        Variables for ``${VAR}``; those of the process if omitted.

    Raises
    ------
    SpecError
        With every mistake that can be found without reading data.

    Notes
    -----
    No file except the YAML is opened, and nothing is executed.
    """
    given = _default_place() if path is None else FilePath(path)
    files = _yaml_files(given)
    documents = [_read(file) for file in files]
    root = given if given.is_dir() else given.parent
    return _load(documents, root, tuple(str(file) for file in files), env)


def load_text(text: str, name: str = "<text>", *, env: Mapping[str, str] | None = None) -> LoadedProject:
    """Read a project from a text, for notebooks and tests; ``name`` stands for the file in errors.

    Raises
    ------
    SpecError
        With every mistake that can be found without reading data.

    Examples
    --------
    >>> load_text("sources: {clicks: {path: clicks.parquet, time: ts}}").project.sources["clicks"].format
    'parquet'
    """
    return _load([parse(text, name)], FilePath(), (name,), env)


def _load(
    documents: list[Parsed], root: FilePath, files: tuple[str, ...], env: Mapping[str, str] | None
) -> LoadedProject:
    problems = [problem for document in documents for problem in document.problems]
    nodes = [document.root for document in documents if document.root is not None]
    if not nodes:
        empty = Problem(files[0], 1, 1, "", "the file is empty. Write sources: and features:.")
        raise SpecError(problems or [empty])
    tree, found = merge_files(nodes)
    problems += found

    def report(node: Node, path: Path, message: str) -> None:
        problems.append(Problem(node.file, node.line, node.column, path_text(path), message))

    values = construct(tree, os.environ if env is None else env, report)
    badly_written = {problem.path for problem in problems}
    # what a file that can't be read declares is not known, so that references to it are no mistakes
    project, findings = validate(values.expanded, rules=all(document.whole for document in documents))
    for finding in findings:
        if not _follows(tree, finding, badly_written):
            shown = without_values(finding.message, values.at(finding.path))
            problems.append(_located(tree, finding._replace(message=shown)))
    problems += [_located(tree, Finding(*found)) for found in written_secrets(values.raw)]
    if problems:
        raise SpecError(list(dict.fromkeys(problems)))
    return LoadedProject(
        project=resolved(project),
        root=root,
        files=files,
        raw=values.raw,
        variables={name: tuple(paths) for name, paths in values.variables.items()},
        node=tree,
    )


def _follows(tree: Node, finding: Finding, badly_written: set[str]) -> bool:
    """Whether a mistake is only what became of a text that could not be read."""
    path = path_text(_written(tree, finding.path))
    return path in badly_written or (finding.missing == "format" and f"{path}.path" in badly_written)


def _located(tree: Node, finding: Finding) -> Problem:
    file, line, column = _place(tree, finding.path, at_key=finding.at_key)
    message = finding.message
    if finding.other is not None:
        other_file, other_line, _ = _place(tree, finding.other, at_key=True)
        message = message.replace("{other}", f"{other_file}:{other_line}")
    return Problem(file, line, column, path_text(_written(tree, finding.path)), message)


def _written(tree: Node, path: Path) -> Path:
    """The part of a path that is in the document: a bare value stands for a list of one."""
    node, found = tree, list[str | int]()
    for step in path:
        if isinstance(node.value, dict) and step in node.value:
            node = node.value[str(step)].node
        elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
        elif step == 0 and isinstance(step, int) and not isinstance(node.value, list):
            continue
        else:
            break
        found.append(step)
    return tuple(found)


def _place(tree: Node, path: Path, *, at_key: bool) -> tuple[str, int, int]:
    """Where a value is: the value itself if it is in the line of its key, otherwise the key."""
    node, key = tree, None
    for step in _written(tree, path):
        if isinstance(node.value, dict):
            key = node.value[str(step)]
            node = key.node
        elif isinstance(node.value, list) and isinstance(step, int):
            node, key = node.value[step], None
    if key is not None and (at_key or key.line != node.line):
        return node.file, key.line, key.column
    return node.file, node.line, node.column


def _default_place() -> FilePath:
    for place in DEFAULT_PLACES:
        if FilePath(place).exists():
            return FilePath(place)
    raise SpecError(
        [
            Problem(
                ".",
                0,
                0,
                "",
                "no featureflow.yaml and no configs/ here. Name a spec, or run featureflow init.",
            )
        ]
    )


def _yaml_files(given: FilePath) -> list[FilePath]:
    if given.is_dir():
        files = sorted(file for file in given.iterdir() if file.suffix in _SUFFIXES and file.is_file())
        if not files:
            raise SpecError([Problem(str(given), 0, 0, "", "the folder has no *.yaml and no *.yml file.")])
        if len(files) > LIMIT_FILES:
            raise SpecError(
                [Problem(str(given), 0, 0, "", f"the folder has more than {LIMIT_FILES} YAML files.")]
            )
        return files
    return [given]


def _read(file: FilePath) -> Parsed:
    name = str(file)
    try:
        with file.open("rb") as stream:
            data = stream.read(LIMIT_BYTES + 1)
    except FileNotFoundError:
        return Parsed(None, [Problem(name, 0, 0, "", "no such file or folder.")], whole=False)
    except OSError as error:
        return Parsed(None, [Problem(name, 0, 0, "", f"can't be read: {error.strerror}.")], whole=False)
    if len(data) > LIMIT_BYTES:
        return Parsed(None, [Problem(name, 0, 0, "", TOO_LARGE)], whole=False)
    text, problems = decode(data, name)
    return parse(text, name) if text is not None else Parsed(None, problems, whole=False)
