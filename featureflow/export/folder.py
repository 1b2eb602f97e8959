"""The folder of an export: whole files only, a manifest that comes last, nothing that is not in it."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import xxhash

from featureflow.contracts.shard_format import Buffer
from featureflow.contracts.shard_manifest import MANIFEST, Manifest, ShardFile
from featureflow.core.errors import TableError
from featureflow.core.meter import spending
from featureflow.core.storage import (
    delete,
    exists,
    full_disks_named,
    is_local,
    join,
    local_path,
    read_bytes,
    walk,
    write_atomic,
)

#: Says that the folder is an export that is not finished; there from its first file until after its manifest.
UNFINISHED = ".exporting"


def list_tree(url: str) -> dict[str, int]:
    """All files below a folder, temporary ones too: path inside it to size."""
    if is_local(url):
        root = local_path(url)
        return {
            os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/"): os.path.getsize(
                os.path.join(folder, name)
            )
            for folder, _, names in os.walk(root)
            for name in names
        }
    return {path: size for path, size, _ in walk(url)}


@spending("write")
def write_file(folder: str, path: str, buffers: Sequence[Buffer]) -> ShardFile:
    """Write a file whole or not at all: beside its place, then renamed; elsewhere by the store's own upload.

    It survives a power cut, but for its name: `sync_folders` sees to that once for all files.
    """
    digest, size = xxhash.xxh3_64(), 0
    for buffer in buffers:
        digest.update(buffer)
        size += memoryview(buffer).nbytes
    url = join(folder, path)
    if not is_local(url):
        write_atomic(url, b"".join(buffers))
        return ShardFile(path, size, digest.hexdigest())
    target = local_path(url)
    with full_disks_named(target, size):
        _write_local(target, buffers)
    return ShardFile(path, size, digest.hexdigest())


def _write_local(target: str, buffers: Sequence[Buffer]) -> None:
    os.makedirs(os.path.dirname(target), exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=os.path.dirname(target))
    try:
        with os.fdopen(handle, "wb") as file:
            for buffer in buffers:
                file.write(buffer)
            file.flush()
            os.fsync(file.fileno())  # here, not at the end: other tasks compute while this one waits
        os.chmod(temporary, 0o644)  # mkstemp gives 0600, and shards are shared
        os.replace(temporary, target)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def hidden_file(path: str) -> str:
    """Where a local file is until it has all its bytes: beside its place, by a name that no reader takes for a file."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".tmp-placed-{name}")


def name_file(folder: str, path: str, hidden: str) -> ShardFile:
    """Give a local file that was written in parts its name, once it is on the disk; what `write_file` says of it."""
    with open(hidden, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            digest = xxhash.xxh3_64_hexdigest(data)
        os.fsync(file.fileno())
    os.chmod(hidden, 0o644)
    os.replace(hidden, local_path(join(folder, path)))
    return ShardFile(path, size, digest)


def is_whole(folder: str, file: ShardFile) -> bool:
    """Whether a file is there with the very bytes that were written."""
    try:
        data = read_bytes(join(folder, file.path))
    except FileNotFoundError:
        return False
    return len(data) == file.bytes and xxhash.xxh3_64(data).hexdigest() == file.xxh3_64


def read_manifest(folder: str) -> Manifest | None:
    """The manifest of a finished export; None if there is none."""
    url = join(folder, MANIFEST)
    try:
        return Manifest.from_json(read_bytes(url), place=url)
    except FileNotFoundError:
        return None


def finished(folder: str, wanted: dict[str, Any], *, replace: bool) -> Manifest | None:
    """Give the manifest of the same export, if it is there already and whole.

    Parameters
    ----------
    wanted
        ``dataset``, ``version``, ``definition_hash`` and ``options_hash``.

    Raises
    ------
    TableError
        If the folder holds something else, and ``replace`` does not allow to remove it.
    """
    manifest = read_manifest(folder)
    files = list_tree(folder)
    if manifest is None:
        # the first file of an export may have been killed before it got its name
        others = [path for path in files if not path.startswith(".tmp-")]
        if others and UNFINISHED not in files and not replace:
            raise TableError(
                f"{folder} is not empty, and holds no shards: {min(others)} is there. Choose another `path`."
            )
        return None
    same = all(getattr(manifest, name) == value for name, value in wanted.items())
    damaged = [
        file.path
        for shards in manifest.splits.values()
        for shard in shards
        for file in shard.files
        if files.get(file.path) != file.bytes
    ]
    if same and not damaged:
        return manifest
    if not replace:
        why = (
            f"its {damaged[0]} is missing or has another size"
            if same
            else f"they are of {manifest.dataset}@{manifest.version} with other options or another definition"
        )
        raise TableError(f"{folder} holds shards already, and {why}. Choose another `path`, or replace them.")
    return None


def sync_folders(folder: str) -> None:
    """Wait until the names of all files survive a power cut."""
    if not is_local(folder):
        return
    for parent, _, _ in os.walk(local_path(folder)):
        handle = os.open(parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def begin(folder: str, options_hash: str, *, replace: bool) -> None:
    """Mark the folder as unfinished; take the old manifest away first if it is to be replaced."""
    write_atomic(join(folder, UNFINISHED), options_hash.encode())
    if replace and exists(join(folder, MANIFEST)):
        delete(join(folder, MANIFEST))
        remove_all_but(folder, {UNFINISHED})


def remove_all_but(folder: str, wanted: set[str]) -> None:
    """Remove what earlier, unfinished or replaced exports left."""
    for path in sorted(set(list_tree(folder)) - wanted):
        delete(join(folder, path))
    if is_local(folder):
        for parent, _, _ in os.walk(local_path(folder), topdown=False):
            if parent != local_path(folder):
                with suppress(OSError):  # not empty
                    os.rmdir(parent)


def settle(folder: str) -> None:
    """Take the mark away after the manifest is there."""
    if exists(join(folder, UNFINISHED)):
        delete(join(folder, UNFINISHED))
