"""The proxy that fault tests trust does what its rules say, once for each request, and counts it."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from servers.fault_proxy import FaultProxy, Rule

BODY = bytes(range(256)) * 40


class Store(BaseHTTPRequestHandler):
    """Remembers what was asked."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str, bytes, str]]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.asked.append((self.command, self.path, body, self.headers["Host"]))
        content = b"" if self.command == "PUT" else BODY
        self.send_response(200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content))
            return
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_HEAD = answer

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def asked() -> list[tuple[str, str, bytes, str]]:
    return []


@pytest.fixture
def proxy(asked: list[Any]) -> Iterator[FaultProxy]:
    handler = type("Handler", (Store,), {"asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        with FaultProxy(f"http://127.0.0.1:{server.server_port}", seed=1) as made:
            yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(
    proxy: FaultProxy, method: str = "GET", path: str = "/a", body: bytes | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", int(proxy.url.rpartition(":")[2]), timeout=5)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


BROKEN = (ConnectionError, http.client.IncompleteRead, http.client.RemoteDisconnected)


def test_without_rules_bytes_pass_unchanged(proxy: FaultProxy, asked: list[Any]) -> None:
    assert ask(proxy) == (200, BODY)
    assert ask(proxy, path="/chunked") == (200, BODY)
    assert ask(proxy, "HEAD") == (200, b"")
    assert ask(proxy, "PUT", "/p?x=1", BODY) == (200, b"")
    host = proxy.url.removeprefix("http://")
    assert asked[-1] == ("PUT", "/p?x=1", BODY, host)  # the host that the client signed
    assert [(s.method, s.status, s.sent) for s in proxy.log] == [
        ("GET", 200, 0),
        ("GET", 200, 0),
        ("HEAD", 200, 0),
        ("PUT", 200, len(BODY)),
    ]
    assert proxy.count("GET") == 2
    assert not proxy.faults


def test_a_client_that_waits_for_leave_to_send(proxy: FaultProxy, asked: list[Any]) -> None:
    """As botocore does for every PUT."""
    connection = http.client.HTTPConnection("127.0.0.1", int(proxy.url.rpartition(":")[2]), timeout=5)
    connection.putrequest("PUT", "/e")
    connection.putheader("Expect", "100-continue")
    connection.putheader("Content-Length", "3")
    connection.endheaders()
    assert connection.sock.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.send(b"abc")
    assert connection.getresponse().status == 200
    connection.close()
    assert asked[0][2] == b"abc"


@pytest.mark.parametrize("action", ["reset", "drop", "truncate", "hang"])
def test_broken_connections(proxy: FaultProxy, asked: list[Any], action: str) -> None:
    proxy.add(Rule(action, method="GET", count=1, skip=1))
    assert ask(proxy) == (200, BODY)
    with pytest.raises(BROKEN):
        ask(proxy)
    assert ask(proxy) == (200, BODY)
    assert len(asked) == (3 if action in ("drop", "truncate") else 2)
    assert proxy.faults == {action: 1}


def test_refusals_come_before_or_after(proxy: FaultProxy, asked: list[Any]) -> None:
    before = proxy.add(Rule("status", status=503, count=1))
    assert ask(proxy, "PUT", body=b"x")[0] == 503
    assert asked == []
    proxy.add(Rule("status after", status=500))
    assert ask(proxy, "PUT", body=b"x")[0] == 500
    assert len(asked) == 1
    assert before.hits == 1


def test_one_flipped_bit(proxy: FaultProxy) -> None:
    proxy.add(Rule("corrupt"))
    status, found = ask(proxy)
    assert status == 200
    assert len(found) == len(BODY)
    assert sum((a ^ b).bit_count() for a, b in zip(found, BODY, strict=True)) == 1


def test_probabilities_follow_the_seed_not_the_order(proxy: FaultProxy) -> None:
    paths = [f"/{i}" for i in range(40)]
    proxy.add(Rule("status", probability=0.3))
    first = {path: ask(proxy, path=path)[0] for path in paths}
    proxy.clear()
    proxy.add(Rule("status", probability=0.3))
    assert {path: ask(proxy, path=path)[0] for path in reversed(paths)} == first
    assert 4 < sum(status == 503 for status in first.values()) < 20


@pytest.mark.parametrize(("action", "done"), [("kill before", 0), ("kill after", 1)])
def test_kills(proxy: FaultProxy, asked: list[Any], action: str, done: int) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    proxy.add(Rule(action, victim=lambda: child.pid, count=1))
    with pytest.raises(BROKEN):
        ask(proxy, "PUT", body=b"x")
    assert child.wait(5) == -9
    assert len(asked) == done


def test_calls_and_latency_are_combined(proxy: FaultProxy) -> None:
    called: list[int] = []
    proxy.add(Rule("call", function=lambda: called.append(1)))
    proxy.add(Rule("latency", seconds=0.01))
    assert ask(proxy) == (200, BODY)
    assert called == [1]
    assert proxy.faults == {"call": 1, "latency": 1}


def test_unknown_actions_are_refused() -> None:
    with pytest.raises(ValueError, match="'explode' is none of"):
        Rule("explode")
