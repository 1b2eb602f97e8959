"""The encoder as a scikit-learn transformer: scikit-learn's own checks, all kinds of frames, JSON, errors."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, TargetEncoder
from sklearn.utils.estimator_checks import parametrize_with_checks

from featureflow.core.errors import ComputeError
from featureflow.datasets import fitting as fits
from featureflow.datasets.encoder import DatasetEncoder, FrameError
from featureflow.spec.encode import Encode

RULES = [
    {"columns": ["amount"], "with": [{"impute": {"strategy": "median", "indicator": True}}, "standard"]},
    {"columns": ["channel"], "with": "onehot", "min_count": 2},
    {"columns": ["shop"], "with": "target", "smoothing": 2, "folds": 3},
]
NAMES = [
    "amount",
    "amount_missing",
    "count",
    "channel_pos",
    "channel_web",
    "channel_infrequent_sklearn",
    "shop",
]


def frame(n=60):
    random = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "amount": np.where(random.random(n) < 0.2, np.nan, random.lognormal(size=n)),
            "count": random.integers(0, 9, n),
            "channel": [*random.choice(["web", "pos"], n - 1), "app"],
            "shop": random.choice(["a", "b", "c"], n),
        },
        index=np.arange(n) * 10,
    )


def labels(n=60):
    return np.random.default_rng(4).random(n) < 0.5


@pytest.fixture
def fitted():
    return DatasetEncoder(RULES).fit(frame(), labels())


# nothing is expected to fail: there is no list of exceptions
@parametrize_with_checks([DatasetEncoder()])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_checks(estimator, check):
    check(estimator)


@parametrize_with_checks([DatasetEncoder([{"columns": ["x0"], "with": [{"impute": "mean"}, "standard"]}])])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_checks_with_an_encoder(estimator, check):
    # its rules name a column x0: frames of one check call theirs otherwise
    if "column_names" in str(check) or "dataframe" in str(check):
        return
    check(estimator)


def test_columns_in_order_with_scikit_learns_names(fitted):
    made = fitted.transform(frame())
    assert list(made.columns) == NAMES == fitted.get_feature_names_out().tolist()
    assert made.index.equals(frame().index)
    assert fitted.n_features_in_ == 4
    assert fitted.feature_names_in_.tolist() == ["amount", "count", "channel", "shop"]
    filled = frame()["amount"].fillna(frame()["amount"].median()).to_numpy()[:, None]
    np.testing.assert_allclose(
        made["amount"], StandardScaler().fit_transform(filled)[:, 0], rtol=1e-12, atol=1e-12
    )
    assert made["count"].tolist() == frame()["count"].tolist()


def test_gives_the_kind_that_it_gets(fitted):
    pandas = fitted.transform(frame())
    polars = fitted.transform(pl.from_pandas(frame()))
    arrow = fitted.transform(pa.Table.from_pandas(frame(), preserve_index=False))
    assert isinstance(polars, pl.DataFrame)
    assert polars.equals(pl.from_arrow(arrow))
    assert polars.to_dict(as_series=False) == pandas.to_dict("list")


def test_set_output_is_respected(fitted):
    fitted.set_output(transform="polars")
    assert isinstance(fitted.transform(frame()), pl.DataFrame)
    fitted.set_output(transform="pandas")
    assert isinstance(fitted.transform(pl.from_pandas(frame())), pd.DataFrame)
    again = DatasetEncoder(RULES).fit(frame(), labels())
    with config_context(transform_output="polars"):
        assert isinstance(again.transform(frame()), pl.DataFrame)


def test_order_and_other_columns_do_not_matter(fitted):
    shuffled = frame()[["shop", "count", "channel", "amount"]].assign(more=1)
    pd.testing.assert_frame_equal(fitted.transform(shuffled), fitted.transform(frame()))


def test_rows_one_by_one_give_the_same(fitted):
    whole = fitted.transform(frame())
    alone = pd.concat([fitted.transform(frame().iloc[[i]]) for i in range(5)])
    pd.testing.assert_frame_equal(alone, whole.iloc[:5])


def test_json_round_trip_is_exact(fitted):
    text = json.dumps(fitted.to_json(), allow_nan=False)
    again = DatasetEncoder.from_json(json.loads(text))
    pd.testing.assert_frame_equal(again.transform(frame()), fitted.transform(frame()), check_exact=True)
    assert json.dumps(again.to_json()) == text
    assert again.get_feature_names_out().tolist() == NAMES
    with pytest.raises(ComputeError, match="written in format 99"):
        DatasetEncoder.from_json({**fitted.to_json(), "format": 99})


def test_clone_fits_the_same_rules_again(fitted):
    read = DatasetEncoder.from_json(json.loads(json.dumps(fitted.to_json())))
    for encoder in (fitted, read):
        fresh = clone(encoder)
        assert not hasattr(fresh, "fitted_")
        pd.testing.assert_frame_equal(
            fresh.fit(frame(), labels()).transform(frame()), fitted.transform(frame()), check_exact=True
        )
    assert pickle.loads(pickle.dumps(fitted)).get_feature_names_out().tolist() == NAMES


def test_missing_columns_are_named(fitted):
    with pytest.raises(
        FrameError, match=r"the frame lacks 'count', 'shop'\. There are: amount, channel\."
    ) as caught:
        fitted.transform(frame()[["amount", "channel"]])
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ComputeError)


def test_a_frame_that_is_encoded_already_is_told(fitted):
    with pytest.raises(FrameError, match=r"lacks 'channel'.*looks encoded already.*encoded=False"):
        fitted.transform(fitted.transform(frame()))
    stored = frame().drop(columns="channel").assign(channel__encoded=1)
    with pytest.raises(FrameError, match="looks encoded already"):
        fitted.transform(stored)


def test_unfit_values_are_errors(fitted):
    with pytest.raises(ComputeError, match="column 'amount': fitted as float64; got string"):
        fitted.transform(frame().assign(amount="much"))
    with pytest.raises(FrameError, match="60 rows have 59 labels"):
        DatasetEncoder(RULES).fit(frame(), labels()[1:])


def test_train_rows_do_not_see_their_own_label():
    """With a shop for each row, an encoding of its own label would give the label away."""
    given = frame().assign(shop=[f"s{i}" for i in range(60)])
    rules = [{"columns": ["shop"], "with": "target", "smoothing": 0, "folds": 5}]
    y = labels()
    made = DatasetEncoder(rules).fit_transform(given, y)["shop"]
    assert abs(np.corrcoef(made, y)[0, 1]) < 0.9
    seen = DatasetEncoder(rules).fit(given, y).transform(given)["shop"]
    assert np.corrcoef(seen, y)[0, 1] == pytest.approx(1)


def test_target_without_folds_is_scikit_learns():
    rules = [{"columns": ["shop"], "with": "target"}]
    theirs = TargetEncoder().fit(frame()[["shop"]], labels()).transform(frame()[["shop"]])
    ours = DatasetEncoder(rules).fit(frame(), labels()).transform(frame())
    np.testing.assert_allclose(ours["shop"], theirs[:, 0], rtol=1e-12)


def test_out_of_time_needs_the_time_and_uses_it():
    given = pd.DataFrame(
        {"shop": ["a", "a", "a"], "t": pd.to_datetime(["2026-01-03", "2026-01-01", "2026-01-02"])}
    )
    rules = [{"columns": ["shop"], "with": "target", "smoothing": 0, "folds": "time"}]
    made = DatasetEncoder(rules, time="t").fit_transform(given, [True, True, False])
    assert made.columns.tolist() == ["shop"]
    np.testing.assert_array_equal(made["shop"], [0.5, np.nan, 1.0])
    late = DatasetEncoder(rules, time="t", label_delay="2d").fit_transform(given, [True, True, False])
    np.testing.assert_array_equal(late["shop"], [1.0, np.nan, np.nan])


def test_selection_drops_features():
    given = frame().assign(same=1.0, twice=lambda f: 2 * f["count"])
    encoder = DatasetEncoder(RULES, {"variance": 0, "correlation": 0.99}).fit(given, labels())
    names = encoder.get_feature_names_out().tolist()
    assert "same" not in names and "twice" not in names and "count" in names
    assert encoder.transform(given).columns.tolist() == names
    again = DatasetEncoder.from_json(json.loads(json.dumps(encoder.to_json())))
    assert again.transform(given).columns.tolist() == names
    report = encoder.selection_.to_pandas().set_index("feature")
    assert report.loc["twice", "correlated_with"] == "count"


def test_works_in_a_pipeline():
    model = make_pipeline(DatasetEncoder(RULES), LogisticRegression())
    assert model.fit(frame(), labels()).predict(frame()).shape == (60,)


def test_of_encoders_that_a_build_fitted():
    table = pa.Table.from_pandas(frame(), preserve_index=False).append_column("label", pa.array(labels()))
    encodes = [Encode.model_validate(rule) for rule in RULES]
    fitting = fits.begin(encodes, table.schema, labels={"label": 0}, identity=("count", "amount"))
    while not fitting.done:
        fitting = fitting.advance(fits.merge([fitting.chunk(table)]))
    schema = table.select(["amount", "count", "channel", "shop"]).schema
    made = DatasetEncoder.of(fitting.fitted, schema, encode=encodes, kept=["amount", "shop__encoded"])
    assert made.transform(frame()).columns.tolist() == ["amount"]
    made = DatasetEncoder.of(fitting.fitted, schema, encode=encodes, suffix="__encoded")
    assert made.get_feature_names_out().tolist() == [n if n == "count" else f"{n}__encoded" for n in NAMES]
    fresh = clone(made).fit(frame(), labels()).transform(frame())
    pd.testing.assert_frame_equal(fresh, made.transform(frame()), check_exact=True)


def test_categories_of_pandas_and_nullable_types():
    given = frame().astype({"channel": "category", "count": "Int64", "shop": "string[pyarrow]"})
    given.loc[0, "count"] = pd.NA
    rules = [*RULES, {"columns": ["count"], "with": "ordinal"}]
    encoder = DatasetEncoder(rules).fit(given, labels())
    plain = given.astype({"channel": object, "count": float, "shop": object})
    pd.testing.assert_frame_equal(encoder.transform(plain), encoder.transform(given))
    assert np.isnan(encoder.transform(given).loc[0, "count"])


def test_importing_the_package_loads_no_scikit_learn():
    code = "import sys, featureflow.datasets.fitting, featureflow.datasets.selection; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
