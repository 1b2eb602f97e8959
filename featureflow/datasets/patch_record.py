"""What a version of a dataset remembers of its patches, and reading them again: the grid's version is pinned."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.cube import Cube
from featureflow.core.errors import TableError
from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import join
from featureflow.execute.grids.kept_memory import KeptMemory
from featureflow.execute.grids.patch_reading import Box, cut_boxes, owners, read_patches
from featureflow.execute.grids.stored import GridCube
from featureflow.plan.patches import PatchField, PatchLayout, PatchSpine
from featureflow.spec.models import Source
from featureflow.tables.store import FEATURES

if TYPE_CHECKING:
    from featureflow.plan.grid_nodes import GridInput

Longs = NDArray[np.int64]
#: Bytes of patches that are read together into memory.
BOX_BYTES = 96 << 20


@dataclass(frozen=True)
class StoredPatches:
    """Patches of a published dataset. It pickles small.

    Parameters
    ----------
    layout, fields
        Which there are, and what each holds.
    cubes
        Where values come from, by name: versions that never change.
    """

    layout: PatchLayout
    fields: tuple[PatchField, ...]
    cubes: Mapping[str, Cube]

    @property
    def bytes(self) -> int:
        """Of the values of one patch."""
        return sum(field.bytes for field in self.fields)

    def read(
        self,
        numbers: Longs,
        fields: Sequence[PatchField] | None = None,
        memory: KeptMemory | None = None,
    ) -> Iterator[tuple[PatchField, NDArray[Any]]]:
        """Give the values of patches, ``(n, *shape)``, field by field; in ``memory``, until its next use.

        Notes
        -----
        Cost: one read of the smallest region that has all of these patches, for each source.
        """
        wanted = self.fields if fields is None else fields
        return read_patches(self.cubes, wanted, self.layout, self.layout.starts(numbers), memory)

    def take(self, numbers: Longs, fields: Sequence[PatchField]) -> list[tuple[PatchField, NDArray[Any]]]:
        """Values of patches in memory, box by box of the grid; ``(n, *shape)`` of each field."""
        found = [(field, np.empty((len(numbers), *field.shape), field.dtype)) for field in fields]
        boxes = self.boxes(BOX_BYTES, fields)
        owner = owners(self.layout, boxes, numbers)
        order = np.argsort(owner, kind="stable")
        ends = np.searchsorted(owner[order], np.arange(len(boxes) + 1))
        for start, stop in pairwise(ends):
            if start < stop:
                rows = order[start:stop]
                for (_, out), (_, values) in zip(found, self.read(numbers[rows], fields), strict=True):
                    out[rows] = values
        return found

    def boxes(self, target: int, fields: Sequence[PatchField] | None = None) -> list[Box]:
        """Patches that are read together, about ``target`` bytes of them."""
        wanted = self.fields if fields is None else fields
        first = self.cubes[self.fields[0].source]
        return cut_boxes(self.layout, first.chunks, sum(field.bytes for field in wanted), target)


def remember(spine: PatchSpine, cubes: Mapping[str, Cube]) -> dict[str, Any]:
    """Plain values for the record of a version."""
    sources: dict[str, Any] = {}
    for name in spine.inputs:
        cube = cubes[name]
        if isinstance(cube, GridCube):
            sources[name] = {"snapshot": cube.snapshot}
        else:
            sources[name] = {**json.loads(spine.label_spec), "mark": pieces_mark(cube)}
    return {
        "grid": spine.grid,
        "layout": asdict(spine.layout),
        "fields": [asdict(field) for field in spine.fields],
        "time": spine.time,
        "sources": sources,
    }


def pieces_mark(cube: Cube) -> str:
    """Name of all that a source holds now."""
    return fingerprint(sorted(f"{piece.id} {sorted(piece.region.items())}" for piece in cube.pieces()))


def input_mark(given: GridInput) -> str:
    """The same of an input that is no grid of the project."""
    if given.cube is None:
        raise TableError(f"{given.name!r} is a grid; its version names its content.")
    return pieces_mark(given.cube)


def open_patches(record: Mapping[str, Any], store_url: str, name: str) -> StoredPatches:
    """Open the patches of a version of dataset ``name``.

    Raises
    ------
    TableError
        If labels come from a source whose files are others than when the dataset was built.
    """
    layout = PatchLayout(**{key: tuple(value) for key, value in record["layout"].items()})
    fields = tuple(
        PatchField(**{**field, "dims": tuple(field["dims"]), "shape": tuple(field["shape"])})
        for field in record["fields"]
    )
    used = dict.fromkeys(field.source for field in fields)
    cubes = {one: _open(one, record["sources"][one], store_url, name) for one in used}
    return StoredPatches(layout, fields, cubes)


def _open(name: str, found: Mapping[str, Any], store_url: str, dataset: str) -> Cube:
    if "snapshot" in found:
        return stored_grid(join(store_url, FEATURES, name), str(found["snapshot"]))
    from featureflow.library.cubes.registry import open_cube

    cube = open_cube(name, Source.model_validate(found["source"]), str(found["root"]))
    if pieces_mark(cube) != found["mark"]:
        raise TableError(
            f"datasets.{dataset}: the files of source {name!r}, which holds its labels, have changed since it was "
            "built. Build the dataset again; or make a grid of the source, whose versions stay."
        )
    return cube


def stored_grid(url: str, snapshot: str) -> GridCube:
    """The arrays of a snapshot as a cube."""
    from featureflow.tables.arrays import open_arrays

    outline = open_arrays(url, snapshot)
    chunks: dict[str, tuple[int, ...]] = {}
    for array in outline.data_vars.values():
        sizes = array.encoding.get("chunks") or array.shape
        for dim, size, step in zip(map(str, array.dims), array.shape, sizes, strict=True):
            chunks.setdefault(dim, tuple(min(step, size - low) for low in range(0, size, max(step, 1))))
    return GridCube(url, outline, chunks, snapshot=snapshot)
