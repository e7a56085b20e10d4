"""The routing rules."""

from collections.abc import Sequence

from .llm import LlmClient
from .service import ServiceClient

Client = LlmClient | ServiceClient


class Router:
    """One of the routing rules, with its own round-robin pointer."""

    def __init__(self, name: str) -> None:
        assert name in ("round_robin", "join_shortest_queue", "least_outstanding_tokens")
        self.name = name
        self.pointer = 0

    def pick(self, clients: Sequence[Client], eligible: Sequence[Client]) -> Client | None:
        """Pick one of `eligible`, None if there is none."""
        if not eligible:
            return None
        if self.name == "round_robin":
            return self.pick_next(clients, eligible)
        if self.name == "join_shortest_queue":
            return min(eligible, key=lambda client: (len(client.outstanding), client.index))
        return min(eligible, key=lambda client: (client.outstanding_tokens(), client.index))

    def pick_next(self, clients: Sequence[Client], eligible: Sequence[Client]) -> Client:
        while clients[self.pointer] not in eligible:
            self.pointer = (self.pointer + 1) % len(clients)
        picked = clients[self.pointer]
        self.pointer = (self.pointer + 1) % len(clients)
        return picked
