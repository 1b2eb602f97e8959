"""Versions of a grid's arrays: begin on a base, write chunks in tasks, merge, commit to a branch of the build.

::

    write = begin(table_url, spec, build, base)          # metadata: grown or new arrays, on branch build-<id>
    fork = write.fork()                                  # bytes, for tasks
    done = write_region(fork, region, data)              # in a task, whole chunks only
    write.merge([done, …]); snapshot = write.commit("…") # kept by the branch until the Delta commit names it
    publish(…, record={"arrays": {"snapshot": snapshot, …}})   # the commit; tag v<N> and main follow from it
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from featureflow.contracts.cube import Region
from featureflow.core.errors import TableError
from featureflow.core.meter import waiting_for_store
from featureflow.tables import arrays_layout
from featureflow.tables.arrays_layout import ArraySpec
from featureflow.tables.arrays_repository import (
    BUILD,
    arrays_url,
    commit,
    drop_branch,
    make_tag,
    open_repository,
    point_branch,
    refuse_after_fork,
    talking_to,
)
from featureflow.tables.arrays_seal import inspected, write_seal

if TYPE_CHECKING:
    import icechunk
    import xarray as xr

__all__ = ["ArraySpec", "ArrayWrite", "begin", "open_arrays", "project_arrays", "write_region"]

Chunk = tuple[int, ...]
_LENGTH = struct.Struct("<Q")


def branch_of(build_id: str) -> str:
    """Name of the branch that keeps what a build has committed."""
    return f"build-{build_id}"


@dataclass(frozen=True)
class _Fork:
    """A session for tasks, and the chunks that were written with it."""

    session: icechunk.ForkSession
    written: dict[str, list[Chunk]] = field(default_factory=dict)

    def pack(self) -> bytes:
        """Bytes for another process: no pickle, since what is unpickled may run code; no credentials."""
        state: Any = self.session.__getstate__()
        header = json.dumps(self.written).encode()
        return _LENGTH.pack(len(header)) + header + bytes(state["_session"])

    @classmethod
    def unpack(cls, packed: bytes) -> _Fork:
        """Read what `pack` made."""
        import icechunk

        end = _LENGTH.size + _LENGTH.unpack_from(packed)[0]
        session = icechunk.ForkSession.__new__(icechunk.ForkSession)
        session.__setstate__({"_session": packed[end:]})
        written = json.loads(packed[_LENGTH.size : end])
        return cls(session, {name: [tuple(chunk) for chunk in chunks] for name, chunks in written.items()})


@dataclass
class ArrayWrite:
    """Arrays that a build is writing; what it commits is visible to nobody until a version names it.

    Attributes
    ----------
    table_url, build_id
        Where, and for which build.
    start
        Snapshot with the arrays' new shapes, before any chunk was written.
    empty
        Names of the variables that have nothing of the base.
    """

    table_url: str
    build_id: str
    start: str
    _repository: icechunk.Repository = field(repr=False)
    _session: icechunk.Session = field(repr=False)
    empty: frozenset[str] = frozenset()
    _expected: dict[str, set[Chunk]] = field(default_factory=dict, repr=False)

    def fork(self) -> bytes:
        """A session for tasks, any number of them; holds no credentials. Make it before :meth:`commit`."""
        return _Fork(self._session.fork()).pack()

    def accepts(self, fork: bytes) -> bool:
        """Whether chunks written with a fork of an earlier attempt belong to these arrays.

        They do if the arrays are the same ones, grown or not: a build that lost a race writes no chunk twice.
        """
        given = _Fork.unpack(fork)
        theirs = _nodes(self._repository, given.session.snapshot_id)
        ours = _nodes(self._repository, self.start)
        return all(ours.get(f"/{name}") == theirs[f"/{name}"] for name in given.written)

    def merge(self, forks: Iterable[bytes]) -> None:
        """Take over what tasks wrote.

        Raises
        ------
        TableError
            If two tasks wrote the same chunk.
        """
        loaded = [_Fork.unpack(fork) for fork in forks]
        for one in loaded:
            for name, chunks in one.written.items():
                known = self._expected.setdefault(name, set())
                twice = known.intersection(chunks)
                if twice:
                    raise TableError(f"variable {name!r}: chunk {min(twice)} was written by two tasks.")
                known.update(chunks)
        if loaded:
            with talking_to(arrays_url(self.table_url)):
                self._session.merge(*(one.session for one in loaded))

    def _check_merged(self) -> None:
        """Icechunk drops chunks of an array that is not this one without a word."""
        found = self._session.status().updated_chunks
        for name, chunks in self._expected.items():
            there = {tuple(chunk) for chunk in found.get(f"/{name}", ())}
            if chunks - there:
                raise TableError(
                    f"{arrays_url(self.table_url)}: variable {name!r}: {len(chunks - there)} chunks were written to "
                    "another array of this name. Write them again with a fork of this attempt."
                )

    def commit(self, message: str, metadata: dict[str, Any] | None = None) -> str:
        """Commit what was merged to the build's branch; gives the snapshot, also if nothing was written.

        Raises
        ------
        TableError
            If a task wrote to other arrays than these.
        CommitConflict
            If another process writes for the same build.
        Unreachable
            If the store does not answer.
        """
        self._check_merged()
        snapshot = str(self._session.snapshot_id)
        if self._session.has_uncommitted_changes:
            about = {**(metadata or {}), BUILD: self.build_id}
            snapshot = commit(self.table_url, self._repository, self._session, message, about)
        write_seal(self.table_url, self._repository, snapshot)
        return snapshot

    def checkpoint(self, message: str) -> str:
        """Commit what was merged so far and go on; forks that tasks still have stay good.

        Returns
        -------
        str
            The snapshot, kept by the build's branch as that of `commit` is.
        """
        snapshot = self.commit(message)
        with talking_to(arrays_url(self.table_url)):
            self._session = self._repository.writable_session(branch_of(self.build_id))
        self._expected.clear()
        return snapshot


def begin(table_url: str, spec: ArraySpec, build_id: str, base: str | None) -> ArrayWrite:
    """Prepare arrays for a build: on its branch, with the shapes and coordinates of the spec.

    Parameters
    ----------
    base
        Snapshot of the version that was planned against; its chunks are kept where arrays are the same but larger.
        None for a table without one.

    Raises
    ------
    TableError
        If the spec can't be stored, or the base is not there.

    Notes
    -----
    Calling it again for the same build begins anew. An array is the same if its dimensions, dtype, chunks and shards
    are; any other starts empty, as do arrays that the base lacks.
    """
    import zarr

    from featureflow.tables.arrays_reading import open_arrays as opened

    arrays_layout.check_spec(spec)
    repository = open_repository(table_url, create=True)
    branch = branch_of(build_id)
    url = arrays_url(table_url)
    with talking_to(url):
        point_branch(table_url, repository, branch, base or _root(repository))
        session = repository.writable_session(branch)
        group = zarr.open_group(session.store, mode="a", zarr_format=3)
        stored = None if base is None else opened(table_url, base)
        empty = arrays_layout.prepare(group, spec, stored)
    if session.has_uncommitted_changes:
        commit(table_url, repository, session, "shapes and coordinates", {BUILD: build_id})
        with talking_to(url):
            session = repository.writable_session(branch)
    return ArrayWrite(table_url, build_id, str(session.snapshot_id), repository, session, frozenset(empty))


def _root(repository: icechunk.Repository) -> str:
    """The empty snapshot that a repository begins with."""
    return str(list(repository.ancestry(branch="main"))[-1].id)


def _nodes(repository: icechunk.Repository, snapshot: str) -> dict[str, str]:
    """Identity of each array of a snapshot, by its path."""
    nodes = inspected(repository, snapshot)["nodes"]
    return {node["path"]: node["id"] for node in nodes if node["node_type"] == "array"}


@waiting_for_store("write")
def write_region(fork: bytes, region: Region, data: xr.Dataset) -> bytes:
    """Write a region of whole chunks; runs in tasks, in any process.

    Parameters
    ----------
    fork
        From :meth:`ArrayWrite.fork`, or what an earlier call in this task gave back.
    region
        Counts from the start of the arrays; a dimension that it lacks is written whole.
    data
        Variables with the dtype and attributes of the outline; coordinates are there already and not looked at.

    Raises
    ------
    TableError
        If the region cuts a chunk, or shape or dtype are not those of the arrays.
    """
    import zarr

    refuse_after_fork()
    given = _Fork.unpack(fork)
    written = {name: list(chunks) for name, chunks in given.written.items()}
    with talking_to("arrays"):
        group: Any = zarr.open_group(given.session.store, mode="r+")
        for name in map(str, data.data_vars):
            variable = data[name].variable
            array = group[name].with_config({"write_empty_chunks": True})
            dims = array.metadata.dimension_names or ()
            bounds = arrays_layout.box(dims, array.shape, region)
            unit = array.shards or array.chunks
            arrays_layout.check_aligned(name, bounds, array.shape, unit)
            values = arrays_layout.stored_values(np.asarray(variable.values))
            if (
                variable.dims != dims
                or values.shape != tuple(high - low for low, high in bounds)
                or values.dtype != array.dtype
            ):
                raise TableError(
                    f"variable {name!r}: got {variable.dims} {values.shape} {values.dtype} for the region "
                    f"{dict(zip(dims, bounds, strict=True))} of {array.dtype}."
                )
            array[tuple(slice(low, high) for low, high in bounds)] = values
            written.setdefault(name, []).extend(_chunks_of(bounds, unit))
    return _Fork(given.session, written).pack()


def _chunks_of(bounds: Sequence[tuple[int, int]], unit: Sequence[int]) -> list[Chunk]:
    """Numbers of the chunks (or shards) within bounds."""
    ranges = [range(low // step, -(-high // step)) for (low, high), step in zip(bounds, unit, strict=True)]
    return list(itertools.product(*ranges))


def open_arrays(table_url: str, snapshot: str, *, chunks: Any = None) -> xr.Dataset:
    """Open a snapshot lazily; see :func:`featureflow.tables.arrays_reading.open_arrays`."""
    from featureflow.tables.arrays_reading import open_arrays as opened

    return opened(table_url, snapshot, chunks=chunks)


def project_arrays(table_url: str, version: int, snapshot: str) -> None:
    """Repeat a version's snapshot as tag ``v<version>`` and branch ``main``; the build's branch goes.

    Notes
    -----
    May be done again, by anyone, after any crash: a reader that finds a version without its projection does it.
    """
    repository = open_repository(table_url)
    make_tag(table_url, repository, f"v{version}", snapshot)
    with talking_to(arrays_url(table_url)):
        numbers = [int(tag[1:]) for tag in repository.list_tags() if tag[1:].isdigit() and tag[0] == "v"]
        newest = repository.lookup_tag(f"v{max(numbers)}")
        build = repository.lookup_snapshot(snapshot).metadata.get(BUILD)
    point_branch(table_url, repository, "main", newest)
    if build is not None:
        drop_branch(table_url, repository, branch_of(str(build)))
