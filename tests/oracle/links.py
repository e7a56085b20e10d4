"""Links: all transfers under way on one share its rate equally."""

from collections.abc import Callable
from dataclasses import dataclass

from .request import Request


@dataclass
class Transfer:
    """A request's data on a link; `ended` is called when all of it has been sent."""

    target: int
    request: Request
    ended: Callable[[int], None]


class Link:
    """A link with its virtual time: what a transfer under way since ever would have been served."""

    def __init__(self, index: int) -> None:
        self.index = index  # behind the clients
        self.virtual = 0
        self.last_ps = 0
        self.transfers: list[Transfer] = []

    def advance(self, now: int) -> None:
        assert now >= self.last_ps
        if self.transfers:
            self.virtual += (now - self.last_ps) // len(self.transfers)
        self.last_ps = now
        assert all(self.virtual <= t.target for t in self.transfers)

    def next_to_end(self) -> Transfer:
        return min(self.transfers, key=lambda t: (t.target, t.request.index))

    @property
    def event_ps(self) -> int | None:
        """When the next transfer ends; None if there is none."""
        if not self.transfers:
            return None
        return self.last_ps + (self.next_to_end().target - self.virtual) * len(self.transfers)

    def start(self, now: int, request: Request, work: int, ended: Callable[[int], None]) -> None:
        assert all(t.request is not request for t in self.transfers)
        self.advance(now)
        self.transfers.append(Transfer(self.virtual + max(1, work), request, ended))

    def end_one(self, now: int) -> None:
        assert now == self.event_ps
        self.advance(now)
        transfer = self.next_to_end()
        assert transfer.target == self.virtual
        self.transfers.remove(transfer)
        transfer.ended(now)

    def check_at_end(self) -> None:
        assert not self.transfers
