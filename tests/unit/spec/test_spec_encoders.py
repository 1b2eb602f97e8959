"""The table of encoders: its own consistency, and that the library's shelf is the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from featureflow.library.encoders.registry import ENCODERS as SHELF
from featureflow.library.encoders.registry import make
from featureflow.library.shards.registry import shard_format, shard_formats
from featureflow.spec.encoders import ALIASES, ENCODERS, PARAMETER_ALIASES, read_step
from featureflow.spec.exports import COMPRESSIONS, RECORD_FORMATS

#: what must be written to use an encoder
LEAST: dict[str, Any] = {"hash": {"buckets": 8}, "bucketize": {"n_bins": 4}, "clip": {"low": 0}}


def test_the_library_has_the_same_encoders() -> None:
    assert list(ENCODERS) == list(SHELF) or sorted(ENCODERS) == sorted(SHELF)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_library_has_the_same_parameters_and_defaults(name: str) -> None:
    fields = {field.name: field for field in dataclasses.fields(SHELF[name])}
    assert set(ENCODERS[name].params) == set(fields)
    for key, parameter in ENCODERS[name].params.items():
        if not parameter.required:
            assert fields[key].default == parameter.default, key


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_can_be_made_of_what_was_read(name: str) -> None:
    read, params = read_step({name: LEAST.get(name, {})})
    assert read == name
    assert list(params) == sorted(ENCODERS[name].params)
    assert make(name, params)


@pytest.mark.parametrize("name", ENCODERS)
def test_defaults_are_values_that_may_be_written(name: str) -> None:
    for key, parameter in ENCODERS[name].params.items():
        if not parameter.required:
            found = parameter.read(parameter.default)
            assert (found.wrong, found.value) == (None, parameter.default), key


def test_other_names_stand_for_encoders_and_parameters() -> None:
    parameters = {key for encoder in ENCODERS.values() for key in encoder.params}
    assert set(ALIASES.values()) <= set(ENCODERS)
    assert not set(ALIASES) & set(ENCODERS)
    assert set(PARAMETER_ALIASES.values()) <= parameters
    assert not set(PARAMETER_ALIASES) & parameters


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"impute": "most_frequent"}, {"strategy": "most_frequent"}),
        ({"hash": 64}, {"buckets": 64}),
        ({"bucketize": 10}, {"n_bins": 10, "edges": None}),
        ({"bucketize": [0, 1.5]}, {"edges": (0.0, 1.5), "n_bins": None}),
        ({"minmax": [-1, 1]}, {"range": (-1.0, 1.0)}),
        ({"standard": None}, {"with_mean": True}),
        ({"target": {"smoothing": 20}}, {"smoothing": 20.0, "folds": 5, "label": None}),
        ({"clip": {"low_q": 0.01, "high": 5}}, {"low_q": 0.01, "high": 5.0, "low": None}),
        ({"quantile": {"output": "normal"}}, {"n_quantiles": 1000}),
    ],
)
def test_spellings(given: dict[str, Any], expected: dict[str, Any]) -> None:
    _, params = read_step(given)
    assert {key: params[key] for key in expected} == expected


@pytest.mark.parametrize(
    "given",
    [
        {"onehot": {"min_count": True}},
        {"onehot": {"min_count": 1.5}},
        {"minmax": [1, 0]},
        {"bucketize": [1, 1]},
        {"bucketize": []},
        {"bucketize": {"n_bins": 1}},
        {"bucketize": {"n_bins": 3, "edges": [0]}},
        {"target": {"folds": 1}},
        {"target": {"smoothing": -1}},
        {"target": {"label_delay": "lifetime"}},
        {"impute": {"strategy": "mean", "value": 0}},
        {"clip": {}},
        {"robust": {"low": 75, "high": 25}},
        {"standard": {"with_mean": 1}},
        {"log1p": {"base": 2}},
        {"standard": {}, "minmax": {}},
        None,
    ],
)
def test_what_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"\w+.*\."):
        read_step(given)


def test_the_library_has_the_same_formats_of_shards() -> None:
    assert set(shard_formats()) == set(COMPRESSIONS)
    for name in shard_formats():
        found = shard_format(name)
        assert set(found.compressions) == set(COMPRESSIONS[name]), name
        assert found.records == (name in RECORD_FORMATS), name
