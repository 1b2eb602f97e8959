"""Wide windows: 20 aggregates of card events, one output row per event; ours beside Polars, DuckDB and pandas.

Run by hand: ``python tests/benchmarks/wide_windows.py --rows 20000000 --runs 3``. Every run is a process of its own,
measured from outside from start to exit. Outputs are compared for equality before anything is printed. pandas
runs at 1/20 of the rows (and so does one more run of ours, beside which it is shown).
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import shutil
import sys
import tempfile
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.card_events import n_cards, write_events
from benchmarks.measure import Run, report, run
from benchmarks.peers import COLUMNS, WINDOWS

PEERS = Path(__file__).with_name("peers.py")
# Relative, for sums, means and deviations: the peers add in another order. Counts and maxima must be equal.
TOLERANCE = 1e-9
FULL_COMPARISON_ROWS = 2_000_000
ARBITRATED = 100  # values that exact arithmetic looks at; more of them are a difference
SPEC = """\
featureflow: 1
project: bench
sources:
  events: {{path: "{source}/*.parquet", time: ts, timezone: UTC}}
features:
  card_windows:
    source: events
    keys: [card_id]
    aggregate:
      - {{column: amount, ops: [count, sum, mean, max, stddev_samp], windows: [{windows}]}}
"""


def featureflow() -> list[str]:
    """The command of this environment."""
    script = Path(sys.executable).with_name("featureflow")
    return [str(script)] if script.exists() else [sys.executable, "-m", "featureflow.cli"]


def write_spec(folder: Path, source: Path) -> Path:
    """Write our spec of the benchmark."""
    path = folder / "spec.yaml"
    path.write_text(SPEC.format(source=source, windows=", ".join(WINDOWS)))
    return path


def build(spec: Path, store: Path, log: Path, *options: str) -> Run:
    """Build with the command line; what is in the store and in the scratch folder beside it already counts."""
    scratch = store.with_name(f"{store.name}-scratch")
    command = [
        *featureflow(),
        "build",
        str(spec),
        "--store",
        str(store),
        "--scratch",
        str(scratch),
        "--quiet",
        *options,
    ]
    return run(command, log=log)


def remove_store(store: Path) -> None:
    """Remove a store and its scratch folder."""
    for folder in (store, store.with_name(f"{store.name}-scratch")):
        shutil.rmtree(folder, ignore_errors=True)


def run_ours(folder: Path, source: Path) -> tuple[Run, Path]:
    """Build into a fresh store, with an empty scratch folder."""
    store = folder / "store"
    remove_store(store)
    return build(write_spec(folder, source), store, folder / "ours.log"), store


def run_peer(peer: str, folder: Path, source: Path, memory: str) -> tuple[Run, Path]:
    """Run a peer into a fresh file."""
    target, scratch = folder / f"{peer}.parquet", folder / f"{peer}-scratch"
    target.unlink(missing_ok=True)
    command = [sys.executable, str(PEERS), peer, str(source), str(target)]
    return run([*command, "--memory", memory, "--scratch", str(scratch)], log=folder / f"{peer}.log"), target


def exact_deviations(source: Path, rows: list[tuple[int, datetime]], window: str) -> list[float]:
    """Sample deviations of the window before each (card, time), in fractions: no rounding before the root."""
    import polars as pl

    length = {
        "1h": timedelta(hours=1),
        "1d": timedelta(days=1),
        "7d": timedelta(days=7),
        "30d": timedelta(days=30),
    }[window]
    found = []
    for card, at in rows:
        events = pl.scan_parquet(f"{source}/*.parquet").filter(
            pl.col("card_id") == card, pl.col("ts") >= at - length, pl.col("ts") < at
        )
        values = [Fraction(value) for value in events.select("amount").collect().to_series()]
        mean = sum(values) / len(values)
        found.append(math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1)))
    return found


def differences(ours: Path, theirs: Path, rows: int, source: Path) -> tuple[str, list[str]]:
    """Compare our table with a peer's file.

    Peers that slide a variance by adding and subtracting drift. Where a deviation differs, exact arithmetic on the
    events decides: ours must be right, and the words say in how many values the peer is not.

    Returns
    -------
    tuple
        What was compared, in words, and one line for each column that differs.
    """
    import polars as pl

    left = pl.scan_parquet(
        str(ours / "features" / "card_windows" / "**" / "*.parquet"), hive_partitioning=False
    )
    right = pl.scan_parquet(theirs)
    what = f"all {rows} rows"
    if rows > FULL_COMPARISON_ROWS:
        modulus = rows // FULL_COMPARISON_ROWS + 1
        left, right = (frame.filter(pl.col("card_id") % modulus == 0) for frame in (left, right))
        what = f"all rows of every {modulus}th card"
    columns = ["card_id", "ts", *COLUMNS]
    # rows of one card at one time have the same windows, so these two columns order the tables well enough
    a, b = (frame.select(columns).sort("card_id", "ts").collect() for frame in (left, right))
    if a.height != b.height or a.height == 0:
        return what, [f"{a.height} rows against {b.height}"]
    found = [f"{name}: keys differ" for name in columns[:2] if not a[name].equals(b[name])]
    for name in COLUMNS:
        nulls = int((a[name].is_null() != b[name].is_null()).sum())
        x, y = a[name].cast(pl.Float64), b[name].cast(pl.Float64)
        scale = pl.select(pl.max_horizontal(x.abs(), y.abs(), 1e-9)).to_series()
        worst = float(((x - y).abs() / scale).max() or 0)  # type: ignore[arg-type]
        allowed = 0.0 if "_count_" in name or "_max_" in name else TOLERANCE
        if not nulls and worst > allowed and "_stddev_" in name:
            apart = ((x - y).abs() / scale > allowed).fill_null(False)
            keys = list(a.filter(apart).select("card_id", "ts").iter_rows())
            exact = exact_deviations(source, keys[:ARBITRATED], name.rsplit("_", 1)[-1])
            right = all(map(partial(math.isclose, rel_tol=1e-12), exact, x.filter(apart)))
            if right and len(keys) <= ARBITRATED:
                what += f"; {name}: the peer is off in {len(keys)} values (up to {worst:.1g}), ours are exact"
                continue
        if nulls or worst > allowed:
            found.append(f"{name}: {nulls} nulls differ, largest relative difference {worst:.3g}")
    return what, found


def compare(rows: int, days: int, runs: int, peers: list[str], folder: Path, memory: str) -> str:
    """Run everything at one size; returns the text to print."""
    source = folder / f"events-{rows}"
    write_events(source, rows, days=days)
    results: dict[str, list[Run]] = {"featureflow": [], **{peer: [] for peer in peers}}
    notes = []
    for turn in range(runs):
        # in turns, so that a slow minute of the machine hits all of them
        ours, store = run_ours(folder, source)
        results["featureflow"].append(ours)
        for peer in peers:
            theirs, target = run_peer(peer, folder, source, memory)
            results[peer].append(theirs)
            if turn == 0:
                what, found = differences(store, target, rows, source)
                verdict = "equal" if not found else "DIFFERENT:\n  " + "\n  ".join(found)
                notes.append(f"featureflow and {peer}: {what}: {verdict}")
                if found:
                    raise SystemExit("\n".join(notes))
            target.unlink()
    shutil.rmtree(source)
    title = f"\nwide windows: {rows} events of {days} days, {n_cards(rows)} cards, 20 aggregates"
    return "\n".join([*notes, report(title, results, ours="featureflow")])


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", default="polars,duckdb,pandas", help="comma-separated; empty for none")
    parser.add_argument("--workdir", type=Path, help="a folder on local disk; a temporary one when omitted")
    parser.add_argument("--memory", default="8GB", help="DuckDB's memory_limit")
    options = parser.parse_args(arguments)
    peers = [peer for peer in options.peers.split(",") if peer]
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="wide-windows-") as name:
        folder = Path(name)
        large = [peer for peer in peers if peer != "pandas"]
        print(compare(options.rows, options.days, options.runs, large, folder, options.memory))
        if "pandas" in peers:
            print(
                compare(
                    max(1_000, options.rows // 20),
                    options.days,
                    options.runs,
                    ["pandas"],
                    folder,
                    options.memory,
                )
            )
    print(f"\nTolerance: {TOLERANCE:g} relative; counts and maxima are equal. Null where a window is empty.")


if __name__ == "__main__":
    main()
