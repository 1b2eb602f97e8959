"""Plain data to models, then the rules; what could not be read is left out, so that the rest is checked as well."""

from __future__ import annotations

import copy
from typing import Any

from pydantic import ValidationError

from featureflow.spec.messages import Finding, findings
from featureflow.spec.models import Project
from featureflow.spec.paths import Path
from featureflow.spec.rules.every import RULES
from featureflow.spec.rules.scope import Scope

#: values for required fields that are missing or wrong: section, part of a table, field
_STAND_INS = {
    ("sources", "", "path"): "left_out.parquet",
    ("sources", "", "format"): "parquet",
    ("features", "", "source"): "left_out",
    ("features", "", "keys"): "left_out",
    ("features", "lookup", "from"): "left_out",
    ("features", "lookup", "columns"): "left_out",
    ("datasets", "", "spine"): {"source": "left_out", "keys": "left_out"},
    ("datasets", "spine", "keys"): "left_out",
    ("datasets", "features", "table"): "left_out",
    ("datasets", "lookup", "from"): "left_out",
    ("datasets", "lookup", "columns"): "left_out",
}


def validate(data: Any, *, rules: bool = True) -> tuple[Project, list[Finding]]:
    """Check a document.

    Parameters
    ----------
    data
        Plain values of the whole document.
    rules
        Whether to run the rules that look at several values.

    Returns
    -------
    tuple
        The project, which holds everything only if there are no findings; and all findings.
    """
    try:
        project = Project.model_validate(data)
    except ValidationError as error:
        found = list(findings(error))
        if not rules or not isinstance(data, dict):
            return Project(), found
        scope, pruned = _readable(data, found)
        found += [pruned.located(finding) for rule in RULES for finding in rule(scope) if pruned.has(finding)]
        return scope.project, found
    if not rules:
        return project, []
    scope = Scope(project, _declared(data))
    return project, [finding for rule in RULES for finding in rule(scope)]


def _declared(data: dict[str, Any]) -> dict[str, list[str]]:
    sections = {name: data.get(name) for name in ("sources", "features", "datasets")}
    return {name: list(given) if isinstance(given, dict) else [] for name, given in sections.items()}


def _readable(data: dict[str, Any], found: list[Finding]) -> tuple[Scope, _Pruned]:
    """What is left of a document after its wrong values, and then what lacks them, are left out."""
    incomplete = {(str(f.path[0]), str(f.path[1])) for f in found if len(f.path) > 1}
    pruned = _Pruned(data)
    wrong = found
    while pruned.remove(wrong):
        try:
            return Scope(Project.model_validate(pruned.data), _declared(data), incomplete), pruned
        except ValidationError as error:
            wrong = [pruned.located(finding) for finding in findings(error)]
    return Scope(Project(), _declared(data), incomplete), pruned


class _Pruned:
    """A document without some values, which remembers where the items of its lists were."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = copy.deepcopy(data)
        self._kept: dict[Path, list[int]] = {}
        self._filled: set[Path] = set()

    def original(self, path: Path) -> Path:
        """A path of the pruned document as a path of the whole one."""
        found: Path = ()
        for step in path:
            kept = self._kept.get(found)
            found = (*found, kept[step] if kept is not None and isinstance(step, int) else step)
        return found

    def located(self, finding: Finding) -> Finding:
        """A finding about the pruned document as one about the whole."""
        other = None if finding.other is None else self.original(finding.other)
        return finding._replace(path=self.original(finding.path), other=other)

    def has(self, finding: Finding) -> bool:
        """Whether a finding is about what the author wrote."""
        path = self.original(finding.path)
        return not any(path[: len(filled)] == filled for filled in self._filled)

    def remove(self, wrong: list[Finding]) -> bool:
        """Leave out wrong values, or what is around them; a field that must be there gets a stand-in.

        Returns
        -------
        bool
            False if nothing could be left out, because the document itself is wrong.
        """
        done = [self._fill(f.path, f.missing) for f in wrong if f.missing]
        rest = {f.path for f in wrong if f.path and not (f.missing and (*f.path, f.missing) in self._filled)}
        done += [self._remove_one(path) for path in sorted(rest, key=len, reverse=True)]
        return any(done)

    def _fill(self, path: Path, field: str) -> bool:
        """Put a stand-in where a required field is missing, so that its neighbours are still checked."""
        where = tuple(step for step in path if isinstance(step, str))
        section = where[0] if where else ""
        stand_in = _STAND_INS.get((section, where[2] if len(where) > 2 else "", field))
        _, _, now = self._find(path)
        if stand_in is None or not isinstance(now, dict) or field in now:
            return False
        now[field] = copy.deepcopy(stand_in)
        self._filled.add((*path, field))
        self._kept.pop((*path, field), None)  # a list that stood here, and had no right item
        return True

    def _find(self, path: Path) -> tuple[tuple[Any, Any] | None, Path | None, Any]:
        """Container and place of the value at a path, or of the nearest around it; its list's path; the value."""
        holder: tuple[Any, Any] | None = None
        list_at: Path | None = None
        now: Any = self.data
        where: Path = ()
        for step in path:
            place: Any
            if isinstance(now, dict) and step in now:
                place, list_at = step, None
            elif isinstance(now, list) and isinstance(step, int) and step in self._indices(where, now):
                place, list_at = self._indices(where, now).index(step), where
            elif isinstance(now, dict) and step == 0 and isinstance(step, int):
                where = (*where, step)  # a bare value stands for a list of one
                continue
            else:
                break
            holder = (now, place)
            now, where = now[place], (*where, step)
        return holder, list_at, now

    def _remove_one(self, path: Path) -> bool:
        holder, list_at, _ = self._find(path)
        if holder is None:
            return False
        container, place = holder
        del container[place]
        if list_at is not None:
            del self._kept[list_at][place]
        return True

    def _indices(self, path: Path, items: list[Any]) -> list[int]:
        return self._kept.setdefault(path, list(range(len(items))))
