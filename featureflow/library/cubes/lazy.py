"""Arrays that are read when they are asked for, by a function that is given a box."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from featureflow.core.errors import SourceError
from featureflow.core.raw_files import RawFile
from featureflow.core.remote import stream

#: gives the values of a box: one slice for each dimension, whose steps are 1
ReadBox = Callable[[tuple[slice, ...]], "np.ndarray[Any, Any]"]


class LazyArray(BackendArray):
    """An array behind a function."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], read: ReadBox) -> None:
        self.shape, self.dtype, self._read_box = tuple(shape), np.dtype(dtype), read

    def __getitem__(self, key: Any) -> Any:
        """Values at what xarray asks for."""
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self._basic
        )

    def _basic(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        box, inside = [], []
        for part, size in zip(key, self.shape, strict=True):
            if isinstance(part, slice):
                places = range(size)[part]
                low, high = (min(places), max(places) + 1) if places else (0, 0)
                box.append(slice(low, high))
                inside.append(slice(None, None, part.step))
            else:
                at = range(size)[part]
                box.append(slice(at, at + 1))
                inside.append(0)  # type: ignore[arg-type]
        return self._read_box(tuple(box))[tuple(inside)]


def lazy_variable(
    dims: tuple[str, ...],
    array: LazyArray,
    attrs: Mapping[str, Any],
    chunks: Mapping[str, int] | None = None,
) -> xr.Variable:
    """A variable of a lazy array."""
    found = xr.Variable(dims, indexing.LazilyIndexedArray(array), dict(attrs))
    found.encoding["preferred_chunks"] = dict(chunks or {})
    return found


def needed(module: str, extra: str, where: str) -> Any:
    """Import what an extra installs; SourceError that names the extra if it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SourceError(
            f'{where}: pip install "featureflow[{extra}]" reads such files ({error}).'
        ) from error


def downloaded(file: RawFile, suffix: str = "") -> Any:
    """A remote file as a temporary local one, for libraries that open paths only; gone when it is closed."""
    target = tempfile.NamedTemporaryFile(prefix="featureflow-", suffix=suffix)  # noqa: SIM115  its user closes it
    try:
        for data in stream(file.path, file.size, file.version):
            target.write(data)
        target.flush()
    except BaseException:
        target.close()
        raise
    return target
