"""The folder: what is beside the shards, and what happens if something is there already."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash
import yaml
from unit.export.small_dataset import export, hashes, read_split, table_of, write_version
from unit.export.small_dataset import options as spelled

from featureflow.contracts.shard_manifest import Manifest
from featureflow.core.errors import ComputeError, PlanError, TableError
from featureflow.core.roles import Roles
from featureflow.execute.executors import ThreadExecutor
from featureflow.export.run import RowsFile, export_rows


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_manifest_on_disk(tmp_path: Path) -> None:
    rows = write_version(table_of(300), tmp_path / "v")
    out = tmp_path / "out"
    manifest = export(rows, out, shard_size=5_000, shuffle={"seed": 4})
    assert Manifest.from_json((out / "manifest.json").read_bytes(), place="x") == manifest
    assert (manifest.dataset, manifest.version, manifest.definition_hash) == ("d", 1, "hash")
    assert (manifest.format, manifest.shuffle) == ("arrow", 4)
    there = everything(out)
    for shards in manifest.splits.values():
        for shard in shards:
            for file in shard.files:
                assert len(there[file.path]) == file.bytes
                assert xxhash.xxh3_64(there[file.path]).hexdigest() == file.xxh3_64
    assert set(there) == {*hashes(manifest), "manifest.json", "schema.json", "stats.json", "README.md"}
    assert list(there)[:1] == ["README.md"]
    first = next(iter(hashes(manifest)))
    assert first == f"train/part-00000-of-{len(manifest.splits['train']):05d}.arrow"
    assert list((tmp_path / "scratch/export").iterdir()) == []


def test_schema_and_statistics(tmp_path: Path) -> None:
    table = table_of(300)
    rows = write_version(table, tmp_path / "v")
    manifest = export(rows, tmp_path / "out", layout="matrix")
    schema = json.loads((tmp_path / "out/schema.json").read_text())
    assert schema["definition_hash"] == "hash"
    x = next(c for c in schema["columns"] if c["name"] == "x")
    assert x == {
        "name": "x",
        "dtype": "float",
        "shape": [4],
        "role": "feature",
        "names": ["a", "b", "c", "flag"],
    }
    stats = json.loads((tmp_path / "out/stats.json").read_text())
    assert stats["fitted_on"] == "train"
    assert stats["rows"] == manifest.rows
    assert stats["splits"] == {name: sum(s.rows for s in shards) for name, shards in manifest.splits.items()}
    assert stats["columns"]["t"]["min"] == "1970-01-01 00:00:00.000000Z"
    assert stats["columns"]["city"] == {"nulls": 0}


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_the_card_names_every_split_and_its_files(tmp_path: Path, form: str) -> None:
    rows = write_version(table_of(300), tmp_path / "v", splits=("train", "valid", "test", "hold-out"))
    export(rows, tmp_path / "out", format=form)
    text = (tmp_path / "out/README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    (config,) = header["configs"]
    found = {entry["split"]: sorted((tmp_path / "out").glob(entry["path"])) for entry in config["data_files"]}
    assert set(found) == {"train", "valid", "test"}, "a split without files would make readers fail"
    for split, paths in found.items():
        assert paths == sorted((tmp_path / "out" / split).iterdir())
    assert "| hold-out | 0 | 0 |" in text
    assert "embargoed" in text and "sampled_out" in text


def test_the_same_export_again_does_nothing(tmp_path: Path) -> None:
    rows = write_version(table_of(100), tmp_path / "v")
    first = export(rows, tmp_path / "out")
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")}
    stages: list[str] = []
    again = export(rows, tmp_path / "out", on_progress=lambda stage, *_: stages.append(stage))
    assert again == first
    assert stages == []
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*")} == times
    elsewhere = export(rows, tmp_path / "out", path="somewhere/else")
    assert elsewhere == first, "where shards go is no part of what they are"


@pytest.mark.parametrize(
    "changed",
    [{"shuffle": {"seed": 1}}, {"format": "parquet"}, {"shard_size": 5_000}, {"keys": False}],
    ids=lambda c: next(iter(c)),
)
def test_another_export_in_the_folder_is_refused_or_replaced(tmp_path: Path, changed: dict) -> None:
    rows = write_version(table_of(100), tmp_path / "v")
    export(rows, tmp_path / "out")
    before = everything(tmp_path / "out")
    with pytest.raises(TableError, match=r"holds shards already.*other options.*another `path`"):
        export(rows, tmp_path / "out", **changed)
    assert everything(tmp_path / "out") == before
    manifest = export(rows, tmp_path / "out", replace=True, **changed)
    fresh = export(rows, tmp_path / "fresh", **changed)
    assert everything(tmp_path / "out") == everything(tmp_path / "fresh")
    assert manifest == fresh


def test_another_version_in_the_folder_is_refused(tmp_path: Path) -> None:
    rows = write_version(table_of(100), tmp_path / "v")
    export(rows, tmp_path / "out")
    for other in (
        replace(rows, version=2),
        replace(rows, definition_hash="other"),
        replace(rows, dataset="e"),
    ):
        with pytest.raises(TableError, match="d@1"):
            export(other, tmp_path / "out")


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    rows = write_version(table_of(10), tmp_path / "v")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("years of work")
    with pytest.raises(TableError, match=r"thesis\.tex"):
        export(rows, tmp_path / "out")
    assert (tmp_path / "out/thesis.tex").read_text() == "years of work"


def test_a_missing_shard_is_noticed(tmp_path: Path) -> None:
    rows = write_version(table_of(100), tmp_path / "v")
    manifest = export(rows, tmp_path / "out")
    path = next(iter(hashes(manifest)))
    (tmp_path / "out" / path).unlink()
    with pytest.raises(TableError, match=path):
        export(rows, tmp_path / "out")
    assert export(rows, tmp_path / "out", replace=True) == manifest
    assert (tmp_path / "out" / path).exists()


def test_a_folder_behind_a_url(tmp_path: Path) -> None:
    import fsspec

    rows = write_version(table_of(300), tmp_path / "v")
    local = export(rows, tmp_path / "out", shard_size=5_000)
    url = "memory://bucket/exports/d/1"
    executor = ThreadExecutor(2)
    for _ in range(2):
        remote = export_rows(
            rows, spelled(shard_size=5_000), url, executor=executor, scratch=str(tmp_path / "scratch")
        )
        assert remote == local
    fs = fsspec.filesystem("memory")
    found = {p.removeprefix("/bucket/exports/d/1/"): fs.cat_file(p) for p in fs.find("/bucket/exports/d/1")}
    assert found == everything(tmp_path / "out")
    with pytest.raises(TableError, match="memory://bucket"):
        export_rows(rows, spelled(), url, executor=executor, scratch=str(tmp_path / "scratch"))
    export_rows(rows, spelled(), url, executor=executor, scratch=str(tmp_path / "scratch"), replace=True)
    executor.close()
    assert len(fs.find("/bucket/exports/d/1")) < len(found)


def test_progress(tmp_path: Path) -> None:
    rows = write_version(table_of(300), tmp_path / "v", (100,))
    seen: list[tuple[str, int, int]] = []
    export(rows, tmp_path / "out", on_progress=lambda *step: seen.append(step), shard_size=10**9)
    assert seen[:3] == [("survey", 0, 2), ("survey", 1, 2), ("survey", 2, 2)]
    assert [step for step in seen if step[0] == "write"] == [("write", n, 3) for n in range(4)]


def test_files_must_be_all_rows_once(tmp_path: Path) -> None:
    rows = write_version(table_of(100), tmp_path / "v", (40,))
    first, second = rows.files
    with pytest.raises(PlanError, match="begins with row 50 of the spine, and should with 40"):
        export(replace(rows, files=(first, replace(second, first_row=50))), tmp_path / "out")
    with pytest.raises(ComputeError, match="has 60 rows, and should have 61"):
        export(replace(rows, files=(first, RowsFile(second.url, 61, 40))), tmp_path / "out")


def test_splits_that_can_be_no_folder(tmp_path: Path) -> None:
    for name in ("a/b", "..", ".hidden", ""):
        table = pa.table({"f": pa.array([1.0]), "split": pa.array([name])})
        rows = write_version(table, tmp_path / "v", roles=Roles(features=("f",), split="split"))
        with pytest.raises(ComputeError, match="can't be the name of a folder"):
            export(rows, tmp_path / "out")
    table = pa.table({"f": pa.array([1.0]), "split": pa.array([None], pa.string())})
    rows = write_version(table, tmp_path / "v", roles=Roles(features=("f",), split="split"))
    with pytest.raises(ComputeError, match="1 rows have no 'split'"):
        export(rows, tmp_path / "out")


def test_options_that_the_format_does_not_know(tmp_path: Path) -> None:
    rows = write_version(table_of(10), tmp_path / "v")
    with pytest.raises(PlanError, match="arrow has no records"):
        export(rows, tmp_path / "out", rows_per_record=4)
    with pytest.raises(PlanError, match="shard_size"):
        export(rows, tmp_path / "out", shard_size="3GB")
    with pytest.raises(ComputeError, match="gzip"):
        export(rows, tmp_path / "out", compression="gzip")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["webdataset", "mds", "tfrecord", "npy", "zarr", "litdata"])
def test_every_format(tmp_path: Path, form: str) -> None:
    """Formats have tests of their own; here: rows go in, are decoded as they were, and the folder is whole."""
    rows = write_version(table_of(400), tmp_path / "v", (150,))
    arrow = export(rows, tmp_path / "arrow")
    manifest = export(rows, tmp_path / "out", format=form, shard_size=6_000)
    assert all(len(shards) > 1 for shards in manifest.splits.values())
    for split in manifest.splits:
        wanted = read_split(arrow, tmp_path / "arrow", split)
        found = read_split(manifest, tmp_path / "out", split)
        assert found.to_pylist() == wanted.to_pylist()
    before = everything(tmp_path / "out")
    export(rows, tmp_path / "again", format=form, shard_size=6_000)
    assert everything(tmp_path / "again") == before


@pytest.mark.parametrize("form", ["webdataset", "mds", "tfrecord", "litdata"])
def test_records_of_several_rows(tmp_path: Path, form: str) -> None:
    rows = write_version(table_of(400), tmp_path / "v", names={"id": "id", "a": "a", "label": "label"})
    arrow = export(rows, tmp_path / "arrow")
    manifest = export(rows, tmp_path / "out", format=form, shard_size=1_000, rows_per_record=16)
    for split, shards in manifest.splits.items():
        assert len(shards) > 1
        assert all(shard.rows % 16 == 0 for shard in shards[:-1])
        wanted = read_split(arrow, tmp_path / "arrow", split)
        assert read_split(manifest, tmp_path / "out", split).to_pylist() == wanted.to_pylist()
