"""Which slices a change touches, what the change is called, and that `plan` says what `build` does."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from featureflow.core.errors import PlanError
from featureflow.plan.slices import (
    MAX_US,
    MIN_US,
    NULL_SLICE,
    Slice,
    merge_ranges,
    slice_at,
    slices_between,
    to_us,
)

SPEC = """
featureflow: 1
project: changes
sources:
  tx: {path: "{data}/tx/*.parquet", time: ts}
features:
  t:
    source: tx
    keys: [k]
    window: {closed: CLOSED}
    aggregate: [{column: v, ops: [sum], windows: [1d]}]
"""
TIME = pl.Datetime("us", "UTC")


def day(number: int, **offset: int) -> datetime:
    return datetime(2026, 1, number, tzinfo=UTC) + timedelta(**offset)


def rows(*times: datetime | None) -> pl.DataFrame:
    values = {"k": [1] * len(times), "ts": list(times), "v": [1.0] * len(times)}
    return pl.DataFrame(values, schema_overrides={"ts": TIME})


@pytest.fixture
def project(make_project: Callable[..., Any]) -> Any:
    made = make_project(SPEC.replace("CLOSED", "left"))
    for number in range(1, 7):
        made.write("tx", rows(day(number, hours=6), day(number, hours=18)), file=f"d{number}")
    return made


def opened(project: Any, **options: Any) -> Any:
    return project.open(scratch=project.folder / "scratch", scheduler="threads", **options)


def planned(project: Any, **arguments: Any) -> Any:
    (found,) = opened(project).plan(**arguments).tables
    return found


def missing(project: Any) -> list[str]:
    return [part.label[-2:] for part in planned(project).missing]


def build(project: Any, **arguments: Any) -> Any:
    """Build, and see that it computes the slices that the plan named."""
    plan = planned(project, **arguments)
    (outcome,) = opened(project).build(**arguments).tables
    assert (outcome.change, outcome.slices_computed) == (plan.change, len(plan.missing))
    return outcome


def test_change_classes(project: Any) -> None:
    assert planned(project).change == "new"
    build(project)
    assert planned(project).change == "unchanged"
    project.write("tx", rows(day(7, hours=1)), file="d7")
    assert (planned(project).change, missing(project)) == ("new data", ["07"])
    build(project)
    project.write("tx", rows(day(3, hours=1)), file="late")
    assert (planned(project).change, missing(project)) == ("late data", ["03", "04"])
    build(project)
    assert planned(project, full=True).change == "full rebuild"
    project.describe(SPEC.replace("CLOSED", "right"))
    assert (planned(project).change, len(missing(project))) == ("definition changed", 7)


def test_new_data_beside_rows_without_a_time(project: Any) -> None:
    project.write("tx", rows(day(1), None), file="timeless")
    build(project)
    project.write("tx", rows(day(7), None), file="d7")
    assert planned(project).change == "new data"
    assert [part.label for part in planned(project).missing] == ["null", "2026-01-07"]


def test_a_removed_file_drops_its_slices(project: Any) -> None:
    build(project)
    (project.data / "tx" / "d6.parquet").unlink()
    plan = planned(project)
    assert (plan.change, plan.missing, plan.dropped) == ("late data", (), ("2026-01-06",))
    assert build(project).rows == 10


@pytest.mark.parametrize("closed", ["left", "right", "both", "none"])
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_the_edge_of_a_window(project: Any, closed: str, offset: int) -> None:
    """An event of day 2 at midnight +- 1 us reaches day 3; from day 3's last instant, day 4 as well.

    The superset that is allowed: the slice whose first instant is exactly one window after the event, which `closed:
    right` and `none` would not need. It is at most one slice.
    """
    project.describe(SPEC.replace("CLOSED", closed))
    build(project)
    at = day(3, microseconds=offset)
    project.write("tx", rows(at), file="late")
    touched = missing(project)
    needed = {f"{at.day:02d}", f"{at.day + 1:02d}"}
    assert needed <= set(touched)
    assert len(set(touched) - needed) <= 1
    before = _frame(project)
    build(project)
    after = _frame(project).filter(pl.col("ts") != at)
    changed = before.join(after, on=["k", "ts"], how="left", suffix="_new").filter(
        pl.col("v_sum_1d").ne_missing(pl.col("v_sum_1d_new"))
    )
    assert {f"{ts.day:02d}" for ts in changed["ts"]} <= set(touched)


def _frame(project: Any) -> pl.DataFrame:
    found: pl.DataFrame = opened(project).table("t").to_polars()
    return found


def test_files_out_of_reach_are_not_read(project: Any) -> None:
    build(project)
    everything = planned(project, full=True).estimate
    project.write("tx", rows(day(7, hours=1)), file="d7")
    estimate = planned(project).estimate
    assert estimate["chunks_read"] == 2  # days 6 and 7
    assert (
        estimate["bytes_read"]
        < estimate["bytes_total"] / 3
        < everything["bytes_read"]
        == everything["bytes_total"]
    )


def test_a_range_leaves_the_rest(project: Any) -> None:
    build(project, start="2026-01-02", end="2026-01-04")
    assert _frame(project)["ts"].dt.day().to_list() == [2, 2, 3, 3]
    (project.data / "tx" / "d2.parquet").unlink()
    project.write("tx", rows(day(5)), file="late")
    build(project, start="2026-01-05", end="2026-01-06")
    # day 2 has lost its input, but is outside of the range
    assert _frame(project)["ts"].dt.day().to_list() == [2, 2, 3, 3, 5, 5, 5]
    build(project)
    assert _frame(project)["ts"].dt.day().to_list() == [1, 1, 3, 3, 4, 4, 5, 5, 5, 6, 6]


def test_planning_writes_nothing(project: Any) -> None:
    planned(project)
    assert not project.store.exists()


def test_too_little_memory_is_refused_with_the_least_that_will_do(project: Any) -> None:
    with pytest.raises(PlanError) as refused:
        opened(project, memory="200MB", workers=4).plan()
    text = str(refused.value)
    assert "200 MB of memory are too little" in text
    assert "4 threads" in text
    (least,) = re.findall(r"--memory to at least (\d+)MB", text)
    assert not project.store.exists()
    with pytest.raises(PlanError):
        opened(project, memory=f"{int(least) - 1}MB", workers=4).plan()
    assert opened(project, memory=f"{least}MB", workers=4).plan().tables


def test_what_does_not_fit_goes_through_scratch(project: Any) -> None:
    large = pl.DataFrame(
        {"k": range(400_000), "ts": [day(1)] * 400_000, "v": [1.0] * 400_000}, schema_overrides={"ts": TIME}
    )
    project.write("tx", large, file="large")
    from unittest import mock

    with mock.patch("featureflow.execute.planner.choose_buckets", lambda *_: 1):
        (little,) = opened(project, memory="600MB", workers=4).plan().tables
        (roomy,) = opened(project, memory="8GB", workers=4).plan().tables
    assert little.estimate["spilled_bytes"] > little.estimate["budget_bytes"]
    assert little.estimate["task_bytes"] <= little.estimate["budget_bytes"]
    assert roomy.estimate["spilled_bytes"] == 0


def test_a_table_of_one_slice_feeds_one_of_days(make_project: Callable[..., Any]) -> None:
    """`partition: none` is not ten thousand years of days to whoever reads the table."""
    spec = (
        SPEC.replace("CLOSED", "left")
        + "    partition: none\n  u: {source: t, keys: [k], keep: [v_sum_1d]}\n"
    )
    made = make_project(spec, tx=rows(day(1), day(3)))
    _, second = opened(made).plan().tables
    assert [part.label for part in second.missing if part != NULL_SLICE] == [
        "2026-01-01",
        "2026-01-02",
        "2026-01-03",
    ]
    opened(made).build()
    assert opened(made).table("u").rows == 2
    (alone,) = opened(made).plan(select=["u"]).tables
    assert alone.change == "unchanged"


def test_a_list_is_no_key(make_project: Callable[..., Any]) -> None:
    from featureflow.core.errors import SpecError

    made = make_project(SPEC.replace("CLOSED", "left"), tx=rows(day(1)).with_columns(k=pl.Series([[1]])))
    with pytest.raises(SpecError, match="single value"):
        opened(made).compile()


def test_an_empty_source(make_project: Callable[..., Any]) -> None:
    made = make_project(SPEC.replace("CLOSED", "left"), tx=rows(day(1)).clear())
    assert build(made).version == 1
    assert _frame(made).height == 0
    assert planned(made).change == "unchanged"
    shutil.rmtree(made.folder / "scratch")
    assert planned(made).change == "unchanged"


# ---------------------------------------------------------------- the calendar


@pytest.mark.parametrize("partition", ["day", "month", "year", "none"])
@pytest.mark.parametrize(
    "us",
    [
        MIN_US,
        -1,
        0,
        MAX_US,
        to_us(datetime(2024, 2, 29, 23, 59, 59, 999999, UTC)),
        to_us(datetime(1900, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_slice_holds_its_instant(partition: Any, us: int) -> None:
    part = slice_at(us, partition)
    assert part.start_us <= us < part.end_us
    assert Slice.from_label(part.label, partition) == part
    assert slice_at(part.start_us, partition) == part == slice_at(part.end_us - 1, partition)
    if part.end_us <= MAX_US:
        assert slice_at(part.end_us, partition).start_us == part.end_us


def test_slices_walk_without_gaps() -> None:
    walked = list(
        slices_between(
            to_us(datetime(2023, 12, 30, tzinfo=UTC)), to_us(datetime(2024, 3, 1, tzinfo=UTC)), "day"
        )
    )
    assert len(walked) == 63
    assert walked[61].label == "2024-02-29"
    assert all(a.end_us == b.start_us for a, b in itertools.pairwise(walked))
    assert [part.label for part in slices_between(MAX_US - 1, MAX_US, "month")] == ["9999-12"]
    assert slice_at(MIN_US, "day") > NULL_SLICE


def test_merge_ranges() -> None:
    assert merge_ranges([(3, 3), (1, 2), (2, 2), (9, 12), (10, 11)]) == [(1, 2), (3, 3), (9, 12)]


def test_a_late_row_of_a_look_up_reaches_as_far_as_its_ttl(make_project: Callable[..., Any]) -> None:
    spec = SPEC.replace("CLOSED", "left").replace(
        "features:", '  r: {path: "{data}/r/*.parquet", time: ts}\nfeatures:'
    )
    spec += "    lookup: [{from: r, keys: {k: k}, columns: [v], prefix: r_, ttl: 36h}]\n"
    made = make_project(spec, r=rows(day(1)))
    for number in range(1, 7):
        made.write("tx", rows(day(number, hours=6), day(number, hours=18)), file=f"d{number}")
    build(made)
    assert _frame(made)["r_v"].null_count() == 9
    made.write("r", rows(day(2, hours=12)), file="late")
    assert missing(made) == [
        "02",
        "03",
        "04",
    ]  # the last one by its midnight only: 36 hours end at 00:00 of day 4
    build(made)
    assert _frame(made)["r_v"].is_not_null().to_list() == [True, True, True, True, True, True, *[False] * 6]
