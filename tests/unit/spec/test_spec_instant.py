"""`featureflow validate` answers at once: no data library, and 100 tables in well under a second."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = ("polars", "dask", "distributed", "numba", "numpy", "pandas", "pyarrow", "deltalake", "fsspec")


def large(tables: int) -> str:
    lines = ["sources:"]
    lines += [f"  s{i}: {{path: s{i}/*.parquet, time: ts, created: at}}" for i in range(tables)]
    lines += ["features:"]
    for i in range(tables):
        lines += [
            f"  f{i}:",
            f"    source: s{i}",
            "    keys: [k]",
            "    aggregate:",
            *(
                f"      - {{column: c{j}, ops: [count, sum, mean, max, {{quantile: {{q: 0.9}}}}], "
                "windows: [1h, 1d, 7d, 30d]}"
                for j in range(4)
            ),
            f"    lookup: [{{from: f{i - 1}, columns: [c0_sum_1d], prefix: x_}}]" if i else "    keep: [z]",
            "    derive: {ratio: 'c0_sum_1d / nullif(c1_sum_7d, 0)'}",
            "    checks: [{column: c0_sum_1d, min: 0}]",
        ]
    lines += ["datasets:"]
    for i in range(tables):
        lines += [
            f"  d{i}:",
            f"    spine: {{source: s{i}, keys: [k], time: ts}}",
            f"    features: [{{table: f{i}, prefix: a_}}, {{table: f{max(i - 1, 0)}, prefix: b_}}]",
            f"    label: {{source: s{i}, op: count, horizon: 30d}}",
            '    split: {by: time, train: "< 2026-03-01", test: rest, embargo: 30d}',
            "    encode:",
            *(f"      - {{columns: a_c{j}_sum_1d, with: [{{impute: median}}, standard]}}" for j in range(4)),
            "    export: {format: parquet, shard_size: 256MB}",
        ]
    return "\n".join(lines) + "\n"


def test_no_data_library_is_imported() -> None:
    code = (
        "import sys\n"
        "import featureflow.spec.load, featureflow.spec.json_schema, featureflow.spec.selection\n"
        "from featureflow.spec.load import load_text\n"
        "load_text('sources: {a: {path: a.csv}}')\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_hundred_tables_are_checked_in_a_moment(tmp_path: Path) -> None:
    spec = tmp_path / "featureflow.yaml"
    spec.write_text(large(100))
    # in a process of its own, as people validate: after thousands of tests, every collection of garbage is a long one
    code = (
        "import sys, time\n"
        "from featureflow.spec.load import load_project\n"
        "began = time.process_time()\n"
        "project = load_project(sys.argv[1]).project\n"
        "print(time.process_time() - began, len(project.features), len(project.datasets))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(spec)], capture_output=True, text=True, check=True)
    seconds, features, datasets = done.stdout.split()
    assert float(seconds) < 1
    assert features == datasets == "100"
