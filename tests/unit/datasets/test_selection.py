"""Feature selection: what is dropped and why, the same for any cut, against pandas and scikit-learn."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_selection import VarianceThreshold, mutual_info_classif, mutual_info_regression

from featureflow.core.errors import ComputeError, PlanError
from featureflow.datasets import selection
from featureflow.datasets.selection import Selecting
from featureflow.spec.datasets import Select

FEATURES = ("a", "b", "noise", "constant", "sparse", "kind", "word", "items")


def table(n=600, seed=0):
    random = np.random.default_rng(seed)
    label = random.random(n) < 0.4
    a = random.normal(size=n) + 2 * label
    return pa.table(
        {
            "a": a,
            "b": -3 * a + random.normal(scale=0.01, size=n),
            "noise": random.normal(size=n),
            "constant": np.ones(n),
            "sparse": pa.array(np.where(random.random(n) < 0.7, np.nan, a), from_pandas=True),
            "kind": np.where(random.random(n) < 0.8, label, ~label).astype(np.int64),
            "word": random.choice(["x", "y"], n),
            "items": pa.array([[1.0, 2.0]] * n, pa.list_(pa.float64(), 2)),
            "label": label,
            "id": np.arange(n),
        }
    )


def choose(select, rows, cuts=(), label="label", features=FEATURES):
    job = Selecting(Select(**select), features, label, ("id",))
    ends = [0, *sorted(cuts), len(rows)]
    states = [job.chunk(rows.slice(a, b - a).select(list(job.columns))) for a, b in pairwise(ends)]
    return job.decide(selection.merge([selection.merge(states[::2]), *states[1::2]]))


def lines(chosen):
    return {line["feature"]: line for line in chosen.report["features"]}


def test_missing_share():
    chosen = choose({"missing": 0.5}, table())
    assert chosen.kept == tuple(f for f in FEATURES if f != "sparse")
    assert lines(chosen)["sparse"]["missing"] == table()["sparse"].null_count / 600
    assert "is over 0.5" in lines(chosen)["sparse"]["reason"]
    exact = lines(chosen)["sparse"]["missing"]
    assert "sparse" in choose({"missing": exact}, table()).kept


def test_variance_is_exact_and_a_threshold_is_not_passed_by_equality():
    rows = table()
    numbers = ["a", "b", "noise", "constant"]
    theirs = VarianceThreshold(0.5).fit(np.column_stack([rows[n].to_numpy() for n in numbers]))
    chosen = choose({"variance": 0.5}, rows, features=tuple(numbers))
    assert chosen.kept == tuple(np.array(numbers)[theirs.get_support()])
    for name, variance in zip(numbers, theirs.variances_, strict=True):
        assert lines(chosen)[name]["variance"] == pytest.approx(variance, rel=1e-9, abs=1e-12)
    assert "constant" not in choose({"variance": 0}, rows).kept


def test_correlation_drops_the_later_one():
    rows = table()
    expected = pd.DataFrame({n: rows[n].to_numpy() for n in ("a", "b", "noise", "sparse")}).corr()
    chosen = choose({"correlation": 0.95}, rows)
    assert chosen.kept == tuple(f for f in FEATURES if f not in {"b", "sparse"})
    assert lines(chosen)["b"]["correlated_with"] == "a"
    assert lines(chosen)["b"]["correlation"] == pytest.approx(expected.loc["a", "b"], rel=1e-9)
    assert lines(chosen)["noise"]["correlation"] == pytest.approx(expected.loc["noise", "a"], rel=1e-9)
    turned = choose({"correlation": 0.95}, rows, features=("b", "a", "noise"))
    assert turned.kept == ("b", "noise")


def test_what_was_dropped_drops_nothing_else():
    random = np.random.default_rng(1)
    x = random.normal(size=400)
    rows = pa.table({"one": x, "two": x + random.normal(scale=0.3, size=400), "id": np.arange(400)})
    rows = rows.append_column("three", pa.array(rows["two"].to_numpy() + random.normal(scale=0.3, size=400)))
    r = np.corrcoef([rows[n].to_numpy() for n in ("one", "two", "three")])
    between = (abs(r[0, 2]) + min(abs(r[0, 1]), abs(r[1, 2]))) / 2
    assert choose({"correlation": between}, rows, label=None, features=("one", "two", "three")).kept == (
        "one",
        "three",
    )


def test_mutual_information_is_scikit_learns():
    rows = table()
    chosen = choose({"mutual_information": 0.02}, rows)
    found = lines(chosen)
    y = rows["label"].to_numpy()
    for name, discrete in (("a", False), ("noise", False), ("kind", True)):
        x = rows[name].to_numpy()[:, None]
        expected = mutual_info_classif(x, y, discrete_features=[discrete], random_state=0)[0]
        # the estimator adds noise of 1e-10 in the order of the rows
        assert found[name]["mutual_information"] == pytest.approx(expected, abs=1e-6)
    assert "noise" not in chosen.kept and {"a", "kind"} <= set(chosen.kept)
    number = rows.set_column(
        rows.schema.get_field_index("label"), "label", pa.array(rows["a"].to_numpy() ** 2)
    )
    expected = mutual_info_regression(
        rows["a"].to_numpy()[:, None], number["label"].to_numpy(), random_state=0
    )[0]
    found = lines(choose({"mutual_information": 0}, number))
    assert found["a"]["mutual_information"] == pytest.approx(expected, abs=1e-6)


def test_top_k_keeps_the_best_and_what_can_not_be_measured():
    chosen = choose({"correlation": 0.95, "top_k": 2}, table())
    assert chosen.kept == ("a", "kind", "items")
    assert lines(chosen)["noise"]["reason"] == "not among the 2 of the largest mutual information"
    assert lines(chosen)["items"]["mutual_information"] is None


def test_report():
    chosen = choose({"missing": 0.5, "variance": 0}, table())
    json.dumps(chosen.report, allow_nan=False)
    assert chosen.report["rows"] == 600
    frame = chosen.to_pandas()
    assert frame["feature"].tolist() == list(FEATURES)
    assert frame.loc[~frame["kept"], "feature"].tolist() == ["constant", "sparse"]


@given(
    cuts=st.lists(st.integers(0, 90), max_size=5),
    seed=st.integers(0, 50),
    sample=st.sampled_from([20, 20_000]),
)
@settings(max_examples=15)
def test_any_cut_gives_the_same_report(cuts, seed, sample, monkeypatch):
    monkeypatch.setattr(selection, "SAMPLE_ROWS", sample)
    rows = table(90, seed)
    order = np.random.default_rng(seed).permutation(90)
    select = {"missing": 0.9, "correlation": 0.9, "top_k": 3}
    assert choose(select, rows.take(pa.array(order)), cuts) == choose(select, rows)


def test_no_rows():
    chosen = choose({"missing": 0.1, "variance": 0, "correlation": 0.5, "top_k": 1}, table().slice(0, 0))
    assert chosen.kept == FEATURES
    assert lines(chosen)["a"]["variance"] is None


def test_rows_without_a_label_do_not_count_for_information():
    rows = table()
    unknown = pa.array(np.where(np.arange(600) < 300, None, rows["label"].to_numpy()), pa.bool_())
    some = rows.set_column(rows.schema.get_field_index("label"), "label", unknown)
    half = choose({"mutual_information": 0}, rows.slice(300))
    assert lines(choose({"mutual_information": 0}, some))["a"]["mutual_information"] == pytest.approx(
        lines(half)["a"]["mutual_information"], abs=1e-6
    )


def test_errors():
    with pytest.raises(PlanError, match="need a label"):
        Selecting(Select(top_k=3), ("a",))
    rows = table().set_column(0, "a", pa.array([np.inf] * 600))
    with pytest.raises(ComputeError, match="select: feature 'a' has an infinite value"):
        choose({"variance": 0}, rows)
