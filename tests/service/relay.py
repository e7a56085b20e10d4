"""A line between a client and a server that can be cut: a real connection, lost at a moment that a test chooses."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self


class Relay:
    """Passes bytes between clients and a server.

    Attributes
    ----------
    swallowed
        Connections yet to be cut as soon as the server answers, before the client hears of it.
    cut_after
        Bytes of an answer after which its connection is cut, once for each number; all pass if empty.
    connections
        How many there were.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.swallowed = 0
        self.cut_after: list[int] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._target))
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    @staticmethod
    def _pass_on(client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(65_536):
                server.sendall(piece)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        left = None
        with contextlib.suppress(OSError), server, client:
            while piece := server.recv(4_096):
                if self.swallowed:
                    self.swallowed -= 1
                    break
                if left is None and self.cut_after:
                    left = self.cut_after.pop(0)
                if left is not None:
                    piece, left = piece[:left], left - len(piece)
                client.sendall(piece)
                if left is not None and left <= 0:
                    break
            for each in (server, client):
                each.shutdown(socket.SHUT_RDWR)
