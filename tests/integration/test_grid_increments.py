"""An increment computes what changed and equals a full build; what steps learned is known by its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from integration.grid_projects import append, project, sea, stored, write

from featureflow.execute.grids.evaluate import read_block
from featureflow.observe.report import TableOutcome

HEAD = """
project: climate
sources:
  sst: {path: sst.zarr, format: zarr}
features:
  calm:
    source: sst
    steps:
"""
CHUNKS = "    chunks: {time: 30, lat: 8, lon: 12}\n"
STEPS = {
    "anomaly": '{anomaly: {over: time, by: month, period: ["2000-01-05", "2000-05-15"]}}',
    "standardize": '{standardize: {dims: [time], period: ["2000-01-05", "2000-05-15"]}}',
    "normalize": '{normalize: {dims: [time, lat], period: ["2000-01-05", "2000-05-15"]}}',
    "clip": '{clip: {quantiles: [0.1, 0.9], dims: [time], period: ["2000-01-05", "2000-05-15"]}}',
    "rolling": "{rolling: {dim: time, window: 7, op: mean}}",
}
#: the period ends on day 135; stored chunks end at 60, 120, 180
END = 136


def spec_of(*names: str) -> str:
    return HEAD + "".join(f"      - {STEPS[name]}\n" for name in names) + CHUNKS


def outcome(made: Any) -> TableOutcome:
    found: TableOutcome = made.build().tables[0]
    return found


@pytest.mark.parametrize(
    "names",
    [
        ("anomaly", "rolling"),
        ("standardize",),
        ("rolling", "normalize"),
        ("clip",),
        ("anomaly", "standardize"),
    ],
)
def test_days_behind_the_period_in_its_last_stored_chunk_change_no_fit(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    write(tmp_path, sea(150))
    made = project(tmp_path, spec_of(*names))
    assert outcome(made).slices_computed == 5 * 4
    for days, before in ((165, 150), (195, 165)):
        append(tmp_path, sea(days), before)
        # the chunk from day 120 on looks at a stored chunk that has changed, and so does the next; a window looks back
        assert outcome(made).slices_computed == 4 * (-(-days // 30) - 4)
        grown = stored(made.table("calm"))
        assert outcome(made).change == "unchanged"
        made.build(full=True)
        xr.testing.assert_identical(stored(made.table("calm")), grown)
        assert outcome(made).change == "unchanged"


def test_only_the_cells_that_changed_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, sea(150))
    made = project(tmp_path, spec_of("anomaly").replace("by: month", "by: none"), workers=1)
    made.build()
    append(tmp_path, sea(165), 150)
    read: list[tuple[int, int]] = []

    def noted(grid: Any, cubes: Any, region: Any) -> Any:
        read.append(region["time"])
        return read_block(grid, cubes, region)

    monkeypatch.setattr("featureflow.execute.grids.fits.read_block", noted)
    made.build()
    assert read
    assert set(read) == {(120, END)}


def test_a_corrected_value_within_the_period_is_learned_from(tmp_path: Path) -> None:
    write(tmp_path, sea(150))
    made = project(tmp_path, spec_of("anomaly"))
    made.build()
    array: Any = zarr.open_group(tmp_path / "sst.zarr", mode="r+")["sst"]
    array[130, 2, 2] = 500.0  # in the chunk that is not full
    assert outcome(made).slices_computed == 5  # of one corner
    array[140, 2, 2] = 500.0  # behind the period
    assert outcome(made).slices_computed == 1
    array[10, 2, 2] = array[10, 2, 2]  # written again as it was
    assert outcome(made).slices_computed == 2
    found = stored(made.table("calm"))
    made.build(full=True)
    xr.testing.assert_identical(stored(made.table("calm")), found)


def test_a_plan_learns_nothing_and_a_lost_fit_is_made_again(tmp_path: Path) -> None:
    write(tmp_path, sea(150))
    made = project(tmp_path, spec_of("anomaly"))
    made.build()
    append(tmp_path, sea(165), 150)
    folder = tmp_path / "store/features/calm/_ff/fits"
    before = sorted(folder.iterdir())
    assert made.plan().grids[0].plan.estimate["chunks_computed"] == 6 * 4
    assert sorted(folder.iterdir()) == before
    outcome(made)
    assert any(".is." in path.name for path in folder.iterdir())
    grown = stored(made.table("calm"))
    for path in folder.glob("*.npz"):
        path.unlink()
    append(tmp_path, sea(200), 165)
    made.build()
    found = stored(made.table("calm"))
    xr.testing.assert_identical(found.isel(time=slice(0, 165)), grown)
    made.build(full=True)
    xr.testing.assert_identical(stored(made.table("calm")), found)


changes = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 70)),
        st.tuples(st.just("correct"), st.integers(0, 149)),
        st.tuples(st.just("same"), st.integers(0, 149)),
        st.tuples(st.just("define"), st.integers(2, 9)),
    ),
    min_size=1,
    max_size=3,
)
chains = st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=3, unique=True)


@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.generate],  # an example takes a second: too long to shrink
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(names=chains, changed=changes, days=st.integers(140, 185))
def test_any_history_makes_what_a_full_build_makes(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], changed: list[tuple[str, int]], days: int
) -> None:
    folder = tmp_path_factory.mktemp("history")
    write(folder, sea(days))
    text = spec_of(*names)
    made = project(folder, text)
    made.build()
    for what, n in changed:
        array: Any = zarr.open_group(folder / "sst.zarr", mode="r+")["sst"]
        if what == "append":
            append(folder, sea(days + n), days)
            days += n
        elif what == "correct":
            array[n, n % 16, :] = np.float32(n)
        elif what == "same":
            array[n] = array[n]
        else:
            text = spec_of(*names[n % len(names) :], *names[: n % len(names)]).replace(
                "window: 7", f"window: {n}"
            )
            made = project(folder, text)
        made.build()
        assert outcome(made).change == "unchanged"
    found = stored(made.table("calm"))
    fresh = folder / "fresh"
    fresh.mkdir()
    (fresh / "sst.zarr").symlink_to(folder / "sst.zarr")
    again = project(fresh, text)
    again.build()
    xr.testing.assert_identical(stored(again.table("calm")), found)
