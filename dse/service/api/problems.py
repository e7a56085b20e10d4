"""Errors as RFC 9457 problem details: what is wrong, in which field, and what may be done."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dse.service.api.bench import Busy
from dse.service.api.leaving import Left
from dse.service.storage.errors import Conflict, NoRoom, NotFound, TooMany, Unavailable
from simulator.errors import Problem as Fault
from simulator.errors import SpecError

MEDIA: Final = "application/problem+json"
AWAY: Final = "the database is away, or a disk is full; the server's log has more"
AWAY_S: Final = 5
"""When to ask again then."""
MOST_ERRORS: Final = 100
MOST_CHARACTERS: Final = 2_000
"""Longer texts are cut: what was sent wrongly need not come back whole."""
SHOWN_CHARACTERS: Final = 200
"""Of a value that was given."""

BLANK: Final = "about:blank"
KINDS: Final = {
    "specification": "The specification cannot be used",
    "export": "The design cannot be exported like this",
    "parameters": "The parameters cannot be used",
    "limit": "More than this server allows",
}
"""Types of problems beyond what the status says, ``urn:dse:problem:KIND``, and their titles."""

log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="path of names and positions, joined by dots; empty: the whole")
    message: str
    given: str | None = Field(default=None, description="the value, where the message does not show it")


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    type: str = Field(description="`about:blank`, if the status says all, or `urn:dse:problem:…`")
    title: str
    status: int
    detail: str = Field(description="the cause, for a person")
    instance: str | None = Field(default=None, description="by which the server's log names this very error")
    errors: list[FieldError] = Field(default_factory=list, description="the fields at fault")


class Refusal(Exception):
    """An answer other than the one that was asked for.

    Parameters
    ----------
    status, detail
        HTTP status, and the cause for a person.
    kind
        One of ``KINDS``, if the status does not say all.
    errors
        Fields at fault.
    headers
        Of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str = "",
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.kind, self.errors, self.headers = status, detail, kind, tuple(errors), headers


def problem_response(
    status: int,
    detail: str,
    *,
    kind: str = "",
    errors: Sequence[Fault] = (),
    headers: Mapping[str, str] | None = None,
    instance: str | None = None,
) -> Response:
    """Return an error as an answer; also for middlewares, which call it with scope, receive and send.

    Parameters
    ----------
    status, detail, kind, errors, headers
        As of :class:`Refusal`.
    instance
        By which the log names this error.
    """
    content: dict[str, Any] = {
        "type": f"urn:dse:problem:{kind}" if kind else BLANK,
        "title": KINDS[kind] if kind else HTTPStatus(status).phrase,
        "status": status,
        "detail": _cut(detail, MOST_CHARACTERS),
    }
    if instance:
        content["instance"] = instance
    if errors:
        content["errors"] = [
            {
                "field": _cut(fault.field, SHOWN_CHARACTERS),
                "message": _cut(fault.message, MOST_CHARACTERS),
                "given": None if fault.given is None else _cut(fault.given, SHOWN_CHARACTERS),
            }
            for fault in errors[:MOST_ERRORS]
        ]
    # As ASCII: what was given may hold halves of characters, which are no UTF-8.
    return Response(json.dumps(content), status, dict(headers or {}), MEDIA)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


ALWAYS: Final = (400, 401, 403, 429, 503)
"""Statuses that any request may meet: another host's name, no token, a scope too small, too many, database away."""
_MEANINGS: Final = {
    304: "What the client has, by If-None-Match, has not changed",
    400: "The request cannot be read, or is addressed to another host",
    401: "A token is required",
    403: "The token's scope does not allow it, or another site sent it",
    404: "There is none of that name",
    408: "The body did not arrive in time",
    409: "It contradicts the present state",
    413: "The body is larger than this server allows",
    415: "The body is of a type that is not taken here",
    422: "A parameter or the specification cannot be used; `errors` names the fields",
    429: "Too many requests or studies; `Retry-After` says when to try again",
    503: "The database is away; `Retry-After` says when to try again",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of errors: those that every route may give, and some."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*ALWAYS, *statuses}):
        found[status] = {"description": _MEANINGS[status]}
        if status >= 400:
            found[status]["content"] = {MEDIA: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return found


def install(app: FastAPI) -> None:
    """Make problems of everything that is raised in an app's routes."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _parameters)
    app.add_exception_handler(SpecError, _specification)
    app.add_exception_handler(NotFound, _plain(404))
    app.add_exception_handler(Conflict, _plain(409))
    app.add_exception_handler(TooMany, _plain(429, {"Retry-After": "10"}))
    app.add_exception_handler(NoRoom, _plain(413))
    app.add_exception_handler(Busy, _plain(429, {"Retry-After": str(Busy.retry_after_s)}))
    app.add_exception_handler(Unavailable, _unavailable)
    app.add_exception_handler(Left, _left)


def _plain(status: int, headers: Mapping[str, str] | None = None) -> Any:
    async def handler(_request: Request, error: Exception) -> Response:
        return problem_response(status, str(error), headers=headers)

    return handler


async def _unavailable(_request: Request, error: Exception) -> Response:
    # Where the database is and what it says is not for strangers, who may ask whether the server is ready.
    log.info("unavailable: %s", error)
    return problem_response(503, AWAY, headers={"Retry-After": str(AWAY_S)})


async def _left(_request: Request, _error: Exception) -> Response:
    # Nobody reads it; the logs count it as nginx does.
    return Response(status_code=499)


async def _refused(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return problem_response(error.status, error.detail, kind=error.kind, errors=error.errors, headers=error.headers)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = str(error.detail)
    if error.status_code == 404:
        detail = f"nothing is at {request.url.path}"
    headers = dict(error.headers or {})
    if error.status_code == 405:
        allowed = ", ".join(_methods(request))
        headers["Allow"] = allowed
        detail = f"{request.method[:20]} is not possible here; allowed: {allowed}"
    return problem_response(error.status_code, detail, headers=headers)


def _methods(request: Request) -> list[str]:
    """Return the methods of all routes at an address; the framework's own answer names those of the first."""

    def serves(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] == Match.FULL for route in request.app.router.routes)

    return [method for method in ("DELETE", "GET", "POST", "PUT") if serves(method)]


async def _parameters(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [
        Fault(".".join(map(str, item["loc"][1:])), item["msg"], repr(item["input"]) if item["input"] else None)
        for item in error.errors()
    ]
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
    return problem_response(422, detail, kind="parameters", errors=faults)


async def _specification(_request: Request, error: Exception) -> Response:
    assert isinstance(error, SpecError)
    return problem_response(422, str(error), kind="specification", errors=error.problems)


class Unexpected:
    """Middleware, innermost: an error of the server's own is logged under a number, and the answer tells only that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or say that it failed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started |= message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            instance = f"urn:dse:error:{secrets.token_hex(8)}"
            log.exception("unexpected error", extra={"instance": instance, "path": scope["path"]})
            if not started:
                detail = "the server failed at this; its log has the cause under the number named in instance"
                await problem_response(500, detail, instance=instance)(scope, receive, send)
