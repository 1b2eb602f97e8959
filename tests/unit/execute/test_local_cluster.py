"""One local cluster: what its workers get, also those that join later and those of a user's own client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from operator import mul
from pathlib import Path
from typing import Any

import pytest
from clusters.builds import contents, make_project

import featureflow as ff
from featureflow.execute.clusters.dask_executor import DaskExecutor
from featureflow.execute.clusters.telling import TOLD_BYTES
from featureflow.execute.executors import open_executor
from featureflow.execute.task import Task
from featureflow.spec.targets import Target

pytestmark = pytest.mark.filterwarnings("default")  # Dask and Tornado warn about their own closing


def state_of_worker() -> dict[str, Any]:
    """What a worker says of itself."""
    import pyarrow as pa

    from featureflow.execute.clusters.workers import report_of_process
    from featureflow.execute.placement.host import own_host, own_scratch

    return {
        "allocator": pa.default_memory_pool().backend_name,
        "arrow threads": pa.cpu_count(),
        "polars": os.environ.get("POLARS_MAX_THREADS"),
        "host": own_host(),
        "scratch": own_scratch("of the driver"),
        "problem": report_of_process().problem,
    }


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    scratch = str(tmp_path_factory.mktemp("local") / "scratch")
    os.makedirs(scratch)
    found = open_executor("local", workers=1, memory_bytes=2**31, scratch=scratch, target=Target(threads=2))
    found.scratch = scratch  # type: ignore[attr-defined]
    yield found
    found.close()


def test_workers_are_prepared(executor: Any) -> None:
    (found,) = executor.client.run(state_of_worker).values()
    expected = {"allocator": "system", "arrow threads": 1, "polars": "1", "host": "127.0.0.1"}
    assert found == {**expected, "scratch": executor.scratch, "problem": ""}
    assert (executor.slots, executor.threads, executor.capacity) == (2, 2, 2)
    assert executor.memory_bytes < 2**31


def test_a_build_through_a_client(executor: Any, tmp_path: Path) -> None:
    """The bytes of a build by threads; and the user's cluster is still there afterwards."""
    spec = make_project(tmp_path / "project", files=2, rows=500)
    for name, options in (
        ("threads", {"scheduler": "threads", "workers": 2}),
        ("client", {"client": executor.client}),
    ):
        ff.Project(str(spec), store=str(tmp_path / name), scratch=tmp_path / "scratch", **options).build()
    assert contents(tmp_path / "client") == contents(tmp_path / "threads")
    assert executor.client.submit(abs, -3).result() == 3


def outcomes(executor: Any, tasks: list[Task]) -> dict[str, Any]:
    """Results, or the errors' types, by the tasks' keys."""
    executor.submit(tasks)
    found: dict[str, Any] = {}
    while len(found) < len(tasks):
        found.update((key, type(e) if e else result) for key, result, e in executor.next_done())
    return found


SMALL = [Task(f"small{i}", mul, (b"x", i), "small") for i in range(50)]
LARGE = [Task(f"large{i}", mul, (b"x", TOLD_BYTES + i), "large") for i in range(5)]
WRONG = [Task("wrong", mul, (b"x", b"y"), "wrong")]
EXPECTED = {task.key: task.arguments[0] * task.arguments[1] for task in [*SMALL, *LARGE]} | {
    "wrong": TypeError
}


def test_small_results_come_with_the_news(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is large is asked for."""
    asked: list[str] = []
    real = DaskExecutor._fetched

    def fetched(self: Any, futures: list[Any]) -> Any:
        asked.extend(self._futures[future] for future in futures)
        return real(self, futures)

    monkeypatch.setattr(DaskExecutor, "_fetched", fetched)
    mine = DaskExecutor(executor.client)
    assert outcomes(mine, [*SMALL, *LARGE, *WRONG]) == EXPECTED
    assert sorted(asked) == [task.key for task in LARGE]
    assert not mine._told._results
    mine.close()


def test_what_nobody_heard_is_asked_for(executor: Any) -> None:
    """Another driver of the same client hears the news; an event can get lost with its connection."""
    deaf = DaskExecutor(executor.client)
    other = DaskExecutor(executor.client)
    assert outcomes(deaf, [*SMALL, *LARGE, *WRONG]) == EXPECTED
    assert outcomes(other, [*SMALL, *LARGE, *WRONG]) == EXPECTED
    other.close()
    assert outcomes(deaf, SMALL) == {task.key: EXPECTED[task.key] for task in SMALL}
    deaf.close()


def test_what_pickle_can_not_write(executor: Any) -> None:
    """Dask has its own ways for it."""
    mine = DaskExecutor(executor.client)
    (found,) = outcomes(mine, [Task("f", eval, ("lambda: 7",), "f")]).values()
    assert found() == 7
    mine.close()


def test_a_task_of_the_same_name_runs_again(executor: Any) -> None:
    """Its outcome is its own, not what was told of the one before."""
    mine = DaskExecutor(executor.client)
    assert outcomes(mine, [Task("a", mul, (2, 3), "a")]) == {"a": 6}
    assert outcomes(mine, [Task("a", mul, (2, 4), "a")]) == {"a": 8}
    mine.submit([Task("b", mul, (2, 5), "b")])
    mine.cancel()
    assert outcomes(mine, [Task("b", mul, (2, 6), "b")]) == {"b": 12}
    mine.close()


def test_workers_that_join_later_are_prepared_too(executor: Any) -> None:
    cluster = executor.client.cluster
    (first,) = executor.client.nthreads()
    cluster.scale(2)
    executor.client.wait_for_workers(2, timeout=60)
    found = executor.client.run(state_of_worker)
    assert len(found) == 2
    (late,) = (state for address, state in found.items() if address != first)
    assert (late["allocator"], late["host"], late["problem"]) == ("system", "127.0.0.1", "")
