"""Who may ask from a browser: pages of this very server, under one of its own names.

Without this any page on the internet could ask a server on one's own machine: by making its own name point there (DNS
rebinding: the browser then sends that name as Host), or by sending a form there (the browser then says where the form
comes from).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from dse.service.api.problems import problem_response

_CACHED: Final = 1_000


class OwnHosts:
    """ASGI middleware that refuses requests under foreign names and from foreign pages.

    Parameters
    ----------
    app
        What serves the others.
    hosts
        Names of the server. Addresses and localhost always pass: no foreign name can be made to look like them.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str]) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower() for name in hosts)}
        self._known: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        refused = self._refused(scope) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        status, detail = refused
        await problem_response(status, detail)(scope, receive, send)

    def _refused(self, scope: Scope) -> tuple[int, str] | None:
        host = origin = site = mode = None
        for name, value in scope["headers"]:
            if name == b"host":
                if host is not None:
                    return 400, "more than one Host header"
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                site = value
            elif name == b"sec-fetch-mode":
                mode = value
        if host is None or not self._is_own(host):
            shown = "none" if host is None else repr(host.decode("latin-1")[:100])
            return (
                400,
                f"Host: given {shown}; known: {', '.join(sorted(self._names))} and addresses; more by --allow-host",
            )
        if origin is not None and not _same(origin, host):
            return 403, "Origin: pages of other servers may not ask this one"
        # Browsers name the site of every request; one may follow a link to here, but no page may ask in passing.
        if site in (b"cross-site", b"same-site") and not (mode == b"navigate" and scope["method"] == "GET"):
            return 403, "Sec-Fetch-Site: pages of other servers may not ask this one"
        return None

    def _is_own(self, host: bytes) -> bool:
        if host in self._known:
            return True
        name = _name_of(host)
        if name is None or not (name in self._names or _is_address(name)):
            return False
        if len(self._known) < _CACHED:
            self._known.add(host)
        return True


def _name_of(host: bytes) -> str | None:
    """Return the name in a Host header, without the port; None if there is none."""
    try:
        parts = urlsplit(f"//{host.decode('ascii')}")
        _ = parts.port  # raises if it is none
    except ValueError:
        return None
    # Whatever else stands in it makes it something else than a host and a port.
    return parts.hostname if parts.netloc == host.decode() and "@" not in parts.netloc else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(origin: bytes, host: bytes) -> bool:
    """Return whether an origin is the server that was asked; the scheme may differ behind a proxy that ends TLS."""
    scheme, found, place = origin.partition(b"://")
    return bool(found) and scheme in (b"http", b"https") and place.lower() == host.lower()
