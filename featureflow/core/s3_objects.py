"""Whole objects of S3: reading, writing once, listing. :mod:`featureflow.core.remote` reads parts of large ones."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime

from featureflow.core import s3
from featureflow.core.meter import waiting_for_store

#: Larger objects are uploaded in parts of this size, a few at a time.
PART_BYTES = 16 << 20
_PARTS_IN_FLIGHT = 4
_WRITE_ID = "featureflow-write-id"


@waiting_for_store("remote read")
def read(url: str) -> bytes:
    """Read a whole object; FileNotFoundError if it is not there."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        return s3.insist(url, lambda: bytes(obstore.get(store, key).bytes()))


@waiting_for_store("write")
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
            s3.insist(
                url,
                lambda: obstore.put(store, key, data, mode="create", attributes=mark, use_multipart=False),
            )
        except AlreadyExistsError:
            found = s3.insist(url, lambda: obstore.get(store, key).attributes)
            return found.get(_WRITE_ID) == mark[_WRITE_ID]
    return True


@waiting_for_store("write")
def put(url: str, data: bytes | memoryview) -> None:
    """Write or replace an object: one PUT, or a multipart upload, which appears when its last part is there."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        s3.insist(
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


@waiting_for_store("remote read")
def size(url: str) -> int:
    """Bytes of an object; FileNotFoundError if it is not there."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        return int(s3.insist(url, lambda: obstore.head(store, key))["size"])


@waiting_for_store("remote read")
def listed(url: str) -> dict[str, int | None]:
    """Bytes by name of what is directly in a folder; None for folders."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        found = s3.insist(url, lambda: obstore.list_with_delimiter(store, key.rstrip("/") or None))
    below: dict[str, int | None] = {path.rpartition("/")[2]: None for path in found["common_prefixes"]}
    return below | {each["path"].rpartition("/")[2]: each["size"] for each in found["objects"]}


def walk(url: str) -> Iterator[tuple[str, int, datetime]]:
    """Every object below a folder: path below it, bytes, and when it was last changed."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        root = key.rstrip("/")
        found = s3.insist(url, lambda: [each for page in obstore.list(store, root or None) for each in page])
    for each in found:
        yield each["path"][len(root) :].lstrip("/"), each["size"], each["last_modified"]


@waiting_for_store("write")
def remove(url: str) -> None:
    """Delete an object; S3 does not say whether it was there."""
    import obstore

    with s3.asking(url):
        store, key = s3.connect(url)
        s3.insist(url, lambda: obstore.delete(store, key))
