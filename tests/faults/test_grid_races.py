"""Processes that build the same grid at once: every acknowledged build is a version, no version is two builds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults import grid_builds
from faults.conftest import Figure
from faults.drivers import TESTS
from faults.grid_builds import TABLE, check, digests_at, put_source, write_spec
from servers.seaweedfs import S3Server

from featureflow.core import storage
from featureflow.tables import versions

pytestmark = pytest.mark.faults

PROCESSES, BUILDS = 2, 3
CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from faults.grid_builds import build_often
print(json.dumps(build_often(*sys.argv[2:5], int(sys.argv[5]))))
"""


@pytest.mark.parametrize("where", ["local disk", "S3"])
def test_two_builders(where: str, tmp_path: Path, request: pytest.FixtureRequest, figure: Figure) -> None:
    env, root = dict(os.environ), str(tmp_path / "root")
    if where == "S3":
        server: S3Server = request.getfixturevalue("s3")
        root, env = request.getfixturevalue("bucket"), env | server.env
    put_source(f"{root}/sst.zarr", tmp_path / "source")
    spec = write_spec(tmp_path, f"{root}/sst.zarr")
    grid_builds.build(spec, str(tmp_path / "calm"), str(tmp_path / "calm-scratch"))
    right = digests_at(str(tmp_path / "calm"))
    store = f"{root}/store"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(TESTS), spec, store, str(tmp_path / f"scratch{i}"), str(BUILDS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        for i in range(PROCESSES)
    ]
    made: dict[str, int] = {}
    lost = 0
    for process in running:
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
        found = json.loads(out.splitlines()[-1])
        made |= found["made"]
        lost += found["lost"]
    n = PROCESSES * BUILDS
    assert sorted(made.values()) == list(range(1, n + 1))
    url = storage.join(store, TABLE)
    for build, version in made.items():
        assert versions.read_version(url, version).build == build
        assert digests_at(store, str(version)) == right
    check(store, right, n)
    figure(
        "G3",
        f"grid, {where}: {PROCESSES} processes x {BUILDS} full builds: {n}/{n} present, {lost} lost races",
    )
