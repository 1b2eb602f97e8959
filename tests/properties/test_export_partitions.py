"""Shards are the same bytes however the rows are cut into files and row groups, and whoever runs the tasks."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.export.small_dataset import export, hashes, table_of, write_version

from featureflow.execute.clusters.dask_executor import DaskExecutor
from featureflow.execute.executors import ThreadExecutor
from featureflow.export import survey

N = 1200
TABLE = table_of(N, seed=5)
#: The same rows with nulls, so that fills, indicators and exact statistics take part.
HOLES = TABLE.set_column(
    TABLE.schema.get_field_index("a"),
    "a",
    pa.array([None if i % 11 == 0 else v for i, v in enumerate(TABLE["a"].to_pylist())]),
)
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"shard_size": 9_000},
    "order": {"shard_size": 9_000, "shuffle": False},
    "baked": {
        "shard_size": 9_000,
        "normalize": {"apply": "bake"},
        "layout": "matrix",
        "fill": {"a": 0.5},
        "indicator": "a",
        "shuffle": {"seed": 9},
    },
}


def everything(folder: Path) -> dict[str, bytes]:
    """All bytes of an export; the manifest says nothing about the files that were read."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """One file, one row group, one thread."""
    found = {}
    for way, given_options in WAYS.items():
        folder = tmp_path_factory.mktemp(way)
        rows = write_version(HOLES if way == "baked" else TABLE, folder / "v", row_group=N)
        executor = ThreadExecutor(1)
        export(rows, folder / "out", executor=executor, **given_options)
        executor.close()
        found[way] = everything(folder / "out")
        assert len(found[way]) > 8
    return found


@settings(max_examples=12)
@given(
    way=st.sampled_from(sorted(WAYS)),
    cuts=st.lists(st.integers(0, N), max_size=5),
    row_group=st.sampled_from([37, 200, 1000]),
    chunk_bytes=st.sampled_from([1, 20_000, 10**9]),
    threads=st.integers(1, 3),
    backwards=st.booleans(),
)
def test_any_partitioning_gives_the_same_bytes(
    references: dict[str, dict[str, bytes]],
    way: str,
    cuts: list[int],
    row_group: int,
    chunk_bytes: int,
    threads: int,
    backwards: bool,
) -> None:
    table = HOLES if way == "baked" else TABLE
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(survey, "CHUNK_BYTES", chunk_bytes)
        folder = Path(name)
        rows = write_version(table, folder / "v", tuple(sorted(cuts)), row_group=row_group)
        if backwards:
            from dataclasses import replace

            rows = replace(rows, files=rows.files[::-1])
        executor = ThreadExecutor(threads)
        export(rows, folder / "out", executor=executor, **WAYS[way])
        executor.close()
        assert everything(folder / "out") == references[way]


@pytest.mark.parametrize("way", ["baked"])
def test_processes_of_a_cluster_give_the_same_bytes(
    references: dict[str, dict[str, bytes]], tmp_path: Path, way: str
) -> None:
    """Two worker processes behind a TCP address, each with its own memory."""
    from distributed import Client, LocalCluster

    rows = write_version(HOLES, tmp_path / "v", (100, 700), row_group=90)
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=str(tmp_path / "dask"),
        ) as cluster,
        Client(cluster.scheduler_address, set_as_default=False) as client,
    ):
        executor = DaskExecutor(client)
        manifest = export(rows, tmp_path / "out", executor=executor, **WAYS[way])
        executor.close()
    assert everything(tmp_path / "out") == references[way]
    assert len(hashes(manifest)) == sum(len(shards) for shards in manifest.splits.values())


def test_test_rows_change_neither_train_shards_nor_statistics(tmp_path: Path) -> None:
    changed = TABLE.set_column(
        TABLE.schema.get_field_index("b"),
        "b",
        pa.array(
            [
                v if split == "train" else v * 1000 + 1
                for v, split in zip(TABLE["b"].to_pylist(), TABLE["split"].to_pylist(), strict=True)
            ],
            pa.float32(),
        ),
    )
    made = {}
    for name, table in (("before", TABLE), ("after", changed)):
        folder = tmp_path / name
        export(write_version(table, folder / "v"), folder / "out", **{**WAYS["baked"], "indicator": []})
        made[name] = everything(folder / "out")
    before, after = made["before"], made["after"]
    assert before["stats.json"] == after["stats.json"]
    train = [path for path in before if path.startswith("train/")]
    assert len(train) > 2
    assert all(before[path] == after[path] for path in train)
    assert all(before[path] != after[path] for path in before if path.startswith("test/"))


def test_statistics_are_those_of_numpy_on_train_rows(tmp_path: Path) -> None:
    import numpy as np

    export(write_version(TABLE, tmp_path / "v", (500,)), tmp_path / "out", float="float64")
    stats = json.loads((tmp_path / "out/stats.json").read_text())
    splits = np.array(TABLE["split"].to_pylist())
    weights = TABLE["sample_weight"].to_numpy()
    kept = (splits == "train") & (weights > 0)
    for name in ("a", "b", "c", "v", "g", "flag"):
        values = np.array(TABLE[name].to_pylist(), np.float64)[kept]
        entry = stats["columns"][name]
        assert entry["count"] == values.size
        assert entry["mean"] == pytest.approx(values.mean(), rel=1e-12, abs=1e-15)
        assert entry["std"] == pytest.approx(values.std(), rel=1e-12)
        assert (entry["min"], entry["max"], entry["nulls"]) == (values.min(), values.max(), 0)
    labels = TABLE["label"].to_numpy()
    for split in ("train", "valid", "test"):
        mine = (splits == split) & ((weights > 0) | (split != "train"))
        assert stats["labels"]["label"][split] == {
            "0": int((labels[mine] == 0).sum()),
            "1": int((labels[mine] == 1).sum()),
        }
