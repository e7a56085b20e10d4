"""What there is to choose from: hardware, models, engines, metrics, samplers, shipped studies; and forms of specs."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from dse.service.answers.catalog import Catalog, catalog_of
from dse.service.api.answering import respond
from dse.service.api.bodies import JSON
from dse.service.api.kept import Answer
from dse.service.api.problems import documented
from dse.service.api.security import needs
from dse.service.storage.errors import NotFound
from simulator.spec.base import Spec

router = APIRouter(tags=["catalog"], dependencies=[needs("read")])

Kind = Literal["study", "deployment", "workload"]


@router.get("/v1/catalog", response_model=Catalog, responses=documented(304))
async def catalog(request: Request) -> Response:
    """Return everything that a specification can name, with key figures."""
    return respond(request, await run_in_threadpool(_catalog))


@router.get("/v1/catalog/studies/{name:path}", response_model=dict[str, Any], responses=documented(304, 404, 422))
async def shipped_study(request: Request, name: str) -> Response:
    """Return a shipped study as a specification, to run or to change."""
    return respond(request, await run_in_threadpool(_study, name))


@router.get("/v1/schemas/{kind}", response_model=dict[str, Any], responses=documented(304, 422))
async def schema(request: Request, kind: Kind) -> Response:
    """Return the JSON Schema of a specification."""
    return respond(request, await run_in_threadpool(_schema, kind))


@cache
def _catalog() -> Answer:
    return Answer.of(catalog_of().model_dump_json().encode(), JSON)


@cache
def _studies() -> dict[str, Answer]:
    from dse.library import load_study, study_names

    return {name: _as_json(load_study(name).model_dump(mode="json", exclude_unset=True)) for name in study_names()}


def _study(name: str) -> Answer:
    found = _studies().get(name)
    if found is None:
        raise NotFound(f"no shipped study {name[:100]!r}; there are: {', '.join(_studies())}")
    return found


@cache
def _schema(kind: Kind) -> Answer:
    from dse.spec import StudySpec
    from simulator import Deployment, Workload

    kinds: dict[str, type[Spec]] = {"study": StudySpec, "deployment": Deployment, "workload": Workload}
    return _as_json(kinds[kind].model_json_schema())


def _as_json(data: Any) -> Answer:
    return Answer.of(json.dumps(data).encode(), JSON)
