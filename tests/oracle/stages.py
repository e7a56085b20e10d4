"""Stages: whom a request can be routed to, there and from there."""

from collections import Counter
from collections.abc import Sequence

from .llm import LlmClient
from .records import OracleStage
from .request import Request
from .routing import Client, Router
from .service import ServiceClient


class Stage:
    """A stage with its clients and its two routers."""

    def __init__(
        self, index: int, spec: OracleStage, clients: Sequence[Client], seed: int, happened: Counter[str]
    ) -> None:
        assert spec.kind in ("llm", "service")
        self.index = index
        self.spec = spec
        self.happened = happened
        self.service_clients = [c for c in clients if isinstance(c, ServiceClient)]
        self.llm_clients = [c for c in clients if isinstance(c, LlmClient)]
        self.router = Router(spec.router, 4 * index, seed, spec.affinity, False, happened)
        self.handover_router = Router(spec.handover_router, 4 * index + 2, seed, spec.affinity, True, happened)
        self.check()

    def check(self) -> None:
        roles = [c.spec.role for c in self.llm_clients]
        assert ("decode" in roles) == ("prefill" in roles), "prefill and decode clients come together"
        if self.spec.kind == "llm":
            assert self.llm_clients, "every stage has clients"
            assert not self.service_clients
        else:
            assert self.service_clients, "every stage has clients"
            assert not self.llm_clients

    # -- arrivals

    def route(self, request: Request) -> Client:
        """The client to which a request goes that has reached this stage."""
        if self.spec.kind == "service":
            return self.router.pick(self.service_clients, request)
        lenders = self.lending_decode_clients(request)
        eligible = [c for c in self.llm_clients if c in self.eligible_for_prefill(request) or c in lenders]
        picked = self.router.pick(eligible, request)
        self.happened["lent for prefill"] += picked in lenders
        return picked

    def eligible_for_prefill(self, request: Request) -> list[LlmClient]:
        return [
            c
            for c in self.llm_clients
            if c.spec.role in ("both", "prefill")
            and c.memory.can_ever_hold(request)
            and admits(c, request)
            and self.can_go_on(request, c)
        ]

    def can_go_on(self, request: Request, client: LlmClient) -> bool:
        """Whether some decode client could hold the request once its prompt is done at a prefill client."""
        if client.spec.role != "prefill" or request.output == 1:
            return True
        return self.eligible_for_decode(request, client) != []

    def lending_decode_clients(self, request: Request) -> list[LlmClient]:
        """The decode clients that prefill as well, as all others have too much to do."""
        eligible = self.eligible_for_prefill(request)
        if not too_busy(eligible, self.spec.lend_prefill_tokens):
            return []
        decode = [c for c in self.llm_clients if c.spec.role == "decode"]
        return [c for c in decode if c.memory.can_ever_hold(request) and admits(c, request)]

    # -- hand-overs

    def eligible_for_decode(self, request: Request, source: LlmClient) -> list[LlmClient]:
        """The decode clients to which the prefill client `source` may hand over the request."""
        return [
            c
            for c in self.llm_clients
            if c.spec.role == "decode"
            and c.memory.can_ever_hold(request)
            and (c.spec.group == source.spec.group or not self.spec.local_handover)
        ]

    def route_handover(self, request: Request, source: LlmClient) -> LlmClient:
        picked = self.handover_router.pick(self.eligible_for_decode(request, source), request)
        assert isinstance(picked, LlmClient)
        return picked

    def stays(self, request: Request, source: LlmClient) -> bool:
        """Whether a prompt that is done on a prefill client is decoded there."""
        if request.stays:
            return True
        blocks = source.memory.blocks_for(request.prompt + request.output) + request.fixed
        return (
            source.spec.policy != "static"
            and too_busy(self.eligible_for_decode(request, source), self.spec.lend_decode_tokens)
            and blocks <= source.spec.total_blocks
        )


def admits(client: LlmClient, request: Request) -> bool:
    """By the length of the prompt."""
    return client.spec.min_prompt <= request.prompt <= client.spec.max_prompt


def too_busy(clients: Sequence[LlmClient], lend_tokens: int) -> bool:
    """Whether others lend themselves, as all of `clients` have more to do than `lend_tokens`."""
    assert clients
    return lend_tokens != -1 and all(c.outstanding_tokens() > lend_tokens for c in clients)
