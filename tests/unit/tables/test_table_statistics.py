"""Column statistics against plain Python, and that merging does not depend on how rows were cut."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from featureflow.tables import statistics
from featureflow.tables.statistics import column_statistics, merge

INT64 = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3))
FLOAT = st.one_of(
    st.none(), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1e300, -1e300])
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_BLOCK_ROWS", 5)


@given(st.lists(INT64, max_size=40), st.integers(0, 9))
@example([2**63 - 1] * 3, 0)
def test_integers_are_exact(values: list[int | None], offset: int) -> None:
    found = column_statistics(pa.array([None] * offset + values, pa.int64()).slice(offset))
    valid = [v for v in values if v is not None]
    expected: dict[str, Any] = {"count": len(valid), "nulls": len(values) - len(valid)}
    if valid:
        expected |= {"min": min(valid), "max": max(valid), "sum": sum(valid)}
    assert found == expected


@given(st.lists(FLOAT, max_size=40), st.integers(0, 9), st.sampled_from([pa.float64(), pa.float32()]))
def test_floats(values: list[float | None], offset: int, kind: pa.DataType) -> None:
    array = pa.array(
        np.array([np.nan if v is None else v for v in values]), pa.float64(), from_pandas=True
    ).cast(kind, safe=False)
    padded = pa.concat_arrays([pa.array([7.0] * offset, kind), array]).slice(offset)
    found = column_statistics(padded)
    valid = [v for v in array.to_pylist() if v is not None]
    assert (found["count"], found["nulls"]) == (len(valid), len(values) - len(valid))
    if not valid:
        assert "min" not in found
        return
    assert (float(found["min"]), float(found["max"])) == (min(valid), max(valid))
    if all(map(math.isfinite, valid)) and sum(map(abs, valid)) < 1e308:
        assert float(found["sum"]) == pytest.approx(
            math.fsum(valid), rel=1e-12, abs=1e-12 * sum(map(abs, valid))
        )


def test_infinities_are_values_and_nan_is_skipped() -> None:
    stats = column_statistics(pa.array([1.0, math.inf, None]))
    assert stats == {"count": 2, "nulls": 1, "min": 1.0, "max": "inf", "sum": "inf"}
    both = column_statistics(pa.array([math.inf, -math.inf]))
    assert both == {"count": 2, "nulls": 0, "min": "-inf", "max": "inf", "sum": "nan"}
    assert column_statistics(pa.array([math.nan, 2.0]))["max"] == 2.0


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([True, None, False, True]), {"count": 3, "nulls": 1, "min": False, "max": True, "sum": 2}),
        (pa.array(["b", None, "a" * 70]), {"count": 2, "nulls": 1, "min": "a" * 64, "max": "b"}),
        (pa.array([[1], None], pa.list_(pa.int64())), {"count": 1, "nulls": 1}),
        (
            pa.array([10, None], pa.date32()),
            {"count": 1, "nulls": 1, "min": "1970-01-11", "max": "1970-01-11"},
        ),
        (pa.array([-5, 7], pa.int16()), {"count": 2, "nulls": 0, "min": -5, "max": 7, "sum": 2}),
    ],
)
def test_other_types(array: pa.Array, expected: dict[str, Any]) -> None:
    assert column_statistics(array) == expected


def test_times() -> None:
    found = column_statistics(pa.array([-1, None, 86_400_000_000], pa.timestamp("us", "UTC")))
    assert found == {
        "count": 2, "nulls": 1, "min": "1969-12-31T23:59:59.999999Z", "max": "1970-01-02T00:00:00.000000Z"
    }  # fmt: skip
    assert datetime.fromisoformat(found["min"]) == datetime(1970, 1, 1, tzinfo=UTC) - timedelta(
        microseconds=1
    )


@given(st.lists(FLOAT, max_size=30), st.lists(INT64, min_size=30, max_size=30), st.permutations(range(4)))
def test_merge_is_independent_of_cuts_and_order(
    floats: list[float | None], ints: list[int | None], order: list[int]
) -> None:
    table = pa.table({"f": pa.array(floats, pa.float64()), "i": pa.array(ints[: len(floats)], pa.int64())})
    cuts = [0, len(floats) // 4, len(floats) // 2, len(floats) // 2, len(floats)]
    parts = [statistics.table_statistics(table.slice(a, b - a)) for a, b in pairwise(cuts)]
    whole = merge(parts, table.schema)
    assert merge([parts[i] for i in order], table.schema) == whole
    once = merge([statistics.table_statistics(table)], table.schema)
    for name in table.schema.names:
        assert {k: v for k, v in whole[name].items() if k not in ("sum", "mean")} == {
            k: v for k, v in once[name].items() if k not in ("sum", "mean")
        }
    assert whole["i"] == once["i"]


def test_merge_of_infinite_and_text() -> None:
    schema = pa.schema([("f", pa.float64()), ("s", pa.string())])
    parts = [
        statistics.table_statistics(pa.table({"f": [1.0, math.inf], "s": ["b", "a"]})),
        statistics.table_statistics(pa.table({"f": [10.0, -2.0], "s": pa.array([None, None], pa.string())})),
    ]
    merged = merge(parts, schema)
    assert merged["f"] == {"count": 4, "nulls": 0, "min": -2.0, "max": "inf", "sum": "inf", "mean": "inf"}
    assert merged["s"] == {"count": 2, "nulls": 2, "min": "a", "max": "b"}


def test_merged_sums_are_rounded_once_in_any_order() -> None:
    schema = pa.schema([("f", pa.float64())])
    parts = [statistics.table_statistics(pa.table({"f": [v]})) for v in (1e16, 1.0, -1e16, 1.0)]
    for order in ([0, 1, 2, 3], [1, 3, 0, 2], [3, 2, 1, 0]):
        assert merge([parts[i] for i in order], schema)["f"]["sum"] == 2.0
