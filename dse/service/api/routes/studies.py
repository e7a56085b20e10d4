"""Studies: create, list, look at, pause, resume, cancel, delete."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response

from dse.service.answers.records import State, Study, StudyCheck, StudyList
from dse.service.api.admission import Admitted, admit, check
from dse.service.api.answering import respond
from dse.service.api.bodies import body, example_study, read_spec
from dse.service.api.problems import documented
from dse.service.api.security import needs
from dse.service.api.service import Service, service_of
from dse.service.storage.studies import StudyRow
from dse.spec import StudySpec

MOST_LISTED = 1_000

router = APIRouter(prefix="/v1/studies", tags=["studies"])
READ, RUN, ADMIN = ([needs(scope)] for scope in ("read", "run", "admin"))
BODY = body(StudySpec, example=example_study())

Id = str


async def _admitted(request: Request, service: Service) -> tuple[Admitted, set[str]]:
    """Return the study in a request's body, and the traces that it needs."""
    used: set[str] = set()
    with service.files(used):
        spec = await read_spec(request, StudySpec)
        return await to_thread.run_sync(admit, spec, service.settings.limits), used


@router.post(
    "",
    status_code=201,
    response_model=Study,
    responses=documented(408, 409, 413, 415, 422),
    openapi_extra=BODY,
    dependencies=RUN,
)
async def create_study(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            description="sent again with the same study, returns the one that is there",
        ),
    ] = None,
) -> Response:
    """Create a study; a worker takes it when one is free."""
    service = service_of(request)
    admitted, traces = await _admitted(request, service)
    row = await to_thread.run_sync(
        lambda: service.studies.create(
            admitted.spec,
            designs=admitted.designs,
            requests=admitted.requests,
            traces=sorted(traces),
            idempotency_key=idempotency_key,
            most_active=service.settings.limits.active_studies,
            most=service.settings.limits.studies,
        )
    )
    service.views.changed(row)
    answer = await service.views.study(row.id)
    return Response(answer.content, 201, {"Location": f"/v1/studies/{row.id}", "ETag": answer.etag}, answer.media)


@router.post(
    "/check",
    response_model=StudyCheck,
    responses=documented(408, 413, 415, 422),
    openapi_extra=BODY,
    dependencies=READ,
)
async def check_study(request: Request) -> Response:
    """Say what a study would be; nothing is stored."""
    service = service_of(request)
    admitted, _ = await _admitted(request, service)
    found = await service.views.computed(lambda: check(admitted).model_dump_json().encode())
    return Response(found, media_type="application/json")


@router.get("", response_model=StudyList, responses=documented(304, 422), dependencies=READ)
async def list_studies(
    request: Request,
    state: Annotated[list[State] | None, Query(description="states to show; all if absent")] = None,
    search: Annotated[str, Query(max_length=200, description="part of the name or the question")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 100,
    after: Annotated[str | None, Query(max_length=200, description="`next` of the page before")] = None,
) -> Response:
    """List studies, the newest first."""
    states = tuple(sorted(set(state or ())))
    answer = await service_of(request).views.listed(states=states, search=search, limit=limit, after=after)
    return respond(request, answer)


@router.get("/{id}", response_model=Study, responses=documented(304, 404, 409, 422), dependencies=READ)
async def get_study(request: Request, id: Id) -> Response:
    """Return a study with its specification."""
    return respond(request, await service_of(request).views.study(id))


@router.delete("/{id}", status_code=204, responses=documented(404, 409, 422), dependencies=ADMIN)
async def delete_study(request: Request, id: Id) -> Response:
    """Delete a study that neither waits nor runs, with all its trials."""
    service = service_of(request)
    await to_thread.run_sync(service.studies.delete, id)
    service.views.deleted(id)
    return Response(status_code=204)


@router.post("/{id}/pause", response_model=Study, responses=documented(404, 409, 422), dependencies=RUN)
async def pause_study(request: Request, id: Id) -> Response:
    """Pause a study; one that runs finishes what it has begun first."""
    service = service_of(request)
    return await _changed(request, service, await to_thread.run_sync(service.studies.pause, id))


@router.post("/{id}/resume", response_model=Study, responses=documented(404, 409, 422), dependencies=RUN)
async def resume_study(request: Request, id: Id) -> Response:
    """Let a study go on that was paused or cancelled, or has failed."""
    service = service_of(request)
    return await _changed(request, service, await to_thread.run_sync(service.studies.resume, id))


@router.post("/{id}/cancel", response_model=Study, responses=documented(404, 409, 422), dependencies=RUN)
async def cancel_study(request: Request, id: Id) -> Response:
    """End a study; what it found stays."""
    service = service_of(request)
    return await _changed(request, service, await to_thread.run_sync(service.studies.cancel, id))


async def _changed(request: Request, service: Service, row: StudyRow) -> Response:
    service.views.changed(row)
    return respond(request, await service.views.study(row.id))


@router.get(
    "/{id}/spec",
    response_class=Response,
    responses={
        200: {"content": {"application/yaml": {}}},
        **documented(304, 404, 409, 422),
    },
    dependencies=READ,
)
async def get_spec(request: Request, id: Id) -> Response:
    """Return a study's specification as YAML, which `dse run` reads."""
    return respond(request, await service_of(request).views.specification(id))
