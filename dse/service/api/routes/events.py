"""Watching a study."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request, Response

from dse.service.api.problems import documented
from dse.service.api.security import needs
from dse.service.api.service import service_of

MOST: Final = 2**53
_DESCRIPTION: Final = """Server-sent events: `study` (StudySummary, when it changed), `trials` (`{trials: [Trial]}`, new
ones in the order in which they finished, at most 200), `front` (FrontUpdate, when it changed) and, when the study has
finished, failed or was cancelled, `end` (StudySummary), after which the stream closes. The id of an event is the number
of trials sent so far: given as `Last-Event-ID` or `after`, the stream goes on from there."""

router = APIRouter(prefix="/v1/studies", tags=["studies"])


@router.get(
    "/{id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
        **documented(404, 409, 422),
    },
    dependencies=[needs("read")],
    description=_DESCRIPTION,
)
async def watch_study(
    request: Request,
    id: str,
    after: Annotated[int, Query(ge=0, le=MOST, description="trials that are known already")] = 0,
    last_event_id: Annotated[
        int | None, Header(alias="Last-Event-ID", ge=0, le=MOST, description="as `after`, which it outdoes")
    ] = None,
) -> Response:
    """Watch a study."""
    service = service_of(request)
    # What can go wrong is to go wrong before the stream has begun.
    await service.views.trials(id)
    return service.events.stream(id, after if last_event_id is None else last_event_id)
