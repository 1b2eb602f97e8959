from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from featureflow.core import meter
from featureflow.core.meter import carried, counted, metering, moved, spending, spent


class Clock:
    """A clock that moves only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ticking = Clock()
    monkeypatch.setattr(meter.time, "perf_counter", ticking)
    return ticking


def test_blocks_inside_count_once(clock: Clock) -> None:
    with metering() as found, spent("remote read"):
        clock.now += 1
        with spent("decode"):
            clock.now += 2
            with spent("compute:sort"):
                clock.now += 4
        with spent("decode"):
            clock.now += 8
        clock.now += 16
    assert found.seconds == {"compute:sort": 4, "decode": 10, "remote read": 17}
    assert not found.beside


def test_a_block_that_fails_is_counted_and_closed(clock: Clock) -> None:
    with metering() as found:
        with pytest.raises(KeyError), spent("write"), spent("encode"):
            clock.now += 3
            raise KeyError
        with spent("commit"):
            clock.now += 1
    assert found.seconds == {"encode": 3, "write": 0, "commit": 1}


def test_nothing_is_measured_unasked(clock: Clock) -> None:
    with spent("decode"):
        clock.now += 1
    moved("decode", 1)
    counted("cache hits")
    with metering() as found:
        pass
    assert (found.seconds, found.bytes, found.counts) == ({}, {}, {})
    function = len
    assert carried(function) is function


def test_measurements_do_not_mix(clock: Clock) -> None:
    """As a task that runs in the driver's thread while the driver is measured, too."""
    with metering() as outer, spent("commit"):
        clock.now += 1
        with metering() as inner, spent("decode"):
            clock.now += 2
        clock.now += 4
    assert inner.seconds == {"decode": 2}
    assert outer.seconds == {"commit": 7}


def test_what_was_spent_so_far_has_the_open_blocks(clock: Clock) -> None:
    assert not meter.spent_so_far()
    with metering():
        with spent("remote read"):
            clock.now += 1
            with spent("decode"):
                clock.now += 2
            clock.now += 4
            with spent("decode"):
                clock.now += 8
                assert meter.spent_so_far() == {"decode": 10, "remote read": 5}
            assert meter.spent_so_far() == {"decode": 10, "remote read": 5}
        assert meter.spent_so_far() == {"decode": 10, "remote read": 5}


def test_bytes_and_counts(clock: Clock) -> None:
    with metering() as found:
        moved("remote read", 5)
        moved("remote read", 6)
        counted("cache hits")
        counted("cache hits", 2)
    assert found.bytes == {"remote read": 11}
    assert found.counts == {"cache hits": 3}


def test_a_function_whose_calls_count(clock: Clock) -> None:
    @spending("compute:sort")
    def order(values: list[int]) -> list[int]:
        clock.now += 1
        return sorted(values)

    assert order([2, 1]) == [1, 2]
    with metering() as found:
        order([1])
        order([1])
    assert found.seconds == {"compute:sort": 2}
    assert order.__name__ == "order"


def test_who_asks_a_store_says_what_for(clock: Clock) -> None:
    """A decoder's reads are remote reads; an exchange's and a commit's are their own."""

    @meter.waiting_for_store("remote read")
    def ask() -> bytes:
        clock.now += 1
        return b"12345"

    ask()
    with metering() as found:
        ask()
        with spent("decode"), spent("compute:rows"):
            ask()
        with spent("exchange:store"), spent("decode"):
            ask()
        with spent("commit"):
            ask()
    assert found.seconds == {
        "remote read": 2,
        "exchange:store": 0,
        "decode": 1,
        "compute:rows": 0,
        "commit": 1,
    }
    assert found.bytes == {"remote read": 10}


def test_other_threads_are_kept_apart() -> None:
    """Four threads read for a task at once: their seconds do not become the task's, their bytes do."""
    barrier = threading.Barrier(4, timeout=10)

    def read(_: int) -> None:
        with spent("remote read"):
            barrier.wait()
            with spent("decode"):
                time.sleep(0.05)
            moved("remote read", 10)
            counted("requests")

    with metering() as found, ThreadPoolExecutor(4) as pool:
        begun = time.perf_counter()
        with spent("remote read"):
            list(pool.map(carried(read), range(4)))
        whole = time.perf_counter() - begun
    assert found.seconds["remote read"] <= whole
    assert set(found.seconds) == {"remote read"}, "the waiting thread waited for what it said"
    assert found.beside["decode"] >= 4 * 0.05
    assert set(found.beside) == {"remote read", "decode"}
    assert found.bytes == {"remote read": 40}
    assert found.counts == {"requests": 4}


def test_threads_that_are_not_told_measure_nothing() -> None:
    def work() -> None:
        with spent("decode"):
            moved("decode", 1)

    with metering() as found, ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()
    assert (found.seconds, found.beside, found.bytes) == ({}, {}, {})


def test_no_count_is_lost_between_threads() -> None:
    def count(_: int) -> None:
        for _ in range(2000):
            counted("requests")
            moved("exchange", 3)
            with spent("decode"):
                pass

    with metering() as found, ThreadPoolExecutor(8) as pool:
        list(pool.map(carried(count), range(8)))
    assert found.counts == {"requests": 16_000}
    assert found.bytes == {"exchange": 48_000}
