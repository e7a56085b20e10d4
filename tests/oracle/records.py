"""What goes into the oracle and what comes out of it."""

from collections import Counter
from dataclasses import dataclass, field

from .cost import OracleProfile

BLOCKED_BY_BLOCKS = 1
BLOCKED_BY_MAX_BATCH = 2
BLOCKED_BY_TOKEN_BUDGET = 3

StepLog = list[tuple[int, int, int, int, int]]


@dataclass(frozen=True)
class OracleClientSpec:
    """One engine instance, or one client of a service (role "service").

    A service has no use for anything that is not marked as its own, but for the batch, the profile and the latency.
    """

    role: str  # "both" | "prefill" | "decode" | "service"
    policy: str  # "static" | "continuous" | "chunked"
    max_batch: int
    token_budget: int
    block_tokens: int
    total_blocks: int
    watermark_blocks: int
    profile: OracleProfile
    link_latency_ps: int
    link_ps_per_token: int
    stage: int = 0
    max_wait_ps: int = 0  # of a service
    quantity: str = "none"  # of a service: "none" | "query" | "prompt" | "output" | "media"
    order: str = "fcfs"  # "fcfs" | "shortest_first" | "least_work_left" | "priority" | "earliest_deadline"
    group: int = 0
    min_prompt: int = 1
    max_prompt: int = 2**31 - 1
    egress: int = -1  # the link over which it hands over; -1: none of its own
    link_layers: int = 0
    swap_ps: int = 0  # a token
    swap_free: int = 0  # tokens
    state_blocks: int = 0
    window_tokens: int = 0
    window_share: int = 0  # in units of 1 / 1024
    draft: int = 0
    thresholds: tuple[int, ...] = ()
    max_adapters: int = 0
    adapter_ps: int = 0
    adapter_load_ps: int = 0
    cached: bool = False
    eviction_blocks: int = 0
    tiers: tuple[int, ...] = ()  # nearest first
    always_fetch: bool = False
    write: str = "through"  # "through" | "back" | "none"
    expected: tuple[int, int, int] | None = None  # instead of a cache: latency_ps, chunk and miss in units of 2⁻¹⁰
    schedules_ahead: bool = False
    factors: tuple[int, ...] = ()  # of the noise, 1024 of them, in units of 2⁻²⁰; none: no noise


@dataclass(frozen=True)
class OracleTier:
    """A cache of chunks behind the clients; the one behind it follows it in the chains that contain it."""

    capacity: int
    link: int
    latency_ps: int
    chunk_ps: int
    spills: bool = False


@dataclass(frozen=True)
class OracleStage:
    """A stage that ways may pass."""

    kind: str  # "llm" | "service"
    router: str = "join_shortest_queue"
    handover_router: str = "join_shortest_queue"
    local_handover: bool = False
    lend_prefill_tokens: int = -1
    lend_decode_tokens: int = -1
    affinity: int = 0


@dataclass(frozen=True)
class OracleRequest:
    """One request of the workload."""

    arrival_ps: int  # without a meaning if it needs others
    prompt_tokens: int
    output_tokens: int
    query_tokens: int | None = None  # None: as many as `prompt_tokens`
    media_tokens: int = 0
    way: int = 0
    priority: int = 0
    deadline_ps: int = 0  # after its arrival if it needs others
    adapter: int = 0
    needs: int = 0
    wait_ps: int = 0
    first_follower: int = 0
    followers: int = 0
    chunk_ids: tuple[int, ...] = ()  # of prompt and answer
    prompt_chunks: int = 0
    keep: str = "keep"  # "keep" | "drop" | "offload"


@dataclass
class RequestOutcome:
    """What is recorded for one request.

    Of one that is rejected everything stays as it is here but `rejected`, `arrival_ps` (if it did arrive) and
    `visits`, which has its one entry (-1, -1, -1) for each stage of the way.
    """

    scheduled_ps: int = -1
    first_token_ps: int = -1
    finish_ps: int = -1
    prefill_client: int = -1
    finish_client: int = -1
    preemptions: int = 0
    done_ps: int = -1
    service_ps: int = 0
    arrival_ps: int = -1
    rejected: bool = False
    visits: list[tuple[int, int, int]] = field(default_factory=list)  # (reached, started, left) for each stage


@dataclass
class ClientOutcome:
    """What is recorded for one client; `blocked_ps` always has the keys 1, 2 and 3.

    Of a service only `busy_ps`, `steps` (its batches) and `service_requests` are ever more than 0.
    """

    busy_ps: int = 0
    steps: int = 0
    prefill_tokens: int = 0
    decode_tokens: int = 0
    decode_context_tokens: int = 0
    prefill_pairs: int = 0
    peak_blocks: int = 0
    peak_running: int = 0
    peak_step_tokens: int = 0
    preemptions: int = 0
    blocked_ps: dict[int, int] = field(
        default_factory=lambda: {BLOCKED_BY_BLOCKS: 0, BLOCKED_BY_MAX_BATCH: 0, BLOCKED_BY_TOKEN_BUDGET: 0}
    )
    service_requests: int = 0
    hit_tokens: int = 0
    fetched_tokens: int = 0  # of those


@dataclass
class TierOutcome:
    """What is recorded for one tier."""

    hit_chunks: int = 0
    stored_chunks: int = 0


@dataclass
class OracleResult:
    """Outcome of a run. `steps_log`: (client, start_ps, end_ps, T, S) of each step, in order of planning.

    For a batch of a service T is the sum of its quantities and S its size. `happened` counts what tests want to
    know to have happened.
    """

    requests: list[RequestOutcome]
    clients: list[ClientOutcome]
    itl_gaps_ps: Counter[int]
    steps_log: StepLog | None = None
    tiers: list[TierOutcome] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)


def itl_bin(gap_ps: int) -> int:
    """Histogram bin of an inter-token gap."""
    e = max(0, gap_ps.bit_length() - 8)
    return 128 * e + (gap_ps >> e)
