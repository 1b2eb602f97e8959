"""What reading slices costs: from this host's disk, from another host's, from a store on S3.

    python tests/benchmarks/exchange.py

Two workers on addresses of their own, each with a disk of its own; SeaweedFS on the same machine. Each task reads one
bucket of all files, as a window task does, and copies its rows. Figures: MB/s of one task, requests, CPU seconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
FILES, BUCKETS, ROWS = 16, 8, 1_000_000  # 24 bytes a row: 24 MB a file, 3 MB a slice


def write(paths: list[str]) -> list[tuple[str, str, str]]:
    """Write files on the host that this runs on; who has them."""
    import numpy as np
    import pyarrow as pa

    from featureflow.execute.exchange.exchange_file import held, write_buckets

    rng = np.random.default_rng(1)
    table = pa.table({name: rng.integers(0, 1 << 40, ROWS) for name in ("key", "time", "value")})
    found = []
    for path in paths:
        write_buckets(table, np.arange(ROWS) % BUCKETS, BUCKETS, path)
        handle = held(path)
        assert handle is not None
        found.append((path, handle.disk, handle.address))
    return found


def read(manifest: str, bucket: int) -> dict[str, Any]:
    """Read a bucket as a task does."""
    import pyarrow as pa

    from featureflow.core.meter import metering
    from featureflow.execute.exchange.fetching import read_slices
    from featureflow.execute.exchange.manifest import read_manifest

    names = [name for name, *_ in read_manifest(manifest)]
    with metering() as spent:
        begun, cpu = time.perf_counter(), time.process_time()
        batches = read_slices(manifest, names, bucket)
        table = pa.Table.from_batches([b.replace_schema_metadata(None) for b in batches]).combine_chunks()
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {
        "MB": table.nbytes / 1e6,
        "seconds": seconds,
        "cpu": cpu,
        "requests": spent.counts.get("exchange requests", 0),
    }


def main() -> None:
    """Print a line for each place."""
    import os

    from clusters.hosts import start_hosts
    from servers.seaweedfs import start_s3

    from featureflow.core.storage import join
    from featureflow.execute.exchange.manifest import Holders, write_manifest
    from featureflow.execute.exchange.slice_server import install_servers

    with TemporaryDirectory() as folder:
        root = Path(folder)
        with start_s3(root / "s3") as s3, s3.environment(), start_hosts(2, root / "hosts") as hosts:
            client = hosts.client
            install_servers(client, str(root / "driver"))
            first, second = sorted(client.scheduler_info(n_workers=-1)["workers"])
            print(f"load {os.getloadavg()[0]:.1f}, {FILES} files, {BUCKETS} buckets")
            for place, name, writer in (
                ("own disk", "scratch:exchange/a", first),
                ("another host", "scratch:exchange/b", second),
                ("store", s3.url("exchange"), first),
            ):
                paths = [join(name, f"{i}.arrow") for i in range(FILES)]
                made = client.submit(write, paths, workers=[writer], pure=False).result()
                held = {path: disk for path, disk, _ in made if disk}
                holders = Holders(held, {disk: (address,) for _, disk, address in made if disk})
                manifest = write_manifest(str(root), [(p, None, None, False) for p in paths], holders)
                runs = [
                    client.submit(read, manifest, bucket, workers=[first], pure=False).result()
                    for bucket in range(BUCKETS)
                ]
                best = min(runs, key=lambda run: run["seconds"])
                size = sum(run["MB"] for run in runs)
                rate = size / sum(run["seconds"] for run in runs)
                print(
                    f"{place:<14} {rate:7.0f} MB/s, best {best['MB'] / best['seconds']:7.0f}; "
                    f"{runs[-1]['requests']} requests a bucket; {sum(r['cpu'] for r in runs) / size * 1e3:.1f} CPU s/GB"
                )


if __name__ == "__main__":
    main()
