"""Where Zarr arrays are read from: a local folder, S3 with this project's client, anything that fsspec knows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.storage import FsspecStore, LocalStore, ObjectStore, WrapperStore

from featureflow.core import s3, storage
from featureflow.core.meter import moved

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zarr.core.buffer import Buffer, BufferPrototype

_PAUSE = 0.2
_BLOSC_HEADER = 16


def open_store(url: str) -> tuple[Store, str]:
    """The store of a URL, and the path within it; read-only."""
    if storage.is_local(url):
        return LocalStore(storage.local_path(url), read_only=True), ""
    if s3.usable(url):
        store, key = s3.connect(url)
        return Remote(ObjectStore(store, read_only=True), url), key.strip("/")
    fs, path = storage.filesystem(url)
    if not fs.async_impl or not fs.asynchronous:
        fs = _asynchronous(fs)
    return Remote(FsspecStore(fs, path=path, read_only=True), url), ""


def _asynchronous(fs: Any) -> Any:
    if fs.async_impl:
        return type(fs)(*fs.storage_args, **{**fs.storage_options, "asynchronous": True})
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

    return AsyncFileSystemWrapper(fs, asynchronous=True)


class Remote(WrapperStore[Any]):
    """A store elsewhere: its bytes are counted, requests whose connection broke are repeated, errors have a meaning."""

    def __init__(self, store: Any, url: str) -> None:
        super().__init__(store)
        self.url = url

    def _with_store(self, store: Any) -> Remote:
        return type(self)(store, self.url)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read an object or a part of it; None if it is not there."""
        until = None
        while True:
            with asking(self.url):
                try:
                    found: Buffer | None = await self._store.get(key, prototype, byte_range)
                except Exception as error:
                    until = until or time.monotonic() + s3.patience(self.url).total_seconds()
                    if not _broken(error) or time.monotonic() > until:
                        raise
                else:
                    if found is not None:
                        moved("remote read", len(found))
                    return found
            await asyncio.sleep(_PAUSE)

    async def exists(self, key: str) -> bool:
        """Whether the object is there."""
        with asking(self.url):
            return bool(await self._store.exists(key))

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All keys below a prefix."""
        with asking(self.url):
            found = [each async for each in self._store.list_prefix(prefix)]
        for each in found:
            yield each

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names directly below a prefix."""
        with asking(self.url):
            found = [each async for each in self._store.list_dir(prefix)]
        for each in found:
            yield each


class WholeBlosc(WrapperStore[Any]):
    """A store that refuses chunks of Blosc that are cut off: Blosc trusts their header, and reads past their end.

    Parameters
    ----------
    folders
        Keys of the arrays whose chunks, or parts of shards, are Blosc's.
    """

    def __init__(self, store: Any, folders: tuple[str, ...]) -> None:
        super().__init__(store)
        self.folders = folders

    def _with_store(self, store: Any) -> WholeBlosc:
        return type(self)(store, self.folders)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Read an object or a part of it; None if it is not there."""
        found: Buffer | None = await self._store.get(key, prototype, byte_range)
        if found is not None and key.startswith(self.folders) and not _is_metadata(key):
            if isinstance(byte_range, RangeByteRequest):
                told = byte_range.end - byte_range.start
            else:
                told = _told(found) if byte_range is None else 0
            if len(found) < told:
                raise ValueError(f"the chunk {key} has {len(found):,} bytes of {told:,}")
        return found


def _is_metadata(key: str) -> bool:
    name = key.rpartition("/")[2]
    return name == "zarr.json" or name.startswith(".z")


def _told(chunk: Buffer) -> int:
    """Bytes that a chunk of Blosc has by its header; the header's own if even that is cut off."""
    return int.from_bytes(chunk[12:16].to_bytes(), "little") if len(chunk) >= _BLOSC_HEADER else _BLOSC_HEADER


def _broken(error: Exception) -> bool:
    """Whether an answer broke off, which the client does not repeat."""
    return type(error).__name__ == "GenericError" and "HTTP error" in str(error)


@contextmanager
def asking(url: str) -> Iterator[None]:
    """Errors of a store as this project names them."""
    with s3.asking(url) if s3.usable(url) else storage.talking_to(url):
        yield
