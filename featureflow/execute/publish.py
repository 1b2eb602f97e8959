"""Make a build's tables visible: one commit each, after everything has been computed and checked."""

from __future__ import annotations

import getpass
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featureflow.execute.stages import TablePlan
from featureflow.plan.slices import Slice
from featureflow.tables.commit import Published, publish
from featureflow.tables.parquet_files import StagedFile
from featureflow.tables.state import TableState


@dataclass(frozen=True, slots=True)
class Author:
    """Who builds, from which commit of the project's repository."""

    user: str
    commit: str | None

    @classmethod
    def here(cls, folder: Path) -> Author:
        """Ask the system and git; a folder that is no repository has no commit."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = "unknown"
        try:
            found = subprocess.run(
                ["git", "-C", str(folder), "rev-parse", "HEAD"],
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return cls(user, None)
        return cls(user, found.stdout.strip() or None if found.returncode == 0 else None)


def changed_files(
    plan: TablePlan, state: TableState | None, new: list[tuple[Slice, StagedFile]]
) -> tuple[list[StagedFile], list[str]]:
    """Files to add and paths to remove, so that the table has exactly the plan's slices."""
    adds = [staged for _, staged in new]
    if state is None:
        return adds, []
    kept = set(plan.reused)
    names = {staged.path for staged in adds}
    removes = [
        staged.path
        for (label, _), staged in state.units.items()
        if staged.path not in names and slice_label(label, state.partition) not in kept
    ]
    listed = {file.path for file in state.files}
    return [staged for staged in adds if staged.path not in listed], removes


def slice_label(label: str | None, partition: str) -> str:
    """Label of the slice that a stored file belongs to."""
    if label is not None:
        return label
    return "all" if partition == "none" else "null"


def publish_table(
    plan: TablePlan,
    table_url: str,
    state: TableState | None,
    new: list[tuple[Slice, StagedFile]],
    remembered: dict[str, Any],
) -> Published | None:
    """Publish a table's new version; None if nothing differs from the current one.

    Parameters
    ----------
    remembered
        What the build adds to the record: ``build``, inputs, definition as written, author, checks.
    """
    adds, removes = changed_files(plan, state, new)
    same_definition = state is not None and state.definition_hash == plan.table.definition_hash
    slices = {part.label: mark for part, mark in plan.slices.items()}
    if (
        state is not None
        and same_definition
        and not adds
        and not removes
        and slices == state.record["slices"]
    ):
        return None
    table = plan.table
    record = {
        "definition_hash": table.definition_hash,
        "lineage": {name: list(origins) for name, origins in table.lineage.items()},
        "slices": slices,
        "buckets": plan.n_buckets,
        "reach": plan.reach,
        "change": plan.change,
        "reason": plan.reason,
        **remembered,
    }
    return publish(
        table_url,
        schema=table.schema,
        partition=table.partition,
        keys=list(table.keys),
        time=table.time,
        adds=adds,
        removes=removes,
        record=record,
        expected_version=None if state is None else state.version,
        planned_on=state,
    )
