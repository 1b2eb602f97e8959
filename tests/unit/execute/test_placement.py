"""Placement: the same everywhere, balanced, and little moves when hosts come and go."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from featureflow.execute.placement.placement import BOUND, Directory, Rendezvous, place
from featureflow.execute.task import Task

NAMES = st.lists(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=12, unique=True)


def task(key: str, *reads: tuple[str, int]) -> Task:
    return Task(key, print, (), key, reads)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[dict[str, int], list[Task], dict[str, dict[str, int]]]:
    hosts = {name: draw(st.integers(1, 16)) for name in draw(NAMES)}
    sizes = draw(st.lists(st.integers(1, 1000), min_size=1, max_size=60))
    tasks = [task(f"t{i}", (f"chunk{i}", size)) for i, size in enumerate(sizes)]
    held = {
        f"chunk{i}": {draw(st.sampled_from([*hosts, "gone"])): size}
        for i, size in enumerate(sizes)
        if draw(st.booleans())
    }
    return hosts, tasks, held


@given(clusters())
def test_every_task_has_a_host_and_none_has_too_much(given_: tuple) -> None:
    hosts, tasks, held = given_
    placed = place(tasks, hosts, held)
    assert set(placed) == {t.key for t in tasks}
    load = Counter()
    for one in tasks:
        load[placed[one.key]] += one.reads[0][1]
    total, threads = sum(load.values()), sum(hosts.values())
    largest = max(one.reads[0][1] for one in tasks)
    for host, there in load.items():
        assert there <= BOUND * total * hosts[host] / threads + largest + 1e-6
    assert placed == place(tasks, dict(reversed(hosts.items())), held), "the order of hosts says nothing"


@given(clusters())
def test_bytes_decide_unless_their_host_is_full(given_: tuple) -> None:
    hosts, tasks, held = given_
    placed = place(tasks, hosts, held)
    load = Counter()
    for one in tasks:
        load[placed[one.key]] += one.reads[0][1]
    total, threads = sum(load.values()), sum(hosts.values())
    largest = max(one.reads[0][1] for one in tasks)
    for one in tasks:
        holder = next(iter(held.get(one.reads[0][0], {})), None)
        if holder in hosts and placed[one.key] != holder:
            full = BOUND * total * hosts[holder] / threads + largest - one.reads[0][1]
            assert load[holder] > full - 1e-6


@given(NAMES, st.integers(0, 2**32))
def test_when_a_host_leaves_only_its_names_move(names: list[str], seed: int) -> None:
    hosts = dict.fromkeys([*names, "last"], 2)
    chunks = [f"chunk{random.Random(seed + i).random()}" for i in range(100)]

    def first(threads: dict[str, int]) -> dict[str, str]:
        ranks = Rendezvous(threads)
        return {chunk: ranks.hosts[int(ranks.weights(chunk).argmax())] for chunk in chunks}

    before = first(hosts)
    after = first({host: n for host, n in hosts.items() if host != "last"})
    assert all(after[chunk] == before[chunk] for chunk in chunks if before[chunk] != "last")


def test_bounded_placement_moves_little_too() -> None:
    tasks = [task(f"t{i}", (f"chunk{i}", 100)) for i in range(2000)]
    hosts = {f"10.0.0.{i}": 4 for i in range(20)}
    before = place(tasks, hosts, {})
    after = place(tasks, {host: n for host, n in hosts.items() if host != "10.0.0.7"}, {})
    moved = sum(before[key] != after[key] for key in before)
    lost = list(before.values()).count("10.0.0.7")
    assert lost <= moved <= 3 * lost, "its own 5 %, and what the bound pushes on"


def test_names_are_spread_by_threads() -> None:
    ranks = Rendezvous({"small": 1, "large": 3})
    found = Counter(ranks.hosts[int(ranks.weights(f"chunk{i}").argmax())] for i in range(4000))
    assert 0.22 < found["small"] / 4000 < 0.28


def test_a_placement_is_the_same_on_every_machine() -> None:
    tasks = [task(f"t{i}", (f"chunk{i}", 10)) for i in range(8)]
    placed = place(tasks, {"10.0.0.1": 4, "10.0.0.2": 4, "10.0.0.3": 4}, {})
    assert "".join(placed[f"t{i}"][-1] for i in range(8)) == "13321123"


def test_the_host_with_most_bytes_of_several_reads() -> None:
    one = task("t", ("x", 100), ("y", 100), ("z", 300))
    hosts = {"a": 1, "b": 1, "c": 1}
    assert place([one], hosts, {"x": {"a": 100}, "y": {"a": 100}, "z": {"b": 150}})["t"] == "a"
    assert place([one], hosts, {"x": {"a": 100}, "y": {"a": 100}, "z": {"b": 250}})["t"] == "b"
    # more than it reads is no reason
    assert place([one], hosts, {"x": {"a": 100}, "y": {"a": 100}, "z": {"b": 150, "c": 10**9}})["t"] == "c"
    assert place([one], hosts, {"x": {"a": 10**9}, "z": {"b": 150}})["t"] == "b"


def test_what_reads_nothing_is_not_placed() -> None:
    assert place([task("t")], {"a": 1, "b": 1}, {}) == {}
    assert place([task("t", ("x", 1))], {}, {}) == {}


def test_load_that_is_there_already_counts() -> None:
    tasks = [task(f"t{i}", (f"chunk{i}", 100)) for i in range(40)]
    placed = place(tasks, {"a": 1, "b": 1}, {}, {"a": 4000})
    assert list(placed.values()).count("b") >= 35, "a may have 4,500 of the 8,000"
    assert set(place(tasks[:2], {"a": 1, "b": 1}, {}, {"a": 10**9, "b": 10**9})) == {"t0", "t1"}


def test_the_directory_adds_up_what_hosts_say() -> None:
    directory = Directory()
    directory.change("a", {"x": 10, "y": 5})
    directory.change("b", {"x": 7})
    directory.change("a", {"x": 3, "y": -5})
    assert directory.of(["x", "y", "z"]) == {"x": {"a": 13, "b": 7}}
    directory.replace("a", {"z": 1})
    assert directory.of(["x", "y", "z"]) == {"x": {"b": 7}, "z": {"a": 1}}
    directory.remove("b")
    assert directory.held == {"z": {"a": 1}}
    directory.change("a", {"z": -100})
    assert directory.held == {}
    assert directory.known == {"a"}, "b has only said what changed, and is gone"


def test_of_hosts_that_have_the_same_the_less_loaded_one_is_taken() -> None:
    tasks = [task(f"t{i}", (f"chunk{i}", 100)) for i in range(40)]
    held = {f"chunk{i}": {"a": 100, "b": 100} for i in range(40)}
    assert Counter(place(tasks, {"a": 1, "b": 1}, held).values()) == {"a": 20, "b": 20}


def test_what_has_one_host_only_gets_there_first() -> None:
    both = {f"chunk{i}": {"a": 100, "b": 100} for i in range(20)}
    only = {f"chunk{i}": {"a": 100} for i in range(20, 40)}
    tasks = [task(f"t{i}", (f"chunk{i}", 100)) for i in range(40)]
    placed = place(tasks, {"a": 1, "b": 1}, both | only)
    assert all(placed[f"t{i}"] == "a" for i in range(20, 40))
    assert all(placed[f"t{i}"] == "b" for i in range(2, 20))
