"""Which of many staged files are there: asked folder by folder, since a request for each of 100,000 takes minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from featureflow.core import storage
from featureflow.core.errors import CorruptionError
from featureflow.tables.parquet_files import StagedFile, find_staged

#: Requests at the same moment.
REQUESTS = 16
#: A remote folder is listed when more of its files are asked for: a listing costs as much as some requests for one.
LISTED_FROM = 10

Given = TypeVar("Given")
Found = TypeVar("Found")


def sizes_of(table_url: str, paths: Iterable[str]) -> dict[str, int]:
    """Bytes of those of these files, relative to the table, that are there."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    if len(folders) >= LISTED_FROM and not storage.is_local(table_url):
        # most folders of a table's first version are not there: one request says so
        there = set(storage.list_names(table_url))
        folders = {folder: some for folder, some in folders.items() if not folder or folder in there}
    found: dict[str, int] = {}
    for part in _each(lambda folder: _sizes_in(table_url, folder, folders[folder]), list(folders)):
        found.update(part)
    return found


def _sizes_in(table_url: str, folder: str, paths: list[str]) -> dict[str, int]:
    root = storage.join(table_url, folder) if folder else table_url
    if len(paths) >= LISTED_FROM and not storage.is_local(root):
        there = storage.list_sizes(root)
        names = {path: path.rpartition("/")[2] for path in paths}
        return {path: there[name] for path, name in names.items() if name in there}
    found = {}
    for path in paths:
        try:
            found[path] = storage.size_of(storage.join(table_url, path))
        except FileNotFoundError:
            continue
    return found


def find_finished(table_url: str, paths: Iterable[str]) -> dict[str, StagedFile]:
    """Those of these files that are there and whole: what a build that was stopped has finished.

    A file that a power cut damaged is as good as none, and is written again. Only footers are read, of those only that
    are there.
    """

    def find(path: str) -> StagedFile | None:
        try:
            return find_staged(table_url, path)
        except CorruptionError:
            return None

    return {staged.path: staged for staged in _each(find, list(sizes_of(table_url, paths))) if staged}


def _each(work: Callable[[Given], Found], things: list[Given]) -> Iterator[Found]:
    """Results in order, with several requests at a time."""
    if len(things) < 2:
        yield from map(work, things)
        return
    # copies of the context: what other threads read and wait for counts as the caller's
    with ThreadPoolExecutor(min(REQUESTS, len(things))) as pool:
        futures = [pool.submit(copy_context().run, work, thing) for thing in things]
        for future in futures:
            yield future.result()
