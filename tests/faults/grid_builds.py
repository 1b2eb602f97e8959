"""A small grid to build anywhere, a chunk in each task, by processes that are killed; and what is there afterwards."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import xarray as xr
from integration.grid_projects import SPEC, expected, sea, write

import featureflow as ff
from featureflow.core import storage
from featureflow.tables import delta_log, versions
from featureflow.tables.state import current_state
from featureflow.tables.store import open_table
from featureflow.tables.verify import verify

TABLE = "features/calm"
CHUNKS = 16  # of 200 days
#: What an undisturbed build stores: rows of (variable, chunk, digest).
Digests = list[tuple[str, tuple[int, ...], str]]


def put_source(raw: str, folder: Path, days: int = 200) -> None:
    """Write the source: at a path, or by way of one into a store; a longer one has the same days first."""
    local = Path(raw).parent if storage.is_local(raw) else folder
    local.mkdir(parents=True, exist_ok=True)
    write(local, sea(days), Path(raw).name, stored={"time": 50, "lat": 8, "lon": 12})
    if storage.is_local(raw):
        return
    there = local / Path(raw).name
    for path in sorted(there.rglob("*")):
        if path.is_file():
            storage.write_atomic(f"{raw}/{path.relative_to(there)}", path.read_bytes())


def write_spec(folder: Path, raw: str) -> str:
    """The spec's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "featureflow.yaml"
    path.write_text(SPEC.replace("path: sst.zarr", f'path: "{raw}"'))
    return str(path)


def one_chunk_a_task() -> Any:
    """However little there is to do."""
    return mock.patch(
        "featureflow.execute.grids.tasks._choose", lambda _grid, lattice, *_: (1,) * len(lattice.dims)
    )


def build(
    spec: str, store: str, scratch: str, log: str = "", limit: int | None = None, **options: Any
) -> dict[str, Any]:
    """Build; ``log`` gets a dot for each chunk that is computed; the process dies before it computes one too many.

    Finished chunks are written down after every task.
    """
    from featureflow.execute.grids import progress, region_task

    options = {"scheduler": "threads", "workers": 2, **options}
    full = options.pop("full", False)
    plain, lock, done = region_task.evaluate_box, threading.Lock(), 0

    def evaluate(job: Any, box: Any) -> xr.Dataset:
        nonlocal done
        with lock:
            if done == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            if log:
                with open(log, "ab", buffering=0) as file:
                    file.write(b".")
        return plain(job, box)

    with ExitStack() as stack:
        stack.enter_context(one_chunk_a_task())
        stack.enter_context(mock.patch.object(region_task, "evaluate_box", evaluate))
        stack.enter_context(mock.patch.object(progress, "EVERY_SECONDS", 0.0))
        report = ff.Project(spec, store=store, scratch=scratch, **options).build(full=full)
    return {"status": report.status, "version": report.tables[0].version, "build": report.build_id}


def build_often(spec: str, store: str, scratch: str, times: int) -> dict[str, Any]:
    """Build all of it anew, again and again; who loses a race plans again. Gives versions by build, and the losses."""
    made: dict[str, int] = {}
    lost = 0
    while len(made) < times:
        try:
            found = build(spec, store, scratch, full=True)
        except ff.CommitConflict:
            lost += 1
            continue
        made[found["build"]] = found["version"]
    return {"made": made, "lost": lost}


def digests_at(store: str, version: str | None = None) -> Digests:
    """Rows of a version."""
    table = open_table(storage.join(store, TABLE), "calm", *([version] if version else []))
    rows = table.to_polars(["variable", "chunk", "digest"]).rows()
    return sorted((name, tuple(chunk), digest) for name, chunk, digest in rows)


def check(store: str, right: Digests, version: int) -> None:
    """So many versions are there, whole, and the last one is what it should be."""
    url = storage.join(store, TABLE)
    assert versions.list_versions(url) == list(range(1, version + 1))
    assert len(delta_log.numbers(url)) == version
    assert digests_at(store) == right
    assert verify(url, "calm", deep=True).problems == ()


def version_of(store: str) -> int:
    """The latest version; 0 if there is none."""
    state = current_state(storage.join(store, TABLE))
    return state.version if state else 0


def check_values(store: str, days: int = 200) -> None:
    """What plain xarray says."""
    found = open_table(storage.join(store, TABLE), "calm").to_xarray().load()
    want = expected(sea(days))
    np.testing.assert_allclose(found.sst.values, want.sst.values, rtol=1e-5, atol=1e-4)
