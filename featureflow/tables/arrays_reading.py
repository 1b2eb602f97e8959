"""Reading arrays lazily: an xarray Dataset whose variables know where they are, and nothing else.

What is pickled to a Dask worker is the table's URL, the snapshot and a name; each process opens the repository itself,
with its own credentials. Every chunk that is read is checked by its checksum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from featureflow.core.errors import CorruptionError, FeatureflowError
from featureflow.core.meter import waiting_for_store
from featureflow.tables.arrays_repository import (
    arrays_url,
    is_missing,
    open_repository,
    refuse_after_fork,
    talking_to,
)
from featureflow.tables.arrays_seal import check_seal

if TYPE_CHECKING:
    import zarr

#: Groups of snapshots that a process keeps open.
_OPEN = 64


def open_group(table_url: str, snapshot: str) -> zarr.Group:
    """The arrays of a snapshot, to read; kept open for the next call.

    Raises
    ------
    TableError
        If there is no such snapshot.
    """
    refuse_after_fork()
    return _group(table_url, snapshot, id(open_repository(table_url)))


@lru_cache(maxsize=_OPEN)
def _group(table_url: str, snapshot: str, _repository: int) -> zarr.Group:
    import zarr

    with talking_to(arrays_url(table_url)):
        repository = open_repository(table_url)
        check_seal(table_url, repository, snapshot)
        session = repository.readonly_session(snapshot_id=snapshot)
        return zarr.open_group(session.store, mode="r")


class StoredArray(BackendArray):
    """One array of a snapshot, read when it is indexed."""

    def __init__(
        self, table_url: str, snapshot: str, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.table_url, self.snapshot, self.name = table_url, snapshot, name
        self.shape, self.dtype = shape, dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Read what xarray asks for; Zarr can do points, outer products and slices itself."""
        if isinstance(key, indexing.VectorizedIndexer):
            way = self._points
        elif isinstance(key, indexing.OuterIndexer):
            way = self._outer
        else:
            way = self._plain
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.VECTORIZED, way)

    def _plain(self, key: tuple[Any, ...]) -> Any:
        return self._read(lambda array: array[key])

    def _outer(self, key: tuple[Any, ...]) -> Any:
        return self._read(lambda array: array.oindex[key])

    def _points(self, key: tuple[Any, ...]) -> Any:
        return self._read(lambda array: array.vindex[key])

    @waiting_for_store("remote read")
    def _read(self, ask: Any) -> Any:
        return checked(self.table_url, self.snapshot, self.name, ask)

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        """The same array has the same name in a Dask graph, in any process."""
        return (self.table_url, self.snapshot, self.name)


def checked(table_url: str, snapshot: str, name: str, ask: Any) -> Any:
    """Ask an array for values; what can't be decoded is an error that names the array.

    Raises
    ------
    CorruptionError
        If bytes changed, or a chunk's object is gone.
    """
    with damage_named(table_url, name):
        return ask(open_group(table_url, snapshot)[name])


@contextmanager
def damage_named(table_url: str, name: str) -> Iterator[None]:
    """Let what can't be read or decoded be an error that names the array; see `checked`."""
    try:
        yield
    except FeatureflowError:
        raise
    except (KeyError, IndexError, MemoryError):
        raise
    except Exception as error:
        raise _damage(table_url, name, error) from error


def _damage(table_url: str, name: str, error: Exception) -> Exception:
    import icechunk

    url = arrays_url(table_url)
    if isinstance(error, icechunk.IcechunkError):
        if not is_missing(error):
            try:
                with talking_to(url):
                    raise error
            except FeatureflowError as known:
                return known
        return CorruptionError(f"{url}: variable {name!r}: a chunk is missing, though the version lists it.")
    return CorruptionError(
        f"{url}: variable {name!r}: a chunk can't be decoded, its bytes are not those that were written "
        f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})."
    )


class ArraysBackend(BackendEntrypoint):
    """How xarray opens the arrays of a snapshot; given ``(table_url, snapshot)``."""

    description = "arrays of a featureflow table"

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: tuple[str, str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        decode: bool = True,
    ) -> xr.Dataset:
        """Open without reading values."""
        table_url, snapshot = filename_or_obj
        group = open_group(table_url, snapshot)
        dropped = {drop_variables} if isinstance(drop_variables, str) else set(drop_variables or ())
        variables = {
            name: _variable(table_url, snapshot, name, array)
            for name, array in sorted(group.arrays())
            if name not in dropped
        }
        found = xr.Dataset(variables, attrs=dict(group.attrs))
        return xr.decode_cf(found) if decode else found


def _variable(table_url: str, snapshot: str, name: str, array: Any) -> xr.Variable:
    attributes = dict(array.attrs)
    missing = attributes.pop("_FillValue", None)
    if missing is not None:
        from xarray.backends.zarr import FillValueCoder

        attributes["_FillValue"] = (
            FillValueCoder.decode(missing, array.dtype) if isinstance(missing, str) else missing
        )
    lazy = indexing.LazilyIndexedArray(StoredArray(table_url, snapshot, name, array.shape, array.dtype))
    dims = array.metadata.dimension_names or ()
    chunks = array.shards or array.chunks
    encoding = {
        "chunks": array.chunks,
        "shards": array.shards,
        "preferred_chunks": dict(zip(dims, chunks, strict=True)),
    }
    return xr.Variable(dims, lazy, attributes, encoding)


def open_arrays(table_url: str, snapshot: str, *, chunks: Any = None) -> xr.Dataset:
    """Open a snapshot's arrays as a Dataset; values are read when they are used.

    Parameters
    ----------
    chunks
        As in :func:`xarray.open_dataset`: None reads what is indexed, ``{}`` gives Dask arrays of the stored chunks.

    Raises
    ------
    TableError
        If there is no such snapshot.
    CorruptionError
        When values are read whose bytes changed.
    """
    where: Any = (table_url, snapshot)
    found = xr.open_dataset(where, engine=ArraysBackend, chunks=None)
    if chunks is None:
        return found
    chunked = xr.open_dataset(where, engine=ArraysBackend, chunks=chunks)
    # coordinates are stored whole: as Dask arrays they would have other chunks than the variables
    return chunked.assign_coords({name: found.coords[name].variable for name in found.coords})
