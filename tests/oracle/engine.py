"""The oracle: one step at a time, plain objects and plain ints, straight from ``docs/semantics.md``.

Nothing here is cached or kept incrementally if it can be recounted: blocks in use, growth, outstanding tokens,
references and the next event are looked up from the state each time they are needed.

This module is the public face and the loop over events. ``records``: inputs and outputs; ``cost``: what a step
lasts; ``draws``: what looks random; ``llm`` and ``service``: the two kinds of client; ``memory``, ``cache``,
``order``, ``adapters``: what a client of an LLM stage consists of; ``links``, ``tiers``, ``fetching``: what lies
behind the clients; ``stages`` and ``routing``: who may get a request, and who does; ``sessions``: requests that
follow others; ``checks``: what must be true at the end.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .checks import check_at_end
from .cost import LAST_SEQUENCES, LINEAR_KNOTS, OracleProfile, linear_cost, prefill_cost, sequences_cost
from .draws import draw
from .fetching import Fetch
from .links import Link
from .llm import LlmClient, Step, ceil_div
from .records import (
    BLOCKED_BY_BLOCKS,
    BLOCKED_BY_MAX_BATCH,
    BLOCKED_BY_TOKEN_BUDGET,
    ClientOutcome,
    OracleClientSpec,
    OracleRequest,
    OracleResult,
    OracleStage,
    OracleTier,
    RequestOutcome,
    StepLog,
    TierOutcome,
    itl_bin,
)
from .request import Request
from .routing import Client
from .service import ServiceClient
from .sessions import check_sessions, release
from .stages import Stage
from .tiers import Tier, connect

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
    "OracleStage",
    "OracleTier",
    "RequestOutcome",
    "StepLog",
    "TierOutcome",
    "ceil_div",
    "draw",
    "itl_bin",
    "linear_cost",
    "prefill_cost",
    "sequences_cost",
    "simulate",
    "simulate_llm",
]

# Kinds of event, in their order at equal times.
ARRIVAL = 0
HOP = 1
CLIENT_EVENT = 2

SPECULATION = 2**20  # the salt of its draws


@dataclass
class Hop:
    """Whatever a single request reaches at a time, and what happens then."""

    arrival_ps: int
    request: Request
    then: Callable[[int], None]


class Simulation:
    """All state of a run."""

    def __init__(
        self,
        clients: Sequence[OracleClientSpec],
        requests: Sequence[OracleRequest],
        stages: Sequence[OracleStage],
        ways: Sequence[tuple[int, ...]],
        tiers: Sequence[OracleTier],
        links: int,
        chunk_tokens: int,
        seed: int,
    ) -> None:
        check_ways(stages, ways)
        check_chunks(requests, chunk_tokens)
        self.seed = seed
        self.happened: Counter[str] = Counter()
        self.links = [Link(len(clients) + i) for i in range(links)]
        self.tiers = [Tier(spec, self.links[spec.link], self.happened) for spec in tiers]
        connect(self.tiers, clients)
        self.clients: list[Client] = [self.client_of(i, spec, chunk_tokens) for i, spec in enumerate(clients)]
        self.stages = [
            Stage(i, spec, [c for c in self.clients if c.spec.stage == i], seed, self.happened)
            for i, spec in enumerate(stages)
        ]
        assert all(0 <= c.spec.stage < len(stages) for c in self.clients)
        assert all(-1 <= c.spec.egress < links for c in self.clients)
        self.requests = [request_of(i, given, ways[given.way]) for i, given in enumerate(requests)]
        check_sessions(self.requests)
        self.to_arrive = [r for r in self.requests if r.needs == 0]
        self.hops: list[Hop] = []
        self.gaps: Counter[int] = Counter()
        self.steps_log: StepLog = []
        self.tokens_emitted_by_prefills = 0
        self.tokens_of_completed_prefills = 0
        self.tokens_of_lost_prefills = 0

    def client_of(self, index: int, spec: OracleClientSpec, chunk_tokens: int) -> Client:
        if spec.role == "service":
            return ServiceClient(index, spec)
        return LlmClient(index, spec, chunk_tokens, [self.tiers[t] for t in spec.tiers], self.seed, self.happened)

    # -- events

    def run(self) -> OracleResult:
        last = min((r.given.arrival_ps for r in self.to_arrive), default=0)
        while (event := self.next_event()) is not None:
            now, kind, index = event
            assert now >= last, "time goes backwards"
            self.handle(now, kind, index)
            last = now
        for request in self.requests:
            request.outcome.rejected = request.outcome.done_ps == -1
        check_at_end(self)
        return OracleResult(
            [r.outcome for r in self.requests],
            [c.outcome for c in self.clients],
            self.gaps,
            self.steps_log,
            [t.outcome for t in self.tiers],
            self.happened,
        )

    def next_event(self) -> tuple[int, int, int] | None:
        """The first event by time, then kind, then index of the request, client or link."""
        events = [(r.given.arrival_ps, ARRIVAL, r.index) for r in self.to_arrive]
        events += [(hop.arrival_ps, HOP, hop.request.index) for hop in self.hops]
        events += [(c.event_ps, CLIENT_EVENT, c.index) for c in self.clients if c.event_ps is not None]
        events += [(link.event_ps, CLIENT_EVENT, link.index) for link in self.links if link.event_ps is not None]
        return min(events, default=None)

    def handle(self, now: int, kind: int, index: int) -> None:
        if kind == ARRIVAL:
            self.to_arrive.remove(self.requests[index])
            self.arrive(now, self.requests[index])
        elif kind == HOP:
            (hop,) = [hop for hop in self.hops if hop.request.index == index]
            self.hops.remove(hop)
            hop.then(now)
        elif index >= len(self.clients):
            self.links[index - len(self.clients)].end_one(now)
        else:
            self.client_event(now, self.clients[index])

    def hop(self, arrival_ps: int, request: Request, then: Callable[[int], None]) -> None:
        assert all(hop.request is not request for hop in self.hops)
        self.hops.append(Hop(arrival_ps, request, then))

    def client_event(self, now: int, client: Client) -> None:
        if isinstance(client, ServiceClient):
            self.service_event(now, client)
        else:
            self.llm_event(now, client)

    # -- sessions

    def arrive(self, now: int, request: Request) -> None:
        request.outcome.arrival_ps = now
        llm_stages = [self.stages[s] for s in request.way if self.stages[s].spec.kind == "llm"]
        if all(stage.eligible_for_prefill(request) for stage in llm_stages):
            self.reach_stage(now, request)

    def be_done(self, now: int, request: Request) -> None:
        request.outcome.done_ps = now
        for arrival_ps, follower in release(now, request, self.requests):
            self.hop(arrival_ps, follower, self.arrival_of(follower))

    def arrival_of(self, follower: Request) -> Callable[[int], None]:
        def arrive(now: int) -> None:
            follower.deadline_ps = now + follower.given.deadline_ps
            self.arrive(now, follower)

        return arrive

    # -- ways

    def reach_stage(self, now: int, request: Request) -> None:
        """A request comes to a stage, by its arrival or by a hop: route it."""
        request.reach(now)
        client = self.stages[request.stage].route(request)
        assert client.spec.stage == request.stage
        if isinstance(client, ServiceClient):
            client.join(now, request)
        else:
            client.outstanding.append(request)
            Fetch(request, client, self.hop).begin(now)

    def leave_stage(self, now: int, request: Request, client: Client) -> None:
        """A request is through with a stage: send it to the next one, if there is one."""
        assert client.spec.stage == request.stage
        assert request not in client.outstanding
        request.leave(now)
        request.place += 1
        if request.place == len(request.way):
            self.be_done(now, request)
        else:
            self.hop(now + max(1, client.spec.link_latency_ps), request, lambda now: self.reach_stage(now, request))

    # -- hand-over

    def hand_over(self, now: int, request: Request, source: LlmClient) -> None:
        """The prompt is done on a prefill client: send the KV to a decode client."""
        destination = self.stages[request.stage].route_handover(request, source)
        self.happened["hand-over"] += 1
        source.running.remove(request)
        source.outstanding.remove(request)
        source.memory.leaving.append(request)
        destination.outstanding.append(request)
        spec = source.spec
        work = request.prompt * spec.link_ps_per_token
        if spec.link_layers > 0:
            work = max(work // spec.link_layers, work - (now - request.outcome.scheduled_ps))

        def arrive(now: int) -> None:
            self.arrive_handover(now, request, source, destination)

        def sent(now: int) -> None:
            self.hop(now + max(1, spec.link_latency_ps), request, arrive)

        if spec.egress == -1:
            self.hop(now + max(1, spec.link_latency_ps + work), request, arrive)
        else:
            self.links[spec.egress].start(now, request, work, sent)

    def arrive_handover(self, now: int, request: Request, source: LlmClient, destination: LlmClient) -> None:
        source.memory.free(request)
        if source.waiting:
            source.wake_if_idle(now)
        assert request.context == request.prompt
        assert not request.needs_prefill
        destination.join_queue(now, request)

    # -- events of service clients

    def service_event(self, now: int, client: ServiceClient) -> None:
        """The end of a batch, or a time to plan; then plan."""
        for request in client.end_batch(now) if client.batch else []:
            self.leave_stage(now, request, client)
        client.plan(now, self.steps_log)

    # -- events of LLM clients

    def llm_event(self, now: int, client: LlmClient) -> None:
        """The end of a step, or a wake-up; then plan."""
        decided_ps = now
        if client.step is not None:
            if client.spec.schedules_ahead:
                decided_ps = client.step.start_ps
            self.end_step(now, client, client.step)
            client.step = None
            client.check_after_step()
        prefilled = [(r, r.prefilled - r.spared) for r in client.running if r.needs_prefill]
        client.plan(now, decided_ps, self.steps_log)
        # A preempted request loses what it had of an unfinished prefill.
        self.tokens_of_lost_prefills += sum(tokens for r, tokens in prefilled if r not in client.running)

    def end_step(self, now: int, client: LlmClient, step: Step) -> None:
        for request in step.decodes:
            self.end_decode(now, client, request)
        for request in sorted(step.decodes, key=lambda r: r.index):
            if request.generated == request.output:
                self.finish(now, request, client)
        for request, chunk in step.chunks:
            self.end_chunk(now, client, request, chunk)

    def end_decode(self, now: int, client: LlmClient, request: Request) -> None:
        tokens = min(1 + self.accepted(client, request), request.tokens_to_generate)
        self.happened["several tokens"] += tokens > 1
        for _ in range(tokens):
            self.emit_token(now, request)
        request.context += tokens
        client.outcome.decode_tokens += tokens

    def accepted(self, client: LlmClient, request: Request) -> int:
        """How many drafted tokens are accepted."""
        drawn = draw(self.seed, request.index, SPECULATION + request.generated)
        return sum(1 for threshold in client.spec.thresholds if threshold <= drawn)

    def end_chunk(self, now: int, client: LlmClient, request: Request, chunk: int) -> None:
        target = request.target
        request.prefilled += chunk
        assert request.prefilled <= target
        if request.prefilled < target:
            return
        client.memory.cache.publish_prompt(request)
        self.tokens_of_completed_prefills += target - request.spared
        self.tokens_emitted_by_prefills += 1
        request.context = target
        request.needs_prefill = False
        if request.outcome.prefill_client == -1:
            request.outcome.prefill_client = client.index
        self.emit_token(now, request)
        if request.generated == request.output:
            self.finish(now, request, client)
        elif client.spec.role == "prefill":
            self.stay_or_hand_over(now, request, client)

    def stay_or_hand_over(self, now: int, request: Request, client: LlmClient) -> None:
        if not self.stages[request.stage].stays(request, client):
            self.hand_over(now, request, client)
            return
        self.happened["lent for decode"] += not request.stays
        request.stays = True

    def emit_token(self, now: int, request: Request) -> None:
        request.generated += 1
        if request.generated == 1:
            request.outcome.first_token_ps = now
        else:
            self.gaps[now - request.last_token_ps] += 1
        request.last_token_ps = now

    def finish(self, now: int, request: Request, client: LlmClient) -> None:
        client.outstanding.remove(request)
        client.memory.free_finished(request)
        request.outcome.finish_ps = now
        request.outcome.finish_client = client.index
        self.leave_stage(now, request, client)


def check_ways(stages: Sequence[OracleStage], ways: Sequence[tuple[int, ...]]) -> None:
    for way in ways:
        assert way, "a way passes a stage"
        assert all(0 <= stage < len(stages) for stage in way)
        assert sum(stages[stage].kind == "llm" for stage in way) <= 1, "a way holds at most one LLM stage"


def check_chunks(requests: Sequence[OracleRequest], chunk_tokens: int) -> None:
    """Equal ids mean equal text from the start of the prompt on, so they have equal ids before them."""
    before: dict[int, tuple[int, ...]] = {}
    for request in requests:
        assert 0 <= request.prompt_chunks <= len(request.chunk_ids)
        assert request.prompt_chunks * chunk_tokens <= request.prompt_tokens
        for i, chunk in enumerate(request.chunk_ids):
            assert before.setdefault(chunk, request.chunk_ids[:i]) == request.chunk_ids[:i]


def request_of(index: int, given: OracleRequest, way: tuple[int, ...]) -> Request:
    """A request that has not arrived yet."""
    assert given.prompt_tokens >= 1
    assert given.output_tokens >= 1
    assert min(given.arrival_ps, given.media_tokens, given.adapter) >= 0
    assert given.query_tokens is None or given.query_tokens >= 0
    outcome = RequestOutcome(visits=[(-1, -1, -1) for _ in way])
    return Request(index, given, way, outcome, given.needs, given.deadline_ps)


def simulate(
    clients: Sequence[OracleClientSpec],
    requests: Sequence[OracleRequest],
    stages: Sequence[OracleStage],
    ways: Sequence[tuple[int, ...]],
    *,
    tiers: Sequence[OracleTier] = (),
    links: int = 0,
    chunk_tokens: int = 1,
    seed: int = 0,
) -> OracleResult:
    """Simulate `requests`, which go their `ways` through the `stages`, on `clients`."""
    return Simulation(clients, requests, stages, ways, tiers, links, chunk_tokens, seed).run()


def simulate_llm(
    clients: Sequence[OracleClientSpec], requests: Sequence[OracleRequest], router: str, handover_router: str
) -> OracleResult:
    """Simulate `requests` on `clients` where there is nothing but one LLM stage."""
    return simulate(clients, requests, [OracleStage("llm", router, handover_router)], [(0,)])
