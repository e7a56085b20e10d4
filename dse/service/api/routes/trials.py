"""Trials of a study: lists of them, the front, and one in detail."""

from __future__ import annotations

from typing import Annotated, Any, Final

import yaml
from fastapi import APIRouter, Path, Query, Request, Response

from dse.evaluation import Evaluation
from dse.service.answers.detail import detail
from dse.service.answers.records import Front, Simulation, TrialDetail, TrialPage
from dse.service.api import jobs
from dse.service.api.answering import respond
from dse.service.api.bodies import YAML
from dse.service.api.kept import Answer
from dse.service.api.known import Trials
from dse.service.api.problems import documented
from dse.service.api.security import needs
from dse.service.api.service import service_of
from dse.service.storage.errors import Conflict, NotFound
from dse.service.storage.studies import StudyRow
from dse.spec import StudySpec

MOST: Final = 2**53
MOST_LISTED: Final = 1_000
router = APIRouter(prefix="/v1/studies/{id}", tags=["results"], dependencies=[needs("read")])

Number = Annotated[int, Path(ge=0, le=MOST, description="of a trial")]


@router.get("/trials", response_model=TrialPage, responses=documented(304, 404, 409, 422))
async def list_trials(
    request: Request,
    id: str,
    after: Annotated[int, Query(ge=0, le=MOST, description="`next` of the page before")] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 200,
    simulated: Annotated[bool | None, Query(description="only those that were, or were not")] = None,
    feasible: Annotated[bool | None, Query(description="only those that are, or are not")] = None,
) -> Response:
    """List trials in the order in which they finished."""

    def page(_row: StudyRow, trials: Trials) -> Answer:
        return Answer.of(trials.page(after, limit, simulated, feasible))

    name = ("trials", after, limit, simulated, feasible)
    return respond(request, await service_of(request).views.answer(id, name, page))


@router.get("/front", response_model=Front, responses=documented(304, 404, 409, 422))
async def get_front(request: Request, id: str) -> Response:
    """Return the Pareto front."""

    def front(_row: StudyRow, trials: Trials) -> Answer:
        return Answer.of(trials.view.front().model_dump_json().encode())

    return respond(request, await service_of(request).views.answer(id, "front", front))


@router.get("/trials/{number}", response_model=TrialDetail, responses=documented(304, 404, 409, 422))
async def get_trial(request: Request, id: str, number: Number) -> Response:
    """Return all that is known of a trial without simulating it again."""

    def found(_row: StudyRow, trials: Trials) -> Answer:
        trial_of(trials, number)
        return Answer.of(detail(trials.view, number).model_dump_json().encode())

    return respond(request, await service_of(request).views.answer(id, ("trial", number), found))


@router.get("/trials/{number}/simulation", response_model=Simulation, responses=documented(304, 404, 409, 422))
async def simulate_trial(request: Request, id: str, number: Number) -> Response:
    """Simulate a trial again: distributions of its latencies, waterfall and time series."""
    service = service_of(request)

    def needed(_row: StudyRow, trials: Trials) -> tuple[StudySpec, dict[str, Any]]:
        return trials.spec, trial_of(trials, number).to_json()

    async def simulated() -> Answer:
        return Answer.of(await service.bench.run(jobs.simulated, *await service.views.read(id, needed)))

    await service.views.row(id)
    return respond(request, await service.views.once(id, ("simulation", number), simulated))


@router.get(
    "/trials/{number}/deployment",
    response_class=Response,
    responses={200: {"content": {YAML[0]: {}}}, **documented(304, 404, 409, 422)},
)
async def get_deployment(request: Request, id: str, number: Number) -> Response:
    """Return a trial's deployment as YAML with all defaults written out, which `dse simulate` reads."""

    def written(row: StudyRow, trials: Trials) -> Answer:
        trial_of(trials, number)
        deployment = detail(trials.view, number).deployment
        if deployment is None:
            raise Conflict(f"trial {number}: its choices contradict each other, so there is no deployment")
        text = yaml.safe_dump(deployment, sort_keys=False)
        return Answer.of(text.encode(), YAML[0], f"{row.name}-{number}.yaml")

    return respond(request, await service_of(request).views.answer(id, ("deployment", number), written))


def trial_of(trials: Trials, number: int) -> Evaluation:
    """Return a trial by its number.

    Raises
    ------
    NotFound
        If there is none.
    """
    try:
        return trials.view.by_number(number)
    except KeyError:
        raise NotFound(f"trial: no {number} in this study") from None
