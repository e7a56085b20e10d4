"""The server's process: HTTP, the workers beside it, and an orderly end of both."""

from __future__ import annotations

import logging
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

import uvicorn

from dse.service.serving.children import Child
from dse.service.settings import Settings
from simulator.errors import SpecError

log = logging.getLogger(__name__)

ANSWERS_S: Final = 4.0
"""How long requests that are being answered may take when the server ends."""
WORKERS_S: Final = 7.0
"""How long workers may take to give their studies back, from the beginning of the end."""
BACKLOG: Final = 2_048
DESCRIPTORS: Final = 65_536
"""Open files and connections; systems give programs 1,024 unless they ask, fewer than there may be event streams."""
KEEP_ALIVE_S: Final = 30


@dataclass(frozen=True)
class Listening:
    """How the server is reached.

    Attributes
    ----------
    sockets
        Bound to the address, not yet listening.
    url
        What a person opens.
    """

    sockets: tuple[socket.socket, ...]
    url: str


def listen(settings: Settings, *, tls: bool) -> Listening:
    """Take the server's address.

    Raises
    ------
    SpecError
        If the name is unknown, the address is not this machine's, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise SpecError(f"--host: {settings.host!r} is no address of this machine: {error}") from None
    place = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            # The port of a server that has just ended is free.
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
        place.listen(BACKLOG)
    except OSError as error:
        place.close()
        raise SpecError(_refusal(settings, error)) from None
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::", ""} else settings.host
    shown = f"[{host}]" if ":" in host else host
    return Listening((place,), f"{'https' if tls else 'http'}://{shown}:{place.getsockname()[1]}")


def _refusal(settings: Settings, error: OSError) -> str:
    import errno

    if error.errno == errno.EADDRINUSE:
        return f"--port: {settings.port} on {settings.host} is taken by another program; give another, or 0 for any"
    if error.errno == errno.EACCES:
        return f"--port: {settings.port} is for the system's own services; give one from 1024 on"
    return f"--host: {settings.host!r} is no address of this machine: {error.strerror or error}"


def check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Check that a certificate can be used, before anything starts.

    Raises
    ------
    SpecError
        If one of the two is missing, unreadable, or they do not belong together.
    """
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise SpecError("--tls-cert and --tls-key: give both, or neither")
    for name, file in (("--tls-cert", certificate), ("--tls-key", key)):
        try:
            file.open("rb").close()
        except OSError as error:
            raise SpecError(f"{name}: {file}: {error.strerror}") from None
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise SpecError(f"--tls-cert, --tls-key: {certificate} and {key} cannot be used: {reason}") from None


def _no_password() -> str:
    raise ValueError("the key is encrypted, and there is nobody to ask for its password")


def _allow_descriptors() -> None:
    """Let this process have as many open files and connections as it may need, as far as the system allows it."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = DESCRIPTORS if most == resource.RLIM_INFINITY else min(DESCRIPTORS, most)
        if least != resource.RLIM_INFINITY and least < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class Server(uvicorn.Server):
    """A server that says when it is ready, and when it begins to end.

    Parameters
    ----------
    config
        Of uvicorn.
    ready, ending
        Called once each, in the event loop.
    """

    def __init__(self, config: uvicorn.Config, *, ready: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready, self._ending = ready, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve."""
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking requests, finish those that are being answered, and end."""
        self._ending()
        await super().shutdown(sockets)


def run(
    app: Any,
    listening: Listening,
    children: Sequence[Child],
    *,
    close_streams: Callable[[], None],
    ready: Callable[[], None],
    tls: tuple[Path, Path] | None = None,
    proxies: Sequence[str] = (),
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Parameters
    ----------
    app
        The application.
    listening
        Where.
    children
        Processes to start, and to end at the end.
    close_streams
        Ends event streams, which would otherwise stay open for as long as their readers wish.
    ready
        Called as soon as requests are answered.
    tls
        Certificate and key.
    proxies
        Addresses of proxies that are believed when they say who asks.
    """
    _allow_descriptors()
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(ANSWERS_S),
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        ssl_certfile=tls[0] if tls else None,
        ssl_keyfile=tls[1] if tls else None,
        ws="none",
    )

    ends_s: float | None = None

    def begin() -> None:
        for child in children:
            child.start()
        ready()

    def end() -> None:
        nonlocal ends_s
        ends_s = time.monotonic()
        close_streams()
        for child in children:
            child.ask_to_end()

    with _signals_do_no_more_once(lambda: ends_s is not None), ExitStack() as stack:
        for each in listening.sockets:
            stack.callback(each.close)
        stack.callback(lambda: _end_all(children, (ends_s or time.monotonic()) + WORKERS_S))
        Server(config, ready=begin, ending=end).run(sockets=list(listening.sockets))


def _end_all(children: Sequence[Child], by_s: float) -> None:
    for child in children:
        if not child.end(by_s):
            log.warning("%s took longer than %.0f s and was killed; what finished is kept", child.name, WORKERS_S)


@contextmanager
def _signals_do_no_more_once(it_ends: Callable[[], bool]) -> Iterator[None]:
    """While active, signals do no more once the server ends: uvicorn raises those that it has acted on again."""

    def hear(number: int, _: FrameType | None) -> None:
        if not it_ends():
            raise KeyboardInterrupt
        log.debug("%s", signal.Signals(number).name)

    kept = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
