"""Whether the sources of a grid are still what they were when it was planned.

A chunk of a Zarr store can be written again at any time, and nothing that its reader gets says so; one that is deleted
even reads as fill values. So what was computed counts only if everything that it was computed from is still there under
the names that were planned with. A file that is read under its own rules says so itself, earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from featureflow.contracts.cube import Cube, CubePiece
from featureflow.core.errors import SourceError
from featureflow.execute.grids.naming import Naming
from featureflow.execute.grids.units import Cell, Lattice


@dataclass(frozen=True, slots=True)
class Changed:
    """What a changed source makes worthless.

    Parameters
    ----------
    cells
        Chunks of the grid that have another name now.
    chunks
        Names of the others.
    fits
        Names of all that steps learn, as they are now.
    where
        Which source changed where, in words.
    """

    cells: frozenset[Cell]
    chunks: frozenset[str]
    fits: frozenset[str]
    where: str

    def error(self, name: str) -> SourceError:
        """What to tell."""
        return SourceError(
            f"features.{name}: {self.where}, while the grid was computed from it. Nothing was published. Build again: "
            f"{len(self.cells):,} chunks that it touches are computed anew, what is finished of the others is kept."
        )


def find_changed(
    planned: Naming, lattice: Lattice, cubes: Mapping[str, Cube], named: Mapping[Cell, str]
) -> Changed | None:
    """Compare the pieces of the sources with those that were planned with; None if they are the same.

    Parameters
    ----------
    planned
        Names as they were planned with, and the pieces that they are made of.
    cubes
        Opened when the grid was compiled: what was appended to them since does not count.
    named
        Chunks' names as they were planned with.

    Raises
    ------
    SourceError
        If a source is gone, or a file says itself that it was replaced.

    Notes
    -----
    Cost: a listing of each source.
    """
    told, grid = [], planned.grid
    for name, found in grid.inputs.items():
        if found.kind != "source":
            continue  # other grids are read at a snapshot
        used = [str(one) for one in grid.start.data_vars] if name == grid.source.name else None
        now = {(piece.id, _place(piece)) for piece in cubes[name].pieces(used)}
        other = [piece for piece in planned.pieces[name].pieces if (piece.id, _place(piece)) not in now]
        if other:
            places = "; ".join(_shown(piece) for piece in other[:3])
            more = f" and {len(other) - 3:,} more" if len(other) > 3 else ""
            told.append(f"sources.{name} was changed at {places}{more}")
    if not told:
        return None
    naming = Naming(grid, cubes, planned.same)
    names = naming.chunks(lattice)
    cells = frozenset(cell for cell, name in named.items() if names[cell] != name)
    fits = {name for i, link in enumerate(grid.links) if link.fitted for _, name in naming.tiles(i, {})}
    chunks = frozenset(name for cell, name in named.items() if cell not in cells)
    return Changed(cells, chunks, frozenset(fits), " and ".join(told))


def _place(piece: CubePiece) -> tuple[tuple[str, tuple[int, int]], ...]:
    return tuple(sorted(piece.region.items()))


def _shown(piece: CubePiece) -> str:
    return ", ".join(f"{dim} {low}:{high}" for dim, (low, high) in piece.region.items()) or "all of it"
