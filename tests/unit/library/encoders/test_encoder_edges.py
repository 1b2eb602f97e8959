"""What encoders do at the edges: no rows, nothing but nulls, constants, infinities, all types of columns."""

from __future__ import annotations

import datetime as dt
import json
import math

import numpy as np
import pyarrow as pa
import pytest

from featureflow.core.errors import ComputeError, PlanError
from featureflow.datasets import fitting as fits
from featureflow.kernels.totals import Total
from featureflow.library.encoders import ENCODERS, make
from featureflow.spec.encode import Encode
from featureflow.spec.encoders import ENCODERS as WRITTEN
from featureflow.spec.encoders import read_step

STEPS = {
    **{
        name: name
        for name in ("standard", "minmax", "robust", "quantile", "impute", "onehot", "ordinal", "log1p")
    },
    "quantile_normal": {"quantile": {"output": "normal"}},
    "median": {"impute": "median"},
    "most_frequent": {"impute": {"strategy": "most_frequent", "indicator": True}},
    "hash": {"hash": {"buckets": 16}},
    "bucketize": {"bucketize": {"n_bins": 4}},
    "uniform": {"bucketize": {"n_bins": 4, "strategy": "uniform"}},
    "target": "target",
    "clip": {"clip": {"low_q": 0.1, "high_q": 0.9}},
}
DAY = dt.date(2026, 1, 5)
TIME = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC)
COLUMNS = {
    "double": pa.array([1.5, None, -2.0, 1.5]),
    "float": pa.array([1.5, None, -2.0, 1.5], pa.float32()),
    "int64": pa.array([3, None, -1, 3]),
    "uint8": pa.array([3, None, 1, 3], pa.uint8()),
    "bool": pa.array([True, None, False, True]),
    "decimal": pa.array([1, None, 2, 1]).cast(pa.decimal128(30, 2)),
    "string": pa.array(["b", None, "a", "b"]),
    "large_string": pa.array(["b", None, "a", "b"], pa.large_string()),
    "dictionary": pa.array(["b", None, "a", "b"]).dictionary_encode(),
    "date": pa.array([DAY, None, DAY - dt.timedelta(1), DAY]),
    "timestamp": pa.array([TIME, None, TIME - dt.timedelta(1), TIME]),
}
IS_NUMBER = {"double", "float", "int64", "uint8", "bool", "decimal"}


def fit(step, column, labels=(True, False, True, False)):
    table = pa.table(
        {"x": column, "y": list(labels)[: len(column)] or pa.array([], pa.bool_()), "id": range(len(column))}
    )
    entry = Encode.model_validate({"columns": ["x"], "with": step})
    fitting = fits.begin([entry], table.schema, labels={"y": 0}, identity=["id"])
    while not fitting.done:
        fitting = fitting.advance(fits.merge([fitting.chunk(table), fitting.chunk(table.slice(0, 0))]))
    json.dumps(fitting.fitted.to_json(), allow_nan=False)
    return fitting.fitted


def encode(fitted, column):
    return [c.to_pylist() for c in fitted.transform(pa.table({"x": column})).columns]


def test_the_shelf_has_what_a_spec_can_write():
    assert list(WRITTEN) and set(WRITTEN) == set(ENCODERS)
    for name, written in WRITTEN.items():
        defaults = {key: p.default for key, p in written.params.items() if not p.required}
        required = {key: 8 for key, p in written.params.items() if p.required}
        made = make(name, {**defaults, **required})
        assert {key: getattr(made, key) for key in defaults} == defaults
        for key, value in make(name, required).__class__.__dataclass_fields__.items():
            if key in defaults:
                assert value.default == defaults[key], f"{name}: {key}"


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="unknown encoder 'scaler'"):
        make("scaler", {})
    with pytest.raises(ValueError, match="unknown parameter 'm'"):
        make("target", {"m": 1})


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("name", STEPS)
def test_every_type_is_encoded_or_refused(name, kind):
    encoder = read_step(STEPS[name])[0]
    numbers_only = WRITTEN[encoder].takes == "numbers" or name in {"impute", "median"}
    if numbers_only and kind not in IS_NUMBER:
        with pytest.raises(PlanError, match=r"encode .x.*takes numbers"):
            fit(STEPS[name], COLUMNS[kind])
        return
    fitted = fit(STEPS[name], COLUMNS[kind])
    made = fitted.transform(pa.table({"x": COLUMNS[kind]}))
    assert made.schema.types == [output.type for output in fitted.outputs]
    # one by one, and in any order, rows give the same
    alone = [fitted.transform(pa.table({"x": COLUMNS[kind].slice(i, 1)})) for i in (3, 2, 1, 0)]
    assert (
        pa.concat_tables(alone[::-1]).equals(made.combine_chunks())
        or pa.concat_tables(alone[::-1]).to_pydict() == made.to_pydict()
    )


@pytest.mark.parametrize("kind", ["double", "int64", "bool", "string", "date"])
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("n", [0, 3])
def test_no_rows_and_nothing_but_nulls(name, kind, n):
    encoder = read_step(STEPS[name])[0]
    if (WRITTEN[encoder].takes == "numbers" or name in {"impute", "median"}) and kind not in IS_NUMBER:
        return
    values = COLUMNS[kind]
    fitted = fit(STEPS[name], pa.nulls(n, values.type))
    made = encode(fitted, values)
    if name in {"standard", "minmax", "robust", "quantile", "quantile_normal", "clip"}:
        assert made == [[None] * 4]
    elif encoder == "impute":
        zero = {"double": 0.0, "int64": 0, "bool": False}.get(kind)
        assert made[0][1] == zero
        assert made[0][0] == values.to_pylist()[0]
    elif name == "ordinal":
        assert made == [[-1, None, -1, -1]]
    elif name == "onehot":
        assert made == ([[0, 1, 0, 0]] if n else [])
    elif encoder == "bucketize":
        assert made == [[0, None, 0, 0]]
    elif name == "target":
        # of three train rows, all null: two of three labels are true
        assert made == [[pytest.approx(2 / 3)] * 4 if n else [None] * 4]


@pytest.mark.parametrize(
    "step, expected",
    [
        ("standard", [0.0, 2.0]),
        ("minmax", [0.0, 2.0]),
        ("robust", [0.0, 2.0]),
        ({"bucketize": {"n_bins": 3}}, [0, 0]),
        ({"bucketize": {"n_bins": 3, "strategy": "uniform"}}, [0, 0]),
    ],
)
def test_constant_column(step, expected):
    fitted = fit(step, pa.array([5.0, 5.0, 5.0, 5.0]))
    assert encode(fitted, pa.array([5.0, 7.0])) == [expected]


@pytest.mark.parametrize(
    "step",
    [
        "standard",
        "minmax",
        "robust",
        "quantile",
        "impute",
        {"impute": "median"},
        {"bucketize": {"n_bins": 3}},
    ],
)
def test_an_infinite_train_value_stops_the_fit(step):
    with pytest.raises(ComputeError, match=r"encode .x.: .*infinite value among the train rows.*clip"):
        fit(step, pa.array([1.0, math.inf, 2.0, 3.0]))
    clipped = fit(
        [{"clip": {"low": -10, "high": 10}}, *(step if isinstance(step, list) else [step])],
        pa.array([1.0, math.inf, 2.0, 3.0]),
    )
    assert clipped.outputs


def test_infinities_are_values_when_rows_are_encoded():
    fitted = fit("standard", pa.array([1.0, 3.0]))
    assert encode(fitted, pa.array([math.inf, -math.inf, 2.0])) == [[math.inf, -math.inf, 0.0]]
    fitted = fit("quantile", pa.array([1.0, 3.0]))
    assert encode(fitted, pa.array([math.inf, -math.inf, 2.0])) == [[1.0, 0.0, 0.5]]
    fitted = fit({"clip": {"low_q": 0.4, "high_q": 1}}, pa.array([1.0, math.inf, 2.0, 3.0]))
    assert encode(fitted, pa.array([-math.inf, math.inf])) == [[pytest.approx(2.2), math.inf]]


def test_categories_of_infinities_and_negative_zero():
    fitted = fit("onehot", pa.array([math.inf, -0.0, 0.0, math.nan]))
    assert [o.name for o in fitted.outputs] == ["x_0.0", "x_inf", "x_nan"]
    again = type(fitted).from_json(json.loads(json.dumps(fitted.to_json())))
    assert encode(again, pa.array([0.0, math.inf, None])) == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_unseen_categories():
    column = pa.array(["a", "b", "a", "b"])
    new = pa.array(["b", "zz", None])
    assert encode(fit("onehot", column), new) == [[0, 0, 0], [1, 0, 0]]
    assert encode(fit("ordinal", column), new) == [[1, -1, None]]
    assert encode(fit({"ordinal": {"unknown_value": -9, "missing_value": -2}}, column), new) == [[1, -9, -2]]
    with pytest.raises(ComputeError, match="encode 'x': onehot: has values that no train row has: 'zz'"):
        encode(fit({"onehot": {"unknown": "error"}}, column), new)
    with pytest.raises(ComputeError, match="unknown_value 1 is also the place of a category"):
        fit({"ordinal": {"unknown_value": 1}}, column)


def test_impute_keeps_types_and_refuses_values_of_others():
    filled = fit({"impute": {"strategy": "constant", "value": 0}}, COLUMNS["int64"])
    assert filled.outputs[0].type == pa.int64()
    half = fit({"impute": {"strategy": "constant", "value": 0.5}}, COLUMNS["int64"])
    assert encode(half, COLUMNS["int64"]) == [[3.0, 0.5, -1.0, 3.0]]
    dates = fit({"impute": "most_frequent"}, COLUMNS["date"])
    assert encode(dates, COLUMNS["date"])[0][1] == DAY
    marked = fit({"impute": {"strategy": "median", "indicator": True}}, COLUMNS["double"])
    assert [o.name for o in marked.outputs] == ["x", "x_missing"]
    assert encode(marked, COLUMNS["double"])[1] == [0, 1, 0, 0]
    with pytest.raises(PlanError, match="value 'x' is none of a column of type int64"):
        fit({"impute": {"strategy": "constant", "value": "x"}}, COLUMNS["int64"])


def test_hash_depends_on_value_and_seed_only():
    first = encode(fit({"hash": {"buckets": 1000}}, COLUMNS["string"]), COLUMNS["string"])[0]
    assert first[0] == first[3] and len({first[0], first[1], first[2]}) == 3
    assert first == encode(fit({"hash": {"buckets": 1000}}, COLUMNS["dictionary"]), COLUMNS["dictionary"])[0]
    assert (
        first != encode(fit({"hash": {"buckets": 1000, "seed": 1}}, COLUMNS["string"]), COLUMNS["string"])[0]
    )
    # part of the product: shards and models rely on them
    assert first == [492, 999, 945, 492]


def test_lists_and_bytes_are_refused():
    for column in (pa.array([[1.0], [2.0]]), pa.array([b"a", b"b"])):
        with pytest.raises(
            PlanError, match="encode 'x': encode takes numbers, booleans, text, dates and times"
        ):
            fit({"hash": 8}, column)


def test_values_of_another_type_are_cast_if_they_fit():
    fitted = fit("ordinal", COLUMNS["int64"])
    # frames of pandas have integers with nulls as doubles
    assert encode(fitted, pa.array([3.0, None, -1.0])) == [[1, None, 0]]
    for wrong in (pa.array([1.5]), pa.array(["3"])):
        with pytest.raises(ComputeError, match="column 'x': fitted as int64"):
            encode(fitted, wrong)


@pytest.mark.parametrize(
    "steps, labels, identity, message",
    [
        ("target", {}, ("id",), "target needs one label of the dataset"),
        ("target", {"y": 0, "z": 0}, ("id",), "target needs one label of the dataset"),
        ("target", {"y": 0}, (), "columns that tell rows apart"),
        ({"target": {"folds": "time"}}, {"y": 0}, (), "needs the spine's `time:`"),
        (["target", "target"], {"y": 0}, ("id",), "only one target encoder"),
        (["onehot", "standard"], {"y": 0}, ("id",), "nothing can follow onehot"),
    ],
)
def test_what_a_chain_misses_is_said_before_anything_is_read(steps, labels, identity, message):
    schema = pa.schema([("x", pa.string()), ("y", pa.bool_()), ("z", pa.bool_()), ("id", pa.int64())])
    steps = steps if isinstance(steps, list) else [steps]
    from featureflow.spec.encode import EncodeStep

    entry = Encode.model_construct(
        columns=("x",),
        with_=tuple(EncodeStep(name=n, params=tuple(p.items())) for n, p in map(read_step, steps)),
    )
    with pytest.raises(PlanError, match=message):
        fits.begin([entry], schema, labels=labels, identity=identity)


def test_names_that_meet_are_refused():
    table = pa.table({"x": ["b", "c"], "x_b": [1.0, 2.0]})
    fitting = fits.begin([Encode.model_validate({"columns": ["x"], "with": "onehot"})], table.schema)
    with pytest.raises(PlanError, match="two columns are named 'x_b'"):
        fitting.advance(fits.merge([fitting.chunk(table)])).fitted


def test_no_state_can_not_be_merged():
    with pytest.raises(ValueError, match="no state to merge"):
        fits.merge([])


def test_totals_are_exact():
    values = np.array([1e300, 1.0, -1e300, 2**-1074, 0.1])
    total = Total.of(values[:2]) + Total.of(values[2:])
    assert total.sum == math.fsum(values.tolist())
    assert (total - Total.of(values[:1])).to_json() == Total.of(values[1:]).to_json()
    assert Total.of([5e-324, 5e-324]).variance == 0
    assert Total.from_json(total.to_json()) == Total.from_json((Total() + total).to_json())
    assert math.isnan(Total().mean)
