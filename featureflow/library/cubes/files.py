"""A file as a part of a cube, whatever its format: opened lazily as an xarray dataset, read under its own rules."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from featureflow.core import raw_files, storage
from featureflow.core.errors import SourceError
from featureflow.core.meter import spent
from featureflow.core.raw_files import RawFile
from featureflow.library.cubes import decoding, handles
from featureflow.library.cubes.contents import Contents, Stored, contents_of
from featureflow.library.cubes.errors import opening, values_of

if TYPE_CHECKING:
    from featureflow.library.cubes.stored import Named

#: what so many files hold is remembered: a spec is compiled again and again while it is written
_REMEMBERED = 20_000
_contents: OrderedDict[Hashable, Contents] = OrderedDict()


class OpenFile:
    """An open file: as it is stored, and decoded."""

    def __init__(self, raw: xr.Dataset, where: str) -> None:
        self.raw, self.decoded = raw, decoding.decode(raw, where)

    def close(self) -> None:
        """Close the file."""
        self.raw.close()


@dataclass(frozen=True, slots=True)
class FilePart(ABC):
    """A file that xarray can open; formats say how.

    Parameters
    ----------
    options
        What the format was told, as pairs: part of the file's identity.
    """

    url: str
    size: int
    version: str
    source: str
    options: tuple[tuple[str, Any], ...] = ()

    @abstractmethod
    def open_raw(self) -> xr.Dataset:
        """Open the file lazily; variables as they are stored, before CF decoding."""

    @property
    @abstractmethod
    def format_name(self) -> str:
        """For errors."""

    @property
    def where(self) -> str:
        """For errors."""
        return f"source {self.source!r}: {self.url}"

    @property
    def file(self) -> RawFile:
        """As it was listed."""
        return RawFile(self.url, self.size, self.version)

    def _opened(self) -> OpenFile:
        with opening(self.where, self.url, self.format_name):
            self._unchanged()
            raw = self.open_raw()
            try:
                return OpenFile(raw, self.where)
            except BaseException:
                raw.close()
                raise

    def _unchanged(self) -> None:
        """Refuse a local file that was replaced since it was listed; stores are asked with each request."""
        if storage.is_local(self.url):
            try:
                now = os.stat(storage.local_path(self.url))
            except FileNotFoundError:
                raise SourceError(
                    f"{self.where}: is gone; it was there when it was listed. Put it back, or run again without it."
                ) from None
            if (now.st_size, f"mtime:{now.st_mtime_ns}") != (self.size, self.version):
                raise SourceError(
                    f"{self.where}: was replaced since it was listed. Run again: the new content is planned like any "
                    "new data."
                )

    def contents(self) -> Contents:
        """What it holds."""
        found = _contents.get(self)
        if found is None:
            with (
                handles.borrowed(self, self._opened) as opened,
                opening(self.where, self.url, self.format_name),
            ):
                found = contents_of(opened.decoded, self.where)
            _contents[self] = found
            while len(_contents) > _REMEMBERED:
                _contents.popitem(last=False)
        return found

    def read(self, name: str, cut: tuple[slice, ...], stored: Stored) -> np.ndarray[Any, Any]:
        """Values of a variable, decoded."""
        with handles.borrowed(self, self._opened) as opened, spent("decode"), self._values(name, cut):
            raw, decoded = opened.raw.variables[name], opened.decoded.variables[name]
            fills = decoding.fill_of(raw, decoded)
            if fills is None:
                if decoding.is_elementwise(raw, decoded):
                    return self._exact(
                        decoding.unpack(raw, np.asarray(raw[cut].values), decoded.dtype), name, stored
                    )
                return self._exact(decoding.read_decoded(decoded, cut), name, stored)
            return self._exact(decoding.mask(np.asarray(raw[cut].values), fills), name, stored)

    def _values(self, name: str, cut: tuple[slice, ...]) -> AbstractContextManager[None]:
        return values_of(self.where, self.url, name, cut)

    def _exact(self, values: np.ndarray[Any, Any], name: str, stored: Stored) -> np.ndarray[Any, Any]:
        if values.dtype != stored.dtype:
            raise SourceError(
                f"{self.where}: variable {name!r} is of type {values.dtype} here, and {stored.dtype} elsewhere."
            )
        return values

    def named(self, variables: Mapping[str, Stored]) -> list[Named]:
        """One piece: the file."""
        self._unchanged()
        del variables
        return [(f"{self.url}:{self.size}:{self.version}:{self.options!r}", {}, self.size, None)]


Kind = TypeVar("Kind", bound=FilePart)


def file_parts(
    kind: type[Kind], patterns: tuple[str, ...], source: str, options: Mapping[str, Any]
) -> list[Kind]:
    """A part for each file that the patterns name; SourceError if there is none."""
    with_values = tuple(sorted((key, value) for key, value in options.items() if value is not None))
    try:
        listed = raw_files.list_files(patterns)
    except SourceError as error:
        raise SourceError(f"source {source!r}: {error}") from error
    return [kind(each.path, each.size, each.version, source, with_values) for each in listed]
