"""Hosts that share nothing but a store on S3: same bytes in both modes, and what a second build asks for."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from exchange.exchange_world import Hosts, building_on, contents, make_world, many_buckets
from parity.dataset_world import DatasetWorld

from featureflow.core.storage import join, read_bytes, walk
from featureflow.execute.exchange import fetching, manifest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> DatasetWorld:
    return make_world(tmp_path_factory.mktemp("world"), days=2)


@pytest.fixture(scope="module")
def reference(world: DatasetWorld, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patched:
        many_buckets(patched)
        store = tmp_path_factory.mktemp("reference") / "store"
        world.project(store, scheduler="threads", workers=2).build()
    return contents(store)


def stored(url: str) -> dict[str, str]:
    """Hash of every data file, side file and shard of a store on S3."""
    found = {}
    for path, _, _ in walk(url):
        ours = path.endswith((".parquet", ".arrow")) and "_delta_log" not in path
        if ours and not path.startswith(("work/", "runs/")):
            found[path] = hashlib.sha256(read_bytes(join(url, path))).hexdigest()
    return found


@pytest.mark.clusters  # half a minute
@pytest.mark.parametrize("mode", ["local", "store"])
def test_the_same_bytes_through_s3(
    world: DatasetWorld,
    reference: dict[str, str],
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
) -> None:
    manifest._read.cache_clear()
    hosts = Hosts(tmp_path, 2)
    with building_on(monkeypatch, hosts):
        project = world.project(tmp_path / "unused", scratch=tmp_path / "driver")
        project.store_url = bucket
        project.target = project.target.model_copy(update={"exchange": mode})
        assert project.build().status == "done"
    assert stored(bucket) == reference
    work = {path.split("/")[0] for path, _, _ in walk(join(bucket, "work"))}
    # spills of the export are gone with it
    assert work == {"manifests", "checks", "drops", "pieces"} | ({"exchange"} if mode == "store" else set())
    slices = [path for host in hosts.all for path in Path(host.scratch).rglob("*.arrow")]
    assert bool(slices) == (mode == "local")
    assert bool(hosts.requests) == (mode == "local")


def test_a_slice_costs_one_request_once_its_footer_is_known(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import pyarrow as pa

    from featureflow.core.meter import metering
    from featureflow.execute.exchange.exchange_file import bucket_rows, finished_rows, write_buckets

    monkeypatch.setattr(fetching, "TAIL_BYTES", 1024)
    table = pa.table({"v": np.arange(40_000)})
    urls = [join(bucket, "x", f"{i}.arrow") for i in range(3)]
    for url in urls:
        assert finished_rows(url) is None
        write_buckets(table, np.arange(40_000) % 8, 8, url)
    with metering() as first:
        batches = fetching.read_bucket(urls, 3)
    with metering() as second:
        again = fetching.read_bucket(urls, 5)
    assert [batch.column("v").to_pylist() for batch in batches] == [list(range(3, 40_000, 8))] * 3
    assert again[0].column("v").to_pylist() == list(range(5, 40_000, 8))
    assert bucket_rows(urls[0]).tolist() == [5000] * 8
    assert (first.counts["exchange requests"], second.counts["exchange requests"]) == (6, 3)
    assert second.bytes["exchange:store"] == 3 * 40_000
    with pytest.raises(FileNotFoundError):
        fetching.read_bucket([*urls, join(bucket, "x", "gone.arrow")], 0)
