"""Read slices of exchange files, wherever the files lie: this host's disks, another host's, the store.

Files of this host are mapped into memory. Files of another host come from a worker there, all in one request. Files
in an object store are read by ranges of bytes: the footer, which is remembered, and the slice.
"""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from threading import Lock

import pyarrow as pa

from featureflow.core.errors import FetchFailed
from featureflow.core.meter import counted, moved, spent
from featureflow.core.storage import is_local
from featureflow.execute.exchange.arrow_footer import (
    Footer,
    checked,
    footer_bytes,
    parse_footer,
    read_message,
)
from featureflow.execute.exchange.manifest import Holders, read_holders
from featureflow.execute.exchange.places import Wanted, here, on_disk
from featureflow.execute.exchange.ranges import read_ranges, read_tails

#: First guess of how long a footer is: 24 bytes a bucket and the schema. A file that is not longer comes whole.
TAIL_BYTES = 64 << 10
#: Footers that a process remembers, by their bytes.
REMEMBERED_BYTES = 64 << 20


def read_bucket(paths: Sequence[str], bucket: int) -> list[pa.RecordBatch]:
    """Give one bucket's batch of each file; what lies on a disk of this host is mapped, not copied.

    Parameters
    ----------
    paths
        Paths, URLs, or places on this host's scratch (`featureflow.execute.exchange.places`).

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    """
    return read_batches([(path, bucket) for path in paths])


def read_batches(places: Sequence[tuple[str, int]]) -> list[pa.RecordBatch]:
    """Give batches by the path of their file and their number in it, as `read_bucket` does."""
    with spent("exchange"):
        found = _of_store([(path, number) for path, number in places if not is_local(path)])
        return [found[place] if place in found else _mapped(on_disk(place[0]), place[1]) for place in places]


def read_slices(manifest: str, names: Sequence[str], bucket: int) -> list[pa.RecordBatch]:
    """Give one bucket's batch of some files of a manifest, in the order of the names.

    Raises
    ------
    FetchFailed
        If some can't be had: names them. The driver makes them again, and then this task's turn comes again.

    Notes
    -----
    Cost: own files are mapped; one request to each other host; with a remote store one request a file (two for the
    first task of a process). Memory: the slices of other hosts.
    """
    with spent("exchange"):
        holders = read_holders(manifest)
        found, reasons = _gather(holders, names, bucket)
        missing = [name for name in names if name not in found]
        if missing:  # the driver may have written down other hosts since this process read them
            now = read_holders(manifest, again=True)
            if now != holders:
                more, reasons = _gather(now, missing, bucket)
                found |= more
        lost = tuple(name for name in names if name not in found)
        if lost:
            raise FetchFailed(manifest, lost, "; ".join(sorted(set(reasons))[:3]) or "they are not there")
        return [found[name] for name in names]


def _gather(
    holders: Holders, names: Sequence[str], bucket: int
) -> tuple[dict[str, pa.RecordBatch], list[str]]:
    found: dict[str, pa.RecordBatch] = {}
    reasons: list[str] = []
    own = here()
    by_disk: dict[str, list[str]] = {}
    stored = []
    for name in names:
        disk = holders.disks.get(name, "")
        if not is_local(name):
            stored.append(name)
        elif not disk or (own is not None and disk == own.disk):
            try:
                found[name] = _mapped(on_disk(name), bucket)
            except (OSError, pa.ArrowInvalid) as error:
                reasons.append(str(error))
        else:
            by_disk.setdefault(disk, []).append(name)
    if stored:
        slices = _of_store([(name, bucket) for name in stored], reasons)
        found |= {name: batch for (name, _), batch in slices.items()}
    if by_disk:
        _of_hosts(by_disk, holders, bucket, found, reasons)
    return found, reasons


def _mapped(path: str, bucket: int) -> pa.RecordBatch:
    # closing gives the descriptor back, of which a process has a thousand; the mapping lives as long as its batches
    with pa.memory_map(path) as file, pa.ipc.open_file(file) as reader:
        found = reader.get_batch_with_custom_metadata(bucket)
        rows = json.loads((reader.schema.metadata or {}).get(b"rows", b"null"))
    batch = found.batch
    try:
        checked(batch, (found.custom_metadata or {}).get(b"sum"))
        if rows is not None and rows[bucket] != batch.num_rows:
            raise ValueError("it says another number of rows")
    except (ValueError, IndexError, TypeError) as error:
        # as good as none: what looks for the file next makes it again
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise OSError(f"{path} is damaged and was removed: {error}. Build again.") from error
    moved("exchange:local", batch.nbytes)
    return batch


# ---------------------------------------------------------------- other hosts


def _of_hosts(
    by_disk: Mapping[str, list[str]],
    holders: Holders,
    bucket: int,
    found: dict[str, pa.RecordBatch],
    reasons: list[str],
) -> None:
    """Ask each host once for all that it has."""
    own = here()
    if own is None:
        reasons.append("this task runs on no worker that was prepared for it")
        return
    wanted = [
        Wanted(_turned(holders.addresses.get(disk, ()), bucket), tuple(names), bucket)
        for disk, names in by_disk.items()
    ]
    for sent in own.ask(wanted):
        found |= sent.batches
        moved("exchange:remote", sent.bytes)
        counted("exchange requests")
        if sent.reason:
            reasons.append(sent.reason)


def _turned(addresses: Sequence[str], bucket: int) -> tuple[str, ...]:
    """Not all tasks begin with the same worker of a host."""
    first = bucket % len(addresses) if addresses else 0
    return (*addresses[first:], *addresses[:first])


# ---------------------------------------------------------------- the store


class _Footers:
    """Footers that this process has read, the latest used ones."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._known: OrderedDict[str, Footer] = OrderedDict()
        self._lock = Lock()

    def get(self, url: str) -> Footer | None:
        with self._lock:
            if url in self._known:
                self._known.move_to_end(url)
            return self._known.get(url)

    def put(self, url: str, footer: Footer) -> None:
        with self._lock:
            if url not in self._known:
                self._known[url] = footer
                self._bytes += footer.offsets.nbytes + footer.lengths.nbytes
            while self._bytes > self._limit and len(self._known) > 1:
                _, gone = self._known.popitem(last=False)
                self._bytes -= gone.offsets.nbytes + gone.lengths.nbytes


_footers = _Footers(REMEMBERED_BYTES)


def store_footers(urls: Sequence[str]) -> dict[str, Footer]:
    """Footers of files of the store; what is not there has none. Cost: one request for each that is not remembered."""
    return {url: footer for url, (footer, _) in _tails(urls).items()}


def _tails(urls: Sequence[str]) -> dict[str, tuple[Footer, bytes]]:
    """Footers, and the last bytes of the files if they were read now."""
    known = {url: _footers.get(url) for url in urls}
    found = {url: (footer, b"") for url, footer in known.items() if footer is not None}
    new = [url for url in urls if known[url] is None]
    tails = dict(zip(new, read_tails(new, [TAIL_BYTES] * len(new)), strict=True))
    longer = {
        url: size
        for url, tail in tails.items()
        if tail is not None and tail.endswith(b"ARROW1") and (size := footer_bytes(tail)) > len(tail)
    }
    tails.update(zip(longer, read_tails(list(longer), list(longer.values())), strict=True))
    for url, tail in tails.items():
        if tail is not None:
            with suppress(ValueError):  # damaged: as good as none, and made again
                footer = parse_footer(tail)
                _footers.put(url, footer)
                found[url] = (footer, tail)
    return found


def _of_store(
    wanted: Sequence[tuple[str, int]], reasons: list[str] | None = None
) -> dict[tuple[str, int], pa.RecordBatch]:
    """Batches of files of the store, by URL and number; without ``reasons`` a file that is not there is an error."""
    if not wanted:
        return {}
    tails = _tails(list(dict.fromkeys(url for url, _ in wanted)))
    found: dict[tuple[str, int], pa.RecordBatch] = {}
    later: list[tuple[str, int]] = []
    for url, number in wanted:
        if url not in tails:
            continue
        footer, tail = tails[url]
        start, length = int(footer.offsets[number]), int(footer.lengths[number])
        before = footer.file_bytes - len(tail)
        if tail and start >= before:  # it came with the footer
            found[url, number] = read_message(tail[start - before : start - before + length], footer.schema)
        else:
            later.append((url, number))
    ranges = [(url, int(tails[url][0].offsets[n]), int(tails[url][0].lengths[n])) for url, n in later]
    for (url, number), data in zip(later, read_ranges(ranges), strict=True):
        if data is not None:
            found[url, number] = read_message(data, tails[url][0].schema)
    moved("exchange:store", sum(batch.nbytes for batch in found.values()))
    lost = [place for place in wanted if place not in found]
    if lost and reasons is None:
        raise FileNotFoundError(lost[0][0])
    if lost and reasons is not None:
        reasons.append(f"{lost[0][0]} is not there")
    return found
