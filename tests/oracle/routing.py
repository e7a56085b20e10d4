"""The routing rules."""

from collections import Counter
from collections.abc import Callable, Sequence

from .draws import draw
from .llm import LlmClient
from .request import Request
from .service import ServiceClient

Client = LlmClient | ServiceClient
# Picks one of the eligible clients, which are in order of index.
Rule = Callable[[Sequence[Client], Request], Client]


def outstanding(client: Client) -> int:
    return len(client.outstanding)


def least(eligible: Sequence[Client], measures: Sequence[int]) -> Client:
    """The one with the smallest measure, the lowest index on ties."""
    return min(zip(measures, eligible, strict=True), key=lambda pair: (pair[0], pair[1].index))[1]


def sum_of_lengths(client: Client, prompts: bool, outputs: bool) -> int:
    """Of the outstanding requests; a service counts requests."""
    if isinstance(client, ServiceClient):
        return outstanding(client)
    return sum(prompts * r.prompt + outputs * r.output for r in client.outstanding)


class Router:
    """One of the routing rules, with its own round-robin pointer."""

    def __init__(self, name: str, salt: int, seed: int, affinity: int, handover: bool, happened: Counter[str]) -> None:
        self.name = name
        self.salt = salt
        self.seed = seed
        self.affinity = affinity
        self.handover = handover
        self.happened = happened
        self.next_index = 0
        self.rules: dict[str, Rule] = {
            "round_robin": self.round_robin,
            "join_shortest_queue": self.join_shortest_queue,
            "least_outstanding_tokens": self.least_outstanding_tokens,
            "least_prompt_tokens": lambda e, _: least(e, [sum_of_lengths(c, True, False) for c in e]),
            "least_output_tokens": lambda e, _: least(e, [sum_of_lengths(c, False, True) for c in e]),
            "least_kv_tokens": lambda e, _: least(e, [sum_of_lengths(c, True, True) for c in e]),
            "random": lambda e, request: e[self.place(e, request, self.salt)],
            "power_of_two": self.power_of_two,
            "session_affinity": self.session_affinity,
            "prefix_affinity": self.prefix_affinity,
        }
        assert name in self.rules

    def pick(self, eligible: Sequence[Client], request: Request) -> Client:
        assert eligible
        assert [c.index for c in eligible] == sorted(c.index for c in eligible)
        return self.rules[self.name](eligible, request)

    def round_robin(self, eligible: Sequence[Client], _: Request) -> Client:
        behind = [c for c in eligible if c.index >= self.next_index]
        picked = behind[0] if behind else eligible[0]
        self.next_index = picked.index + 1
        return picked

    def join_shortest_queue(self, eligible: Sequence[Client], _: Request) -> Client:
        return least(eligible, [outstanding(c) for c in eligible])

    def least_outstanding_tokens(self, eligible: Sequence[Client], _: Request) -> Client:
        return least(eligible, [c.outstanding_tokens() for c in eligible])

    def place(self, eligible: Sequence[Client], request: Request, salt: int) -> int:
        return draw(self.seed, request.index, salt) % len(eligible)

    def power_of_two(self, eligible: Sequence[Client], request: Request) -> Client:
        two = [eligible[self.place(eligible, request, salt)] for salt in (self.salt, self.salt + 1)]
        return least(two, [outstanding(c) for c in two])

    def session_affinity(self, eligible: Sequence[Client], request: Request) -> Client:
        former = [c for c in eligible if c.index == request.former]
        if former and not self.handover:
            self.happened["to its former client"] += 1
            return former[0]
        return self.join_shortest_queue(eligible, request)

    def prefix_affinity(self, eligible: Sequence[Client], request: Request) -> Client:
        if self.handover:
            return self.least_outstanding_tokens(eligible, request)
        return least(eligible, [c.outstanding_tokens() + self.affinity * rest(c, request) for c in eligible])


def rest(client: Client, request: Request) -> int:
    """Tokens of the prompt that a client's cache does not hold; the same for all clients of a service."""
    if isinstance(client, ServiceClient):
        return 0
    return request.prompt - client.memory.cache.chunk_tokens * client.memory.cache.hits(request)
