"""Traces: recorded requests that specifications name."""

from __future__ import annotations

from contextvars import Context
from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from dse.service.api.problems import Refusal, documented
from dse.service.api.security import needs
from dse.service.api.service import service_of
from dse.service.storage.errors import NoRoom
from dse.service.storage.traces import NAME, check_name

router = APIRouter(tags=["traces"])

MEDIA: Final = (
    "application/octet-stream",
    "text/csv",
    "text/plain",
    "application/jsonl",
    "application/x-ndjson",
    "application/gzip",
    "application/x-gzip",
)
"""What an upload may be called; what it is, its content says."""
_FILE: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_UPLOAD: Final = {"requestBody": {"required": True, "content": dict.fromkeys(MEDIA, _FILE)}}
NewName = Annotated[str, Path(pattern=f"^{NAME.pattern}$", description="what specifications call it; no path")]
Name = Annotated[str, Path(max_length=100)]


class Trace(BaseModel):
    """An uploaded trace."""

    name: str
    sha256: str
    bytes: int
    format: str = Field(description="azure, mooncake or csv")
    requests: int
    span_s: float = Field(description="from the first request to the last")
    created_s: float = Field(description="seconds since 1970")


class TraceList(BaseModel):
    """All traces, by name."""

    traces: list[Trace]
    total_bytes: int = Field(description="of all together")
    most_bytes: int = Field(description="that all together may have")


@router.get("/v1/traces", dependencies=[needs("read")], responses=documented())
async def traces(request: Request) -> TraceList:
    """List traces."""
    service = service_of(request)
    rows = await run_in_threadpool(service.traces.list)
    total = await run_in_threadpool(service.traces.total_bytes)
    return TraceList(
        traces=[Trace(**asdict(row)) for row in rows],
        total_bytes=total,
        most_bytes=service.settings.limits.uploads_bytes,
    )


@router.get("/v1/traces/{name}", dependencies=[needs("read")], responses=documented(404, 422))
async def trace(request: Request, name: Name) -> Trace:
    """Return what is known of a trace."""
    return Trace(**asdict(await run_in_threadpool(service_of(request).traces.get, name)))


@router.put(
    "/v1/traces/{name}",
    status_code=201,
    dependencies=[needs("run")],
    openapi_extra=_UPLOAD,
    responses=documented(408, 409, 413, 415, 422) | {200: {"model": Trace, "description": "It was there already"}},
)
async def upload(request: Request, response: Response, name: NewName) -> Trace:
    """Upload a trace, plain or gzip: Azure CSV, Mooncake JSON lines, or arrival_s,prompt_tokens,output_tokens.

    It is read by the simulator's own reader before it is kept; a bad line is named.
    """
    check_name(name)
    _check_type(request)
    service, limits = service_of(request), service_of(request).settings.limits
    uploads = request.app.state.uploads
    try:
        with uploads.place() as path:
            await uploads.receive(request, path)
            seen = await service.bench.run(_read, str(path), name)
            row, is_new = await run_in_threadpool(
                lambda: service.traces.add(name, path, **seen, most_bytes=limits.uploads_bytes)
            )
    except NoRoom as error:
        raise Refusal(413, str(error), kind="limit") from None
    except ClientDisconnect:
        raise Refusal(400, "the upload was cut off") from None
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/traces/{name}"
    return Trace(**asdict(row))


@router.delete("/v1/traces/{name}", status_code=204, dependencies=[needs("run")], responses=documented(404, 409, 422))
async def delete(request: Request, name: Name) -> None:
    """Delete a trace that no study needs."""
    await run_in_threadpool(service_of(request).traces.delete, name)


def _check_type(request: Request) -> None:
    given = request.headers.get("content-type")
    kind = (given or MEDIA[0]).partition(";")[0].strip().lower()
    if kind not in MEDIA:
        raise Refusal(415, f"Content-Type: given {given!r}; allowed: {', '.join(MEDIA)}")
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip"):
        raise Refusal(415, f"Content-Encoding: given {coding[:50]!r}; allowed: gzip, or none")


def _read(path: str, name: str) -> dict[str, Any]:
    """Return what the simulator's reader finds in a file; runs in the bench.

    Raises
    ------
    SpecError
        Naming the line at fault.
    """
    # A context of its own, in which errors may quote the file: it is the very one that came with the request.
    return Context().run(_found, path, name)


def _found(path: str, name: str) -> dict[str, Any]:
    from simulator.workload.traces import format_of, read_trace_file

    found = read_trace_file(path, called=name)
    return {"format": format_of(path), "requests": len(found), "span_s": found.duration_s}
