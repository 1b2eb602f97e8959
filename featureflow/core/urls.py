"""Whether a URL carries credentials: they would end up in records, logs and error messages."""

from __future__ import annotations

import re

#: ``s3://key:secret@bucket`` and ``s3://key@bucket``; the secret of a key may hold slashes. A host may have a port,
#: and ``abfss://container@account`` is how Azure says where a container is.
_IN_AUTHORITY = re.compile(
    r"^(?:s3a?|gs|gcs)://[^/]*@|^[a-z][a-z0-9+.-]*://[^/@:]*:(?!\d{1,5}(?:/|$))[^@]*@", re.IGNORECASE
)
_IN_QUERY = re.compile(
    r"[?&;](?:[\w-]*(?:secret|password|passwd|signature|credential|token|api[_-]?key|accountkey)[\w-]*|sig|awsaccesskeyid)=",
    re.IGNORECASE,
)
WHERE_THEY_BELONG = (
    "the URL carries credentials, which would get into records and logs (its text is not shown). Leave them out: "
    "they are taken from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or a profile (AWS_PROFILE)."
)


def has_credentials(url: str) -> bool:
    """Whether a URL carries a user and a password, a key, or a signed query.

    Examples
    --------
    >>> has_credentials("s3://AKIA:abc/def@bucket/x"), has_credentials("s3://bucket/day=1/a@b.parquet")
    (True, False)
    """
    return "://" in url and bool(_IN_AUTHORITY.search(url) or _IN_QUERY.search(url))
