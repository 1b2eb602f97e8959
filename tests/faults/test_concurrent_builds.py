"""Four processes that build the same table at once: every acknowledged build is a version, and no version is two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faults.conftest import Figure
from faults.drivers import TESTS
from faults.test_commit_crashes import DAYS
from servers.seaweedfs import S3Server

from featureflow.tables import delta_log, versions
from featureflow.tables.collect import gc
from featureflow.tables.store import open_table
from featureflow.tables.verify import verify

pytestmark = pytest.mark.faults

PROCESSES, BUILDS = 4, 15
CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from faults.test_commit_crashes import publisher
print(json.dumps(publisher(sys.argv[2], sys.argv[3], int(sys.argv[4]))))
"""


@pytest.mark.parametrize("where", ["local disk", "S3"])
def test_four_builders(where: str, tmp_path: Path, request: pytest.FixtureRequest, figure: Figure) -> None:
    env = dict(os.environ)
    if where == "S3":
        server: S3Server = request.getfixturevalue("s3")
        url = f"{request.getfixturevalue('bucket')}/t"
        env |= server.env
    else:
        url = str(tmp_path / "t")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(TESTS), url, name, str(BUILDS)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )
        for name in "abcd"[:PROCESSES]
    ]
    acknowledged: dict[str, int] = {}
    for name, process in zip("abcd", running, strict=True):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        acknowledged |= {f"{name}{i}": version for i, version in enumerate(json.loads(out))}
    n = PROCESSES * BUILDS
    assert len(acknowledged) == n
    assert sorted(acknowledged.values()) == list(range(1, n + 1)) == versions.list_versions(url)
    assert delta_log.numbers(url) == list(range(n))
    for build, version in acknowledged.items():
        assert versions.read_version(url, version).build == build
    expected: dict[str, str] = {}
    for number in range(1, n + 1):
        table = open_table(url, "t", str(number))
        i = int(table.state.info.build[1:])
        expected |= dict.fromkeys((DAYS[i % 4], DAYS[(i + 1) % 4]), table.state.info.build)
        if number % 10 == 0 or number == n:
            assert {str(day): build for day, build in table.to_polars(["day", "build"]).rows()} == expected
    assert verify(url, "t", deep=True).problems == ()
    assert gc(url, "t", keep=1).kept == (n,)
    figure(
        "R12",
        f"{PROCESSES} processes x {BUILDS} builds on {where}: {n}/{n} acknowledged builds present, versions unique",
    )
