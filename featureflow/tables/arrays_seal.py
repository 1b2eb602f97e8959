"""Seals of snapshots: digests of Icechunk's metadata, which has no checksums of its own.

Chunks are checked by their compression's checksum. A flipped bit in a manifest, though, makes a chunk another chunk, or
none. So a build writes down what a snapshot says, and digests of its manifests, under ``_ff/seals/<snapshot>.json``
before anything names the snapshot; whoever opens it compares.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from featureflow.core import storage
from featureflow.core.errors import CorruptionError
from featureflow.core.fingerprints import canonical_json
from featureflow.tables import records
from featureflow.tables.arrays_repository import arrays_url

if TYPE_CHECKING:
    import icechunk

SEALS = "_ff/seals"
_REQUESTS = 8


def seal_path(snapshot: str) -> str:
    """Name of a snapshot's seal, relative to the table."""
    return f"{SEALS}/{snapshot}.json"


def inspected(repository: icechunk.Repository, snapshot: str) -> dict[str, Any]:
    """What a snapshot says, as Icechunk 1 (text) and 2 (a dict) show it."""
    from zarr.core.sync import sync

    # not the one that waits: Icechunk 2 holds the interpreter in it, and its own threads ask for our credentials
    found: Any = sync(repository.inspect_snapshot_async(snapshot))
    content: dict[str, Any] = json.loads(found) if isinstance(found, str) else found
    return content


def _content(table_url: str, repository: icechunk.Repository, snapshot: str) -> dict[str, Any]:
    """What is sealed. The snapshot's file is not: expiry rewrites it to forget its ancestors."""
    found = inspected(repository, snapshot)
    nodes = [
        [
            node["path"],
            node["id"],
            node["node_type"],
            sorted(ref["id"] for ref in node.get("manifest_refs") or ()),
        ]
        for node in found["nodes"]
    ]
    store = repository.readonly_session(snapshot_id=snapshot).store
    metadata = {path: _document(store, path) for path, *_ in nodes}
    names = sorted({name for *_, used in nodes for name in used})
    with ThreadPoolExecutor(_REQUESTS) as pool:
        digests = pool.map(
            lambda name: _digest_of(storage.join(arrays_url(table_url), "manifests", name)), names
        )
        manifests = dict(zip(names, digests, strict=True))
    return {
        "snapshot": snapshot,
        "metadata": records.digest(canonical_json([sorted(nodes), metadata]).encode()),
        "manifests": manifests,
    }


def _document(store: Any, path: str) -> str:
    """Zarr's metadata of an array or group, as it is stored."""
    from zarr.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    found = sync(store.get(f"{path}/zarr.json".lstrip("/"), default_buffer_prototype()))
    return "" if found is None else found.to_bytes().decode("utf-8", "replace")


def _digest_of(url: str) -> str:
    try:
        return records.digest(storage.read_bytes(url))
    except FileNotFoundError:
        return "missing"


def write_seal(table_url: str, repository: icechunk.Repository, snapshot: str) -> None:
    """Seal a snapshot, before a version names it; nothing happens if it is sealed."""
    content = _content(table_url, repository, snapshot)
    storage.write_new(storage.join(table_url, seal_path(snapshot)), records.sealed(content))


def check_seal(table_url: str, repository: icechunk.Repository, snapshot: str) -> None:
    """Compare a snapshot with its seal.

    Raises
    ------
    CorruptionError
        If metadata changed, or the seal is not there.
    """
    url = storage.join(table_url, seal_path(snapshot))
    try:
        sealed = records.unseal(storage.read_bytes(url), url)
    except FileNotFoundError:
        raise CorruptionError(
            f"{url}: is missing, so nobody can say whether snapshot {snapshot} is what was written."
        ) from None
    try:
        found = _content(table_url, repository, snapshot)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(
            f"{arrays_url(table_url)}: snapshot {snapshot} can't be read: {error}"
        ) from error
    if found["metadata"] != sealed["metadata"]:
        raise CorruptionError(f"{arrays_url(table_url)}: snapshot {snapshot} is not what was written.")
    for name, digest in sealed["manifests"].items():
        if found["manifests"].get(name) != digest:
            what = "is missing" if found["manifests"].get(name) == "missing" else "is not what was written"
            raise CorruptionError(f"{arrays_url(table_url)}: manifest {name} of snapshot {snapshot} {what}.")
