"""The oracle: one step at a time, plain objects and plain ints, straight from ``docs/semantics.md``.

Nothing here is cached or kept incrementally if it can be recounted: blocks in use, growth, outstanding tokens
and the next event are looked up from the state each time they are needed.

This module is the public face and the loop over events. ``records``: inputs and outputs; ``cost``: what a step
lasts; ``llm`` and ``service``: the two kinds of client; ``routing``: the rules that pick one.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .cost import LAST_SEQUENCES, LINEAR_KNOTS, OracleProfile, linear_cost, prefill_cost, sequences_cost
from .llm import LlmClient, Step, ceil_div
from .records import (
    BLOCKED_BY_BLOCKS,
    BLOCKED_BY_MAX_BATCH,
    BLOCKED_BY_TOKEN_BUDGET,
    ClientOutcome,
    OracleClientSpec,
    OracleRequest,
    OracleResult,
    RequestOutcome,
    StepLog,
    itl_bin,
)
from .request import Request
from .routing import Client, Router
from .service import ServiceClient

__all__ = [
    "BLOCKED_BY_BLOCKS",
    "BLOCKED_BY_MAX_BATCH",
    "BLOCKED_BY_TOKEN_BUDGET",
    "LAST_SEQUENCES",
    "LINEAR_KNOTS",
    "ClientOutcome",
    "OracleClientSpec",
    "OracleProfile",
    "OracleRequest",
    "OracleResult",
    "RequestOutcome",
    "StepLog",
    "ceil_div",
    "itl_bin",
    "linear_cost",
    "prefill_cost",
    "sequences_cost",
    "simulate",
]

# Kinds of event, in their order at equal times.
ARRIVAL = 0
TRANSIT = 1  # the end of a hand-over or of a hop
CLIENT_EVENT = 2


@dataclass
class Handover:
    """A request's KV on its way from a prefill client to a decode client."""

    arrival_ps: int
    request: Request
    source: LlmClient
    destination: LlmClient


@dataclass
class Hop:
    """A request on its way to its next stage."""

    arrival_ps: int
    request: Request


class Simulation:
    """All state of a run."""

    def __init__(
        self,
        clients: Sequence[OracleClientSpec],
        requests: Sequence[OracleRequest],
        router: str,
        handover_router: str,
        stages: int,
        llm_stage: int,
    ) -> None:
        check_clients(clients, stages, llm_stage)
        arrivals = [r.arrival_ps for r in requests]
        assert arrivals == sorted(arrivals), "requests must be sorted by arrival"
        self.arrivals = arrivals
        self.next_arrival = 0
        self.stages = stages
        self.llm_stage = llm_stage
        self.clients: list[Client] = [
            ServiceClient(i, spec) if spec.role == "service" else LlmClient(i, spec) for i, spec in enumerate(clients)
        ]
        self.llm_clients = [c for c in self.clients if isinstance(c, LlmClient)]
        self.service_clients = [c for c in self.clients if isinstance(c, ServiceClient)]
        self.requests = [request_of(i, r) for i, r in enumerate(requests)]
        self.rejected: list[Request] = []
        self.in_transit: list[Handover | Hop] = []
        self.routers = [Router(router) for _ in range(stages)]
        self.handover_router = Router(handover_router)
        self.gaps: Counter[int] = Counter()
        self.steps_log: StepLog = []
        self.tokens_emitted_by_prefills = 0
        self.tokens_of_completed_prefills = 0
        self.tokens_of_lost_prefills = 0

    # -- events

    def run(self) -> OracleResult:
        last = min(self.arrivals, default=0)
        while (event := self.next_event()) is not None:
            now, kind, index = event
            assert now >= last, "time goes backwards"
            self.handle(now, kind, index)
            last = now
        self.check_at_end()
        return OracleResult(
            [r.outcome for r in self.requests], [c.outcome for c in self.clients], self.gaps, self.steps_log
        )

    def next_event(self) -> tuple[int, int, int] | None:
        """The first event by time, then kind, then request or client index."""
        events = [(t.arrival_ps, TRANSIT, t.request.index) for t in self.in_transit]
        events += [(c.event_ps, CLIENT_EVENT, c.index) for c in self.clients if c.event_ps is not None]
        if self.next_arrival < len(self.requests):
            events.append((self.arrivals[self.next_arrival], ARRIVAL, self.next_arrival))
        return min(events, default=None)

    def handle(self, now: int, kind: int, index: int) -> None:
        if kind == ARRIVAL:
            self.next_arrival += 1
            self.arrive(now, self.requests[index])
        elif kind == TRANSIT:
            self.end_transit(now, next(t for t in self.in_transit if t.request.index == index))
        else:
            self.client_event(now, self.clients[index])

    def end_transit(self, now: int, transit: Handover | Hop) -> None:
        self.in_transit.remove(transit)
        if isinstance(transit, Handover):
            self.arrive_handover(now, transit)
        else:
            self.reach_stage(now, transit.request)

    def client_event(self, now: int, client: Client) -> None:
        if isinstance(client, ServiceClient):
            self.service_event(now, client)
        else:
            self.llm_event(now, client)

    # -- the pipeline

    def arrive(self, now: int, request: Request) -> None:
        if self.eligible_for_prefill(request):
            self.reach_stage(now, request)
        else:
            self.rejected.append(request)

    def reach_stage(self, now: int, request: Request) -> None:
        """A request comes to a stage, by its arrival or by a hop: route it."""
        client = self.routers[request.stage].pick(self.clients, self.eligible_at_stage(request))
        assert client is not None
        assert client.spec.stage == request.stage
        client.join(now, request)

    def leave_stage(self, now: int, request: Request, client: Client) -> None:
        """A request is through with a stage: send it to the next one, if there is one."""
        assert client.spec.stage == request.stage
        assert request not in client.outstanding
        request.stage += 1
        if request.stage == self.stages:
            request.outcome.done_ps = now
            return
        assert client.spec.link_latency_ps >= 1, "a hop takes at least 1 ps"
        self.in_transit.append(Hop(now + client.spec.link_latency_ps, request))

    # -- routing

    def eligible_at_stage(self, request: Request) -> Sequence[Client]:
        if request.stage == self.llm_stage:
            return self.eligible_for_prefill(request)
        return [c for c in self.service_clients if c.spec.stage == request.stage]

    def eligible_for_prefill(self, request: Request) -> list[LlmClient]:
        return self.eligible(request, ("both", "prefill"))

    def eligible(self, request: Request, roles: Sequence[str]) -> list[LlmClient]:
        return [
            c
            for c in self.llm_clients
            if c.spec.role in roles and c.can_ever_hold(request) and self.can_go_on(request, c)
        ]

    def can_go_on(self, request: Request, client: LlmClient) -> bool:
        """Whether some decode client could hold the request once its prompt is done at a prefill client."""
        if client.spec.role != "prefill" or request.output == 1:
            return True
        return any(c.spec.role == "decode" and c.can_ever_hold(request) for c in self.llm_clients)

    # -- hand-over

    def hand_over(self, now: int, request: Request, source: LlmClient) -> None:
        """The prompt is done on a prefill client: send the KV to a decode client."""
        source.running.remove(request)
        source.outstanding.remove(request)
        source.leaving.append(request)
        destination = self.handover_router.pick(self.clients, self.eligible(request, ("decode",)))
        assert isinstance(destination, LlmClient)
        destination.outstanding.append(request)
        delay = source.spec.link_latency_ps + request.prompt * source.spec.link_ps_per_token
        self.in_transit.append(Handover(now + delay, request, source, destination))

    def arrive_handover(self, now: int, handover: Handover) -> None:
        request, source, destination = handover.request, handover.source, handover.destination
        source.leaving.remove(request)
        request.blocks = 0
        if source.waiting:
            source.wake_if_idle(now)
        assert request.context == request.prompt
        assert not request.needs_prefill
        destination.waiting.append(request)
        destination.wake_if_idle(now)

    # -- events of service clients

    def service_event(self, now: int, client: ServiceClient) -> None:
        """The end of a batch, or a time to plan; then plan."""
        for request in client.end_batch(now) if client.batch else []:
            self.leave_stage(now, request, client)
        client.plan(now, self.steps_log)

    # -- events of LLM clients

    def llm_event(self, now: int, client: LlmClient) -> None:
        """The end of a step, or a wake-up; then plan."""
        if client.step is not None:
            self.end_step(now, client, client.step)
            client.step = None
            client.check_after_step()
        prefilled = [(r, r.prefilled) for r in client.running if r.needs_prefill]
        client.plan(now, self.steps_log)
        # A preempted request loses what it had of an unfinished prefill.
        self.tokens_of_lost_prefills += sum(tokens for r, tokens in prefilled if r not in client.running)

    def end_step(self, now: int, client: LlmClient, step: Step) -> None:
        for request in step.decodes:
            request.context += 1
            self.emit_token(now, request)
            if request.generated == request.output:
                self.finish(now, request, client)
        for request, chunk in step.chunks:
            self.end_chunk(now, client, request, chunk)

    def end_chunk(self, now: int, client: LlmClient, request: Request, chunk: int) -> None:
        target = request.target
        request.prefilled += chunk
        assert request.prefilled <= target
        if request.prefilled < target:
            return
        self.tokens_of_completed_prefills += target
        self.tokens_emitted_by_prefills += 1
        request.context = target
        request.needs_prefill = False
        if request.outcome.prefill_client == -1:
            request.outcome.prefill_client = client.index
        self.emit_token(now, request)
        if request.generated == request.output:
            self.finish(now, request, client)
        elif client.spec.role == "prefill":
            self.hand_over(now, request, client)

    def emit_token(self, now: int, request: Request) -> None:
        request.generated += 1
        if request.generated == 1:
            request.outcome.first_token_ps = now
        else:
            self.gaps[now - request.last_token_ps] += 1
        request.last_token_ps = now

    def finish(self, now: int, request: Request, client: LlmClient) -> None:
        client.running.remove(request)
        client.outstanding.remove(request)
        request.blocks = 0
        request.outcome.finish_ps = now
        request.outcome.finish_client = client.index
        self.leave_stage(now, request, client)

    # -- invariants

    def check_at_end(self) -> None:
        assert not self.in_transit
        for client in self.clients:
            client.check_at_end()
        for request in self.requests:
            if request in self.rejected:
                assert request.outcome == RequestOutcome()
            else:
                self.check_finished(request)
        self.check_tokens()
        self.check_services()

    def check_finished(self, request: Request) -> None:
        outcome = request.outcome
        assert request.generated == request.output
        assert request.stage == self.stages
        arrival = self.arrivals[request.index]
        assert arrival + self.llm_stage <= outcome.scheduled_ps <= outcome.first_token_ps <= outcome.finish_ps
        assert self.clients[outcome.prefill_client] in self.llm_clients
        assert self.clients[outcome.finish_client] in self.llm_clients
        # Each stage after the first costs a hop of at least 1 ps.
        assert outcome.finish_ps + self.stages - 1 - self.llm_stage <= outcome.done_ps
        at_llm = outcome.finish_ps - outcome.scheduled_ps
        assert outcome.service_ps + at_llm + self.stages - 1 <= outcome.done_ps - arrival
        if self.llm_stage == self.stages - 1:
            assert outcome.done_ps == outcome.finish_ps

    def check_tokens(self) -> None:
        """Token conservation over the whole run."""
        served = [r for r in self.requests if r not in self.rejected]
        outcomes = [c.outcome for c in self.clients]
        decoded = sum(o.decode_tokens for o in outcomes)
        assert decoded + self.tokens_emitted_by_prefills == sum(r.output for r in served)
        prefilled = sum(o.prefill_tokens for o in outcomes)
        assert prefilled == self.tokens_of_completed_prefills + self.tokens_of_lost_prefills
        assert sum(self.gaps.values()) == sum(r.output - 1 for r in served)
        assert sum(o.preemptions for o in outcomes) == sum(r.outcome.preemptions for r in served)

    def check_services(self) -> None:
        """Every request that was not rejected was served once by each service."""
        for stage in set(range(self.stages)) - {self.llm_stage}:
            served = sum(c.outcome.service_requests for c in self.service_clients if c.spec.stage == stage)
            assert served == len(self.requests) - len(self.rejected)
        for client in self.service_clients:
            sizes = [size for index, _, _, _, size in self.steps_log if index == client.index]
            assert all(1 <= size <= client.spec.max_batch for size in sizes)
            assert (len(sizes), sum(sizes)) == (client.outcome.steps, client.outcome.service_requests)


def check_clients(clients: Sequence[OracleClientSpec], stages: int, llm_stage: int) -> None:
    """The clients fit to the stages."""
    roles = [spec.role for spec in clients]
    assert ("decode" in roles) == ("prefill" in roles), "prefill and decode clients come together"
    assert 0 <= llm_stage < stages
    service_stages = {spec.stage for spec in clients if spec.role == "service"}
    assert service_stages == set(range(stages)) - {llm_stage}, "every stage but the LLM has service clients"
    assert all(spec.stage == llm_stage for spec in clients if spec.role != "service")


def request_of(index: int, request: OracleRequest) -> Request:
    """A request that has not arrived yet."""
    assert request.prompt_tokens >= 1
    assert request.output_tokens >= 1
    query = request.prompt_tokens if request.query_tokens is None else request.query_tokens
    assert query >= 0
    return Request(index, query, request.prompt_tokens, request.output_tokens, RequestOutcome())


def simulate(
    clients: Sequence[OracleClientSpec],
    requests: Sequence[OracleRequest],
    router: str,
    handover_router: str,
    stages: int = 1,
    llm_stage: int = 0,
) -> OracleResult:
    """Simulate `requests` on `clients`; `router` routes requests to stages, `handover_router` hand-overs."""
    return Simulation(clients, requests, router, handover_router, stages, llm_stage).run()
