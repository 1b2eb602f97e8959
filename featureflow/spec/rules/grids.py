"""Rules about grids: what they read, the order of their steps, what is fitted, chunks."""

from __future__ import annotations

from collections.abc import Iterator

from featureflow.spec.grids import GridFeature, GridStepSpec
from featureflow.spec.messages import Finding
from featureflow.spec.paths import Path
from featureflow.spec.periods import learns_over, needs_period
from featureflow.spec.rules.scope import Scope
from featureflow.spec.suggest import did_you_mean


def grid_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about grids."""
    for name, grid in scope.project.grids.items():
        path: Path = ("features", name)
        for place, reference in grid.reads:
            yield from grid_reference(scope, (*path, *place), reference)
        if scope.complete("features", name):  # a step that could not be read may be the one that others lack
            yield from _periods(scope, path, name, grid)
            yield from _order(path, grid)
        yield from _sizes(path, grid)
        for i, variable in enumerate(grid.variables or ()):
            if variable in (grid.variables or ())[:i]:
                yield Finding((*path, "variables", i), f"{variable!r} is there twice. Remove one.")


def grid_reference(scope: Scope, path: Path, reference: str) -> Iterator[Finding]:
    """A name that must be that of a source of N-d data, or of a grid."""
    declared, project = scope.declared, scope.project
    plain = reference.partition("@")[0]
    if reference in project.grids or reference not in {*declared["sources"], *declared["features"]}:
        if reference in project.grids:
            return
        known = [
            n for n in (*declared["sources"], *declared["features"]) if scope.is_grid(n) and n != path[1]
        ]
        if reference in declared["datasets"]:
            message = f"{reference!r} is a dataset. Name a source of N-d data, or a grid."
        elif plain in (*declared["sources"], *declared["features"]):
            message = f"{reference!r} names a version; a spec is built from the newest data. Write {plain}."
        else:
            message = f"unknown source or grid {reference!r}. {did_you_mean(reference, known)}"
        yield Finding(path, message)
    elif reference in project.features:
        yield Finding(path, f"{reference!r} is a feature table. Name a source of N-d data, or a grid.")
    elif reference in project.sources and not project.sources[reference].is_grid:
        found = project.sources[reference].format
        yield Finding(
            path,
            f"{reference!r} is a table ({found}). Name a source of N-d data (format: zarr, netcdf, hdf5, grib, tiff, "
            "dicom or nifti), or a grid.",
        )


def _periods(scope: Scope, path: Path, name: str, grid: GridFeature) -> Iterator[Finding]:
    for i, step in enumerate(grid.steps):
        dim = needs_period(scope.project, name, i)
        if dim is not None:
            yield Finding(
                (*path, "steps", i, step.name),
                f"would learn from all of {dim!r}, also from what comes later. State what it is fitted on: "
                f"period: ['1991-01-01', '2020-12-31'], or select {dim!r} with both ends before it; "
                "period: all if that is meant.",
                at_key=True,
            )
        elif step.params.get("period") is not None and learns_over(step) is None:
            yield Finding(
                (*path, "steps", i, step.name, "period"),
                f"nothing is fitted by {step.name} here. Remove it.",
                at_key=True,
            )


def _order(path: Path, grid: GridFeature) -> Iterator[Finding]:
    """Dimensions that an earlier step has used up, and steps after the last one."""
    gone: dict[str, int] = {}
    for i, step in enumerate(grid.steps):
        for place, dim in _dimensions(step):
            if dim in gone:
                yield Finding((*path, "steps", i, step.name, *place), _no_dimension(dim, gone[dim], grid))
        if step.name == "zonal" and i + 1 < len(grid.steps):
            message = "must be the last step. Move it, or make another grid of what it gives."
            yield Finding((*path, "steps", i, "zonal"), message, at_key=True)
        for dim in _used_up(step):
            gone.setdefault(dim, i)
        for dim in _made(step):
            gone.pop(dim, None)
    for field in ("chunks", "shards"):
        for dim in getattr(grid, field) or {}:
            if dim in gone:
                yield Finding((*path, field, dim), _no_dimension(dim, gone[dim], grid), at_key=True)


def _no_dimension(dim: str, index: int, grid: GridFeature) -> str:
    return (
        f"there is no dimension {dim!r} any more: steps[{index}] ({grid.steps[index].name}) has used it up."
    )


def _dimensions(step: GridStepSpec) -> list[tuple[Path, str]]:
    """Dimensions that a step's input must have, with their places."""
    params = step.params
    found: list[tuple[Path, str]] = []
    for name in ("labels", "positions", "sizes"):
        if isinstance(params.get(name), dict) and step.name != "zonal":
            found += [((dim,), dim) for dim in params[name]]
    if step.name == "resample":
        found.append(((params["dim"],), params["dim"]))
    elif step.name != "concat" and isinstance(params.get("dim"), str):
        found.append((("dim",), params["dim"]))
    if step.name == "anomaly":
        found.append((("over",), params["over"]))
    found += [(("dims", i), dim) for i, dim in enumerate(params.get("dims") or ())]
    if step.name == "regrid":
        found += [(("to", dim), dim) for dim in params["to"]]
    return found


def _used_up(step: GridStepSpec) -> list[str]:
    """Dimensions that no variable has after a step."""
    params = step.params
    if step.name in ("select", "isel"):
        parts = params["labels" if step.name == "select" else "positions"]
        return [dim for dim, part in parts.items() if part["kind"] == "value"]
    if step.name in ("reduce", "percentile") and params["variables"] is None:
        return list(params["dims"] or ())
    return [params["dim"]] if step.name == "groupby" and params["variables"] is None else []


def _made(step: GridStepSpec) -> list[str]:
    if step.name == "groupby":
        return [step.params["by"]]
    return [step.params["dim"]] if step.name == "concat" else []


def _sizes(path: Path, grid: GridFeature) -> Iterator[Finding]:
    for dim, size in (grid.shards or {}).items():
        place: Path = (*path, "shards", dim)
        chunk = grid.chunks.get(dim)
        if chunk is None:
            yield Finding(place, f"a shard is several chunks. Add {dim}: to chunks, too.", at_key=True)
        elif size % chunk:
            yield Finding(place, f"must be a multiple of the chunk's {chunk}; got {size}.")
