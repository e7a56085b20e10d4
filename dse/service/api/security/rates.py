"""How often somebody may ask, by token or else by address."""

from __future__ import annotations

import math
import time
from typing import Final

from limits import RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dse.service.api.problems import problem_response
from dse.service.api.security.addresses import address_of
from dse.service.api.security.callers import CALLER, NOBODY, Caller
from dse.service.settings import Limits

READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SWEPT_S: Final = 60.0


class Counters(Storage):
    """Counters of one event loop, for ``limits``.

    Its own storage in memory starts a thread with most requests to forget old counters, which takes longer than all
    the rest; here they are forgotten once a minute by whoever comes.
    """

    STORAGE_SCHEME = None

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, tuple[float, int]] = {}
        self._swept_s = time.monotonic()

    @property
    def base_exceptions(self) -> type[Exception]:
        """What may go wrong."""
        return ValueError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Add to a counter, which starts anew after some seconds, and return it."""
        now = time.monotonic()
        if now > self._swept_s + _SWEPT_S:
            self._counts = {each: found for each, found in self._counts.items() if now < found[0]}
            self._swept_s = now
        until, count = self._counts.get(key, (0.0, 0))
        if now >= until:
            until, count = now + expiry, 0
        self._counts[key] = until, count + amount
        return count + amount

    def get(self, key: str) -> int:
        """Return a counter."""
        until, count = self._counts.get(key, (0.0, 0))
        return count if time.monotonic() < until else 0

    def get_expiry(self, key: str) -> float:
        """Return when a counter starts anew."""
        return self._counts.get(key, (time.monotonic(), 0))[0]

    def check(self) -> bool:
        """Return whether counters can be kept."""
        return True

    def reset(self) -> int | None:
        """Forget all counters."""
        self._counts, gone = {}, len(self._counts)
        return gone

    def clear(self, key: str) -> None:
        """Forget a counter."""
        self._counts.pop(key, None)


class Rate:
    """A limit on how often somebody does something.

    Parameters
    ----------
    times
        How often.
    within_s
        In how many seconds.
    what
        What it is that they do, for the message.
    """

    def __init__(self, times: int, within_s: int, what: str) -> None:
        self._item = RateLimitItemPerSecond(times, within_s)
        self._limiter = FixedWindowRateLimiter(Counters())
        self._said = f"{what}: at most {times:,} in {within_s} s"

    def take(self, who: str) -> bool:
        """Count one more; return whether it is within the limit."""
        return self._limiter.hit(self._item, who)

    def is_reached(self, who: str) -> bool:
        """Return whether one more would be too many."""
        return not self._limiter.test(self._item, who)

    def response(self, who: str) -> Response:
        """Return the refusal, which says when to come again."""
        left_s = self._limiter.get_window_stats(self._item, who).reset_time - time.monotonic()
        return problem_response(429, self._said, headers={"Retry-After": str(max(1, math.ceil(left_s)))})


class RateLimits:
    """ASGI middleware that refuses who asks too often.

    Parameters
    ----------
    app
        What serves the others.
    limits
        How often.
    """

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._reads = Rate(limits.reads_per_s, 1, "requests that read")
        self._writes = Rate(limits.writes_per_minute, 60, "requests that change or compute something")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            caller: Caller = scope.get(CALLER, NOBODY)
            rate = self._reads if scope["method"] in READS else self._writes
            who = caller.token or address_of(scope)
            if not rate.take(who):
                await rate.response(who)(scope, receive, send)
                return
        await self._app(scope, receive, send)
