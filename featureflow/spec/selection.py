"""Which tables a command is about, in dbt's language: names, ``+name``, ``name+``, ``tag:x``, ``source:y+``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from featureflow.core.errors import PlanError
from featureflow.spec.dependencies import ancestors, build_order, descendants, sources_of
from featureflow.spec.models import Project
from featureflow.spec.suggest import did_you_mean

_SELECTOR = re.compile(
    r"(?P<up>(?P<up_steps>\d*)\+)?(?:(?P<method>[a-z]+):)?(?P<name>[^+,\s:]+)(?P<down>\+(?P<down_steps>\d*))?"
)
_METHODS = ("source", "tag")


def select(project: Project, select: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[str]:
    """Names of the chosen feature tables, grids and datasets, each after all that it builds on.

    Parameters
    ----------
    project
        A valid project.
    select
        Selectors; all if there are none. Several, or one with spaces, mean *or*; a comma means *and*.
        ``name``; ``+name`` with everything that it builds on, ``2+name`` at most two steps away; ``name+`` with
        everything that builds on it; ``tag:x``; ``source:y`` what reads the source itself, and
        ``source:y+`` with all that builds on that; ``*`` all.
    exclude
        Selectors of what to leave out afterwards.

    Raises
    ------
    PlanError
        For a selector that names nothing that there is; with a suggestion.

    Examples
    --------
    >>> from featureflow.spec.load import load_text
    >>> text = '''
    ... sources: {s: {path: s.csv, time: t}}
    ... features:
    ...   a: {source: s, keys: k}
    ...   b: {source: a, keys: k, tags: [x]}
    ... '''
    >>> project = load_text(text).project
    >>> select(project, ["+b"]), select(project, ["source:s+"], ["tag:x"])
    (['a', 'b'], ['a'])
    """
    chosen = _union(project, select) if any(text.strip() for text in select) else _all(project)
    chosen -= _union(project, exclude)
    return [name for name in build_order(project) if name in chosen]


def _union(project: Project, texts: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for text in texts:
        for alternative in text.split():
            parts = [_one(project, part, alternative) for part in alternative.split(",")]
            found |= set.intersection(*parts)
    return found


def _one(project: Project, text: str, whole: str) -> set[str]:
    parsed = _SELECTOR.fullmatch(text)
    if parsed is None:
        raise PlanError(
            f"selector {whole!r}: {text!r} is not a selector. "
            "Write name, +name, name+, 2+name, tag:x or source:y+; a comma means and, a space means or."
        )
    start = _start(project, parsed["method"], parsed["name"], text)
    found = set(start)
    for name in start:
        if parsed["up"]:
            found |= ancestors(project, name, int(parsed["up_steps"]) if parsed["up_steps"] else None)
        if parsed["down"]:
            found |= descendants(project, name, int(parsed["down_steps"]) if parsed["down_steps"] else None)
    return found


def _start(project: Project, method: str | None, name: str, text: str) -> set[str]:
    if method is None:
        if name == "*":
            return _all(project)
        if name in _all(project):
            return {name}
        what = "feature table or dataset" if project.datasets else "feature table"
        raise PlanError(f"selector {text!r}: unknown {what} {name!r}. {_hint(project, name)}")
    if method == "tag":
        tags = {one: table.tags for one, table in project.features.items()}
        tags |= {one: grid.tags for one, grid in project.grids.items()}
        tags |= {one: dataset.tags for one, dataset in project.datasets.items()}
        known = {tag for found in tags.values() for tag in found}
        if name in known:
            return {one for one, found in tags.items() if name in found}
        what = "feature table or dataset" if project.datasets else "feature table"
        raise PlanError(f"selector {text!r}: no {what} has the tag {name!r}. {did_you_mean(name, known)}")
    if method == "source":
        if name in project.sources:
            return {one for one in _all(project) if name in sources_of(project, one)}
        raise PlanError(f"selector {text!r}: unknown source {name!r}. {did_you_mean(name, project.sources)}")
    raise PlanError(f"selector {text!r}: unknown method {method!r}. {did_you_mean(method, _METHODS)}")


def _all(project: Project) -> set[str]:
    return {*project.features, *project.grids, *project.datasets}


def _hint(project: Project, name: str) -> str:
    if name in project.sources:
        return f"{name!r} is a source; write source:{name} for what reads it."
    return did_you_mean(name, _all(project))
