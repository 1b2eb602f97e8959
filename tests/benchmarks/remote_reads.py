"""Reading parts of Parquet files from S3: which client asks least, waits least and costs least CPU.

    python tests/benchmarks/remote_reads.py [--rows 1000000] [--latency-ms 30]

One file of 40 float columns. `few`: 3 columns that do not touch, of every second row group; `all`: every byte that
holds values; `footers`: the schema of 100 small files. Each client runs in a process of its own against SeaweedFS
behind a proxy that counts requests and adds latency, on the same machine: compare clients, not absolute times.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
COLUMNS = 40
FEW = ["c03", "c17", "c31"]
SMALL = 100
CLIENTS = ("featureflow", "obstore get_ranges", "s3fs cat_ranges", "s3fs file", "pyarrow.fs", "polars")
CASES = ("few", "all", "footers")


def write_files(url: str, rows: int) -> None:
    """The files that all clients read."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from featureflow.core.storage import write_atomic

    rng = np.random.default_rng(0)

    def file(n: int) -> bytes:
        table = pa.table({f"c{i:02d}": rng.normal(size=n).astype("float32") for i in range(COLUMNS)})
        sink = pa.BufferOutputStream()
        pq.write_table(
            table, sink, row_group_size=max(1, rows // 8), use_dictionary=False, write_page_checksum=True
        )
        return sink.getvalue().to_pybytes()

    write_atomic(f"{url}/large.parquet", file(rows))
    for i in range(SMALL):
        write_atomic(f"{url}/small/{i:03d}.parquet", file(50))


def read(client: str, case: str, url: str) -> int:
    """One read; the number of values that came, so that nobody is quick by reading less."""
    groups = None if case == "all" else [0, 2, 4, 6]
    columns = None if case == "all" else FEW
    if case == "footers":
        paths = [f"{url}/small/{i:03d}.parquet" for i in range(SMALL)]
        with ThreadPoolExecutor(16) as pool:
            return sum(pool.map(lambda path: footer(client, path), paths))
    return part(client, f"{url}/large.parquet", columns, groups)


def footer(client: str, path: str) -> int:
    """Read the schema of one file."""
    import pyarrow.parquet as pq

    if client == "featureflow":
        import pyarrow as pa

        from featureflow.core.remote import fetch_tail

        return pq.read_metadata(pa.BufferReader(fetch_tail(path, 1 << 16).data)).num_columns
    if client == "polars":
        import polars as pl

        return len(pl.read_parquet_schema(path))
    if client == "pyarrow.fs":
        return pq.read_metadata(path.removeprefix("s3://"), filesystem=arrow_filesystem()).num_columns
    if client == "obstore get_ranges":
        import obstore
        import pyarrow as pa

        store, key = obstore_of(path)
        tail = obstore.get(store, key, options={"range": {"suffix": 1 << 16}}).bytes()
        return pq.read_metadata(pa.BufferReader(pa.py_buffer(tail))).num_columns
    import fsspec

    with fsspec.open(path, "rb").open() as opened:
        return pq.read_metadata(opened).num_columns


def part(client: str, path: str, columns: list[str] | None, groups: list[int] | None) -> int:
    """Read some columns and row groups of one file."""
    import pyarrow.parquet as pq

    if client == "polars":
        import polars as pl

        # its reader takes no row groups; every second one is read as the rows that it holds
        frame = pl.scan_parquet(path, use_statistics=False)
        frame = frame if columns is None else frame.select(columns)
        if groups is None:
            return frame.collect().height * COLUMNS
        rows = (
            pq.read_metadata(path.removeprefix("s3://"), filesystem=arrow_filesystem()).row_group(0).num_rows
        )
        return sum(frame.slice(g * rows, rows).collect().height for g in groups) * len(columns or ())
    if client == "featureflow":
        from featureflow.core.raw_files import RawFile
        from featureflow.core.storage import size_of
        from featureflow.library.sources.parquet import Parquet

        file = RawFile(path, size_of(path), "")
        names = columns or [f"c{i:02d}" for i in range(COLUMNS)]
        table = Parquet().read(file, columns=names, groups=groups, stored={})
    elif client == "pyarrow.fs":
        parquet = pq.ParquetFile(path.removeprefix("s3://"), filesystem=arrow_filesystem(), pre_buffer=True)
        table = parquet.read_row_groups(groups or range(parquet.num_row_groups), columns=columns)
    elif client == "s3fs file":
        import fsspec

        with fsspec.open(path, "rb").open() as opened:
            parquet = pq.ParquetFile(opened, pre_buffer=True)
            table = parquet.read_row_groups(groups or range(parquet.num_row_groups), columns=columns)
    else:
        return fetched(client, path, columns, groups)
    return int(table.num_rows * table.num_columns)


def fetched(client: str, path: str, columns: list[str] | None, groups: list[int] | None) -> int:
    """Fetch the bytes of the chunks only; what decodes them would be the same."""
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    if client == "obstore get_ranges":
        import obstore

        store, key = obstore_of(path)
        tail = bytes(obstore.get(store, key, options={"range": {"suffix": 1 << 16}}).bytes())
    else:
        fs, key = fsspec.core.url_to_fs(path)
        tail = fs.cat_file(key, start=-(1 << 16))
    metadata = pq.read_metadata(pa.BufferReader(tail))
    chunks, values = [], 0
    for g in groups or range(metadata.num_row_groups):
        for c in range(metadata.num_columns):
            chunk = metadata.row_group(g).column(c)
            if columns is None or chunk.path_in_schema in columns:
                chunks.append((chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size))
                values += chunk.num_values
    starts, ends = [a for a, _ in chunks], [b for _, b in chunks]
    if client == "obstore get_ranges":
        got = obstore.get_ranges(store, key, starts=starts, ends=ends)
    else:
        got = fs.cat_ranges([key] * len(chunks), starts, ends)
    assert sum(map(len, got)) == sum(b - a for a, b in chunks)
    return values


def obstore_of(path: str):
    """A store of the environment's credentials, and the key."""
    from obstore.store import S3Store

    bucket, _, key = path.removeprefix("s3://").partition("/")
    return S3Store(bucket, client_options={"allow_http": True}), key


def arrow_filesystem():
    """Arrow's own client; it reads credentials from the environment, but not the endpoint."""
    import os

    import pyarrow.fs as pafs

    host = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    return pafs.S3FileSystem(endpoint_override=host, scheme="http", region="us-east-1")


def child(client: str, case: str, url: str) -> None:
    """Read twice and print what the second took: the first pays for connections and imports."""
    values = [read(client, case, url)]
    wall, cpu = time.perf_counter(), time.process_time()
    values.append(read(client, case, url))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"wall": wall, "cpu": cpu, "values": values}), flush=True)


def main() -> None:
    """Print one line a client and case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--latency-ms", type=float, default=30)
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--child", nargs=3)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    from servers.fault_proxy import FaultProxy, Rule
    from servers.seaweedfs import environment_of, start_s3, variables

    with tempfile.TemporaryDirectory() as folder, start_s3(Path(folder)) as server:
        with server.environment():
            write_files(server.url("reads"), args.rows)
        print(
            f"{'case':8} {'latency':>8}  {'client':20} {'wall s':>8} {'CPU s':>8} {'requests':>9} {'MB':>8}"
        )
        for latency in (0.0, args.latency_ms / 1000):
            for case in CASES:
                for client in args.clients.split(","):
                    with FaultProxy(server.endpoint) as proxy, variables(environment_of(proxy.url)):
                        if latency:
                            proxy.add(Rule("latency", seconds=latency))
                        run = subprocess.run(
                            [sys.executable, __file__, "--child", client, case, server.url("reads")],
                            capture_output=True,
                            text=True,
                        )
                        if run.returncode:
                            print(case, client, "failed:", run.stderr[-300:])
                            continue
                        found = json.loads(run.stdout.splitlines()[-1])
                        requests, megabytes = proxy.count() / 2, proxy.bytes_received / 2e6
                    print(
                        f"{case:8} {latency * 1000:5.0f} ms  {client:20} {found['wall']:8.3f} {found['cpu']:8.3f} "
                        f"{requests:9.1f} {megabytes:8.2f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
