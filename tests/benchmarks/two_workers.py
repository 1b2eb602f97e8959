"""Wide windows with one worker and with two: what the second one wins.

Run by hand on a quiet machine of two free cores: ``python tests/benchmarks/two_workers.py``. Runs are in
turns. The outputs are compared byte by byte: the number of workers must not show.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.card_events import write_events
from benchmarks.measure import Run, median, table
from benchmarks.wide_windows import build, remove_store, write_spec


def digest(store: Path) -> dict[str, str]:
    """Hash of every data file by slice: names hold the number of buckets, which may differ."""
    found: dict[str, list[str]] = {}
    for path in sorted(store.rglob("*.parquet")):
        found.setdefault(path.parent.name, []).append(hashlib.blake2b(path.read_bytes()).hexdigest())
    return {name: "".join(sorted(parts)) for name, parts in found.items()}


def compare(folder: Path, source: Path, runs: int) -> str:
    """Build with one and two workers in turns; the figures as text."""
    spec, found = write_spec(folder, source), {1: list[Run](), 2: list[Run]()}
    digests = {}
    # the second build of a table keeps the first one's buckets; here each is a first one, of two
    for _ in range(runs):
        for workers in (1, 2):
            store = folder / f"store-{workers}"
            remove_store(store)
            options = ("--scheduler", "threads", "--workers", str(workers))
            found[workers].append(build(spec, store, folder / "log", *options))
            digests[workers] = digest(store)
    one, two = median(found[1]), median(found[2])
    rows = [["workers", "wall s", "CPU s", "peak MiB"]]
    for workers, run in ((1, one), (2, two)):
        rows.append([str(workers), f"{run.wall:.1f}", f"{run.cpu:.1f}", f"{run.peak >> 20}"])
    same = "equal files" if digests[1] == digests[2] else "other files (another number of buckets)"
    load = os.getloadavg()[0]
    return (
        f"{table(rows)}\nthe second worker: {one.wall / two.wall:.2f} times as fast; {same}; load {load:.1f}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workdir", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=given.workdir, prefix="two-workers-") as name:
        folder = Path(name)
        source = folder / "events"
        write_events(source, given.rows, days=given.days)
        print(compare(folder, source, given.runs))


if __name__ == "__main__":
    main()
