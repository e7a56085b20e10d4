"""Watching studies: server-sent events, made of what all watchers of a study share.

One task looks up the revisions of all studies that are watched, in one query. Where one changed, its watchers are
woken. Each sends what it has not sent yet, as fast as its client reads: a slow one leaves out states in between, no
trial, and holds nothing but its place. The same task ends the streams of tokens that were revoked or have expired.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from anyio import to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from dse.service.api.kept import Answer
from dse.service.api.known import Trials
from dse.service.api.problems import problem_response
from dse.service.api.security.callers import CALLER, NOBODY, Caller
from dse.service.api.views import Views, summary_of
from dse.service.storage.errors import NotFound, Unavailable
from dse.service.storage.studies import ENDED, StudyRow
from dse.service.storage.tokens import Tokens

POLL_S: Final = 0.3
TOKENS_S: Final = 5.0
"""After so long it is asked again whether the tokens of watchers are still good."""
HEARTBEAT_S: Final = 15.0
HEARTBEAT: Final = b": still here\n\n"
SLOW_S: Final = 30.0
"""A client that takes nothing for so long is cut; it can come back where it was."""
RETRY: Final = b"retry: 2000\n\n"
MOST_TRIALS: Final = 200
"""In one event."""

log = logging.getLogger(__name__)


@dataclass
class _Watched:
    """A study that somebody watches."""

    watchers: int = 0
    revision: int | None = -1
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """Wake whoever waits for a change."""
        self.changed.set()
        self.changed = asyncio.Event()


class Events:
    """Who watches which study.

    Parameters
    ----------
    views
        What is known of studies.
    tokens
        Says which tokens are good.
    most
        Watchers at the same time.
    """

    def __init__(self, views: Views, tokens: Tokens, most: int) -> None:
        self._views, self._tokens, self._most = views, tokens, most
        self._callers: Counter[str] = Counter()
        self._shut_out: set[str] = set()
        self._asked_s = 0.0
        self._watched: dict[str, _Watched] = {}
        self._somebody = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self.watchers = 0

    def start(self) -> None:
        """Begin to look for changes."""
        self._task = asyncio.create_task(self._poll(), name="events")

    def close(self) -> None:
        """End all streams; called from the event loop, before the server waits for its connections to end."""
        self._closing = True
        self._wake_all()
        if self._task is not None:
            self._task.cancel()

    def _wake_all(self) -> None:
        for watched in self._watched.values():
            watched.wake()

    def stream(self, id: str, after: int) -> EventStream:
        """Return the events of a study as an answer.

        Parameters
        ----------
        id
            Of the study.
        after
            Trials that the client knows already, in the order in which they finished.
        """
        return EventStream(self, id, after)

    @property
    def is_full(self) -> bool:
        """Whether there are as many watchers as there may be."""
        return self.watchers >= self._most

    def enter(self, id: str, token: str) -> None:
        """Count a watcher and the token that it has, which may be none."""
        self.watchers += 1
        if token:
            self._callers[token] += 1
        self._watched.setdefault(id, _Watched()).watchers += 1
        self._somebody.set()

    def leave(self, id: str, token: str) -> None:
        """Forget a watcher."""
        self.watchers -= 1
        if token:
            self._callers[token] -= 1
            self._callers += Counter()  # without those that are zero
        watched = self._watched[id]
        watched.watchers -= 1
        if not watched.watchers:
            del self._watched[id]
        if not self._watched:
            self._somebody.clear()

    async def events(self, id: str, token: str, after: int) -> AsyncIterator[bytes]:
        """Yield the events of a study whose watcher was counted, until it ends, is deleted or the token is no good."""
        yield RETRY
        watched = self._watched[id]
        sent, revision, front = after, -1, b""
        while not self._closing and token not in self._shut_out:
            # Before anything is read, so that no change is missed.
            changed = watched.changed
            try:
                row, trials = await self._views.trials(id)
                update = await self._views.answer(id, "front update", _front_update, latest=True)
            except Unavailable:
                await asyncio.sleep(1)
                yield HEARTBEAT
                continue
            except NotFound:
                return
            # Only this list, so that what else is known of the trials can be forgotten meanwhile.
            texts = trials.json
            del trials
            total = len(texts)
            sent = min(sent, total)
            summary = summary_of(row).model_dump_json().encode()
            if row.revision != revision:
                revision = row.revision
                yield event(b"study", summary, sent)
            while sent < total:
                upto = min(sent + MOST_TRIALS, total)
                content = b'{"trials":[%b]}' % b",".join(texts[sent:upto])
                sent = upto
                yield event(b"trials", content, sent)
            if update.content != front:
                front = update.content
                yield event(b"front", front, sent)
            if row.state in ENDED:
                yield event(b"end", summary, sent)
                return
            del texts
            while not changed.is_set():
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await changed.wait()
                except TimeoutError:
                    yield HEARTBEAT

    async def _poll(self) -> None:
        while True:
            await self._somebody.wait()
            asked = list(self._watched)
            try:
                await self._look_at_tokens()
                found = await self._views.look(asked)
            except Unavailable as error:
                log.warning("changes of studies cannot be looked up: %s", error)
            except Exception:
                log.exception("changes of studies cannot be looked up")
            else:
                for id in asked:
                    watched = self._watched.get(id)
                    # A new one is woken in any case: it may have read what was there before.
                    if watched is not None and watched.revision != found.get(id):
                        watched.revision = found.get(id)
                        watched.wake()
            await asyncio.sleep(POLL_S)

    async def _look_at_tokens(self) -> None:
        """Shut out watchers whose token was revoked or has expired."""
        if not self._callers or monotonic() < self._asked_s + TOKENS_S:
            return
        self._asked_s, asked = monotonic(), set(self._callers)
        self._shut_out = asked - await to_thread.run_sync(self._tokens.good, asked)
        if self._shut_out:
            self._wake_all()


def event(name: bytes, content: bytes, cursor: int) -> bytes:
    """Return an event as it is sent; JSON has no line breaks."""
    return b"event: %b\ndata: %b\nid: %d\n\n" % (name, content, cursor)


def _front_update(_row: StudyRow, trials: Trials) -> Answer:
    return Answer.of(trials.view.front_update().model_dump_json().encode())


class EventStream(StreamingResponse):
    """A stream of events that counts as a watcher for as long as it is sent."""

    media_type = "text/event-stream"

    def __init__(self, events: Events, id: str, after: int) -> None:
        # Proxies that gather an answer before they pass it on are asked not to.
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__((), headers=headers)
        self._events, self._id, self._after = events, id, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, until it ends, the client leaves or takes nothing any more."""
        if self._events.is_full:
            detail = f"{self._events.watchers:,} event streams are open, as many as may be"
            await problem_response(429, detail, kind="limit", headers={"Retry-After": "10"})(scope, receive, send)
            return
        caller: Caller = scope.get(CALLER, NOBODY)
        self.body_iterator = self._events.events(self._id, caller.token, self._after)
        self._events.enter(self._id, caller.token)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._events.leave(self._id, caller.token)

    async def stream_response(self, send: Send) -> None:
        """Send the pieces, each within :data:`SLOW_S`."""

        async def in_time(message: object) -> None:
            async with asyncio.timeout(SLOW_S):
                await send(message)  # type: ignore[arg-type]

        try:
            await super().stream_response(in_time)
        except TimeoutError:
            log.info("a watcher of study %s took nothing for %g s", self._id, SLOW_S)
