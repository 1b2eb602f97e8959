"""Which input files a source has: listed from a disk or a store, with sizes and versions, without opening one."""

from __future__ import annotations

import glob as globbing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from featureflow.core import s3
from featureflow.core.errors import SourceError
from featureflow.core.storage import filesystem, is_local, local_path, talking_to

_WILDCARDS = frozenset("*?[")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class RawFile:
    """One input file, as the store describes it without opening it.

    Parameters
    ----------
    path
        Absolute local path, or full URL with its scheme.
    size
        Bytes.
    version
        Text that changes when the content does: ``etag:…`` where the store has one, else ``mtime:…``.
    hive
        Values of ``key=value`` folders below the fixed part of the pattern, percent-decoded, in order;
        None for Hive's null.
    """

    path: str
    size: int
    version: str
    hive: dict[str, str | None] = field(default_factory=dict)


def list_files(patterns: Sequence[str] | str) -> list[RawFile]:
    """List the files that a source reads.

    Parameters
    ----------
    patterns
        Each one a file, a glob (``*``, ``?``, ``[…]``, ``**`` for any depth) or a folder, which is taken with all
        below it. Names that begin with ``_`` or ``.`` are skipped below a folder and in a glob.

    Returns
    -------
    list[RawFile]
        Each file once, sorted by path: the order does not depend on the file system.

    Raises
    ------
    SourceError
        If a pattern matches nothing; names it.
    Unreachable
        If the store does not answer.

    Notes
    -----
    Cost: one directory scan for each local folder, one listing for each remote pattern; no file is opened.
    """
    found: dict[str, RawFile] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        files = list(_local_files(local_path(pattern)) if is_local(pattern) else _remote_files(pattern))
        if not files:
            raise SourceError(
                f"{pattern}: no file is there. Names that begin with '_' or '.' do not count; "
                "relative paths start at the spec's folder."
            )
        found.update((file.path, file) for file in files)
    return [found[path] for path in sorted(found)]


def _hive(relative: str) -> dict[str, str | None]:
    pairs: dict[str, str | None] = {}
    for part in relative.split("/")[:-1]:
        key, equals, value = part.partition("=")
        if equals and key:
            pairs[unquote(key)] = None if value == _HIVE_NULL else unquote(value)
    return pairs


def _hidden(relative: str) -> bool:
    return any(part.startswith(("_", ".")) for part in relative.split("/"))


def _fixed_part(path: str) -> str:
    """The leading folders of a pattern that hold no wildcard, with the closing slash."""
    parts = path.split("/")
    first = next(i for i, part in enumerate(parts) if _WILDCARDS & set(part))
    return "/".join(parts[:first]) + "/"


def _local_files(path: str) -> Iterator[RawFile]:
    if os.path.isdir(path):
        root = path.rstrip("/") + "/"
        yield from (_described(e.path, e.stat(), root) for e in _walk(root, set()))
    elif os.path.isfile(path):
        yield _described(path, os.stat(path), path)
    elif _WILDCARDS & set(path):
        root = _fixed_part(path)
        for match in globbing.iglob(path, recursive=True):
            if not _hidden(match[len(root) :]) and os.path.isfile(match):
                yield _described(match, os.stat(match), root)


def _described(path: str, stat: os.stat_result, root: str) -> RawFile:
    return RawFile(path, stat.st_size, f"mtime:{stat.st_mtime_ns}", _hive(path[len(root) :]))


def _walk(folder: str, above: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """Files below a folder; links to folders are followed, but never into a folder that holds the link."""
    stat = os.stat(folder)
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(("_", ".")):
                continue
            if entry.is_dir():
                yield from _walk(entry.path, above | {here})
            elif entry.is_file():
                yield entry


def _remote_files(url: str) -> Iterator[RawFile]:
    with talking_to(url):
        fs, path = filesystem(url)
        is_glob = bool(_WILDCARDS & set(path))

        def find() -> Any:
            fs.invalidate_cache()
            return fs.glob(path, detail=True) if is_glob else fs.find(path, detail=True)

        try:
            listed = s3.listing(url, find) if s3.is_s3(url) else find()
        except FileNotFoundError:
            listed = {}
    root = _fixed_part(path) if is_glob else path.rstrip("/") + "/"
    for name, info in listed.items():
        if info.get("type") == "directory" or (name != path and _hidden(name[len(root) :])):
            continue
        if info.get("size") is None:  # listings over HTTP are pages with links
            with talking_to(url):
                info = _described_alone(url, fs, name)  # noqa: PLW2901
        yield RawFile(
            str(fs.unstrip_protocol(name)), int(info["size"]), _remote_version(info), _hive(name[len(root) :])
        )


def _described_alone(url: str, fs: Any, name: str) -> dict[str, Any]:
    info: dict[str, Any] = fs.info(name)
    if info.get("size") is None:
        raise SourceError(
            f"{url}: the server does not say how long {name} is, so that no part of it can be read. "
            "Copy the file to a disk or an object store."
        )
    return info


def _remote_version(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "content_md5"):
        if info.get(key):
            return f"etag:{str(info[key]).strip(chr(34))}"
    for key in ("LastModified", "last_modified", "updated", "mtime", "created"):
        if info.get(key):
            return f"mtime:{info[key]}"
    return f"size:{info['size']}"
