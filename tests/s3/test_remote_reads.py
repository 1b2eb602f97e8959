"""Reading parts of objects: which bytes are asked for, in how many requests, and what if an object changes."""

from __future__ import annotations

import io
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers.fault_proxy import FaultProxy, Rule
from servers.seaweedfs import environment_of, variables

from featureflow.core import raw_files, remote, storage
from featureflow.core.errors import SourceError
from featureflow.core.meter import metering
from featureflow.core.raw_files import RawFile
from featureflow.core.remote_parquet import open_listed, open_stored
from featureflow.library.sources.parquet import Parquet


@pytest.fixture
def proxy(s3):
    """A proxy before the server, which counts; this process talks to it."""
    with FaultProxy(s3.endpoint) as proxy, variables(environment_of(proxy.url)):
        yield proxy


@pytest.fixture(scope="module")
def wide(s3_server):
    """20 columns of 4 row groups; a column chunk is about 80 kB, a row group 1.6 MB."""
    rng = np.random.default_rng(1)
    table = pa.table({f"c{i:02d}": rng.normal(size=40_000) for i in range(20)})
    sink = io.BytesIO()
    pq.write_table(
        table, sink, row_group_size=10_000, use_dictionary=False, compression="none", write_page_checksum=True
    )
    with s3_server.environment():
        url = s3_server.url("wide.parquet")
        storage.write_atomic(url, sink.getvalue())
        (listed,) = raw_files.list_files(url)
    return listed, table


def test_only_the_needed_chunks_are_read(proxy, wide):
    file, table = wide
    found = Parquet().read(file, columns=["c15", "c03"], groups=[1, 3], stored={})
    assert found.equals(
        pa.concat_tables([table.slice(10_000, 10_000), table.slice(30_000)]).select(["c15", "c03"])
    )
    assert proxy.count("GET") == 5, "a footer, and four chunks that do not touch"
    assert proxy.bytes_received < 64 * 1024 + 4 * 81_000
    proxy.clear()
    Parquet().read(file, columns=["c15"], groups=[0], stored={})
    assert proxy.count() == 1, "the footer is known"


def test_chunks_that_lie_close_together_are_one_request(proxy, wide):
    file, table = wide
    found = Parquet().read(file, columns=["c02", "c04", "c06"], groups=[0], stored={})
    assert found.equals(table.slice(0, 10_000).select(["c02", "c04", "c06"]))
    ranges = [seen for seen in proxy.log if seen.received > 64 * 1024]
    assert len(ranges) == 1


def test_several_requests_are_in_flight(proxy, wide, monkeypatch):
    file, _ = wide
    monkeypatch.setattr(remote, "PIECE", 1 << 20)
    waiting, most, lock = 0, 0, threading.Lock()
    all_here = threading.Event()

    def arrive() -> None:
        nonlocal waiting, most
        with lock:
            waiting += 1
            most = max(most, waiting)
            if waiting >= 6:
                all_here.set()
        all_here.wait(10)
        with lock:
            waiting -= 1

    proxy.add(Rule("call", method="GET", function=arrive))
    data = remote.fetch_ranges(file.path, file.version, [(0, 6 << 20)])[0]
    assert len(data) == 6 << 20
    assert most >= 6


def test_ranges_come_in_the_order_of_the_question(wide, s3):
    file, _ = wide
    whole = storage.read_bytes(file.path)
    assert len(whole) == file.size
    asked = [(5_000_000, 5_000_100), (0, 4), (10, 10), (2, 3_000_000), (file.size - 8, file.size)]
    assert remote.fetch_ranges(file.path, file.version, asked) == [whole[a:b] for a, b in asked]


def test_row_groups_are_read_in_windows(wide, s3, monkeypatch):
    file, table = wide
    monkeypatch.setattr("featureflow.core.remote_parquet.WINDOW_BYTES", 1_000_000)
    begun = []
    begin = remote.begin_fetch

    def count(url, version, ranges):
        begun.append(sum(b - a for a, b in ranges))
        return begin(url, version, ranges)

    monkeypatch.setattr("featureflow.core.remote_parquet.begin_fetch", count)
    found = open_listed(file.path, file.version, file.size).read(table.schema.names)
    assert found.equals(table)
    assert len(begun) == 4
    assert max(begun) < 2_000_000


def test_footers_of_many_files_are_one_request_each(proxy, s3, bucket, tmp_path):
    from featureflow.contracts.source import SourceSpec
    from featureflow.library.sources.inspection import inspect_source

    for i in range(12):
        sink = io.BytesIO()
        pq.write_table(pa.table({"ts": pa.array([i], pa.timestamp("us", "UTC")), "v": [float(i)]}), sink)
        storage.write_atomic(f"{bucket}/many/{i}.parquet", sink.getvalue())
    proxy.clear()
    facts = inspect_source(SourceSpec("many", (f"{bucket}/many/*.parquet",), time="ts"))
    assert len(facts.facts) == 12
    assert proxy.count("GET", r"\.parquet$") == 12
    assert proxy.count() == 13, "and one listing"


def test_a_file_that_changes_after_planning_is_refused(s3, bucket):
    def put(value: float) -> None:
        sink = io.BytesIO()
        pq.write_table(
            pa.table({"v": [value] * 100_000, "w": np.arange(100_000)}), sink, use_dictionary=False
        )
        storage.write_atomic(f"{bucket}/changing.parquet", sink.getvalue())

    put(1.0)
    (listed,) = raw_files.list_files(f"{bucket}/changing.parquet")
    assert listed.version.startswith("etag:")
    Parquet().facts(listed, time=None, declared={}, pinned=None, timezone="UTC")
    put(2.0)
    with pytest.raises(SourceError, match=r"changing.parquet: was replaced since it was listed"):
        Parquet().read(listed, columns=["v"], groups=None, stored={})
    with pytest.raises(SourceError, match=r"was replaced"):
        remote.fetch_ranges(listed.path, listed.version, [(0, 10)])
    (again,) = raw_files.list_files(f"{bucket}/changing.parquet")
    assert Parquet().read(again, columns=["v"], groups=None, stored={})["v"][0].as_py() == 2.0


def test_a_file_that_got_shorter_is_refused(s3, bucket):
    storage.write_atomic(f"{bucket}/short", b"0123456789")
    for wanted in ((5, 20), (15, 20)):
        with pytest.raises(SourceError, match="has fewer bytes than when it was listed"):
            remote.fetch_ranges(f"{bucket}/short", "", [wanted])
    with pytest.raises(FileNotFoundError):
        remote.fetch_ranges(f"{bucket}/nothing", "", [(0, 1)])


def test_a_cache_is_asked_first_and_filled(proxy, wide):
    file, _ = wide
    kept: dict[tuple[str, str, int, int], bytes] = {}

    class Cache:
        def get(self, url, version, start, stop):
            return kept.get((url, version, start, stop))

        def put(self, url, version, start, stop, data):
            kept[url, version, start, stop] = bytes(data)

    before = remote.use_cache(Cache())
    try:
        asked = [(100, 200), (300, 400), (4_000_000, 4_000_010)]
        first = remote.fetch_ranges(file.path, file.version, asked)
        assert (proxy.count(), len(kept)) == (2, 3)
        assert remote.fetch_ranges(file.path, file.version, asked[::-1]) == first[::-1]
        assert proxy.count() == 2
        (
            remote.fetch_ranges(file.path, "etag:another", []),
            remote.fetch_ranges(file.path, file.version, [(0, 5)]),
        )
        assert proxy.count() == 3
    finally:
        assert remote.use_cache(before) is not None


def test_reads_are_metered(wide, s3):
    file, _ = wide
    with metering() as found:
        open_listed(file.path, "", file.size).read(["c00"], [0])
    assert found.bytes["remote read"] >= 80_000
    assert found.seconds["remote read"] > 0


def test_stored_files_are_read_by_condition(proxy, bucket):
    import pyarrow.dataset as ds

    table = pa.table({"k": np.arange(400_000) // 100_000, "v": np.arange(400_000.0)})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=100_000, compression="none", use_dictionary=False)
    storage.write_atomic(f"{bucket}/stored.parquet", sink.getvalue())
    proxy.clear()
    opened = open_stored(f"{bucket}/stored.parquet")
    found = opened.scan(table.schema, ["v"], ds.field("k") == 2, ["k"])
    assert found.equals(table.slice(200_000, 100_000).select(["v"]))
    assert proxy.bytes_received < 2_000_000, "one row group of four"
    assert opened.scan(table.schema, ["v"], ds.field("k") == 9, ["k"]).num_rows == 0


def test_an_empty_object_and_large_footers(s3, bucket):
    storage.write_atomic(f"{bucket}/empty.parquet", b"")
    with pytest.raises(SourceError, match="is empty"):
        Parquet().facts(
            RawFile(f"{bucket}/empty.parquet", 0, ""), time=None, declared={}, pinned=None, timezone="UTC"
        )
    assert remote.fetch_tail(f"{bucket}/empty.parquet", 10).data == b""
    wide = pa.table({f"a_column_with_a_long_name_{i:05d}": [1] for i in range(700)})
    sink = io.BytesIO()
    pq.write_table(wide, sink)
    storage.write_atomic(f"{bucket}/footer.parquet", sink.getvalue())
    opened = open_stored(f"{bucket}/footer.parquet")
    assert len(opened.tail) > 64 * 1024
    assert opened.read(wide.schema.names).equals(wide)
