"""Which feature tables, grids and datasets build on which."""

from __future__ import annotations

from featureflow.spec.models import Project


def parents(project: Project, name: str) -> tuple[str, ...]:
    """Feature tables and grids that a feature table, grid or dataset reads, each once.

    A feature table's source comes first, then its look-ups; a grid's source, then those of its steps; a dataset's
    spine, then features, look-ups, labels.
    """
    return tuple(one for one in _reads(project, name) if one in project.features or one in project.grids)


def sources_of(project: Project, name: str) -> tuple[str, ...]:
    """Raw sources that a feature table, grid or dataset reads itself, each once, in the order of `parents`."""
    return tuple(one for one in _reads(project, name) if one in project.sources)


def _reads(project: Project, name: str) -> tuple[str, ...]:
    feature = project.features.get(name)
    if feature is not None:
        found: list[str | None] = [feature.source, *(lookup.from_ for lookup in feature.lookup)]
    elif name in project.grids:
        found = [read for _, read in project.grids[name].reads]
    else:
        dataset = project.datasets[name]
        spine = dataset.spine
        found = [spine.source, spine.grid, spine.labels.source if spine.labels is not None else None]
        found += [used.table for used in dataset.features]
        found += [*(lookup.from_ for lookup in dataset.lookup), *(label.source for label in dataset.label)]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def dependency_order(project: Project) -> list[str]:
    """Feature tables with each after all that it builds on; otherwise in the order of the spec.

    Raises
    ------
    ValueError
        If tables depend on each other in a circle; a loaded project never does.
    """
    cycles = find_cycles(project)
    if cycles:
        raise ValueError(f"feature tables depend on each other in a circle: {' -> '.join(cycles[0])}.")
    return [name for name in _depth_first(project) if name in project.features]


def grid_order(project: Project) -> list[str]:
    """Grids with each after all that it builds on; otherwise in the order of the spec.

    Raises
    ------
    ValueError
        As `dependency_order`.
    """
    cycles = find_cycles(project)
    if cycles:
        raise ValueError(f"grids depend on each other in a circle: {' -> '.join(cycles[0])}.")
    return [name for name in _depth_first(project) if name in project.grids]


def _depth_first(project: Project) -> list[str]:
    done: dict[str, None] = {}
    for root in (*project.features, *project.grids):
        waiting = [root]
        while waiting:
            name = waiting[-1]
            missing = [p for p in parents(project, name) if p not in done]
            if name in done or not missing:
                done.setdefault(name)
                waiting.pop()
            else:
                waiting.extend(reversed(missing))
    return list(done)


def grid_behind(project: Project, name: str) -> str | None:
    """The grid of zones whose rows a feature table is made from, directly or through other tables; None: a source."""
    seen: set[str] = set()
    while name in project.features and name not in seen:
        seen.add(name)
        name = project.features[name].source
    return name if name in project.grids else None


def find_cycles(project: Project) -> list[list[str]]:
    """One circle for each group of tables that depend on each other; begins with the first in the spec.

    A circle ``[a, b]`` means that a reads b and b reads a.
    """
    every = [*project.features, *project.grids]
    left = {name: set(parents(project, name)) for name in every}
    while free := [name for name, reads in left.items() if not reads]:  # what can be built is in no circle
        for name in free:
            del left[name]
        for reads in left.values():
            reads.difference_update(free)
    found: list[list[str]] = []
    seen: set[str] = set()
    for start in left:
        walk: list[str] = []
        name = start
        while name not in seen and name not in walk:
            walk.append(name)
            name = next(p for p in parents(project, name) if p in left)
        if name in walk:
            circle = walk[walk.index(name) :]
            first = min(range(len(circle)), key=lambda i: every.index(circle[i]))
            found.append(circle[first:] + circle[:first])
        seen.update(walk)
    return found


def ancestors(project: Project, name: str, steps: int | None = None) -> set[str]:
    """All feature tables and grids that one of these or a dataset builds on, at most ``steps`` away."""
    return _reach({one: parents(project, one) for one in _every(project)}, name, steps)


def descendants(project: Project, name: str, steps: int | None = None) -> set[str]:
    """All feature tables, grids and datasets that build on a table or grid, at most ``steps`` away."""
    children: dict[str, tuple[str, ...]] = dict.fromkeys(_every(project), ())
    for one in _every(project):
        for parent in parents(project, one):
            children[parent] = (*children[parent], one)
    return _reach(children, name, steps)


def build_order(project: Project) -> list[str]:
    """Grids as in `grid_order`, tables as in `dependency_order`, then datasets: nothing builds on those.

    Tables can build on grids of zones; no grid builds on a table.
    """
    return [*grid_order(project), *dependency_order(project), *project.datasets]


def _every(project: Project) -> tuple[str, ...]:
    return (*project.features, *project.grids, *project.datasets)


def _reach(edges: dict[str, tuple[str, ...]], start: str, steps: int | None) -> set[str]:
    found: set[str] = set()
    edge, done = {start}, 0
    while edge and (steps is None or done < steps):
        edge = {following for name in edge for following in edges[name]} - found
        found |= edge
        done += 1
    return found
