"""The application: middlewares around routes, opened and closed with the server."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any, Final

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from dse.service.api import bodies, problems
from dse.service.api.answering import respond
from dse.service.api.kept import Answer
from dse.service.api.middlewares import add_middlewares
from dse.service.api.routes import (
    catalog,
    deploy,
    events,
    findings,
    once,
    operation,
    page,
    studies,
    tokens,
    traces,
    trials,
)
from dse.service.api.service import Service
from dse.service.api.upkeep import keep_up
from dse.service.settings import Settings

SWITCH_S: Final = 0.001
DESCRIPTION: Final = """Design-space exploration for LLM inference: create studies, watch them, read what they found.

Errors are problem details ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)). Times are seconds since 1970. Bodies
that are specifications may be JSON or YAML; files that they name are uploaded traces, by their names."""


def create_app(settings: Settings, *, require_token: bool = False) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    settings
        Of the server.
    require_token
        Ask for a token even where only this machine can reach the server.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = await to_thread.run_sync(Service.opened, settings)
        app.state.service = service
        service.events.start()
        upkeep = asyncio.create_task(keep_up(service), name="upkeep")
        switch_s = _prepare_interpreter()
        try:
            yield
        finally:
            gc.unfreeze()
            sys.setswitchinterval(switch_s)
            service.events.close()
            upkeep.cancel()
            await to_thread.run_sync(service.close)

    # Without the pages for trying the API: they load scripts from elsewhere.
    app = FastAPI(
        title="dse",
        version=metadata.version("dse-llm"),
        description=DESCRIPTION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    for module in (studies, trials, deploy, findings, events, once, catalog, traces, tokens, operation, page):
        app.include_router(module.router)
    _describe(app)
    app.add_middleware(problems.Unexpected)
    add_middlewares(app, settings, require_token=require_token or not settings.is_loopback)
    return app


def _prepare_interpreter() -> float:
    """Keep the event loop from waiting for the interpreter's own affairs; return the switch interval of before."""
    # Looking through all that was imported for garbage would stop everything for 0.2 s, again and again.
    gc.collect()
    gc.freeze()
    before = sys.getswitchinterval()
    # For so long, threads that compute keep the loop waiting each time it has something to do.
    sys.setswitchinterval(SWITCH_S)
    return before


def _describe(app: FastAPI) -> None:
    """Serve OpenAPI's description of all routes, made once."""
    described: list[Answer] = []

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            bodies.add_schemas(found.setdefault("components", {}).setdefault("schemas", {}), problems.Problem)
            app.openapi_schema = found
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/openapi.json", include_in_schema=False)
    async def get_openapi_json(request: Request) -> Response:
        if not described:
            made = await to_thread.run_sync(openapi)
            described.append(Answer.of(json.dumps(made).encode()))
        return respond(request, described[0])
