"""Days that are appended to a grid on S3: only what they touch is written, and it equals a full build."""

from __future__ import annotations

from pathlib import Path

from faults.grid_builds import digests_at, one_chunk_a_task, put_source, write_spec
from servers.fault_proxy import FaultProxy
from servers.seaweedfs import S3Server, environment_of, variables

import featureflow as ff


def build(spec: str, store: str, scratch: Path) -> int:
    """Build; gives how many chunks were computed."""
    with one_chunk_a_task():
        report = ff.Project(spec, store=store, scratch=scratch, scheduler="threads", workers=2).build()
    return report.tables[0].slices_computed


def test_appended_days_write_what_they_touch(bucket: str, s3: S3Server, tmp_path: Path) -> None:
    spec = write_spec(tmp_path, f"{bucket}/sst.zarr")
    # by month, days after the period would be missing, and their chunks too small to be objects of their own
    Path(spec).write_text(Path(spec).read_text().replace("by: month", "by: hour"))
    with FaultProxy(s3.endpoint) as proxy, variables(environment_of(proxy.url)):
        put_source(f"{bucket}/sst.zarr", tmp_path / "source", 210)
        proxy.clear()
        assert build(spec, f"{bucket}/store", tmp_path / "scratch") == 16
        first = proxy.count("PUT|POST", "_ff/arrays/chunks/")
        put_source(f"{bucket}/sst.zarr", tmp_path / "more", 235)  # the first 200 days are the same bytes
        proxy.clear()
        assert build(spec, f"{bucket}/store", tmp_path / "scratch") == 8
        again = proxy.count("PUT|POST", "_ff/arrays/chunks/")
        assert proxy.count("GET", r"sst\.zarr/sst/c/[0-2]/") == 0
        full = str(tmp_path / "full")
        assert build(spec, full, tmp_path / "scratch-full") == 20
    assert (first, again) == (16, 8)
    assert digests_at(f"{bucket}/store") == digests_at(full)
