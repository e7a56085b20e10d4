"""A server on a real socket, in a thread of this process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI

from dse.service.api.app import create_app
from dse.service.settings import Settings


@dataclass(frozen=True)
class Running:
    """A server that serves."""

    app: FastAPI
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **headers: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def raw(self, sent: bytes, *, patience_s: float = 10.0) -> bytes:
        """Send bytes as they are, and return what comes back until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience_s) as connection:
            connection.sendall(sent)
            return received(connection)


def received(connection: socket.socket) -> bytes:
    """Return an answer with its body, as far as it announces one."""
    found = b""
    try:
        while piece := connection.recv(65_536):
            found += piece
            head, end, body = found.partition(b"\r\n\r\n")
            announced = [
                line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
            ]
            if end and announced and len(body) >= int(announced[0]):
                break
    except TimeoutError:
        pass
    return found


@contextmanager
def running(settings: Settings, *, require_token: bool = False) -> Iterator[Running]:
    """Serve until the block ends."""
    app = create_app(settings, require_token=require_token)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < until
        time.sleep(0.02)
    try:
        yield Running(app, listener.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
