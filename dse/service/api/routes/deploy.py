"""A trial's design as files that deploy it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response

from dse.service.answers.records import Deployable
from dse.service.api import jobs
from dse.service.api.answering import respond
from dse.service.api.bench import TooMuch
from dse.service.api.bodies import JSON
from dse.service.api.kept import Answer
from dse.service.api.known import Trials
from dse.service.api.problems import Refusal, documented
from dse.service.api.routes.trials import MOST, Number, trial_of
from dse.service.api.security import needs
from dse.service.api.service import service_of
from dse.service.storage.errors import Conflict
from dse.service.storage.studies import StudyRow
from dse.spec import StudySpec
from simulator.errors import SpecError

ZIP: Final = "application/zip"

Target = Literal["vllm", "sglang", "kubernetes", "llm-d", "dynamo", "ray-serve", "all"]

router = APIRouter(prefix="/v1/studies/{id}", tags=["results"], dependencies=[needs("read")])


@router.get(
    "/trials/{number}/exports/{target}",
    response_model=Deployable,
    responses={
        200: {"content": {ZIP: {"schema": {"type": "string", "format": "binary"}}}},
        **documented(304, 404, 409, 422),
    },
)
async def export_trial(
    request: Request,
    id: str,
    number: Number,
    target: Target,
    form: Annotated[Literal["zip", "json"], Query(description="an archive, or files and notes as JSON")] = "zip",
    load: Annotated[bool, Query(description="also scripts that replay the study's workload")] = False,
    requests: Annotated[
        int | None, Query(ge=1, le=MOST, description="how many requests to replay; all if absent")
    ] = None,
) -> Response:
    """Return the files that deploy a trial's design, as `dse export` writes them, and what they do not hold."""
    service = service_of(request)
    if requests is not None and not load:
        raise Refusal(422, "requests: only with load=true", kind="parameters")

    def needed(row: StudyRow, trials: Trials) -> tuple[str, StudySpec, dict[str, Any]]:
        trial = trial_of(trials, number)
        if trials.view.deployment(trial) is None:
            raise Conflict(f"trial {number}: its choices contradict each other, so there is nothing to deploy")
        return row.name, trials.spec, trial.to_json()

    async def exported() -> Answer:
        name, spec, evaluation = await service.views.read(id, needed)
        folder = f"{name}-{number}-{target}"
        most = service.settings.limits.once_requests
        try:
            content = await service.bench.run(
                jobs.deployed, spec, evaluation, target, folder if form == "zip" else "", load, requests, most
            )
        except TooMuch:
            raise
        except SpecError as error:
            raise Refusal(422, str(error), kind="export", errors=error.problems) from None
        return Answer.of(content, ZIP, f"{folder}.zip") if form == "zip" else Answer.of(content, JSON)

    await service.views.row(id)
    key = ("deploy", number, target, form, load, requests)
    return respond(request, await service.views.once(id, key, exported))
