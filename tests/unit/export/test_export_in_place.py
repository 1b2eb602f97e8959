"""Patches that are written where they stay: the same shards as through a spill, whatever happens on the way."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import featureflow as ff
from featureflow.core.errors import ComputeError
from featureflow.export import gather, in_place, run, scatter

SPEC = """
project: scans
store: {store}
sources:
  scan: {{path: {folder}/scan.zarr, format: zarr}}
  mask: {{path: {folder}/mask.zarr, format: zarr}}
features:
  grid: {{source: scan, steps: [{{cast: {{a: float32, b: float32}}}}], chunks: {{z: 8, y: 20, x: 32}}}}
  organs: {{source: mask, steps: [{{cast: {{organ: int16}}}}], chunks: {{z: 16, y: 48, x: 48}}}}
datasets:
  cut:
    spine:
      grid: grid
      patch: {{z: 8, y: 16, x: 16}}
      stride: {{z: 4, y: 16, x: 8}}
      labels: {{source: organs, variable: organ, op: patch, as: organ}}
    split: {{by: block, block: {{y: 16}}, train: 0.7, test: rest}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ff.Project]:
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    shape = (20, 48, 50)
    b = rng.normal(size=shape).astype("f4")
    b[3, 5, 7] = np.nan
    scan = xr.Dataset(
        {"a": (("z", "y", "x"), rng.normal(size=shape).astype("f4")), "b": (("z", "y", "x"), b)}
    )
    scan.to_zarr(folder / "scan.zarr", zarr_format=2)
    mask = xr.Dataset({"organ": (("z", "y", "x"), rng.integers(0, 5, shape).astype("i2"))})
    mask.to_zarr(folder / "mask.zarr", zarr_format=2)
    (folder / "p.yaml").write_text(SPEC.format(folder=folder, store=folder / "store"))
    found = ff.Project(folder / "p.yaml", scheduler="threads", workers=2, scratch=folder / "scratch")
    found.build()
    yield found
    shutil.rmtree(folder)


def export(project: ff.Project, path: Path, **options: Any) -> dict[str, bytes]:
    """All files of an export."""
    project.export("cut", {"nulls": "nan", "shard_size": "200kB", "path": str(path), **options})
    return everything(path)


def everything(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def spilled(project: ff.Project, path: Path, **options: Any) -> dict[str, bytes]:
    """The same, through spills alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "placed_columns", lambda _: ())
        return export(project, path, **options)


class Fails:
    """Lets a function fail after so many calls, and from then on: a task is tried again."""

    def __init__(self, real: Any, after: int) -> None:
        self.real, self.left = real, itertools.count(after, -1)

    def __call__(self, *arguments: Any) -> Any:
        if next(self.left) <= 0:
            raise RuntimeError("stopped here")
        return self.real(*arguments)


@pytest.mark.parametrize("form", ["arrow", "npy"])
@pytest.mark.parametrize("shuffle", [False, {"seed": 2}])
def test_shards_are_those_of_spills(project: ff.Project, tmp_path: Path, form: str, shuffle: Any) -> None:
    placed: list[str] = []

    def write(plan: Any, *rest: Any) -> None:
        placed.append(plan.format)
        in_place.write_rows(plan, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scatter, "write_rows", write)
        found = export(project, tmp_path / "a", format=form, shuffle=shuffle)
    assert set(placed) == {form}
    assert found == spilled(project, tmp_path / "b", format=form, shuffle=shuffle)
    assert sum("part-" in name for name in found) >= 6


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"format": "mds"}, ()),
        ({"format": "arrow", "compression": "lz4"}, ()),
        ({"format": "arrow", "layout": "matrix"}, ()),
        ({"format": "arrow", "normalize": {"method": "standard", "apply": "bake"}}, ()),
        ({"format": "arrow"}, ("a", "b", "organ")),
    ],
)
def test_only_what_a_format_stores_as_it_is_goes_in_place(
    project: ff.Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Any,
    expected: tuple[str, ...],
) -> None:
    seen: list[tuple[str, ...]] = []

    def placed(plan: Any) -> tuple[str, ...]:
        seen.append(in_place.placed_columns(plan))
        return seen[-1]

    monkeypatch.setattr(run, "placed_columns", placed)
    export(project, tmp_path / "out", **options)
    assert seen == [expected]


@pytest.mark.parametrize("where", ["write_rows", "finish_shard"])
@pytest.mark.parametrize("after", [0, 3])
def test_an_export_that_stopped_goes_on(project: ff.Project, tmp_path: Path, where: str, after: int) -> None:
    wanted = spilled(project, tmp_path / "wanted")
    out = tmp_path / "out"
    module = scatter if where == "write_rows" else gather
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featureflow.export.patches.CHUNK_BYTES", 200_000)
        patch.setattr(module, where, Fails(getattr(in_place, where), after))
        with pytest.raises(Exception, match="stopped here"):
            export(project, out)
    for name, data in everything(out).items():  # what can be seen is whole
        if "/part-" in name:
            assert data == wanted[name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featureflow.export.patches.CHUNK_BYTES", 200_000)
        assert export(project, out) == wanted


def stop(project: ff.Project, out: Path) -> list[Path]:
    """An export that stopped when some shards had their names; the files that others wait in."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "finish_shard", Fails(in_place.finish_shard, 1))
        with pytest.raises(Exception, match="stopped here"):
            export(project, out)
    hidden = list(out.rglob(".tmp-placed-*"))
    assert hidden
    return hidden


def test_a_file_that_is_gone_is_made_from_the_start(project: ff.Project, tmp_path: Path) -> None:
    wanted = spilled(project, tmp_path / "wanted")
    hidden = stop(project, tmp_path / "out")
    hidden[0].unlink()
    assert export(project, tmp_path / "out") == wanted


def test_a_shard_that_changed_is_made_again(project: ff.Project, tmp_path: Path) -> None:
    wanted = spilled(project, tmp_path / "wanted")
    stop(project, tmp_path / "out")
    shard = next((tmp_path / "out").rglob("part-*"))
    shard.write_bytes(b"")
    assert export(project, tmp_path / "out") == wanted


def test_after_a_crash_of_the_system_nothing_is_taken_for_written(
    project: ff.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = spilled(project, tmp_path / "wanted")
    for path in stop(project, tmp_path / "out"):
        path.write_bytes(bytes(path.stat().st_size))
    monkeypatch.setattr(in_place, "markers", lambda plan: f"{plan.scratch}/placed-another-boot")
    monkeypatch.setattr(scatter, "markers", in_place.markers)
    assert export(project, tmp_path / "out") == wanted


def test_while_another_one_is_on_its_way_spills_are_used(
    project: ff.Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = spilled(project, tmp_path / "wanted")
    held: list[int] = []
    real = in_place.alone

    def other(folder: str) -> Any:
        held.append(os.open(f"{folder}/{in_place._LOCK}", os.O_RDWR | os.O_CREAT))
        fcntl.flock(held[-1], fcntl.LOCK_EX)
        return real(folder)

    monkeypatch.setattr(run, "alone", other)
    monkeypatch.setattr(run, "make_files", lambda *_: pytest.fail("files of the other one"))
    assert export(project, tmp_path / "out") == wanted
    os.close(held[0])


def test_an_error_of_nulls_leaves_no_files(project: ff.Project, tmp_path: Path) -> None:
    with pytest.raises(ComputeError, match="nulls in 1 column: b"):
        export(project, tmp_path / "out", nulls="error")
    assert [Path(name).name for name in everything(tmp_path / "out")] == [".exporting"]
