"""What a driver knows about exchange files: which task makes which, who has them, which manifests name them.

When a host is lost, tasks that need its files fail with `FetchFailed`. Then exactly those of the files that no living
host has are made again, and the manifests that name them get the new hosts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from featureflow.core.errors import FetchFailed
from featureflow.execute.clusters.hosts import ask_hosts, known_hosts
from featureflow.execute.driver import run_tasks
from featureflow.execute.exchange.manifest import Entry, Holders, write_manifest
from featureflow.execute.task import Task

if TYPE_CHECKING:
    from featureflow.execute.exchange.exchange_file import Rekeyed
    from featureflow.execute.executors import Executor

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Manifest:
    """A manifest that was written in this build: its folder and files."""

    folder: str
    entries: list[Entry]


@dataclass(slots=True)
class Remaking:
    """Exchange files of a build; see the module's text.

    ``made`` counts the files that were made again.
    """

    made: int = 0
    _tasks: dict[str, Task] = field(default_factory=dict)
    _disks: dict[str, str] = field(default_factory=dict)
    _addresses: dict[str, set[str]] = field(default_factory=dict)
    _manifests: dict[str, _Manifest] = field(default_factory=dict)

    def holders(self) -> Holders:
        """Who has what."""
        addresses = {disk: tuple(sorted(found)) for disk, found in self._addresses.items()}
        return Holders(self._disks, addresses)

    def find(self, executor: Executor, paths: Sequence[str]) -> dict[str, Rekeyed]:
        """Ask all hosts which of these files they have on their disks; remembers who has what.

        Cost: one message to a worker of each host, which looks at its disk.
        """
        if not paths:
            return {}
        known = known_hosts(executor)
        if known:  # else nobody answers, and what is known is the best guess
            self._addresses = {disk: set(found) for disk, found in known.items()}
        found: dict[str, Rekeyed] = {}
        for handles in ask_hosts(executor, self._addresses, paths):
            for handle in handles:
                found.setdefault(handle.path, handle)
                self.learn(handle)
        return found

    def learn(self, handle: Rekeyed) -> None:
        """Remember who has a file."""
        if handle.disk:
            self._disks[handle.path] = handle.disk
            self._addresses.setdefault(handle.disk, set()).add(handle.address)

    def remember(self, tasks: Iterable[tuple[str, Task]]) -> None:
        """Remember which task makes which file."""
        self._tasks.update(tasks)

    def write(self, folder: str, entries: list[Entry]) -> str:
        """Write a manifest of files whose tasks are remembered; returns its path."""
        path = write_manifest(folder, entries, self.holders())
        self._manifests[path] = _Manifest(folder, entries)
        return path

    def remake(self, executor: Executor, errors: list[FetchFailed]) -> None:
        """Make the files again that no host has any more, and write their manifests anew.

        Raises
        ------
        FetchFailed
            If nobody knows how a file is made.
        """
        missing = dict.fromkeys(name for error in errors for name in error.missing)
        for error in errors:
            if unknown := [name for name in error.missing if name not in self._tasks]:
                raise FetchFailed(error.manifest, tuple(unknown), error.reason)
        for name in missing:
            self._disks.pop(name, None)
        local = [name for name in missing if self._tasks[name] and _is_local_to_a_host(name)]
        there = self.find(executor, local)
        lost = [name for name in missing if name not in there]
        log.info("%d exchange files are lost (%s); making them again", len(lost), errors[0].reason)
        run_tasks(executor, [self._tasks[name] for name in lost], lambda _, handle: self.learn(handle))
        self.made += len(lost)
        for manifest in self._manifests.values():
            if any(entry[0] in missing for entry in manifest.entries):
                write_manifest(manifest.folder, manifest.entries, self.holders())


def _is_local_to_a_host(name: str) -> bool:
    from featureflow.execute.exchange.places import SCRATCH

    return name.startswith(SCRATCH)
