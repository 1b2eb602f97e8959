"""`--help` and `validate` answer at once: they load no data library and start nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = ("polars", "pyarrow", "numba", "numpy", "pandas", "dask", "distributed", "deltalake", "duckdb")
PROBE = """
import json, sys
from featureflow.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code or 0
else:
    code = 0
heavy = sorted(set(sys.modules) & set({heavy!r}))
print(json.dumps({{"code": code, "heavy": heavy}}), file=sys.stderr)
"""
SPEC = """
featureflow: 1
project: p
store: ./store
sources:
  clicks: {path: "clicks/*.parquet", time: ts}
features:
  user_clicks:
    source: clicks
    keys: [user_id]
    aggregate:
      - {ops: [count], windows: [1h, 7d]}
      - {column: price, ops: [mean, {quantile: {q: 0.95}}], windows: [7d]}
"""


def probe(folder, *arguments):
    command = [sys.executable, "-c", PROBE.format(heavy=HEAVY), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stderr, done
    return json.loads(done.stderr.splitlines()[-1]), done


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["--version"]], ids=" ".join)
def test_help_loads_no_data_library(tmp_path, arguments):
    result, done = probe(tmp_path, *arguments)
    assert result == {"code": 0, "heavy": []}, done.stdout
    assert done.stdout


def test_validate_loads_no_data_library(tmp_path):
    (tmp_path / "featureflow.yaml").write_text(SPEC)
    result, done = probe(tmp_path, "validate")
    assert result == {"code": 0, "heavy": []}, done.stdout + done.stderr


def test_validate_of_a_wrong_spec_loads_no_data_library_either(tmp_path):
    (tmp_path / "featureflow.yaml").write_text(SPEC.replace("mean", "maen"))
    result, done = probe(tmp_path, "validate")
    assert result == {"code": 2, "heavy": []}, done.stdout + done.stderr
    assert "Did you mean 'mean'?" in done.stdout + done.stderr


def test_importing_the_package_is_cheap():
    """`import featureflow` alone starts no data library; names load what they need when they are used."""
    code = f"import sys, featureflow; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
