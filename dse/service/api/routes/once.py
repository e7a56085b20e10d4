"""Questions about one deployment, answered at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response

from dse.once.answers import capacity_answer, explanation_answer, simulation_answer
from dse.once.questions import CapacityQuestion, ExplanationQuestion, SimulationQuestion
from dse.service.answers.once import CapacityAnswer, ExplanationAnswer, SimulationAnswer
from dse.service.api.bodies import JSON, body, read_spec
from dse.service.api.leaving import unless_left
from dse.service.api.problems import documented
from dse.service.api.security import needs
from dse.service.api.service import service_of
from simulator.spec.base import Spec

Question = TypeVar("Question", bound=Spec)

router = APIRouter(tags=["at once"], dependencies=[needs("run")], responses=documented(404, 408, 413, 415, 422))

DEPLOYMENT = {"pools": [{"model": "llama-3.1-8b", "accelerator": "l40s", "clients": 2}]}
WORKLOAD = {
    "requests": 1000,
    "arrivals": {"process": "poisson", "rate_rps": 4},
    "lengths": {"statistics": "azure-2023-conversation"},
}
SLOS = [{"metric": "ttft", "percentile": 99, "limit_s": 2}]
SYSTEM = {"deployment": DEPLOYMENT, "workload": WORKLOAD, "slos": SLOS}


@router.post("/v1/simulate", openapi_extra=body(SimulationQuestion, example=SYSTEM), response_model=SimulationAnswer)
async def simulate(request: Request) -> Response:
    """Simulate a deployment on a workload; the answer is that of `dse simulate --json`."""
    most = service_of(request).settings.limits.once_requests
    return await _answer(request, SimulationQuestion, simulation_answer, most)


@router.post("/v1/capacity", openapi_extra=body(CapacityQuestion, example=SYSTEM), response_model=CapacityAnswer)
async def capacity(request: Request) -> Response:
    """Find the highest rate that a deployment sustains within its SLOs; the answer is that of `dse capacity --json`."""
    most = service_of(request).settings.limits.once_requests
    return await _answer(request, CapacityQuestion, capacity_answer, most)


@router.post(
    "/v1/explain",
    openapi_extra=body(ExplanationQuestion, example={"deployment": DEPLOYMENT, "batch": 64}),
    response_model=ExplanationAnswer,
)
async def explain(request: Request) -> Response:
    """Take the steps of a deployment apart, operator by operator; the answer is that of `dse explain --json`."""
    return await _answer(request, ExplanationQuestion, explanation_answer)


async def _answer(request: Request, kind: type[Question], function: Callable[..., str], *limits: Any) -> Response:
    service = service_of(request)
    with service.files():
        question = await read_spec(request, kind)
    work = service.bench.run(function, question.model_dump_json(exclude_unset=True), *limits)
    answer = await unless_left(request, work)
    return Response(answer, media_type=JSON)
