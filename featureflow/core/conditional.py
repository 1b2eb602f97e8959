"""Whether a store keeps the one promise that versions rest on: of several writers that create an object, one wins."""

from __future__ import annotations

from featureflow.core import storage
from featureflow.core.errors import TableError, Unreachable

#: Created once in every store; creating it again must be refused.
MARK = "_ff/created-once"
_TEXT = (
    b"Creating this object a second time must fail. featureflow asks for that at the begin of each build.\n"
)
_NOT_IMPLEMENTED = ("NotImplemented", "501 ", "not supported")

WITHOUT = (
    "the store creates an object that is there already: it has no conditional writes (If-None-Match), so two builds at "
    "the same moment would silently lose one of them. Use a store that has them (Amazon S3, Google Cloud Storage, "
    "Azure, MinIO, Ceph and SeaweedFS of 2025 or later); see `featureflow doctor --store`."
)


def creates_once(url: str, data: bytes = _TEXT) -> bool:
    """Create an object that may be there, and again: whether the second attempt was refused.

    Raises
    ------
    SourceError
        If nothing may be written there.
    Unreachable
        If the store does not answer.

    Notes
    -----
    Cost: one request if the object is there and the promise is kept, two or three otherwise.
    """
    try:
        return not storage.write_new(url, data) or not storage.write_new(url, data)
    except Unreachable as error:
        if any(text in str(error) for text in _NOT_IMPLEMENTED):
            return False
        raise


def refuse_without(store_url: str) -> None:
    """Refuse a store in which versions could be lost; local disks keep the promise by their file systems.

    Raises
    ------
    TableError
        If it is one.
    """
    if storage.is_local(store_url) or "://" not in store_url:
        return
    if not creates_once(storage.join(store_url, MARK)):
        raise TableError(f"{store_url}: {WITHOUT}")
