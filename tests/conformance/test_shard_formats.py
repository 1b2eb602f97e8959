"""Every format of shards gives back what it was given, byte for byte the same, whatever the table's layout was."""

from __future__ import annotations

import dataclasses
import functools
import json
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from featureflow.contracts.shard_format import ShardOptions, ShardPlace
from featureflow.core.errors import ComputeError, CorruptionError
from featureflow.library.shards.registry import shard_format, shard_formats

TIMES = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("embedding", pa.list_(pa.float32(), 64)),
        ("patch", pa.list_(pa.list_(pa.list_(pa.float32(), 3), 5), 4)),
        ("amount", pa.float64()),
        ("id", pa.int64()),
        ("count", pa.int32()),
        ("seen", pa.bool_()),
        ("days", pa.list_(pa.int64(), 7)),
        ("city", pa.string()),
        ("at", TIMES),
    ]
)
CITIES = ["", "Zürich", "東京", "x", "Łódź 🏙", "a" * 300, " \n", "0"]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FORMATS = shard_formats()
ROWS = (0, 1, 2, 3, 257, 600)


@functools.cache
def rows(n: int) -> pa.Table:
    """Rows as Python values, with everything that has once broken a writer."""
    rng = np.random.default_rng(n)
    return pa.table(
        {
            "embedding": rng.standard_normal((n, 64)).astype(np.float32).tolist(),
            "patch": rng.standard_normal((n, 4, 5, 3)).astype(np.float32).tolist(),
            "amount": [[float("nan"), float("inf"), -0.0, 1e308, 5e-324, 0.1][i % 6] for i in range(n)],
            "id": [[2**62, -(2**62), -1, 0, 2**53 + 1, 128, 2**63 - 1, -(2**63)][i % 8] for i in range(n)],
            "count": [[-(2**31), 2**31 - 1, 0, -7][i % 4] for i in range(n)],
            "seen": [i % 3 == 0 for i in range(n)],
            "days": rng.integers(-(2**62), 2**62, (n, 7)).tolist(),
            "city": [CITIES[i * 5 % len(CITIES)] for i in range(n)],
            "at": [EPOCH + timedelta(microseconds=(i - 2) * 10**13 + i) for i in range(n)],
        },
        schema=SCHEMA,
    )


def place(n: int, split_rows: int | None = None) -> ShardPlace:
    return ShardPlace("train/part-00000-of-00001", 0, 1, 0, n if split_rows is None else split_rows)


def settings(name: str) -> list[ShardOptions]:
    """What a format can be asked for."""
    offered = shard_format(name)
    sizes = (1, 256) if offered.records else (1,)
    return [
        ShardOptions(compression=compression, rows_per_record=size, block_rows=100)
        for compression in offered.compressions
        for size in sizes
    ]


CASES = [
    pytest.param(name, options, id=f"{name}-{options.compression}-{options.rows_per_record}")
    for name in FORMATS
    for options in settings(name)
]


def joined(buffers) -> bytes:
    return b"".join(memoryview(buffer).cast("B") for buffer in buffers)


def encoded(name, table, options, where=None) -> dict[str, bytes]:
    made = shard_format(name).encode(table, where or place(len(table)), options)
    return {path: joined(buffers) for path, buffers in made.files.items()}


def round_trip(offered, table, options):
    where = place(len(table))
    made = offered.encode(table, where, options)
    files = {path: joined(buffers) for path, buffers in made.files.items()}
    entry = json.loads(json.dumps(made.entry))  # a manifest keeps it
    return offered.decode(files, where, entry, table.schema, options)


def content(column: pa.ChunkedArray) -> object:
    """Values to compare: every bit of numbers, so that NaN equals NaN and -0.0 is not 0.0; else Python values."""
    values = pa.concat_arrays(column.chunks) if column.chunks else pa.array([], column.type)
    while pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    numbers = pa.types.is_floating(values.type) or pa.types.is_integer(values.type)
    return values.to_numpy().tobytes() if numbers and not values.null_count else values.to_pylist()


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    """Equal schema, number of rows and values."""
    assert found.schema.equals(expected.schema)
    assert found.num_rows == expected.num_rows
    found.validate(full=True)
    for name in expected.column_names:
        # compared outside of the assertion: with CI set, pytest would spell out every difference of a planted bug
        same = content(found.column(name)) == content(expected.column(name))
        assert same, name


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("n", ROWS)
def test_decoding_gives_what_was_encoded(name, options, n):
    offered, table = shard_format(name), rows(n)
    offered.check(table.schema, options)
    assert_same(round_trip(offered, table, options), table)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_layout_of_a_table_does_not_show(name, options):
    table = rows(257)
    expected = encoded(name, table, options)
    padded = pa.concat_tables([rows(13), table, rows(5)]).combine_chunks()
    layouts = {
        "again": rows.__wrapped__(257),
        "a slice": padded.slice(13, 257),
        "chunks": pa.concat_tables([table.slice(0, 7), table.slice(7, 0), table.slice(7)]),
        "chunks of a slice": pa.concat_tables([padded.slice(13, 100), padded.slice(113, 157)]),
        "no memory shared": pa.Table.from_pylist(table.to_pylist(), schema=SCHEMA),
        "metadata": table.replace_schema_metadata({"written": "now"}),
    }
    for layout, other in layouts.items():
        assert encoded(name, other, options) == expected, layout


@pytest.mark.parametrize("name", FORMATS)
def test_another_value_gives_other_bytes(name):
    options = ShardOptions()
    table = rows(3)
    for column in range(table.num_columns):
        values = table.column(column).to_pylist()
        values[0], values[1] = values[1], values[0]
        changed = table.set_column(column, SCHEMA[column], pa.array(values, SCHEMA[column].type))
        assert encoded(name, changed, options) != encoded(name, table, options), table.column_names[column]


@pytest.mark.parametrize("name", FORMATS)
def test_the_names_are_the_registry_s_and_inside_the_split(name):
    offered = shard_format(name)
    assert offered.name == name
    assert offered.compressions[0] == "none"
    assert isinstance(offered.equal_shards, bool)
    for path in encoded(name, rows(3), ShardOptions()):
        assert path.startswith("train/")
        assert ".." not in path


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("stem", ["train/part-00000-of-00001", "valid/part-00000-of-00001"])
def test_an_index_is_the_same_twice_and_beside_its_shards(name, stem):
    offered, options, table = shard_format(name), ShardOptions(), rows(3)
    where = dataclasses.replace(place(3), stem=stem)
    made = offered.encode(table, where, options)
    entry = {**made.entry, "bytes": sum(len(joined(b)) for b in made.files.values()), "xxh3_64": "0" * 16}
    split = where.split
    first = offered.index(split, [where], [entry], table.schema, options)
    assert first == offered.index(split, [where], [entry], table.schema, options)
    assert all(path.startswith(f"{split}/") for path in first)
    assert not set(first) & set(made.files)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.95, 1.0])
def test_part_of_a_file_is_corrupt(name, keep):
    table = rows(100)
    files = encoded(name, table, ShardOptions())
    entry = shard_format(name).encode(table, place(100), ShardOptions()).entry
    for path, data in files.items():
        if path.endswith(".idx"):
            continue  # for other readers; decoding needs none
        cut = {**files, path: data[: min(int(len(data) * keep), len(data) - 1)]}
        with pytest.raises(CorruptionError, match=path):
            shard_format(name).decode(cut, place(100), entry, SCHEMA, ShardOptions())


@pytest.mark.parametrize("name", FORMATS)
def test_missing_floats_are_nan(name):
    schema = pa.schema([("x", pa.float32()), ("v", pa.list_(pa.float64(), 2))])
    table = pa.table({"x": [1.0, None, 3.0], "v": [[1.0, None], None, [5.0, 6.0]]}, schema=schema)
    read = round_trip(shard_format(name), table, ShardOptions())
    assert repr(read.column("x").to_pylist()) == "[1.0, nan, 3.0]"
    assert repr(read.column("v").to_pylist()) == "[[1.0, nan], [nan, nan], [5.0, 6.0]]"
    # what lies in memory under a null must not show
    under = pa.Array.from_buffers(
        pa.float32(), 3, [pa.py_buffer(b"\x05"), pa.py_buffer(np.array([1, 99, 3], np.float32))]
    )
    other = table.set_column(0, schema[0], under)
    assert encoded(name, other, ShardOptions()) == encoded(name, table, ShardOptions())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("values", "of"),
    [([1, None], pa.int64()), ([True, None], pa.bool_()), (["a", None], pa.string()), ([None], TIMES)],
)
def test_other_nulls_are_an_error_that_names_the_column(name, values, of):
    table = pa.table({"ok": [0.5] * len(values), "visits": pa.array(values, of)})
    with pytest.raises(ComputeError, match=r"column 'visits' has 1 null"):
        encoded(name, table, ShardOptions())


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "of",
    [
        pa.decimal128(10, 2),
        pa.map_(pa.string(), pa.int64()),
        pa.struct([("a", pa.int64())]),
        pa.dictionary(pa.int32(), pa.string()),
        pa.list_(pa.int64(), 0),
        pa.null(),
    ],
    ids=str,
)
def test_what_can_not_be_held_is_refused_by_name(name, of):
    schema = pa.schema([("fine", pa.float32()), ("odd one", of)])
    with pytest.raises(ComputeError, match=rf"'odd one'.*{name}"):
        shard_format(name).check(schema, ShardOptions())


@pytest.mark.parametrize("name", FORMATS)
def test_lists_of_any_length_are_held_or_refused(name):
    table = pa.table(
        {"tags": pa.array([["a", ""], [], ["é"]], pa.list_(pa.string())), "n": [[1], [], [2, 3]]}
    )
    offered, options = shard_format(name), ShardOptions()
    if name in {"arrow", "parquet"}:
        offered.check(table.schema, options)
        assert_same(round_trip(offered, table, options), table)
        assert encoded(name, table.slice(1), options) == encoded(
            name, pa.Table.from_pylist(table.to_pylist()[1:], schema=table.schema), options
        )
    else:
        with pytest.raises(ComputeError, match="'tags'"):
            offered.check(table.schema, options)


@pytest.mark.parametrize("name", FORMATS)
def test_unknown_compressions_are_refused(name):
    with pytest.raises(ComputeError, match="'snappy'"):
        shard_format(name).check(SCHEMA, ShardOptions(compression="snappy"))


class Planted:
    """A format with a bug in it."""

    def __init__(self, inner, break_it) -> None:
        self.inner, self.break_it = inner, break_it

    def encode(self, *given):
        return self.inner.encode(*given)

    def decode(self, *given):
        return self.break_it(self.inner.decode(*given))


def _swap(column, change):
    def broken(table):
        at = table.column_names.index(column)
        values = change(table.column(at).to_pylist())
        return table.set_column(at, table.schema[at], pa.array(values, table.schema[at].type))

    return broken


BUGS = {
    "transposed patch": _swap(
        "patch", lambda v: [np.array(a, np.float32).reshape(3, 5, 4).T.tolist() for a in v]
    ),
    "negative zero lost": _swap("amount", lambda v: [a + 0.0 for a in v]),
    "int64 through float": _swap("id", lambda v: [min(int(float(a)), 2**63 - 1) for a in v]),
    "bits shifted": _swap("seen", lambda v: v[1:] + v[:1]),
    "text cut by letters": _swap("city", lambda v: [a[:255] for a in v]),
    "milliseconds": _swap("at", lambda v: [a.replace(microsecond=a.microsecond // 1000 * 1000) for a in v]),
    "last row lost": lambda table: table.slice(0, len(table) - 1),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_kit_rejects_planted_bugs(bug):
    table = rows(257)
    with pytest.raises(AssertionError):
        assert_same(round_trip(Planted(shard_format("arrow"), BUGS[bug]), table, ShardOptions()), table)
