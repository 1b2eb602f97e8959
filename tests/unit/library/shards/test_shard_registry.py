"""Formats by name, imported one by one."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

from featureflow.contracts.shard_format import ShardOptions, ShardPlace
from featureflow.core.errors import ComputeError
from featureflow.library.shards.checks import check_columns, check_file_names
from featureflow.library.shards.registry import shard_format, shard_formats
from featureflow.spec.datasets import Export


def test_unknown_formats_are_refused_with_a_suggestion():
    with pytest.raises(
        ComputeError, match=r"'parket' is not known. Did you mean 'parquet'\? Known: arrow, parquet"
    ):
        shard_format("parket")


def test_a_spec_can_name_every_format_and_no_other():
    for name in shard_formats():
        assert Export.model_validate({"format": name}).format == name


def test_only_the_format_that_is_asked_for_is_imported():
    code = (
        "import sys; from featureflow.library.shards.registry import shard_format, shard_formats; shard_formats();"
        "before = [m for m in sys.modules if m.startswith('featureflow.library.shards.')];"
        "shard_format('npy'); loaded = set(sys.modules);"
        "print(before, 'featureflow.library.shards.npy' in loaded, 'featureflow.library.shards.zarr' in loaded,"
        " 'zarr' in loaded, 'torch' in loaded)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "['featureflow.library.shards.registry'] True False False False"


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (pa.decimal128(9, 2), "DOUBLE or BIGINT"),
        (pa.list_(pa.float32()), "one fixed size"),
        (pa.list_(pa.string(), 3), "one column for each entry"),
        (pa.struct([("a", pa.int8())]), "one column for each field"),
        (pa.string_view(), "Cast it to `string`"),
        (pa.dictionary(pa.int8(), pa.string()), "its values' type"),
        (pa.fixed_shape_tensor(pa.float32(), (2, 2)), "Cast it"),
        (pa.time64("us"), "Cast it"),
    ],
    ids=str,
)
def test_a_refusal_says_what_to_do(of, says):
    with pytest.raises(ComputeError, match=rf"column 'x' is .*{says}"):
        check_columns(pa.schema([("x", of)]), format_name="npy")


def test_lists_are_looked_into():
    with pytest.raises(ComputeError, match="decimals"):
        check_columns(
            pa.schema([("x", pa.list_(pa.list_(pa.decimal128(9, 2)), 2))]), format_name="f", lists=True
        )
    check_columns(pa.schema([("x", pa.list_(pa.list_(pa.string()), 2))]), format_name="f", lists=True)


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "__x__", "", "a\\b", "zarr.json"])
@pytest.mark.parametrize("used_by", ["npy", "zarr"])
def test_columns_that_can_not_be_folders(name, used_by):
    schema = pa.schema([(name, pa.int64())])
    with pytest.raises(ComputeError, match="can't be a column of"):
        shard_format(used_by).check(schema, ShardOptions())
    with pytest.raises(ComputeError, match="can't be a column of"):
        check_file_names(schema, format_name=used_by)


def test_names_that_look_odd_and_are_fine():
    schema = pa.schema(
        [(name, pa.int64()) for name in ("amount_sum_1d__web", "ünïcode", "a.b", "with space", "c")]
    )
    for used_by in ("npy", "zarr"):
        shard_format(used_by).check(schema, ShardOptions())


def test_a_place_knows_its_split():
    assert ShardPlace("train/part-0", 0, 1, 0, 0).split == "train"
    assert ShardPlace("part-0", 0, 1, 0, 0).split == ""
