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

    A service has no use for the policy, the token budget, blocks and the cost of attention.
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
    quantity: str = "none"  # of a service: "none" | "query" | "prompt" | "output"


@dataclass(frozen=True)
class OracleRequest:
    """One request of the workload."""

    arrival_ps: int
    prompt_tokens: int
    output_tokens: int
    query_tokens: int | None = None  # None: as many as `prompt_tokens`


@dataclass
class RequestOutcome:
    """What is recorded for one request; everything stays as it is here if it is rejected."""

    scheduled_ps: int = -1
    first_token_ps: int = -1
    finish_ps: int = -1
    prefill_client: int = -1
    finish_client: int = -1
    preemptions: int = 0
    done_ps: int = -1
    service_ps: int = 0


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
    preemptions: int = 0
    blocked_ps: dict[int, int] = field(
        default_factory=lambda: {BLOCKED_BY_BLOCKS: 0, BLOCKED_BY_MAX_BATCH: 0, BLOCKED_BY_TOKEN_BUDGET: 0}
    )
    service_requests: int = 0


@dataclass
class OracleResult:
    """Outcome of a run. `steps_log`: (client, start_ps, end_ps, T, S) of each step, in order of planning.

    For a batch of a service T is the sum of its quantities and S its size.
    """

    requests: list[RequestOutcome]
    clients: list[ClientOutcome]
    itl_gaps_ps: Counter[int]
    steps_log: StepLog | None = None


def itl_bin(gap_ps: int) -> int:
    """Histogram bin of an inter-token gap."""
    e = max(0, gap_ps.bit_length() - 8)
    return 128 * e + (gap_ps >> e)
