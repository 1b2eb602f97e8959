"""Builds through a dask-gateway server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters.builds import contents, make_project
from clusters.gateway import start_gateway

import featureflow as ff

pytest.importorskip("dask_gateway", reason="pip install dask-gateway")
pytest.importorskip("dask_gateway_server", reason="pip install 'dask-gateway-server[local]'")
pytestmark = [pytest.mark.clusters, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_gateway(tmp_path_factory.mktemp("gateway") / "it") as found:
        yield found


def test_a_build(address: str, tmp_path: Path) -> None:
    targets = f"""
targets:
  gateway:
    cluster: {{class: dask_gateway.GatewayCluster, address: "{address}", auth: basic}}
    workers: 2
    scratch: {tmp_path}/scratch
"""
    spec = make_project(tmp_path / "project", targets=targets)
    ff.Project(
        str(spec), store=str(tmp_path / "expected"), scheduler="threads", scratch=tmp_path / "own"
    ).build()
    ff.Project(str(spec), store=str(tmp_path / "store"), target="gateway").build()
    assert contents(tmp_path / "store") == contents(tmp_path / "expected")

    from dask_gateway import Gateway

    with Gateway(address, auth="basic") as gateway:
        assert gateway.list_clusters() == []  # what we started we have ended


def test_no_gateway(tmp_path: Path) -> None:
    targets = """
targets:
  gateway: {cluster: {class: dask_gateway.GatewayCluster, address: "http://127.0.0.1:9", auth: basic}}
"""
    spec = make_project(tmp_path / "project", files=1, targets=targets)
    with pytest.raises(ff.Unreachable, match="could not be started"):
        ff.Project(str(spec), store=str(tmp_path / "store"), target="gateway", scratch=tmp_path / "s").build()


def test_words_of_its_own(tmp_path: Path) -> None:
    targets = """
targets:
  gateway: {cluster: {class: dask_gateway.GatewayCluster, address: "http://127.0.0.1:9"}, threads: 4}
"""
    spec = make_project(tmp_path / "project", files=1, targets=targets)
    with pytest.raises(ff.PlanError, match="has its own words"):
        ff.Project(str(spec), store=str(tmp_path / "store"), target="gateway", scratch=tmp_path / "s").build()
