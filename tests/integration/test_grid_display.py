"""What the commands and the notebook show of a grid: its dimensions, its values and its chunks, not its index."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from integration.grid_projects import append, project, sea, write

import featureflow as ff
from featureflow.cli.app import application
from featureflow.observe.graph import plan_svg


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, object, object]:
    folder = tmp_path_factory.mktemp("shown")
    write(folder, sea(240))
    made = project(folder)
    first = made.build()
    append(folder, sea(255), 240)
    return folder, first, project(folder).build()


def _said(folder: Path, *command: str) -> str:
    store = str(folder / "store")
    found = CliRunner().invoke(application, [*command, "--store", store])
    assert found.exit_code == 0, found.output
    return found.output


def _json(folder: Path, *command: str):
    return json.loads(_said(folder, *command, "--json"))


def test_a_list_says_that_it_is_a_grid_and_how_large_its_values_are(built):
    folder, _, _ = built
    (entry,) = _json(folder, "ls")["tables"]
    values = ff.open(folder / "store").table("calm").to_xarray().nbytes
    assert entry["table"] == "calm"
    assert entry["kind"] == "grid"
    assert entry["dims"] == {"time": 245, "lat": 5, "lon": 12}
    assert 245 * 5 * 12 * 4 == entry["bytes"] < values < 1.2 * entry["bytes"]  # and coordinates
    assert "time 245 × lat 5 × lon 12" in _said(folder, "ls")


def test_show_has_ranges_chunks_units_and_statistics_and_no_sample(built):
    folder, _, _ = built
    shown = _json(folder, "show", "calm")
    found = ff.open(folder / "store").table("calm").to_xarray().load()
    assert shown["sample"] == []
    assert shown["grid"]["coordinates"]["lat"] == {
        "type": "float64",
        "units": "degrees_north",
        "first": float(found.lat[0]),
        "last": float(found.lat[-1]),
    }
    assert shown["grid"]["coordinates"]["time"]["last"] == str(found.time.values[-1])[:19]
    (variable,) = shown["schema"]
    assert variable["count"] == int(found.sst.notnull().sum())
    assert variable["nulls"] == int(found.sst.isnull().sum())
    assert variable["mean"] == pytest.approx(float(found.sst.astype("float64").mean()))
    text = _said(folder, "show", "calm")
    for word in ("degrees_north", "2000-01-11", "missing", "K", f"{variable['count']:,}"):
        assert word in text


def test_versions_and_checks_count_chunks(built):
    folder, first, second = built
    entries = _json(folder, "history", "calm")["versions"]
    assert [entry["dims"]["time"] for entry in entries] == [245, 230]
    assert [entry["kind"] for entry in entries] == ["grid", "grid"]
    (checked,) = _json(folder, "verify", "calm", "--deep")["tables"]
    assert checked["chunks"] == entries[0]["chunks"] == 20
    assert checked["chunk_bytes"] == entries[0]["bytes"]
    assert "20 chunks of" in _said(folder, "verify", "calm", "--deep")
    assert re.search(r"20 chunks +20 chunks\n", first.text())
    assert re.search(r"20 chunks +4 chunks\n", second.text())


def test_a_project_and_a_store_count_their_grids(built):
    folder, _, _ = built
    made = project(folder)
    assert "1 source, 1 grid" in repr(made)
    assert "feature table" not in repr(made)
    assert "<td" in made._repr_html_()
    assert "calm" in made._repr_html_()
    assert "rolling" in made._repr_html_()
    page = ff.open(folder / "store")._repr_html_()
    assert "1 grid" in page
    assert "time 245 × lat 5 × lon 12" in page


def test_the_graph_takes_labels_of_patches_as_they_lie(tmp_path):
    write(tmp_path, sea(40))
    write(tmp_path, sea(40), "kind.zarr")
    spec = """
sources: {sst: {path: sst.zarr}, kind: {path: kind.zarr}}
features: {calm: {source: sst}}
datasets: {boxes: {spine: {grid: calm, patch: {time: 8, lat: 8, lon: 8}, labels: kind.sst}}}
"""
    picture = plan_svg(project(tmp_path, spec).plan().summary())
    assert ">kind<" in picture
    assert "re-key kind" not in picture


def test_a_restored_version_counts_its_chunks(built, tmp_path):
    folder, _, _ = built
    shutil.copytree(folder / "store", tmp_path / "store")
    assert "version 3 is version 1 again, 20 chunks" in _said(tmp_path, "restore", "calm@1")
