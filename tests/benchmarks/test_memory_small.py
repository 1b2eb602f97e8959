"""The memory benchmark at a small size: workers stay within their limits, and Dask's own spill is not touched."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("partition", ["day", "none"])
def test_a_hot_key_stays_within_the_limit(tmp_path: Path, partition: str) -> None:
    """The script itself compares the rows of both builds, and fails where they differ."""
    figures = tmp_path / "figures.json"
    command = [
        sys.executable,
        str(Path(__file__).with_name("memory.py")),
        "--rows",
        "1500000",
        "--days",
        "30",
    ]
    command += [
        "--hot",
        "0.4",
        "--partition",
        partition,
        "--windows",
        "1h, 6h",
        "--ops",
        "count, sum, mean, max",
    ]
    command += ["--workers", "1", "--limit", "560MiB", "--roomy", "4GiB", "--json", str(figures)]
    subprocess.run([*command, "--workdir", str(tmp_path)], check=True)
    found = json.loads(figures.read_text())
    for name in ("roomy", "little"):
        assert (found[name]["restarts"], found[name]["rows"]) == (0, 1_500_000)
    assert found["little"]["spilled"] == 0
    assert found["little"]["peak"] <= 0.8 * found["little"]["limit"]
