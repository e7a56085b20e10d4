"""optuna-dashboard beside the server: to look at, on this machine alone.

``python -m dse.service.serving.dashboard`` reads port and database from standard input. It answers nothing but reads: a
study deleted here would leave the service's own tables behind, and the dashboard asks nobody who they are.
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from dse.service.serving.children import Child, at_end_of_keeper, first_line
from simulator.errors import SpecError

HOST: Final = "127.0.0.1"
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def beside(url: str) -> tuple[Child, str]:
    """Return the dashboard's process, not yet started, and its address.

    Parameters
    ----------
    url
        Of the database.

    Raises
    ------
    SpecError
        If optuna-dashboard is not installed.
    """
    import socket

    if find_spec("optuna_dashboard") is None:
        raise SpecError("--dashboard: optuna-dashboard is not installed: pip install 'dse-llm[dashboard]'")
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    command = (sys.executable, "-m", "dse.service.serving.dashboard")
    child = Child("optuna-dashboard", command, json.dumps({"url": url, "port": port}))
    return child, f"http://{HOST}:{port}/dashboard"


def reading_only(app: Application) -> Application:
    """Return an application that answers only reads, and only under this machine's own names.

    Under another name the page of a stranger asks, who has made that name point here (DNS rebinding).
    """

    def guarded(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        name = urlsplit(f"//{environ.get('HTTP_HOST', '')}").hostname
        if name not in {HOST, "localhost"}:
            start("400 Bad Request", [("Content-Type", "text/plain")])
            return [b"Host: only 127.0.0.1 and localhost\n"]
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            start("405 Method Not Allowed", [("Content-Type", "text/plain"), ("Allow", "GET, HEAD")])
            return [b"read only: change studies by the service\n"]
        return app(environ, start)

    return guarded


class _Threads(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of each request."""


def main() -> None:
    """Serve until the server that started this process has ended."""
    from optuna_dashboard import wsgi

    given = json.loads(first_line())
    server = _Threads((HOST, given["port"]), _Quiet)
    server.set_app(reading_only(wsgi(given["url"])))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ended = threading.Event()
    at_end_of_keeper(ended)
    ended.wait()


if __name__ == "__main__":
    main()
