from __future__ import annotations

import json
from pathlib import Path

import pytest

from featureflow.core.errors import TableError
from featureflow.tables.runs import find_run, read_profile, run_ids

FIRST, SECOND, THIRD = "20261123T061742-ab12cd34", "20261123T061800-ab12ffff", "20261124T000000-0012cd34"


@pytest.fixture
def store(tmp_path: Path) -> str:
    for name in (SECOND, THIRD, FIRST):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "profile.json").write_text(json.dumps({"schema_version": 1, "build_id": name}))
    return str(tmp_path)


def test_the_latest_run_is_that_which_began_last(store: str) -> None:
    assert run_ids(store) == [FIRST, SECOND, THIRD]
    assert find_run(store) == THIRD
    assert read_profile(store)["build_id"] == THIRD


@pytest.mark.parametrize(
    ("given", "meant"), [(FIRST, FIRST), ("ffff", SECOND), ("20261124", THIRD), ("20261123T0618", SECOND)]
)
def test_a_part_of_the_id_is_enough(store: str, given: str, meant: str) -> None:
    assert find_run(store, given) == meant


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("cd34", "2 builds are called 'cd34'. Among them"),
        ("nope", f"no build 'nope'. The latest are: {FIRST}"),
    ],
)
def test_none_or_many_are_refused(store: str, given: str, says: str) -> None:
    with pytest.raises(TableError, match=says):
        find_run(store, given)


def test_a_store_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="nothing was built here"):
        read_profile(str(tmp_path))


def test_a_build_that_was_killed_has_no_profile(store: str, tmp_path: Path) -> None:
    (tmp_path / "runs" / FIRST / "profile.json").unlink()
    with pytest.raises(TableError, match="the build was killed"):
        read_profile(store, FIRST)


@pytest.mark.parametrize("version", [2, None, "1"])
def test_another_form_is_refused(store: str, tmp_path: Path, version: object) -> None:
    (tmp_path / "runs" / FIRST / "profile.json").write_text(json.dumps({"schema_version": version}))
    with pytest.raises(TableError, match="schema_version"):
        read_profile(store, FIRST)
