"""A server, a proxy before it and drivers to be killed; the figures of a run are printed at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.drivers import Drivers
from servers.fault_proxy import FaultProxy
from servers.s3_fixtures import bucket, s3, s3_server
from servers.seaweedfs import S3Server, environment_of

__all__ = ["bucket", "s3", "s3_server"]

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
