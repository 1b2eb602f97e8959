"""GRIB, versions 1 and 2, through cfgrib and ecCodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import xarray as xr

from featureflow.core import storage
from featureflow.core.errors import CubeMistake, SourceError
from featureflow.library.cubes.files import FilePart
from featureflow.library.cubes.lazy import downloaded, needed


@dataclass(frozen=True, slots=True)
class GribPart(FilePart):
    """A GRIB file; `options.group` chooses its messages by keys (`typeOfLevel=surface, stepType=instant`)."""

    @property
    def format_name(self) -> str:
        """For errors."""
        return "GRIB"

    def open_raw(self) -> xr.Dataset:
        """Index the messages of the file; nothing is written beside it."""
        needed("eccodes", "grib", self.where)
        cfgrib = needed("cfgrib", "grib", self.where)
        copy = None if storage.is_local(self.url) else downloaded(self.file, ".grib")
        path = storage.local_path(self.url) if copy is None else copy.name
        try:
            raw = xr.open_dataset(
                path,
                engine="cfgrib",
                decode_cf=False,
                chunks=None,
                cache=False,
                backend_kwargs={"indexpath": "", "filter_by_keys": self._keys(), "errors": "raise"},
            )
        except cfgrib.DatasetBuildError as error:
            said = " ".join(str(error).split())
            raise CubeMistake(
                ("options", "group"),
                f"{self.where}: holds messages that are of no one cube: {said}. Choose those of one kind by `options: "
                "{group: 'typeOfLevel=surface'}` (several keys with commas between them).",
            ) from error
        if not raw.data_vars:
            raise SourceError(
                f"{self.where}: holds no message{' of ' + str(self._keys()) if self._keys() else ''}."
            )
        raw.attrs.pop("history", None)  # when and where it was opened: the same file would look like another
        if copy is not None:
            raw.set_close(copy.close)
        return raw

    def _keys(self) -> dict[str, Any]:
        given = dict(self.options).get("group")
        pairs = [pair.partition("=") for pair in str(given).split(",")] if given else []
        if any(not equals for _, equals, _ in pairs):
            raise CubeMistake(
                ("options", "group"),
                f"{self.where}: `options.group` of GRIB is `key=value`, such as typeOfLevel=surface.",
            )
        return {key.strip(): _value(value.strip()) for key, _, value in pairs}


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
