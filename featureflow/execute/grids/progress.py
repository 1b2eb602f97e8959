"""What a build of a grid has finished, written down now and then: a build that was killed is not begun anew.

The chunks are in a snapshot that the build's branch keeps; beside it lies the list of their rows. The next build of the
same definition may begin on that snapshot, and takes over every chunk whose name is still right. So does a build that
was finished, and lost the race for the next version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from featureflow.core.errors import FeatureflowError
from featureflow.core.storage import delete, join, list_names, read_bytes, write_atomic
from featureflow.execute.grids.chunk_rows import ChunkRow, rows_of, table_of
from featureflow.plan.grid_nodes import CompiledGrid
from featureflow.tables.layout import PROGRESS

#: A list is written this often: all of what tasks have written since is lost when the build is killed.
EVERY_SECONDS = 30.0
_ABOUT = b"about"
_SUFFIX = ".arrows"


@dataclass(frozen=True, slots=True)
class Progress:
    """Finished chunks, and the snapshot that has them."""

    snapshot: str
    rows: tuple[ChunkRow, ...] = field(repr=False)


def save_progress(url: str, build_id: str, grid: CompiledGrid, snapshot: str, rows: list[ChunkRow]) -> None:
    """Write down what a build has finished, in place of what it wrote before; ``snapshot`` has all of the rows."""
    dims = [str(dim) for dim in grid.outline.sizes]
    about = {**_about(grid), "snapshot": snapshot}
    table = table_of(rows, dims).replace_schema_metadata({_ABOUT: json.dumps(about)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue().to_pybytes()
    write_atomic(_path(url, build_id), hashlib.blake2b(data, digest_size=16).digest() + data)


def find_progress(url: str, grid: CompiledGrid) -> Iterator[Progress]:
    """Find what builds of the same definition finished and did not publish; the latest first."""
    dims = [str(dim) for dim in grid.outline.sizes]
    for name in sorted(list_names(join(url, PROGRESS)), reverse=True):
        try:
            data = read_bytes(join(url, PROGRESS, name))
            if hashlib.blake2b(data[16:], digest_size=16).digest() != data[:16]:
                continue
            with pa.ipc.open_stream(pa.BufferReader(data[16:])) as reader:
                table = reader.read_all()
        except (OSError, pa.ArrowInvalid):
            continue  # as good as none: it only saves work
        about = json.loads(table.schema.metadata[_ABOUT])
        snapshot = about.pop("snapshot")
        if about == _about(grid):
            yield Progress(snapshot, tuple(rows_of(table, dims)))


def is_there(url: str, found: Progress) -> bool:
    """Whether the snapshot can be opened; gc may have taken it."""
    from featureflow.tables.arrays import open_arrays

    try:
        open_arrays(url, found.snapshot)
    except FeatureflowError:
        return False
    return True


def forget_progress(url: str, build_id: str) -> None:
    """Delete a build's list, and those of builds that began before it: its version is newer than what they have.

    Builds that began later may be running.
    """
    for name in list_names(join(url, PROGRESS)):
        if name.removesuffix(_SUFFIX) <= build_id:
            delete(join(url, PROGRESS, name))


def _path(url: str, build_id: str) -> str:
    return join(url, PROGRESS, f"{build_id}{_SUFFIX}")


def _about(grid: CompiledGrid) -> dict[str, object]:
    return {
        "definition": grid.definition_hash,
        "chunks": dict(grid.chunks),
        "shards": None if grid.shards is None else dict(grid.shards),
        "dims": [str(dim) for dim in grid.outline.sizes],
    }
