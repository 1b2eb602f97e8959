"""Out-of-time target encoding against a loop that is written from its definition."""

from __future__ import annotations

import statistics

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureflow.datasets import fitting as fits
from featureflow.kernels.out_of_time import running_encodings
from featureflow.spec.encode import Encode


def by_definition(categories, times, labels, delay, smoothing):
    """One row after the other: the rows whose label is known at its time, and scikit-learn's formula on them."""
    found = []
    for category, t in zip(categories, times, strict=True):
        known = [
            (c, label)
            for c, r, label in zip(categories, times, labels, strict=True)
            if label is not None and t is not None and r is not None and r + delay <= t and r < t
        ]
        if not known:
            found.append(None)
            continue
        everything = [label for _, label in known]
        own = [label for c, label in known if c == category]
        prior = statistics.fmean(everything)
        if smoothing is not None:
            weight = len(own) + smoothing
            found.append((sum(own) + smoothing * prior) / weight if weight else prior)
            continue
        variance = statistics.pvariance(everything)
        within = statistics.pvariance(own) if own else 0.0
        total = variance * len(own) + within
        share = variance * len(own) / total if own and total else None
        found.append(prior if share is None else share * statistics.fmean(own) + (1 - share) * prior)
    return found


def ours(categories, times, labels, delay, smoothing):
    names = sorted({c for c in categories if c is not None})
    codes = np.array([len(names) if c is None else names.index(c) for c in categories], np.int64)
    out = running_encodings(
        codes,
        np.array([0 if t is None else t for t in times], np.int64),
        np.array([t is not None for t in times]),
        np.array([np.nan if label is None else label for label in labels], np.float64),
        delay_us=delay,
        smoothing=smoothing,
    )
    return [None if np.isnan(v) else v for v in out.tolist()]


row = st.tuples(
    st.sampled_from(["a", "b", None]),
    st.none() | st.integers(0, 12),
    st.none() | st.sampled_from([0.0, 1.0, 0.5, -3.25]),
)
rows = st.lists(row, min_size=1, max_size=30)


@given(rows=rows, delay=st.integers(0, 6), smoothing=st.sampled_from([None, 0, 1.5, 20]))
@settings(max_examples=150)
def test_equals_its_definition(rows, delay, smoothing):
    categories, times, labels = zip(*rows, strict=True)
    expected = by_definition(categories, times, labels, delay, smoothing)
    assert ours(categories, times, labels, delay, smoothing) == [
        None if v is None else pytest.approx(v, rel=1e-9, abs=1e-9) for v in expected
    ]


@given(rows=rows, delay=st.integers(0, 6), smoothing=st.sampled_from([None, 2.0]), data=st.data())
@settings(max_examples=60)
def test_order_of_rows_does_not_matter_to_the_bit(rows, delay, smoothing, data):
    order = data.draw(st.permutations(range(len(rows))))
    before = ours(*zip(*rows, strict=True), delay, smoothing)
    after = ours(*zip(*[rows[i] for i in order], strict=True), delay, smoothing)
    assert after == [before[i] for i in order]


def test_order_of_labels_of_one_instant_does_not_matter_to_the_bit():
    random = np.random.default_rng(0)
    labels = [*random.normal(size=40).tolist(), None]
    categories, times = ["a", "b"] * 20 + ["a"], [0] * 40 + [1]
    for smoothing in (None, 3.0):
        before = ours(categories, times, labels, 0, smoothing)[-1]
        for _ in range(10):
            order = [*(random.permutation(20) * 2).tolist(), *(random.permutation(20) * 2 + 1).tolist(), 40]
            shuffled = ([given[i] for i in order] for given in (categories, times, labels))
            assert ours(*shuffled, 0, smoothing)[-1] == before


@given(rows=rows, delay=st.integers(0, 6), at=st.integers(0, 12), noise=st.floats(-5, 5))
@settings(max_examples=60)
def test_labels_not_known_yet_change_nothing_to_the_bit(rows, delay, at, noise):
    def later(t):
        return t is not None and (t + delay > at or t >= at)

    changed = [(c, t, noise if later(t) else label) for c, t, label in rows]
    before, after = (ours(*zip(*given, strict=True), delay, None) for given in (rows, changed))
    early = [i for i, (_, t, _) in enumerate(rows) if t is not None and t <= at]
    assert [after[i] for i in early] == [before[i] for i in early]


def table():
    return pa.table(
        {
            "shop": ["a", "a", "b", None, "a"],
            "t": pa.array([0, 10, 10, 20, 30]).cast(pa.timestamp("us", "UTC")),
            "y": pa.array([True, False, None, True, True]),
        }
    )


def fit(step, labels):
    entry = Encode.model_validate({"columns": ["shop"], "with": [step]})
    fitting = fits.begin([entry], table().schema, labels=labels, time="t")
    return fitting.advance(fits.merge([fitting.chunk(table())])).fitted


def test_train_rows_get_what_was_known_and_new_rows_what_all_say():
    fitted = fit({"target": {"folds": "time", "smoothing": 0}}, {"y": 10})
    known = fitted.known_before(fitted.gather(table()))
    train = np.array([True, True, True, True, False])
    made = fitted.transform(table(), train, known.slice(0, 4))["shop"].to_pylist()
    # the first label is known at 10; of row 4, which is no train row here, all labels of `a` speak
    assert made == [None, 1.0, 1.0, 0.5, pytest.approx(2 / 3)]


def test_prior_fills_where_no_label_is_known():
    fitted = fit({"target": {"folds": "time", "smoothing": 0, "prior": 0.25}}, {"y": 10})
    assert fitted.known_before(fitted.gather(table())).column(0).to_pylist()[0] == 0.25


def test_label_delay_of_the_encoder_counts_more_than_the_labels():
    fitted = fit({"target": {"folds": "time", "smoothing": 0, "label_delay": "1h"}}, {"y": 10})
    assert fitted.known_before(fitted.gather(table())).column(0).null_count == 5


def test_steps_after_it_are_fitted_on_what_all_labels_say():
    steps = [{"target": {"folds": "time", "smoothing": 0}}, {"impute": "median"}, "standard"]
    entry = Encode.model_validate({"columns": ["shop"], "with": steps})
    fitting = fits.begin([entry], table().schema, labels={"y": 10}, time="t")
    while not fitting.done:
        fitting = fitting.advance(fits.merge([fitting.chunk(table())]))
    full = np.array([2 / 3, 2 / 3, 0.75, 1.0, 2 / 3])
    made = fitting.fitted.transform(table())["shop"].to_numpy()
    np.testing.assert_allclose(made, (full - full.mean()) / full.std(), atol=1e-12)
