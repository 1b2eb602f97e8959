"""Small things, whole process: a build of 10,000 rows, ``--help``, and ``validate`` of 100 tables.

Run by hand: ``python tests/benchmarks/small.py --runs 5``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.card_events import write_events
from benchmarks.measure import Run, report, run
from benchmarks.wide_windows import build, featureflow, remove_store, write_spec

TABLE = """\
  table_{number:03d}:
    source: events
    keys: [card_id]
    aggregate:
      - {{column: amount, ops: [count, sum, mean, max, stddev_samp], windows: [1h, 1d, 7d, 30d]}}
"""


def write_many_tables(folder: Path, tables: int) -> Path:
    """Write a spec of many tables over one source."""
    path = folder / "many.yaml"
    head = (
        "featureflow: 1\nproject: many\nsources:\n"
        "  events:\n    path: ./events/*.parquet\n    time: ts\n    timezone: UTC\n"
        "    columns: {card_id: int64, ts: timestamp, amount: float64}\nfeatures:\n"
    )
    path.write_text(head + "".join(TABLE.format(number=number) for number in range(tables)))
    return path


def measure(rows: int, days: int, runs: int, tables: int, folder: Path) -> str:
    """Run each command ``runs`` times; returns the text to print."""
    source = folder / "events"
    write_events(source, rows, days=days, files=1)
    spec, many = write_spec(folder, source), write_many_tables(folder, tables)
    names = [f"build {rows} rows", "build, nothing new", "--help", f"validate {tables} tables"]
    results: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(runs):
        remove_store(folder / "store")
        results[names[0]].append(build(spec, folder / "store", folder / "build.log"))
        results[names[1]].append(build(spec, folder / "store", folder / "again.log"))
        results[names[2]].append(run([*featureflow(), "--help"], log=folder / "help.log"))
        results[names[3]].append(run([*featureflow(), "validate", str(many)], log=folder / "validate.log"))
    return report("\nsmall things, whole process", results, ours=names[0])


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--tables", type=int, default=100)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--workdir", type=Path, help="a folder on local disk; a temporary one when omitted")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="small-") as name:
        print(measure(options.rows, options.days, options.runs, options.tables, Path(name)))


if __name__ == "__main__":
    main()
