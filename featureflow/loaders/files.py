"""Exported shards as a source: local files are mapped into memory, remote ones come through a cache."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

import pyarrow as pa
import xxhash

from featureflow.contracts.shard_format import Buffer, ShardPlace
from featureflow.contracts.shard_manifest import MANIFEST, Manifest, Shard, ShardFile
from featureflow.core import storage
from featureflow.core.errors import CorruptionError, TableError
from featureflow.library.shards.registry import shard_format
from featureflow.loaders.cache import ShardCache
from featureflow.loaders.source import SplitInfo


def find_export(path: str) -> tuple[str, bytes]:
    """Find the folder of an export, and read its manifest.

    Parameters
    ----------
    path
        The folder of one export, or of one dataset's exports: folders named by version, of which the highest
        that is finished is taken.

    Raises
    ------
    TableError
        If nothing is there, or an export that is not finished.
    """
    url = storage.local_path(path) if storage.is_local(path) else path.rstrip("/")
    found = _manifest(url)
    if found is not None:
        return url, found
    names = storage.list_names(url)
    versions = sorted((name for name in names if name.isdecimal()), key=int, reverse=True)
    for version in versions:
        found = _manifest(storage.join(url, version))
        if found is not None:
            return storage.join(url, version), found
    if versions:
        raise TableError(
            f"{path}: no export there is finished: no version ({', '.join(reversed(versions))}) has a {MANIFEST}, "
            "which is written last. Run the export again; it goes on where it stopped."
        )
    if not names:
        raise TableError(
            f"{path}: nothing is there. Give the folder of an export, or of a dataset's exports."
        )
    inside = [
        name
        for name in names
        if "." not in name and any(n.isdecimal() for n in storage.list_names(storage.join(url, name)))
    ]
    if inside:
        raise TableError(
            f"{path} holds the exports of {', '.join(inside)}. Name one: {storage.join(path, inside[0])!r}."
        )
    raise TableError(
        f"{path}: the export is unfinished: there is no {MANIFEST}, which is written last. "
        "Run it again; it goes on where it stopped."
    )


def _manifest(url: str) -> bytes | None:
    try:
        return storage.read_bytes(storage.join(url, MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        return None


class FileSource:
    """The shards of a manifest.

    Parameters
    ----------
    url
        The folder of the manifest.
    text
        The manifest.
    cache
        For shards that are not on this machine.
    verify
        Whether to compare each file with the manifest's checksum when it is first opened.
    """

    in_memory = False

    def __init__(self, url: str, text: bytes, *, cache: ShardCache, verify: bool) -> None:
        self.url = url
        self.manifest = Manifest.from_json(text, place=storage.join(url, MANIFEST))
        self.identity = xxhash.xxh3_64_hexdigest(text)
        self.name = f"{self.manifest.dataset}@{self.manifest.version}"
        self.columns = self.manifest.columns
        self.schema = self.manifest.schema
        self.normalization = self.manifest.normalization
        self.splits = {name: _split_info(shards) for name, shards in self.manifest.splits.items()}
        self._format = shard_format(self.manifest.format)
        self._cache = cache
        self._remote = not storage.is_local(url)
        self._verify = verify
        self._verified: set[str] = set()

    def table(self, split: str, shard: int, columns: Sequence[str]) -> pa.Table:
        """Read a shard; uncompressed Arrow files are views of the mapped file.

        Raises
        ------
        CorruptionError
            If a file is missing, has another size or another checksum, or can't be decoded; names the shard.
        """
        shards = self.manifest.splits[split]
        one = shards[shard]
        files = {file.path: self._open(file, one) for file in one.files}
        first_row = sum(s.rows for s in shards[:shard])
        place = ShardPlace(one.stem, shard, len(shards), first_row, sum(s.rows for s in shards))
        try:
            table = self._format.decode(files, place, one.entry, self.schema, self.manifest.options)
        except (pa.ArrowException, ValueError, KeyError, IndexError, OSError, EOFError) as error:
            raise CorruptionError(
                f"{self._where(one)}: can't be decoded as {self.manifest.format}: {error}. {_DO}"
            ) from error
        if table.num_rows != one.rows:
            raise CorruptionError(
                f"{self._where(one)} has {table.num_rows} rows, and the manifest says {one.rows}. {_DO}"
            )
        return table.select([name for name in table.column_names if name in set(columns)])

    def fetch_ahead(self, split: str, shards: Sequence[int]) -> None:
        """Fetch remote shards into the cache meanwhile."""
        if self._remote:
            files = [file for n in shards for file in self.manifest.splits[split][n].files]
            self._cache.fetch_ahead([(storage.join(self.url, file.path), file) for file in files])

    def _where(self, shard: Shard) -> str:
        return f"{self.name}: shard {storage.join(self.url, shard.stem)}"

    def _open(self, file: ShardFile, shard: Shard) -> pa.Buffer:
        url = storage.join(self.url, file.path)
        if not self._remote:
            return self._checked(storage.local_path(url), file, shard)
        try:
            path = self._cache.fetch(url, file)
            try:
                return self._checked(path, file, shard)
            except CorruptionError:
                # the copy was damaged after it had been checked; the original may be whole
                self._cache.forget(file)
                return self._checked(self._cache.fetch(url, file), file, shard)
        except FileNotFoundError as error:
            raise CorruptionError(f"{self._where(shard)}: {file.path} is missing. {_DO}") from error

    def _checked(self, path: str, file: ShardFile, shard: Shard) -> pa.Buffer:
        """Map a file, after its size and, the first time, its checksum were compared with the manifest."""
        try:
            with open(path, "rb") as opened:
                size = os.fstat(opened.fileno()).st_size
                if size != file.bytes:
                    raise CorruptionError(
                        f"{self._where(shard)}: {file.path} has {size} bytes, and {file.bytes} were written. {_DO}"
                    )
                # an empty file can't be mapped
                data = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except FileNotFoundError as error:
            if self._remote:
                raise
            raise CorruptionError(f"{self._where(shard)}: {file.path} is missing. {_DO}") from error
        if self._verify and file.path not in self._verified:
            found = _digest(data)
            if found != file.xxh3_64:
                raise CorruptionError(
                    f"{self._where(shard)}: {file.path} has the checksum {found}, and {file.xxh3_64} was "
                    f"written: its bytes have changed. {_DO}"
                )
            self._verified.add(file.path)
        return pa.py_buffer(data)


def _digest(data: Buffer) -> str:
    """Checksum of a file, block by block: one call for all of it would keep every other thread waiting."""
    digest, whole = xxhash.xxh3_64(), memoryview(data)
    for start in range(0, len(whole), _BLOCK):
        digest.update(whole[start : start + _BLOCK])
    return digest.hexdigest()


_BLOCK = 1 << 20
_DO = "Export again, or copy the shards again."


def _split_info(shards: Sequence[Shard]) -> SplitInfo:
    rows = sum(shard.rows for shard in shards)
    size = sum(file.bytes for shard in shards for file in shard.files)
    return SplitInfo(tuple(shard.rows for shard in shards), size / max(rows, 1))


def check_balance(manifest: Manifest, place: str) -> None:
    """Compare the manifest's rows with those of its shards.

    Raises
    ------
    CorruptionError
        If they do not add up.
    """
    there = sum(shard.rows for shards in manifest.splits.values() for shard in shards)
    if manifest.rows.get("kept", there) != there:
        raise CorruptionError(
            f"{place}: {manifest.rows['kept']} rows were kept, and the shards have {there}. Export again."
        )
    reasons = sum(count for reason, count in manifest.rows.items() if reason != "in")
    if manifest.rows.get("in", reasons) != reasons:
        raise CorruptionError(
            f"{place}: of {manifest.rows['in']} rows, {reasons} are accounted for. Export again."
        )
