"""How a grid is cut into tasks: boxes of whole chunks that read as little as possible, and fit into memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import prod

from featureflow.contracts.cube import Region
from featureflow.core.errors import PlanError
from featureflow.execute.grids import footprint
from featureflow.execute.grids.fits import Tile, fit_cells
from featureflow.execute.grids.naming import Naming, fit_box, kept_lattice
from featureflow.execute.grids.units import Cell, Lattice, contains, hull, n_cells
from featureflow.execute.grids.volume import bytes_in
from featureflow.execute.sizing import Budget
from featureflow.observe.units import size
from featureflow.plan.grid_nodes import CompiledGrid

#: With fewer tasks for each slot some wait for the last one: they count as this much slower.
TASKS_PER_SLOT, UNEVEN = 2, 1.1
#: Among boxes that read about the same, tasks of about this size in memory are taken.
LIKED_BYTES = 512 << 20
#: Boxes that read up to this much more than the best count as equal.
ABOUT_EQUAL = 1.05
MAX_CANDIDATES = 3000
#: So many boxes along a dimension are looked at for how much they read on average.
MAX_SAMPLES = 16


@dataclass(frozen=True, slots=True)
class Box:
    """What one task computes: a box of the grid, the chunks of it that are written, and the fits that it needs.

    ``fused`` are fits that it makes itself, from the block that it has.
    """

    region: Region
    cells: tuple[Cell, ...]
    fits: tuple[tuple[Tile, str], ...]
    fused: frozenset[Tile]
    memory: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The tasks of a grid, and the fits that have to be there before them, in the order in which they are made."""

    boxes: tuple[Box, ...]
    fits: tuple[tuple[Tile, str], ...]
    shape: tuple[int, ...]
    memory: int


def cut_grid(
    grid: CompiledGrid,
    lattice: Lattice,
    missing: Collection[Cell],
    naming: Naming,
    known_fits: Collection[str],
    budget: Budget,
    slots: int,
) -> Cut:
    """Choose the boxes of the tasks.

    Parameters
    ----------
    missing
        Chunks to compute.
    known_fits
        Names of what was learned before and is kept.

    Raises
    ------
    PlanError
        If not even one chunk at a time fits into a task's memory; with the numbers.
    """
    if not missing:
        return Cut((), (), (1,) * len(lattice.dims), 0)
    shape = _choose(grid, lattice, missing, budget.task_bytes, slots)
    boxes = [
        _box(grid, lattice, cells, naming, frozenset(known_fits))
        for cells in _grouped(missing, shape).values()
    ]
    needed: dict[Tile, str] = {}
    for box in boxes:
        needed.update((tile, name) for tile, name in box.fits if tile not in box.fused)
    stage = dict(_with_earlier(grid, naming, needed, known_fits))
    return Cut(tuple(boxes), tuple(sorted(stage.items())), shape, max(box.memory for box in boxes))


def _with_earlier(
    grid: CompiledGrid, naming: Naming, needed: Mapping[Tile, str], known: Collection[str]
) -> Iterator[tuple[Tile, str]]:
    """Fits that are not there, with those that are needed to make them."""
    waiting, seen = dict(needed), set[Tile]()
    while waiting:
        tile, name = waiting.popitem()
        if tile in seen or name in known:
            continue
        seen.add(tile)
        yield tile, name
        link, cell = tile
        for i, needs in grid.walk_back(fit_box(grid, link, cell), link):
            if grid.links[i].fitted is not None:
                waiting.update(((i, one), found) for one, found in naming.tiles(i, needs.fitted))


def fits_under(
    grid: CompiledGrid, naming: Naming, region: Region, until: int | None = None
) -> dict[Tile, str]:
    """Tiles that computing a box asks for."""
    return {
        (i, cell): name
        for i, needs in grid.walk_back(region, until)
        if grid.links[i].fitted is not None
        for cell, name in naming.tiles(i, needs.fitted)
    }


def _grouped(missing: Collection[Cell], shape: tuple[int, ...]) -> dict[Cell, list[Cell]]:
    found: dict[Cell, list[Cell]] = defaultdict(list)
    for cell in missing:
        found[tuple(i // k for i, k in zip(cell, shape, strict=True))].append(cell)
    return found


def _box(
    grid: CompiledGrid, lattice: Lattice, cells: list[Cell], naming: Naming, known: frozenset[str]
) -> Box:
    region = lattice.hull(cells)
    tiles = fits_under(grid, naming, region)
    inside = _fused(grid, region)
    fused = frozenset(tile for tile, name in tiles.items() if name not in known and tile in inside)
    return Box(region, tuple(cells), tuple(sorted(tiles.items())), fused, footprint.task_bytes(grid, region))


def _fused(grid: CompiledGrid, region: Region) -> set[Tile]:
    """Tiles whose whole input a task for a box has in its block anyway."""
    found: set[Tile] = set()
    for i, needs in grid.walk_back(region):
        if grid.links[i].fitted is None:
            continue
        for cell in kept_lattice(grid, i).touching(needs.fitted):
            if contains(needs.region, fit_box(grid, i, cell)):
                found.add((i, cell))
    return found


def _choose(
    grid: CompiledGrid, lattice: Lattice, missing: Collection[Cell], budget: int, slots: int
) -> tuple[int, ...]:
    """How many chunks along each dimension a task takes."""
    extent = _extent(missing)
    share = len(missing) / max(1, prod(high - low for low, high in extent))
    found: list[tuple[float, int, int, tuple[int, ...]]] = []
    least: tuple[int, Region] | None = None
    unevenness = lru_cache(maxsize=None)(lambda axis, k: _unevenness(grid, lattice, extent, axis, k))
    for shape in _candidates(extent):
        region = _middle(lattice, extent, shape)
        # the one in the middle may be the last one, which is shorter: the first has all of its chunks
        corner = tuple((low, min(high, low + k)) for (low, high), k in zip(extent, shape, strict=True))
        first = _middle(lattice, corner, shape)
        memory, largest = max(
            ((footprint.task_bytes(grid, one), one) for one in (region, first)), key=lambda one: one[0]
        )
        if least is None or memory < least[0]:
            least = memory, largest
        if memory > budget:
            continue
        counts = [-(-(high - low) // k) for (low, high), k in zip(extent, shape, strict=True)]
        tasks = max(1, round(prod(counts) * share))
        rounds = -(-tasks // slots) if tasks >= TASKS_PER_SLOT * slots else UNEVEN * -(-tasks // slots)
        read = footprint.read_bytes(grid, region) * prod(unevenness(axis, k) for axis, k in enumerate(shape))
        each = read + bytes_in(grid.outline, region)
        found.append((rounds * each + _fit_cost(grid, region) / slots, memory, tasks, shape))
    if not found and least is not None:
        raise PlanError(f"features.{grid.name}: {_too_large(grid, least, budget)}")
    best = min(cost for cost, *_ in found)
    good = [one for one in found if one[0] <= ABOUT_EQUAL * best]
    liked = [one for one in good if one[1] <= LIKED_BYTES]
    if liked:
        return max(liked, key=lambda one: (one[1], one[3]))[3]
    return min(good, key=lambda one: (one[1], one[3]))[3]


def _fit_cost(grid: CompiledGrid, region: Region) -> int:
    """Bytes that a stage reads before, for what a box like this can't learn from its own block."""
    cost, fused = 0, _fused(grid, region)
    for i, needs in grid.walk_back(region):
        step = grid.links[i].fitted
        if step is None or all((i, cell) in fused for cell in kept_lattice(grid, i).touching(needs.fitted)):
            continue
        cost += footprint.read_bytes(grid, step.fit_region(grid.links[i].taken), i)
    return cost


def _extent(missing: Collection[Cell]) -> tuple[tuple[int, int], ...]:
    """Range of the missing chunks along each dimension."""
    return tuple((min(axis), max(axis) + 1) for axis in zip(*missing, strict=True))


def _candidates(extent: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, ...]]:
    """Shapes to try: powers of a number along each dimension, and all of it."""
    lengths = [high - low for low, high in extent]
    for base in (2, 4, 16, 1 << 40):
        steps = []
        for n in lengths:
            found, k = [], 1
            while k < n:
                found.append(k)
                k *= base
            steps.append([*found, n])
        if prod(len(one) for one in steps) <= MAX_CANDIDATES:
            break
    return product(*steps)


def _middle(lattice: Lattice, extent: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> Region:
    """A box of that shape that has as much around it as any."""
    first, last = [], []
    for (low, high), k in zip(extent, shape, strict=True):
        n = (high - low) // k
        start = low + (n // 2 if n > 1 else 0) * k
        first.append(start)
        last.append(min(high, start + k) - 1)
    return lattice.hull([tuple(first), tuple(last)])


def _unevenness(
    grid: CompiledGrid, lattice: Lattice, extent: tuple[tuple[int, int], ...], axis: int, k: int
) -> float:
    """How much more boxes of ``k`` chunks along a dimension read on average than the one in the middle."""
    one = tuple(k if i == axis else 1 for i in range(len(extent)))
    middle = footprint.read_bytes(grid, _middle(lattice, extent, one))
    low, high = extent[axis]
    starts = list(range(low, high, k))
    found = []
    for start in starts[:: -(-len(starts) // MAX_SAMPLES)]:
        part = tuple((start, min(high, start + k)) if i == axis else span for i, span in enumerate(extent))
        found.append(footprint.read_bytes(grid, _middle(lattice, part, one)))
    return sum(found) / len(found) / middle if middle else 1.0


def what_is_too_large(grid: CompiledGrid, budget: int) -> str | None:
    """Say why no task of so many bytes can hold one chunk of a grid; None if one can."""
    lattice = Lattice.of({str(dim): int(n) for dim, n in grid.outline.sizes.items()}, grid.unit)
    extent = tuple((0, n) for n in lattice.counts)
    if not all(lattice.counts):
        return None
    boxes = (_middle(lattice, span, (1,) * len(extent)) for span in (extent, tuple((0, 1) for _ in extent)))
    least = max(((footprint.task_bytes(grid, box), box) for box in boxes), key=lambda one: one[0])
    return _too_large(grid, least, budget) if least[0] > budget else None


def _too_large(grid: CompiledGrid, least: tuple[int, Region], budget: int) -> str:
    memory, region = least
    shown = ", ".join(f"{dim} {high - low}" for dim, (low, high) in region.items())
    widest = (0, "its own chunk")
    box = region
    outlines = [grid.start, *(link.made for link in grid.links)]
    for i, needs in grid.walk_back(box):
        held = bytes_in(outlines[i], needs.region)
        if held > widest[0]:
            sizes = ", ".join(f"{d} {high - low}" for d, (low, high) in needs.region.items())
            widest = held, f"what step {grid.links[i].name!r} needs for it ({sizes}: {size(held)})"
    return (
        f"a task for one chunk ({shown}) needs {size(memory)} of memory, and {size(budget)} are "
        f"allowed. The most is {widest[1]}. Make chunks smaller along a dimension that no step takes together, or give "
        "tasks more memory (--memory) or fewer threads (--workers)."
    )


def fit_runs(
    grid: CompiledGrid, link: int, tile: Cell, budget: int, skipped: int = 0
) -> list[tuple[Region, ...]]:
    """Cells of a fit, but for the first ones, in runs that are read together, each as long as memory allows."""
    runs: list[list[Region]] = []
    for cell in fit_cells(grid, link, tile)[skipped:]:
        if runs:
            box = hull(iter([*runs[-1], cell]))
            together = footprint.fit_bytes(grid, box, link)
            if together <= min(budget, LIKED_BYTES) and _is_box([*runs[-1], cell], box):
                runs[-1].append(cell)
                continue
        runs.append([cell])
    for run in runs:
        memory = footprint.fit_bytes(grid, run[0], link)
        if memory > budget:
            raise PlanError(
                f"features.{grid.name}: one cell of what step {grid.links[link].name!r} learns from needs "
                f"{size(memory)} of memory, and {size(budget)} are allowed. Make chunks smaller, or give tasks more."
            )
    return [tuple(run) for run in runs]


def _is_box(cells: list[Region], box: Region) -> bool:
    return sum(n_cells(cell) for cell in cells) == n_cells(box)
