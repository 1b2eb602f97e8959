"""An HTTP proxy that goes wrong on request: stands between a client and an object store, and does what rules say.

The request's bytes are passed on as they came, ``Host`` included, so that S3 signatures stay valid. Which requests a
rule with a probability hits depends on the seed and on what is asked how often, not on the order of threads.

    with FaultProxy("http://127.0.0.1:8333", seed=7) as proxy:
        proxy.add(Rule("latency", seconds=0.15, method="GET"))
        proxy.add(Rule("status", status=503, probability=0.2))
        proxy.add(Rule("drop", method="PUT", path=r"/_delta_log/", count=1))   # done, but the reply is lost
        ...                                                                    # the client talks to proxy.url
        assert proxy.count("PUT") == 3
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

ACTIONS = frozenset(
    {
        "latency",  # wait `seconds`, then go on with the next rule
        "status",  # answer `status` without asking the store
        "reset",  # break the connection without asking the store
        "hang",  # no answer for `seconds`, then break the connection
        "truncate",  # the store's answer stops in the middle, and the connection breaks
        "corrupt",  # one bit of the answer's body is another one
        "drop",  # the store does it, and the reply is lost
        "status after",  # the store does it, and the client is told `status`
        "kill before",  # SIGKILL of `victim` before the store is asked
        "kill after",  # SIGKILL of `victim` after the store has done it, before the reply
        "call",  # call `function` before the store is asked, in a thread, and go on
    }
)
_SLOW_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>injected</Message></Error>'
)
_CODES = {500: (b"Internal Server Error", b"InternalError"), 503: (b"Service Unavailable", b"SlowDown")}


@dataclass
class Rule:
    """What to do to which requests.

    Parameters
    ----------
    action
        One of `ACTIONS`.
    method, path
        Regular expressions that the method must match whole, and that must be found in the path with its query.
    probability
        How often a matching request is hit; drawn from the proxy's seed and the request.
    skip, count
        Leave the first ones alone, then hit so many at most.
    seconds, status, victim, function
        What the action needs; ``victim`` gives the process's number when it is time to kill.
    """

    action: str
    method: str = ".*"
    path: str = ""
    probability: float = 1.0
    skip: int = 0
    count: int | None = None
    seconds: float = 0.0
    status: int = 503
    victim: Callable[[], int] | None = None
    function: Callable[[], object] | None = None
    matched: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise ValueError(f"action {self.action!r} is none of {sorted(ACTIONS)}")

    def hit(self, method: str, path: str, dice: float) -> bool:
        """Count a request; whether it is hit."""
        if not re.fullmatch(self.method, method) or not re.search(self.path, path):
            return False
        self.matched += 1
        if self.matched <= self.skip or (self.count is not None and self.hits >= self.count):
            return False
        if dice >= self.probability:
            return False
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: how it went. ``status`` is None if the client got no answer."""

    number: int
    method: str
    path: str
    status: int | None
    faults: tuple[str, ...]
    sent: int
    received: int


class _Broken(Exception):
    """The client's connection breaks now."""


class FaultProxy:
    """A proxy in a thread of its own.

    Parameters
    ----------
    upstream
        ``http://host:port`` of the store.
    seed
        For probabilities, and for what is truncated and corrupted where.
    host
        Address to listen on; the port is a free one.
    """

    def __init__(self, upstream: str, *, seed: int = 0, host: str = "127.0.0.1") -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._host, self._seed = host, seed
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._times: Counter[tuple[str, str]] = Counter()
        self.log: list[Seen] = []
        self._started = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="fault proxy", daemon=True)
        self._ready = threading.Event()
        self._open: set[asyncio.Task[None]] = set()
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fault proxy did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(10)
        self._loop.close()

    # ------------------------------------------------------------ what tests say and ask

    def add(self, rule: Rule) -> Rule:
        """Add a rule; those added first are looked at first."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget all rules, and the log."""
        with self._lock:
            self._rules.clear()
            self._times.clear()
            self.log.clear()

    def count(self, method: str = ".*", path: str = "") -> int:
        """How many answered or broken requests match."""
        with self._lock:
            return sum(bool(re.fullmatch(method, s.method) and re.search(path, s.path)) for s in self.log)

    @property
    def faults(self) -> Counter[str]:
        """How often each action was done."""
        with self._lock:
            return Counter(fault for seen in self.log for fault in seen.faults)

    @property
    def bytes_received(self) -> int:
        """Bytes of the bodies that clients got."""
        with self._lock:
            return sum(seen.received for seen in self.log)

    # ------------------------------------------------------------ the server

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._accept, self._host, 0, limit=1 << 20)
        )
        self.url = f"http://{self._host}:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in self._open:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._open, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_default_executor())

    def _stop(self) -> None:
        self._loop.stop()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        upstream = _Upstream(self._upstream)
        try:
            while await self._exchange(reader, writer, upstream):
                pass
            writer.close()
        except _Broken:
            _reset(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            self._open.discard(task)
            upstream.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: _Upstream
    ) -> bool:
        """One request and its answer; whether the connection stays."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        method, path = head.split(b" ", 2)[:2]
        fields = _fields(head)
        if fields.get(b"expect", b"").lower() == b"100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = re.sub(rb"(?i)\r\nexpect:[^\r]*", b"", head)
        body = await _body(reader, fields)
        rules, number, dice = self._judge(method.decode(), path.decode())
        broken = None
        try:
            answer = await self._faulted(rules, head, body, method, upstream, dice)
        except (OSError, asyncio.CancelledError, _Broken) as error:
            answer, broken = None, error
        status, payload, received, whole = answer or (None, b"", 0, False)
        seen = Seen(
            number,
            method.decode(),
            path.decode(),
            status,
            tuple(rule.action for rule in rules),
            len(body),
            received,
        )
        with self._lock:  # before the client can know, so that it finds itself counted
            self.log.append(seen)
        writer.write(payload)
        await writer.drain()
        if not whole:
            raise broken or _Broken
        return fields.get(b"connection", b"").lower() != b"close"

    def _judge(self, method: str, path: str) -> tuple[list[Rule], int, random.Random]:
        with self._lock:
            self._started += 1
            nth = self._times[method, path]
            self._times[method, path] += 1
            dice = random.Random(f"{self._seed} {method} {path} {nth}")
            return (
                [rule for rule in self._rules if rule.hit(method, path, dice.random())],
                self._started,
                dice,
            )

    async def _faulted(
        self,
        rules: list[Rule],
        head: bytes,
        body: bytes,
        method: bytes,
        upstream: _Upstream,
        dice: random.Random,
    ) -> tuple[int, bytes, int, bool] | None:
        """Give status, bytes, size of the body, and whether these are all; None if the connection just breaks."""
        for rule in rules:
            if rule.action in ("latency", "hang"):
                await asyncio.sleep(rule.seconds)
            if rule.action == "call" and rule.function is not None:
                await self._loop.run_in_executor(None, rule.function)
            if rule.action == "kill before":
                _kill(rule)
            if rule.action in ("hang", "reset", "kill before"):
                return None
            if rule.action == "status":
                return _refusal(rule.status)
        try:
            answer_head, answer = await upstream.ask(head, body, method)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise _Broken from error
        status = int(answer_head.split(b" ", 2)[1])
        for rule in rules:
            if rule.action == "kill after":
                _kill(rule)
            if rule.action in ("kill after", "drop"):
                return None
            if rule.action == "status after":
                return _refusal(rule.status)
            if rule.action == "corrupt" and answer and status < 300:
                place = dice.randrange(len(answer))
                flipped = answer[place] ^ (1 << dice.randrange(8))
                answer = answer[:place] + bytes([flipped]) + answer[place + 1 :]
            if rule.action == "truncate":
                short = answer[: dice.randrange(len(answer))] if answer else b""
                sent = answer_head + short if answer else answer_head[: len(answer_head) // 2]
                return status, sent, len(short), False
        return status, answer_head + answer, len(answer), True


class _Upstream:
    """One connection to the store, opened when needed and again when the store closed it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, head: bytes, body: bytes, method: bytes) -> tuple[bytes, bytes]:
        fresh = self._streams is None
        try:
            return await self._ask(head, body, method)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            if fresh or method not in (b"GET", b"HEAD"):
                raise
            return await self._ask(
                head, body, method
            )  # an idle connection that the store closed in the meantime

    async def _ask(self, head: bytes, body: bytes, method: bytes) -> tuple[bytes, bytes]:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(*self._address, limit=1 << 20)
        reader, writer = self._streams
        writer.write(head + body)
        await writer.drain()
        answer = await reader.readuntil(b"\r\n\r\n")
        while answer.split(b" ", 2)[1] == b"100":
            answer = await reader.readuntil(b"\r\n\r\n")
        status = int(answer.split(b" ", 2)[1])
        fields = _fields(answer)
        if method == b"HEAD" or status in (204, 304):
            content = b""
        else:
            content = await _body(reader, fields, until_end=True)
        if fields.get(b"connection", b"").lower() == b"close":
            self.close()
        return answer, content

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


def _fields(head: bytes) -> dict[bytes, bytes]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return {name.strip().lower(): value.strip() for name, _, value in lines}


async def _body(
    reader: asyncio.StreamReader, fields: dict[bytes, bytes], *, until_end: bool = False
) -> bytes:
    """The body as it stands on the wire, chunk sizes included."""
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        parts = []
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            parts += [line, await reader.readexactly(size + 2)]
            if size == 0:
                return b"".join(parts)
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    return await reader.read() if until_end else b""


def _refusal(status: int) -> tuple[int, bytes, int, bool]:
    reason, code = _CODES.get(status, (b"Refused", b"Refused"))
    text = _SLOW_DOWN % code
    head = b"HTTP/1.1 %d %s\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n"
    return status, head % (status, reason, len(text)) + text, len(text), True


def _kill(rule: Rule) -> None:
    assert rule.victim is not None
    with suppress(ProcessLookupError):
        os.kill(rule.victim(), signal.SIGKILL)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a TCP reset, as a crashed host or a full firewall does."""
    connection = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
