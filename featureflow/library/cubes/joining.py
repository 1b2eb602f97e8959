"""Several files or stores as one cube: sorted along a dimension, refused where they do not fit together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from featureflow.core.errors import CubeMistake
from featureflow.library.cubes.contents import Contents, Stored, check_coordinates
from featureflow.library.cubes.stored import Part, StoredCube


def cube_of(
    source: str, parts: Sequence[Part], concat: str | None, chunks: dict[str, int] | None = None
) -> StoredCube:
    """Make one cube of the parts.

    Parameters
    ----------
    concat
        Dimension along which they lie; needed where no coordinate tells them apart.
    chunks
        What the spec says is read together, by dimension.

    Raises
    ------
    CubeMistake
        If two parts do not fit together (names both), or a coordinate can't be used.
    """
    contents = [part.contents() for part in parts]
    where = f"source {source!r}"
    if len(parts) == 1:
        check_coordinates(contents[0], f"{where}: {parts[0].url}")
        return StoredCube(source, contents[0], parts, _chunks(contents, None, chunks, where))
    along = concat or _differing(contents, parts, where)
    for each, part in zip(contents[1:], parts[1:], strict=True):
        _must_fit(contents[0], each, along, f"{where}: {parts[0].url} and {part.url}")
    order = _order(contents, parts, along)
    parts, contents = [parts[i] for i in order], [contents[i] for i in order]
    _no_overlap(contents, parts, along, where)
    joined = _joined(contents, along)
    check_coordinates(joined, where)
    starts = np.cumsum([0, *(_length(each, along) for each in contents)])[:-1].tolist()
    together = _chunks(contents, along, chunks, where)
    stacked = along not in contents[0].sizes
    return StoredCube(source, joined, parts, together, along=along, starts=starts, stacked=stacked)


def _length(contents: Contents, along: str) -> int:
    return contents.sizes.get(along, 1)


def _differing(contents: Sequence[Contents], parts: Sequence[Part], where: str) -> str:
    """The one dimension whose coordinate differs between parts."""
    first = contents[0]
    for each, part in zip(contents[1:], parts[1:], strict=True):
        found = [
            name
            for name, variable in first.coords.items()
            if variable.dims == (name,)
            and name in each.coords
            and not _equal(variable.values, each.coords[name].values)
        ]
        scalars = [
            name
            for name, variable in first.coords.items()
            if not variable.dims and name in each.coords and variable.values != each.coords[name].values
        ]
        names = found or scalars
        if len(names) == 1:
            return names[0]
        two = f"{where}: {parts[0].url} and {part.url}"
        if names:
            raise CubeMistake(
                ("concat",),
                f"{two}: their coordinates {' and '.join(map(repr, names))} differ, and files are put together along "
                "one dimension. Say which by `concat:`, or leave out those that are of another grid.",
            )
    raise CubeMistake(
        ("concat",),
        f"{where}: {parts[0].url} and {parts[1].url}: no coordinate differs between them, so nothing says in which "
        "dimension one follows the other. Name it by `concat:` (a new name stacks them in the order of their names), "
        "or make them two sources and `merge` them.",
    )


def _equal(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return one.dtype.kind == other.dtype.kind and one.shape == other.shape and bool((one == other).all())


def natural(name: str) -> list[Any]:
    """Key to sort names by in which numbers count as numbers: z9 before z10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _order(contents: Sequence[Contents], parts: Sequence[Part], along: str) -> list[int]:
    """By the first value of the coordinate, in the direction in which it runs; by name where there is none."""
    if all(along in each.coords and each.coords[along].size for each in contents):
        firsts = [each.coords[along].values.reshape(-1)[0] for each in contents]
        if all(_comparable(first) for first in firsts):
            lasts = [each.coords[along].values.reshape(-1)[-1] for each in contents]
            falls = any(last < first for first, last in zip(firsts, lasts, strict=True))
            return sorted(range(len(parts)), key=lambda i: firsts[i], reverse=falls)
    return sorted(range(len(parts)), key=lambda i: natural(parts[i].url))


def _comparable(value: Any) -> bool:
    return not isinstance(value, str | bytes) and not _is_missing(value)


def _is_missing(value: Any) -> bool:
    return bool(value != value)  # noqa: PLR0124  NaN, NaT: of numbers, times and cftime alike


def _no_overlap(contents: Sequence[Contents], parts: Sequence[Part], along: str, where: str) -> None:
    for i in range(len(parts) - 1):
        one, other = contents[i].coords.get(along), contents[i + 1].coords.get(along)
        if one is None or other is None or not one.size or not other.size:
            continue
        a, b = one.values.reshape(-1), other.values.reshape(-1)
        if not _comparable(a[0]):
            continue
        falls = (a.size > 1 and a[-1] < a[0]) or (b.size > 1 and b[-1] < b[0]) or (b[0] < a[0])
        if (b[0] >= a[-1]) if falls else (b[0] <= a[-1]):
            raise CubeMistake(
                ("path",),
                f"{where}: {parts[i].url} and {parts[i + 1].url}: overlap along {along!r}: the first ends at {a[-1]}, "
                f"the second begins at {b[0]}. Leave one of them out, or cut it.",
            )


def _must_fit(first: Contents, other: Contents, along: str, where: str) -> None:
    """Refuse two parts that differ in more than where they lie along the dimension."""
    if missing := sorted(set(first.variables) ^ set(other.variables)):
        raise CubeMistake(("path",), f"{where}: variable {missing[0]!r} is in one of them only.")
    for name, one in first.variables.items():
        two = other.variables[name]
        shape = [(d, n) for d, n in zip(one.dims, one.shape, strict=True) if d != along]
        if one.dims != two.dims:
            raise CubeMistake(
                ("path",), f"{where}: variable {name!r} has dimensions {one.dims} and {two.dims}."
            )
        if shape != [(d, n) for d, n in zip(two.dims, two.shape, strict=True) if d != along]:
            raise CubeMistake(
                ("path",), f"{where}: variable {name!r} has the shapes {one.shape} and {two.shape}."
            )
        if one.dtype != two.dtype:
            raise CubeMistake(
                ("path",), f"{where}: variable {name!r} is of type {one.dtype} and {two.dtype}."
            )
        if one.attrs.get("units") != two.attrs.get("units"):
            raise CubeMistake(
                ("path",),
                f"{where}: variable {name!r} has the units {one.attrs.get('units')!r} and {two.attrs.get('units')!r}. "
                "Convert one of them: numbers of two units are not put together.",
            )
    for name in first.coords.keys() | other.coords.keys():
        one_, two_ = first.coords.get(name), other.coords.get(name)
        if one_ is None or two_ is None:
            raise CubeMistake(("path",), f"{where}: coordinate {name!r} is in one of them only.")
        if name == along or along in one_.dims:
            if one_.dtype.kind != two_.dtype.kind or one_.encoding.get("calendar") != two_.encoding.get(
                "calendar"
            ):
                raise CubeMistake(
                    ("path",), f"{where}: coordinate {name!r} is of different types or calendars."
                )
            continue
        if not one_.dims and along not in first.sizes:
            continue  # facts of each file, such as the time it was made, become coordinates along the new dimension
        if not _equal(one_.values, two_.values):
            raise CubeMistake(
                ("path",),
                f"{where}: coordinate {name!r} differs between them, and only {along!r} may. They are of different "
                "grids: leave one out, or regrid it into a source of its own.",
            )


def _joined(contents: Sequence[Contents], along: str) -> Contents:
    first, total = contents[0], sum(_length(each, along) for each in contents)
    new = along not in first.sizes
    variables: dict[str, Stored] = {}
    for name, each in first.variables.items():
        if new:
            variables[name] = replace(
                each, dims=(along, *each.dims), shape=(total, *each.shape), chunks=(1, *each.chunks)
            )
        elif along in each.dims:
            at = each.dims.index(along)
            variables[name] = replace(each, shape=(*each.shape[:at], total, *each.shape[at + 1 :]))
        else:
            variables[name] = each
    coords: dict[str, xr.Variable] = {}
    for name, variable in first.coords.items():
        if along in variable.dims:
            at = variable.dims.index(along)
            values = np.concatenate([each.coords[name].values for each in contents], axis=at)
            coords[name] = xr.Variable(variable.dims, values, variable.attrs, variable.encoding)
        elif new and not variable.dims:
            stack = np.stack([each.coords[name].values for each in contents])
            coords[name] = xr.Variable((along,), stack, variable.attrs, variable.encoding)
        else:
            coords[name] = variable
    return Contents(variables, coords, first.attrs)


def _chunks(
    contents: Sequence[Contents], along: str | None, given: dict[str, int] | None, where: str
) -> dict[str, tuple[int, ...]]:
    """Of each dimension, the chunks of the largest variable that has it; within each part if there are several."""
    sizes = contents[0].sizes
    for dim in given or {}:
        if dim not in sizes and dim != along:
            raise CubeMistake(
                ("chunks", dim), f"{where}: `chunks` names {dim!r}; the dimensions are {', '.join(sizes)}."
            )
    steps = _steps(contents[0]) | (given or {})
    found = {dim: _cut(size, steps.get(dim, size)) for dim, size in sizes.items()}
    if along is not None:
        found[along] = tuple(
            size
            for each in contents
            for size in _cut(
                _length(each, along), (_steps(each) | (given or {})).get(along, _length(each, along))
            )
        )
    return found


def _steps(contents: Contents) -> dict[str, int]:
    by_size = sorted(contents.variables.values(), key=lambda each: each.nbytes)
    return {dim: chunk for each in by_size for dim, chunk in zip(each.dims, each.chunks, strict=True)}


def _cut(size: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, size - at) for at in range(0, size, max(1, step)))
