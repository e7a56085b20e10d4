"""Headers that tell browsers what the pages of this service may do: nothing that it does not need."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_EMPTY: Final = base64.b64encode(hashlib.sha256(b"").digest()).decode()
"""Of the empty style sheet that plotly makes when it starts."""
PAGE_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' 'sha256-{_EMPTY}'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Content security policy of every answer that has none of its own."""
HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Content-Security-Policy": PAGE_POLICY,
    "Cache-Control": "no-store",
}
"""What every answer has unless it says otherwise."""
_RAW: Final = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class SecurityHeaders:
    """ASGI middleware that adds :data:`HEADERS` to answers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                given = {name for name, _ in headers}
                headers += [pair for pair in _RAW if pair[0] not in given]
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_headers)
