"""Rules about what datasets take from grids: values at places of rows, and patches."""

from __future__ import annotations

from collections.abc import Iterator

from featureflow.spec.datasets import Dataset
from featureflow.spec.features import Lookup
from featureflow.spec.messages import Finding
from featureflow.spec.paths import Path
from featureflow.spec.rules.grids import grid_reference
from featureflow.spec.rules.scope import Scope

#: what a look-up of a table may say, and one of a grid may not
_OF_TABLES = ("keys", "on_tie", "knowledge", "nulls", "availability")
#: what a dataset of patches has no rows for
_OF_ROWS = ("encode", "select", "sample")


def only_grid(scope: Scope, path: Path, reference: str) -> Iterator[Finding]:
    """A name that must be that of a grid: sources of N-d data have no versions."""
    source = scope.project.sources.get(reference)
    if source is not None and source.is_grid:
        message = (
            f"{reference!r} is a source of N-d data. Make a grid of it, such as features: {{{reference}_grid: "
            f"{{source: {reference}}}}}, and name that."
        )
        yield Finding(path, message)
    else:
        yield from grid_reference(scope, path, reference)


def grid_lookup(scope: Scope, path: Path, lookup: Lookup) -> Iterator[Finding]:
    """What is right or wrong about a look-up with ``at``."""
    yield from only_grid(scope, (*path, "from"), lookup.from_)
    for field in _OF_TABLES:
        if field in lookup.model_fields_set:
            message = f"{field} is for look-ups of tables, and at says that this is one of a grid. Remove it."
            yield Finding((*path, field), message, at_key=True)
    for i, column in enumerate(lookup.columns):
        if column in lookup.columns[:i]:
            yield Finding((*path, "columns", i), f"{column!r} is there twice. Remove one.")


def patch_rules(scope: Scope) -> Iterator[Finding]:
    """All rules about datasets of patches."""
    for name, dataset in scope.project.datasets.items():
        path: Path = ("datasets", name)
        split = dataset.split
        if dataset.spine.grid is None:
            if split is not None and split.by == "block":
                message = "blocks are parts of a grid, and this dataset has rows. Use by: time, keys, group or random."
                yield Finding((*path, "split", "by"), message)
            continue
        yield from only_grid(scope, (*path, "spine", "grid"), dataset.spine.grid)
        for field in _OF_ROWS:
            if field in dataset.model_fields_set:
                message = (
                    f"{field} is for datasets of rows. What patches have comes from steps of the grid, "
                    "spine: {variables, labels} and export."
                )
                yield Finding((*path, field), message, at_key=True)
        if dataset.spine.labels is not None:
            yield from grid_reference(
                scope, (*path, "spine", "labels", "source"), dataset.spine.labels.source
            )
        yield from _split(path, dataset)


def _split(path: Path, dataset: Dataset) -> Iterator[Finding]:
    split, spine = dataset.split, dataset.spine
    if split is None:
        return
    place: Path = (*path, "split", "by")
    if split.by in ("group", "column"):
        message = f"patches have no columns to split by: {split.by}. Use by: time, block, keys or random."
        yield Finding(place, message)
    overlaps = [dim for dim, size in spine.patch.items() if spine.stride.get(dim, size) < size]
    if split.by in ("keys", "random") and overlaps:
        message = (
            f"patches overlap along {', '.join(overlaps)} (stride < patch), so that by: {split.by} would put the same "
            "values into two splits. Use by: block or by: time."
        )
        yield Finding(place, message)
    if split.by == "block" and not split.block:
        yield Finding(place, "blocks need a size. Add block:, such as {lat: 128, lon: 128}.")
    for dim in split.block:
        if dim not in spine.patch:
            message = f"{dim!r} is no dimension of the patches ({', '.join(spine.patch)})."
            yield Finding((*path, "split", "block", dim), message, at_key=True)
    if split.block and split.by != "block":
        yield Finding(
            (*path, "split", "block"), f"is for by: block, not by: {split.by}. Remove it.", at_key=True
        )
