"""Amounts of bytes as people write them."""

from __future__ import annotations

import pytest

from featureflow.core.sizes import parse_bytes


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("8GB", 8_000_000_000),
        (" 512 MiB ", 512 * 2**20),
        ("1.5g", 1_500_000_000),
        ("64Mi", 64 * 2**20),
        ("7B", 7),
        ("7", 7),
        ("2tib", 2**41),
        (1000, 1000),
    ],
)
def test_sizes(given, expected):
    assert parse_bytes(given) == expected


@pytest.mark.parametrize("given", ["", "GB", "8XB", "-1MB", "8iB", "1e9", "nan", "8 G B", "1,5GB", -3])
def test_what_is_none(given):
    with pytest.raises(ValueError, match="is not an amount of bytes"):
        parse_bytes(given)


@pytest.mark.parametrize("given", ["0", "0GB", "0.2B", 0])
def test_nothing(given):
    with pytest.raises(ValueError, match="less than one byte"):
        parse_bytes(given)
