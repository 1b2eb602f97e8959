"""Names from content: the same input gives the same name on every machine, Python and hash seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def canonical_json(value: Any) -> str:
    """Write a value of dicts, lists, strings, numbers, booleans and None in one way only.

    Raises
    ------
    TypeError
        For anything else: an object's ``repr`` would make the name depend on the machine.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def fingerprint(value: Mapping[str, Any] | list[Any] | str, *, length: int = 32) -> str:
    """Hash a plain value to ``length`` hex digits (BLAKE2b, RFC 7693).

    Examples
    --------
    >>> fingerprint({"b": 1, "a": [1.5, None]}) == fingerprint({"a": [1.5, None], "b": 1})
    True
    """
    digest = hashlib.blake2b(canonical_json(value).encode(), digest_size=length // 2)
    return digest.hexdigest()
