"""The imaging template of `init`: grids, patches and shards as plain NumPy makes them of scikit-learn's digits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.datasets import load_digits

import featureflow

TEMPLATE = Path(featureflow.__file__).parent / "demo" / "templates" / "imaging"
DIGITS = load_digits()
INK = DIGITS.images.astype(np.float32) / 16


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> featureflow.Project:
    """The template's project, built."""
    folder = tmp_path_factory.mktemp("imaging")
    root = folder / "imaging"
    shutil.copytree(TEMPLATE, root)
    project = featureflow.Project(
        root / "featureflow.yaml",
        store=str(root / "store"),
        scheduler="threads",
        workers=1,
        scratch=str(folder / "scratch"),
    )
    project.build()
    return project


def test_images_are_ink(project: featureflow.Project) -> None:
    ink = project.table("ink").to_xarray()
    assert ink["image"].dtype == np.float32
    np.testing.assert_array_equal(ink["image"], INK)


def test_strokes_are_slopes_along_a_line(project: featureflow.Project) -> None:
    strokes = project.table("strokes").to_xarray()
    np.testing.assert_allclose(strokes["image"], np.gradient(INK, axis=2), rtol=1e-6)
    np.testing.assert_array_equal(strokes["dark"], INK > 0.5)


def test_the_average_image(project: featureflow.Project) -> None:
    average = project.table("average").to_xarray()
    assert average["image"].dims == ("y", "x")
    np.testing.assert_allclose(average["image"], INK.mean(axis=0, dtype=np.float64), rtol=1e-6)


def test_every_image_is_a_row_with_its_digit(project: featureflow.Project) -> None:
    dataset = project.dataset("digits_train")
    rows = dataset.to_polars().sort("sample_index")
    np.testing.assert_array_equal(rows["digit"], DIGITS.target)
    share = (rows["split"] == "train").mean()
    assert 0.77 < share < 0.83


def test_no_image_has_pieces_in_two_splits(project: featureflow.Project) -> None:
    rows = project.dataset("pieces").to_polars()
    assert rows.height == len(INK) * 9
    assert set(rows.group_by("sample_index").len()["len"]) == {9}
    assert rows.group_by("sample_index").agg(pl.col("split").n_unique())["split"].max() == 1


def test_shards_hold_the_images(project: featureflow.Project) -> None:
    folder = Path(project.store.url) / "exports" / "digits_train" / "1"
    found = pl.concat([pl.read_ipc(file) for file in sorted(folder.glob("*/*.arrow"))])
    assert found.height == len(INK)
    order = found.sort("sample_index" if "sample_index" in found.columns else "patch")
    images = np.stack(order["image"].to_list()).reshape(-1, 8, 8)
    np.testing.assert_array_equal(images, INK)
    np.testing.assert_array_equal(order["digit"], DIGITS.target)
