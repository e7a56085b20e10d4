"""How large a body may be, and how long it may take to arrive."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dse.service.api.problems import problem_response

ARRIVES_S: Final = 30.0
"""Within this time a body must be there that is no upload."""
_UPLOAD: Final = re.compile(r"/v1/traces/[^/]+")


class BodyLimit:
    """ASGI middleware that reads bodies whole before anything else does, up to a limit.

    Uploads of traces pass: their route counts while it reads.

    Parameters
    ----------
    app
        What serves the request.
    most_bytes
        Of a body.
    arrives_s
        Within which it must arrive.
    """

    def __init__(self, app: ASGIApp, most_bytes: int, *, arrives_s: float = ARRIVES_S) -> None:
        self._app = app
        self._most_bytes = most_bytes
        self._arrives_s = arrives_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or _is_upload(scope):
            await self._app(scope, receive, send)
            return
        announced = chunked = None
        for name, value in scope["headers"]:
            if name == b"content-length":
                announced = value
            elif name == b"transfer-encoding":
                chunked = value
        if chunked is None and announced in (None, b"0"):
            await self._app(scope, receive, send)
            return
        said = f"the body is larger than the {self._most_bytes:,} bytes allowed"
        too_large = problem_response(413, said, kind="limit", headers={"Connection": "close"})
        if announced is not None and (not announced.isdigit() or int(announced[:20]) > self._most_bytes):
            await too_large(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._arrives_s):
                body = await self._read(receive)
        except TimeoutError:
            late = f"the body: must arrive within {self._arrives_s:g} s"
            await problem_response(408, late, headers={"Connection": "close"})(scope, receive, send)
            return
        if body is None:
            await too_large(scope, receive, send)
            return
        await self._app(scope, _replayed(body, receive), send)

    async def _read(self, receive: Receive) -> bytes | None:
        """Return the body, None if it is too large."""
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                # The client left: whoever reads on finds that out.
                return b"".join(parts)
            part = message.get("body", b"")
            size += len(part)
            if size > self._most_bytes:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "PUT" and _UPLOAD.fullmatch(scope["path"]) is not None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read already, then what comes."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
