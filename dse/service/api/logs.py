"""Logs as one line of JSON each, and the number by which a request is found in them."""

from __future__ import annotations

import logging
import re
import secrets
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, TextIO

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dse.service.api.metrics import OTHER
from dse.service.api.security.callers import CALLER, NOBODY, Caller

REQUEST_ID: Final = "X-Request-ID"
_HEADER: Final = REQUEST_ID.lower().encode()
_SANE: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
request_id: ContextVar[str] = ContextVar("id of the request that is served", default="")

access: Final = logging.getLogger("dse.service.access")
Answered = Callable[[str, str, int, float], None]
"""Told of each answer: method, route, status, seconds until it began."""


class RequestLog:
    """ASGI middleware, the outermost: gives requests a number, logs one line for each and counts it.

    The line has method, route, status, duration and the token's id; never a token, a query or a body.

    Parameters
    ----------
    app
        What serves the request.
    answered
        Counts it.
    """

    def __init__(self, app: ASGIApp, answered: Answered) -> None:
        self._app = app
        self._answered = answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        number = _number_of(scope)
        request_id.set(number)
        status, answered_s = 0, 0.0

        async def send_with_id(message: Message) -> None:
            nonlocal status, answered_s
            if message["type"] == "http.response.start":
                status, answered_s = message["status"], time.perf_counter() - began
                message["headers"] = [*message.get("headers", ()), (_HEADER, number.encode())]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            if status == 0:
                # Nothing was answered: the client left, or the server failed.
                status, answered_s = 499, time.perf_counter() - began
            route = _route_of(scope)
            self._answered(scope["method"], route, status, answered_s)
            if access.isEnabledFor(logging.INFO):
                caller: Caller = scope.get(CALLER, NOBODY)
                seen = {
                    "request": number,
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "seconds": round(time.perf_counter() - began, 6),
                    "token": caller.token,
                }
                access.info("answered", extra=seen)


def _number_of(scope: Scope) -> str:
    """Return the number that a proxy gave a request, or a new one."""
    for name, value in scope["headers"]:
        if name == _HEADER and _SANE.fullmatch(value):
            return str(value.decode())
    return secrets.token_hex(8)


def _route_of(scope: Scope) -> str:
    """Return the template of the route that served a request."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else OTHER


class _WithRequest(logging.Filter):
    """Puts the request's number on whatever is logged while it is served."""

    def filter(self, record: logging.LogRecord) -> bool:
        number = request_id.get()
        if number and not hasattr(record, "request"):
            record.request = number
        return True


def log_as_json(level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Log everything as lines of JSON: time, level, logger, message, and what belongs to it.

    Parameters
    ----------
    level
        The least that is logged.
    stream
        Where to; standard error if absent.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "{message}{levelname}{name}",
            style="{",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
            # Uvicorn's second message, with codes of colours.
            reserved_attrs=[*RESERVED_ATTRS, "color_message"],
        )
    )
    handler.addFilter(_WithRequest())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # Requests are logged by RequestLog.
    logging.getLogger("uvicorn.access").disabled = True
