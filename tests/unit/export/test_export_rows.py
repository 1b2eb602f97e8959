"""Exported rows are those of the dataset, in the documented order, with their values; and they balance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from unit.export.small_dataset import (
    ROLES,
    expected_positions,
    export,
    hashes,
    read_split,
    table_of,
    write_version,
)

from featureflow.core.roles import Roles

N = 2500
SPLITS = ("train", "valid", "test")


def values(column: pa.ChunkedArray) -> list[object]:
    return column.to_pylist()


def narrowed(column: list[object]) -> list[object]:
    def one(value: object) -> object:
        return [one(v) for v in value] if isinstance(value, list) else float(np.float32(value))  # type: ignore[arg-type]

    return [one(value) for value in column]


@pytest.mark.parametrize("seed", [None, 0, 7])
@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_rows_order_and_values(tmp_path: Path, form: str, seed: int | None) -> None:
    table = table_of(N)
    rows = write_version(table, tmp_path / "v", (900, 1000, 2499), row_group=300)
    shuffle = False if seed is None else {"seed": seed}
    manifest = export(rows, tmp_path / "out", format=form, shuffle=shuffle, shard_size=12_000)
    assert list(manifest.splits) == list(SPLITS)
    assert all(len(shards) > 2 for shards in manifest.splits.values())
    for split in SPLITS:
        sizes = [shard.rows for shard in manifest.splits[split]]
        assert max(sizes) - min(sizes) <= 1
        found = read_split(manifest, tmp_path / "out", split)
        wanted = table.take(expected_positions(table, split, seed)).drop_columns(["split"])
        assert found.schema.names == wanted.schema.names
        for name in wanted.schema.names:
            expected = values(wanted[name])
            if name in {"a", "v", "sample_weight"}:
                expected = narrowed(expected)
            assert values(found[name]) == expected, (split, name)


def test_types_and_roles_of_columns(tmp_path: Path) -> None:
    rows = write_version(table_of(50), tmp_path / "v")
    manifest = export(rows, tmp_path / "out")
    found = {c.name: (c.dtype, c.shape, c.role) for c in manifest.columns}
    assert found == {
        "id": ("int64", (), "key"),
        "t": ("timestamp[us, tz=UTC]", (), "time"),
        "a": ("float", (), "feature"),
        "b": ("float", (), "feature"),
        "c": ("int32", (), "feature"),
        "flag": ("bool", (), "feature"),
        "city": ("string", (), "feature"),
        "v": ("float", (3,), "feature"),
        "g": ("float", (4, 2), "feature"),
        "label": ("int64", (), "label"),
        "sample_weight": ("float", (), "weight"),
    }
    assert manifest.roles.split is None
    assert manifest.roles.keys == ("id",)
    assert manifest.roles.weight == "sample_weight"
    assert manifest.schema.names == [c.name for c in manifest.columns]


def test_rows_balance(tmp_path: Path) -> None:
    table = table_of(N)
    manifest = export(write_version(table, tmp_path / "v"), tmp_path / "out", shard_size=12_000)
    splits, weights = np.array(table["split"].to_pylist()), table["sample_weight"].to_numpy()
    embargoed, out = int((splits == "embargoed").sum()), int((weights == 0).sum())
    assert embargoed > 0 and out > 0
    assert manifest.rows == {
        "in": N,
        "kept": N - embargoed - out,
        "embargoed": embargoed,
        "sampled_out": out,
        "unlabelled": 0,
    }
    assert sum(s.rows for shards in manifest.splits.values() for s in shards) == manifest.rows["kept"]


def test_weight_zero_is_left_out_of_train_only(tmp_path: Path) -> None:
    table = table_of(100, sample=False)
    weight = np.where(np.array(table["split"].to_pylist()) == "train", 1.0, 0.0)
    table = table.set_column(table.schema.get_field_index("sample_weight"), "sample_weight", pa.array(weight))
    manifest = export(write_version(table, tmp_path / "v"), tmp_path / "out")
    assert manifest.rows["sampled_out"] == 0
    assert read_split(manifest, tmp_path / "out", "test").num_rows == 20


def test_rows_without_any_label_are_left_out(tmp_path: Path) -> None:
    table = table_of(100, sample=False, embargo=False)
    label = pa.array([None if i >= 90 else i % 2 for i in range(100)], pa.int64())
    table = table.set_column(table.schema.get_field_index("label"), "label", label)
    rows = write_version(table, tmp_path / "v", (33,))
    manifest = export(rows, tmp_path / "out", shuffle=False)
    assert manifest.rows == {"in": 100, "kept": 90, "embargoed": 0, "sampled_out": 0, "unlabelled": 10}
    assert read_split(manifest, tmp_path / "out", "test")["id"].to_pylist() == [
        i * 7 - 3 for i in range(80, 90)
    ]
    filled = export(rows, tmp_path / "filled", shuffle=False, fill={"label": -1})
    assert filled.rows["kept"] == 100


def test_a_dataset_without_splits_is_all(tmp_path: Path) -> None:
    table = table_of(100, sample=False).drop_columns(["split"])
    rows = write_version(table, tmp_path / "v", roles=replace(ROLES, split=None))
    manifest = export(rows, tmp_path / "out", shuffle=False)
    assert list(manifest.splits) == ["all"]
    assert read_split(manifest, tmp_path / "out", "all")["id"].to_pylist() == table["id"].to_pylist()
    assert json.loads((tmp_path / "out/stats.json").read_text())["fitted_on"] == "all"


def test_exported_names_and_no_keys(tmp_path: Path) -> None:
    table = table_of(40)
    names = {"a": "x__raw", "b": "a", "label": "label", "id": "id", "t": "t"}
    rows = write_version(table, tmp_path / "v", names=names)
    manifest = export(rows, tmp_path / "out", keys=False, shuffle=False)
    assert [(c.name, c.role) for c in manifest.columns] == [
        ("x__raw", "feature"),
        ("a", "feature"),
        ("label", "label"),
    ]
    assert manifest.roles.keys == ()
    found = read_split(manifest, tmp_path / "out", "test")
    positions = expected_positions(table, "test", None)
    assert found["a"].to_pylist() == table["b"].take(positions).to_pylist()


def test_a_split_without_rows_and_a_single_row(tmp_path: Path) -> None:
    table = table_of(10).slice(9, 1)
    rows = write_version(table, tmp_path / "v", splits=("train", "valid", "test"))
    manifest = export(rows, tmp_path / "out")
    assert {name: len(shards) for name, shards in manifest.splits.items()} == {
        "train": 0,
        "valid": 0,
        "test": 1,
    }
    assert read_split(manifest, tmp_path / "out", "test")["id"].to_pylist() == [60]
    assert read_split(manifest, tmp_path / "out", "train").num_rows == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md",
        "manifest.json",
        "schema.json",
        "stats.json",
        "test",
    ]


def test_no_rows_at_all(tmp_path: Path) -> None:
    table = table_of(10).slice(0, 0)
    manifest = export(write_version(table, tmp_path / "v", splits=("train", "test")), tmp_path / "out")
    assert manifest.rows["in"] == 0
    assert manifest.splits == {"train": (), "test": ()}


def test_a_seed_moves_nearly_every_row(tmp_path: Path) -> None:
    table = table_of(N)
    rows = write_version(table, tmp_path / "v")
    ids = []
    for seed in (0, 1):
        manifest = export(rows, tmp_path / f"out{seed}", shuffle={"seed": seed}, shard_size=12_000)
        ids.append(read_split(manifest, tmp_path / f"out{seed}", "train")["id"].to_numpy())
    assert sorted(ids[0]) == sorted(ids[1])
    assert (ids[0] != ids[1]).mean() > 0.99
    assert hashes(manifest) != {}


def test_shuffled_batches_are_as_good_as_drawn_at_random(tmp_path: Path) -> None:
    """Sorted input: the spread of batch means relative to independent draws; an unshuffled order gives 30."""
    n, batch = 60_000, 100
    table = table_of(10).slice(0, 0)
    table = pa.table(
        {"a": pa.array(np.arange(n, dtype=np.float64)), "label": pa.array(np.zeros(n, np.int64))}
    )
    rows = write_version(table, tmp_path / "v", (10_000,), roles=Roles(features=("a",), labels=("label",)))
    ratios = {}
    for shuffle in ({"seed": 3}, False):
        folder = tmp_path / f"out{bool(shuffle)}"
        manifest = export(rows, folder, shuffle=shuffle, shard_size=64_000)
        found = read_split(manifest, folder, "all")["a"].to_numpy()
        means = found.reshape(-1, batch).mean(axis=1)
        ratios[bool(shuffle)] = means.std() / (found.std() / np.sqrt(batch))
    assert 0.9 < ratios[True] < 1.1
    assert ratios[False] > 5
