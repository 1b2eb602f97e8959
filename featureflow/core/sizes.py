"""Amounts of bytes as people write them: ``8GB``, ``512MiB``."""

from __future__ import annotations

import re

_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_RANKS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_bytes(given: str | int) -> int:
    """Read an amount of bytes; decimal units, binary ones with an ``i``; a bare number is bytes.

    Raises
    ------
    ValueError
        If it is none, or less than one byte.

    Examples
    --------
    >>> parse_bytes("1.5GB"), parse_bytes("64 MiB"), parse_bytes("8g"), parse_bytes(1000)
    (1500000000, 67108864, 8000000000, 1000)
    """
    match = _WRITTEN.fullmatch(str(given).strip())
    if match is None or (match[3] and not match[2]):
        raise ValueError(f"{given!r} is not an amount of bytes. Write it as 8GB, 512MB or 64MiB.")
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** _RANKS[match[2].lower()])
    if size < 1:
        raise ValueError(f"{given!r} is less than one byte. Write it as 8GB, 512MB or 64MiB.")
    return size
