"""Tokens, and what a caller may do."""

from __future__ import annotations

from dataclasses import asdict
from importlib.metadata import version
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from dse.service.api.bodies import body, read_spec
from dse.service.api.problems import documented
from dse.service.api.security import CALLER, Caller, TokenScope, needs
from dse.service.api.service import service_of
from dse.service.settings import Limits
from simulator.spec.base import Spec

router = APIRouter(tags=["tokens"])
_BODY = (408, 413, 415, 422)


class TokenWanted(Spec):
    """A token to be made."""

    name: str = Field(min_length=1, max_length=200, description="whose it is, or what for")
    scope: TokenScope = Field(description="read; run: also change and compute; admin: also delete, and tokens")
    days: float | None = Field(default=None, gt=0, le=36_500, description="days until it expires; never if absent")


class Token(BaseModel):
    """A token, without the secret."""

    id: str
    name: str
    scope: TokenScope
    created_s: float = Field(description="seconds since 1970")
    expires_s: float | None = Field(description="seconds since 1970; None: never")


class NewToken(Token):
    """A token that was just made."""

    token: str = Field(description="the secret: shown this once, and kept only as a hash")


class TokenList(BaseModel):
    """All tokens, the oldest first."""

    tokens: list[Token]


class LivingWorker(BaseModel):
    """A worker that gave a sign of life a moment ago."""

    id: str
    host: str
    pid: int
    jobs: int
    started_s: float
    seen_s: float


class Session(BaseModel):
    """What a caller may do, and what the server is."""

    version: str
    scope: TokenScope | None = Field(description="of the caller; None: a token is required, and none was given")
    token_required: bool
    limits: Limits
    dashboard: str | None = Field(description="address of an optuna-dashboard on the same database")
    workers: list[LivingWorker]


@router.get("/v1/session", responses=documented())
async def session(request: Request) -> Session:
    """Tell what the caller may do; open to all, but without a token it tells little."""
    service, caller = service_of(request), _caller(request)
    known = caller.scope is not None
    living = await run_in_threadpool(service.workers.living, service.settings.lease_s) if known else []
    return Session(
        version=version("dse-llm"),
        scope=caller.scope,
        token_required=request.app.state.require_token,
        limits=service.settings.limits,
        dashboard=service.settings.dashboard if known else None,
        workers=[LivingWorker(**asdict(worker)) for worker in living],
    )


@router.get("/v1/tokens", dependencies=[needs("admin")], responses=documented())
async def tokens(request: Request) -> TokenList:
    """List tokens, without their secrets."""
    rows = await run_in_threadpool(service_of(request).tokens.list)
    return TokenList(tokens=[Token(**asdict(row)) for row in rows])


@router.post(
    "/v1/tokens",
    status_code=201,
    dependencies=[needs("admin")],
    responses=documented(*_BODY),
    openapi_extra=body(TokenWanted, example={"name": "planning job", "scope": "run", "days": 90}),
)
async def create_token(request: Request, response: Response) -> NewToken:
    """Make a token; the answer is the only place where its secret is ever shown."""
    service = service_of(request)
    wanted = await read_spec(request, TokenWanted)
    row, secret = await run_in_threadpool(service.tokens.create, wanted.name, wanted.scope, wanted.days)
    response.headers["Location"] = "/v1/tokens"
    return NewToken(**asdict(row), token=secret)


@router.delete("/v1/tokens/{id}", status_code=204, dependencies=[needs("admin")], responses=documented(404, 422))
async def revoke_token(request: Request, id: Annotated[str, Path(max_length=100)]) -> None:
    """Revoke a token: at once on this server, within seconds on others."""
    await run_in_threadpool(service_of(request).tokens.revoke, id)
    request.app.state.good_tokens.forget()


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope[CALLER]
    return caller
