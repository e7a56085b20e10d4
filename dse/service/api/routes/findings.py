"""What a study found, beyond its trials: comparisons, what if, report and exports."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response

from dse.service.answers.comparison import compare
from dse.service.answers.exports import MEDIA_TYPES
from dse.service.answers.records import Comparison, Explanation, WhatIf, WhatIfAnswer
from dse.service.answers.what_if import candidates, what_if
from dse.service.api import jobs
from dse.service.api.answering import respond
from dse.service.api.bodies import JSON, body, read_model
from dse.service.api.kept import Answer
from dse.service.api.known import Trials
from dse.service.api.leaving import unless_left
from dse.service.api.problems import documented
from dse.service.api.routes.trials import MOST, trial_of
from dse.service.api.security import needs
from dse.service.api.service import service_of
from dse.service.storage.studies import StudyRow
from dse.spec import StudySpec

REPORT_POLICY: Final = "; ".join(
    (
        "sandbox allow-scripts allow-downloads",
        "default-src 'none'",
        "script-src 'unsafe-inline'",
        "style-src 'unsafe-inline'",
        "img-src data: blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
"""The report is one file with its scripts inside; the sandbox keeps it apart from the page and its token."""

router = APIRouter(prefix="/v1/studies/{id}", tags=["results"], dependencies=[needs("read")])

Export = Literal["front.csv", "trials.csv", "trials.parquet", "study.json", "study.yaml"]


@router.get("/compare", response_model=Comparison, responses=documented(304, 404, 409, 422))
async def compare_trials(
    request: Request,
    id: str,
    first: Annotated[int, Query(ge=0, le=MOST, description="number of a trial")],
    second: Annotated[int, Query(ge=0, le=MOST, description="number of another")],
) -> Response:
    """Compare two trials: what differs in the designs, and what comes of it."""

    def compared(_row: StudyRow, trials: Trials) -> Answer:
        for number in (first, second):
            trial_of(trials, number)
        return Answer.of(compare(trials.view, first, second).model_dump_json().encode())

    return respond(request, await service_of(request).views.answer(id, ("compare", first, second), compared))


@router.get("/why", response_model=Explanation, responses=documented(304, 404, 409, 422))
async def explain_difference(
    request: Request,
    id: str,
    first: Annotated[int, Query(ge=0, le=MOST, description="number of a trial")],
    second: Annotated[int, Query(ge=0, le=MOST, description="number of another")],
) -> Response:
    """Say how much each choice contributes to the difference of two trials; simulates designs between the two."""
    service = service_of(request)

    def known(_row: StudyRow, trials: Trials) -> None:
        for number in (first, second):
            trial_of(trials, number)

    await service.views.read(id, known)

    async def explained() -> Answer:
        return Answer.of(await service.bench.run(jobs.explained, service.database.url, id, first, second))

    return respond(request, await service.views.once(id, ("why", first, second), explained))


@router.post(
    "/what-if",
    response_model=WhatIfAnswer,
    responses=documented(404, 408, 409, 413, 415, 422),
    openapi_extra=body(WhatIf, yaml=False, example={"usd_per_hour": {"h100-sxm": 2.0}}),
)
async def ask_what_if(request: Request, id: str) -> Response:
    """Say what the front would be at other prices, or at another rate of requests; nothing is stored."""
    service = service_of(request)
    question = await read_model(request, WhatIf)

    def at_once(_row: StudyRow, trials: Trials) -> bytes:
        return what_if(trials.view, question).model_dump_json().encode()

    def needed(_row: StudyRow, trials: Trials) -> tuple[StudySpec, list[dict[str, Any]], list[int], WhatIf]:
        today = [each.number for each in trials.view.front_designs]
        return trials.spec, [each.to_json() for each in candidates(trials.view, question)], today, question

    if question.rate_factor == 1:
        answer = await service.views.read(id, at_once)
    else:
        asked = await service.views.read(id, needed)
        answer = await unless_left(request, service.bench.run(jobs.at_rate, *asked))
    return Response(answer, media_type=JSON)


@router.get(
    "/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}, **documented(304, 404, 409, 422)},
)
async def get_report(request: Request, id: str) -> Response:
    """Return a study's report: one HTML file that needs neither network nor server."""
    service = service_of(request)

    async def reported() -> Answer:
        content = await service.bench.run(jobs.reported, service.database.url, id)
        return await service.views.computed(lambda: Answer.of(content, "text/html; charset=utf-8"))

    revision = (await service.views.row(id)).revision
    answer = await service.views.once(id, "report", reported, revision=revision)
    return respond(request, answer, headers={"Content-Security-Policy": REPORT_POLICY})


@router.get(
    "/exports/{name}",
    response_class=Response,
    responses={
        200: {"content": {media.partition(";")[0]: {} for media in MEDIA_TYPES.values()}},
        **documented(304, 404, 409, 422),
    },
)
async def export_study(request: Request, id: str, name: Export) -> Response:
    """Return a study's front or trials as a file."""

    service = service_of(request)
    row = await service.views.row(id)

    async def exported() -> Answer:
        content, media = await service.bench.run(jobs.exported, service.database.url, id, name)
        return await service.views.computed(lambda: Answer.of(content, media, f"{row.name}-{name}"))

    return respond(request, await service.views.once(id, ("export", name), exported, revision=row.revision))
