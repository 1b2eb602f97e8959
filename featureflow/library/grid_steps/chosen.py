"""Which variables a step acts on, and what passes it unchanged."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import xarray as xr

from featureflow.contracts.grid_step import StepMistake
from featureflow.library.grid_steps.axes import check_variables


def names_in(params: Mapping[str, Any], key: str = "variables") -> tuple[str, ...] | None:
    """Names that a spec lists, or none."""
    given = params.get(key)
    return None if given is None else tuple(given)


def acted_on(
    cube: xr.Dataset,
    variables: Sequence[str] | None,
    dims: Iterable[Hashable],
    place: tuple[str | int, ...],
    kinds: str = "biuf",
) -> list[str]:
    """Variables that a step acts on: those named, or else all of numbers that have one of its dimensions.

    Raises
    ------
    StepMistake
        At ``variables`` if one is named that is not there, is no number, or has none of the dimensions; at ``place``
        if nothing is named and nothing fits.
    """
    wanted = tuple(dims)
    if variables is None:
        found = [
            str(name)
            for name, one in cube.data_vars.items()
            if one.dtype.kind in kinds and (not wanted or set(wanted) & set(one.dims))
        ]
        if not found:
            along = " and ".join(repr(dim) for dim in wanted)
            raise StepMistake(place, f"no variable of numbers has the dimension {along}.")
        return found
    check_variables(cube, variables, ("variables",))
    for name in variables:
        one = cube[name]
        if one.dtype.kind not in kinds:
            text = f"{name!r} is {one.dtype}; this step works on numbers."
            raise StepMistake(("variables",), f"{text} Convert it with cast, or leave it out.")
        if wanted and not set(wanted) & set(one.dims):
            text = f"{name!r} has the dimensions {', '.join(map(str, one.dims)) or 'none'}, not"
            raise StepMistake(("variables",), f"{text} {' or '.join(map(str, wanted))}. Leave it out.")
    return list(variables)


def refuse_others(
    cube: xr.Dataset,
    variables: Sequence[str] | None,
    dims: Iterable[Hashable],
    what: str,
    kinds: str = "biuf",
) -> None:
    """Refuse variables that have the dimensions and are no numbers, where they can't pass unchanged.

    Raises
    ------
    StepMistake
        If there is one, unless the spec names the variables that the step acts on.
    """
    wanted = set(dims)
    for name, one in cube.data_vars.items():
        if variables is None and one.dtype.kind not in kinds and (wanted & set(one.dims)):
            text = (
                f"{name!r} is {one.dtype}; {what} takes {'numbers' if 'b' in kinds else 'numbers, no bool'}."
            )
            raise StepMistake(
                (), f"{text} Name those that are meant with variables, cast it or leave it out before."
            )


def with_variables(
    cube: xr.Dataset, changed: Mapping[str, xr.Variable], lost: Iterable[str] = ()
) -> xr.Dataset:
    """Give a cube with other variables, which may lack dimensions that it has; those that nothing has are gone.

    Parameters
    ----------
    lost
        Dimensions whose coordinates go, unless a variable still has them.
    """
    variables = {name: changed.get(str(name), one) for name, one in cube.data_vars.variables.items()}
    variables.update({name: one for name, one in changed.items() if name not in variables})
    dims = {dim for one in variables.values() for dim in one.dims} | (set(cube.sizes) - set(lost))
    coords = {name: one for name, one in cube.coords.items() if dims.issuperset(one.dims)}
    return xr.Dataset(dict(variables), coords, cube.attrs)
