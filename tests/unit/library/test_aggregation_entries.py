"""What a spec can say about aggregations, and what it is told when it is wrong."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from featureflow.contracts.aggregation import Aggregation, EventColumn, Windows
from featureflow.library.aggregations import AGGREGATIONS, make

SPEC_LIST = (
    "count sum mean min max first last stddev_samp stddev_pop var_samp var_pop skew kurtosis count_distinct "
    "approx_count_distinct mode entropy median quantile approx_quantile first_k last_k top_k bottom_k histogram any "
    "all seconds_since_last seconds_since_first mean_gap_seconds slope ewm_mean argmax argmin"
)
PARAMETERS = {
    "quantile": {"q": 0.95},
    "approx_quantile": {"q": 0.95},
    "ewm_mean": {"half_life": "1d"},
    "argmax": {"of": "x"},
    "argmin": {"of": "x"},
    **{name: {"k": 2} for name in ("first_k", "last_k", "top_k", "bottom_k")},
}


def test_the_shelf_holds_what_the_language_names():
    assert list(AGGREGATIONS) and set(AGGREGATIONS) == set(SPEC_LIST.split())


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_entries_follow_the_contract(name):
    entry = make({name: PARAMETERS[name]} if name in PARAMETERS else name)
    assert isinstance(entry, Aggregation)
    assert type(entry).__doc__
    assert dataclasses.is_dataclass(entry)
    assert pickle.loads(pickle.dumps(entry)) == entry
    assert hash(entry) == hash(make({name: PARAMETERS.get(name, {})}))
    assert entry.null_when_empty == (name not in ("count", "count_distinct", "approx_count_distinct"))


@pytest.mark.parametrize(
    ("op", "label"),
    [
        ("sum", "sum"),
        ({"quantile": {"q": 0.95}}, "p95"),
        ({"quantile": {"q": 0.5}}, "p50"),
        ({"quantile": {"q": 0.999}}, "p99_9"),
        ({"quantile": {"q": 0.05}}, "p5"),
        ({"quantile": {"q": 0.07}}, "p7"),
        ({"quantile": {"q": 0}}, "p0"),
        ({"quantile": {"q": 1}}, "p100"),
        ({"approx_quantile": {"q": 0.25}}, "approx_p25"),
        ({"last_k": {"k": 5}}, "last_k"),
        ({"count": {}}, "count"),
        ({"count": None}, "count"),
    ],
    ids=str,
)
def test_labels(op, label):
    assert make(op).label() == label


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("maen", "unknown aggregation 'maen'. Did you mean 'mean'?"),
        ("stddev", "Did you mean 'stddev_pop'?"),
        ({"quantile": {"p": 0.5}}, "quantile: unknown parameter 'p'. Known: q."),
        ({"quantile": {}}, "quantile: needs q."),
        ("quantile", "Write it as {quantile: {q: …}}."),
        ({"quantile": {"q": 95}}, "from 0 to 1"),
        ({"quantile": {"q": "half"}}, "from 0 to 1"),
        ({"quantile": {"q": float("nan")}}, "from 0 to 1"),
        ({"quantile": 0.5}, "parameters are a mapping"),
        ({"last_k": {"k": 0}}, "at least 1"),
        ({"last_k": {"k": True}}, "at least 1"),
        ({"last_k": {"k": 2, "distinct": "yes"}}, "true or false"),
        ({"ewm_mean": {"half_life": "soon"}}, "'soon' is not a duration"),
        ({"ewm_mean": {"half_life": "lifetime"}}, "positive and finite"),
        ({"ewm_mean": {"half_life": 7}}, "7 is not a duration"),
        ({"argmax": {"of": 3}}, "name of a column"),
        ({"sum": {"k": 1}}, "sum: unknown parameter 'k'. Known: none."),
        ({"sum": {}, "mean": {}}, "an aggregation is a name"),
        (3, "an aggregation is a name"),
    ],
    ids=str,
)
def test_mistakes_are_explained(op, message):
    with pytest.raises(ValueError) as caught:
        make(op)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("op", "column", "expected"),
    [
        ("count", None, pa.int64()),
        ("sum", pa.int32(), pa.int64()),
        ("sum", pa.bool_(), pa.int64()),
        ("sum", pa.float32(), pa.float64()),
        ("max", pa.float32(), pa.float32()),
        ("mode", pa.string(), pa.string()),
        ("first", pa.date32(), pa.date32()),
        ("histogram", pa.string(), pa.map_(pa.string(), pa.int64())),
        ({"last_k": {"k": 2}}, pa.int8(), pa.list_(pa.int8())),
        ("any", pa.bool_(), pa.bool_()),
        ("seconds_since_last", None, pa.float64()),
    ],
    ids=str,
)
def test_output_types(op, column, expected):
    assert make(op).output_type(column) == expected


@pytest.mark.parametrize(
    ("op", "column"),
    [
        ("sum", pa.string()),
        ("mean", pa.timestamp("us")),
        ("median", pa.bool_()),
        ("any", pa.int8()),
        ("max", pa.list_(pa.int8())),
        ("sum", None),
        ("mode", None),
        ("max", pa.decimal128(9, 2)),
    ],
    ids=str,
)
def test_types_that_are_not_taken(op, column):
    with pytest.raises(TypeError, match=r"^\w+: (does not take|needs a column)"):
        make(op).output_type(column)


@pytest.mark.parametrize(
    ("kind", "physical"),
    [
        (pa.int8(), [3, -1, 2]),
        (pa.uint16(), [3, 1, 2]),
        (pa.float32(), [1.5, -0.5, 0.0]),
        (pa.date32(), [3, -1, 2]),
        (pa.date64(), [0, 86_400_000, 0]),
        (pa.timestamp("ms"), [3, -1, 2]),
        (pa.timestamp("us", "UTC"), [3, -1, 2]),
        (pa.duration("s"), [3, -1, 2]),
        (pa.time32("s"), [3, 1, 2]),
        (pa.time64("us"), [3, 1, 2]),
    ],
    ids=str,
)
def test_values_come_back_as_the_columns_type(kind, physical):
    array = np.array(physical, np.float64 if pa.types.is_floating(kind) else np.int64)
    events = EventColumn(array, np.array([True, True, False]), np.arange(3), kind)
    windows = Windows(np.array([0, 0, 2]), np.array([1, 2, 3]), np.array([1, 2, 3]))
    width = kind.bit_width
    dtype = f"float{width}" if pa.types.is_floating(kind) else f"int{width}"
    raw = pa.array(np.array([*physical[:2], 0], dtype)).view(kind).to_pylist()
    largest = raw[0] if physical[0] >= physical[1] else raw[1]
    assert make("max").compute(events, windows).to_pylist() == [raw[0], largest, None]
    assert make({"first_k": {"k": 2}}).compute(events, windows).to_pylist() == [[raw[0]], raw[:2], None]


def test_strings_of_every_layout():
    for kind in (pa.string(), pa.large_string(), pa.string_view(), pa.binary()):
        categories = pa.array(["a", "b"]).cast(kind)
        events = EventColumn(np.array([1, 0], np.int32), np.ones(2, np.bool_), np.arange(2), kind, categories)
        windows = Windows(np.array([0, 0]), np.array([0, 2]), np.array([0, 2]))
        result = make("min").compute(events, windows)
        assert result.type == kind
        assert result.to_pylist() == [None, categories[0].as_py()]


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_no_events_and_no_queries(name):
    entry = make({name: PARAMETERS.get(name, {})})
    kind = pa.bool_() if name in ("any", "all") else pa.int64()
    none = np.zeros(0, np.int64)
    values = none.astype(np.bool_) if name in ("any", "all") else none
    other = EventColumn(none, np.zeros(0, np.bool_), none, pa.int64())
    for m in (0, 2):
        events = EventColumn(values, np.zeros(0, np.bool_), none, kind, other=other)
        zeros = np.zeros(m, np.int64)
        result = entry.compute(events, Windows(zeros, zeros, zeros))
        assert result.type == entry.output_type(kind)
        assert result.to_pylist() == [None if entry.null_when_empty else 0] * m


def test_a_forgotten_second_column_is_an_error():
    events = EventColumn(np.array([1]), np.ones(1, np.bool_), np.array([0]), pa.int64())
    with pytest.raises(TypeError, match="'x' was not handed over"):
        make({"argmax": {"of": "x"}}).compute(events, Windows(np.array([0]), np.array([1]), np.array([1])))


def test_making_entries_loads_nothing_heavy():
    """`featureflow validate` makes every entry of a spec."""
    code = (
        "import sys; from featureflow.library.aggregations import make; make({'quantile': {'q': 0.5}}).label(); "
        "make({'ewm_mean': {'half_life': '1d'}}); "
        "sys.exit(str([m for m in ('numpy', 'numba', 'pyarrow', 'polars') if m in sys.modules] or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
