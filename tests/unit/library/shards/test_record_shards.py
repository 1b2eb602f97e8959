"""Shards of mds, litdata, tfrecord and webdataset against one record at a time, as the formats are described."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from featureflow.contracts.shard_format import ShardOptions, ShardPlace
from featureflow.core.errors import ComputeError, CorruptionError
from featureflow.library.shards import litdata, mds, tfrecord, webdataset
from featureflow.library.shards.blocks import count_and_offsets

N = 5
MATRIX = np.arange(N * 6, dtype=np.float32).reshape(N, 2, 3) / 7
ROWS = {
    "m": [row.tolist() for row in MATRIX],
    "count": [3, -1, 2**62, -(2**62), 0],
    "share": [0.1, -0.0, float("inf"), 1e300, 5e-324],
    "short": [1, 2, 3, -4, 5],
    "seen": [True, False, True, True, False],
    "City": ["", "Łódź", "a b", "東京", 'q"'],
    "raw": [b"", b"\x00\xff", b"abc", b"\n", b"0" * 300],
}
TABLE = pa.table(
    ROWS,
    schema=pa.schema(
        [
            ("m", pa.list_(pa.list_(pa.float32(), 3), 2)),
            ("count", pa.int64()),
            ("share", pa.float64()),
            ("short", pa.int16()),
            ("seen", pa.bool_()),
            ("City", pa.string()),
            ("raw", pa.binary()),
        ]
    ),
)
TEXT_ONLY = TABLE.drop_columns(["raw"])
ONE, TWO = ShardOptions(), ShardOptions(rows_per_record=2)
PLACE = ShardPlace("train/part-00000-of-00001", 0, 1, 0, N)


def content(offered, table, options=ONE, place=PLACE, suffix=None):
    made = offered.encode(table, place, options)
    return b"".join(map(bytes, made.files[place.stem + (suffix or offered.suffix)])), made.entry


def offsets_file(records, config=b""):
    """A number of records, where each starts, and the records."""
    first = 4 * (len(records) + 2) + len(config)
    offsets = [first + sum(map(len, records[:i])) for i in range(len(records) + 1)]
    return struct.pack(f"<{len(offsets) + 1}I", len(records), *offsets) + config + b"".join(records)


MDS_CONFIG = {
    "column_encodings": ["str", "int", "ndarray:float32:2,3", "bytes", "uint8", "float64", "int16"],
    "column_names": ["City", "count", "m", "raw", "seen", "share", "short"],
    "column_sizes": [None, 8, 24, None, 1, 8, 2],
    "compression": None,
    "format": "mds",
    "hashes": ["xxh3_64"],
    "size_limit": None,
    "version": 2,
}


def mds_sample(i):
    city, raw = ROWS["City"][i].encode(), ROWS["raw"][i]
    sizes = struct.pack("<2I", len(city), len(raw))
    numbers = struct.pack("<?dh", ROWS["seen"][i], ROWS["share"][i], ROWS["short"][i])
    return sizes + city + struct.pack("<q", ROWS["count"][i]) + MATRIX[i].tobytes() + raw + numbers


def test_mds_shard_and_index():
    config = json.dumps(MDS_CONFIG, sort_keys=True).encode()
    expected = offsets_file([mds_sample(i) for i in range(N)], config)
    found, entry = content(mds.FORMAT, TABLE)
    assert found == expected
    index = json.loads(mds.FORMAT.index("train", [PLACE], [entry], TABLE.schema, ONE)["train/index.json"])
    raw = {
        "basename": "part-00000-of-00001.mds",
        "bytes": len(expected),
        "hashes": {"xxh3_64": xxhash.xxh3_64_hexdigest(expected)},
    }
    assert index == {
        "version": 2,
        "shards": [{**MDS_CONFIG, "samples": N, "raw_data": raw, "zip_data": None}],
    }


def test_mds_records_of_two_rows():
    table = TEXT_ONLY.select(["m", "short", "City"])
    found, _ = content(mds.FORMAT, table, TWO)

    def sample(a, b):
        n = b - a
        city = json.dumps(ROWS["City"][a:b]).encode()
        m = bytes([3 << 2, n, 2, 3]) + MATRIX[a:b].tobytes()
        short = bytes([1 << 2, n]) + struct.pack(f"<{n}h", *ROWS["short"][a:b])
        return struct.pack("<3I", len(city), len(m), len(short)) + city + m + short

    config = {
        **MDS_CONFIG,
        "column_encodings": ["json", "ndarray:float32", "ndarray:int16"],
        "column_names": ["City", "m", "short"],
        "column_sizes": [None, None, None],
    }
    text = json.dumps(config, sort_keys=True).encode()
    assert found == offsets_file([sample(0, 2), sample(2, 4), sample(4, 5)], text)


@pytest.mark.parametrize("n", [1, 255, 256, 300, 65536])
def test_mds_arrays_say_their_shape_in_as_few_bytes_as_possible(n):
    table = pa.table({"v": np.arange(n, dtype=np.int8)})
    found, _ = content(mds.FORMAT, table, ShardOptions(rows_per_record=70_000))
    width = 1 if n < 256 else 2 if n < 65536 else 4
    head = bytes([1 << 2 | width // 2]) + n.to_bytes(width, "little")
    assert found.endswith(head + np.arange(n, dtype=np.int8).tobytes())


def test_litdata_chunk_and_index():
    def item(i):
        header = struct.pack("<4I", 9, 2, 2, 3)
        leaves = [
            header + MATRIX[i].tobytes(),
            struct.pack("<q", ROWS["count"][i]),
            struct.pack("<d", ROWS["share"][i]),
            struct.pack("<q", ROWS["short"][i]),
            struct.pack("<?", ROWS["seen"][i]),
            ROWS["City"][i].encode(),
            ROWS["raw"][i],
        ]
        return struct.pack("<7I", *map(len, leaves)) + b"".join(leaves)

    found, entry = content(litdata.FORMAT, TABLE)
    assert found == offsets_file([item(i) for i in range(N)])
    index = json.loads(litdata.FORMAT.index("train", [PLACE], [entry], TABLE.schema, ONE)["train/index.json"])
    chunk = {"chunk_bytes": len(found), "chunk_size": N, "dim": None, "filename": "part-00000-of-00001.bin"}
    assert index["chunks"] == [chunk]
    assert index["config"]["data_format"] == ["numpy", "int", "float", "int", "bool", "str", "bytes"]
    tree = json.loads(index["config"]["data_spec"])[1]
    assert json.loads(tree["context"]) == TABLE.column_names


def varint(value):
    value &= 2**64 - 1
    out = []
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number, value):
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def crc_bit_by_bit(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def tf_record(a, b):
    """One record of rows a to b."""
    ints = {name: [int(v) for v in ROWS[name][a:b]] for name in ("count", "short", "seen")}
    lists = {name: field(3, field(1, b"".join(map(varint, values)))) for name, values in ints.items()}
    lists["m"] = field(2, field(1, MATRIX[a:b].tobytes()))
    lists["share"] = field(1, b"".join(field(1, struct.pack("<d", v)) for v in ROWS["share"][a:b]))
    lists["City"] = field(1, b"".join(field(1, v.encode()) for v in ROWS["City"][a:b]))
    lists["raw"] = field(1, b"".join(field(1, v) for v in ROWS["raw"][a:b]))
    entries = [field(1, field(1, name.encode()) + field(2, lists[name])) for name in sorted(lists)]
    example = field(1, b"".join(entries))
    length = struct.pack("<Q", len(example))
    return length + crc_bit_by_bit(length) + example + crc_bit_by_bit(example)


@pytest.mark.parametrize(("options", "bounds"), [(ONE, [0, 1, 2, 3, 4, 5]), (TWO, [0, 2, 4, 5])])
def test_tfrecord_shard_and_idx(options, bounds):
    records = [tf_record(a, b) for a, b in pairwise(bounds)]
    assert content(tfrecord.FORMAT, TABLE, options)[0] == b"".join(records)
    idx, _ = content(tfrecord.FORMAT, TABLE, options, suffix=".idx")
    starts = [sum(map(len, records[:i])) for i in range(len(records))]
    assert idx.decode() == "".join(f"{a} {len(r)}\n" for a, r in zip(starts, records, strict=True))


def test_tfrecord_of_lengths_around_a_varints_limits():
    texts = ["x" * n for n in (0, 100, 111, 112, 113, 125, 126, 127, 128, 16_370, 16_384)]
    table = pa.table({"t": texts, "v": list(range(len(texts)))})
    found, entry = content(tfrecord.FORMAT, table)

    def record(i):
        text, value = field(1, field(1, texts[i].encode())), field(3, field(1, varint(i)))
        example = field(
            1, field(1, field(1, b"t") + field(2, text)) + field(1, field(1, b"v") + field(2, value))
        )
        length = struct.pack("<Q", len(example))
        return length + crc_bit_by_bit(length) + example + crc_bit_by_bit(example)

    assert found == b"".join(map(record, range(len(texts))))
    files = {PLACE.stem + ".tfrecord": found}
    assert tfrecord.FORMAT.decode(files, PLACE, entry, table.schema, ONE).equals(table)


def npy(value):
    target = io.BytesIO()
    np.save(target, value)
    return target.getvalue()


def tar_of(members):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime, info.uname, info.gname = (
                len(data),
                0o444,
                0,
                "featureflow",
                "featureflow",
            )
            tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def test_webdataset_is_pythons_own_tar():
    place = ShardPlace("train/part-00000-of-00001", 0, 1, 98, 1000)
    members = []
    for i in range(N):
        key = f"{98 + i:09d}"
        members += [
            (f"{key}.m.npy", npy(MATRIX[i])),
            (f"{key}.count.cls", str(ROWS["count"][i]).encode()),
            (f"{key}.share.npy", npy(np.float64(ROWS["share"][i]))),
            (f"{key}.short.cls", str(ROWS["short"][i]).encode()),
            (f"{key}.seen.cls", str(int(ROWS["seen"][i])).encode()),
            (f"{key}.City.txt", ROWS["City"][i].encode()),
            (f"{key}.raw.bin", ROWS["raw"][i]),
        ]
    found, entry = content(webdataset.FORMAT, TABLE, place=place)
    assert found == tar_of(members)
    index = webdataset.FORMAT.index("train", [place], [entry], TABLE.schema, ONE)
    assert json.loads(index["train/wids.json"])["shardlist"] == [
        {"url": "part-00000-of-00001.tar", "nsamples": N, "filesize": len(found)}
    ]


def test_webdataset_records_of_two_rows():
    members = []
    for a, b in ((0, 2), (2, 4), (4, 5)):
        city = json.dumps(ROWS["City"][a:b], ensure_ascii=False).encode()
        members += [
            (f"{a:09d}.m.npy", npy(MATRIX[a:b])),
            (f"{a:09d}.seen.npy", npy(np.array(ROWS["seen"][a:b]))),
            (f"{a:09d}.City.json", city),
        ]
    assert content(webdataset.FORMAT, TABLE.select(["m", "seen", "City"]), TWO)[0] == tar_of(members)


def test_webdataset_keys_grow_with_the_split_not_with_the_shard():
    table = pa.table({"v": [1, 2]})
    for rows, first, key in ((10**9, 5, "000000005"), (10**9 + 1, 5, "0000000005"), (3, 1, "000000001")):
        place = ShardPlace("train/part-00000-of-00001", 0, 1, first, rows)
        found, entry = content(webdataset.FORMAT, table, place=place)
        assert found.startswith(key.encode() + b".v.cls\0")
        files = {place.stem + ".tar": found}
        assert webdataset.FORMAT.decode(files, place, entry, table.schema, ONE).equals(table)


@pytest.mark.parametrize("offered", [mds.FORMAT, litdata.FORMAT, tfrecord.FORMAT, webdataset.FORMAT])
def test_compressed_files_hold_the_plain_ones(offered):
    plain, _ = content(offered, TABLE)
    suffixes = {
        ("mds", "zstd"): ".mds.zstd",
        ("mds", "gzip"): ".mds.gz",
        ("litdata", "zstd"): ".zstd.bin",
        ("tfrecord", "gzip"): ".tfrecord.gz",
        ("webdataset", "gzip"): ".tar.gz",
        ("webdataset", "zstd"): ".tar.zst",
    }
    for compression in offered.compressions[1:]:
        options = ShardOptions(compression=compression)
        made = offered.encode(TABLE, PLACE, options)
        assert list(made.files) == [PLACE.stem + suffixes[offered.name, compression]]
        ((packed,),) = made.files.values()
        if compression == "gzip":
            assert bytes(packed)[4:8] == bytes(4)  # no time
            found = gzip.decompress(packed)
        else:
            found = pa.Codec("zstd").decompress(packed, made.entry["raw_bytes"]).to_pybytes()
        if offered.name == "mds":  # its shards say how they are compressed
            name = {"zstd": b'"zstd"', "gzip": b'"gz"'}[compression]
            assert found[-300:] == plain[-300:]
            assert b'"compression": ' + name in found
        else:
            assert found == plain
        damaged = bytes(packed)[:-9] + b"\x00" * 9
        with pytest.raises(CorruptionError, match="part-00000"):
            offered.decode({next(iter(made.files)): damaged}, PLACE, made.entry, TABLE.schema, options)


@pytest.mark.parametrize("offered", [mds.FORMAT, litdata.FORMAT, webdataset.FORMAT])
def test_shards_without_rows_are_in_no_index(offered):
    places = [ShardPlace(f"train/part-{i:05d}-of-00002", i, 2, 0, N) for i in range(2)]
    entries = [
        offered.encode(t, p, ONE).entry for t, p in zip((TABLE.slice(0, 0), TABLE), places, strict=True)
    ]
    (text,) = offered.index("train", places, entries, TABLE.schema, ONE).values()
    assert b"part-00001" in text
    assert b"part-00000" not in text


def test_every_flipped_bit_of_a_tfrecord_is_found():
    table = TABLE.slice(0, 1)
    plain, entry = content(tfrecord.FORMAT, table)
    for at in range(len(plain)):
        damaged = bytearray(plain)
        damaged[at] ^= 4
        with pytest.raises(CorruptionError):
            tfrecord.FORMAT.decode({PLACE.stem + ".tfrecord": damaged}, PLACE, entry, table.schema, ONE)


@pytest.mark.parametrize("offered", [mds.FORMAT, litdata.FORMAT, tfrecord.FORMAT, webdataset.FORMAT])
def test_another_tables_shard_is_no_nonsense(offered):
    other = pa.table({"v": pa.array([1, 2, 3, 4, 5], pa.int64()), "w": ["a", "b", "c", "d", "e"]})
    found, entry = content(offered, TABLE)
    with pytest.raises(CorruptionError):
        offered.decode({PLACE.stem + offered.suffix: found}, PLACE, entry, other.schema, ONE)


@pytest.mark.parametrize(
    ("offered", "schema", "options", "said"),
    [
        (webdataset.FORMAT, [("a/b", pa.int64())], ONE, "'a/b' would be a file"),
        (webdataset.FORMAT, [("a", pa.int64()), ("A", pa.string())], ONE, "'a' and 'A' differ in upper"),
        (webdataset.FORMAT, [("n" * 90, pa.int64())], ONE, "too long"),
        (webdataset.FORMAT, [("b", pa.binary())], TWO, "column 'b' is binary"),
        (mds.FORMAT, [("b", pa.large_binary())], TWO, "column 'b' is large_binary"),
        (litdata.FORMAT, [("b", pa.binary())], TWO, "column 'b' is binary"),
        (mds.FORMAT, [("b", pa.int64()), ("b", pa.int64())], ONE, "'b' is there twice"),
        (tfrecord.FORMAT, [], ONE, "need a column"),
        (tfrecord.FORMAT, [("b", pa.int64())], ShardOptions(compression="zstd"), "'zstd'"),
    ],
)
def test_what_a_format_can_not_hold(offered, schema, options, said):
    with pytest.raises(ComputeError, match=said):
        offered.check(pa.schema(schema), options)


@pytest.mark.parametrize("offered", [litdata.FORMAT, tfrecord.FORMAT])
def test_unsigned_numbers_are_never_made_negative(offered):
    table = pa.table({"u": pa.array([2**63 - 1, 2**63], pa.uint64())})
    with pytest.raises(ComputeError, match=r"'u' is uint64 with values above"):
        content(offered, table)
    found, entry = content(offered, table.slice(0, 1))
    files = {PLACE.stem + offered.suffix: found}
    assert offered.decode(files, PLACE, entry, table.schema, ONE).equals(table.slice(0, 1))


@pytest.mark.parametrize("offered", [mds.FORMAT, webdataset.FORMAT])
def test_unsigned_numbers_are_kept(offered):
    table = pa.table({"u": pa.array([2**64 - 1, 0], pa.uint64())})
    found, entry = content(offered, table)
    files = {PLACE.stem + offered.suffix: found}
    assert offered.decode(files, PLACE, entry, table.schema, ONE).equals(table)


def test_four_gibibytes_are_too_many():
    size = (1 << 32) - 4 * 3
    assert count_and_offsets(1, np.array([0, size - 1]), b"", path="p")[:4] == b"\1\0\0\0"
    with pytest.raises(ComputeError, match=r"p would have 4,294,967,296 bytes.*shard_size"):
        count_and_offsets(1, np.array([0, size]), b"", path="p")


def test_writers_import_no_reader():
    code = (
        "import sys; from featureflow.library.shards import mds, litdata, tfrecord, webdataset; "
        "print([m for m in ('torch', 'tensorflow', 'streaming', 'litdata', 'webdataset', 'crc32c', 'tfrecord')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
