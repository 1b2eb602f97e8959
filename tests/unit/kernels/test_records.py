"""Bytes of records: laid out, read back, and summed up, against one record at a time in plain Python."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureflow.kernels.archives import tar_members
from featureflow.kernels.checksums import crc32c
from featureflow.kernels.protobuf import read_delimited, read_frames, read_varints, write_varints
from featureflow.kernels.records import Ragged, gather_bytes, gather_fixed, interleave

LONG = st.integers(-(2**63), 2**63 - 1)


def as_bytes(data):
    return np.frombuffer(data, np.uint8)


def ragged(values, align=1):
    return Ragged(as_bytes(b"".join(values)), np.cumsum([0, *map(len, values)]), align)


@st.composite
def parts_of_records(draw):
    """Parts as `interleave` takes them, and each record's bytes."""
    n = draw(st.integers(0, 5))
    parts, records = [], [b""] * n
    for kind in draw(
        st.lists(st.sampled_from(["same", "fixed", "ragged", "aligned"]), min_size=1, max_size=6)
    ):
        if kind == "same":
            value = draw(st.binary(max_size=9))
            parts.append(value)
            values = [value] * n
        elif kind == "fixed":
            width = draw(st.integers(0, 9))
            values = [draw(st.binary(min_size=width, max_size=width)) for _ in range(n)]
            parts.append(as_bytes(b"".join(values)).reshape(n, width))
        else:
            align = 4 if kind == "aligned" else 1
            values = [draw(st.binary(max_size=20)) for _ in range(n)]
            parts.append(ragged(values, align))
            values = [value + bytes(-len(value) % align) for value in values]
        records = [record + value for record, value in zip(records, values, strict=True)]
    return parts, records


@given(parts_of_records())
def test_parts_of_records_lie_one_after_another(case):
    parts, records = case
    data, offsets = interleave(parts, len(records))
    assert bytes(data) == b"".join(records)
    assert offsets.tolist() == np.cumsum([0, *map(len, records)]).tolist()


def test_wide_records_are_laid_out_in_steps():
    values = np.arange(3 * 200_000, dtype=np.uint32).view(np.uint8).reshape(3, 800_000)
    data, _ = interleave([b"<", values, b">"], 3)
    assert bytes(data) == b"".join(b"<" + row.tobytes() + b">" for row in values)


@given(st.binary(max_size=50), st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)), max_size=8))
def test_parts_are_gathered(data, ranges):
    ranges = [(a, n) for a, n in ranges if a + n <= len(data)]
    starts, lengths = (np.array([r[i] for r in ranges], np.int64) for i in range(2))
    found = gather_bytes(as_bytes(data), starts, lengths)
    assert bytes(found.data) == b"".join(data[a : a + n] for a, n in ranges)
    assert found.lengths.tolist() == [n for _, n in ranges]


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (3, 3), (0, 6), (5, 1), (2, -1)])
def test_parts_outside_are_refused(start, length):
    with pytest.raises(ValueError, match="outside the 5 bytes"):
        gather_bytes(as_bytes(b"abcde"), np.array([start]), np.array([length]))
    with pytest.raises(ValueError, match="outside"):
        crc32c(as_bytes(b"abcde"), np.array([start]), np.array([length]))


def test_no_bytes_of_no_records():
    assert gather_fixed(as_bytes(b"ab"), np.array([1]), 0).shape == (1, 0)
    assert gather_fixed(as_bytes(b""), np.array([], np.int64), 3).shape == (0, 3)


def varint(value):
    value &= 2**64 - 1
    out = []
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


@given(st.lists(LONG | st.sampled_from([0, 1, 127, 128, 2**14, -1, 2**63 - 1, -(2**63)]), max_size=20))
def test_varints_are_protobufs(values):
    made = write_varints(np.array(values, np.int64))
    assert bytes(made.data) == b"".join(map(varint, values))
    assert made.lengths.tolist() == [len(varint(v)) for v in values]
    each, ends = read_varints(made.data, made.offsets[:-1])
    assert each[:, 0].tolist() == values
    assert ends.tolist() == made.offsets[1:].tolist()
    run, _ = read_varints(made.data, np.zeros(1, np.int64), len(values))
    assert run[0].tolist() == values


@pytest.mark.parametrize("data", [b"\x80", b"", b"\xff" * 10 + b"\x01"])
def test_varints_that_do_not_end(data):
    with pytest.raises(ValueError, match="variable length"):
        read_varints(as_bytes(data), np.zeros(1, np.int64))


@given(st.lists(st.binary(max_size=200), max_size=6))
def test_values_behind_their_lengths(values):
    data = b"".join(b"\x0a" + varint(len(v)) + v for v in values)
    starts, lengths = read_delimited(as_bytes(data), 10, len(values))
    assert [data[a : a + n] for a, n in zip(starts, lengths, strict=True)] == values
    with pytest.raises(ValueError, match="do not add up"):
        read_delimited(as_bytes(data), 10, len(values) + 1)
    with pytest.raises(ValueError, match="do not add up"):
        read_delimited(as_bytes(data + b"\x0a\x05abc"), 10, len(values) + 1)


@given(st.lists(st.binary(max_size=30), max_size=6), st.integers(1, 15))
def test_frames_lead_to_the_end(values, lost):
    data = b"".join(len(v).to_bytes(8, "little") + b"head" + v + b"tail" for v in values)
    starts, lengths = read_frames(as_bytes(data), 12, 4)
    assert [data[a : a + n] for a, n in zip(starts, lengths, strict=True)] == values
    if values:
        with pytest.raises(ValueError, match="do not add up"):
            read_frames(as_bytes(data[:-lost]), 12, 4)


def test_a_frame_longer_than_memory_is_refused():
    with pytest.raises(ValueError, match="do not add up"):
        read_frames(as_bytes(b"\xff" * 7 + b"\x7f" + bytes(100)), 12, 4)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # RFC 3720, appendix B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_crc32c_of_the_standard(data, expected):
    assert crc32c(as_bytes(b"." + data), np.array([1]), np.array([len(data)])).tolist() == [expected]


def crc_bit_by_bit(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@given(st.binary(max_size=40), st.integers(0, 9))
def test_crc32c_bit_by_bit(data, first):
    first = min(first, len(data))
    found = crc32c(as_bytes(data), np.array([0, first]), np.array([len(data), len(data) - first]))
    assert found.tolist() == [crc_bit_by_bit(data), crc_bit_by_bit(data[first:])]


@given(st.lists(st.binary(max_size=1100), max_size=5))
def test_members_of_a_tar(contents):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for i, content in enumerate(contents):
            member = tarfile.TarInfo(f"{i}.bin")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    data = target.getvalue()
    starts, sizes = tar_members(as_bytes(data))
    assert [data[a + 512 : a + 512 + n] for a, n in zip(starts, sizes, strict=True)] == contents
    if contents:
        end = int(starts[-1]) + 512
        for cut in (end - 1, end - 400, end + (int(sizes[-1]) + 511) // 512 * 512 + 512):
            with pytest.raises(ValueError, match="does not end"):
                tar_members(as_bytes(data[:cut]))
