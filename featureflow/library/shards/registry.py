"""The formats that shards can have, by the name that a spec gives them."""

from __future__ import annotations

import difflib
from importlib import import_module

from featureflow.contracts.shard_format import ShardFormat
from featureflow.core.errors import ComputeError

#: Adding a format: one module beside this one with a ``FORMAT``, one name here.
_NAMES = ("arrow", "parquet", "webdataset", "mds", "tfrecord", "npy", "zarr", "litdata")


def shard_formats() -> tuple[str, ...]:
    """Names of all formats; imports none of them.

    Examples
    --------
    >>> shard_formats()
    ('arrow', 'parquet', 'webdataset', 'mds', 'tfrecord', 'npy', 'zarr', 'litdata')
    """
    return _NAMES


def shard_format(name: str) -> ShardFormat:
    """Look a format up by name; only its own module is imported.

    Raises
    ------
    ComputeError
        If there is none of that name; lists those that there are.

    Examples
    --------
    >>> shard_format("arrow").suffix
    '.arrow'
    >>> shard_format("arow")
    Traceback (most recent call last):
    featureflow.core.errors.ComputeError: export: format 'arow' is not known. Did you mean 'arrow'? Known: ...
    """
    if name not in _NAMES:
        close = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ComputeError(f"export: format {name!r} is not known.{hint} Known: {', '.join(_NAMES)}.")
    found: ShardFormat = import_module(f"featureflow.library.shards.{name}").FORMAT
    return found
