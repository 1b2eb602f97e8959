"""webdataset, wids, Hugging Face and tar read our archives."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
from readers.environment import assert_values, export, read

pytestmark = pytest.mark.readers

EXTENSIONS = {
    "x": "npy",
    "patch": "npy",
    "amount": "npy",
    "big": "cls",
    "negative": "cls",
    "small": "cls",
    "flag": "cls",
    "week": "npy",
    "text": "txt",
}


def members(rows, *, first="", **kinds):
    return {f"{first}{name}.{EXTENSIONS[name]}": array for name, array in rows.items()}


def keys(n):
    return np.array([f"{i:09d}" for i in range(n)])


@pytest.mark.parametrize(
    ("compression", "pattern"), [("none", "*.tar"), ("gzip", "*.tar.gz"), ("zstd", "*.tar.zst")]
)
def test_webdataset_reads_every_value(tmp_path, compression, pattern):
    if compression == "zstd" and not shutil.which("zstd"):
        pytest.skip("no zstd to pipe through")
    written = export(tmp_path, "webdataset", compression=compression)
    found = read("webdataset", written.folder, pattern=pattern)
    assert_values(found, {"__key__": keys(158), **members(written.rows)})


def test_webdataset_reads_records_of_several_rows(tmp_path):
    written = export(tmp_path, "webdataset", rows_per_record=16)
    found = read("webdataset", written.folder, blocked=True)
    expected = {f"{n}.{'json' if n == 'text' else 'npy'}": a for n, a in written.rows.items()}
    assert_values(found, expected)


def test_an_empty_shard_is_no_hindrance(tmp_path):
    written = export(tmp_path, "webdataset", sizes=(30, 0, 12))
    assert_values(read("webdataset", written.folder), {"__key__": keys(42), **members(written.rows)})
    found = read("wids", written.folder, order=[41, 29, 30])
    assert found["__key__"].tolist() == ["000000041", "000000029", "000000030"]


def test_wids_reads_in_any_order(tmp_path):
    written = export(tmp_path, "webdataset")
    order = np.random.default_rng(3).permutation(158).tolist()
    found = read("wids", written.folder, order=order)
    expected = {name: array[order] for name, array in members(written.rows, first=".").items()}
    assert_values(found, {"__key__": keys(158)[order], **expected})


@pytest.mark.parametrize(("compression", "pattern"), [("none", "*.tar"), ("gzip", "*.tar.gz")])
def test_hugging_face_reads_every_value(tmp_path, compression, pattern):
    written = export(tmp_path, "webdataset", compression=compression)
    found = read("hugging_face", written.folder, builder="webdataset", pattern=pattern)
    assert_values(found, {"__key__": keys(158), **members(written.rows)})


def test_tar_lists_and_takes_out(tmp_path):
    written = export(tmp_path, "webdataset")
    listed = subprocess.run(
        ["tar", "tvf", str(written.files[1])], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(listed) == 55 * len(EXTENSIONS)
    assert listed[0].split()[:2] == ["-r--r--r--", "featureflow/featureflow"]
    assert listed[0].split()[-1] == "000000070.x.npy"
    subprocess.run(["tar", "xf", str(written.files[1]), "-C", str(tmp_path)], check=True)
    assert (np.load(tmp_path / "000000071.patch.npy") == written.rows["patch"][71]).all()
    assert int((tmp_path / "000000124.big.cls").read_text()) == written.rows["big"][124]
