"""Workers of a cluster make the same bytes as threads; what all tasks share is sent once."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.grid_projects import digests, project, sea, write

distributed = pytest.importorskip("distributed")


def test_workers_make_the_bytes_that_threads_make(tmp_path: Path) -> None:
    here, there = tmp_path / "threads", tmp_path / "cluster"
    for folder in (here, there):
        folder.mkdir()
        write(folder, sea(190), stored={"time": 40, "lat": 16, "lon": 24})
    project(here).build()
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
        made = project(there, client=client, workers=None, scheduler=None)
        report = made.build()
    assert report.status == "done"
    assert digests(made.table("calm")) == digests(project(here).table("calm"))
