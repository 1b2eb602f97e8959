"""What clusters leave behind in this process is complained about in the test that used them."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Dask's clients and dask-jobqueue leave files and sockets to the garbage collector, which warns about them."""
    yield
    gc.collect()
