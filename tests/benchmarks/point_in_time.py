"""Point-in-time features at a spine: 20 aggregates at 500,000 rows against 20 million events, ours beside peers.

Run by hand: ``python tests/benchmarks/point_in_time.py --rows 20000000 --spine 500000 --runs 3``. Every run is a
process of its own, measured from outside from start to exit; outputs are compared before anything is printed. Ours is
run cold (nothing on scratch) and warm: another spine over the same events, whose exchange files are there.

Feast's Dask store has no windows: ``--feast PYTHON`` runs its look-up of the latest row (``get_historical_features``)
in an environment that has Feast, at a size that it can finish, beside the same look-up of ours.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.card_events import DAY_US, START_US, n_cards, write_events
from benchmarks.measure import Run, report, run
from benchmarks.peers import COLUMNS, WINDOWS
from benchmarks.wide_windows import featureflow, remove_store

PEERS = Path(__file__).with_name("spine_peers.py")
TOLERANCE = 1e-9
SPEC = """\
featureflow: 1
project: bench
sources:
  events: {{path: "{events}/*.parquet", time: ts, timezone: UTC}}
  spine: {{path: "{spine}", time: t, timezone: UTC}}
features:
  card_windows:
    source: events
    keys: [card_id]
    aggregate:
      - {{column: amount, ops: [count, sum, mean, max, stddev_samp], windows: [{windows}]}}
datasets:
  windows:
    spine: {{source: spine, keys: [card_id]}}
    features: [card_windows]
  latest:
    spine: {{source: spine, keys: [card_id]}}
    lookup: [{{from: events, keys: [card_id], columns: [amount], ttl: 30d}}]
"""


def write_spine(path: Path, rows: int, events: int, days: int, seed: int) -> None:
    """Write rows of a card (as often as in the events: hot ones, too) and a time, in no order."""
    import numpy as np
    import polars as pl

    chance = np.random.default_rng((seed, 17))
    cards = n_cards(events)
    hot = max(1, cards // 300)
    weights = 1 / np.arange(1, hot + 1)
    card = np.where(
        chance.random(rows) < 0.3,
        chance.choice(hot, rows, p=weights / weights.sum()),
        chance.integers(0, cards, rows),
    )
    at = START_US + chance.integers(0, days * DAY_US, rows)
    time = pl.Series("t", at).cast(pl.Datetime("us", "UTC"))
    pl.DataFrame({"card_id": card, "t": time}).write_parquet(path)


def build(folder: Path, events: Path, spine: Path, dataset: str) -> tuple[Run, Path]:
    """Build one dataset into a fresh store; the scratch folder stays as it is."""
    store = folder / "store"
    shutil.rmtree(store, ignore_errors=True)
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.format(events=events, spine=spine, windows=", ".join(WINDOWS)))
    scratch = str(store.with_name("store-scratch"))
    command = [*featureflow(), "build", str(spec), "--select", dataset, "--store", str(store)]
    return run([*command, "--scratch", scratch, "--quiet"], log=folder / "ours.log"), store


def run_peer(peer: str, python: str, events: Path, spine: Path, folder: Path) -> tuple[Run, Path]:
    """Run a peer into a fresh file."""
    target = folder / f"{peer}.parquet"
    target.unlink(missing_ok=True)
    command = [python, str(PEERS), peer, str(events), str(spine), str(target)]
    return run(command, log=folder / f"{peer}.log"), target


def differences(store: Path, dataset: str, theirs: Path, columns: list[str]) -> list[str]:
    """Compare our dataset, row by row in the spine's order, with a peer's file; lines for what differs."""
    import polars as pl

    import featureflow as ff

    ours = ff.open(str(store)).dataset(dataset).to_polars()
    other = pl.read_parquet(theirs)
    if ours.height != other.height:
        return [f"{ours.height} rows against {other.height}"]
    found = []
    for name in columns:
        x, y = ours[name].cast(pl.Float64), other[name].cast(pl.Float64)
        nulls = int((x.is_null() != y.is_null()).sum())
        scale = pl.select(pl.max_horizontal(x.abs(), y.abs(), 1e-9)).to_series()
        worst = float(((x - y).abs() / scale).max() or 0)  # type: ignore[arg-type]
        # a peer that slides a variance drifts: docs/benchmarks.md says how far; wide windows decide it exactly
        allowed = 0.0 if "_count_" in name or "_max_" in name else 1e-6 if "_stddev_" in name else TOLERANCE
        if nulls or worst > allowed:
            found.append(f"{name}: {nulls} nulls differ, largest relative difference {worst:.3g}")
    return found


def compare(options: argparse.Namespace, folder: Path) -> str:
    """Windows at the spine: ours cold and warm beside the peers; returns the text to print."""
    events, spine, another = folder / "events", folder / "spine.parquet", folder / "another.parquet"
    write_events(events, options.rows, days=options.days)
    write_spine(spine, options.spine, options.rows, options.days, seed=1)
    write_spine(another, options.spine, options.rows, options.days, seed=2)
    peers = [peer for peer in options.peers.split(",") if peer]
    results: dict[str, list[Run]] = {"featureflow": [], "featureflow, warm": [], **{p: [] for p in peers}}
    notes = []
    for turn in range(options.runs):
        remove_store(folder / "store")
        first, store = build(folder, events, spine, "windows")
        results["featureflow"].append(first)
        for peer in peers:
            theirs, target = run_peer(peer, sys.executable, events, spine, folder)
            results[peer].append(theirs)
            if turn == 0:
                found = differences(store, "windows", target, COLUMNS)
                notes.append(
                    f"featureflow and {peer}: all {options.spine} rows: {'DIFFERENT' if found else 'equal'}"
                )
                if found:
                    raise SystemExit("\n".join([*notes, *found]))
        results["featureflow, warm"].append(build(folder, events, another, "windows")[0])
    title = f"\npoint in time: {options.spine} rows against {options.rows} events, 20 aggregates"
    return "\n".join([*notes, report(title, results, ours="featureflow")])


def compare_latest(options: argparse.Namespace, folder: Path) -> str:
    """The latest event of a card within 30 days: ours beside Feast."""
    events, spine = folder / "few-events", folder / "few.parquet"
    write_events(events, options.feast_rows, days=options.days)
    write_spine(spine, options.feast_spine, options.feast_rows, options.days, seed=3)
    results: dict[str, list[Run]] = {"featureflow": [], "feast": []}
    notes = []
    for turn in range(options.runs):
        remove_store(folder / "store")
        ours, store = build(folder, events, spine, "latest")
        results["featureflow"].append(ours)
        theirs, target = run_peer("feast", options.feast, events, spine, folder)
        results["feast"].append(theirs)
        if turn == 0:
            notes.append(f"feast: {theirs.output.strip().splitlines()[-1]}")
            found = differences(store, "latest", target, ["amount"])
            notes.append(f"featureflow and feast: {'; '.join(found) or 'equal'}")
    title = f"\nlatest row: {options.feast_spine} rows against {options.feast_rows} events"
    return "\n".join([*notes, report(title, results, ours="featureflow")])


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--spine", type=int, default=5_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--peers", default="polars,duckdb", help="comma-separated; empty for none")
    parser.add_argument("--feast", help="Python of an environment with Feast")
    parser.add_argument("--feast-rows", type=int, default=200_000)
    parser.add_argument("--feast-spine", type=int, default=5_000)
    parser.add_argument("--workdir", type=Path, help="a folder on local disk; a temporary one when omitted")
    options = parser.parse_args(arguments)
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(dir=options.workdir, prefix="point-in-time-") as name:
        folder = Path(name)
        if options.spine:
            print(compare(options, folder))
        if options.feast:
            print(compare_latest(options, folder))


if __name__ == "__main__":
    main()
