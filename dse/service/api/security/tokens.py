"""Which token a request has. Good ones are remembered for a few seconds, so that not every request asks the database.

A token that is revoked stops at once on the server that revoked it, and within :data:`REMEMBERED_S` on others.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from dse.service.api.problems import problem_response
from dse.service.api.security.addresses import address_of
from dse.service.api.security.callers import CALLER, EVERYBODY, NOBODY, TOKEN_REQUIRED, Caller
from dse.service.api.security.rates import Rate

if TYPE_CHECKING:
    from dse.service.storage.tokens import Tokens

REMEMBERED_S: Final = 5.0
TRIES_PER_MINUTE: Final = 10
"""Wrong tokens from one address; 256 random bits are not guessed, but tries fill logs and cost queries."""


class GoodTokens:
    """Tokens that were found good a moment ago, by the hash that the database has, too.

    Parameters
    ----------
    tokens
        The storage, asked when it is needed.
    """

    def __init__(self, tokens: Callable[[], Tokens]) -> None:
        self._tokens = tokens
        self._good: dict[bytes, tuple[float, Caller]] = {}
        self._familiar: set[bytes] = set()

    def remembered(self, secret: str) -> Caller | None:
        """Return who has a token, if that was found out a moment ago."""
        found = self._good.get(_hash(secret))
        return found[1] if found and time.monotonic() < found[0] else None

    def is_familiar(self, secret: str) -> bool:
        """Return whether a token was good when it was last asked for."""
        return _hash(secret) in self._familiar

    def check(self, secret: str) -> Caller | None:
        """Return who has a token, None if nobody has."""
        row = self._tokens().check(secret)
        now = time.monotonic()
        self._good = {key: value for key, value in self._good.items() if now < value[0]}
        if row is None:
            self._familiar.discard(_hash(secret))
            return None
        self._familiar.add(_hash(secret))
        caller = Caller(row.scope, row.id)
        left_s = REMEMBERED_S if row.expires_s is None else min(REMEMBERED_S, row.expires_s - time.time())
        self._good[_hash(secret)] = now + left_s, caller
        return caller

    def forget(self) -> None:
        """Ask the database again for every token."""
        self._good = {}


def _hash(secret: str) -> bytes:
    # Looked up by hash, how long a look-up takes says nothing of a secret.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


class TokenCallers:
    """ASGI middleware that finds out who asks.

    Parameters
    ----------
    app
        What serves the request; its routes say which scope they need (:func:`~.callers.needs`).
    good
        Tokens, with a memory; None where no token is required.
    """

    def __init__(self, app: ASGIApp, good: GoodTokens | None) -> None:
        self._app = app
        self._good = good
        self._wrong = Rate(TRIES_PER_MINUTE, 60, "wrong tokens")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._good is None:
            scope[CALLER] = EVERYBODY
            await self._app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if given:
            secret = _secret(given)
            caller = self._good.remembered(secret)
            if caller is None:
                address = address_of(scope)
                # Who has a good token is not kept out by what others try from the same address.
                if self._wrong.is_reached(address) and not self._good.is_familiar(secret):
                    await self._wrong.response(address)(scope, receive, send)
                    return
                caller = await run_in_threadpool(self._good.check, secret) if secret else None
            if caller is None:
                self._wrong.take(address)
                detail = "Authorization: expected Bearer and a token that is known and has not expired"
                headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
                await problem_response(401, detail, headers=headers)(scope, receive, send)
                return
        elif scope["method"] in ("GET", "HEAD"):
            # Some need no token: whether this one does, its route says.
            caller = NOBODY
        else:
            await problem_response(401, TOKEN_REQUIRED, headers={"WWW-Authenticate": "Bearer"})(scope, receive, send)
            return
        scope[CALLER] = caller
        await self._app(scope, receive, send)


def _secret(given: list[bytes]) -> str:
    """Return the token of the Authorization headers; empty if they are of no use."""
    kind, _, secret = given[0].decode("latin-1").strip().partition(" ")
    return secret.strip() if len(given) == 1 and kind.lower() == "bearer" else ""
