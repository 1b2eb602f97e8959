"""Sources of N-d data as specs describe them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from featureflow.library.cubes import handles
from featureflow.library.cubes.registry import open_cube
from featureflow.library.cubes.stored import StoredCube
from featureflow.spec.sources import Source


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., StoredCube]:
    """`opened("*.nc", format="netcdf", concat="time")`: a source named `weather` below the test's folder."""

    def open_(path: str | list[str], **given: Any) -> StoredCube:
        return open_cube("weather", Source.model_validate({"path": path, **given}), str(tmp_path))

    yield open_
    handles.close_all()


@pytest.fixture
def weather() -> xr.Dataset:
    """Ten days of two variables; latitudes descend."""
    values = np.random.default_rng(7).normal(280, 9, (10, 6, 8)).astype("f4")
    values[3, 2, 1] = np.nan
    return xr.Dataset(
        {
            "sst": (("time", "lat", "lon"), values, {"units": "K", "long_name": "sea surface temperature"}),
            "land": (("lat", "lon"), np.arange(48).reshape(6, 8)),
        },
        coords={
            "time": pd.date_range("2000-02-25", periods=10),
            "lat": ("lat", np.linspace(50, -50, 6), {"units": "degrees_north"}),
            "lon": ("lon", np.arange(8.0), {"units": "degrees_east"}),
        },
        attrs={"title": "made up"},
    )
