"""What a profile advises where grids hold a build up: chunks and steps, never slices, buckets, files or keys."""

from __future__ import annotations

from typing import Any

import pytest

from featureflow.observe.bottleneck import find_bottleneck
from featureflow.observe.grid_advice import BOXES

WORDS_OF_TABLES = ("slice", "bucket", "partition", "Parquet", "hot key", "file", "keep", "window")


def built(kind: str, *, grids: float = 10.0, tables: float = 0.0, **compute: Any) -> dict[str, Any]:
    """A build on four threads in which a kind took nearly all of the time, of a grid and of a table."""

    def stage(name: str, seconds: float, **more: Any) -> dict[str, Any]:
        return {
            "name": name, "where": "workers", "seconds": seconds, "available": 4 * seconds,
            "spent": {kind: 4 * seconds}, "details": {}, "bytes": {}, "counts": {}, "driver": 0.0, "tasks": 40,
            "lost": 0, "longest": 0.1 * seconds, "longest_label": f"{name}, time 0:100", **more,
        }  # fmt: skip

    plan = {"name": "plan", "where": "driver", "seconds": 1.0, "waiting": 4.0, "spent": {"driver": 1.0}}
    stages = [
        plan,
        stage("sst: compute", grids, **{"counts": {BOXES: 40}, **compute}),
        stage("spend: compute", tables),
    ]
    spent = {kind: 4 * (grids + tables)}
    total = {"available": 4 * (grids + tables), "spent": spent, "details": {}, "bytes": {}}
    return {"stages": stages, "slots": 4, "total": total, "counts": {}}


@pytest.mark.parametrize(
    ("kind", "advises"),
    [
        ("remote read", "`select`"),
        ("decode", "`variables:`"),
        ("compute", "`select`"),
        ("encode", "float32"),
        ("write", "`shards:`"),
        ("commit", "`chunks:`"),
        ("driver", "`shards:`"),
    ],
)
def test_a_grid_is_told_about_chunks_and_steps(kind: str, advises: str) -> None:
    advice = find_bottleneck(built(kind))["advice"]
    assert advises in advice
    assert not [word for word in WORDS_OF_TABLES if word in advice]
    assert find_bottleneck(built(kind, grids=4.0, tables=10.0))["advice"] != advice


def test_the_start_of_a_cluster_is_not_the_grids() -> None:
    profile = built("driver")
    profile["stages"][0]["name"] = "start"
    assert "cluster that is already there" in find_bottleneck(profile)["advice"]


@pytest.mark.parametrize(
    ("compute", "advises"),
    [
        ({"tasks": 1}, "Smaller `chunks:` along a dimension that no step takes together"),
        ({"longest": 8.0}, "smaller `chunks:`"),
        ({"driver": 8.0}, "larger `chunks:`"),
        ({}, "larger `chunks:`"),
    ],
)
def test_idle_threads_beside_a_grid(compute: dict[str, Any], advises: str) -> None:
    advice = find_bottleneck(built("idle", **compute))["advice"]
    assert advises in advice
    assert not [word for word in WORDS_OF_TABLES if word in advice]
    assert advises not in find_bottleneck(built("idle", **compute, counts={}))["advice"]
