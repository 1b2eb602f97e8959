"""The command starts at once, and `validate` never loads what it does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "polars",
    "pyarrow",
    "numba",
    "numpy",
    "pandas",
    "dask",
    "distributed",
    "deltalake",
    "rich",
    "pydantic",
    "yaml",
)
SPEC = "project: p\nsources: {clicks: {path: 'clicks/*.parquet', time: ts}}\n"


def imported_by(*arguments: str, cwd: Path) -> set[str]:
    code = (
        "import sys, json\n"
        "from featureflow.cli import main\n"
        "try:\n"
        f"    main({list(arguments)!r})\n"
        "except SystemExit as done:\n"
        "    assert not done.code, done.code\n"
        "print()\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("build", "--help"), ("gc", "--help")])
def test_help_imports_click_and_nothing_large(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert not imported_by(*arguments, cwd=tmp_path) & set(HEAVY)


def test_validate_imports_no_data_library(tmp_path: Path) -> None:
    (tmp_path / "featureflow.yaml").write_text(SPEC)
    found = imported_by("validate", cwd=tmp_path) & set(HEAVY)
    assert found == {"pydantic", "yaml"}


def test_help_takes_no_time(tmp_path: Path) -> None:
    """The target is 0.3 s of CPU; the best of three, because other things run on a test machine."""

    def seconds() -> float:
        before = os.times()
        subprocess.run(
            [sys.executable, "-m", "featureflow.cli", "--help"], cwd=tmp_path, check=True, capture_output=True
        )
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    assert min(seconds() for _ in range(3)) < 0.6
