"""Encoders are scikit-learn's, fitted on the train rows alone, however these are cut into files."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from featureflow.datasets import fitting as fits
from featureflow.datasets.fitted import Fitted
from featureflow.library.encoders import ranks
from featureflow.spec.encode import Encode

NAN = float("nan")


def fit(encodes, table, cuts=(), order=None, **context):
    """Fit on the files that the cuts make, in an order, each state and plan through JSON; half of the merges nested."""
    fitting = fits.begin([Encode.model_validate(e) for e in encodes], table.schema, **context)
    ends = [0, *sorted(cuts), len(table)]
    files = [table.slice(a, b - a) for a, b in pairwise(ends)]
    files = [files[i] for i in order] if order else files
    while not fitting.done:
        fitting = fits.Fitting.from_json(json.loads(json.dumps(fitting.to_json())))
        states = [fitting.chunk(file.select(list(fitting.columns))) for file in files]
        half = len(states) // 2
        nested = [fits.merge(part) for part in (states[:half], states[half:]) if part]
        fitting = fitting.advance(fits.merge(nested))
    return fitting.fitted


def one(step, values, new, kind=None):
    """Encode new values by one chain fitted on one column; NaN for null."""
    column = pa.array(values, kind, from_pandas=True)
    fitted = fit([{"columns": ["x"], "with": step}], pa.table({"x": column}), [len(column) // 3])
    made = fitted.transform(pa.table({"x": pa.array(new, column.type, from_pandas=True)}))
    return np.column_stack([c.to_numpy(zero_copy_only=False).astype(float) for c in made.columns])


def rows(values):
    return np.array(values, dtype=float)[:, None]


def same(ours, theirs):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9, equal_nan=True)


numbers = st.one_of(
    st.floats(-1e6, 1e6, width=32),
    st.integers(-3, 3).map(float),
    st.just(NAN),
    st.sampled_from([0.1, 1e-8, 123456.789, -0.0]),
)
columns = st.lists(numbers, min_size=1, max_size=40).filter(lambda v: not np.isnan(v).all())
NEW = [NAN, -1e7, -2.5, 0.0, 0.1, 1.0, 3.0, 1e7]

SCALERS = {
    "standard": ("standard", StandardScaler()),
    "standard_without_mean": ({"standard": {"with_mean": False}}, StandardScaler(with_mean=False)),
    "standard_without_std": ({"standard": {"with_std": False}}, StandardScaler(with_std=False)),
    "minmax": ("minmax", MinMaxScaler()),
    "minmax_clipped": (
        {"minmax": {"range": [-2, 5], "clip": True}},
        MinMaxScaler(feature_range=(-2, 5), clip=True),
    ),
    "robust": ("robust", RobustScaler()),
    "robust_wide": ({"robust": {"low": 5, "high": 90}}, RobustScaler(quantile_range=(5, 90))),
    "robust_unscaled": ({"robust": {"with_scaling": False}}, RobustScaler(with_scaling=False)),
    "mean": ({"impute": "mean"}, SimpleImputer()),
    "median": ({"impute": "median"}, SimpleImputer(strategy="median")),
    "most_frequent": ({"impute": "most_frequent"}, SimpleImputer(strategy="most_frequent")),
    "constant": (
        {"impute": {"strategy": "constant", "value": -7}},
        SimpleImputer(strategy="constant", fill_value=-7),
    ),
    "median_then_standard": (
        [{"impute": "median"}, "standard"],
        make_pipeline(SimpleImputer(strategy="median"), StandardScaler()),
    ),
    "three_steps": (
        [{"impute": "mean"}, "robust", "minmax"],
        make_pipeline(SimpleImputer(), RobustScaler(), MinMaxScaler()),
    ),
}


@pytest.mark.parametrize("name", SCALERS)
@given(values=columns)
@settings(max_examples=30)
def test_numbers(name, values):
    step, theirs = SCALERS[name]
    new = [*values, *NEW]
    expected = theirs.fit(rows(values)).transform(rows(new))
    ours = one(step, values, new)
    # two correct roundings of the same spread may fall on both sides of "no spread at all"
    same(ours, expected)


@pytest.mark.filterwarnings("ignore:n_quantiles:UserWarning")
@pytest.mark.parametrize("output", ["uniform", "normal"])
@given(values=columns, n=st.integers(2, 60))
@settings(max_examples=40)
def test_quantile(output, values, n):
    theirs = QuantileTransformer(n_quantiles=n, output_distribution=output, subsample=None)
    new = [*values, *NEW]
    expected = theirs.fit(rows(values)).transform(rows(new))
    same(one({"quantile": {"n_quantiles": n, "output": output}}, values, new), expected)


@pytest.mark.filterwarnings("ignore:Bins whose width:UserWarning", "ignore:Feature 0 is constant:UserWarning")
@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
@given(values=columns.map(lambda v: [x for x in v if not np.isnan(x)]), n=st.integers(2, 12))
@settings(max_examples=40)
def test_bucketize(strategy, values, n):
    theirs = KBinsDiscretizer(n, encode="ordinal", strategy=strategy, subsample=None)
    new = [*values, *NEW[1:]]
    expected = theirs.fit(rows(values)).transform(rows(new))
    same(one({"bucketize": {"n_bins": n, "strategy": strategy}}, values, new), expected)


def test_bucketize_with_given_edges_is_digitize():
    new = [-1.0, 0.0, 0.5, 1.0, 2.0, NAN]
    ours = one({"bucketize": {"edges": [0, 1]}}, [0.0], new)[:, 0]
    assert ours[:-1].tolist() == np.digitize(new[:-1], [0, 1]).tolist()
    assert np.isnan(ours[-1])


@given(values=columns, low=st.floats(0, 0.5), high=st.floats(0.5, 1))
@settings(max_examples=30)
def test_clip_by_quantiles(values, low, high):
    ends = np.nanquantile(values, [low, high])
    same(one({"clip": {"low_q": low, "high_q": high}}, values, NEW), np.clip(rows(NEW), *ends))


def test_log1p_is_numpys():
    values = [NAN, -0.999999, -1e-12, 0.0, 1e-300, 1e-10, 0.3, 1.0, 12345.6, 1e300, float("inf"), -1.0]
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(
            one("log1p", [0.0], values)[:, 0], np.log1p(values), rtol=1e-15, equal_nan=True
        )
    assert np.isnan(one("log1p", [0.0], [-1.5])).all()


words = st.sampled_from(["a", "b", "b", "b", "cc", "cc", "d", "é", "z", None])
word_columns = st.lists(words, min_size=1, max_size=40)


def objects(values):
    return np.array(values, dtype=object)[:, None]


@pytest.mark.parametrize("drop", ["none", "first", "if_binary"])
@given(
    values=word_columns,
    min_count=st.none() | st.integers(1, 6),
    most=st.none() | st.integers(1, 6),
)
@settings(max_examples=40)
@pytest.mark.filterwarnings("ignore:Found unknown categories:UserWarning")
def test_onehot(drop, values, min_count, most):
    theirs = OneHotEncoder(
        min_frequency=min_count,
        max_categories=most,
        drop=None if drop == "none" else drop,
        handle_unknown="ignore",
        sparse_output=False,
    ).fit(objects(values))
    step = {"onehot": {"min_count": min_count, "max_categories": most, "drop": drop}}
    table = pa.table({"x": pa.array(values, pa.string())})
    fitted = fit([{"columns": ["x"], "with": step}], table, [len(values) // 2])
    names = [name.replace("x_None", "x_nan") for name in theirs.get_feature_names_out(["x"])]
    assert [output.name for output in fitted.outputs] == names
    new = [*dict.fromkeys([*values, "a", "d", "unseen"])]
    made = fitted.transform(pa.table({"x": pa.array(new, pa.string())}))
    expected = theirs.transform(objects(new))
    assert (
        np.array([c.to_pylist() for c in made.columns]).reshape(-1, len(new)).T.tolist() == expected.tolist()
    )


def test_onehot_of_numbers_and_booleans_has_scikit_learns_names():
    for values in ([3, 1, 1], [1.5, 2.0], [True, False]):
        theirs = OneHotEncoder(sparse_output=False).fit(np.array(values)[:, None])
        fitted = fit([{"columns": ["x"], "with": "onehot"}], pa.table({"x": values}))
        assert [o.name for o in fitted.outputs] == theirs.get_feature_names_out(["x"]).tolist()


@given(values=word_columns.filter(lambda v: any(v)), missing=st.none() | st.just(-5))
@settings(max_examples=30)
def test_ordinal(values, missing):
    def given_nan(column):  # scikit-learn takes None for a category here, and NaN for missing
        return objects([NAN if value is None else value for value in column])

    theirs = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=-1,
        encoded_missing_value=NAN if missing is None else missing,
    ).fit(given_nan([*values, None]))
    new = [*values, None, "unseen"]
    expected = theirs.transform(given_nan(new))
    same(one({"ordinal": {"missing_value": missing}}, values, new, pa.string()), expected)


CONTEXT = {"labels": {"y": 0}, "identity": ("id",)}


def labelled(values, labels):
    return pa.table({"x": pa.array(values, pa.string()), "y": labels, "id": np.arange(len(values))})


def encoded(fitted, table, train=None, known=None):
    made = fitted.transform(table, train, known)
    return np.column_stack([c.to_numpy(zero_copy_only=False) for c in made.columns])


LABELS = {
    "binary": st.booleans(),
    "two_words": st.sampled_from(["no", "yes"]),
    "two_numbers": st.sampled_from([3, 5]),
    "continuous": st.floats(-100, 100, width=32),
    "classes": st.sampled_from(["blue", "green", "red"]),
    "number_classes": st.sampled_from([0, 1, 2]),
}


@pytest.mark.parametrize("smoothing", ["auto", 0, 2.5, 20])
@pytest.mark.parametrize("kind", LABELS)
@given(data=st.data())
@settings(max_examples=15)
def test_target(kind, smoothing, data):
    values = data.draw(st.lists(words, min_size=6, max_size=40))
    labels = data.draw(st.lists(LABELS[kind], min_size=len(values), max_size=len(values)))
    enough = {"classes": 3, "number_classes": 3, "continuous": 0}.get(kind, 2)
    if len(set(labels)) < enough or (kind == "continuous" and all(float(v).is_integer() for v in labels)):
        return
    table = labelled(values, labels)
    theirs = TargetEncoder(smooth="auto" if smoothing == "auto" else float(smoothing))
    theirs.fit(objects(values), np.array(labels))
    entry = {"columns": ["x"], "with": {"target": {"smoothing": smoothing, "folds": 3}}}
    fitted = fit([entry], table, [len(values) // 3, len(values) // 2], **CONTEXT)
    new = [*values, "unseen"]
    same(encoded(fitted, labelled(new, [labels[0]] * len(new))), theirs.transform(objects(new)))
    if kind in {"classes", "number_classes"}:
        assert [o.name for o in fitted.outputs] == theirs.get_feature_names_out(["x"]).tolist()


@pytest.mark.parametrize("smoothing", ["auto", 5])
def test_target_of_train_rows_is_fitted_on_the_other_folds(smoothing):
    random = np.random.default_rng(5)
    values = random.choice(["a", "b", "c", None], 300).tolist()
    labels = random.random(300) < 0.4
    table = labelled(values, labels)
    entry = {"columns": ["x"], "with": {"target": {"smoothing": smoothing, "folds": 4, "seed": 9}}}
    fitted = fit([entry], table, [100], **CONTEXT)
    ours = encoded(fitted, table, np.ones(300, bool))[:, 0]
    from featureflow.kernels.hashing import hash_rows
    from featureflow.library.encoders.target_counts import folds_of

    folds = folds_of(hash_rows(table.select(["id"])), 4, 9)
    assert np.bincount(folds).min() > 40
    for fold in range(4):
        rest = folds != fold
        theirs = TargetEncoder(smooth=smoothing if smoothing == "auto" else float(smoothing))
        theirs.fit(objects(values)[rest], labels[rest])
        same(ours[~rest][:, None], theirs.transform(objects(values)[~rest]))
    assert not np.allclose(ours, encoded(fitted, table)[:, 0])


@given(
    n_cuts=st.lists(st.integers(0, 60), max_size=6),
    seed=st.integers(0, 2**16),
    data=st.data(),
)
@settings(max_examples=25)
def test_any_cut_and_order_gives_the_same_bytes(n_cuts, seed, data, monkeypatch):
    monkeypatch.setattr(ranks, "LIMIT", 16)
    random = np.random.default_rng(seed)
    n = 60
    table = pa.table(
        {
            "x": pa.array(np.where(random.random(n) < 0.2, NAN, random.lognormal(0, 8, n)), from_pandas=True),
            "z": random.integers(-5, 5, n),
            "c": pa.array(random.choice(["a", "b", "c", None], n)),
            "y": random.normal(size=n),
            "id": np.arange(n),
            "t": pa.array(random.integers(0, 30, n)).cast(pa.timestamp("us", "UTC")),
        }
    )
    encodes = [
        {
            "columns": ["x"],
            "with": [{"impute": {"strategy": "median", "indicator": True}}, "standard", "quantile"],
        },
        {"columns": ["z"], "with": [{"clip": {"low_q": 0.1}}, "robust"]},
        {"columns": ["c"], "with": "target", "folds": "time"},
    ]
    context = {"labels": {"y": 3}, "time": "t", "identity": ("id",)}
    whole = fit(encodes, table, **context)
    order = data.draw(st.permutations(range(len(n_cuts) + 1)))
    parts = fit(encodes, table, n_cuts, order, **context)
    assert json.dumps(parts.to_json()) == json.dumps(whole.to_json())
    assert Fitted.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_quantiles_of_many_values_take_a_second_look_and_are_exact(monkeypatch):
    monkeypatch.setattr(ranks, "LIMIT", 64)
    values = np.random.default_rng(0).lognormal(size=5000)
    theirs = QuantileTransformer(n_quantiles=100, subsample=None).fit(rows(values))
    fitted = fit(
        [{"columns": ["x"], "with": {"quantile": {"n_quantiles": 100}}}], pa.table({"x": values}), [1234]
    )
    assert fitted.chains[0].fitted[0]["quantiles"] == theirs.quantiles_[:, 0].tolist()
    statistic = ranks.Quantiles((0.5,))
    state = statistic.chunk(statistic.start(), pa.array(values), None)
    known, _ = statistic.advance(statistic.start(), state)
    assert not known
    assert len(ranks.unpack(state["keys"])) <= statistic.limit


def test_a_spread_within_rounding_is_none_as_scikit_learn_has_it():
    values = [1e9, 1e9 + 1e-7, 1e9, 1e9]
    expected = StandardScaler().fit(rows(values))
    assert expected.scale_.tolist() == [1.0]
    assert np.std(np.array(values) - 1e9) > 0
    same(one("standard", values, [1e9, 1e9 + 1]), expected.transform(rows([1e9, 1e9 + 1])))
