"""Service clients: a queue, and one batch at a time."""

from .cost import linear_cost, sequences_cost
from .records import ClientOutcome, OracleClientSpec, StepLog
from .request import Request


class ServiceClient:
    """State of one service client, and how it plans a batch."""

    def __init__(self, index: int, spec: OracleClientSpec) -> None:
        assert spec.role == "service"
        assert spec.quantity in ("none", "query", "prompt", "output", "media")
        assert spec.max_batch >= 1
        assert spec.max_wait_ps >= 0
        self.index = index
        self.spec = spec
        self.outcome = ClientOutcome()
        self.queue: list[Request] = []  # in order of joining
        self.batch: list[Request] = []  # the batch in service; empty if idle
        self.idle_since_ps = 0
        self.event_ps: int | None = None  # the end of the batch, or the time to plan; None if there is nothing to do

    # -- counting

    @property
    def outstanding(self) -> list[Request]:
        """The requests routed here that have not left."""
        return self.batch + self.queue

    def outstanding_tokens(self) -> int:
        return len(self.outstanding)

    def quantity(self, request: Request) -> int:
        """What a request adds to the work of its batch."""
        return {
            "none": 1,
            "query": request.query,
            "prompt": request.prompt,
            "output": request.output,
            "media": request.given.media_tokens,
        }[self.spec.quantity]

    def due_ps(self) -> int:
        """When the head of the queue has waited long enough."""
        return self.queue[0].joined_ps + self.spec.max_wait_ps

    # -- serving

    def join(self, now: int, request: Request) -> None:
        assert request not in self.outstanding
        request.joined_ps = now
        self.queue.append(request)
        if not self.batch:
            self.event_ps = now

    def plan(self, now: int, log: StepLog) -> None:
        """Start a batch, or wait until one is due, or for a request."""
        assert not self.batch
        if not self.queue:
            self.event_ps = None
        elif len(self.queue) >= self.spec.max_batch or self.due_ps() <= now:
            self.start_batch(now, log)
        else:
            self.event_ps = self.due_ps()

    def start_batch(self, now: int, log: StepLog) -> None:
        self.check_start(now)
        size = min(self.spec.max_batch, len(self.queue))
        self.batch, self.queue = self.queue[:size], self.queue[size:]
        for request in self.batch:
            request.start(now)
        quantity = sum(self.quantity(r) for r in self.batch)
        duration = linear_cost(self.spec.profile.linear, quantity) + sequences_cost(self.spec.profile.sequences, size)
        assert duration >= 0
        self.outcome.busy_ps += duration
        self.outcome.steps += 1
        log.append((self.index, now, now + duration, quantity, size))
        self.event_ps = now + duration

    def end_batch(self, now: int) -> list[Request]:
        """The requests that leave, in the order in which they were queued."""
        leaving, self.batch = self.batch, []
        self.idle_since_ps = now
        self.outcome.service_requests += len(leaving)
        for request in leaving:
            request.outcome.service_ps += now - request.joined_ps
        return leaving

    # -- checking

    def check_start(self, now: int) -> None:
        """A batch starts at the first moment at which the client is idle and the batch is full or due."""
        joined = [r.joined_ps for r in self.queue]
        assert joined == sorted(joined)
        ready = self.due_ps()
        if len(joined) >= self.spec.max_batch:
            ready = min(ready, joined[self.spec.max_batch - 1])
        assert now == max(ready, self.idle_since_ps)

    def check_at_end(self) -> None:
        assert self.queue == self.batch == []
        assert self.event_ps is None
