"""One more day, and nothing new: what a second and a third build cost beside the first.

Run by hand: ``python tests/benchmarks/increments.py --rows 20000000``. Builds 90 days, appends day 91 as a new file
and builds again, then builds with nothing new, and at last builds all 91 days into a fresh store, which must hold
the same rows as the one that grew.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.card_events import n_cards, write_day, write_events
from benchmarks.measure import Run, report
from benchmarks.wide_windows import build, remove_store, write_spec


def same_rows(one: Path, other: Path) -> bool:
    """Whether two stores hold the same rows of the table, to the bit."""
    import polars as pl
    from deltalake import DeltaTable

    tables = []
    for store in (one, other):
        # through the version: the folder may hold files that only older versions use
        frame = pl.from_arrow(DeltaTable(str(store / "features" / "card_windows")).to_pyarrow_table())
        assert isinstance(frame, pl.DataFrame)
        tables.append(frame.select(sorted(frame.columns)).sort("card_id", "ts"))
    return tables[0].height > 0 and tables[0].equals(tables[1])


def measure(rows: int, days: int, runs: int, folder: Path) -> str:
    """Run the sequence ``runs`` times; returns the text to print."""
    names = [f"{days} days, fresh store", "one more day", "nothing new", f"{days + 1} days, fresh store"]
    results: dict[str, list[Run]] = {name: [] for name in names}
    for _ in range(runs):
        source, store, fresh = folder / "events", folder / "store", folder / "fresh"
        shutil.rmtree(source, ignore_errors=True)
        for old in (store, fresh):
            remove_store(old)
        write_events(source, rows, days=days)
        spec = write_spec(folder, source)
        results[names[0]].append(build(spec, store, folder / "first.log"))
        write_day(source, rows, days=days)
        results[names[1]].append(build(spec, store, folder / "second.log"))
        results[names[2]].append(build(spec, store, folder / "third.log"))
        results[names[3]].append(build(spec, fresh, folder / "fresh.log"))
        if not same_rows(store, fresh):
            raise SystemExit("DIFFERENT: the store that grew does not hold the rows of a fresh build")
    title = f"\nincrements: {rows} events of {days} days, {n_cards(rows)} cards; grown and fresh stores hold equal rows"
    return report(title, results, ours=names[1])


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workdir", type=Path, help="a folder on local disk; a temporary one when omitted")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="increments-") as name:
        print(measure(options.rows, options.days, options.runs, Path(name)))


if __name__ == "__main__":
    main()
