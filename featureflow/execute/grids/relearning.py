"""What is learned again before a build is planned.

What a step learned goes by the name of what it was learned from first. If pieces of its period are others now, because
days behind the period were put into the same stored chunk, it is learned again, from the sums of the cells that are as
they were and the few others. The same bytes keep their name, and so do all chunks that were made with them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from featureflow.contracts.cube import Cube
from featureflow.core.storage import delete
from featureflow.execute.grids.fits import FitGoal, Tile
from featureflow.execute.grids.known_fits import KnownFits, fit_path, same_path, sums_path
from featureflow.execute.grids.learning import learn
from featureflow.execute.grids.naming import Naming
from featureflow.execute.grids.stored import GridCube
from featureflow.execute.grids.unchanged import find_changed
from featureflow.execute.grids.units import Lattice
from featureflow.execute.site import Site
from featureflow.execute.sizing import refuse_small_budget


def learn_again(
    naming: Naming,
    lattice: Lattice,
    cubes: Mapping[str, Cube],
    site: Site,
    folder: str,
    fits: KnownFits,
    kept: Collection[str],
) -> tuple[Naming, KnownFits]:
    """Learn what an earlier build learned from pieces that are others now, where chunks may keep their names by it.

    Parameters
    ----------
    folder, fits
        Of what was learned, and what is in it.
    kept
        Names of the chunks that there are.

    Returns
    -------
    tuple
        Names by what is known now, and that.

    Raises
    ------
    SourceError
        If a source changes meanwhile.

    Notes
    -----
    Cost: reads the cells of the period that a longer source may change, for each tile with a changed piece; the whole
    period of tiles whose other pieces changed, or whose sums are as large as what they are made of. A grid that is
    not computed yet can't be read: what is learned from it is learned in its turn.
    """
    known = fits
    if any(isinstance(cube, GridCube) and not cube.snapshot for cube in cubes.values()):
        return naming, known
    if not _worth_it(naming, lattice, known, kept):
        return naming, known
    refuse_small_budget(site.budget)
    for link, found in enumerate(naming.grid.links):
        if found.fitted is None:
            continue
        goals = [
            FitGoal(tile, folder, name, begun=known.has_sums(name), like=like)
            for tile, name, like in _changed(naming, link, known)
        ]
        learn(naming, lattice, cubes, site, goals)
        _refuse_changed(naming, lattice, cubes, goals)
        known = KnownFits.of(folder)
        naming = naming.knowing(known.same)
    return naming, known


def _changed(naming: Naming, link: int, known: KnownFits) -> Iterable[tuple[Tile, str, str]]:
    """Tiles of a step that were learned from other pieces: with their names, and what was learned last."""
    latest = known.latest
    for tile, _ in naming.tiles(link, {}):
        name = naming.learned_from(link, tile)
        like = latest.get(name.split("-", 1)[0])
        if like is not None and not known.knows(name):
            yield (link, tile), name, like


def _worth_it(naming: Naming, lattice: Lattice, known: KnownFits, kept: Collection[str]) -> bool:
    """Whether any chunk would keep its name if everything that is learned again were as it was."""
    same = dict(known.same)
    guess = naming
    for link, found in enumerate(naming.grid.links):
        if found.fitted is not None:
            same |= {name: like for _, name, like in _changed(guess, link, known)}
            guess = naming.knowing(same)
    if len(same) == len(known.same):
        return False
    now, then, there = naming.chunks(lattice), guess.chunks(lattice), set(kept)
    return any(name in there and now[cell] != name for cell, name in then.items())


def _refuse_changed(
    naming: Naming, lattice: Lattice, cubes: Mapping[str, Cube], goals: Collection[FitGoal]
) -> None:
    """Forget what was learned of sources that have changed meanwhile: its names say that it was learned of others."""
    if not goals:
        return
    found = find_changed(naming, lattice, cubes, naming.chunks(lattice))
    if found is None:
        return
    for goal in goals:
        delete(fit_path(goal.folder, goal.name))
        delete(same_path(goal.folder, goal.name, goal.like))
        delete(sums_path(goal.folder, goal.name))
    raise found.error(naming.grid.name)
