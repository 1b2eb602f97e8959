"""Checks of grids: judged by what is known of their chunks, of zones by their rows, before anything is visible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from integration.grid_projects import append, project, sea, write

from featureflow.core.errors import CheckFailed, PlanError, SpecError, TableError

SPEC = """
project: climate
sources:
  sst: {path: sst.zarr, format: zarr}
features:
  cube: {source: sst, chunks: {time: 20, lat: 8, lon: 12}, checks: [CUBE]}
  belts:
    source: sst
    steps: [{zonal: {polygons: {north: [[-1, 0], [350, 0], [350, 90], [-1, 90]]}, x: lon, y: lat, ops: [mean]}}]
    checks: [BELTS]
"""


def made(folder: Path, cube: str = "", belts: str = "") -> Any:
    return project(folder, SPEC.replace("CUBE", cube).replace("BELTS", belts))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    write(tmp_path, sea(40), stored={"time": 20, "lat": 8, "lon": 12})
    return tmp_path


def test_a_failed_check_publishes_nothing_and_says_what_and_where(world: Path) -> None:
    data = sea(40).sst.values
    least, greatest, missing = np.nanmin(data), np.nanmax(data), int(np.isnan(data).sum())
    with pytest.raises(CheckFailed) as caught:
        made(world, f"{{column: sst, min: {least + 1}, max: {greatest + 1}}}").build()
    assert f"the least value is {least:g}; " in str(caught.value)
    assert "features.cube.checks[0]" in str(caught.value)
    assert "greatest" not in str(caught.value)
    with pytest.raises(TableError):
        made(world).table("cube")
    with pytest.raises(CheckFailed, match=f"{missing} of {data.size:,} values are missing"):
        made(world, "{column: sst, not_null: true}").build()
    with pytest.raises(CheckFailed, match="40 of 40 rows"):
        made(world, "", "{column: sst_mean, max: 200}").build()


def test_checks_that_pass_or_warn_are_in_the_report_and_the_record(world: Path) -> None:
    data = sea(60).sst.values
    share = 1 - float(np.isnan(data[:40]).mean()) - 0.001
    cube = f"{{column: sst, not_null: true, share: {share}}}, {{column: sst, max: 200, on_fail: warn, name: warm}}"
    one = made(world, cube, "{column: [zone, time], unique: true}, {row_count: {min: 40}}")
    report = one.build()
    assert [check["passed"] for check in report.tables[0].checks] == [True, False]
    assert [check["passed"] for check in report.tables[1].checks] == [True, True]
    (said,) = [text for text in report.warnings if "warm" in text]
    assert f"the greatest value is {np.nanmax(data[:40]):g}; 8 of 8 chunks" in said
    record = one.table("cube").state.record
    assert [check["passed"] for check in record["checks"]] == [True, False]
    again = one.build()
    assert again.status == "nothing to do"
    assert [check["passed"] for check in again.tables[1].checks] == [True, True]
    append(world, sea(60), 40)
    grown = one.build()
    (said,) = [text for text in grown.warnings if "warm" in text]  # of kept chunks, too
    assert f"the greatest value is {np.nanmax(data):g}; 12 of 12 chunks" in said


@pytest.mark.parametrize(
    ("cube", "message"),
    [
        (
            "{column: sst, unique: true}",
            "checks[0].unique: unique is a check of tables. Grids have not_null, min, max.",
        ),
        ("{column: sst, min: 0, on_fail: quarantine}", "a grid has no rows to put aside. Use error or warn."),
        ("{column: sst, min: 0, share: 0.5}", "of a grid only not_null has a share of values."),
        ("{column: sst, min: 0, where: sst > 3}", "where picks rows, which a grid does not have. Remove it."),
        ("{column: sst, max: '2020-01-01'}", "must be a number: values of grids are numbers."),
        ("{column: stt, not_null: true}", "stt"),
    ],
)
def test_mistakes_in_checks_are_told_with_their_places(world: Path, cube: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        made(world, cube).compile_grids()
    assert message in str(caught.value)
    assert "features.cube.checks[0]" in str(caught.value)


def test_a_range_of_time_is_no_part_of_a_grid(world: Path) -> None:
    one = made(world)
    with pytest.raises(PlanError, match=r"--from and --to choose slices of tables.*--exclude cube"):
        one.build(start="2000-01-10")
    one.build()
    assert one.build(start="2000-01-10").status == "nothing to do"
