"""Patches of a grid: which there are, in which order, and what each holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from featureflow.plan.grid_nodes import GridInput

Longs = NDArray[np.int64]
#: What is made of the values of another grid in a patch; ``patch``: all of them, as they are.
LabelOp = Literal["patch", "center", "majority", "mean", "min", "max", "sum"]
#: Columns of an index of patches beside those of its dimensions.
PATCH, VALID = "patch", "valid"


def index_column(dim: str) -> str:
    """Name of the column that holds a patch's first position along a dimension."""
    return f"{dim}_index"


def start_column(dim: str) -> str:
    """Name of the column that holds the coordinate there."""
    return f"{dim}_start"


@dataclass(frozen=True)
class PatchLayout:
    """Boxes of one size on a regular lattice of origins, numbered in C order of the dimensions.

    Parameters
    ----------
    dims
        Those that are cut, in the grid's order; a patch has all of the others.
    sizes, patch, stride
        Of the grid, of a patch, from patch to patch; along each of ``dims``.

    Notes
    -----
    Only whole patches count: what is left at an end that no patch fits into is in none.

    Examples
    --------
    >>> layout = PatchLayout(("time", "lat"), (5, 10), (2, 4), (1, 3))
    >>> layout.counts, layout.n_patches, layout.starts(np.array([4])).tolist()
    ((4, 3), 12, [[1], [3]])
    """

    dims: tuple[str, ...]
    sizes: tuple[int, ...]
    patch: tuple[int, ...]
    stride: tuple[int, ...]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """How many patches lie along each dimension."""
        each = zip(self.sizes, self.patch, self.stride, strict=True)
        return tuple(0 if size < patch else (size - patch) // stride + 1 for size, patch, stride in each)

    @property
    def n_patches(self) -> int:
        """How many there are."""
        return prod(self.counts)

    @property
    def overlaps(self) -> bool:
        """Whether neighbours have values in common."""
        return any(
            stride < patch and count > 1
            for stride, patch, count in zip(self.stride, self.patch, self.counts, strict=True)
        )

    def starts(self, numbers: Longs) -> Longs:
        """First positions of patches, ``(dimensions, n)``."""
        if not len(numbers):
            return np.zeros((len(self.dims), 0), np.int64)
        places = np.unravel_index(numbers, self.counts)
        return np.stack([place * step for place, step in zip(places, self.stride, strict=True)]).astype(
            np.int64
        )

    def numbers(self, places: Longs) -> Longs:
        """Numbers of patches from their places on the lattice, ``(dimensions, n)``; the opposite of `starts`."""
        return np.asarray(np.ravel_multi_index(tuple(places), self.counts), np.int64)


@dataclass(frozen=True, slots=True)
class PatchField:
    """A column of patches: the values of one variable in each.

    Parameters
    ----------
    name, role
        In the dataset; ``feature`` or ``label``.
    source, variable
        Where values come from.
    dims, shape
        Of one patch, in the variable's order.
    dtype
        Of the values, as NumPy writes it.
    """

    name: str
    role: Literal["feature", "label"]
    source: str
    variable: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str

    @property
    def type(self) -> pa.DataType:
        """As a column: fixed-size lists in each other."""
        kind = pa.from_numpy_dtype(np.dtype(self.dtype)) if self.dtype != "bool" else pa.bool_()
        for size in reversed(self.shape):
            kind = pa.list_(kind, size)
        return kind

    @property
    def bytes(self) -> int:
        """Of one patch."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class ReducedLabel:
    """A label of one value a patch, made of another grid's values in it."""

    name: str
    source: str
    variable: str
    op: LabelOp
    dims: tuple[str, ...]
    type: pa.DataType


@dataclass(frozen=True)
class PatchSpine:
    """Rows of a dataset that are patches of a grid.

    Parameters
    ----------
    grid
        Name of the grid.
    fields
        Columns of patches: variables, then a label that is a patch itself.
    label
        A label of one value; None for none.
    time
        The grid's dimension of times.
    valid
        Least share of values that are not missing; None for any.
    label_input
        Where labels come from, if that is not a grid of the project.
    label_spec
        The same as JSON: its spec, and the folder that paths in it start from.
    """

    grid: str
    layout: PatchLayout
    fields: tuple[PatchField, ...]
    label: ReducedLabel | None
    time: str | None
    valid: float | None
    label_input: GridInput | None = None
    label_spec: str = "{}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the grids and sources that values are read from."""
        named = [self.grid, *(field.source for field in self.fields)]
        named += [self.label.source] if self.label else []
        return tuple(dict.fromkeys(named))

    @property
    def bytes(self) -> int:
        """Of the values of one patch."""
        return sum(field.bytes for field in self.fields)
