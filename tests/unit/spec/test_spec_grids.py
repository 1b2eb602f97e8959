"""Grids in a spec: normal forms of steps, what is a grid and what a table, what steps are fitted on, who reads whom."""

from __future__ import annotations

import json
from typing import Any

import pytest

from featureflow.core.errors import SpecError
from featureflow.spec.dependencies import ancestors, build_order, descendants, grid_order, parents, sources_of
from featureflow.spec.environment import construct
from featureflow.spec.fields import Misplaced
from featureflow.spec.formats import format_of
from featureflow.spec.grid_steps import GRID_STEPS, read_step
from featureflow.spec.load import load_text
from featureflow.spec.models import Project
from featureflow.spec.selection import select
from featureflow.spec.yaml_text import parse

STEPS = (
    "select isel where derive cast fill mask resample rolling coarsen anomaly normalize standardize clip percentile "
    "gradient diff lag cumulative reduce groupby zonal regrid concat merge"
)


def step(text: str) -> dict[str, Any]:
    """Normal parameters of a step that is written in YAML."""
    node = parse(text, "step").root
    assert node is not None
    name, params = read_step(construct(node, {}, print).expanded)
    assert text.lstrip("{ ").startswith(name)
    return params


def test_the_language_has_these_steps() -> None:
    assert list(GRID_STEPS) == STEPS.split()


@pytest.mark.parametrize("name", list(GRID_STEPS))
def test_the_example_of_a_step_is_right_and_plain_data(name: str) -> None:
    params = step(GRID_STEPS[name].example)
    assert json.loads(json.dumps(params)) == params


@pytest.mark.parametrize("name", list(GRID_STEPS))
def test_long_and_short_forms_have_the_same_keys(name: str) -> None:
    """Whatever is written, every parameter of the normal form is there."""
    more = {
        "select": "{select: {variables: a}}",
        "isel": "{isel: {x: [1, 2]}}",
        "where": "{where: {expression: a > 0, variables: a}}",
        "cast": "{cast: {a: float32}}",
        "fill": "{fill: {a: 0}}",
        "mask": "{mask: {source: m}}",
        "resample": "{resample: {dim: t, every: 2h, op: sum, ddof: 1}}",
        "rolling": "{rolling: {dim: t, window: 7d, op: max, min_periods: 2}}",
        "anomaly": "{anomaly: {over: t}}",
        "normalize": "{normalize: {min: {a: 0}, max: {a: 1}, to: [-1, 1]}}",
        "standardize": "{standardize: {mean: 0, std: 1}}",
        "clip": "{clip: [0, null]}",
        "percentile": "{percentile: {dims: t, quantiles: 0.5}}",
        "lag": "{lag: {dim: t, n: 1}}",
        "zonal": "{zonal: {polygons: {a: [[0, 0], [0, 1], [1, 1]]}, ops: mean}}",
        "regrid": "{regrid: {to: {like: other}}}",
    }
    if name in more:
        assert step(more[name]).keys() == step(GRID_STEPS[name].example).keys()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{select: {t: [a, null]}}", {"t": {"kind": "range", "from": "a", "to": None}}),
        ("{select: {t: {from: 1, to: 2}}}", {"t": {"kind": "range", "from": 1, "to": 2}}),
        ("{select: {t: 5}}", {"t": {"kind": "value", "value": 5, "method": "exact"}}),
        ("{select: {t: [5]}}", {"t": {"kind": "values", "values": [5], "method": "exact"}}),
        ("{select: {t: [1, 2, 3]}}", {"t": {"kind": "values", "values": [1, 2, 3], "method": "exact"}}),
        ("{select: {t: {values: [1, 2]}}}", {"t": {"kind": "values", "values": [1, 2], "method": "exact"}}),
        (
            "{select: {t: {value: 1.5, method: nearest}}}",
            {"t": {"kind": "value", "value": 1.5, "method": "nearest"}},
        ),
    ],
)
def test_selections_by_label(text: str, expected: dict[str, Any]) -> None:
    assert step(text)["labels"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{isel: {t: [1, -1]}}", {"t": {"kind": "range", "start": 1, "stop": -1, "step": 1}}),
        ("{isel: {t: [null, 5]}}", {"t": {"kind": "range", "start": None, "stop": 5, "step": 1}}),
        ("{isel: {t: {start: 1, step: 2}}}", {"t": {"kind": "range", "start": 1, "stop": None, "step": 2}}),
        ("{isel: {t: -1}}", {"t": {"kind": "value", "index": -1}}),
        ("{isel: {t: [1, 2, 5]}}", {"t": {"kind": "values", "indices": [1, 2, 5]}}),
        ("{isel: {t: {values: [4, 2]}}}", {"t": {"kind": "values", "indices": [4, 2]}}),
    ],
)
def test_selections_by_position(text: str, expected: dict[str, Any]) -> None:
    assert step(text)["positions"] == expected


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("1D", "1D"),
        ("D", "1D"),
        ("7d", "7D"),
        ("10m", "10min"),
        ("10min", "10min"),
        ("6H", "6h"),
        ("30s", "30s"),
        ("MS", "1MS"),
        ("2QS", "2QS"),
        ("1YS", "1YS"),
    ],
)
def test_lengths_of_bins(written: str, canonical: str) -> None:
    assert step(f"{{resample: {{time: {written}, op: mean}}}}")["every"] == canonical


def test_windows_are_values_or_a_duration() -> None:
    assert step("{rolling: {dim: t, window: 30, op: mean}}")["window"] == 30
    found = step("{rolling: {dim: t, window: 30d, op: mean}}")
    assert (found["window"], found["window_us"]) == (None, 30 * 86_400 * 1_000_000)


def test_ends_of_clip() -> None:
    assert step("{clip: [0, 40]}")["range"] == [0, 40]
    assert step("{clip: {max: 40}}")["range"] == [None, 40]
    found = step("{clip: {sst: [0, 40], ice: {min: 0}}}")
    assert found["each"] == {"sst": [0, 40], "ice": [0, None]}
    assert found["range"] is None


def test_constants_instead_of_a_fit() -> None:
    assert step("{normalize: {min: 0, max: 255}}")["constants"] == [0, 255]
    assert step("{standardize: {mean: {a: 1}, std: {a: 2}}}")["each"] == {"a": [1, 2]}


def test_percentiles_are_shares() -> None:
    one = step("{percentile: {dims: t, q: 95}}")
    assert (one["quantiles"], one["scalar"]) == ([0.95], True)
    several = step("{percentile: {dims: t, quantiles: [0.5]}}")
    assert (several["quantiles"], several["scalar"]) == ([0.5], False)


def test_a_range_of_coordinates_has_its_stop_if_a_step_ends_there() -> None:
    def count(text: str) -> Any:
        return step(f"{{regrid: {{to: {{lat: {text}}}}}}}")["to"]["lat"]["count"]

    assert count("{start: -60, stop: 60, step: 0.5}") == 241
    assert count("{start: 0, stop: 1, step: 0.1}") == 11
    assert count("{start: 0, stop: 1, step: 0.3}") == 4
    assert count("{start: 10, stop: 0, step: -5}") == 3


def test_masks_keep_values_or_what_is_true() -> None:
    assert step("{mask: {source: m, keep: 1}}")["values"] == [1]
    assert step('{mask: {source: m, keep: "z > 2"}}')["expression"] == "z > 2"
    nothing = step("{mask: {source: m}}")
    assert (nothing["values"], nothing["expression"]) == (None, None)


def test_the_place_of_a_mistake_is_below_the_step() -> None:
    with pytest.raises(Misplaced) as caught:
        step("{regrid: {to: {lat: {start: 0, stop: 1, step: x}}}}")
    assert caught.value.place == ("regrid", "to", "lat", "step")


SPEC = """
sources:
  sst: {path: s3://lake/sst.zarr}
  land: {path: land.nc}
  ships: {path: ships.csv, time: t}
features:
  weekly: {source: ships, keys: [ship]}
  raw: {source: sst, tags: [ocean]}
  masked: {source: raw, steps: [{mask: {source: land}}]}
  both: {source: masked, steps: [{merge: {source: raw, prefix: raw_}}]}
datasets:
  patches: {spine: {grid: both, patch: {lat: 8, lon: 8}, labels: land.zone}}
  places:
    spine: {source: ships, keys: [ship]}
    lookup: [{from: masked, at: {lat: latitude, lon: longitude}, ttl: 40d}]
"""


def project(text: str = SPEC) -> Project:
    return load_text(text).project


def test_features_are_split_into_tables_and_grids() -> None:
    found = project()
    assert (list(found.features), list(found.grids)) == (["weekly"], ["raw", "masked", "both"])
    written = found.model_dump(by_alias=True)
    assert list(written["features"]) == ["weekly", "raw", "masked", "both"]


@pytest.mark.parametrize("field", ["variables: [a]", "steps: []", "chunks: {t: 5}", "shards: {t: 5}"])
def test_a_field_of_grids_makes_a_grid(field: str) -> None:
    with pytest.raises(SpecError, match="'clicks' is a table"):
        load_text(f"sources: {{clicks: {{path: c.csv}}}}\nfeatures: {{f: {{source: clicks, {field}}}}}")


def test_a_variable_may_hold_the_path_of_a_source() -> None:
    text = "sources: {a: {path: '${P}'}}\nfeatures: {g: {source: a}}"
    assert list(load_text(text, env={"P": "x.zarr"}).project.grids) == ["g"]
    with pytest.raises(SpecError, match="missing field 'keys'"):
        load_text(text, env={"P": "x.csv"})


def test_who_reads_whom() -> None:
    found = project()
    assert parents(found, "both") == ("masked", "raw")
    assert sources_of(found, "masked") == ("land",)
    assert sources_of(found, "raw") == ("sst",)
    assert parents(found, "patches") == ("both",)
    assert sources_of(found, "patches") == ("land",)
    assert parents(found, "places") == ("masked",)
    assert ancestors(found, "patches") == {"both", "masked", "raw"}
    assert descendants(found, "masked") == {"both", "patches", "places"}


def test_grids_are_built_after_what_they_read() -> None:
    turned = SPEC.replace("  weekly:", "  first: {source: both, steps: []}\n  weekly:")
    assert grid_order(project(turned)) == ["raw", "masked", "both", "first"]
    assert build_order(project()) == ["raw", "masked", "both", "weekly", "patches", "places"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("masked", ["masked"]),
        ("+masked", ["raw", "masked"]),
        ("raw+", ["raw", "masked", "both", "patches", "places"]),
        ("1+patches", ["both", "patches"]),
        ("tag:ocean", ["raw"]),
        ("source:land", ["masked", "patches"]),
        ("source:sst+", ["raw", "masked", "both", "patches", "places"]),
    ],
)
def test_grids_can_be_selected(selector: str, expected: list[str]) -> None:
    assert select(project(), [selector]) == expected


def fitted(before: str, step: str, time: str = "", parent: str = "") -> Any:
    """Period of the last of some steps; the text of the mistake if there is one."""
    text = f"""
sources: {{a: {{path: a.zarr{", time: " + time if time else ""}}}}}
features:
  p: {{source: a, steps: [{parent}]}}
  f: {{source: p, steps: [{before + ", " if before else ""}{step}]}}
"""
    try:
        return load_text(text).project.grids["f"].steps[-1].params["period"]
    except SpecError as error:
        return str(error)


ANOMALY = "{anomaly: {over: time, by: month}}"
YEARS = "{select: {time: ['1990', '2020']}}"


@pytest.mark.parametrize(
    ("before", "step", "parent"),
    [
        (YEARS, ANOMALY, ""),
        (f"{YEARS}, {{rolling: {{dim: time, window: 3, op: mean}}}}", ANOMALY, ""),
        ("", ANOMALY, YEARS),
        ("{isel: {time: [0, 100]}}", ANOMALY, ""),
        (YEARS, "{normalize: {dims: [time]}}", ""),
        (YEARS, "{standardize: {}}", ""),
        (YEARS, "{clip: {quantiles: [0.1, 0.9], dims: [lat, time]}}", ""),
        ("{select: {depth: [0, 5]}}", "{normalize: {dims: [depth]}}", ""),
    ],
)
def test_a_selection_with_both_ends_states_what_is_fitted_on(before: str, step: str, parent: str) -> None:
    assert fitted(before, step, parent=parent) == "all"


@pytest.mark.parametrize(
    ("before", "step", "parent"),
    [
        ("", ANOMALY, ""),
        ("{select: {time: ['1990', null]}}", ANOMALY, ""),
        ("{isel: {time: [0, -1]}}", ANOMALY, ""),
        ("{select: {lat: [0, 5]}}", "{normalize: {dims: [time, lat]}}", ""),
        (f"{YEARS}, {{concat: {{source: a, dim: time}}}}", ANOMALY, ""),
        ("", ANOMALY, "{select: {time: [null, '1990']}}"),
        ("", "{anomaly: {over: t, by: dayofyear}}", ""),
    ],
)
def test_what_is_not_stated_is_refused(before: str, step: str, parent: str) -> None:
    assert "would learn from all of" in fitted(before, step, parent=parent)


def test_the_dimension_of_times_is_what_the_source_says() -> None:
    by_hand = "{normalize: {dims: [day]}}"
    assert "would learn from all of 'day'" in fitted("", by_hand, time="day")
    assert fitted("", by_hand) is None  # nobody knows before the coordinate is read
    assert "would learn from all of 'day'" in fitted("", "{standardize: {}}", time="day")
    assert fitted("", "{normalize: {dims: [time]}}", time="day") is None


def test_a_period_that_is_written_stays() -> None:
    written = "{anomaly: {over: time, period: ['1991', '2020']}}"
    assert fitted("", written) == ["1991", "2020"]
    assert fitted(YEARS, written) == ["1991", "2020"]
    assert fitted("", "{anomaly: {over: time, period: all}}") == "all"
    assert fitted("", "{anomaly: {over: time, period: {from: 1, to: 2}}}") == [1, 2]


def test_constants_need_no_period() -> None:
    assert fitted("", "{normalize: {min: 0, max: 5}}", time="time") is None


def test_dimensions_that_come_back() -> None:
    text = """
sources: {a: {path: a.zarr}}
features:
  f:
    source: a
    steps: [{reduce: {dims: month, op: mean}}, {groupby: {dim: time, by: month, op: mean}}]
    chunks: {month: 12}
"""
    assert load_text(text).project.grids["f"].chunks == {"month": 12}


def test_patches_have_whole_strides_and_a_key() -> None:
    found = project().datasets["patches"].spine
    assert (found.keys, found.stride, found.patch) == (("patch",), {"lat": 8, "lon": 8}, {"lat": 8, "lon": 8})
    assert found.labels is not None
    assert (found.labels.source, found.labels.variable, found.labels.op) == ("land", "zone", "patch")
    some = project(SPEC.replace("lon: 8}", "lon: 8}, stride: {lat: 4}")).datasets["patches"].spine
    assert some.stride == {"lat": 4, "lon": 8}


def test_lookups_on_grids_take_all_variables_or_some() -> None:
    assert project().datasets["places"].lookup[0].columns == ()
    for name in ("columns", "variables"):
        some = project(SPEC.replace("ttl: 40d", f"{name}: [sst]")).datasets["places"].lookup[0]
        assert some.columns == ("sst",)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.zarr/", "zarr"),
        ("a.nc", "netcdf"),
        ("a.nc4", "netcdf"),
        ("a.h5", "hdf5"),
        ("a.hdf5", "hdf5"),
        ("a.grib2", "grib"),
        ("a.GRIB", "grib"),
        ("a.tif", "tiff"),
        ("a.tiff", "tiff"),
        ("a.dcm", "dicom"),
        ("a.nii.gz", "nifti"),
        ("a.nii", "nifti"),
    ],
)
def test_suffixes(path: str, expected: str) -> None:
    assert format_of(path) == expected


def test_a_period_is_for_steps_that_learn_even_over_all_dimensions() -> None:
    assert fitted("", "{standardize: {period: all}}") == "all"
    assert fitted("", "{clip: {quantiles: [0.1, 0.9], period: all}}") == "all"
