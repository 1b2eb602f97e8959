"""Single flipped bits, cuts and deletions in every kind of file: what loads is right, or is refused by name."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from faults import small_build
from faults.conftest import Figure

import featureflow as ff
from featureflow.tables import tags

pytestmark = pytest.mark.faults

FORMATS = ("arrow", "parquet", "webdataset", "mds", "tfrecord", "npy", "zarr", "litdata")
DAMAGES = ("cut", "empty", "deleted")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of a table with a tag and states, a dataset with encoders, shards of every format."""
    folder = tmp_path_factory.mktemp("flips")
    spec = str(small_build.write_spec(folder, str(folder / "raw")))
    store = str(folder / "store")
    for day in (0, 1):
        small_build.write_raw(str(folder / "raw"), day)
        small_build.build(spec, store, str(folder / "scratch"))
    tags.set_tag(f"{store}/features/spend", "prod", 1)
    built = ff.Project(spec, store=store, scheduler="threads", workers=2, scratch=folder / "scratch")
    for name in FORMATS:
        options = {
            "format": name,
            "shard_size": 1500,
            "nulls": "nan",
            "keys": False,
            "path": str(folder / name),
        }
        built.export("train", options)
    return folder


def table(folder: Path) -> Any:
    return ff.open(str(folder / "store")).table("spend").to_polars().rows()


def tagged(folder: Path) -> Any:
    return ff.open(str(folder / "store")).table("spend@prod").to_polars().rows()


def statistics(folder: Path) -> Any:
    return ff.open(str(folder / "store")).table("spend").stats.rows()


def filtered(folder: Path) -> Any:
    found = (
        ff.open(str(folder / "store")).table("spend").to_polars(where="card = 2", time=("2026-01-02", None))
    )
    return found.rows()


def dataset(folder: Path) -> Any:
    found = ff.open(str(folder / "store")).dataset("train")
    frame = found.to_polars()
    return frame.rows(), repr(found.encoder.transform(frame.to_pandas())), found.splits


def shards(name: str) -> Callable[[Path], Any]:
    return lambda folder: repr(ff.load_shards(str(folder / name / "train" / "2")).to_arrow().to_pylist())


#: What is damaged (globs), what is done first, what loads it, how many flips.
KINDS: dict[str, tuple[tuple[str, ...], str | None, Callable[[Path], Any], int]] = {
    "table Parquet": (("store/features/spend/day=*/*.parquet",), None, table, 120),
    "table Parquet, filtered": (("store/features/spend/day=*/*.parquet",), None, filtered, 60),
    "projections": (("store/features/spend/_ff/versions/*",), None, table, 60),
    "commits": (("store/features/spend/_delta_log/*.json",), "store/features/spend/_ff/versions", table, 120),
    "records": (("store/features/spend/_ff/records/*",), None, table, 100),
    "statistics": (("store/features/spend/_ff/records/*",), None, statistics, 60),
    "tags": (("store/features/spend/_ff/tags/prod/*",), None, tagged, 40),
    "dataset Parquet": (("store/datasets/train/*.parquet",), None, dataset, 60),
    "encoders and splits": (("store/datasets/train/_ff/records/*.json",), None, dataset, 80),
    "manifests": (("arrow/train/2/manifest.json",), None, shards("arrow"), 100),
    **{
        f"{name} shards": ((f"{name}/train/2/*/**/*", f"{name}/train/2/*.json"), None, shards(name), 40)
        for name in FORMATS
    },
}


def files(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})


@contextmanager
def damaged(path: Path, data: bytes | None) -> Iterator[None]:
    """The file with other bytes, or none, for a moment."""
    good = path.read_bytes()
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("kind", KINDS)
def test_flips(kind: str, project: Path, tmp_path: Path, figure: Figure) -> None:
    patterns, removed, load, n_flips = KINDS[kind]
    folder = project
    if (
        removed is not None
    ):  # what would make reading the damaged file unnecessary, and is made again by reading
        folder = tmp_path / "copy"
        shutil.copytree(project, folder)
    right = load(folder)
    rng = random.Random(kind)
    found = files(folder, patterns)
    assert found
    ended: Counter[str] = Counter()
    sizes = [path.stat().st_size for path in found]
    for i in range(n_flips + len(found) * len(DAMAGES)):
        if i < n_flips:
            path = rng.choices(found, sizes)[0]
            place = rng.randrange(path.stat().st_size)
            good = path.read_bytes()
            wrong: bytes | None = (
                good[:place] + bytes([good[place] ^ 1 << rng.randrange(8)]) + good[place + 1 :]
            )
            how = f"flip at {place}"
        else:
            path, how = found[(i - n_flips) // 3], DAMAGES[(i - n_flips) % 3]
            size = path.stat().st_size
            wrong = {"cut": path.read_bytes()[: rng.randrange(size or 1)], "empty": b"", "deleted": None}[how]
        if removed is not None and wrong is not None:
            shutil.rmtree(folder / removed, ignore_errors=True)
        elif removed is not None:
            load(folder)  # one loss at a time: what the one before left out is made up for
        with damaged(path, wrong):
            try:
                answer = load(folder)
            except ff.FeatureflowError as error:
                # a tag whose only move was deleted is one that there is not
                names = (path.name, str(path.parents[1]), f"@{path.parent.name}: there is no such tag")
                assert any(name in str(error) for name in names), (path, how, error)
                ended["refused"] += 1
                continue
        assert answer == right, (path, how)
        ended["right"] += 1
    assert ended["refused"] >= n_flips // 4
    assert load(folder) == right
    n = ended.total()
    figure(
        "R10",
        f"{kind}: {n} damages ({n_flips} flips), {ended['refused']} refused, {ended['right']} right, 0 silent",
    )


@pytest.mark.parametrize("kind", ["states", "exchange files"])
def test_flips_that_a_build_reads(kind: str, tmp_path: Path, figure: Figure) -> None:
    """What a build takes over from the one before it: the next version is the right one, or an error."""
    spec, raw = str(small_build.write_spec(tmp_path, str(tmp_path / "raw"))), str(tmp_path / "raw")
    store, scratch = tmp_path / "store", tmp_path / "scratch"
    with mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: 3):
        small_build.write_raw(raw, 0)
        small_build.build(spec, str(store), str(scratch))
        small_build.write_raw(raw, 1)
        if kind == "exchange files":  # a build that was stopped before anything but them was finished
            with (
                mock.patch(
                    "featureflow.execute.table_build.compute_run", side_effect=ff.ComputeError("stopped")
                ),
                pytest.raises(ff.ComputeError, match="stopped"),
            ):
                small_build.build(spec, str(store), str(scratch))
        shutil.copytree(tmp_path / "store", tmp_path / "kept")
        shutil.copytree(tmp_path / "scratch", tmp_path / "kept-scratch")
        small_build.build(spec, str(store), str(scratch))
        right = small_build.sight(str(store))
        ended: Counter[str] = Counter()
        rng = random.Random(kind)
        for _ in range(25):
            for name in ("store", "scratch"):
                shutil.rmtree(tmp_path / name)
            shutil.copytree(tmp_path / "kept", store)
            shutil.copytree(tmp_path / "kept-scratch", scratch)
            found = (
                list((store / "features/spend/_ff/state").iterdir())
                if kind == "states"
                else [p for p in (scratch / "exchange").rglob("*") if p.is_file() and "tx" not in p.name]
            )
            path = rng.choices(found, [p.stat().st_size for p in found])[0]
            good = path.read_bytes()
            place = rng.randrange(len(good))
            path.write_bytes(good[:place] + bytes([good[place] ^ 1 << rng.randrange(8)]) + good[place + 1 :])
            try:
                small_build.build(spec, str(store), str(scratch))
            except ff.FeatureflowError:
                ended["refused"] += 1
                continue
            assert small_build.sight(str(store)) == right, (path, place)
            ended["right"] += 1
    figure("R10", f"{kind}: 25 flips, {ended['refused']} refused, {ended['right']} right, 0 silent")
