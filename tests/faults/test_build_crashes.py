"""A build that dies, fails or is overtaken: nothing half-done is visible, and the next one goes on where it stopped."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import polars as pl
import pytest
from properties.small_world import TABLES, World, content, events, live_files, rates

import featureflow as ff
from featureflow.tables.collect import gc
from featureflow.tables.parquet_files import write_file

COMMAND = [sys.executable, "-c", "import sys; from featureflow.cli import main; sys.exit(main())"]

#: Kills its own process, without any clean-up, at the nth call of a function.
SUICIDE = """
import os, signal, sys, threading
from pkgutil import resolve_name
from unittest import mock
import featureflow as ff

where, after, spec, store, scratch = sys.argv[1:]
real, lock, calls = resolve_name(where), threading.Lock(), [0]

def deadly(*arguments, **options):
    with lock:
        calls[0] += 1
        if calls[0] > int(after):
            os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)

with mock.patch(where, deadly):
    ff.Project(spec, store=store, scratch=scratch, scheduler="threads", workers=2).build()
"""
MOMENTS = [
    ("featureflow.execute.exchange.exchange_file.write_buckets", 3),
    ("featureflow.execute.windows.window_task.write_file", 4),
    ("featureflow.tables.parquet_files._write", 7),  # a temporary file is open
    ("featureflow.execute.session.publish_table", 1),  # one table of three is published
    ("featureflow.tables.commit._commit", 0),
    pytest.param("featureflow.tables.commit.records.write_record", 0, marks=pytest.mark.slow),
    pytest.param("featureflow.tables.commit.versions.project", 0, marks=pytest.mark.slow),
    pytest.param("featureflow.tables.commit._checkpoint", 2, marks=pytest.mark.slow),
]


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    rng = random.Random(3)
    for day in range(4):
        made.write("tx", f"day{day}", events(rng, day, 15))
    made.write("rate", "first", rates(rng, 0, 6))
    made.project()
    return made


def equal_to_full(world: World) -> None:
    with world.rebuilt(
        threads=2, task_bytes=1, buckets={name: world.buckets(name) for name in TABLES}
    ) as reference:
        for name in TABLES:
            assert live_files(world.store, name) == live_files(reference, name)


def no_litter(world: World) -> None:
    for name in TABLES:
        url = ff.open(str(world.store)).table(name).url
        gc(url, name, margin=timedelta(0))
        data = {str(path.relative_to(url)) for path in Path(url).rglob("*") if path.is_file()}
        assert {path for path in data if not path.startswith(("_ff", "_delta_log"))} == set(
            live_files(world.store, name)
        )
        assert not [path for path in data if "tmp" in path]


@pytest.mark.parametrize(("where", "after"), MOMENTS)
def test_killed_driver(world: World, where: str, after: int) -> None:
    arguments = [
        where,
        str(after),
        str(world.folder / "featureflow.yaml"),
        str(world.store),
        str(world.folder / "scratch"),
    ]
    died = subprocess.run([sys.executable, "-c", SUICIDE, *arguments], timeout=120, check=False)
    assert died.returncode == -signal.SIGKILL
    published = [name for name in TABLES if world.version(name)]
    for name in published:
        assert world.version(name) == 1
        live_files(world.store, name)
    finished = set(world.store.rglob("b*.parquet"))
    with mock.patch("featureflow.execute.windows.window_task.write_file", side_effect=write_file) as written:
        report = world.build()
    assert {o.name for o in report.tables if o.version is None} == set(published)
    again = [call for call in written.call_args_list if (Path(call.args[1]) / call.args[2]) in finished]
    assert again == []  # what was finished is not computed again
    equal_to_full(world)
    no_litter(world)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_killed_at_any_moment(world: World, seed: int) -> None:
    rng = random.Random(seed)
    environment = {**os.environ, "FEATUREFLOW_SCRATCH": str(world.folder / "scratch")}
    for _ in range(3):
        process = subprocess.Popen(
            [
                *COMMAND,
                "build",
                str(world.folder / "featureflow.yaml"),
                "--store",
                str(world.store),
                "--quiet",
            ],
            env=environment,
        )
        time.sleep(rng.uniform(0.3, 3))
        process.kill()
        process.wait()
        for name in TABLES:
            assert world.version(name) in (0, 1)
            if world.version(name):
                live_files(world.store, name)
    world.build()
    equal_to_full(world)
    no_litter(world)


def run_command(world: World, *arguments: str) -> subprocess.CompletedProcess[str]:
    spec = str(world.folder / "featureflow.yaml")
    environment = {**os.environ, "FEATUREFLOW_SCRATCH": str(world.folder / "scratch")}
    options = ["--store", str(world.store), "--scheduler", "threads"]
    return subprocess.run(
        [*COMMAND, "build", spec, *options, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )


def test_interrupted_by_the_keyboard(world: World) -> None:
    child = (
        "import os, signal, sys\nfrom unittest import mock\nimport featureflow.execute.windows.window_task as task\n"
        "from featureflow.cli import main\nreal, calls = task.write_file, []\n"
        "def slow(*a, **k):\n    calls.append(1)\n    if len(calls) == 3:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n    return real(*a, **k)\n"
        "task.write_file = slow\nsys.exit(main())\n"
    )
    spec = str(world.folder / "featureflow.yaml")
    arguments = [
        "build",
        spec,
        "--store",
        str(world.store),
        "--scheduler",
        "threads",
        "--scratch",
        str(world.folder / "scratch"),
    ]
    found = subprocess.run(
        [sys.executable, "-c", child, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert found.returncode == 130, found.stderr
    assert "Traceback" not in found.stderr
    assert ff.open(str(world.store)).tables() == []
    finished = list(world.store.rglob("b*.parquet"))
    assert finished
    world.build()
    equal_to_full(world)


# ---------------------------------------------------------------- tasks that fail

BAD = """
featureflow: 1
project: bad
allow_python: true
sources:
  tx: {path: "tx/*.csv", time: ts, columns: {amount: float64, ts: timestamp}}
features:
  good:
    source: tx
    keys: [card]
    aggregate: [{ops: [count], windows: [1d]}]
  spend:
    source: tx
    keys: [card]
    aggregate: [{column: amount, ops: [sum], windows: [1d]}]
"""


def bad_project(folder: Path, second_file: str, extra: str = "") -> World:
    (folder / "tx").mkdir()
    (folder / "tx" / "a.csv").write_text("card,ts,amount\n1,2026-01-01T00:00:00,1.5\n")
    (folder / "tx" / "b.csv").write_text(second_file)
    (folder / "featureflow.yaml").write_text(BAD + extra)
    return World(folder)


def test_a_value_that_does_not_fit(tmp_path: Path) -> None:
    world = bad_project(tmp_path, "card,ts,amount\n1,2026-01-02T00:00:00,n/a\n")
    found = run_command(world)
    assert found.returncode == 1
    assert "b.csv" in found.stderr
    assert "amount" in found.stderr
    assert "n/a" in found.stderr
    assert "Traceback" not in found.stderr
    assert ff.open(str(world.store)).tables() == []


def test_a_function_that_raises(tmp_path: Path) -> None:
    extra = (
        "    udf:\n      twice: {function: 'grumpy_module:twice', inputs: [amount_sum_1d], type: float64}\n"
    )
    world = bad_project(tmp_path, "card,ts,amount\n1,2026-01-02T00:00:00,2\n", extra)
    (tmp_path / "grumpy_module.py").write_text("def twice(values):\n    raise ValueError('not today')\n")
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(tmp_path)}):
        found = run_command(world)
    assert found.returncode == 1, found.stderr
    assert "twice" in found.stderr
    assert "not today" in found.stderr
    assert "Traceback" not in found.stderr
    assert ff.open(str(world.store)).tables() == []


def test_a_failed_check_publishes_no_table(tmp_path: Path) -> None:
    world = bad_project(
        tmp_path,
        "card,ts,amount\n1,2026-01-02T00:00:00,-2\n",
        "    checks: [{column: amount_sum_1d, min: 99}]\n",
    )
    found = run_command(world)
    assert found.returncode == 1
    assert "amount_sum_1d" in found.stderr
    assert ff.open(str(world.store)).tables() == []


def test_an_edited_check_after_a_stopped_build(tmp_path: Path) -> None:
    """The notes of a stopped build are about other checks."""
    rows = "card,ts,amount\n1,2026-01-02T00:00:00,2\n"
    world = bad_project(tmp_path, rows, "    checks: [{column: amount_sum_1d, min: 99}]\n")
    assert run_command(world).returncode == 1
    (tmp_path / "featureflow.yaml").write_text(
        BAD + "    checks: [{column: amount_sum_1d, max: 99}, {column: card, not_null: true}]\n"
    )
    found = run_command(world)
    assert found.returncode == 0, found.stderr


def test_a_file_that_vanishes(world: World) -> None:
    """Between plan and build."""
    project = world.project()
    real = ff.Project._plan

    def and_then(self: Any, *arguments: Any, **options: Any) -> Any:
        plan = real(self, *arguments, **options)
        world.files("tx")[1].unlink()
        return plan

    with mock.patch.object(ff.Project, "_plan", and_then), pytest.raises(ff.FeatureflowError) as failure:
        project.build()
    assert "day1.parquet" in str(failure.value)
    assert ff.open(str(world.store)).tables() == []


# ---------------------------------------------------------------- two at once


def test_two_builds_of_the_same_table(world: World) -> None:
    """The slower one is told to plan again; nothing is lost or doubled."""
    world.build()
    world.write("tx", "day9", events(random.Random(8), 9, 10))
    project = world.project()
    real = ff.Project._plan

    def and_then(self: Any, *arguments: Any, **options: Any) -> Any:
        plan = real(self, *arguments, **options)
        with mock.patch.object(ff.Project, "_plan", real):
            world.write("tx", "day7", events(random.Random(9), 7, 10))
            world.build()
        return plan

    with (
        mock.patch.object(ff.Project, "_plan", and_then),
        pytest.raises(ff.CommitConflict, match="Plan again"),
    ):
        project.build()
    assert [world.version(name) for name in TABLES] == [2, 2, 2]
    assert world.build().status == "nothing to do"
    equal_to_full(world)


@pytest.mark.slow
def test_many_processes_build_at_once(world: World) -> None:
    environment = {**os.environ, "FEATUREFLOW_SCRATCH": str(world.folder / "scratch")}
    arguments = [
        *COMMAND,
        "build",
        str(world.folder / "featureflow.yaml"),
        "--store",
        str(world.store),
        "--scheduler",
        "threads",
    ]
    running = [
        subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    ended = [(process.communicate(timeout=180)[1], process.returncode) for process in running]
    assert {code for _, code in ended} <= {0, 1}
    assert 0 in {code for _, code in ended}
    assert all("lan again" in text for text, code in ended if code)
    assert [world.version(name) for name in TABLES] == [1, 1, 1]
    equal_to_full(world)


# ---------------------------------------------------------------- disks and workers


def test_workers_with_another_disk(world: World) -> None:
    """Files that tasks wrote but the driver can't see must not become an empty table."""
    from featureflow.execute.windows.window_task import compute_run

    def elsewhere(run: Any) -> Any:
        written = compute_run(run)
        for path in (world.store / "features").rglob("b*.parquet"):
            path.unlink()
        return written

    with (
        mock.patch("featureflow.execute.table_build.compute_run", elsewhere),
        pytest.raises(ff.TableError, match="share"),
    ):
        world.build()
    assert ff.open(str(world.store)).tables() == []


def test_a_damaged_exchange_file_is_written_again(world: World) -> None:
    """A power cut can leave a file that was renamed but never reached the disk."""
    world.build(select=["spend"])
    for path in (world.folder / "scratch" / "exchange").rglob("*.arrow"):
        path.write_bytes(b"")
    world.write("tx", "day9", events(random.Random(8), 9, 10))
    world.build()
    equal_to_full(world)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_full_scratch_disk(world: World) -> None:
    world.write("tx", "large", pl.concat([events(random.Random(1), 1, 1000)] * 20))
    small = world.folder / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(small)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        with pytest.raises(ff.ComputeError, match="scratch"):
            world.project(scratch=small).build()
        assert list(small.rglob("*.tmp")) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert ff.open(str(world.store)).tables() == []
    world.build()


@pytest.mark.filterwarnings("default")
@pytest.mark.slow
def test_a_killed_worker(world: World, tmp_path: Path) -> None:
    """The nanny starts another one, the task runs again, the build ends as if nothing had been."""
    (tmp_path / "deadly_module.py").write_text(
        "import os, pathlib, signal\nimport polars as pl\n"
        "def once(values):\n    mark = pathlib.Path(os.environ['MARK'])\n"
        "    try:\n        mark.touch(exist_ok=False)\n    except FileExistsError:\n        return values\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    spec = tmp_path / "featureflow.yaml"
    text = spec.read_text().replace("project: small_world", "project: small_world\nallow_python: true")
    udf = "    udf:\n      same: {function: 'deadly_module:once', inputs: [double], type: float64}\n"
    spec.write_text(
        text.replace(
            '    derive: {double: "amount_sum_1h * 2"}\n', '    derive: {double: "amount_sum_1h * 2"}\n' + udf
        )
    )
    environment = {**os.environ, "MARK": str(tmp_path / "mark"), "PYTHONPATH": str(tmp_path)}
    found = subprocess.run(
        [
            *COMMAND,
            "build",
            str(spec),
            "--store",
            str(world.store),
            "--scheduler",
            "local",
            "--workers",
            "2",
            "--scratch",
            str(tmp_path / "s"),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        env=environment,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert (tmp_path / "mark").exists()
    frame = ff.open(str(world.store)).table("spend").to_polars()
    assert frame["same"].equals(frame["double"], check_names=False)
    assert content(world.store, "spend").height == frame.height
