"""Staged files are found folder by folder; damaged ones are as good as none."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest

from featureflow.core import storage
from featureflow.core.errors import CorruptionError
from featureflow.tables import staged
from featureflow.tables.layout import file_path
from featureflow.tables.parquet_files import StagedFile, write_file
from featureflow.tables.staged import find_finished, sizes_of


def _paths(n: int) -> list[str]:
    return [file_path("day", f"2026-01-{1 + i % 3:02d}", i, f"{i:08x}") for i in range(n)]


def _write(url: str, path: str) -> StagedFile:
    return write_file(pa.table({"k": [1, 2]}), url, path, keys=["k"], time=None)


def test_finished_files_are_those_that_are_there_and_whole(tmp_path: Path) -> None:
    url, paths = str(tmp_path), _paths(5)
    written = {path: _write(url, path) for path in paths[:4]}
    damaged = tmp_path / paths[1]
    damaged.write_bytes(damaged.read_bytes()[:-3])
    found = find_finished(url, paths)
    assert found == {path: written[path] for path in (paths[0], paths[2], paths[3])}
    assert set(sizes_of(url, paths)) == set(paths[:4])


@pytest.mark.parametrize("n", [3, 60])
def test_a_remote_folder_with_many_of_the_files_is_listed_once(n: int) -> None:
    url, paths = f"memory://staged-{n}", _paths(n)
    written = {path: _write(url, path) for path in paths[:-1]}
    with mock.patch.object(storage, "list_sizes", wraps=storage.list_sizes) as listed:
        assert sizes_of(url, paths) == {path: file.size for path, file in written.items()}
    assert listed.call_count == (3 if n >= 3 * staged.LISTED_FROM else 0)
    assert find_finished(url, paths) == written


def test_sizes_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    assert storage.list_sizes(str(tmp_path)) == {"a": 3}
    assert storage.list_sizes(str(tmp_path / "none")) == {}
    for name, data in (("a", b"1"), ("below/b", b"22")):
        storage.write_atomic(f"memory://sizes/{name}", data)
    assert storage.list_sizes("memory://sizes") == {"a": 1}
    assert storage.list_sizes("memory://sizes/none") == {}


def test_an_error_of_one_request_is_not_lost() -> None:
    def refuse(_url: str, path: str) -> StagedFile:
        raise PermissionError(path)

    for path in _paths(4):
        _write("memory://refused", path)
    with mock.patch.object(staged, "find_staged", refuse), pytest.raises(PermissionError):
        find_finished("memory://refused", _paths(4))
    with mock.patch.object(staged, "find_staged", side_effect=CorruptionError("damaged")):
        assert find_finished("memory://refused", _paths(4)) == {}


def test_folders_that_are_not_there_cost_one_request() -> None:
    url = "memory://staged-fresh"
    paths = [file_path("day", f"2026-{1 + i // 28:02d}-{1 + i % 28:02d}", 0, f"{i:08x}") for i in range(60)]
    written = _write(url, paths[17])
    with (
        mock.patch.object(storage, "list_names", wraps=storage.list_names) as listed,
        mock.patch.object(staged.storage, "size_of", wraps=staged.storage.size_of) as asked,
    ):
        assert find_finished(url, paths) == {paths[17]: written}
    assert (listed.call_count, asked.call_count) == (1, 1)
