"""The benchmark of look-ups in grids, at a size that runs in a second: it must not rot."""

from __future__ import annotations

import pytest
from benchmarks.grid_lookups import main


@pytest.mark.parametrize("layout", [["maps"], ["packed", "--tracks"]])
def test_look_ups_equal_xarrays(layout: list[str]) -> None:
    """Values are compared inside; no time is asserted."""
    found = main(
        [
            "--layout",
            *layout,
            "--points",
            "2000",
            "--days",
            "20",
            "--lat",
            "12",
            "--lon",
            "18",
            "--chunks",
            "7",
            "5",
            "6",
            "--runs",
            "1",
        ]
    )
    assert found["points"] == 2000
    assert set(found["seconds"]) == {"featureflow", "xarray", "codec"}
