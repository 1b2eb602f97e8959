"""Builds on a real SLURM cluster, with dask-jobqueue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters.builds import Watcher, contents, make_project
from clusters.slurm import Slurm, missing_programs, start_slurm

import featureflow as ff

pytest.importorskip("dask_jobqueue", reason="pip install dask-jobqueue cryptography")
pytestmark = [
    pytest.mark.clusters,
    pytest.mark.skipif(
        bool(missing_programs()), reason="apt-get install slurmctld slurmd slurm-client munge"
    ),
    pytest.mark.filterwarnings("default"),  # Dask and Tornado warn about their own closing
]

TARGETS = """
targets:
  hpc:
    cluster: {{class: dask_jobqueue.SLURMCluster, queue: batch, walltime: "00:30:00", log_directory: "{folder}/logs"}}
    workers: 2
    threads: 1
    memory: 2GB
    scratch: {folder}/scratch
  scaled:
    cluster: {{class: dask_jobqueue.SLURMCluster, queue: batch, walltime: "00:30:00", log_directory: "{folder}/logs"}}
    adaptive: {{minimum: 0, maximum: 2}}
    threads: 1
    memory: 2GB
    scratch: {folder}/scratch
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with start_slurm(tmp_path_factory.mktemp("slurm") / "it") as running:
        yield running


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    return make_project(tmp_path / "project", targets=TARGETS.format(folder=tmp_path))


@pytest.fixture
def expected(spec: Path, tmp_path: Path) -> dict[str, str]:
    store = tmp_path / "expected"
    ff.Project(str(spec), store=str(store), scheduler="threads", scratch=tmp_path / "own").build()
    return contents(store)


def test_a_build(slurm: Slurm, spec: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    said = Watcher()
    ff.Project(str(spec), store=str(tmp_path / "store"), target="hpc").build(progress=said)
    assert contents(tmp_path / "store") == expected
    assert any("first worker after" in note for note in said.notes)
    slurm_is_empty(slurm)


def test_a_cancelled_job(slurm: Slurm, spec: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    """The build goes on with the other job, a new job takes the lost one's place, and no byte differs."""
    cancelled = []

    def cancel() -> None:
        job = slurm.jobs()[0]
        slurm.run("scancel", job)
        cancelled.append(job)

    said = Watcher(3, cancel)
    ff.Project(str(spec), store=str(tmp_path / "store"), target="hpc").build(progress=said)
    assert cancelled
    assert contents(tmp_path / "store") == expected
    slurm_is_empty(slurm)


def test_adaptive(slurm: Slurm, spec: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    ff.Project(str(spec), store=str(tmp_path / "store"), target="scaled").build()
    assert contents(tmp_path / "store") == expected
    slurm_is_empty(slurm)


def slurm_is_empty(slurm: Slurm) -> None:
    """What we started we have ended: jobs that are not over are on their way out."""
    assert set(slurm.run("squeue", "-h", "-o", "%t").split()) <= {"CG"}
