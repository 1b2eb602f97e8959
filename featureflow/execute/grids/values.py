"""Values of a cube as plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from featureflow.contracts.cube import Cube, Region

if TYPE_CHECKING:
    from featureflow.library.cubes.zarr_chunks import PointChunks


@runtime_checkable
class ReadsValues(Protocol):
    """A cube that can read without making a Dataset, which costs milliseconds a read."""

    def values(self, region: Region, variables: Sequence[str]) -> list[NDArray[Any]]:
        """Read what `Cube.read` does, without coordinates: an array for each variable, in its order of dimensions."""


@runtime_checkable
class HasChunks(Protocol):
    """A cube some of whose variables can be read chunk by chunk, as they are stored."""

    def chunks_of(self, name: str) -> PointChunks | None:
        """Stored chunks of a variable; None where only boxes can be read."""


def read_values(cube: Cube, region: Region, variables: Sequence[str]) -> list[NDArray[Any]]:
    """Read variables of a region into memory, decoded, each in the order of dimensions that the outline has.

    Parameters
    ----------
    region
        Dimensions that it does not name are read whole.
    """
    if isinstance(cube, ReadsValues):
        return cube.values(region, variables)
    used = dict.fromkeys(str(dim) for name in variables for dim in cube.outline[name].dims)
    whole = {dim: region.get(dim, (0, int(cube.outline.sizes[dim]))) for dim in used}
    data = cube.read(whole, list(dict.fromkeys(variables)))
    return [np.asarray(data[name].transpose(*cube.outline[name].dims).values) for name in variables]
