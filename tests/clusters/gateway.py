"""A dask-gateway server with its local backend, which starts processes of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from clusters.hosts import free_port

_CONFIGURATION = """
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.DaskGateway.address = "127.0.0.1:{private}"
c.Proxy.address = "127.0.0.1:{public}"
c.UnsafeLocalBackend.clusters_directory = "{folder}/clusters"
c.UnsafeLocalBackend.cluster_heartbeat_period = 2
c.UnsafeLocalBackend.cluster_heartbeat_timeout = 60  # a loaded machine answers late
c.ClusterConfig.scheduler_cmd = ["{python}", "-W", "ignore", "-m", "dask", "scheduler"]
c.ClusterConfig.worker_cmd = ["{python}", "-W", "ignore", "-m", "dask", "worker"]
c.ClusterConfig.worker_cores = 1
c.ClusterConfig.worker_memory = "2 G"
c.ClusterConfig.environment = {environment!r}
"""


@contextmanager
def start_gateway(folder: Path) -> Iterator[str]:
    """Start it; gives its address. All clusters that it has started end with it."""
    folder.mkdir(parents=True)
    public = free_port()
    configuration = folder / "gateway.py"
    configuration.write_text(
        _CONFIGURATION.format(
            folder=folder,
            python=sys.executable,
            public=public,
            private=free_port(),
            environment={name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        )
    )
    log = (folder / "gateway.log").open("ab")
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "dask_gateway_server", "-f", str(configuration)],
        stdout=log,
        stderr=log,
        cwd=folder,
    )
    log.close()
    address = f"http://127.0.0.1:{public}"
    try:
        _wait(f"{address}/api/health", server, folder)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(20)


def _wait(url: str, server: subprocess.Popen[bytes], folder: Path, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "gateway.log").read_text()[-3000:]) from None
            time.sleep(0.2)
