"""Builds of a grid that are killed in their middle, and builds that run beside each other; run in processes."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from unit.tables.array_world import cube, publish_grid

from featureflow.tables import arrays, arrays_repository
from featureflow.tables.arrays_repository import changing, make_tag, open_repository, point_branch

#: In the order in which a build reaches them; from `COMMITTED` on its version is there.
PHASES = (
    "begun",
    "written",
    "merged",
    "arrays committed",
    "sealed",
    "checked",
    "recorded",
    "committed",
    "tagged",
    "main moved",
    "projected",
)
COMMITTED = PHASES.index("committed")
#: Function whose call is the moment after a phase, and what its arguments must hold.
_NEXT = {
    "begun": ("ArrayWrite.fork", ""),
    "written": ("ArrayWrite.merge", ""),
    "merged": ("ArrayWrite.commit", ""),
    "arrays committed": ("write_seal", ""),
    "tagged": ("point_branch", "main"),
    "main moved": ("drop_branch", ""),
}


def _kill(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def build(url: str, times: int, first: int, build_id: str, phase: str | None = None) -> int:
    """Publish a version; a process that reaches the phase is killed."""

    def reached(name: str) -> None:
        if name == phase or (phase == "sealed" and name == "checked"):
            _kill()

    with pytest.MonkeyPatch.context() as patch:
        if phase in _NEXT:
            name, needed = _NEXT[phase]
            holder: Any = arrays.ArrayWrite if "." in name else arrays
            real = getattr(holder, name.rpartition(".")[2])

            def instead(*given: Any, **options: Any) -> Any:
                return _kill() if not needed or needed in given else real(*given, **options)

            patch.setattr(holder, name.rpartition(".")[2], instead)
        return publish_grid(url, cube(times), build_id, first=first, on_phase=reached).version


def point(url: str, who: str, snapshot: str, times: int) -> list[str]:
    """Change references as fast as it goes; gives those that were acknowledged."""
    repository = open_repository(url)
    for i in range(times):
        point_branch(url, repository, f"build-{who}-{i}", snapshot)
        make_tag(url, repository, f"{who}-{i}", snapshot)
    return [f"{who}-{i}" for i in range(times)]


def commit_often(url: str, who: str, times: int) -> list[str]:
    """Build versions of arrays on branches of their own; gives the snapshots that were acknowledged."""
    made = []
    for i in range(times):
        data = cube(4, seed=i)
        write = arrays.begin(url, arrays.ArraySpec(data, {"time": 4}), f"{who}-{i}", None)
        write.merge([arrays.write_region(write.fork(), {}, data)])
        made.append(write.commit("x"))
        arrays.project_arrays(url, int(who) * 100 + i, made[-1])
    return made


__all__ = ["COMMITTED", "PHASES", "arrays_repository", "build", "changing", "commit_often", "point"]
