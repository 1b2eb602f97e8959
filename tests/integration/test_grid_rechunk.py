"""A source whose stored chunks lie across the boxes goes through scratch once; the result is the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from integration.grid_projects import digests, project, sea, stored, write
from unit.execute.grids.fake_grids import FakeCube, values

from featureflow.core.errors import ComputeError
from featureflow.execute.grids import rechunk_plan, tasks
from featureflow.execute.grids.rechunking import Rechunk, SpilledCube, slab_path, slabs_of
from featureflow.observe.grids import describe_grid, grid_facts

SPEC = """
project: climate
sources:
  sst: {path: sst.zarr, format: zarr}
features:
  usual:
    description: What ninety days were like, in columns.
    source: sst
    variables: [sst]
    steps:
      - {rolling: {dim: time, window: 30, op: mean}}
      - {rolling: {dim: lat, window: 3, op: mean}}
    chunks: {time: 190, lat: 4, lon: 6}
"""
ONE_A_DAY = {"time": 1, "lat": 16, "lon": 24}


def make_eager(patch: pytest.MonkeyPatch) -> None:
    """Small cubes are worth it, and tasks take one chunk each."""
    patch.setattr(rechunk_plan, "WORTH_BYTES", 1)
    patch.setattr(rechunk_plan, "PIECE_BYTES", 1)
    patch.setattr(rechunk_plan, "SLAB_BYTES", 20 * 16 * 24 * 4)
    patch.setattr(tasks, "_candidates", lambda _: [(1, 1, 1)])


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """See `make_eager`."""
    make_eager(monkeypatch)


def folder_of(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    write(folder, sea(190), stored=ONE_A_DAY)
    return folder


def left(folder: Path) -> list[str]:
    """What there is below the spill folder of scratch."""
    return [str(path) for path in (folder / "scratch" / "spill").rglob("*")]


def test_two_passes_make_the_bytes_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, spilled = folder_of(tmp_path, "plain"), folder_of(tmp_path, "spilled")
    one = project(plain, SPEC)
    assert one.plan().grids[0].plan.rechunk is None  # not worth it
    one.build()
    make_eager(monkeypatch)
    two = project(spilled, SPEC)
    plan = two.plan().grids[0].plan
    assert plan.rechunk is not None
    assert len(plan.rechunk.slabs) == 10
    assert plan.estimate["bytes_rechunked"] == 190 * 16 * 24 * 4
    assert plan.estimate["bytes_read"] == plan.estimate["bytes_touched"]
    shown = dict(grid_facts(describe_grid(plan)))
    assert "10 tasks before" in shown["rechunk"]
    seen = []
    read = SpilledCube.read

    def counted(self: SpilledCube, *given: Any) -> xr.Dataset:
        seen.append(1)
        return read(self, *given)

    monkeypatch.setattr(SpilledCube, "read", counted)
    two.build()
    assert len(seen) == len(plan.cut.boxes)
    assert digests(two.table("usual")) == digests(one.table("usual"))
    assert left(spilled) == []
    expected = sea(190).sst.rolling(time=30).mean().rolling(lat=3).mean()
    np.testing.assert_allclose(stored(two.table("usual")).sst, expected, rtol=1e-5)


def test_nothing_is_left_after_a_failure(
    tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path, "failed")

    def broken(self: Any, *_: Any) -> Any:
        raise ComputeError(f"{len(left(folder))} files are there")

    with monkeypatch.context() as patch:
        patch.setattr(SpilledCube, "read", broken)
        with pytest.raises(ComputeError, match="11 files are there"):  # ten slabs, and their folder
            project(folder, SPEC).build()
    assert left(folder) == []
    assert project(folder, SPEC).build().status == "done"


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import pytest
from featureflow.execute.grids import rechunking
from integration.grid_projects import project
from integration.test_grid_rechunk import SPEC, make_eager
make_eager(pytest.MonkeyPatch())
rechunking.SpilledCube.read = lambda *_: os._exit(9)
project(Path(sys.argv[1]), SPEC, workers=4).build()
"""


def test_what_a_killed_build_leaves_goes_with_the_next_one(tmp_path: Path, eager: None) -> None:
    folder = folder_of(tmp_path, "killed")
    tests = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(tests)], env=os.environ)
    assert done.returncode == 9
    assert len(left(folder)) == 11
    assert project(folder, SPEC).build().status == "done"
    assert left(folder) == []
    other = folder_of(tmp_path, "whole")
    project(other, SPEC).build()
    assert digests(project(folder, SPEC).table("usual")) == digests(project(other, SPEC).table("usual"))


def test_plans_say_why_chunks_are_decoded_again(
    tmp_path: Path, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path, "full")
    monkeypatch.setattr(rechunk_plan, "free_bytes", lambda _: 1000)
    plan = project(folder, SPEC).plan().grids[0].plan
    assert plan.rechunk is None
    assert "1.0 kB are free" in describe_grid(plan)["notes"][-1]
    site = project(folder, SPEC).plan().grids[0].site
    site.exchange = "local"
    made, notes = rechunk_plan.plan_rechunk(
        plan.grid, plan.cubes["sst"], plan.naming.pieces["sst"], plan.cut.boxes, site
    )
    assert made is None
    assert "workers share" in notes[-1]


@pytest.mark.slow
def test_workers_that_share_scratch_make_the_same(tmp_path: Path, eager: None) -> None:
    distributed = pytest.importorskip("distributed")
    here, there = folder_of(tmp_path, "threads"), folder_of(tmp_path, "cluster")
    project(here, SPEC).build()
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            host="127.0.0.1",
            memory_limit="1GB",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        made = project(there, SPEC, client=client, workers=None, scheduler=None)
        report = made.build()
    assert "usual: rechunk" in {stage.name for stage in report.stages}
    assert digests(made.table("usual")) == digests(project(here, SPEC).table("usual"))
    assert left(there) == []


def test_uncompressed_chunks_are_read_as_they_are(tmp_path: Path, eager: None) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    encoding = {"sst": {"chunks": tuple(ONE_A_DAY.values()), "compressors": None}}
    sea(190).to_zarr(folder / "sst.zarr", encoding=encoding, consolidated=False)
    assert project(folder, SPEC).plan().grids[0].plan.rechunk is None


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_boxes_read_what_the_source_has(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    sizes = {dim: data.draw(st.integers(1, 12), label=dim) for dim in ("time", "lat", "lon")}
    chunks = {dim: data.draw(st.integers(1, n)) for dim, n in sizes.items()}
    cube = FakeCube(values(sizes, missing=0.2)[["sst"]], chunks)

    def box() -> dict[str, tuple[int, int]]:
        lows = {dim: data.draw(st.integers(0, n - 1)) for dim, n in sizes.items()}
        return {dim: (low, data.draw(st.integers(low + 1, sizes[dim]))) for dim, low in lows.items()}

    boxes = [box() for _ in range(data.draw(st.integers(1, 4)))]
    edges = {dim: tuple(sorted({end for one in boxes for end in one[dim]})) for dim in sizes}
    sst = cube.outline.sst
    bare = Rechunk({"sst": (sst.dims, sst.dtype)}, edges, frozenset(), (), 0, 1.0, 0)
    tiles = frozenset(cell for one in boxes for cell in bare.touching(one))
    slabs = slabs_of(cube.chunks, sizes, 4, data.draw(st.integers(1, 4000)))
    assert sum(np.prod([high - low for low, high in slab.values()]) for slab in slabs) == np.prod(
        [*sizes.values()]
    )
    needed = tuple(slab for slab in slabs if not tiles.isdisjoint(bare.touching(slab)))
    rechunk = Rechunk({"sst": (sst.dims, sst.dtype)}, edges, tiles, needed, 0, 1.0, 0)
    folder = tmp_path_factory.mktemp("slabs")
    whole = {dim: (0, n) for dim, n in sizes.items()}
    full = cube.read(whole, ["sst"]).sst
    for number, slab in enumerate(needed):
        with open(slab_path(str(folder), number), "wb") as file:
            for _, _, at, part in rechunk.pieces(slab):
                assert file.tell() == at
                cut = full.isel({dim: slice(*span) for dim, span in part.items()})
                file.write(cut.transpose(*sst.dims).values.tobytes())
    made = SpilledCube(cube, rechunk, str(folder))
    for one in [*boxes, box()]:  # the last one may not be there
        found = made.read(one, ["sst"]).sst
        wanted = full.isel({dim: slice(*span) for dim, span in one.items()}).transpose(*found.dims)
        assert found.dtype == wanted.dtype
        assert found.values.tobytes() == wanted.values.tobytes()


def test_a_lost_file_is_an_error(tmp_path: Path) -> None:
    cube = FakeCube(values({"time": 4, "lat": 2, "lon": 2})[["sst"]], {"time": 4})
    box = {"time": (0, 4), "lat": (0, 2), "lon": (0, 2)}
    sst = cube.outline.sst
    rechunk = Rechunk(
        {"sst": (sst.dims, sst.dtype)},
        dict(box),
        frozenset([(0, 0, 0)]),
        (box,),
        0,
        1.0,
        0,
    )
    with pytest.raises(ComputeError, match="is gone"):
        SpilledCube(cube, rechunk, str(tmp_path)).read(box, ["sst"])
    Path(slab_path(str(tmp_path), 0)).write_bytes(b"short")
    with pytest.raises(ComputeError, match="shorter"):
        SpilledCube(cube, rechunk, str(tmp_path)).read(box, ["sst"])
    assert isinstance(cube.read(box, ["sst"]), xr.Dataset)
