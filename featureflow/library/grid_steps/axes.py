"""Dimensions of a cube and their coordinates: which hold times, when values are known, what to say of a missing one."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from featureflow.contracts.grid_step import KNOWN_AT, StepMistake


def hint(given: object, known: Iterable[Hashable]) -> str:
    """Say which known name was probably meant, and which there are."""
    names = sorted(str(name) for name in known)
    near = difflib.get_close_matches(str(given), names, n=1)
    meant = f"Did you mean {near[0]!r}? " if near else ""
    return f"{meant}Known: {', '.join(names) or 'none'}."


def check_dim(cube: xr.Dataset, dim: str, place: Sequence[str | int]) -> None:
    """Refuse a dimension that the cube does not have."""
    if dim not in cube.sizes:
        raise StepMistake(place, f"unknown dimension {dim!r}. {hint(dim, cube.sizes)}")


def check_variables(cube: xr.Dataset, names: Iterable[str], place: Sequence[str | int]) -> None:
    """Refuse variables that the cube does not have."""
    for name in names:
        if name not in cube.data_vars:
            raise StepMistake(place, f"unknown variable {name!r}. {hint(name, cube.data_vars)}")


def is_time(cube: xr.Dataset, dim: Hashable) -> bool:
    """Whether the coordinate of a dimension holds times, of the standard calendar or of a model's."""
    if dim not in cube.indexes:
        return False
    return cube[dim].dtype.kind == "M" or isinstance(cube.indexes[dim], xr.CFTimeIndex)


def known(cube: xr.Dataset, dim: Hashable) -> np.ndarray[Any, Any]:
    """When the values at each position of a time dimension are known: `known_at`, or the labels."""
    given = cube.coords.get(KNOWN_AT)
    if given is not None and given.dims == (dim,):
        return np.asarray(given.values)
    return np.asarray(cube[dim].values)


def with_known(made: xr.Dataset, dim: Hashable, when: np.ndarray[Any, Any]) -> xr.Dataset:
    """Add `known_at`; where every value is known at its label there is none, nor was there before."""
    labels = made[dim].values
    plain = made.drop_vars(KNOWN_AT, errors="ignore")
    if np.array_equal(when, labels):
        return plain
    later = np.maximum(when, labels)
    return plain.assign_coords({KNOWN_AT: (dim, later, {"long_name": "time at which the value is known"})})


def latest_within(when: np.ndarray[Any, Any], before: int, after: int) -> np.ndarray[Any, Any]:
    """Give the latest of ``when[i - before : i + after + 1]`` for every position, cut at both ends."""
    last = len(when) - 1
    if last < 1 or bool((when[1:] >= when[:-1]).all()):
        return when[np.minimum(np.arange(len(when)) + after, last)]
    latest = when.copy()
    for forward, reach in ((True, min(after, last)), (False, min(before, last))):
        done = 0  # windows of 1, 2, 4 … positions, put together
        while done < reach:
            shift = min(done + 1, reach - done)
            ahead, behind = latest[shift:].copy(), latest[:-shift].copy()
            if forward:
                latest[:-shift] = np.maximum(behind, ahead)
            else:
                latest[shift:] = np.maximum(ahead, behind)
            done += shift
    return latest
