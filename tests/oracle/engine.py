"""The oracle: one step at a time, plain objects and plain ints, straight from ``docs/semantics.md``.

Nothing here is cached or kept incrementally if it can be recounted: blocks in use, growth, outstanding tokens
and the next event are looked up from the state each time they are needed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

BLOCKED_BY_BLOCKS = 1
BLOCKED_BY_MAX_BATCH = 2
BLOCKED_BY_TOKEN_BUDGET = 3

# Kinds of event, in their order at equal times.
ARRIVAL = 0
HANDOVER = 1
CLIENT_EVENT = 2

# The values of T for which a profile gives `linear`.
LINEAR_KNOTS: tuple[int, ...] = (*range(1025), *range(1056, 8193, 32), *range(8704, 131073, 512))
# `sequences` is given for every S up to this one.
LAST_SEQUENCES = 1024

StepLog = list[tuple[int, int, int, int, int]]


# --------------------------------------------------------------------------------
# Inputs and outputs


@dataclass(frozen=True)
class OracleProfile:
    """Cost coefficients of a client: `linear` at `LINEAR_KNOTS`, `sequences` at 0..1024."""

    linear: Sequence[int]
    sequences: Sequence[int]
    attention_ps: int
    pair: int
    read: int


@dataclass(frozen=True)
class OracleClientSpec:
    """One engine instance."""

    role: str  # "both" | "prefill" | "decode"
    policy: str  # "static" | "continuous" | "chunked"
    max_batch: int
    token_budget: int
    block_tokens: int
    total_blocks: int
    watermark_blocks: int
    profile: OracleProfile
    link_latency_ps: int
    link_ps_per_token: int


@dataclass(frozen=True)
class OracleRequest:
    """One request of the workload."""

    arrival_ps: int
    prompt_tokens: int
    output_tokens: int


@dataclass
class RequestOutcome:
    """What is recorded for one request; everything stays -1 if it is rejected."""

    scheduled_ps: int = -1
    first_token_ps: int = -1
    finish_ps: int = -1
    prefill_client: int = -1
    finish_client: int = -1
    preemptions: int = 0


@dataclass
class ClientOutcome:
    """What is recorded for one client; `blocked_ps` always has the keys 1, 2 and 3."""

    busy_ps: int = 0
    steps: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    decode_context_tokens: int = 0
    prefill_pairs: int = 0
    peak_blocks: int = 0
    preemptions: int = 0
    blocked_ps: dict[int, int] = field(
        default_factory=lambda: {BLOCKED_BY_BLOCKS: 0, BLOCKED_BY_MAX_BATCH: 0, BLOCKED_BY_TOKEN_BUDGET: 0}
    )


@dataclass
class OracleResult:
    """Outcome of a run. `steps_log`: (client, start_ps, end_ps, T, S) of each step, in order of planning."""

    requests: list[RequestOutcome]
    clients: list[ClientOutcome]
    itl_gaps_ps: Counter[int]
    steps_log: StepLog | None = None


def itl_bin(gap_ps: int) -> int:
    """Histogram bin of an inter-token gap."""
    e = max(0, gap_ps.bit_length() - 8)
    return 128 * e + (gap_ps >> e)


def ceil_div(a: int, b: int) -> int:
    """Smallest integer not below a / b."""
    return -(-a // b)


# --------------------------------------------------------------------------------
# Cost of a step


def linear_cost(linear: Sequence[int], tokens: int) -> int:
    """`linear[T]`: exact at a knot, interpolated between two, extrapolated from the last two beyond them."""
    assert len(linear) == len(LINEAR_KNOTS)
    if tokens in LINEAR_KNOTS:
        return linear[LINEAR_KNOTS.index(tokens)]
    below = [k for k, knot in enumerate(LINEAR_KNOTS) if knot < tokens]
    k = min(below[-1], len(LINEAR_KNOTS) - 2)
    lo, hi = linear[k], linear[k + 1]
    width = LINEAR_KNOTS[k + 1] - LINEAR_KNOTS[k]
    return lo + ((hi - lo) * (tokens - LINEAR_KNOTS[k])) // width


def sequences_cost(sequences: Sequence[int], count: int) -> int:
    """`sequences[S]`, extrapolated by its last difference."""
    assert len(sequences) == LAST_SEQUENCES + 1
    if count <= LAST_SEQUENCES:
        return sequences[count]
    last_difference = sequences[LAST_SEQUENCES] - sequences[LAST_SEQUENCES - 1]
    return sequences[LAST_SEQUENCES] + (count - LAST_SEQUENCES) * last_difference


def prefill_cost(profile: OracleProfile, earlier: int, chunk: int) -> int:
    """Attention of a chunk of `chunk` tokens after `earlier` ones."""
    against_earlier = earlier * max(chunk * profile.pair, profile.read)
    within_chunk = (chunk * (chunk + 1) // 2) * profile.pair
    return (against_earlier + within_chunk) >> 10


# --------------------------------------------------------------------------------
# State


@dataclass(eq=False)
class _Request:
    """A request while it is served."""

    index: int
    prompt: int
    output: int
    outcome: RequestOutcome
    generated: int = 0
    prefilled: int = 0
    context: int = 0
    needs_prefill: bool = True  # False while all its KV is stored: decoding, or after a hand-over
    blocks: int = 0
    last_token_ps: int = -1

    @property
    def target(self) -> int:
        """Tokens to prefill, counted from its last admission."""
        return self.prompt + self.generated

    @property
    def tokens_to_prefill(self) -> int:
        return self.target - self.prefilled if self.needs_prefill else 0


@dataclass
class _Step:
    """One step: the requests that decode and, in order of admission, those that prefill with their chunks."""

    decodes: list[_Request]
    chunks: list[tuple[_Request, int]]

    @property
    def tokens(self) -> int:
        return len(self.decodes) + sum(chunk for _, chunk in self.chunks)

    @property
    def sequences(self) -> int:
        return len(self.decodes) + len(self.chunks)

    @property
    def context_tokens(self) -> int:
        return sum(request.context + 1 for request in self.decodes)

    @property
    def prefill_pairs(self) -> int:
        return sum(chunk * r.prefilled + chunk * (chunk + 1) // 2 for r, chunk in self.chunks)

    def cost(self, profile: OracleProfile) -> int:
        """Duration in picoseconds."""
        return (
            linear_cost(profile.linear, self.tokens)
            + sequences_cost(profile.sequences, self.sequences)
            + profile.attention_ps * self.context_tokens
            + sum(prefill_cost(profile, r.prefilled, chunk) for r, chunk in self.chunks)
        )


class _Client:
    """State of one client, and how it plans a step."""

    def __init__(self, index: int, spec: OracleClientSpec) -> None:
        assert spec.role in ("both", "prefill", "decode")
        assert spec.policy in ("static", "continuous", "chunked")
        assert min(spec.max_batch, spec.token_budget, spec.block_tokens) >= 1
        self.index = index
        self.spec = spec
        self.outcome = ClientOutcome()
        self.waiting: list[_Request] = []
        self.running: list[_Request] = []  # in order of admission
        self.leaving: list[_Request] = []  # handed over, blocks held until the hand-over arrives
        self.outstanding: list[_Request] = []
        self.step: _Step | None = None  # the step in progress
        self.event_ps: int | None = None  # the end of the step, or a wake-up; None if idle

    # -- counting

    def blocks_for(self, tokens: int) -> int:
        return ceil_div(tokens, self.spec.block_tokens)

    def blocks_in_use(self) -> int:
        return sum(r.blocks for r in self.running) + sum(r.blocks for r in self.leaving)

    def free_blocks(self) -> int:
        return self.spec.total_blocks - self.blocks_in_use()

    def decoding(self) -> list[_Request]:
        return [r for r in self.running if not r.needs_prefill]

    def needs_growth(self, request: _Request) -> bool:
        """Whether a decoding request needs a new block for its next token."""
        return self.spec.policy != "static" and request.context % self.spec.block_tokens == 0

    def growth(self) -> int:
        return sum(1 for r in self.decoding() if self.needs_growth(r))

    def outstanding_tokens(self) -> int:
        return sum(r.tokens_to_prefill + self.tokens_to_generate(r) for r in self.outstanding)

    def tokens_to_generate(self, request: _Request) -> int:
        return 1 if self.spec.role == "prefill" else request.output - request.generated

    def can_ever_hold(self, request: _Request) -> bool:
        tokens = request.prompt if self.spec.role == "prefill" else request.prompt + request.output
        return self.blocks_for(tokens) <= self.spec.total_blocks

    # -- waking

    def wake_if_idle(self, now: int) -> None:
        if self.event_ps is None:
            self.event_ps = now

    # -- planning

    def plan(self, now: int, log: StepLog) -> None:
        """Plan the next step and start it, or become idle."""
        step, blocked_by = self.plan_static(now) if self.spec.policy == "static" else self.plan_dynamic(now)
        self.check()
        self.outcome.peak_blocks = max(self.outcome.peak_blocks, self.blocks_in_use())
        if step.tokens == 0:
            assert not self.running
            self.step, self.event_ps = None, None
            return
        duration = step.cost(self.spec.profile)
        assert duration >= 0
        self.record(step, duration, blocked_by)
        log.append((self.index, now, now + duration, step.tokens, step.sequences))
        self.step, self.event_ps = step, now + duration

    def plan_static(self, now: int) -> tuple[_Step, int | None]:
        """Policy `static`: a step, and the reason the head of the queue waits (None if nothing waits)."""
        if self.running:
            assert all(not r.needs_prefill for r in self.running)
            return _Step(self.running.copy(), []), BLOCKED_BY_MAX_BATCH if self.waiting else None
        chunks: list[tuple[_Request, int]] = []
        blocked_by = self.admit_from_queue(now, chunks)
        return self.prefills_or_decodes(chunks), blocked_by

    def plan_dynamic(self, now: int) -> tuple[_Step, int | None]:
        """Policies `continuous` and `chunked`; the result as in `plan_static`."""
        preempted = self.preempt_for_growth()
        chunks: list[tuple[_Request, int]] = []
        if self.spec.policy == "chunked":
            self.continue_prefill(chunks)
        blocked_by = BLOCKED_BY_BLOCKS if preempted else self.admit_from_queue(now, chunks)
        chunked = self.spec.policy == "chunked"
        step = _Step(self.decoding(), chunks) if chunked else self.prefills_or_decodes(chunks)
        for request in step.decodes:
            if self.needs_growth(request):
                request.blocks += 1
        return step, blocked_by

    def prefills_or_decodes(self, chunks: list[tuple[_Request, int]]) -> _Step:
        """A step of only prefills, if there are any, else of all decodes."""
        return _Step([], chunks) if chunks else _Step(self.decoding(), [])

    def preempt_for_growth(self) -> bool:
        """Preempt, last admitted first, until the blocks for the next decode iteration are free."""
        preempted = False
        while self.growth() > self.free_blocks():
            self.preempt(self.running[-1])
            preempted = True
        return preempted

    def preempt(self, request: _Request) -> None:
        self.running.remove(request)
        self.waiting.insert(0, request)
        request.blocks = 0
        request.prefilled = 0
        request.context = 0
        request.needs_prefill = True
        request.outcome.preemptions += 1
        self.outcome.preemptions += 1

    def continue_prefill(self, chunks: list[tuple[_Request, int]]) -> None:
        """Give the partly prefilled request, if there is one, its tokens of this step."""
        partly = [r for r in self.running if r.needs_prefill]
        assert len(partly) <= 1
        for request in partly:
            chunk = min(max(0, self.spec.token_budget - len(self.decoding())), request.tokens_to_prefill)
            if chunk > 0:
                chunks.append((request, chunk))

    def admit_from_queue(self, now: int, chunks: list[tuple[_Request, int]]) -> int | None:
        """Admit from the head of the queue; returns why the head left there, if any, was not admitted."""
        while self.waiting:
            head = self.waiting[0]
            obstacle = self.obstacle(head, chunks)
            if obstacle is not None:
                return obstacle
            left = self.tokens_left(chunks)
            self.admit(head, now)
            if head.needs_prefill:
                chunk = min(left, head.target) if self.spec.policy == "chunked" else head.target
                chunks.append((head, chunk))
        return None

    def obstacle(self, head: _Request, chunks: list[tuple[_Request, int]]) -> int | None:
        """Why the head of the queue can not be admitted now; None if it can."""
        if len(self.running) >= self.spec.max_batch:
            return BLOCKED_BY_MAX_BATCH
        if not self.step_has_room(head, chunks):
            return BLOCKED_BY_TOKEN_BUDGET
        if not self.blocks_fit(head):
            return BLOCKED_BY_BLOCKS
        return None

    def tokens_left(self, chunks: list[tuple[_Request, int]]) -> int:
        """Tokens left of a chunked step's budget."""
        return self.spec.token_budget - len(self.decoding()) - sum(chunk for _, chunk in chunks)

    def step_has_room(self, head: _Request, chunks: list[tuple[_Request, int]]) -> bool:
        if self.spec.policy == "chunked":
            return self.tokens_left(chunks) >= 1
        if not head.needs_prefill or not chunks:
            return True
        return sum(chunk for _, chunk in chunks) + head.target <= self.spec.token_budget

    def blocks_fit(self, head: _Request) -> bool:
        if self.spec.policy == "static":
            return self.blocks_at_admission(head) <= self.free_blocks()
        needed = self.blocks_for(head.target if head.needs_prefill else head.prompt + 1)
        watermark = self.spec.watermark_blocks if self.running else 0
        return self.free_blocks() - self.growth() - needed >= watermark

    def blocks_at_admission(self, request: _Request) -> int:
        """Blocks a request takes when it is admitted."""
        if self.spec.policy == "static":
            lasting = request.prompt if self.spec.role == "prefill" else request.prompt + request.output
            return self.blocks_for(lasting)
        return self.blocks_for(request.target if request.needs_prefill else request.prompt)

    def admit(self, request: _Request, now: int) -> None:
        assert self.waiting[0] is request
        assert request.blocks == 0
        assert request.prefilled == 0 or not request.needs_prefill
        self.waiting.pop(0)
        request.blocks = self.blocks_at_admission(request)
        self.running.append(request)
        if request.outcome.scheduled_ps == -1:
            request.outcome.scheduled_ps = now

    # -- recording and checking

    def record(self, step: _Step, duration: int, blocked_by: int | None) -> None:
        outcome = self.outcome
        outcome.busy_ps += duration
        outcome.steps += 1
        outcome.prefill_tokens += sum(chunk for _, chunk in step.chunks)
        outcome.decode_tokens += len(step.decodes)
        outcome.decode_context_tokens += step.context_tokens
        outcome.prefill_pairs += step.prefill_pairs
        assert (blocked_by is not None) == bool(self.waiting)
        if blocked_by is not None:
            outcome.blocked_ps[blocked_by] += duration

    def check(self) -> None:
        """Invariants that hold after every plan."""
        assert 0 <= self.blocks_in_use() <= self.spec.total_blocks
        assert len(self.running) <= self.spec.max_batch
        assert all(r.blocks == 0 for r in self.waiting)
        for request in self.decoding():
            assert request.context == request.prompt + request.generated - 1
            assert 1 <= request.generated < request.output

    def check_after_step(self) -> None:
        """Invariants that hold at the end of every step, before the next plan."""
        prefilling = [r for r in self.running if r.needs_prefill]
        assert len(prefilling) <= (1 if self.spec.policy == "chunked" else 0)
        if self.spec.policy != "static":
            assert all(r.blocks == self.blocks_for(r.target) for r in prefilling)
            assert all(r.blocks == self.blocks_for(r.context) for r in self.decoding())


class _Router:
    """One of the routing rules, with its own round-robin pointer."""

    def __init__(self, name: str) -> None:
        assert name in ("round_robin", "join_shortest_queue", "least_outstanding_tokens")
        self.name = name
        self.pointer = 0

    def pick(self, clients: Sequence[_Client], eligible: Sequence[_Client]) -> _Client | None:
        """Pick one of `eligible`, None if there is none."""
        if not eligible:
            return None
        if self.name == "round_robin":
            return self.pick_next(clients, eligible)
        if self.name == "join_shortest_queue":
            return min(eligible, key=lambda client: (len(client.outstanding), client.index))
        return min(eligible, key=lambda client: (client.outstanding_tokens(), client.index))

    def pick_next(self, clients: Sequence[_Client], eligible: Sequence[_Client]) -> _Client:
        while clients[self.pointer] not in eligible:
            self.pointer = (self.pointer + 1) % len(clients)
        picked = clients[self.pointer]
        self.pointer = (self.pointer + 1) % len(clients)
        return picked


@dataclass
class _Handover:
    """A request's KV on its way from a prefill client to a decode client."""

    arrival_ps: int
    request: _Request
    source: _Client
    destination: _Client


class _Simulation:
    """All state of a run."""

    def __init__(
        self,
        clients: Sequence[OracleClientSpec],
        requests: Sequence[OracleRequest],
        router: str,
        handover_router: str,
    ) -> None:
        roles = [spec.role for spec in clients]
        assert ("decode" in roles) == ("prefill" in roles), "prefill and decode clients come together"
        arrivals = [r.arrival_ps for r in requests]
        assert arrivals == sorted(arrivals), "requests must be sorted by arrival"
        assert all(r.prompt_tokens >= 1 and r.output_tokens >= 1 for r in requests)
        self.arrivals = arrivals
        self.next_arrival = 0
        self.clients = [_Client(i, spec) for i, spec in enumerate(clients)]
        self.requests = [
            _Request(i, r.prompt_tokens, r.output_tokens, RequestOutcome()) for i, r in enumerate(requests)
        ]
        self.rejected: list[_Request] = []
        self.handovers: list[_Handover] = []
        self.router = _Router(router)
        self.handover_router = _Router(handover_router)
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
        events = [(h.arrival_ps, HANDOVER, h.request.index) for h in self.handovers]
        events += [(c.event_ps, CLIENT_EVENT, c.index) for c in self.clients if c.event_ps is not None]
        if self.next_arrival < len(self.requests):
            events.append((self.arrivals[self.next_arrival], ARRIVAL, self.next_arrival))
        return min(events, default=None)

    def handle(self, now: int, kind: int, index: int) -> None:
        if kind == ARRIVAL:
            self.next_arrival += 1
            self.arrive(now, self.requests[index])
        elif kind == HANDOVER:
            self.arrive_handover(now, next(h for h in self.handovers if h.request.index == index))
        else:
            self.client_event(now, self.clients[index])

    # -- routing

    def eligible(self, request: _Request, roles: Sequence[str]) -> list[_Client]:
        return [
            c for c in self.clients if c.spec.role in roles and c.can_ever_hold(request) and self.can_go_on(request, c)
        ]

    def can_go_on(self, request: _Request, client: _Client) -> bool:
        """Whether some decode client could hold the request once its prompt is done at a prefill client."""
        if client.spec.role != "prefill" or request.output == 1:
            return True
        return any(c.spec.role == "decode" and c.can_ever_hold(request) for c in self.clients)

    def arrive(self, now: int, request: _Request) -> None:
        client = self.router.pick(self.clients, self.eligible(request, ("both", "prefill")))
        if client is None:
            self.rejected.append(request)
            return
        client.outstanding.append(request)
        client.waiting.append(request)
        client.wake_if_idle(now)

    # -- hand-over

    def hand_over(self, now: int, request: _Request, source: _Client) -> None:
        """The prompt is done on a prefill client: send the KV to a decode client."""
        source.running.remove(request)
        source.outstanding.remove(request)
        source.leaving.append(request)
        destination = self.handover_router.pick(self.clients, self.eligible(request, ("decode",)))
        assert destination is not None
        destination.outstanding.append(request)
        delay = source.spec.link_latency_ps + request.prompt * source.spec.link_ps_per_token
        self.handovers.append(_Handover(now + delay, request, source, destination))

    def arrive_handover(self, now: int, handover: _Handover) -> None:
        request, source, destination = handover.request, handover.source, handover.destination
        self.handovers.remove(handover)
        source.leaving.remove(request)
        request.blocks = 0
        if source.waiting:
            source.wake_if_idle(now)
        assert request.context == request.prompt
        assert not request.needs_prefill
        destination.waiting.append(request)
        destination.wake_if_idle(now)

    # -- client events

    def client_event(self, now: int, client: _Client) -> None:
        """The end of a step, or a wake-up; then plan."""
        if client.step is not None:
            self.end_step(now, client, client.step)
            client.step = None
            client.check_after_step()
        prefilled = [(r, r.prefilled) for r in client.running if r.needs_prefill]
        client.plan(now, self.steps_log)
        # A preempted request loses what it had of an unfinished prefill.
        self.tokens_of_lost_prefills += sum(tokens for r, tokens in prefilled if r not in client.running)

    def end_step(self, now: int, client: _Client, step: _Step) -> None:
        for request in step.decodes:
            request.context += 1
            self.emit_token(now, request)
            if request.generated == request.output:
                self.finish(now, request, client)
        for request, chunk in step.chunks:
            self.end_chunk(now, client, request, chunk)

    def end_chunk(self, now: int, client: _Client, request: _Request, chunk: int) -> None:
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

    def emit_token(self, now: int, request: _Request) -> None:
        request.generated += 1
        if request.generated == 1:
            request.outcome.first_token_ps = now
        else:
            self.gaps[now - request.last_token_ps] += 1
        request.last_token_ps = now

    def finish(self, now: int, request: _Request, client: _Client) -> None:
        client.running.remove(request)
        client.outstanding.remove(request)
        request.blocks = 0
        request.outcome.finish_ps = now
        request.outcome.finish_client = client.index

    # -- invariants

    def check_at_end(self) -> None:
        for client in self.clients:
            assert client.blocks_in_use() == 0
            assert client.waiting == client.running == client.leaving == client.outstanding == []
            assert client.event_ps is None
        for request in self.requests:
            if request in self.rejected:
                assert request.outcome == RequestOutcome()
            else:
                self.check_finished(request)
        self.check_tokens()

    def check_finished(self, request: _Request) -> None:
        outcome = request.outcome
        assert request.generated == request.output
        arrival = self.arrivals[request.index]
        assert arrival <= outcome.scheduled_ps <= outcome.first_token_ps <= outcome.finish_ps
        assert 0 <= outcome.prefill_client < len(self.clients)
        assert 0 <= outcome.finish_client < len(self.clients)

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


def simulate(
    clients: Sequence[OracleClientSpec],
    requests: Sequence[OracleRequest],
    router: str,
    handover_router: str,
) -> OracleResult:
    """Simulate `requests` on `clients`; `router` routes arrivals, `handover_router` hand-overs."""
    return _Simulation(clients, requests, router, handover_router).run()
