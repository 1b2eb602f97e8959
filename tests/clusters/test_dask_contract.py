"""What placement relies on in the installed Dask: host names as `workers=`, events, plugins that hear them."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters.hosts import Hosts, start_hosts
from distributed import Client, Scheduler, SchedulerPlugin

from featureflow.execute.placement.host import host_of
from featureflow.execute.placement.locality import DIRECTORY, TOPIC, Locality

pytestmark = pytest.mark.clusters


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    # workers import the functions of this module
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    with start_hosts(2, tmp_path_factory.mktemp("hosts"), environment=environment) as running:
        yield running


def _restrictions(keys: list[str], dask_scheduler: Any) -> list[tuple[Any, bool]]:
    found = [dask_scheduler.tasks[key] for key in keys]
    return [(ts.host_restrictions, ts.loose_restrictions) for ts in found]


def test_a_host_name_restricts_to_the_host_and_loosely(hosts: Hosts) -> None:
    client = hosts.client
    for host in ("127.0.0.2", "127.0.0.3"):
        futures = client.map(_where, range(8), workers=[host], allow_other_workers=True, pure=False)
        assert host in client.gather(futures), "others that are idle may steal some"
        said = client.run_on_scheduler(_restrictions, keys=[future.key for future in futures])
        assert said == [({host}, True)] * 8
        strictly = client.map(_where, range(8), workers=[host], pure=False)
        assert client.gather(strictly) == [host] * 8
    elsewhere = client.submit(_where, 0, workers=["127.0.0.9"], allow_other_workers=True, pure=False)
    assert elsewhere.result(timeout=30) in {"127.0.0.2", "127.0.0.3"}, "a host that is gone holds nothing up"


def _where(_: int) -> str:
    from distributed import get_worker

    return host_of(get_worker().address)


def test_a_host_is_found_again_under_another_port(hosts: Hosts) -> None:
    client = hosts.client
    before = {address for address in client.nthreads() if host_of(address) == "127.0.0.3"}
    hosts.kill(1)
    hosts.wait()
    waiting = client.submit(_where, 1, workers=["127.0.0.3"], allow_other_workers=False, pure=False)
    hosts.start(1)
    hosts.wait()
    assert waiting.result(timeout=60) == "127.0.0.3"
    assert {address for address in client.nthreads() if host_of(address) == "127.0.0.3"} != before


def test_events_of_workers_are_heard_by_plugins_and_drivers(hosts: Hosts) -> None:
    client = hosts.client
    heard: list[Any] = []
    client.subscribe_topic("topic-of-a-test", lambda event: heard.append(event[1]))
    deadline = time.monotonic() + 30
    while not heard and time.monotonic() < deadline:  # a subscription takes effect at some time
        client.log_event("topic-of-a-test", "hello")
        time.sleep(0.2)
    time.sleep(0.5)
    hellos = len(client.get_events("topic-of-a-test"))
    heard.clear()
    client.run(_say)
    while len(heard) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [said["n"] for said in heard] == [1, 1]
    assert [said["n"] for _, said in client.get_events("topic-of-a-test")[hellos:]] == [1, 1]
    client.unsubscribe_topic("topic-of-a-test")


def _say(dask_worker: Any) -> None:
    dask_worker.log_event("topic-of-a-test", {"n": 1})


def test_hooks_have_the_parameters_that_we_name() -> None:
    assert list(inspect.signature(SchedulerPlugin.log_event).parameters) == ["self", "topic", "msg"]
    assert {"scheduler", "worker"} <= set(inspect.signature(SchedulerPlugin.remove_worker).parameters)
    assert "topic" in inspect.signature(Scheduler.get_events).parameters
    assert {"workers", "allow_other_workers"} <= set(inspect.signature(Client.map).parameters)


def _tell(held: dict[str, int], whole: bool, dask_worker: Any) -> None:
    dask_worker.log_event(TOPIC, {"host": host_of(dask_worker.address), "whole": whole, "held": held})


def _forget(dask_scheduler: Any) -> None:
    dask_scheduler.plugins.pop(DIRECTORY, None)


@pytest.mark.parametrize("refused", [False, True])
def test_the_directory_is_kept_by_the_scheduler_or_else_here(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    client = hosts.client
    client.run_on_scheduler(_forget)
    client.run(_tell, held={f"before {refused}": 5}, whole=True, workers=[_address(client, "127.0.0.2")])
    if refused:

        def no(plugin: Any) -> None:
            raise ModuleNotFoundError("featureflow")

        monkeypatch.setattr(client, "register_plugin", no)
    locality = Locality(client)
    assert locality.kept_here == refused
    client.run(_tell, held={f"after {refused}": 7}, whole=False)
    deadline = time.monotonic() + 30
    wanted = {f"before {refused}": {"127.0.0.2": 5}, f"after {refused}": {"127.0.0.2": 7, "127.0.0.3": 7}}
    asked = [*wanted, "never"]
    while locality.holdings(asked) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    assert locality.holdings(asked) == wanted


def _address(client: Client, host: str) -> str:
    return next(address for address in client.nthreads() if host_of(address) == host)


def test_a_host_that_is_gone_holds_nothing(hosts: Hosts) -> None:
    client = hosts.client
    client.run_on_scheduler(_forget)
    locality = Locality(client)
    client.run(_tell, held={"x": 7}, whole=True)
    deadline = time.monotonic() + 30
    while len(locality.holdings(["x"]).get("x", {})) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    hosts.kill(1)
    hosts.wait()
    assert locality.holdings(["x"]) == {"x": {"127.0.0.2": 7}}
    hosts.start(1)
    hosts.wait()
