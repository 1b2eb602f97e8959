"""Which exchange files there are, written down once for all tasks of a stage.

A task is given the manifest's name, not the list: the list of a large build would be shipped to every one of them. A
manifest is named by the files in it, not by where they lie: when a host is lost and its files were made again
elsewhere, the driver writes the same manifest with other hosts, and tasks that could not read a file look again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from featureflow.core.fingerprints import fingerprint
from featureflow.core.storage import exists, join, read_bytes, write_atomic

#: Path, earliest, latest, has rows without time.
Entry = tuple[str, int | None, int | None, bool]


@dataclass(frozen=True, slots=True)
class Holders:
    """Who has files that are not on a disk that all see.

    ``disks`` gives the name of the disk of each file, ``addresses`` those of the workers that see a disk.
    """

    disks: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_EVERYWHERE = Holders()


def write_manifest(folder: str, entries: list[Entry], holders: Holders = _EVERYWHERE) -> str:
    """Write (path, earliest, latest, has rows without time) of each exchange file; returns the manifest's path.

    Parameters
    ----------
    folder
        Folder or URL that driver and workers see.
    holders
        Where the files are, if not on a disk that all see; it is no part of the name.
    """
    content = json.dumps(entries)
    path = join(folder, "manifests", f"{fingerprint(content)}.json")
    if holders.disks or not exists(path):
        disks = sorted({holders.disks[entry[0]] for entry in entries if entry[0] in holders.disks})
        places = {disk: i for i, disk in enumerate(disks)}
        found = {
            "files": entries,
            "disks": [[disk, *holders.addresses.get(disk, ())] for disk in disks],
            "on": [places[holders.disks[entry[0]]] for entry in entries] if disks else [],
        }
        write_atomic(path, json.dumps(found).encode(), durable=False)
    return path


@lru_cache(maxsize=64)
def _read(path: str) -> tuple[tuple[Entry, ...], Holders]:
    found = json.loads(read_bytes(path))
    files = tuple((entry[0], entry[1], entry[2], entry[3]) for entry in found["files"])
    disks = [disk for disk, *_ in found["disks"]]
    held = {entry[0]: disks[place] for entry, place in zip(files, found["on"], strict=False)}
    return files, Holders(held, {disk: tuple(addresses) for disk, *addresses in found["disks"]})


def read_manifest(path: str) -> tuple[Entry, ...]:
    """Read a manifest; the same one is read once by each process."""
    return _read(path)[0]


def read_holders(path: str, *, again: bool = False) -> Holders:
    """Who has the files of a manifest; ``again`` if what was read before has turned out to be wrong."""
    if again:
        _read.cache_clear()
    return _read(path)[1]


def touching(path: str, first_us: int | None, last_us: int, *, with_null: bool = False) -> tuple[str, ...]:
    """Exchange files that can hold a row in the closed range of times, in the manifest's order."""
    return tuple(
        name
        for name, low, high, null in read_manifest(path)
        if (
            low is not None and high is not None and low <= last_us and (first_us is None or high >= first_us)
        )
        or (with_null and null)
    )


def write_list(folder: str, rows: list[list[Any]]) -> str:
    """Write down rows of plain values for all tasks of a stage; returns the path, a name of the content."""
    content = json.dumps(rows)
    path = join(folder, "manifests", f"{fingerprint(content)}.json")
    if not exists(path):
        write_atomic(path, content.encode(), durable=False)
    return path


@lru_cache(maxsize=64)
def read_list(path: str) -> tuple[tuple[Any, ...], ...]:
    """Read what `write_list` wrote; the same list is read once by each process."""
    return tuple(tuple(row) for row in json.loads(read_bytes(path)))
