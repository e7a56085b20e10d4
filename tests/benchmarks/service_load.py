"""Load on a server, from a process of its own: requests at fixed times, whatever became of those before, and watchers.

Run as ``python -m tests.benchmarks.service_load JSON``; prints what it measured as JSON.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any


class Connection(asyncio.Protocol):
    """One connection: a request at a time, only as much of HTTP as this server's answers need."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[int, int]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, path: str) -> asyncio.Future[tuple[int, int]]:
        """Send a request; the future holds the status and the size of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        return self._answer

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._received[:end]).lower()
        size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._received) >= end + 4 + size:
            self._received.clear()
            assert self._answer is not None
            self._answer.set_result((int(head[9:12]), size))


@dataclass
class Measured:
    """What came of the requests."""

    times_s: list[float]
    statuses: dict[int, int]
    bytes: int = 0


async def load(port: int, paths: list[str], rate_rps: float, span_s: float, connections: int) -> dict[str, Any]:
    """Ask at fixed times, one path after the other; a time counts from the moment at which it was due."""
    loop = asyncio.get_running_loop()
    free: deque[Connection] = deque()
    for _ in range(connections):
        _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
        free.append(connection)
    measured: dict[str, Measured] = {path: Measured([], {}) for path in paths}
    waiting: deque[tuple[float, str]] = deque()
    tasks: set[asyncio.Task[None]] = set()

    async def ask(due: float, path: str, connection: Connection) -> None:
        status, size = await connection.ask(path)
        found = measured[path]
        found.times_s.append(loop.time() - due)
        found.statuses[status] = found.statuses.get(status, 0) + 1
        found.bytes += size
        free.append(connection)
        if waiting:
            begin(*waiting.popleft())

    def begin(due: float, path: str) -> None:
        task = asyncio.create_task(ask(due, path, free.popleft()))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    start, late_s = loop.time() + 0.1, 0.0
    for number, path in zip(range(int(rate_rps * span_s)), itertools.cycle(paths), strict=False):
        due = start + number / rate_rps
        if (ahead_s := due - loop.time()) > 0:
            await asyncio.sleep(ahead_s)
        late_s = max(late_s, loop.time() - due)
        if free:
            begin(due, path)
        else:
            waiting.append((due, path))
    while tasks or waiting:
        await asyncio.sleep(0.01)
    return {
        "late_s": late_s,
        "paths": {
            path: {"times_s": found.times_s, "statuses": found.statuses, "bytes": found.bytes}
            for path, found in measured.items()
        },
    }


async def watch(port: int, id: str, watchers: int) -> dict[str, Any]:
    """Watch a study to its end, with many watchers, each of which must see the same trials once."""

    async def one() -> tuple[int, int, float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        writer.write(f"GET /v1/studies/{id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        name, trials, events = b"", 0, 0
        while line := await reader.readline():
            field, _, value = line.rstrip().partition(b": ")
            if field == b"event":
                name, events = value, events + 1
            elif field == b"data" and name == b"trials":
                trials += value.count(b'"number":')
            elif field == b"id" and name == b"end":
                break
        writer.close()
        return trials, events, time.time()

    found = await asyncio.gather(*(one() for _ in range(watchers)))
    return {
        "trials": sorted({trials for trials, _, _ in found}),
        "events": sum(events for _, events, _ in found),
        "spread_s": max(at for _, _, at in found) - min(at for _, _, at in found),
    }


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    work = {"load": load, "watch": watch}[asked.pop("what")]
    print(json.dumps(asyncio.run(work(**asked))))
