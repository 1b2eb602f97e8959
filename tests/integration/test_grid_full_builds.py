"""`--full` computes everything anew: a version only if that is not what is published, and whole."""

from __future__ import annotations

from pathlib import Path

from integration.grid_projects import append, project, sea, write

from featureflow.tables.verify import verify

SPEC = """
project: climate
sources:
  sst: {path: sst.zarr, format: zarr}
features:
  warm: {source: sst, steps: [{rolling: {dim: time, window: 5, op: mean}}], chunks: {time: 20, lat: 8, lon: 12}}
  warmer: {source: warm, steps: [{derive: {more: "sst + 1"}}], chunks: {time: 20, lat: 8, lon: 12}}
"""


def problems(folder: Path) -> tuple[str, ...]:
    return verify(str(folder / "store/features/warm"), "warm", deep=True).problems


def test_the_same_again_is_no_version(tmp_path: Path) -> None:
    write(tmp_path, sea(40))
    made = project(tmp_path, SPEC)
    made.build()
    again = made.build(full=True)
    assert [table.version for table in again.tables] == [None, None]
    assert [table.slices_computed for table in again.tables] == [8, 8]
    assert [made.table(name).version for name in ("warm", "warmer")] == [1, 1]
    assert made.build().status == "nothing to do"
    append(tmp_path, sea(60), 40)
    assert [table.version for table in made.build(full=True).tables] == [2, 2]
    assert problems(tmp_path) == ()


def test_what_is_damaged_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, sea(40))
    made = project(tmp_path, SPEC)
    made.build(["warm"])
    chunk = max(
        (tmp_path / "store" / "features" / "warm" / "_ff" / "arrays" / "chunks").iterdir(),
        key=lambda p: p.stat().st_size,
    )
    values = bytearray(chunk.read_bytes())
    values[len(values) // 2] ^= 1
    chunk.write_bytes(values)
    assert problems(tmp_path)
    made.build(["warm"], full=True)
    assert made.table("warm").version == 2
    assert problems(tmp_path) == ()
