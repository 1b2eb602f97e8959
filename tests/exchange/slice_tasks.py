"""Tasks of tests of the slice server, in a file that workers can import."""

from __future__ import annotations

import time

import numpy as np
import pyarrow as pa

from featureflow.execute.exchange.slice_server import PIECE_BYTES

ROWS = PIECE_BYTES // 8 * 2 + 1000  # two pieces and a bit


def write_slices(path: str) -> tuple[str, str]:
    """Write a file of two buckets; who has it."""
    from featureflow.execute.exchange.exchange_file import held, write_buckets

    table = pa.table({"v": np.arange(ROWS)})
    write_buckets(table, np.arange(ROWS) % 2, 2, path)
    handle = held(path)
    assert handle is not None
    return handle.disk, handle.address


def ask_for_slices(
    addresses: tuple[str, ...], names: tuple[str, ...], bucket: int
) -> tuple[dict[str, int], str, float]:
    """Sums of what a host sends, its reason, and the seconds."""
    from featureflow.execute.exchange.places import Wanted, here

    own = here()
    assert own is not None
    begun = time.monotonic()
    (sent,) = own.ask([Wanted(addresses, names, bucket)])
    sums = {name: int(batch.column("v").to_numpy().sum()) for name, batch in sent.batches.items()}
    return sums, sent.reason, time.monotonic() - begun
