"""What waits for which host, and how much is in flight there: the driver's side of placing tasks."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from featureflow.execute.placement.placement import Holdings, place
from featureflow.execute.task import Task

#: Tasks in flight for each thread: enough to hide the round trip, few enough that one poison task fails alone.
IN_FLIGHT_PER_SLOT = 3
#: So many tasks are placed together: a host that is full now must be known to get its own bytes' tasks later.
HORIZON = 20_000
#: How often it looks which hosts there are, in seconds.
LOOK_SECONDS = 1.0
#: The lane of tasks that may run anywhere.
ANYWHERE = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """What lanes ask about where tasks can run.

    ``hosts`` gives threads by host, now; empty where there are none to choose from. ``slots`` are all threads, now.
    ``holdings`` gives bytes by host for names of what tasks read.
    """

    hosts: Callable[[], Mapping[str, int]]
    slots: Callable[[], int]
    holdings: Callable[[Iterable[str]], Holdings]


class Lanes:
    """Tasks of a stage, waiting and in flight.

    Tasks that read something are given a host, many at once, and wait in that host's lane; the others are taken by
    whoever is free. At most three per thread of a host are in flight. A host whose lane has run dry takes from the
    longest one.
    """

    def __init__(self, tasks: Iterable[Task], cluster: Cluster) -> None:
        self._tasks: Iterator[Task] = iter(tasks)
        self._cluster = cluster
        self._hosts: dict[str, int] = {}
        self._slots = 1
        self._looked = float("-inf")
        self._waiting: dict[str, deque[Task]] = {ANYWHERE: deque()}
        self._flying: dict[str, Task] = {}
        self._flying_at: dict[str, int] = {}
        self._reading = False  # whether the tasks taken last are placed
        self._touched: set[str] = set()  # hosts where something has changed since the last batch

    @property
    def in_flight(self) -> int:
        """Tasks that have been given out and are not done."""
        return len(self._flying)

    def done(self, key: str) -> Task:
        """A task has come back."""
        task = self._flying.pop(key)
        self._flying_at[task.host] -= 1
        self._touched.add(task.host)
        return task

    def retry(self, task: Task) -> None:
        """A task has to be run again, anywhere: the host may have been the reason."""
        self._waiting[ANYWHERE].appendleft(replace(task, host=ANYWHERE))

    def add(self, tasks: Iterable[Task]) -> None:
        """More tasks."""
        self._place(list(tasks))

    def alone(self, task: Task) -> Task:
        """Give out a task past all lanes."""
        return self._give(task)

    def next_batch(self) -> list[Task]:
        """Tasks to start now; nothing where so much is in flight that it can wait for more room.

        A batch costs the scheduler a third of what as many single tasks cost.
        """
        self._look()
        self._pull()
        anywhere = self._waiting[ANYWHERE]
        room = IN_FLIGHT_PER_SLOT * self._slots - len(self._flying)
        batch: list[Task] = []
        # beside lanes they are few, and some have waited for a second start: they go first
        if room >= self._slots or not self._flying or (self._hosts and room > 0):
            batch += [self._give(anywhere.popleft()) for _ in range(min(room, len(anywhere)))]
        touched, self._touched = self._touched, set()
        for host in touched & self._hosts.keys():
            threads = self._hosts[host]
            room = IN_FLIGHT_PER_SLOT * threads - self._flying_at.get(host, 0)
            if room >= threads:
                batch += [self._give(task, host) for task in self._taken(host, room)]
        return batch

    def _give(self, task: Task, host: str = ANYWHERE) -> Task:
        task = replace(task, host=host)
        self._flying[task.key] = task
        self._flying_at[host] = self._flying_at.get(host, 0) + 1
        return task

    def _taken(self, host: str, room: int) -> Iterator[Task]:
        lane = self._waiting.setdefault(host, deque())
        for _ in range(room):
            if not lane:
                break
            yield lane.popleft()
        else:
            return
        if self._flying_at.get(host, 0) < self._hosts[host]:  # a thread would have nothing to do
            longest = max(self._hosts, key=lambda h: len(self._waiting.get(h, ())) / self._hosts[h])
            lane = self._waiting.get(longest, deque())
            if len(lane) > IN_FLIGHT_PER_SLOT * self._hosts[longest]:  # it would take that host a while
                for _ in range(self._hosts[host]):
                    yield lane.pop()

    def _look(self) -> None:
        """Which hosts are there; a change places anew what waits."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        found = dict(self._cluster.hosts())
        self._slots = max(1, self._cluster.slots())
        if len(found) < 2:  # nothing to choose
            found = {}
        if found != self._hosts:
            self._hosts = found
            waiting = [task for host, lane in self._waiting.items() if host for task in lane]
            self._waiting = {ANYWHERE: self._waiting[ANYWHERE]}
            self._place(waiting)
        self._touched.update(self._hosts)

    def _pull(self) -> None:
        """Take tasks from the source: as many as there is room for, or as many as are placed together."""
        waiting = sum(len(lane) for lane in self._waiting.values())
        # lanes need something to choose from; the others are taken from the source when they can start
        room = IN_FLIGHT_PER_SLOT * self._slots - waiting - (0 if self._reading else len(self._flying))
        if room <= 0:
            return
        pulled = list(islice(self._tasks, room))
        self._reading = bool(self._hosts) and any(task.reads for task in pulled)
        if self._reading:
            pulled += islice(self._tasks, HORIZON)
        self._place(pulled)
        if pulled:
            self._touched.update(self._hosts)

    def _place(self, tasks: list[Task]) -> None:
        reading = [task for task in tasks if task.reads] if self._hosts else []
        placed: dict[str, str] = {}
        if reading:
            holdings = self._cluster.holdings(dict.fromkeys(name for t in reading for name, _ in t.reads))
            load = {host: sum(_size(task) for task in lane) for host, lane in self._waiting.items() if host}
            for task in self._flying.values():
                load[task.host] = load.get(task.host, 0) + _size(task)
            placed = place(reading, self._hosts, holdings, load)
        for task in tasks:
            self._waiting.setdefault(placed.get(task.key, ANYWHERE), deque()).append(task)


def _size(task: Task) -> int:
    return max(1, sum(size for _, size in task.reads))
