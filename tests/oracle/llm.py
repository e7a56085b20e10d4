"""Clients of an LLM stage: how one plans its steps."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .adapters import Adapters
from .cost import linear_cost, prefill_cost, sequences_cost
from .draws import draw_of_step
from .memory import Memory, ceil_div
from .order import Queue
from .records import (
    BLOCKED_BY_BLOCKS,
    BLOCKED_BY_MAX_BATCH,
    BLOCKED_BY_TOKEN_BUDGET,
    ClientOutcome,
    OracleClientSpec,
    StepLog,
)
from .request import Request
from .tiers import Tier

__all__ = ["LlmClient", "Step", "ceil_div"]


@dataclass
class Step:
    """One step: the requests that decode and, in order of admission, those that prefill with their chunks."""

    spec: OracleClientSpec
    decodes: list[Request]
    chunks: list[tuple[Request, int]]
    start_ps: int

    @property
    def tokens(self) -> int:
        return len(self.decodes) * (1 + self.spec.draft) + sum(chunk for _, chunk in self.chunks)

    @property
    def sequences(self) -> int:
        return len(self.decodes) + len(self.chunks)

    @property
    def context_tokens(self) -> int:
        return sum(request.context + 1 + self.spec.draft for request in self.decodes)

    @property
    def window_tokens(self) -> int:
        return sum(min(self.spec.window_tokens, r.prompt + r.output // 2) for r in self.decodes)

    @property
    def prefill_pairs(self) -> int:
        return sum(chunk * r.prefilled + chunk * (chunk + 1) // 2 for r, chunk in self.chunks)

    def cost(self) -> int:
        """Duration in picoseconds."""
        profile = self.spec.profile
        decoding = profile.decode_ps + profile.decode_sequence_ps * len(self.decodes) if self.decodes else 0
        return (
            linear_cost(profile.linear, self.tokens)
            + sequences_cost(profile.sequences, self.sequences)
            + profile.attention_ps * self.context_tokens
            + profile.window_ps * self.window_tokens
            + decoding
            + sum(prefill_cost(profile, r.prefilled, chunk, self.spec.window_tokens) for r, chunk in self.chunks)
        )


class LlmClient:
    """State of one client of an LLM stage, and how it plans a step."""

    def __init__(
        self,
        index: int,
        spec: OracleClientSpec,
        chunk_tokens: int,
        tiers: Sequence[Tier],
        seed: int,
        happened: Counter[str],
    ) -> None:
        check_spec(spec)
        self.index = index
        self.spec = spec
        self.tiers = tiers
        self.seed = seed
        self.happened = happened
        self.outcome = ClientOutcome()
        self.waiting = Queue(spec.order)
        self.memory = Memory(spec, chunk_tokens, tiers, happened)
        self.adapters = Adapters(spec.max_adapters)
        self.outstanding: list[Request] = []
        self.swap_free = spec.swap_free
        self.added_ps = 0  # what swaps and adapters add to the next step
        self.step: Step | None = None  # the step in progress
        self.event_ps: int | None = None  # the end of the step, or a wake-up; None if idle

    @property
    def running(self) -> list[Request]:
        """In order of admission."""
        return self.memory.running

    # -- counting

    def outstanding_tokens(self) -> int:
        return sum(r.tokens_to_prefill + self.tokens_to_generate(r) for r in self.outstanding)

    def tokens_to_generate(self, request: Request) -> int:
        return 1 if self.spec.role == "prefill" and not request.stays else request.tokens_to_generate

    # -- joining and waking

    def join_queue(self, now: int, request: Request) -> None:
        request.joined_ps = now
        self.waiting.join(request)
        self.wake_if_idle(now)

    def wake_if_idle(self, now: int) -> None:
        if self.event_ps is None:
            self.event_ps = now

    # -- planning

    def plan(self, now: int, decided_ps: int, log: StepLog) -> None:
        """Plan the next step, of those who joined by `decided_ps`, and start it, or become idle."""
        if self.spec.policy == "static":
            step, blocked_by = self.plan_static(now)
        else:
            step, blocked_by = self.plan_dynamic(now, decided_ps)
        self.check()
        self.outcome.peak_blocks = max(self.outcome.peak_blocks, self.memory.blocks_in_use())
        self.outcome.peak_running = max(self.outcome.peak_running, len(self.running))
        self.outcome.peak_step_tokens = max(self.outcome.peak_step_tokens, step.tokens)
        if step.tokens == 0:
            # Who could be waiting still waits for blocks that a hand-over holds: its arrival wakes the client.
            assert not self.running
            assert not self.waiting or self.memory.leaving
            self.step, self.event_ps = None, None
            return
        in_use = self.adapters.in_use(self.running)
        duration = self.with_noise(step.cost() + self.spec.adapter_ps * len(in_use) + self.added_ps)
        self.added_ps = 0
        assert duration >= 0
        self.record(step, duration, blocked_by)
        log.append((self.index, now, now + duration, step.tokens, step.sequences))
        self.step, self.event_ps = step, now + duration

    def plan_static(self, now: int) -> tuple[Step, int | None]:
        """Policy `static`: a step, and the reason the head of the queue waits (None if nothing waits)."""
        if self.running:
            assert all(not r.needs_prefill for r in self.running)
            return Step(self.spec, self.running.copy(), [], now), BLOCKED_BY_MAX_BATCH if self.waiting else None
        chunks: list[tuple[Request, int]] = []
        blocked_by = self.admit_from_queue(now, now, chunks)
        return self.prefills_or_decodes(now, chunks), blocked_by

    def plan_dynamic(self, now: int, decided_ps: int) -> tuple[Step, int | None]:
        """Policies `continuous` and `chunked`; the result as in `plan_static`."""
        preempted = self.preempt_for_growth()
        chunks: list[tuple[Request, int]] = []
        if self.spec.policy == "chunked":
            self.continue_prefill(chunks)
        blocked_by = BLOCKED_BY_BLOCKS if preempted else self.admit_in_time(now, decided_ps, chunks)
        if self.spec.policy == "chunked":
            step = Step(self.spec, self.memory.decoding(), chunks, now)
        else:
            step = self.prefills_or_decodes(now, chunks)
        need = self.memory.growth() if step.decodes else 0
        self.memory.cache.make_room(self.memory.free_blocks(), need, self.memory.holders())
        assert self.memory.blocks_in_use() + self.memory.unreferenced_blocks() + need <= self.spec.total_blocks
        for request in step.decodes:
            request.blocks += self.memory.growth_of(request)
        return step, blocked_by

    def prefills_or_decodes(self, now: int, chunks: list[tuple[Request, int]]) -> Step:
        """A step of only prefills, if there are any, else of all decodes."""
        return Step(self.spec, [], chunks, now) if chunks else Step(self.spec, self.memory.decoding(), [], now)

    def with_noise(self, duration: int) -> int:
        """What a step lasts for which the model says `duration`."""
        if not self.spec.factors:
            return duration
        drawn = draw_of_step(self.seed, self.index, self.outcome.steps)
        self.happened["noise"] += 1
        return max(1, duration * self.spec.factors[drawn >> 22] // 2**20)

    # -- preemption

    def preempt_for_growth(self) -> bool:
        """Preempt until the blocks for the next decode iteration are free."""
        preempted = False
        while self.memory.growth() > self.memory.free_blocks():
            self.preempt(self.next_to_preempt())
            preempted = True
        return preempted

    def next_to_preempt(self) -> Request:
        """The one admitted last; with order `priority` of those that matter least."""
        if self.spec.order != "priority":
            return self.running[-1]
        largest = max(r.given.priority for r in self.running)
        return [r for r in self.running if r.given.priority == largest][-1]

    def preempt(self, request: Request) -> None:
        self.memory.free(request)
        request.prefilled = request.spared = 0
        if self.can_swap(request):
            request.swapped = True
            self.swap_free -= request.context
            self.added_ps += self.spec.swap_ps * request.context
        else:
            self.happened["recompute"] += 1
            request.context = 0
            request.needs_prefill = True
        self.happened["preemption"] += 1
        self.happened["swap"] += request.swapped
        self.happened["preempted while it stays"] += request.stays
        request.outcome.preemptions += 1
        self.outcome.preemptions += 1
        self.waiting.join_again(request)

    def can_swap(self, request: Request) -> bool:
        return self.spec.swap_ps > 0 and not request.needs_prefill and request.context <= self.swap_free

    # -- admission

    def continue_prefill(self, chunks: list[tuple[Request, int]]) -> None:
        """Give the partly prefilled request, if there is one, its tokens of this step."""
        partly = [r for r in self.running if r.needs_prefill]
        assert len(partly) <= 1
        for request in partly:
            chunk = min(max(0, self.tokens_left(chunks)), request.tokens_to_prefill)
            if chunk > 0:
                chunks.append((request, chunk))

    def admit_in_time(self, now: int, decided_ps: int, chunks: list[tuple[Request, int]]) -> int | None:
        """Admit among those who joined by `decided_ps`, or among all if nothing runs then; returns as below."""
        blocked_by = self.admit_from_queue(now, decided_ps, chunks)
        late = len(self.waiting) - len(self.waiting.joined_by(decided_ps))
        if late and not self.running:
            self.happened["nothing decided ahead"] += 1
            self.happened["nothing decided ahead, head refused"] += blocked_by is not None
            return self.admit_from_queue(now, now, chunks)
        if late:
            self.happened["too late for a batch"] += 1
            self.happened["too late, others wait"] += blocked_by is not None
            self.happened["too late, would be head"] += self.waiting.head(now) is not self.waiting.head(decided_ps)
        assert (blocked_by is not None) == bool(self.waiting.joined_by(decided_ps))
        return blocked_by

    def admit_from_queue(self, now: int, joined_by_ps: int, chunks: list[tuple[Request, int]]) -> int | None:
        """Admit from the head of the queue; returns why the head left there, if any, was not admitted."""
        while (head := self.waiting.head(joined_by_ps)) is not None:
            obstacle = self.obstacle(head, chunks)
            if obstacle is not None:
                return obstacle
            left = self.tokens_left(chunks)
            self.admit(head, now)
            if head.needs_prefill:
                rest = head.tokens_to_prefill
                assert rest >= 1
                chunks.append((head, min(left, rest) if self.spec.policy == "chunked" else rest))
        return None

    def obstacle(self, head: Request, chunks: list[tuple[Request, int]]) -> int | None:
        """Why the head of the queue can not be admitted now; None if it can."""
        if len(self.running) >= self.spec.max_batch:
            return BLOCKED_BY_MAX_BATCH
        if self.adapters.refuses(head, self.running):
            self.happened["adapter refused"] += 1
            return BLOCKED_BY_MAX_BATCH
        if not self.step_has_room(head, chunks):
            return BLOCKED_BY_TOKEN_BUDGET
        if not self.blocks_fit(head):
            return BLOCKED_BY_BLOCKS
        return None

    def tokens_left(self, chunks: list[tuple[Request, int]]) -> int:
        """Tokens left of a chunked step's budget."""
        decodes = len(self.memory.decoding()) * (1 + self.spec.draft)
        return self.spec.token_budget - decodes - sum(chunk for _, chunk in chunks)

    def step_has_room(self, head: Request, chunks: list[tuple[Request, int]]) -> bool:
        if self.spec.policy == "chunked":
            return self.tokens_left(chunks) >= 1
        if not head.needs_prefill or not chunks:
            return True
        return sum(chunk for _, chunk in chunks) + self.rest_after_hits(head) <= self.spec.token_budget

    def rest_after_hits(self, head: Request) -> int:
        """Tokens that a request will have to prefill if it is admitted now."""
        return head.target - self.memory.cache.chunk_tokens * self.memory.cache.covered(head)

    def blocks_fit(self, head: Request) -> bool:
        if self.spec.policy == "static":
            return self.memory.blocks_needed(head) <= self.memory.free_blocks()
        watermark = self.spec.watermark_blocks if self.running else 0
        return self.memory.free_blocks() - self.memory.growth() - self.memory.blocks_needed(head) >= watermark

    def admit(self, request: Request, now: int) -> None:
        assert request.prefilled == 0 or not request.needs_prefill
        must_load = self.adapters.admit(request, self.running)
        if must_load:
            self.happened["adapter loaded"] += 1
            self.added_ps += self.spec.adapter_load_ps
        self.waiting.remove(request)
        covered = self.memory.cache.covered(request)
        self.memory.take(request)
        if request.needs_prefill:
            self.spare(request, covered)
        if request.swapped:
            request.swapped = False
            self.swap_free += request.context
            self.added_ps += self.spec.swap_ps * request.context
        if request.outcome.scheduled_ps == -1:
            request.outcome.scheduled_ps = now
            request.start(now)

    def spare(self, request: Request, covered: int) -> None:
        """Of a prompt that was looked up, the chunks `covered` by the cache and the tiers are not computed."""
        chunk_tokens, hits = self.memory.cache.chunk_tokens, len(request.references)
        assert covered >= hits
        request.prefilled = request.spared = covered * chunk_tokens
        self.outcome.hit_tokens += covered * chunk_tokens
        self.outcome.fetched_tokens += (covered - hits) * chunk_tokens
        self.happened["hit"] += hits > 0
        self.happened["hit by tiers"] += covered > hits
        self.happened["fetched in vain"] += request.fetched > max(covered, request.fetch_from)
        request.fetch_from = request.fetched = 0

    # -- recording and checking

    def record(self, step: Step, duration: int, blocked_by: int | None) -> None:
        outcome = self.outcome
        outcome.busy_ps += duration
        outcome.steps += 1
        outcome.prefill_tokens += sum(chunk for _, chunk in step.chunks)
        outcome.decode_context_tokens += step.context_tokens
        outcome.prefill_pairs += step.prefill_pairs
        if not self.spec.schedules_ahead:
            assert (blocked_by is not None) == bool(self.waiting)
        if blocked_by is not None:
            outcome.blocked_ps[blocked_by] += duration

    def check(self) -> None:
        """Invariants that hold after every plan."""
        self.memory.check()
        assert len(self.running) <= self.spec.max_batch
        assert all(r.blocks == r.fixed == 0 and r.references == [] for r in self.waiting.requests)
        swapped = [r for r in self.waiting.requests if r.swapped]
        assert 0 <= self.swap_free == self.spec.swap_free - sum(r.context for r in swapped)
        assert all(not r.needs_prefill for r in swapped)
        if self.spec.max_adapters > 0:
            assert self.adapters.in_use(self.running) <= set(self.adapters.kept)
        for request in self.running:
            assert request.fixed == self.memory.fixed(request)
            assert not request.swapped
        for request in self.memory.decoding() + swapped:
            assert request.context == request.prompt + request.generated - 1
            assert 1 <= request.generated < request.output
            assert self.spec.role != "prefill" or request.stays

    def check_after_step(self) -> None:
        """Invariants that hold at the end of every step, before the next plan."""
        prefilling = [r for r in self.running if r.needs_prefill]
        decoding = self.memory.decoding()
        assert len(prefilling) <= (1 if self.spec.policy == "chunked" else 0)
        if self.spec.policy != "static":
            assert all(self.memory.blocks_of_context(r) == self.memory.blocks_for(r.target) for r in prefilling)
            for request in decoding:
                least = self.memory.blocks_for(request.context)
                most = self.memory.blocks_for(min(request.context + self.spec.draft, request.prompt + request.output))
                assert least <= self.memory.blocks_of_context(request) <= most
        self.memory.check()

    def check_at_end(self) -> None:
        assert not self.waiting
        assert self.outstanding == []
        assert self.event_ps is None
        assert self.swap_free == self.spec.swap_free
        self.memory.check_at_end()


def check_spec(spec: OracleClientSpec) -> None:
    """What a client may be like."""
    assert spec.role in ("both", "prefill", "decode")
    assert spec.policy in ("static", "continuous", "chunked")
    assert min(spec.max_batch, spec.token_budget, spec.block_tokens, spec.min_prompt) >= 1
    assert min(spec.swap_ps, spec.swap_free, spec.state_blocks, spec.window_tokens, spec.window_share) >= 0
    assert min(spec.link_latency_ps, spec.link_ps_per_token, spec.link_layers) >= 0
    assert min(spec.max_adapters, spec.adapter_ps, spec.adapter_load_ps, spec.eviction_blocks) >= 0
    assert len(spec.thresholds) == spec.draft
    assert len(spec.factors) in (0, 1024)
    assert not spec.schedules_ahead or spec.policy != "static"
    if spec.draft > 0:
        assert spec.policy != "static"
        assert not spec.cached
        assert min(spec.window_tokens, spec.window_share) == 0
