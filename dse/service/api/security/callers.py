"""Who asks, and what they may do: scopes of routes, held against the token of the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.params import Depends
from fastapi.security.base import SecurityBase

from dse.service.api.problems import Refusal

TokenScope = Literal["read", "run", "admin"]
SCOPES: Final[tuple[TokenScope, ...]] = ("read", "run", "admin")
"""Each may do what those before it may."""
CALLER: Final = "dse.caller"
"""Key of the :class:`Caller` in the ASGI scope."""
TOKEN_REQUIRED: Final = "a token is required: Authorization: Bearer dse_…"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    Attributes
    ----------
    scope
        What they may do; None for somebody without a token where one is required.
    token
        Id of the token; empty without one.
    """

    scope: TokenScope | None
    token: str = ""


EVERYBODY: Final = Caller("admin")
"""Whoever asks where no token is required."""
NOBODY: Final = Caller(None)


class Needs(SecurityBase):
    """Dependency that lets in callers with a scope.

    Attributes
    ----------
    scope
        The scope.
    """

    def __init__(self, scope: TokenScope) -> None:
        self.scope: Final = scope
        self.model = HTTPBearer(description="a token from `dse token create`; not needed where only loopback is served")
        self.scheme_name = "token"
        self._allowed = SCOPES[SCOPES.index(scope) :]

    async def __call__(self, request: Request) -> None:
        """Raise 401 or 403 unless the caller may pass."""
        caller: Caller = request.scope.get(CALLER, NOBODY)
        if caller.scope is None:
            raise Refusal(401, TOKEN_REQUIRED, headers={"WWW-Authenticate": "Bearer"})
        if caller.scope not in self._allowed:
            raise Refusal(403, f"the scope {self.scope} is needed; the token's is {caller.scope}")


def needs(scope: TokenScope) -> Depends:
    """Return what a route declares in ``dependencies`` to say which scope it needs."""
    return Depends(_NEEDS[scope])


_NEEDS: Final = {scope: Needs(scope) for scope in SCOPES}
