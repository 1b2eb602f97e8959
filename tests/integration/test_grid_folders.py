"""A build of grids does not depend on the folder that it is started in."""

from __future__ import annotations

from pathlib import Path

import pytest
from integration.grid_projects import project, sea, write

from featureflow.api import Project

SPEC = """
project: climate
sources:
  sst: {path: sst.zarr, format: zarr}
features:
  half: {source: sst, steps: [{derive: {sst: sst / 2}}], chunks: {time: 10, lat: 16, lon: 24}}
"""


def test_a_build_from_another_folder_computes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, sea(20))
    assert project(tmp_path, SPEC).build().status == "done"
    monkeypatch.chdir(tmp_path)
    here = Project("featureflow.yaml", store="store", scratch="scratch-2", scheduler="threads", workers=1)
    assert here.build().status == "nothing to do"
