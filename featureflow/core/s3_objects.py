"""Whole objects of S3: reading, writing once, listing. :mod:`featureflow.core.remote` reads parts of large ones."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime

from featureflow.core import s3

#: Larger objects are uploaded in parts of this size, a few at a time.
PART_BYTES = 16 << 20
_PARTS_IN_FLIGHT = 4
_WRITE_ID = "featureflow-write-id"
#: Seconds between attempts to create an object over connections that break.
_PAUSE = 0.2


def read(url: str) -> bytes:
    """Read a whole object; FileNotFoundError if it is not there."""
    import obstore

    with s3.asking(url):
        return bytes(obstore.get(*s3.connect(url)).bytes())


def _insist(url: str, change: Callable[[], object]) -> None:
    """Repeat a change whose connection broke: the client repeats what was refused, but not what may have been done."""
    from obstore.exceptions import GenericError

    until = time.monotonic() + s3.patience(url).total_seconds()
    while True:
        try:
            change()
        except GenericError as error:
            if "HTTP error" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(_PAUSE)
        else:
            return


def create(url: str, data: bytes) -> bool:
    """Create an object by a conditional PUT; False if it was there before.

    A client that repeats a PUT whose reply was lost is told that the object exists. Each call marks its object, so
    that its own is known from that of another writer, even of the same bytes.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError

    mark = {_WRITE_ID: uuid.uuid4().hex}
    with s3.asking(url):
        store, key = s3.connect(url)
        try:
            _insist(
                url,
                lambda: obstore.put(store, key, data, mode="create", attributes=mark, use_multipart=False),
            )
        except AlreadyExistsError:
            return obstore.get(store, key).attributes.get(_WRITE_ID) == mark[_WRITE_ID]
    return True


def put(url: str, data: bytes) -> None:
    """Write or replace an object: one PUT, or a multipart upload, which appears when its last part is there."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        _insist(
            url,
            lambda: obstore.put(
                store,
                key,
                data,
                use_multipart=len(data) > PART_BYTES,
                chunk_size=PART_BYTES,
                max_concurrency=_PARTS_IN_FLIGHT,
            ),
        )


def size(url: str) -> int:
    """Bytes of an object; FileNotFoundError if it is not there."""
    import obstore

    with s3.asking(url):
        return int(obstore.head(*s3.connect(url))["size"])


def listed(url: str) -> dict[str, int | None]:
    """Bytes by name of what is directly in a folder; None for folders."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        found = obstore.list_with_delimiter(store, key.rstrip("/") or None)
    below: dict[str, int | None] = {path.rpartition("/")[2]: None for path in found["common_prefixes"]}
    return below | {each["path"].rpartition("/")[2]: each["size"] for each in found["objects"]}


def walk(url: str) -> Iterator[tuple[str, int, datetime]]:
    """Every object below a folder: path below it, bytes, and when it was last changed."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        root = key.rstrip("/")
        for page in obstore.list(store, root or None):
            for each in page:
                yield each["path"][len(root) :].lstrip("/"), each["size"], each["last_modified"]


def remove(url: str) -> None:
    """Delete an object; S3 does not say whether it was there."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        _insist(url, lambda: obstore.delete(store, key))
