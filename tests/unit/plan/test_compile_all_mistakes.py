"""`compile` reports the mistakes of tables and of datasets together, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

import featureflow

SPEC = """
sources: {s: {path: s.csv, time: t}}
features:
  a: {source: s, keys: [k], aggregate: [{column: y, ops: sum, windows: [1d]}]}
  b: {source: s, keys: [k], aggregate: [{column: x, ops: sum, windows: [1d]}]}
datasets:
  d: {spine: {source: s, keys: [k]}, features: [b], derive: {z: "nope + 1"}}
  e: {spine: {source: s, keys: [k]}, features: [a], derive: {z: "y_sum_1d + 1"}}
"""


def test_mistakes_of_tables_do_not_hide_those_of_datasets(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("k,t,x\n1,2026-01-01,2\n")
    (tmp_path / "f.yaml").write_text(SPEC)
    project = featureflow.Project(tmp_path / "f.yaml", scratch=tmp_path / "scratch")
    with pytest.raises(featureflow.SpecError) as error:
        project.compile_datasets()
    # e reads the table that is wrong: what it lacks follows from that, and is no mistake of its own
    assert [problem.path for problem in error.value.problems] == [
        "features.a.aggregate[0].column",
        "datasets.d.derive.z",
    ]
