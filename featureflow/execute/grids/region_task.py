"""One task of a grid: read a box, compute it, write its chunks, and say what is in them."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

from featureflow.contracts.cube import Cube, slices_of
from featureflow.core.meter import counted
from featureflow.execute.grids.chunk_rows import ChunkRow, Owners, describe_chunk
from featureflow.execute.grids.evaluate import read_block, source_box
from featureflow.execute.grids.fits import FitGoal, Fits, FitWork, combine_fit, run_fit
from featureflow.execute.grids.tasks import Box
from featureflow.execute.grids.tiling import compute_tiled
from featureflow.execute.grids.units import Cell, Lattice
from featureflow.observe.grid_advice import BOXES
from featureflow.plan.grid_nodes import CompiledGrid


@dataclass(frozen=True, slots=True)
class GridJob:
    """What all tasks of a grid share; a worker gets it once.

    Parameters
    ----------
    cubes
        What is read, by name.
    fork
        Session of the arrays that are written.
    fits
        Folder of what steps have learned.
    """

    grid: CompiledGrid
    lattice: Lattice
    cubes: dict[str, Cube]
    fork: bytes
    fits: str


@dataclass(frozen=True, slots=True)
class Made:
    """What a task made: the session that knows its chunks, and a row for each."""

    fork: bytes
    rows: tuple[ChunkRow, ...]


def compute_box(job: GridJob, box: Box, names: tuple[str, ...]) -> Made:
    """Compute a box and write its chunks; ``names`` are their fingerprints."""
    data = evaluate_box(job, box)
    return _write(job, box, names, data)


def evaluate_box(job: GridJob, box: Box) -> xr.Dataset:
    """Values of a box."""
    counted(BOXES)
    fits = Fits(job.grid, job.cubes, dict(box.fits), job.fits, box.fused)
    # no name for the block here: it is let go as soon as something else is made of all of it
    return compute_tiled(
        job.grid,
        job.cubes,
        read_block(job.grid, job.cubes, source_box(job.grid, box.region)),
        box.region,
        fits,
    )


def _write(job: GridJob, box: Box, names: tuple[str, ...], data: xr.Dataset) -> Made:
    from featureflow.tables.arrays import write_region

    fork, rows = job.fork, list[ChunkRow]()
    outline, lattice = job.grid.outline, job.lattice
    by_variables: dict[tuple[str, ...], list[Cell]] = {}
    owners = Owners(outline, lattice.dims)
    for cell, name in zip(box.cells, names, strict=True):
        region = lattice.region(cell)
        part = data.isel(slices_of(region, box.region))
        owned = owners.of(cell)
        for variable, dims, own in owned:
            rows.append(describe_chunk(variable, part[variable].values, dims, own, region, name))
        by_variables.setdefault(tuple(variable for variable, _, _ in owned), []).append(cell)
    for variables, cells in by_variables.items():
        for some in _boxes(cells):
            region = lattice.hull(some)
            part = data[list(variables)].isel(slices_of(region, box.region))
            fork = write_region(fork, region, part)
    return Made(fork, tuple(rows))


def _boxes(cells: list[Cell]) -> list[list[Cell]]:
    """Cells as one box if they are one, else each by itself."""
    spans = [range(min(axis), max(axis) + 1) for axis in zip(*cells, strict=True)]
    size = 1
    for span in spans:
        size *= len(span)
    return [cells] if size == len(cells) else [[cell] for cell in cells]


def compute_fit(job: GridJob, work: FitWork) -> None:
    """Make sums for a fit, or the fit itself."""
    counted(BOXES, sum(len(run) for run in work.runs))
    run_fit(work, Fits(job.grid, job.cubes, dict(work.names), job.fits))


def combine_parts(job: GridJob, goal: FitGoal, paths: tuple[str, ...]) -> None:
    """Make a fit of sums."""
    combine_fit(job.grid, goal, paths)
