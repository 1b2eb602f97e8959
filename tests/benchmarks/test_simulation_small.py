"""A small simulated build: what the driver is allowed to do for each partition, counted, not timed."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from benchmarks import simulation, two_workers

from featureflow.tables import parquet_files, staged


def test_a_simulated_build_publishes_every_partition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--files", "400", "--days", "20", "--workers", "20", "--rows", "20000"]
    simulation.main([*arguments, "--workdir", str(tmp_path)])
    text = capsys.readouterr().out
    assert "first: re-key and compute, by task" in text
    assert (
        "rekey: 440 tasks" in text
    )  # the first build's, and the files of two days that the later one looks back at


def test_the_driver_opens_no_file_that_a_task_wrote(tmp_path: Path) -> None:
    size = simulation.Size(files=300, days=10, workers=10)
    with (
        mock.patch.object(staged, "find_staged", side_effect=AssertionError("a footer was read")),
        mock.patch.object(parquet_files, "read_tail", wraps=parquet_files.read_tail) as footers,
    ):
        phases, made, _ = simulation.simulate(tmp_path, size)
    # those of the real build that the statistics are copied from
    assert footers.call_count < 10
    assert {one.name.partition(":")[0] for one in phases.found} >= {"first", "nothing new", "one day more"}
    assert made.executor.most_in_flight <= 3 * made.executor.slots


@pytest.mark.parametrize("files", [200, 800])
def test_what_is_sent_does_not_grow_with_the_source(tmp_path: Path, files: int) -> None:
    """A task that carried the list of all files would make a large build quadratic."""
    _, made, _ = simulation.simulate(tmp_path, simulation.Size(files=files, days=10, workers=10))
    for name, n in made.executor.tasks.items():
        assert made.executor.bytes[name] / n < 12_000, name


def test_years_of_history_need_no_more_buckets_than_one(tmp_path: Path) -> None:
    """A long history is cut into runs; with a bucket for what one task can hold of it, files would be crumbs."""
    from featureflow.execute.planner import Planner

    found = {}
    for days in (2, 400, 1600):
        size = simulation.Size(files=days, days=days, workers=4, rows=20_000_000, groups=1)
        folder = tmp_path / str(days)
        folder.mkdir()
        made = simulation.Simulation(folder, size)
        example = made.compiled(None).sources["events"].facts[0]
        compiled = made.compiled(simulation.made_up_facts(example, size))
        planner = Planner(made.project.loaded, compiled.tables, compiled.sources, made.site())
        (plan,) = planner.plan(["card_windows"], full=False, only=None).tables
        found[days] = plan.n_buckets
        assert plan.estimate["task_bytes"] < plan.estimate["budget_bytes"]
    # less than the run of three look-backs (of a day each) that a task should hold: what there is decides
    assert found[2] < found[400] == found[1600] <= 2 * found[2]


def test_one_and_two_workers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two_workers.main(["--rows", "3000", "--days", "6", "--runs", "1", "--workdir", str(tmp_path)])
    assert "equal files" in capsys.readouterr().out
