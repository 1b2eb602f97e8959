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
        for rule in RULES:
            for finding in rule(scope):
                other = None if finding.other is None else pruned.original(finding.other)
                found.append(finding._replace(path=pruned.original(finding.path), other=other))
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
    paths = [finding.path for finding in found]
    while pruned.remove(paths):
        try:
            return Scope(Project.model_validate(pruned.data), _declared(data), incomplete), pruned
        except ValidationError as error:
            paths = [pruned.original(finding.path) for finding in findings(error)]
    return Scope(Project(), _declared(data), incomplete), pruned


class _Pruned:
    """A document without some values, which remembers where the items of its lists were."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = copy.deepcopy(data)
        self._kept: dict[Path, list[int]] = {}

    def original(self, path: Path) -> Path:
        """A path of the pruned document as a path of the whole one."""
        found: Path = ()
        for step in path:
            kept = self._kept.get(found)
            found = (*found, kept[step] if kept is not None and isinstance(step, int) else step)
        return found

    def remove(self, paths: list[Path]) -> bool:
        """Leave out the values at paths of the whole document, or what is around them if they are not there.

        Returns
        -------
        bool
            False if nothing could be left out, because the document itself is wrong.
        """
        removed = [self._remove_one(path) for path in sorted(set(paths), key=len, reverse=True) if path]
        return any(removed)

    def _remove_one(self, path: Path) -> bool:
        parent: Any = None
        place: Any = None
        now: Any = self.data
        where: Path = ()
        list_at: Path | None = None
        for step in path:
            if isinstance(now, dict) and step in now:
                parent, place, list_at = now, step, None
            elif isinstance(now, list) and isinstance(step, int) and step in self._indices(where, now):
                parent, place, list_at = now, self._indices(where, now).index(step), where
            else:
                break
            now, where = parent[place], (*where, step)
        if parent is None:
            return False
        del parent[place]
        if list_at is not None:
            del self._kept[list_at][place]
        return True

    def _indices(self, path: Path, items: list[Any]) -> list[int]:
        return self._kept.setdefault(path, list(range(len(items))))
