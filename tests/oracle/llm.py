"""LLM clients: how one plans its steps."""

from dataclasses import dataclass

from .cost import OracleProfile, linear_cost, prefill_cost, sequences_cost
from .records import (
    BLOCKED_BY_BLOCKS,
    BLOCKED_BY_MAX_BATCH,
    BLOCKED_BY_TOKEN_BUDGET,
    ClientOutcome,
    OracleClientSpec,
    StepLog,
)
from .request import Request


def ceil_div(a: int, b: int) -> int:
    """Smallest integer not below a / b."""
    return -(-a // b)


@dataclass
class Step:
    """One step: the requests that decode and, in order of admission, those that prefill with their chunks."""

    decodes: list[Request]
    chunks: list[tuple[Request, int]]

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


class LlmClient:
    """State of one client of the LLM stage, and how it plans a step."""

    def __init__(self, index: int, spec: OracleClientSpec) -> None:
        assert spec.role in ("both", "prefill", "decode")
        assert spec.policy in ("static", "continuous", "chunked")
        assert min(spec.max_batch, spec.token_budget, spec.block_tokens) >= 1
        self.index = index
        self.spec = spec
        self.outcome = ClientOutcome()
        self.waiting: list[Request] = []
        self.running: list[Request] = []  # in order of admission
        self.leaving: list[Request] = []  # handed over, blocks held until the hand-over arrives
        self.outstanding: list[Request] = []
        self.step: Step | None = None  # the step in progress
        self.event_ps: int | None = None  # the end of the step, or a wake-up; None if idle

    # -- counting

    def blocks_for(self, tokens: int) -> int:
        return ceil_div(tokens, self.spec.block_tokens)

    def blocks_in_use(self) -> int:
        return sum(r.blocks for r in self.running) + sum(r.blocks for r in self.leaving)

    def free_blocks(self) -> int:
        return self.spec.total_blocks - self.blocks_in_use()

    def decoding(self) -> list[Request]:
        return [r for r in self.running if not r.needs_prefill]

    def needs_growth(self, request: Request) -> bool:
        """Whether a decoding request needs a new block for its next token."""
        return self.spec.policy != "static" and request.context % self.spec.block_tokens == 0

    def growth(self) -> int:
        return sum(1 for r in self.decoding() if self.needs_growth(r))

    def outstanding_tokens(self) -> int:
        return sum(r.tokens_to_prefill + self.tokens_to_generate(r) for r in self.outstanding)

    def tokens_to_generate(self, request: Request) -> int:
        return 1 if self.spec.role == "prefill" else request.output - request.generated

    def can_ever_hold(self, request: Request) -> bool:
        tokens = request.prompt if self.spec.role == "prefill" else request.prompt + request.output
        return self.blocks_for(tokens) <= self.spec.total_blocks

    # -- joining and waking

    def join(self, now: int, request: Request) -> None:
        """A request was routed here to be prefilled."""
        self.outstanding.append(request)
        self.waiting.append(request)
        self.wake_if_idle(now)

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

    def plan_static(self, now: int) -> tuple[Step, int | None]:
        """Policy `static`: a step, and the reason the head of the queue waits (None if nothing waits)."""
        if self.running:
            assert all(not r.needs_prefill for r in self.running)
            return Step(self.running.copy(), []), BLOCKED_BY_MAX_BATCH if self.waiting else None
        chunks: list[tuple[Request, int]] = []
        blocked_by = self.admit_from_queue(now, chunks)
        return self.prefills_or_decodes(chunks), blocked_by

    def plan_dynamic(self, now: int) -> tuple[Step, int | None]:
        """Policies `continuous` and `chunked`; the result as in `plan_static`."""
        preempted = self.preempt_for_growth()
        chunks: list[tuple[Request, int]] = []
        if self.spec.policy == "chunked":
            self.continue_prefill(chunks)
        blocked_by = BLOCKED_BY_BLOCKS if preempted else self.admit_from_queue(now, chunks)
        chunked = self.spec.policy == "chunked"
        step = Step(self.decoding(), chunks) if chunked else self.prefills_or_decodes(chunks)
        for request in step.decodes:
            if self.needs_growth(request):
                request.blocks += 1
        return step, blocked_by

    def prefills_or_decodes(self, chunks: list[tuple[Request, int]]) -> Step:
        """A step of only prefills, if there are any, else of all decodes."""
        return Step([], chunks) if chunks else Step(self.decoding(), [])

    def preempt_for_growth(self) -> bool:
        """Preempt, last admitted first, until the blocks for the next decode iteration are free."""
        preempted = False
        while self.growth() > self.free_blocks():
            self.preempt(self.running[-1])
            preempted = True
        return preempted

    def preempt(self, request: Request) -> None:
        self.running.remove(request)
        self.waiting.insert(0, request)
        request.blocks = 0
        request.prefilled = 0
        request.context = 0
        request.needs_prefill = True
        request.outcome.preemptions += 1
        self.outcome.preemptions += 1

    def continue_prefill(self, chunks: list[tuple[Request, int]]) -> None:
        """Give the partly prefilled request, if there is one, its tokens of this step."""
        partly = [r for r in self.running if r.needs_prefill]
        assert len(partly) <= 1
        for request in partly:
            chunk = min(max(0, self.spec.token_budget - len(self.decoding())), request.tokens_to_prefill)
            if chunk > 0:
                chunks.append((request, chunk))

    def admit_from_queue(self, now: int, chunks: list[tuple[Request, int]]) -> int | None:
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

    def obstacle(self, head: Request, chunks: list[tuple[Request, int]]) -> int | None:
        """Why the head of the queue can not be admitted now; None if it can."""
        if len(self.running) >= self.spec.max_batch:
            return BLOCKED_BY_MAX_BATCH
        if not self.step_has_room(head, chunks):
            return BLOCKED_BY_TOKEN_BUDGET
        if not self.blocks_fit(head):
            return BLOCKED_BY_BLOCKS
        return None

    def tokens_left(self, chunks: list[tuple[Request, int]]) -> int:
        """Tokens left of a chunked step's budget."""
        return self.spec.token_budget - len(self.decoding()) - sum(chunk for _, chunk in chunks)

    def step_has_room(self, head: Request, chunks: list[tuple[Request, int]]) -> bool:
        if self.spec.policy == "chunked":
            return self.tokens_left(chunks) >= 1
        if not head.needs_prefill or not chunks:
            return True
        return sum(chunk for _, chunk in chunks) + head.target <= self.spec.token_budget

    def blocks_fit(self, head: Request) -> bool:
        if self.spec.policy == "static":
            return self.blocks_at_admission(head) <= self.free_blocks()
        needed = self.blocks_for(head.target if head.needs_prefill else head.prompt + 1)
        watermark = self.spec.watermark_blocks if self.running else 0
        return self.free_blocks() - self.growth() - needed >= watermark

    def blocks_at_admission(self, request: Request) -> int:
        """Blocks a request takes when it is admitted."""
        if self.spec.policy == "static":
            lasting = request.prompt if self.spec.role == "prefill" else request.prompt + request.output
            return self.blocks_for(lasting)
        return self.blocks_for(request.target if request.needs_prefill else request.prompt)

    def admit(self, request: Request, now: int) -> None:
        assert self.waiting[0] is request
        assert request.blocks == 0
        assert request.prefilled == 0 or not request.needs_prefill
        self.waiting.pop(0)
        request.blocks = self.blocks_at_admission(request)
        self.running.append(request)
        if request.outcome.scheduled_ps == -1:
            request.outcome.scheduled_ps = now

    # -- recording and checking

    def record(self, step: Step, duration: int, blocked_by: int | None) -> None:
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

    def check_at_end(self) -> None:
        assert self.blocks_in_use() == 0
        assert self.waiting == self.running == self.leaving == self.outstanding == []
        assert self.event_ps is None

    def check_after_step(self) -> None:
        """Invariants that hold at the end of every step, before the next plan."""
        prefilling = [r for r in self.running if r.needs_prefill]
        assert len(prefilling) <= (1 if self.spec.policy == "chunked" else 0)
        if self.spec.policy != "static":
            assert all(r.blocks == self.blocks_for(r.target) for r in prefilling)
            assert all(r.blocks == self.blocks_for(r.context) for r in self.decoding())
