"""Shares of planted work: sleeps under known kinds, on threads and on a cluster, come back as they were planted."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from featureflow.core.errors import ComputeError
from featureflow.core.meter import counted, moved, spent
from featureflow.execute.driver import run_tasks
from featureflow.execute.executors import Executor, ThreadExecutor
from featureflow.execute.profiling.metered import Metered, Record
from featureflow.execute.profiling.profiler import Profiler, during
from featureflow.execute.profiling.sums import profile_of
from featureflow.execute.task import Task

UNIT = 0.04


def work(units: dict[str, int]) -> dict[str, float]:
    """Sleep under kinds, as a task reads, computes and writes; returns how long each took by its own watch.

    On a busy machine a sleep takes longer than it was asked to: what was planted is what the watch says.
    """
    begun = time.perf_counter()
    took: dict[str, float] = {}
    with spent("compute:sort"):
        for kind, n in units.items():
            before = time.perf_counter()
            with spent(kind):
                time.sleep(n * UNIT)
            took[kind] = time.perf_counter() - before
            moved(kind, n * 1000)
    counted("cache hits")
    time.sleep(UNIT)  # under no kind: that is compute
    took["compute"] = time.perf_counter() - begun - sum(took.values())
    return took


def stumble(marks: str) -> None:
    """Fail once, after some work."""
    import os

    with spent("decode"):
        time.sleep(UNIT)
    if not os.path.exists(marks):
        with open(marks, "w"):
            pass
        raise OSError("the disk hiccupped")


def fail(_: int) -> None:
    raise ComputeError("no")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as started,
        Client(started, set_as_default=False) as client,
    ):
        yield client


def open_threads(_: Any) -> Executor:
    return ThreadExecutor(2)


def open_cluster(request: pytest.FixtureRequest) -> Executor:
    from featureflow.execute.clusters.dask_executor import DaskExecutor

    return DaskExecutor(request.getfixturevalue("cluster"))


OPENERS = pytest.mark.parametrize("opener", [open_threads, open_cluster], ids=["threads", "cluster"])


def stage(profile: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in profile["stages"] if one["name"] == name]
    return found


@OPENERS
def test_planted_work_is_found(opener: Any, request: pytest.FixtureRequest) -> None:
    planted = {"remote read": 4, "nvme read": 1, "decode": 2, "exchange:remote": 1, "write": 1}
    with Profiler() as profiler:
        executor = profiler.watch(opener(request))
        # what a first task loads belongs to none of those that are looked at
        run_tasks(executor, [Task(f"w{i}", work, ({},), "warm") for i in range(4)], lambda *_: None)
        tasks = [Task(str(i), work, (planted,), f"t: read, file {i}") for i in range(8)]
        results: list[dict[str, float]] = []
        run_tasks(executor, tasks, lambda _, result: results.append(result))
        with during("commit"):
            time.sleep(5 * UNIT)
        profile = profile_of(profiler, {"build_id": "b"})
        executor.close()
    assert len(results) == 8
    assert set(results[0]) == {*planted, "compute"}, "the record is taken off"
    found = stage(profile, "t: read")
    busy = sum(seconds for kind, seconds in found["spent"].items() if kind != "idle")
    expected = {kind.partition(":")[0]: sum(one[kind] for one in results) for kind in results[0]}
    shares = {kind: seconds / busy for kind, seconds in found["spent"].items() if kind != "idle"}
    whole = sum(expected.values())
    assert shares == pytest.approx({kind: seconds / whole for kind, seconds in expected.items()}, abs=0.02)
    assert found["details"]["exchange:remote"] == pytest.approx(found["spent"]["exchange"])
    assert sum(found["spent"].values()) == pytest.approx(found["available"], rel=0.05)
    assert found["accounted"] == pytest.approx(1, abs=0.05)
    assert found["bytes"] == {
        "decode": 16_000,
        "exchange:remote": 8000,
        "nvme read": 8000,
        "remote read": 32_000,
        "write": 8000,
    }
    assert found["counts"] == {"cache hits": 8}
    assert found["cpu"] < 0.2 * busy, "who sleeps is on no processor"
    assert (found["tasks"], found["failed"], found["lost"]) == (8, 0, 0)
    commit = stage(profile, "commit")
    assert commit["where"] == "driver"
    assert commit["seconds"] >= 5 * UNIT
    total = profile["total"]
    assert total["spent"]["commit"] == pytest.approx(2 * commit["seconds"], rel=0.01)
    assert sum(total["spent"].values()) == pytest.approx(total["available"], rel=0.05)
    assert total["available"] == pytest.approx(2 * profile["seconds"], rel=0.05)
    assert profile["bottleneck"]["kind"] == max(total["spent"], key=lambda kind: total["spent"][kind])


@OPENERS
def test_threads_without_a_task_are_idle(opener: Any, request: pytest.FixtureRequest) -> None:
    """One long task and one short one on two threads: of the whole, the difference is idle."""
    with Profiler() as profiler:
        executor = profiler.watch(opener(request))
        tasks = [Task(str(n), work, ({"decode": n},), f"t: read, file {n}") for n in (19, 1)]
        worked: list[float] = []
        run_tasks(executor, tasks, lambda _, took: worked.append(sum(took.values())))
        profile = profile_of(profiler, {})
        executor.close()
    found = stage(profile, "t: read")
    idle = 1 - sum(worked) / found["available"]
    assert 0.2 < idle < 0.7
    assert found["spent"]["idle"] / found["available"] == pytest.approx(idle, abs=0.03)
    assert sum(found["spent"].values()) == pytest.approx(found["available"], rel=0.05)
    assert found["longest_label"] == "t: read, file 19"


@OPENERS
def test_runs_that_fail_count_as_well(opener: Any, request: pytest.FixtureRequest, tmp_path: Any) -> None:
    with Profiler() as profiler:
        executor = profiler.watch(opener(request))
        task = Task("a", stumble, (str(tmp_path / "mark"),), "t: read, file 1")
        run_tasks(executor, [task], lambda *_: None)
        with pytest.raises(ComputeError, match="no") as failure:
            run_tasks(executor, [Task("b", fail, (1,), "t: check, file 1")], lambda *_: None)
        profile = profile_of(profiler, {})
        executor.close()
    found = stage(profile, "t: read")
    assert (found["tasks"], found["failed"]) == (2, 1)
    assert found["spent"]["decode"] >= 2 * UNIT
    assert stage(profile, "t: check")["failed"] == 1
    assert profile["counts"]["failed"] == 2
    assert "featureflow_record" not in str(vars(failure.value)), "nobody else sees the record"


def test_a_record_is_small() -> None:
    kinds = {f"compute:family {i}": 1.0 / 3 for i in range(10)} | dict.fromkeys(("decode", "write"), 0.1)
    _, record = Metered(work)({})
    assert isinstance(record, Record)
    record = record._replace(spent=kinds, bytes={"remote read": 10**9, "write": 10**9})
    assert len(pickle.dumps((None, record))) - len(pickle.dumps(None)) < 1000


def test_functions_stay_apart_and_keep_their_names() -> None:
    assert Metered(work) == Metered(work)
    assert len({Metered(work), Metered(work), Metered(fail)}) == 2
    assert Metered(work).__name__ == "work"
    assert pickle.loads(pickle.dumps(Metered(work))) == Metered(work)


def test_what_the_driver_does_meanwhile_is_not_the_workers() -> None:
    """Kinds of the driver's own thread count in its phases only."""
    with Profiler() as profiler:
        executor = profiler.watch(ThreadExecutor(1))
        with during("collect"), spent("remote read"):
            time.sleep(UNIT)
            tasks = [Task(str(i), work, ({"decode": 2},), f"t: read, {i}") for i in range(3)]
            run_tasks(executor, tasks, lambda *_: time.sleep(UNIT))
            time.sleep(UNIT)
        profile = profile_of(profiler, {})
        executor.close()
    assert set(stage(profile, "t: read")["spent"]) <= {"decode", "compute", "idle"}
    collect = stage(profile, "collect")
    assert 2 * UNIT <= collect["spent"]["remote read"] <= collect["seconds"] * 1.05
    assert stage(profile, "t: read")["driver"] >= UNIT


class Clockwork:
    """Records of a worker whose clock is an hour off, and of one that restarted."""

    def record(self, worker: str, process: int, begun: float, seconds: float) -> Record:
        return Record(
            "elsewhere", "far", worker, process, 1, begun - 3600, seconds, 0.0, process, {"decode": seconds}, {}, {}, {}
        )  # fmt: skip


class Clock:
    """The driver's clock, which goes on when it is told to: on a busy machine a sleep takes as long as it likes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: made.now)
    return made


def test_clocks_of_other_machines_are_aligned(clock: Clock) -> None:
    profiler = Profiler()
    profiler.executor = ThreadExecutor(1)
    tasks = [Task(str(i), work, (), f"t: read, {i}") for i in range(3)]
    begun = clock.now
    profiler.submitted(tasks, 1)
    clock.sleep(3 * UNIT)
    clockwork = Clockwork()
    profiler.returned(
        [
            (str(i), clockwork.record("0", 7 if i < 2 else 8, begun + i * UNIT, UNIT), None)
            for i in range(3)
        ],
        1,
    )  # fmt: skip
    profile = profile_of(profiler, {})
    profiler.executor.close()
    listed = profile["timeline"]["tasks"]
    assert listed["begun"][0] == pytest.approx(begun - profiler.begun, abs=UNIT / 20)
    assert stage(profile, "t: read")["spent"]["idle"] == pytest.approx(0, abs=UNIT / 20)
    assert profile["counts"]["restarts"] == 1
    assert [worker["process"] for worker in profile["workers"]] == [7, 8]


def test_slots_that_come_and_go_are_counted_while_they_are_there(clock: Clock) -> None:
    profiler = Profiler()
    profiler.executor = ThreadExecutor(1)
    profiler.submitted([Task("a", work, (), "t: read, 1"), Task("b", work, (), "t: read, 2")], 2)
    clock.sleep(2 * UNIT)
    profiler.returned([("a", None, RuntimeError("its worker died"))], 6)
    clock.sleep(2 * UNIT)
    profiler.returned([("b", None, RuntimeError("its worker died"))], 6)
    profile = profile_of(profiler, {})
    profiler.executor.close()
    found = stage(profile, "t: read")
    assert found["available"] == pytest.approx(4 * found["seconds"])
    assert (found["lost"], found["tasks"]) == (2, 0)
    assert found["spent"]["idle"] == pytest.approx(found["available"])


def test_a_task_that_runs_has_a_slot(clock: Clock) -> None:
    """A worker that came while the driver waited for results has run tasks before anybody counted it."""
    profiler = Profiler()
    profiler.executor = ThreadExecutor(1)
    begun = clock.now
    profiler.submitted([Task(str(i), work, (), f"t: read, {i}") for i in range(3)], 1)
    clock.sleep(3 * UNIT)
    clockwork = Clockwork()
    done = [(str(i), clockwork.record(str(i), i, begun, 3 * UNIT), None) for i in range(3)]
    profiler.returned(done, 3)
    found = stage(profile_of(profiler, {}), "t: read")
    profiler.executor.close()
    assert found["available"] == pytest.approx(9 * UNIT)
    assert found["accounted"] == pytest.approx(1, abs=0.05)


def test_many_tasks_make_a_profile_of_a_bounded_size() -> None:
    profiler = Profiler()
    profiler.executor = ThreadExecutor(1)
    base, n_workers, each = time.monotonic() - 1000, 300, 40
    tasks = [Task(str(i), work, (), f"t: read, {i}") for i in range(n_workers * each)]
    profiler.submitted(tasks, n_workers)
    profiler._current.begun = profiler.begun = base
    records = [
        Record(
            f"c{w % 150}", f"host {w % 150}", str(w), w, w, base + i * 20, 15.0, 1.0, 1, {"decode": 5.0}, {}, {}, {}
        )
        for w in range(n_workers)
        for i in range(each)
    ]  # fmt: skip
    profiler.returned([(str(i), record, None) for i, record in enumerate(records)], n_workers)
    profile = profile_of(profiler, {})
    profiler.executor.close()
    timeline = profile["timeline"]
    assert len(timeline["lanes"]) == 64
    assert "tasks" not in timeline
    assert set(timeline["cells"]["kinds"]) == {"decode", "compute"}
    cells = {kind: sum(map(sum, rows)) for kind, rows in timeline["cells"]["kinds"].items()}
    assert cells["compute"] == pytest.approx(2 * cells["decode"], rel=0.02)
    assert max(max(row) for row in timeline["cells"]["kinds"]["decode"]) <= 1000 / 3 + 2
    assert len(pickle.dumps(profile)) < 1_000_000


def test_the_profiler_belongs_to_its_thread() -> None:
    from featureflow.execute.profiling.profiler import current_profiler

    seen: list[Any] = []
    with Profiler() as profiler:
        thread = threading.Thread(target=lambda: seen.append(current_profiler()))
        thread.start()
        thread.join()
        assert current_profiler() is profiler
    assert seen == [None]
    assert current_profiler() is None
