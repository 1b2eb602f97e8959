"""A small simulated build: what the driver is allowed to do for each partition, counted, not timed."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from benchmarks import simulation

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
