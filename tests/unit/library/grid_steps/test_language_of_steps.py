"""Whatever form the language has for a step, the library makes a step of it, whose outline xarray agrees with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
import yaml

from featureflow.contracts.grid_step import GridStep, StepMistake
from featureflow.contracts.outlines import outline_of
from featureflow.library.grid_steps.registry import STEPS, make_step
from featureflow.spec.grid_steps import GRID_STEPS, read_step

CUBE = xr.Dataset(
    {
        "a": (("time", "lat", "lon"), np.zeros((40, 4, 6), np.float32)),
        "b": (("time", "lat", "lon"), np.zeros((40, 4, 6), np.int16)),
    },
    coords={
        "time": np.datetime64("2000-01-01", "ns") + np.arange(40) * np.timedelta64(6, "h"),
        "lat": [0.0, 1, 2, 3],
        "lon": np.arange(6.0),
    },
)
LAND = xr.Dataset(
    {"land": (("lat", "lon"), np.ones((4, 6), np.int8))}, coords={"lat": CUBE.lat, "lon": CUBE.lon}
)
OTHERS = {"land": LAND, "later": CUBE.assign_coords(time=CUBE.time + np.timedelta64(30, "D"))}

#: a form of a step, and the sizes of what it makes where they are others than the cube's
FORMS: list[tuple[str, dict[str, int | None]]] = [
    (
        '{select: {time: ["2000-01-03", null], lat: 2, lon: {values: [1, 2]}}}',
        {"time": 32, "lat": None, "lon": 2},
    ),
    ("{select: {lat: {value: 1.2, method: nearest}, variables: [a]}}", {"lat": None}),
    (
        "{isel: {time: {start: 1, stop: 9, step: 2}, lat: -1, lon: [0, 2, 1]}}",
        {"time": 4, "lat": None, "lon": 3},
    ),
    ('{where: {expression: "a > 0", variables: [a]}}', {}),
    ('{derive: {c: "a + 1", d: "c * 2"}}', {}),
    ("{cast: {a: int16}}", {}),
    ("{cast: float64}", {}),
    ("{fill: 0}", {}),
    ("{fill: {a: 0, b: 1}}", {}),
    ("{fill: {value: 0, variables: [a]}}", {}),
    ("{fill: {method: linear, dim: time}}", {}),
    ("{fill: {method: ffill, dim: time, limit: 2}}", {}),
    ("{mask: {source: land}}", {}),
    ('{mask: {source: land, keep: "land > 1", variables: [a]}}', {}),
    ("{mask: {source: land, variable: land, keep: 1}}", {}),
    ("{resample: {dim: time, every: 1MS, op: first}}", {"time": 1}),
    ("{resample: {time: 1D, op: mean}}", {"time": 10}),
    ("{rolling: {dim: time, window: 3d, op: max}}", {}),
    ("{rolling: {dim: time, window: 3, op: median, center: true, min_periods: 1}}", {}),
    ("{rolling: {dim: lat, window: 2, op: std, ddof: 1, variables: [a]}}", {}),
    ("{coarsen: {lat: 2, op: sum}}", {"lat": 2}),
    ("{coarsen: {lon: 4, op: sum, boundary: trim}}", {"lon": 1}),
    ("{coarsen: {lon: 4, op: count, boundary: pad}}", {"lon": 2}),
    ("{anomaly: {over: time, period: all}}", {}),
    ('{anomaly: {over: time, by: hour, period: ["2000-01-01", "2000-01-05"], variables: a}}', {}),
    ("{normalize: {min: 0, max: 5}}", {}),
    ("{normalize: {min: {a: 0}, max: {a: 5}, to: [-1, 1]}}", {}),
    ("{normalize: {dims: time, period: all}}", {}),
    ("{standardize: {dims: [lat, lon], ddof: 1}}", {}),
    ("{standardize: {period: all}}", {}),
    ("{standardize: {mean: {a: 0}, std: {a: 5}}}", {}),
    ("{clip: [0, 1]}", {}),
    ("{clip: {min: 0}}", {}),
    ("{clip: {a: [0, 1], b: {max: 3}}}", {}),
    ("{clip: {quantiles: [0.1, 0.9], dims: [lat]}}", {}),
    ("{percentile: {dims: [lat], q: 50}}", {"lat": None}),
    ("{percentile: {dims: [lat, lon], quantiles: [0.1, 0.5]}}", {"lat": None, "lon": None, "quantile": 2}),
    ("{gradient: {dim: time, unit: D}}", {}),
    ("{gradient: {dim: lat, edge_order: 2, variables: [a]}}", {}),
    ("{diff: {dim: time, n: 2}}", {"time": 38}),
    ("{lag: {dim: time, n: 1}}", {}),
    ("{lag: {dim: time, n: [1, 2], variables: [a]}}", {}),
    ("{cumulative: {dim: time, op: max}}", {}),
    ("{reduce: {op: sum}}", {"time": None, "lat": None, "lon": None}),
    ("{reduce: {dims: lat, op: last}}", {"lat": None}),
    ("{groupby: {dim: time, by: hour, op: std}}", {"time": None, "hour": 4}),
    (
        "{zonal: {polygons: {one: [[0, 0], [3, 0], [3, 3]]}, ops: [mean, count]}}",
        {"lat": None, "lon": None, "zone": 1},
    ),
    ("{zonal: {labels: {source: land, variable: land}, ops: max}}", {"lat": None, "lon": None, "zone": 1}),
    ("{regrid: {to: {lat: [1, 2.5], lon: {start: 0, stop: 3, step: 0.5}}}}", {"lat": 2, "lon": 7}),
    ("{regrid: {to: {lat: [1, 2.5]}, method: nearest}}", {"lat": 2}),
    ("{regrid: {to: {lat: {start: 0.5, stop: 2.5, step: 1}}, method: conservative}}", {"lat": 3}),
    ("{regrid: {to: {like: land}}}", {}),
    ("{regrid: {to: {lon: {like: land}}}}", {}),
    ("{concat: {source: [later], dim: time}}", {"time": 80}),
    ("{merge: {source: land, variables: land, prefix: its_}}", {}),
]


def test_zones_of_some_variables() -> None:
    step = made("{zonal: {labels: land, ops: [mean, max], variables: a, weights: area}}")
    outline = step.outline(outline_of(CUBE), {"land": LAND})
    assert list(outline.data_vars) == ["a_mean", "a_max"]
    with pytest.raises(StepMistake, match="'c'"):
        made("{zonal: {labels: land, ops: mean, variables: c}}").outline(outline_of(CUBE), {"land": LAND})


def made(text: str) -> GridStep:
    name, params = read_step(yaml.safe_load(text))
    return make_step(name, params)


def test_language_and_library_have_the_same_steps() -> None:
    assert set(STEPS) == set(GRID_STEPS)
    assert {next(iter(yaml.safe_load(text))) for text, _ in FORMS} == set(GRID_STEPS)


@pytest.mark.parametrize(("text", "sizes"), FORMS, ids=[text for text, _ in FORMS])
def test_every_form_is_a_step(text: str, sizes: dict[str, int | None]) -> None:
    step = made(text)
    outlines = {name: outline_of(other) for name, other in OTHERS.items()}
    outlines.update({name: OTHERS[name] for name in step.loaded})
    outline = step.outline(outline_of(CUBE), outlines)
    expected: dict[str, int | None] = {**{str(dim): int(n) for dim, n in CUBE.sizes.items()}, **sizes}
    dims = {dim for variable in outline.data_vars.values() for dim in variable.dims}
    assert {dim: outline.sizes[dim] for dim in dims} == {d: n for d, n in expected.items() if n is not None}


@pytest.mark.parametrize(("text", "_"), FORMS, ids=[text for text, _ in FORMS])
def test_what_a_step_does_shows_in_its_text(text: str, _: Any) -> None:
    """Definitions are compared by their texts: the same parameters give the same, others another."""
    assert repr(made(text)) == repr(made(text))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{select: {depth: 5}}", "depth"),
        ("{select: {lat: 99}}", "lat"),
        ("{coarsen: {lat: 3, op: mean}}", "lat"),
        ("{rolling: {dim: depth, window: 3, op: mean}}", "dim"),
        ("{reduce: {dims: [lat, depth], op: mean}}", "dims"),
        ("{merge: {source: land, variables: sea}}", "variables"),
        ('{where: {expression: "c > 0"}}', "expression"),
    ],
)
def test_mistakes_are_placed_where_the_author_wrote_them(text: str, place: str) -> None:
    step = made(text)
    with pytest.raises(StepMistake) as caught:
        step.outline(outline_of(CUBE), {name: outline_of(other) for name, other in OTHERS.items()})
    written = yaml.safe_load(text)
    (params,) = written.values()
    found: Any = params
    for part in caught.value.place:
        assert isinstance(found, list | dict), (caught.value.place, caught.value.message)
        found = found[part]
    assert caught.value.place[:1] == (place,)
