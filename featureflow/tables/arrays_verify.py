"""Whether a version's arrays are there and are what was written."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from featureflow.contracts.cube import Span
from featureflow.core.errors import FeatureflowError
from featureflow.tables.arrays_life import snapshot_of
from featureflow.tables.arrays_reading import checked, open_group
from featureflow.tables.arrays_repository import arrays_url, open_repository, talking_to

#: Chunks that are read at the same time, and requests for a chunk's last byte.
_READERS, _REQUESTS = 4, 32
#: No more problems of a version than this are told one by one.
_TOLD = 20


def verify_arrays(
    table_url: str, version: int, record: Mapping[str, Any], rows: pa.Table, *, deep: bool
) -> Iterator[str]:
    """Problems of a version's arrays, in words.

    Parameters
    ----------
    rows
        The version's rows: one for each variable and chunk.
    deep
        Read every chunk and compare its digest with the row's; else look whether each chunk is listed and its object
        is there and whole.

    Notes
    -----
    Cost: one request a chunk, for its last byte; deep, a full read.
    """
    snapshot = snapshot_of(record)
    if snapshot is None:
        return
    try:
        group: Any = open_group(table_url, snapshot)
        yield from _shape_problems(table_url, version, snapshot, group, rows)
        yield from _coordinate_problems(table_url, snapshot, group, rows)
        look = _digest_problems if deep else _object_problems
        found = look(table_url, snapshot, group, rows)
        yield from itertools.islice(found, _TOLD)
        more = sum(1 for _ in found)
        if more:
            yield f"{arrays_url(table_url)}: and {more:,} more chunks."
    except FeatureflowError as error:
        yield str(error)


def _shape_problems(table_url: str, version: int, snapshot: str, group: Any, rows: pa.Table) -> Iterator[str]:
    """Contradictions between tag, arrays and rows."""
    url, tag = arrays_url(table_url), f"v{version}"
    repository = open_repository(table_url)
    with talking_to(url):
        if tag in repository.list_tags() and repository.lookup_tag(tag) != snapshot:
            yield f"{url}: tag {tag} points to {repository.lookup_tag(tag)}, but the version's snapshot is {snapshot}."
    covered: dict[str, int] = {}
    for name, _, bounds, _ in _chunks(group, rows):
        covered[name] = covered.get(name, 0) + math.prod(high - low for low, high in bounds)
    there = set(group.array_keys())
    for name in sorted(set(rows.column("variable").to_pylist()) - there):
        yield f"{url}: variable {name!r} is not in snapshot {snapshot}."
    for name, values in sorted(covered.items()):
        if values != group[name].size:
            yield f"{table_url}: variable {name!r}: the rows cover {values:,} of {group[name].size:,} values."


def _coordinate_problems(table_url: str, snapshot: str, group: Any, rows: pa.Table) -> Iterator[str]:
    """Coordinates have no rows; they are small, so all of them are read."""
    for name in sorted(set(group.array_keys()) - set(rows.column("variable").to_pylist())):
        try:
            checked(table_url, snapshot, name, lambda array: array[...])
        except FeatureflowError as error:
            yield str(error)


def _chunks(group: Any, rows: pa.Table) -> Iterator[tuple[str, Any, list[Span], str]]:
    """Variable, its array, where the chunk is, its digest; of variables that are there."""
    arrays = {
        name: group[name] for name in set(rows.column("variable").to_pylist()) & set(group.array_keys())
    }
    for row in rows.to_pylist():
        array = arrays.get(row["variable"])
        if array is not None:
            dims = array.metadata.dimension_names or ()
            yield row["variable"], array, [(row[f"{d}_start"], row[f"{d}_stop"]) for d in dims], row["digest"]


def _where(name: str, bounds: Sequence[Span]) -> str:
    return f"variable {name!r}, chunk [{', '.join(f'{low}:{high}' for low, high in bounds)}]"


def _object_problems(table_url: str, snapshot: str, group: Any, rows: pa.Table) -> Iterator[str]:
    from zarr.core.sync import sync

    keys: dict[str, str] = {}
    for name, array, bounds, _ in _chunks(group, rows):
        unit = array.shards or array.chunks
        ranges = [
            range(low // step, -(-high // step)) for (low, high), step in zip(bounds, unit, strict=True)
        ]
        for place in itertools.product(*ranges):
            keys.setdefault(f"{name}/{array.metadata.encode_chunk_key(place)}", _where(name, bounds))
    url = f"{arrays_url(table_url)}: snapshot {snapshot}"
    for where, problem in zip(keys.values(), sync(_look(group.store, list(keys))), strict=True):
        if problem is not None:
            yield f"{url}: {where}: {problem}"


async def _look(store: Any, keys: list[str]) -> list[str | None]:
    """What is wrong with each chunk's object, asked for its last byte."""
    from zarr.abc.store import SuffixByteRequest
    from zarr.buffer import default_buffer_prototype

    turn = asyncio.Semaphore(_REQUESTS)

    async def look(key: str) -> str | None:
        async with turn:
            try:
                found = await store.get(key, default_buffer_prototype(), SuffixByteRequest(1))
            except Exception as error:  # noqa: BLE001  whatever the store says, the chunk can't be read
                return f"its object is missing or shorter than it was ({type(error).__name__})."
        return "is not listed." if found is None else None

    return list(await asyncio.gather(*(look(key) for key in keys)))


def _digest_problems(table_url: str, snapshot: str, group: Any, rows: pa.Table) -> Iterator[str]:
    def problem(chunk: tuple[str, Any, list[Span], str]) -> str | None:
        name, _, bounds, digest = chunk
        where = f"{arrays_url(table_url)}: {_where(name, bounds)}"
        box = tuple(slice(low, high) for low, high in bounds)
        try:
            values = np.ascontiguousarray(checked(table_url, snapshot, name, lambda array: array[box]))
        except FeatureflowError as error:
            return f"{where}: {error}"
        found = xxhash.xxh3_128_hexdigest(values.reshape(-1).view(np.uint8).data)
        return None if found == digest else f"{where}: the values' digest is not the one that was recorded."

    with ThreadPoolExecutor(_READERS) as pool:
        yield from (found for found in pool.map(problem, _chunks(group, rows)) if found)
