"""A grid that this project made, as the input of another one: its planned chunks by name, and its stored values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from featureflow.contracts.cube import CubePiece, Region, slices_of
from featureflow.contracts.outlines import outline_of
from featureflow.core.meter import spent
from featureflow.core.storage import join
from featureflow.execute.grids.units import Cell, Lattice
from featureflow.execute.inputs import Readable
from featureflow.plan.grid_nodes import CompiledGrid

if TYPE_CHECKING:
    from featureflow.library.cubes.zarr_chunks import PointChunks

#: Folder of the parts of a grid of zones, below a table.
ZONES = "_ff/zones"


@lru_cache(maxsize=64)
def _opened(url: str, snapshot: str) -> xr.Dataset:
    """Arrays of a snapshot, which never changes; opening them takes longer than reading a chunk."""
    from featureflow.tables.arrays import open_arrays

    return open_arrays(url, snapshot)


@dataclass(slots=True)
class GridCube:
    """A grid of the project as a `Cube`: planned first, readable once ``snapshot`` is known.

    Parameters
    ----------
    url
        Root of the grid's table.
    outline, chunks
        As of any cube.
    named
        Fingerprint of each chunk. Not carried to tasks, which read and don't plan.
    snapshot
        Where the values are; empty before the grid is built.
    zones
        Of a grid of zones: the folder where its parts are.
    table
        Of a grid of zones: its rows, once they are computed. Not carried to tasks.
    """

    url: str
    outline: xr.Dataset
    chunks: dict[str, tuple[int, ...]]
    named: Mapping[Cell, str] = field(default_factory=dict)
    unit: Mapping[str, int] = field(default_factory=dict)
    snapshot: str = ""
    zones: str = ""
    table: Readable | None = None

    @classmethod
    def of(cls, grid: CompiledGrid, url: str, named: Mapping[Cell, str], snapshot: str = "") -> GridCube:
        """Of a grid with these chunks."""
        sizes = {str(dim): int(n) for dim, n in grid.outline.sizes.items()}
        chunks = {
            dim: tuple(min(step, n - low) for low in range(0, n, step))
            for dim, n in sizes.items()
            for step in (grid.chunks[dim],)
        }
        zones = "" if grid.rows is None else join(url, ZONES)
        return cls(url, outline_of(grid.outline), chunks, named, dict(grid.unit), snapshot, zones)

    def pieces(self, variables: Sequence[str] | None = None) -> list[CubePiece]:  # noqa: ARG002
        """Chunks by their fingerprints, which are those of all variables together."""
        sizes = {str(dim): int(n) for dim, n in self.outline.sizes.items()}
        lattice = Lattice.of(sizes, self.unit)
        width = sum(int(v.dtype.itemsize) * int(v.size) for v in self.outline.data_vars.values()) // max(
            1, len(lattice)
        )
        return [CubePiece(name, lattice.region(cell), width) for cell, name in self.named.items()]

    def read(self, region: Region, variables: Sequence[str]) -> xr.Dataset:
        """Read a box of what is stored."""
        if self.zones:
            from featureflow.execute.grids.zones import read_zones

            sizes = {str(dim): int(n) for dim, n in self.outline.sizes.items()}
            lattice = Lattice.of(sizes, self.unit)
            return read_zones(self.outline, lattice, self.named, self.zones, region)[list(variables)]
        from featureflow.tables.arrays import open_arrays

        found = open_arrays(self.url, self.snapshot)[list(variables)]
        found = found.drop_vars([c for c in found.coords if c not in self.outline.coords])
        return found.isel(slices_of(region), missing_dims="ignore").load()

    def values(self, region: Region, variables: Sequence[str]) -> list[NDArray[Any]]:
        """Read a box of what is stored, without its coordinates."""
        if self.zones:
            data = self.read(region, list(dict.fromkeys(variables)))
            return [np.asarray(data[name].transpose(*self.outline[name].dims).values) for name in variables]
        opened = _opened(self.url, self.snapshot)
        found = []
        for name in variables:
            stored = opened.variables[name]
            cut = tuple(slice(*region.get(str(dim), (0, None))) for dim in stored.dims)
            found.append(np.asarray(stored[cut].transpose(*self.outline[name].dims).values))
        return found

    def chunks_of(self, name: str) -> PointChunks | None:
        """Stored chunks of a variable; None where its values are not what is stored, as times are not."""
        if self.zones:
            return None
        from featureflow.library.cubes.zarr_chunks import PointChunks
        from featureflow.tables.arrays_chunks import stored_chunks
        from featureflow.tables.arrays_reading import checked

        stored, found = _opened(self.url, self.snapshot).variables[name], None
        if stored.dims == self.outline[name].dims:
            found = stored_chunks(self.url, self.snapshot, name)
        if found is None or found.dtype != stored.dtype:
            return None

        def guard(_: Cell, ask: Callable[[], Any]) -> Any:
            with spent("remote read"):
                return checked(self.url, self.snapshot, name, lambda _: ask())

        return PointChunks(found, lambda values: values, guard)

    def for_tasks(self) -> GridCube:
        """Only what a task needs."""
        named = self.named if self.zones else {}
        return GridCube(self.url, self.outline, self.chunks, named, self.unit, self.snapshot, self.zones)
