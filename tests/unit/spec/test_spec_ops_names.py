from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.spec.models import AggregateEntry, Feature
from featureflow.spec.names import output_columns, table_columns, value_text
from featureflow.spec.ops import OPS, Op, parse_op, percent

#: section 4 of the language, written out by hand
LANGUAGE = [
    *("count", "sum", "mean", "min", "max", "first", "last"),
    *("stddev_samp", "stddev_pop", "var_samp", "var_pop", "skew", "kurtosis"),
    *("count_distinct", "approx_count_distinct", "mode", "entropy", "median", "quantile", "approx_quantile"),
    *("first_k", "last_k", "top_k", "bottom_k", "histogram", "any", "all"),
    *(
        "seconds_since_last",
        "seconds_since_first",
        "mean_gap_seconds",
        "slope",
        "ewm_mean",
        "argmax",
        "argmin",
    ),
]


def test_every_aggregation_of_the_language() -> None:
    assert list(OPS) == LANGUAGE


@pytest.mark.parametrize(
    ("given_op", "label"),
    [
        ("sum", "sum"),
        ({"quantile": {"q": 0.95}}, "p95"),
        ({"quantile": {"q": 0.5}}, "p50"),
        ({"quantile": {"q": 0.999}}, "p99_9"),
        ({"quantile": {"q": 1}}, "p100"),
        ({"quantile": {"q": 0.001}}, "p0_1"),
        ({"quantile": {"q": 0.29}}, "p29"),  # 0.29 * 100 is 28.999999999999996
        ({"approx_quantile": {"q": 0.95}}, "approx_p95"),
        ({"last_k": {"k": 5, "distinct": True}}, "last_k"),
        ({"ewm_mean": {"half_life": "7d"}}, "ewm_mean"),
        ({"argmax": {"of": "amount"}}, "argmax"),
        ({"count": None}, "count"),
        ({"count": {}}, "count"),
    ],
)
def test_labels(given_op: Any, label: str) -> None:
    assert parse_op(given_op).label == label


@pytest.mark.parametrize("op", ["sum", {"quantile": {"q": 0.5}}, {"last_k": {"distinct": False, "k": 3}}])
def test_an_op_is_spelled_as_it_was_written(op: Any) -> None:
    assert parse_op(op).spelled() == op
    assert parse_op(parse_op(op)) == parse_op(op)


@pytest.mark.parametrize(
    "wrong",
    [
        *("maen", "", 5, None, [], {}, {"sum": {}, "max": {}}, "quantile", "last_k"),
        *({"quantile": {"q": q}} for q in (-0.1, 1.1, "0.5", True, float("nan"))),
        *({"last_k": {"k": k}} for k in (0, -1, 1.5, "3", True)),
        *({"ewm_mean": {"half_life": h}} for h in ("0s", "lifetime", "7days", 7)),
        {"last_k": {"k": 1, "distinct": "yes"}},
        {"argmax": {"of": ""}},
        {"sum": {"k": 1}},
    ],
)
def test_wrong_ops_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_op(wrong)


@given(st.integers(0, 100_000))
def test_percent_is_exact_for_five_digits(thousandths: int) -> None:
    shown = percent(thousandths / 100_000)
    assert re.fullmatch(r"\d{1,3}(_\d{1,3})?", shown)
    assert round(float(shown.replace("_", ".")) * 1000) == thousandths


def entry(**values: Any) -> AggregateEntry:
    return AggregateEntry.model_validate(values)


def names(**values: Any) -> list[str]:
    return [column.name for column in output_columns(entry(**values))]


def test_names_of_section_2() -> None:
    assert names(column="amount", ops=["sum", "mean"], windows=["1h", "1d"]) == [
        *("amount_sum_1h", "amount_sum_1d", "amount_mean_1h", "amount_mean_1d")
    ]
    assert names(ops="count", windows=["1d", "lifetime"]) == ["count_1d", "count_lifetime"]
    assert names(ops="seconds_since_last", windows="1d") == ["seconds_since_last_1d"]
    assert names(column="a", ops={"quantile": {"q": 0.95}}, windows="7d") == ["a_p95_7d"]
    by = {"by": "channel", "values": ["web", "e-shop", True, 1.5]}
    assert names(column="a", ops="sum", windows="1d", **by) == [
        *("a_sum_1d__web", "a_sum_1d__e_shop", "a_sum_1d__true", "a_sum_1d__1_5")
    ]


def test_as_replaces_the_name() -> None:
    given = {"column": "amount", "ops": "sum", "windows": "1d"}
    assert names(**given, **{"as": "web_{column}_{op}_{window}"}) == ["web_amount_sum_1d"]
    by = {"by": "channel", "values": ["web"]}
    assert names(**given, **by, **{"as": "{value}_{op}"}) == ["web_sum"]
    assert names(**given, **by, **{"as": "spend"}) == ["spend__web"]


def test_columns_know_where_they_come_from() -> None:
    (column,) = output_columns(entry(column="a", ops="max", windows="2h", by="c", values=[7]))
    assert (column.op, str(column.window), column.value) == (Op("max"), "2h", 7)


def test_order_of_a_tables_columns() -> None:
    feature = Feature.model_validate(
        {
            "source": "s",
            "keys": ["k1", "k2"],
            "keep": ["kept"],
            "aggregate": [{"ops": "count", "windows": "1d"}],
            "lookup": [{"from": "m", "columns": ["risk"], "prefix": "m_"}],
            "derive": {"d": "1"},
            "udf": {"u": {"function": "m:f", "inputs": "k1", "type": "int64"}},
        }
    )
    found = [name for name, _ in table_columns(feature, "ts")]
    assert found == ["k1", "k2", "ts", "kept", "count_1d", "m_risk", "d", "u"]


@given(
    st.one_of(st.text("aZ_0 -é/ß٣\n", max_size=8), st.integers(), st.booleans(), st.floats(allow_nan=False))
)
def test_a_value_in_a_name_is_always_storable(value: Any) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_]*", value_text(value))


_ops = st.sampled_from(["sum", "max", {"quantile": {"q": 0.9}}, {"last_k": {"k": 2}}])
_windows = st.lists(st.sampled_from(["1h", "1d", "7d", "lifetime", "90m"]), min_size=1, unique=True)


@given(st.lists(_ops, min_size=1, max_size=4, unique_by=str), _windows, st.sampled_from(["a", "b_c"]))
def test_names_of_one_entry_differ_and_can_be_read_back(
    ops: list[Any], windows: list[str], column: str
) -> None:
    found = output_columns(entry(column=column, ops=ops, windows=windows))
    assert len({c.name for c in found}) == len(ops) * len(windows)
    for c in found:
        assert c.name == f"{column}_{c.op.label}_{c.window}"
