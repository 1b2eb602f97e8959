"""Splits of patches: no value of the grid is in the patches of two splits, counted value by value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow.core.errors import CheckFailed
from featureflow.core.roles import EMBARGOED
from featureflow.datasets.patch_splits import refuse_overlaps, split_patches
from featureflow.plan.patches import PatchLayout, PatchSpine
from featureflow.spec.splits import Split

DAY_US = 86_400_000_000


def index_of(layout: PatchLayout, *, late: int = 0) -> pa.Table:
    """The index of all patches of a grid with one step a day, known ``late`` days after its label."""
    numbers = np.arange(layout.n_patches)
    starts = layout.starts(numbers)
    first, last = starts[0], starts[0] + layout.patch[0] - 1
    stamp = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "patch": numbers,
            "time_start": pa.array(first * DAY_US, pa.int64()).cast(stamp),
            "time": pa.array((last + late) * DAY_US, pa.int64()).cast(stamp),
        }
    )


def spine_of(layout: PatchLayout) -> PatchSpine:
    return PatchSpine("g", layout, (), None, "time", None)


def assigned(layout: PatchLayout, split: Split, *, late: int = 0) -> list[str]:
    table = index_of(layout, late=late)
    found = split_patches(
        table,
        split,
        spine_of(layout),
        keys=("patch",),
        time="time",
        row_ids=np.arange(layout.n_patches, dtype=np.int64),
    )
    names: list[str] = found.split.to_pylist()
    assert {k: v for k, v in found.counts.rows.items() if v} == {
        name: names.count(name) for name in set(names)
    }
    return names


def values_of(layout: PatchLayout, names: list[str], split: str) -> set[tuple[int, ...]]:
    """Positions of all values in the patches of a split."""
    seen = np.zeros(layout.sizes, np.bool_)
    for start, name in zip(layout.starts(np.arange(layout.n_patches)).T, names, strict=True):
        if name == split:
            seen[tuple(slice(a, a + n) for a, n in zip(start, layout.patch, strict=True))] = True
    return {tuple(place) for place in np.argwhere(seen).tolist()}


@st.composite
def layouts(draw: st.DrawFn) -> PatchLayout:
    sizes = (draw(st.integers(2, 12)), draw(st.integers(2, 10)), draw(st.integers(2, 10)))
    patch = tuple(draw(st.integers(1, min(4, size))) for size in sizes)
    stride = tuple(draw(st.integers(1, 4)) for _ in sizes)
    return PatchLayout(("time", "lat", "lon"), sizes, patch, stride)


@settings(max_examples=30, deadline=None)
@given(layouts(), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3))
def test_by_time_no_value_is_in_two_splits(layout: PatchLayout, first: int, more: int, late: int) -> None:
    split = Split.model_validate(
        {
            "by": "time",
            "train": f"< 1970-01-{1 + first:02d}",
            "valid": f"< 1970-01-{1 + first + more:02d}",
            "test": "rest",
        }
    )
    names = assigned(layout, split, late=late)
    parts = [values_of(layout, names, name) for name in ("train", "valid", "test")]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    if not late:  # and nothing is left out but what lies across a threshold
        for start, name in zip(layout.starts(np.arange(layout.n_patches))[0], names, strict=True):
            days = range(int(start), int(start) + layout.patch[0])
            torn = len({(day >= first) + (day >= first + more) for day in days}) > 1
            assert (name == EMBARGOED) == torn


@settings(max_examples=30, deadline=None)
@given(layouts(), st.integers(2, 6), st.integers(2, 6), st.none() | st.integers(2, 6), st.integers(0, 99))
def test_by_block_no_value_is_in_two_splits(
    layout: PatchLayout, lat: int, lon: int, time: int | None, seed: int
) -> None:
    block: dict[str, Any] = {"lat": lat, "lon": lon, **({} if time is None else {"time": time})}
    split = Split.model_validate(
        {"by": "block", "block": block, "train": 0.5, "valid": 0.2, "test": "rest", "seed": seed}
    )
    names = assigned(layout, split)
    parts = [values_of(layout, names, name) for name in ("train", "valid", "test")]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert not parts[1] & parts[2]
    codes = pa.array(names)
    refuse_overlaps(layout, np.arange(layout.n_patches), codes, "datasets.p.split")


def test_patches_within_one_block_are_never_left_out() -> None:
    layout = PatchLayout(("time", "lat", "lon"), (4, 16, 16), (2, 4, 4), (2, 2, 2))
    split = Split.model_validate({"by": "block", "block": {"lat": 8, "lon": 8}, "train": 0.5, "test": "rest"})
    names = assigned(layout, split)
    for start, name in zip(layout.starts(np.arange(layout.n_patches)).T, names, strict=True):
        inside = all(a // 8 == (a + 3) // 8 for a in start[1:].tolist())
        assert not inside or name != EMBARGOED
    assert {"train", "test"} <= set(names)


def test_few_blocks_meet_their_shares() -> None:
    layout = PatchLayout(("time", "lat", "lon"), (1, 20, 20), (1, 4, 4), (1, 4, 4))
    for seed in range(20):
        split = Split.model_validate(
            {
                "by": "block",
                "block": {"lat": 4, "lon": 4},
                "train": 0.6,
                "valid": 0.2,
                "test": "rest",
                "seed": seed,
            }
        )
        names = assigned(layout, split)
        assert [names.count(n) for n in ("train", "valid", "test")] == [15, 5, 5]


def test_steps_that_are_added_move_no_block() -> None:
    split = Split.model_validate(
        {"by": "block", "block": {"time": 4, "lat": 4}, "train": 0.6, "test": "rest", "seed": 3}
    )
    short = PatchLayout(("time", "lat"), (40, 12), (4, 4), (4, 4))
    long = PatchLayout(("time", "lat"), (80, 12), (4, 4), (4, 4))
    names = assigned(long, split)
    assert assigned(short, split) == names[: short.n_patches]


def test_patches_of_two_splits_that_overlap_are_found() -> None:
    layout = PatchLayout(("lat", "lon"), (10, 10), (4, 4), (2, 2))
    names = ["train"] * layout.n_patches
    names[5] = "test"
    with pytest.raises(CheckFailed, match="values in common"):
        refuse_overlaps(layout, np.arange(layout.n_patches), pa.array(names), "datasets.p.split")
    names[5] = EMBARGOED
    refuse_overlaps(layout, np.arange(layout.n_patches), pa.array(names), "datasets.p.split")


@pytest.mark.slow
def test_many_more_cases() -> None:
    for test in (test_by_time_no_value_is_in_two_splits,):
        again = given(layouts(), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3))(
            test.hypothesis.inner_test
        )
        settings(max_examples=500, deadline=None)(again)()
    for test in (test_by_block_no_value_is_in_two_splits,):
        again = given(
            layouts(), st.integers(2, 6), st.integers(2, 6), st.none() | st.integers(2, 6), st.integers(0, 99)
        )(test.hypothesis.inner_test)
        settings(max_examples=500, deadline=None)(again)()
