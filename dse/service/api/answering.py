"""Answers that are prepared bytes, with a tag by which a client can ask whether they changed."""

from __future__ import annotations

from fastapi import Request, Response

from dse.service.api.kept import Answer


def respond(request: Request, answer: Answer, *, headers: dict[str, str] | None = None) -> Response:
    """Return an answer, or only that it has not changed, if the client has it already."""
    # Kept by browsers if they like, but never used without asking.
    told = {"ETag": answer.etag, "Cache-Control": "private, no-cache", **(headers or {})}
    if _has(request.headers.get("if-none-match"), answer.etag):
        return Response(None, 304, told)
    if answer.name:
        told["Content-Disposition"] = f'attachment; filename="{answer.name}"'
    return Response(answer.content, 200, told, answer.media)


def _has(given: str | None, etag: str) -> bool:
    """Return whether If-None-Match names a tag; what a proxy compressed has it marked as weak."""
    if given is None:
        return False
    return any(each.strip().removeprefix("W/") in (etag, "*") for each in given.split(","))
