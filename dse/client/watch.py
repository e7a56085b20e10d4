"""What happens in a study, as it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from dse.client.connection import BUSY, Connection
from dse.client.errors import ProblemError, ServiceAway
from dse.service.answers.records import FrontUpdate, StudySummary, Trial

if TYPE_CHECKING:
    from httpx_sse import ServerSentEvent

QUIET_S: Final = 40.0
"""Without a byte for so long, a connection counts as lost: the service sends a sign of life every 15 s."""
REOPENED_S: Final = 5.0
"""A stream is opened again at most so often to end at the time that was asked for."""
ENDED: Final = frozenset({"finished", "failed", "cancelled"})
"""States after which nothing happens any more, unless a person asks for it."""


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes
    ----------
    kind
        ``study``: counts or the state changed; ``trials``: designs were evaluated; ``front``: another front;
        ``end``: nothing more will come.
    study
        The study now, for ``study`` and ``end``.
    trials
        Designs in the order in which they finished, for ``trials``.
    front
        Who is on the front now, for ``front``.
    """

    kind: Literal["study", "trials", "front", "end"]
    study: StudySummary | None = None
    trials: tuple[Trial, ...] = ()
    front: FrontUpdate | None = None


def watch(connection: Connection, id: str, *, after: str = "", until_s: float | None = None) -> Iterator[Event]:
    """Yield what happens in a study until it ends; a connection that is lost is opened again where it was.

    Parameters
    ----------
    connection
        To the service.
    id
        Of the study.
    after
        Place to start from; trials before it are left out.
    until_s
        Time of ``time.monotonic`` at which to stop.

    Raises
    ------
    ServiceAway
        If the service does not come back.
    ProblemError
        If there is no such study, or it may not be read.
    """
    import httpx
    from httpx_sse import EventSource, SSEError

    place, patience = after, connection.patience()
    while until_s is None or time.monotonic() < until_s:
        opened_s = time.monotonic()
        quiet_s = QUIET_S if until_s is None else max(0.05, min(QUIET_S, until_s - opened_s))
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if place:
            headers["Last-Event-ID"] = place
        lost: Exception = ConnectionError("the stream ended")
        try:
            with connection.stream(f"/v1/studies/{id}/events", headers=headers, quiet_s=quiet_s) as response:
                for said in EventSource(response).iter_sse():
                    place, patience = said.id or place, connection.patience()
                    event = _event(said)
                    if event is not None:
                        yield event
                        if event.kind == "end":
                            return
                    if until_s is not None and _ends_within(quiet_s, until_s, opened_s):
                        lost = TimeoutError()
                        break
        except SSEError:  # which is a TransportError, too
            raise ServiceAway(f"{connection.url}: what answers there is no dse serve") from None
        except httpx.TransportError as error:
            lost = error
        except ProblemError as error:
            if error.status not in BUSY:
                raise
            lost = error
        if not isinstance(lost, TimeoutError):
            patience.wait(lost)


def _ends_within(quiet_s: float, until_s: float, opened_s: float) -> bool:
    """Return whether a stream could be silent until after the end, and has to be opened again to end in time."""
    now = time.monotonic()
    return now >= until_s or (now - opened_s > REOPENED_S and until_s - now < quiet_s)


def _event(said: ServerSentEvent) -> Event | None:
    """Return an event as a record; None for one that this version does not know."""
    if said.event in {"study", "end"}:
        return Event(said.event, study=StudySummary.model_validate_json(said.data))  # type: ignore[arg-type]
    if said.event == "trials":
        trials: Any = said.json()["trials"]
        return Event("trials", trials=tuple(Trial.model_validate(each) for each in trials))
    if said.event == "front":
        return Event("front", front=FrontUpdate.model_validate_json(said.data))
    return None
