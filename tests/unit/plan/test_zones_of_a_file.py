"""Polygons of a file: found from the folder of the spec, and part of the definition by what they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import featureflow as ff
from featureflow.core.errors import SpecError

SPEC = """
sources: {sst: {path: sst.nc}}
features:
  by_zone: {source: sst, steps: [{zonal: {polygons: zones/zones.geojson, property: id, ops: mean}}]}
"""


def write_zones(folder: Path, east: float) -> None:
    line = [[-1, -1], [east, -1], [east, 9], [-1, 9], [-1, -1]]
    zone = {
        "type": "Feature",
        "properties": {"id": "w"},
        "geometry": {"type": "Polygon", "coordinates": [line]},
    }
    (folder / "zones").mkdir(exist_ok=True)
    (folder / "zones" / "zones.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [zone]})
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "here"
    made.mkdir()
    cube = xr.Dataset(
        {"a": (("lat", "lon"), np.ones((3, 4)))}, {"lat": np.arange(3.0), "lon": np.arange(4.0)}
    )
    cube.to_netcdf(made / "sst.nc")
    write_zones(made, 1.5)
    (made / "featureflow.yaml").write_text(SPEC)
    return made


def definition(folder: Path) -> list[object]:
    (grid,) = ff.Project(folder, store=str(folder / "store")).compile_grids().values()
    assert grid.outline.zone.values.tolist() == ["w"]
    found: list[object] = grid.definition["steps"]
    return found


def test_a_file_is_part_of_the_definition_by_what_it_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent.parent)
    first = definition(folder)
    shutil.copytree(folder, folder.parent / "there")
    assert definition(folder.parent / "there") == first
    write_zones(folder, 2.5)
    assert definition(folder) != first


def test_a_file_that_is_not_there_is_told_where_it_is_named(folder: Path) -> None:
    (folder / "zones" / "zones.geojson").unlink()
    with pytest.raises(SpecError, match=r"featureflow.yaml:4:.*zones.geojson can't be read"):
        definition(folder)
