"""Slices from one worker to another, over the cluster's own connections: its encryption and identities count here, too.

All that is private to Dask stands in this module: a handler beside the worker's own ones, and connections from the
worker's pool. A test pins what is used (`tests/clusters/test_slice_server.py`).

A request names files of the host's scratch and a bucket. The answer says where each slice begins and how long it is,
then come the slices themselves, in pieces: neither side ever holds more than a piece beside what was asked for, and the
disk is read by threads of its own, so that the worker's event loop stays free.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from distributed import Client, Status, Worker, WorkerPlugin, get_worker
from distributed.protocol.serialize import to_serialize

from featureflow.execute.exchange.arrow_footer import footer_bytes, parse_footer, read_message
from featureflow.execute.exchange.places import (
    Here,
    Sent,
    Wanted,
    being,
    disk_name,
    on_finding,
    scratch_on_worker,
)

OPERATION = "featureflow_slices"
#: Bytes of a piece on the way.
PIECE_BYTES = 8 << 20
#: A host that does not accept a connection in this time is lost, as far as this task can tell.
CONNECT_SECONDS = 5.0
#: One that goes on to say nothing for so long, too: a stopped process still accepts connections.
SILENCE_SECONDS = 20.0
#: For so long other tasks of this process do not try an address again that did not answer: each would wait as long.
SHUNNED_SECONDS = 15.0
#: Hosts that one task listens to at the same time.
HOSTS_AT_ONCE = 4
#: Threads of a worker that read slices from its disk.
READERS = 4
_TAIL_BYTES = 64 << 10

#: Servers of this process by the address of their worker: tests run several in one.
_servers: dict[str, Here] = {}
#: Addresses that did not answer, and until when they are not tried.
_shunned: dict[str, float] = {}


class SliceServer(WorkerPlugin):
    """Lets a worker serve slices of its host's scratch disk, and tells its tasks where they are.

    Parameters
    ----------
    scratch
        The driver's scratch folder; on the worker ``FEATUREFLOW_SCRATCH`` comes before it.
    """

    name = "featureflow-slices"

    def __init__(self, scratch: str) -> None:
        self.scratch = scratch
        self._driver = (socket.gethostname(), os.getpid())

    def setup(self, worker: Worker) -> None:
        """Add the handler."""
        scratch = scratch_on_worker(self.scratch, self._driver)
        pool = ThreadPoolExecutor(READERS, thread_name_prefix="featureflow-slices")

        async def serve(comm: Any, names: Sequence[str], bucket: int) -> Any:
            return await _serve(comm, pool, scratch, names, bucket)

        worker.handlers[OPERATION] = serve
        _servers[worker.address] = Here(
            scratch, disk_name(scratch), worker.address, lambda wanted: _fetch(worker, wanted)
        )
        on_finding(_of_this_task)

    def teardown(self, worker: Worker) -> None:
        """Forget the worker."""
        worker.handlers.pop(OPERATION, None)
        _servers.pop(worker.address, None)


def _of_this_task() -> Here | None:
    if not _servers:
        return None
    try:
        return _servers.get(get_worker().address)
    except ValueError:  # this thread is none of a worker's
        return None


def install_servers(client: Client, scratch: str) -> None:
    """Have all workers serve slices, those that join later included."""
    client.register_plugin(SliceServer(scratch))


def call_on_workers(
    client: Client,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    addresses: Sequence[str] | None,
    patience: float,
) -> dict[str, Any]:
    """Call a function on workers, each in its own place; workers that fail or stay silent are left out.

    Cost: one message to the scheduler; if somebody stays silent, one for each worker.
    """
    answers: dict[str, Any] = client.sync(_call_all, client, function, arguments, addresses, patience)
    return {address: answer for address, answer in answers.items() if not isinstance(answer, BaseException)}


async def _call_all(
    client: Client,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    addresses: Sequence[str] | None,
    patience: float,
) -> dict[str, Any]:
    async def call(some: list[str] | None) -> dict[str, Any]:
        # `Client.run` without its waiting for ever: a worker that is stopped would hold up all others
        run = client._run(_call_here, function, arguments, workers=some, on_error="return")  # noqa: SLF001
        found: dict[str, Any] = await asyncio.wait_for(run, patience)
        return found

    try:
        return await call(None if addresses is None else list(addresses))
    except TimeoutError:
        scheduler: Any = client.scheduler
        known = addresses or list((await scheduler.identity(n_workers=-1))["workers"])
        found = await asyncio.gather(*(call([address]) for address in known), return_exceptions=True)
        return {
            address: answer
            for one in found
            if not isinstance(one, BaseException)
            for address, answer in one.items()
        }


async def _call_here(function: Callable[..., Any], arguments: tuple[Any, ...], dask_worker: Worker) -> Any:
    own = _servers.get(dask_worker.address)
    if own is None:
        return await asyncio.to_thread(function, *arguments)
    with being(own):
        return await asyncio.to_thread(function, *arguments)  # in a copy of this context


# ---------------------------------------------------------------- the side that has the files


@dataclass(frozen=True, slots=True)
class _Slice:
    """Where a slice lies."""

    path: str
    start: int
    length: int


async def _serve(comm: Any, pool: ThreadPoolExecutor, scratch: str, names: Sequence[str], bucket: int) -> Any:
    loop = asyncio.get_running_loop()
    found, schemas, slices = await loop.run_in_executor(pool, _find, scratch, names, bucket)
    await comm.write({"found": found, "schemas": schemas})
    for piece in _pieces(slices):
        data = await loop.run_in_executor(pool, _read, piece)
        await comm.write({"data": to_serialize(memoryview(data))})
    return Status.dont_reply


def _find(
    scratch: str, names: Sequence[str], bucket: int
) -> tuple[list[tuple[int, int, int]], list[bytes], list[_Slice]]:
    """(Place among the names, which schema, bytes) of each slice that is here; the schemas; where they lie."""
    found, slices = [], []
    schemas: dict[bytes, int] = {}
    for place, name in enumerate(names):
        path = os.path.join(scratch, name)
        if ".." in name.split("/") or os.path.isabs(name):
            continue
        try:
            footer = parse_footer(_tail(path))
        except (OSError, ValueError):  # gone, or damaged: as good as gone
            continue
        schema = footer.schema.remove_metadata().serialize().to_pybytes()
        which = schemas.setdefault(schema, len(schemas))
        slices.append(_Slice(path, int(footer.offsets[bucket]), int(footer.lengths[bucket])))
        found.append((place, which, slices[-1].length))
    return found, list(schemas), slices


def _tail(path: str) -> bytes:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        tail = os.pread(file.fileno(), _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        needed = footer_bytes(tail)
        return tail if needed <= len(tail) else os.pread(file.fileno(), needed, size - needed)


def _pieces(slices: list[_Slice]) -> list[list[_Slice]]:
    """Slices, one behind the other, cut and put together to pieces of `PIECE_BYTES`."""
    pieces: list[list[_Slice]] = [[]]
    room = PIECE_BYTES
    for one in slices:
        start, left = one.start, one.length
        while left:
            size = min(left, room)
            pieces[-1].append(_Slice(one.path, start, size))
            start, left, room = start + size, left - size, room - size
            if not room:
                pieces.append([])
                room = PIECE_BYTES
    return [piece for piece in pieces if piece]


def _read(piece: list[_Slice]) -> bytearray:
    data = bytearray(sum(one.length for one in piece))
    at = 0
    for one in piece:
        with open(one.path, "rb", buffering=0) as file:
            view = memoryview(data)[at : at + one.length]
            done = 0
            while done < one.length:
                got = os.preadv(file.fileno(), [view[done:]], one.start + done)
                if got == 0:
                    raise OSError(f"{one.path} ends before its slice does")
                done += got
        at += one.length
    return data


# ---------------------------------------------------------------- the side that asks


def _fetch(worker: Worker, wanted: Sequence[Wanted]) -> list[Sent]:
    """Ask hosts for slices, from a task's thread."""
    future = asyncio.run_coroutine_threadsafe(_fetch_all(worker, wanted), worker.loop.asyncio_loop)  # type: ignore[attr-defined]
    return future.result()


async def _fetch_all(worker: Worker, wanted: Sequence[Wanted]) -> list[Sent]:
    turns = asyncio.Semaphore(HOSTS_AT_ONCE)

    async def ask(one: Wanted) -> Sent:
        async with turns:
            return await _fetch_one(worker, one)

    return list(await asyncio.gather(*map(ask, wanted)))


async def _fetch_one(worker: Worker, wanted: Wanted) -> Sent:
    """Ask one worker of a host after the other."""
    reason = "no worker of their host is known"
    for address in wanted.addresses:
        if _shunned.get(address, 0.0) > time.monotonic():
            reason = f"{address}: has not answered a moment ago"
            continue
        try:
            return await _ask(worker, address, wanted)
        except (OSError, ValueError, TimeoutError) as error:
            reason = f"{address}: {str(error) or type(error).__name__}"
            _shunned[address] = time.monotonic() + SHUNNED_SECONDS
    return Sent(reason=reason)


async def _ask(worker: Worker, address: str, wanted: Wanted) -> Sent:
    comm = await _within(worker.rpc.connect(address, timeout=CONNECT_SECONDS), 2 * CONNECT_SECONDS)
    whole = False
    try:
        names = [name.partition(":")[2] for name in wanted.names]
        request = {"op": OPERATION, "names": names, "bucket": wanted.bucket, "reply": True}
        await _within(comm.write(request), SILENCE_SECONDS)
        answer = await _next(comm)
        if "found" not in answer:  # no such handler, or it failed
            raise OSError(f"the worker can't serve slices: {answer.get('text') or answer}")
        total = sum(length for _, _, length in answer["found"])
        data, at = np.empty(total, np.uint8), 0
        while at < total:
            piece = (await _next(comm))["data"]
            data[at : at + len(piece)] = np.frombuffer(piece, np.uint8)
            at += len(piece)
        whole = True
    finally:
        if not whole:
            comm.abort()  # whatever is still under way on it would be taken for an answer to the next request
        worker.rpc.reuse(address, comm)
    return _unpacked(wanted, answer, data)


async def _within(something: Any, seconds: float) -> Any:
    """Wait so long at most; `asyncio.wait_for` goes on waiting for what it has cancelled, and that may not end."""
    task = asyncio.ensure_future(something)
    done, _ = await asyncio.wait({task}, timeout=seconds)
    if not done:
        task.add_done_callback(lambda late: late.cancelled() or late.exception())
        task.cancel()
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return task.result()


async def _next(comm: Any) -> dict[str, Any]:
    answer = await _within(comm.read(), SILENCE_SECONDS)
    if not isinstance(answer, dict):
        raise OSError(f"an answer that is none: {str(answer)[:100]}")
    if "found" not in answer and "data" not in answer:
        raise OSError(f"the worker can't serve slices: {str(answer)[:200]}")
    return answer


def _unpacked(wanted: Wanted, answer: dict[str, Any], data: np.ndarray[Any, np.dtype[np.uint8]]) -> Sent:
    schemas = [pa.ipc.read_schema(pa.py_buffer(schema)) for schema in answer["schemas"]]
    batches: dict[str, pa.RecordBatch] = {}
    whole, at = pa.py_buffer(data), 0
    for place, which, length in answer["found"]:
        batches[wanted.names[place]] = read_message(whole.slice(at, length), schemas[which])
        at += length
    lacking = len(wanted.names) - len(batches)
    return Sent(batches, at, f"{lacking} files are not on their host any more" if lacking else "")
