"""The benchmark of look-ups in grids, at a size that runs in a second: it must not rot."""

from __future__ import annotations

from benchmarks.grid_lookups import main


def test_look_ups_equal_xarrays() -> None:
    """Values are compared inside; no time is asserted."""
    found = main(
        [
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
    assert set(found["seconds"]) == {"featureflow", "xarray"}
