"""For whoever runs the service: whether it is alive, whether it can work, and figures."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from dse.service.api.metrics import Metrics
from dse.service.api.problems import documented
from dse.service.api.security import needs
from dse.service.api.service import service_of

router = APIRouter(tags=["operation"])


class Health(BaseModel):
    """The process is alive."""

    status: Literal["ok"] = "ok"


class Readiness(Health):
    """The service can work."""

    workers: int = Field(description="workers alive; without any, studies wait")
    bench: int = Field(description="processes that compute answers at once")


@router.get("/healthz", responses=documented())
async def healthz() -> Health:
    """Tell that the process is alive; asks nobody else."""
    return Health()


@router.get("/readyz", responses=documented())
async def readyz(request: Request) -> Readiness:
    """Tell that the database answers; 503 if not."""
    service = service_of(request)
    living = await run_in_threadpool(service.workers.living, service.settings.lease_s)
    return Readiness(workers=len(living), bench=len(service.bench.processes))


@router.get(
    "/metrics",
    dependencies=[needs("read")],
    response_class=Response,
    responses=documented() | {200: {"content": {"text/plain": {}}, "description": "in Prometheus' format"}},
)
async def metrics(request: Request) -> Response:
    """Return figures for Prometheus."""
    figures: Metrics = request.app.state.metrics
    return Response(await run_in_threadpool(figures.text), headers={"Content-Type": CONTENT_TYPE_LATEST})
