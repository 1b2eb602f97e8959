"""A small dataset version on disk, cut into files in any way, and what an export of it must hold."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from featureflow.contracts.shard_format import ShardPlace
from featureflow.contracts.shard_manifest import Manifest
from featureflow.core.roles import Roles
from featureflow.execute.executors import Executor, ThreadExecutor
from featureflow.export.run import ExportInput, RowsFile, export_rows
from featureflow.library.shards.registry import shard_format
from featureflow.spec.exports import Export

ROLES = Roles(
    keys=("id",),
    time="t",
    features=("a", "b", "c", "flag", "city", "v", "g"),
    labels=("label",),
    split="split",
    fold=None,
    weight="sample_weight",
)
MASK = 2**64 - 1


def table_of(n: int, seed: int = 0, *, embargo: bool = True, sample: bool = True) -> pa.Table:
    """Rows of a dataset: sorted, with every kind of column."""
    r = np.random.default_rng(seed)
    place = np.arange(n)
    split = np.where(place < 0.6 * n, "train", np.where(place < 0.8 * n, "valid", "test")).astype(object)
    if embargo:
        split[(place >= 0.55 * n) & (place < 0.6 * n)] = "embargoed"
    label = r.integers(0, 2, n)
    weight = np.ones(n)
    if sample:
        out = (label == 0) & (split == "train") & (r.random(n) < 0.5)
        weight[(label == 0) & (split == "train")] = 2.0
        weight[out] = 0.0
    vectors = r.normal(size=(n, 3))
    grids = r.normal(size=(n, 4, 2)).astype(np.float32)
    return pa.table(
        {
            "id": pa.array(place * 7 - 3),
            "t": pa.array(place * 3_600_000_000, pa.timestamp("us", "UTC")),
            "a": pa.array(place / max(n, 1) + r.normal(size=n) * 1e-3),
            "b": pa.array(r.normal(size=n).astype(np.float32)),
            "c": pa.array(r.integers(-1000, 1000, n), pa.int32()),
            "flag": pa.array(r.random(n) < 0.3),
            "city": pa.array([("é", "", "Zürich", "x" * 40)[k] for k in r.integers(0, 4, n)], pa.string()),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 3),
            "g": pa.FixedSizeListArray.from_arrays(
                pa.FixedSizeListArray.from_arrays(pa.array(grids.reshape(-1)), 2), 4
            ),
            "label": pa.array(label),
            "split": pa.array(split.tolist(), pa.string()),
            "sample_weight": pa.array(weight),
        }
    )


def write_version(
    table: pa.Table,
    folder: Path,
    cuts: tuple[int, ...] = (),
    *,
    row_group: int = 1000,
    roles: Roles = ROLES,
    names: dict[str, str] | None = None,
    **fields: Any,
) -> ExportInput:
    """Write a table as Parquet files cut at these rows."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = [0, *cuts, table.num_rows]
    files = []
    for number, (start, stop) in enumerate(pairwise(edges)):
        path = folder / f"rows-{number}.parquet"
        pq.write_table(table.slice(start, stop - start), path, row_group_size=row_group)
        files.append(RowsFile(str(path), stop - start, start))
    names = {name: name for name in table.schema.names if name != roles.split} if names is None else names
    return ExportInput("d", 1, "hash", tuple(files), table.schema, roles, names, **fields)


def options(**given: Any) -> Export:
    """Export's options, spelled as in a spec."""
    return Export.model_validate(given)


def export(
    rows: ExportInput,
    folder: Path,
    *,
    executor: Executor | None = None,
    replace: bool = False,
    on_progress: Any = None,
    **given: Any,
) -> Manifest:
    """Export on two threads; scratch lies beside the folder."""
    threads = executor or ThreadExecutor(2)
    try:
        return export_rows(
            rows,
            options(**given),
            str(folder),
            executor=threads,
            scratch=str(folder.parent / "scratch"),
            replace=replace,
            on_progress=on_progress,
        )
    finally:
        if executor is None:
            threads.close()


def hashes(manifest: Manifest) -> dict[str, str]:
    """Hash of every file of every shard."""
    return {
        file.path: file.xxh3_64
        for shards in manifest.splits.values()
        for shard in shards
        for file in shard.files
    }


def read_split(manifest: Manifest, folder: Path, split: str) -> pa.Table:
    """All rows of a split in the order of its shards, through the format's own reader."""
    form, schema = shard_format(manifest.format), manifest.schema
    tables = [schema.empty_table()]
    shards, first = manifest.splits[split], 0
    total = sum(shard.rows for shard in shards)
    for number, shard in enumerate(shards):
        files = {file.path: (folder / file.path).read_bytes() for file in shard.files}
        place = ShardPlace(shard.stem, number, len(shards), first, total)
        tables.append(form.decode(files, place, shard.entry, schema, manifest.options))
        first += shard.rows
    return pa.concat_tables(tables)


def start_of(seed: int) -> int:
    """The additive constant of a seed, as `kernels.hashing` documents its hashes; in plain integers."""
    x = (seed * 0x9E3779B97F4A7C15 + 0x5851F42D4C957F2D) & MASK
    x ^= x >> 32
    return x * 0xD6E8FEB86659FD93 & MASK


def mixed(position: int, seed: int) -> int:
    """MurmurHash3's finalizer of a position, in plain integers."""
    x = (position + start_of(seed)) & MASK
    x ^= x >> 33
    x = x * 0xFF51AFD7ED558CCD & MASK
    x ^= x >> 33
    x = x * 0xC4CEB9FE1A85EC53 & MASK
    return x ^ (x >> 33)


def expected_positions(table: pa.Table, split: str, seed: int | None) -> list[int]:
    """Which rows of the table a split's shards hold, in order; row by row in Python."""
    rows = [
        place
        for place, (name, weight) in enumerate(
            zip(table["split"].to_pylist(), table["sample_weight"].to_pylist(), strict=True)
        )
        if name == split and not (name == "train" and weight == 0.0)
    ]
    return rows if seed is None else sorted(rows, key=lambda place: mixed(place, seed))
