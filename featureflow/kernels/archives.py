"""The members of a tar file, without a Python object for each."""

from __future__ import annotations

import numpy as np

from featureflow.kernels.jit import kernel
from featureflow.kernels.records import Bytes, Longs

_BLOCK = 512
_SIZE_AT, _SIZE_DIGITS = 124, 11


@kernel
def _walk(data: Bytes, starts: Longs, sizes: Longs) -> int:
    at, n = 0, 0
    while at + _BLOCK <= data.size and data[at] != 0:
        size = 0
        for k in range(_SIZE_DIGITS):
            digit = int(data[at + _SIZE_AT + k]) - 48
            if digit < 0 or digit > 7:
                return -1
            size = 8 * size + digit
        if size > data.size - at - _BLOCK:
            return -1
        if starts.size:
            starts[n] = at
            sizes[n] = size
        n += 1
        at += _BLOCK + (size + _BLOCK - 1) // _BLOCK * _BLOCK
    return n if at + 2 * _BLOCK <= data.size else -1


def tar_members(data: Bytes) -> tuple[Longs, Longs]:
    """Find the members of a tar file.

    Returns
    -------
    tuple
        Where each member's header starts (its content is 512 bytes on), and its bytes.

    Raises
    ------
    ValueError
        If a size is no octal number or the archive does not end with two empty blocks.
    """
    nothing = np.empty(0, np.int64)
    n = _walk(data, nothing, nothing)
    if n < 0:
        raise ValueError(f"a tar file that does not end within its {data.size} bytes.")
    starts, sizes = np.empty(n, np.int64), np.empty(n, np.int64)
    if n:
        _walk(data, starts, sizes)
    return starts, sizes
