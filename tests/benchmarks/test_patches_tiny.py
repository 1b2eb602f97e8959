"""The benchmark of patches, at a size that runs in seconds: it must not rot."""

from __future__ import annotations

import pytest
from benchmarks.patches import main


def test_all_patches_are_exported_and_loaded() -> None:
    """No time is asserted."""
    found = main(["--sizes", "8", "64", "128", "--runs", "1", "--workers", "1"])
    assert found["bytes"] == found["load, checksums"]["sum"] == 4 * 8 * 64 * 128
    mean = found["load, checksums, summed"]["sum"] / (8 * 64 * 128)
    assert mean == pytest.approx(16.4, abs=0.5)
