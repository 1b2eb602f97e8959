"""The driver: windows, hosts that come and go, retries, and tasks that kill their worker. Executors are simulated."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from featureflow.core.errors import CheckFailed, ComputeError, FetchFailed
from featureflow.execute.driver import ATTEMPTS, IN_FLIGHT_PER_SLOT, run_tasks
from featureflow.execute.placement import lanes
from featureflow.execute.task import Task, WorkerDied


def task(i: int, *reads: tuple[str, int]) -> Task:
    return Task(f"t{i}", print, (i,), f"stage, part {i}", reads)


def tasks(n: int) -> list[Task]:
    return [task(i, (f"chunk{i}", 100)) for i in range(n)]


@dataclass
class Simulated:
    """Hosts that run tasks in the order in which they come, as many at once as they have threads.

    ``fate`` says what becomes of a task: an error, or None. A `WorkerDied` hits all that is on that host.
    """

    threads_of: dict[str, int]
    fate: Callable[[Task, int], BaseException | None] = lambda *_: None
    held: dict[str, dict[str, int]] = field(default_factory=dict)
    seed: int = 0
    speed: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.on: dict[str, list[Task]] = {host: [] for host in self.threads_of}
        self.flying: dict[str, tuple[str, Task]] = {}
        self.ran_on: dict[str, str] = {}
        self.starts: dict[str, int] = {}
        self.batches: list[int] = []
        self.most: dict[str, int] = {}
        self.most_at_once = 0
        self.cancelled = False
        self.on_look: Callable[[], None] = lambda: None

    @property
    def slots(self) -> int:
        return sum(self.threads_of.values())

    @property
    def threads(self) -> int:
        return max(self.threads_of.values())

    memory_bytes = None
    description = "simulated"

    def hosts(self) -> dict[str, int]:
        return dict(self.threads_of)

    def holdings(self, names: Iterable[str]) -> dict[str, dict[str, int]]:
        return {name: self.held[name] for name in names if name in self.held}

    def submit(self, batch: list[Task]) -> None:
        self.batches.append(len(batch))
        for one in batch:
            host = one.host if one.host in self.threads_of else min(self.on, key=lambda h: len(self.on[h]))
            self.on[host].append(one)
            self.flying[one.key] = host, one
            self.starts[one.key] = self.starts.get(one.key, 0) + 1
        for host, there in self.on.items():
            self.most[host] = max(self.most.get(host, 0), len(there))
        self.most_at_once = max(self.most_at_once, len(self.flying))

    def next_done(self) -> list[tuple[str, Any, BaseException | None]]:
        host = self.rng.choices(
            [h for h, there in self.on.items() if there],
            [self.threads_of.get(h, 1) * self.speed.get(h, 1.0) for h, there in self.on.items() if there],
        )[0]
        one = self.on[host].pop(self.rng.randrange(min(len(self.on[host]), self.threads_of.get(host, 1))))
        error = self.fate(one, self.starts[one.key])
        done = [(one, error)]
        if isinstance(error, WorkerDied):
            done += [(other, WorkerDied()) for other in self.on[host]]
            self.on[host] = []
        self.on_look()
        for ended, _ in done:
            del self.flying[ended.key]
            self.ran_on[ended.key] = host
        return [(ended.key, None if problem else ended.key, problem) for ended, problem in done]

    def remove(self, host: str) -> None:
        """A host is lost; what was there runs elsewhere, as a cluster does it."""
        del self.threads_of[host]
        for one in self.on.pop(host):
            self.on[min(self.on, key=lambda h: len(self.on[h]))].append(one)

    def add(self, host: str, threads: int) -> None:
        self.threads_of[host] = threads
        self.on[host] = []

    def cancel(self) -> None:
        self.cancelled = True

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts are looked at before each batch, not each second."""
    monkeypatch.setattr(lanes, "LOOK_SECONDS", 0.0)


def run(executor: Simulated, todo: Iterable[Task], **options: Any) -> list[str]:
    done: list[str] = []
    run_tasks(executor, todo, lambda one, result: done.append(result), **options)
    assert not executor.flying
    return sorted(done)


FOUR = {"a": 4, "b": 4, "c": 2, "d": 1}


def test_all_tasks_run_once_within_the_window_of_each_host() -> None:
    executor = Simulated(dict(FOUR))
    assert run(executor, tasks(500)) == sorted(t.key for t in tasks(500))
    assert set(executor.starts.values()) == {1}
    assert executor.most_at_once <= IN_FLIGHT_PER_SLOT * 11
    assert all(executor.most[host] <= IN_FLIGHT_PER_SLOT * threads for host, threads in FOUR.items())
    assert min(executor.most.values()) >= 3


def test_batches_are_as_large_as_a_host_has_threads() -> None:
    executor = Simulated({"a": 16, "b": 16})
    run(executor, tasks(2000))
    assert sum(executor.batches) == 2000
    assert len(executor.batches) <= 2000 / 16 + 10


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_tasks(n: int) -> None:
    assert len(run(Simulated(dict(FOUR)), tasks(n))) == n


def test_tasks_go_where_their_bytes_are() -> None:
    held = {f"chunk{i}": {"abcd"[i % 4]: 100} for i in range(400)}
    executor = Simulated({"a": 2, "b": 2, "c": 2, "d": 2}, held=held)
    run(executor, tasks(400))
    local = sum(executor.ran_on[f"t{i}"] == "abcd"[i % 4] for i in range(400))
    assert local >= 0.95 * 400


def test_an_idle_host_takes_from_the_longest_lane() -> None:
    held = {f"chunk{i}": {"ab"[i % 2]: 100} for i in range(400)}
    executor = Simulated({"a": 2, "b": 2}, held=held, speed={"a": 10.0})
    run(executor, tasks(400))
    ran = [executor.ran_on[f"t{i}"] for i in range(400)]
    assert ran.count("a") > 280, "b is ten times slower"


def test_one_host_and_executors_that_know_no_hosts_need_no_placement() -> None:
    one = Simulated({"a": 2})
    assert len(run(one, tasks(50))) == 50
    assert one.most_at_once <= 6

    class Plain(Simulated):
        hosts = holdings = property()  # type: ignore[assignment]

    plain = Plain(dict(FOUR))
    assert len(run(plain, tasks(50))) == 50
    assert plain.most_at_once <= 33


def test_tasks_are_taken_from_a_generator_as_they_are_needed() -> None:
    executor = Simulated({"a": 2, "b": 2})
    taken = []

    def source() -> Iterable[Task]:
        for i in range(1000):
            taken.append(i)
            yield task(i)

    ahead = 0

    def done(one: Task, result: Any) -> None:
        nonlocal ahead
        ahead = max(ahead, len(taken) - sum(executor.starts.values()))

    run_tasks(executor, source(), done)
    assert len(taken) == 1000
    assert ahead <= IN_FLIGHT_PER_SLOT * 4


def test_a_host_that_leaves_and_one_that_comes() -> None:
    executor = Simulated({"a": 2, "b": 2, "c": 2})
    looks = 0

    def change() -> None:
        nonlocal looks
        looks += 1
        if looks == 50:
            executor.remove("c")
        if looks == 100:
            executor.add("d", 6)

    executor.on_look = change
    assert len(run(executor, tasks(600))) == 600
    ran = list(executor.ran_on.values())
    assert ran.count("d") > 150, "the window of the new host opens"
    assert executor.most["d"] <= 18
    assert ran.count("c") < 60


def test_errors_are_tried_again_elsewhere_and_end_after_three_starts() -> None:
    flaky = Simulated(
        dict(FOUR), fate=lambda t, n: OSError("flaky") if t.key == "t7" and n < ATTEMPTS else None
    )
    assert len(run(flaky, tasks(60))) == 60
    assert flaky.starts["t7"] == ATTEMPTS
    broken = Simulated(dict(FOUR), fate=lambda t, n: OSError("disk") if t.key == "t7" else None)
    with pytest.raises(ComputeError, match=r"stage, part 7 failed 3 times: OSError: disk"):
        run_tasks(broken, tasks(60), lambda *_: None)
    assert broken.starts["t7"] == ATTEMPTS
    assert broken.cancelled


def test_our_own_errors_are_final_at_once() -> None:
    executor = Simulated(dict(FOUR), fate=lambda t, n: CheckFailed("no") if t.key == "t7" else None)
    with pytest.raises(CheckFailed, match="no") as caught:
        run_tasks(executor, tasks(60), lambda *_: None)
    assert executor.starts["t7"] == 1
    assert caught.value.__notes__ == ["while running: stage, part 7"]


def test_one_poison_task_fails_alone() -> None:
    executor = Simulated(dict(FOUR), fate=lambda t, n: WorkerDied() if t.key == "t30" else None)
    done: list[str] = []
    with pytest.raises(ComputeError) as caught:
        run_tasks(executor, tasks(200), lambda one, result: done.append(result))
    assert sorted(done) == sorted(t.key for t in tasks(200) if t.key != "t30")
    assert executor.starts["t30"] == 2
    text = str(caught.value)
    assert "stage, part 30" in text
    assert "--memory" in text
    assert "part 31" not in text


def test_several_poison_tasks_are_all_named() -> None:
    bad = {f"t{i}" for i in range(0, 200, 25)}
    executor = Simulated(dict(FOUR), fate=lambda t, n: WorkerDied() if t.key in bad else None)
    done: list[str] = []
    with pytest.raises(ComputeError, match=r"8 tasks kill(?s:.)*and 3 more"):
        run_tasks(executor, tasks(200), lambda one, result: done.append(result))
    assert len(done) == 192


def test_a_worker_that_died_once_is_no_poison() -> None:
    executor = Simulated(dict(FOUR), fate=lambda t, n: WorkerDied() if t.key == "t30" and n == 1 else None)
    assert len(run(executor, tasks(200))) == 200


def test_lost_exchange_files_are_made_again_once_for_all_that_miss_them() -> None:
    made: list[list[str]] = []
    there = False

    def fate(one: Task, n: int) -> BaseException | None:
        return None if there or int(one.key[1:]) % 10 else FetchFailed("manifest", (one.key,), "gone")

    def remake(errors: list[FetchFailed]) -> None:
        nonlocal there
        assert not executor.flying
        made.append([error.missing[0] for error in errors])
        there = True

    executor = Simulated({"a": 2, "b": 2}, fate=fate)
    assert len(run(executor, tasks(100), remake=remake)) == 100
    assert len(made) == 1
    for useless in (None, lambda errors: None):
        executor = Simulated({"a": 2, "b": 2}, fate=lambda t, n: FetchFailed("m", (t.key,), "gone"))
        with pytest.raises(FetchFailed):
            run_tasks(executor, tasks(5), lambda *_: None, useless)


@pytest.mark.parametrize("seed", range(8))
def test_everything_at_once(seed: int) -> None:
    rng = random.Random(seed)
    flaky = {f"t{i}" for i in rng.sample(range(300), 30)}
    deadly = {f"t{i}" for i in rng.sample(range(300), 3)}

    def fate(one: Task, n: int) -> BaseException | None:
        if one.key in deadly and n == 1:
            return WorkerDied()
        return OSError("flaky") if one.key in flaky and n == 1 else None

    executor = Simulated({"a": 3, "b": 1, "c": 2, "d": 2}, fate=fate, seed=seed)
    events = iter(rng.sample(range(5, 250), 4))
    steps = 0
    when = sorted(events)

    def change() -> None:
        nonlocal steps
        steps += 1
        if steps in when:
            i = when.index(steps)
            executor.remove("abc"[i]) if i < 2 else executor.add(f"new{i}", 2)

    executor.on_look = change
    held = {f"chunk{i}": {rng.choice("abcd"): 100} for i in range(0, 300, 2)}
    executor.held = held
    assert len(run(executor, tasks(300))) == 300
