"""What is used of Dask's private interface for slices: a worker's handler, its connection pool, streamed answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clusters.hosts import Hosts, start_hosts
from exchange.slice_tasks import ROWS, ask_for_slices, write_slices

from featureflow.execute.exchange.slice_server import call_on_workers, install_servers

pytestmark = [pytest.mark.clusters, pytest.mark.timeout(300)]
TESTS = str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with start_hosts(2, tmp_path_factory.mktemp("hosts"), environment={"PYTHONPATH": TESTS}) as running:
        install_servers(running.client, "/nowhere")
        yield running


def test_slices_come_in_pieces_and_whole(hosts: Hosts) -> None:
    first, second = sorted(hosts.client.scheduler_info(n_workers=-1)["workers"])
    names = ("scratch:exchange/a.arrow", "scratch:exchange/b.arrow")
    for name in names:
        disk, address = hosts.client.submit(write_slices, name, workers=[second], pure=False).result()
        assert (bool(disk), address) == (True, second)
    asked = (*names, "scratch:exchange/gone.arrow", "scratch:../../etc/passwd")
    for bucket in (0, 1, 0):  # the connection of the first request serves the others
        sums, reason, _ = hosts.client.submit(
            ask_for_slices, (second,), asked, bucket, workers=[first], pure=False
        ).result()
        assert sums == dict.fromkeys(names, int(np.arange(bucket, ROWS, 2).sum()))
        assert reason == "2 files are not on their host any more"


def test_the_next_address_is_asked_and_a_dead_one_costs_seconds(hosts: Hosts) -> None:
    first, second = sorted(hosts.client.scheduler_info(n_workers=-1)["workers"])
    name = "scratch:exchange/c.arrow"
    hosts.client.submit(write_slices, name, workers=[second], pure=False).result()
    nobody = "tcp://127.0.0.9:9"
    sums, _, seconds = hosts.client.submit(
        ask_for_slices, (nobody, second), (name,), 0, workers=[first], pure=False
    ).result()
    assert list(sums) == [name]
    sums, reason, _ = hosts.client.submit(
        ask_for_slices, (nobody,), (name,), 0, workers=[first], pure=False
    ).result()
    assert sums == {}
    assert nobody in reason
    assert seconds < 60


def test_workers_without_the_plugin_say_so(hosts: Hosts) -> None:
    from featureflow.execute.clusters.hosts import disk_here

    found = call_on_workers(hosts.client, disk_here, (), None, 30.0)
    assert len(set(found.values())) == 2
    hosts.client.unregister_worker_plugin("featureflow-slices")
    assert set(call_on_workers(hosts.client, disk_here, (), None, 30.0).values()) == {""}
    install_servers(hosts.client, "/nowhere")
    assert call_on_workers(hosts.client, disk_here, (), None, 30.0) == found
