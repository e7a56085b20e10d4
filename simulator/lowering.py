"""From specifications to the kernel's arrays: the only bridge down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from simulator.errors import SpecError
from simulator.kernel import Memory, allocate
from simulator.kernel.layout import (
    CLIENT,
    COEFFICIENT_SHIFT,
    EXACT_TOKENS,
    LAST_SHIFT,
    LAST_TOKENS,
    MIDDLE_SHIFT,
    MIDDLE_TOKENS,
    SEQUENCE_KNOTS,
)
from simulator.performance.engine import BYTES_PER_ELEMENT, Engine, engine_of
from simulator.performance.memory import kv_blocks
from simulator.performance.service_cost import ServiceCost, service_cost
from simulator.performance.step_cost import StepCost, step_cost
from simulator.spec.deployment import Deployment, Pool
from simulator.spec.stages import (
    LLM_ALONE,
    Quantity,
    Service,
    ServiceStage,
    Stage,
    added_prompt_tokens,
    llm_position,
    quantities,
    services_of,
)
from simulator.workload import PS_PER_S, Requests

ROLES = {"both": 0, "prefill": 1, "decode": 2, "service": 3}
QUANTITIES = {"none": 0, "query": 1, "prompt": 2, "output": 3}
POLICIES = {"static": 0, "continuous": 1, "chunked": 2}
ROUTERS = {"round_robin": 0, "join_shortest_queue": 1, "least_outstanding_tokens": 2}

NO_LIMIT = 1 << 40
"""Iterations of a run when only the simulation itself ends it."""

_TOKENS = np.concatenate(
    [
        np.arange(EXACT_TOKENS + 1),
        np.arange(EXACT_TOKENS, MIDDLE_TOKENS, 1 << MIDDLE_SHIFT)[1:],
        np.arange(MIDDLE_TOKENS, LAST_TOKENS + 1, 1 << LAST_SHIFT),
    ]
).astype(np.float64)
_SEQUENCES = np.arange(SEQUENCE_KNOTS, dtype=np.float64)


@dataclass(frozen=True)
class PoolPlan:
    """A pool as it was lowered: its clients are ``first`` … ``first + pool.clients - 1``."""

    pool: Pool
    engine: Engine
    cost: StepCost
    first: int
    blocks: int


@dataclass(frozen=True)
class ServicePlan:
    """A service as it was lowered: its clients are ``first`` … ``first + service.clients - 1``."""

    service: Service
    stage: ServiceStage
    cost: ServiceCost
    first: int


@dataclass(frozen=True)
class Lowered:
    """A simulation ready to run, and what is needed to read its outcome."""

    memory: Memory
    pools: tuple[PoolPlan, ...]
    services: tuple[ServicePlan, ...]


@lru_cache(maxsize=512)
def _tables(engine: Engine) -> tuple[StepCost, npt.NDArray[np.int64]]:
    """Return the cost of an engine's steps and its integer tables, linear first, then sequences."""
    cost = step_cost(engine, _TOKENS, _SEQUENCES)
    seconds = np.concatenate([cost.linear.seconds, cost.sequences.seconds])
    # A step of no duration would let time stand still.
    return cost, np.maximum(np.rint(seconds * PS_PER_S), 1).astype(np.int64)


@lru_cache(maxsize=512)
def _service_tables(
    stage: ServiceStage, service: Service, attention_tokens: float
) -> tuple[ServiceCost, npt.NDArray[np.int64]]:
    """Return the cost of a service's batches and its integer tables, linear first, then sequences."""
    cost = service_cost(stage, service, _TOKENS, _SEQUENCES, attention_tokens=attention_tokens)
    seconds = np.concatenate([cost.linear_s, cost.sequences_s])
    return cost, np.maximum(np.rint(seconds * PS_PER_S), 1).astype(np.int64)


def hand_over_ps(pool: Pool, deployment: Deployment) -> tuple[int, int]:
    """Return the start-up time of a KV transfer from a pool and its time per prompt token, picoseconds.

    Without a rate in the specification it is that of the slowest network among the client that sends and those
    that may receive, each with the links of all its accelerators.
    """
    link, engine = deployment.link, engine_of(pool)
    bytes_per_token = engine.model.kv_elements_per_token * BYTES_PER_ELEMENT[pool.kv]
    ends = [pool, *(other for other in deployment.pools if other.role == "decode")]
    rate = min(engine_of(end).accelerator.scale_out_bytes_per_s * end.tp for end in ends)
    if link.gb_per_s:
        rate = link.gb_per_s * 1e9
    return round(link.latency_us * 1e6), max(1, round(bytes_per_token / rate * PS_PER_S))


def lower(
    deployment: Deployment,
    requests: Requests,
    *,
    pipeline: Sequence[Stage] = LLM_ALONE,
    max_run: int = NO_LIMIT,
) -> Lowered:
    """Return the kernel's arrays for a deployment and its requests.

    Parameters
    ----------
    pipeline
        Stages of every request.
    max_run
        Iterations that the kernel may advance at once; 1 is plain stepping with the same result.

    Raises
    ------
    SpecError
        If a name is unknown, a model cannot be sharded in this way or does not fit, or a service stage has no clients.
    """
    stages, llm_stage = services_of(pipeline), llm_position(pipeline)
    check_services(deployment.services, stages)
    count = sum(pool.clients for pool in deployment.pools) + sum(s.clients for s in deployment.services)
    clients = np.zeros(count, dtype=CLIENT)
    pools, services, tables = [], [], _Tables()
    first = 0
    for pool in deployment.pools:
        rows = clients[first : first + pool.clients]
        engine = engine_of(pool)
        cost, table = _tables(engine)
        pools.append(PoolPlan(pool, engine, cost, first, kv_blocks(pool)))
        rows["stage"] = llm_stage
        rows["linear"], rows["sequences"] = tables.add(table)
        _fill(rows, pools[-1], deployment)
        first += pool.clients
    lengths, added = quantities(stages), added_prompt_tokens(stages[:llm_stage])
    for service in deployment.services:
        rows = clients[first : first + service.clients]
        position = [stage.name for stage in stages].index(service.stage)
        stage = stages[position]
        # A model in a file may have changed since it was last read.
        from_file = getattr(stage, "model", "").endswith(".json")
        cost_of = _service_tables.__wrapped__ if from_file else _service_tables
        service_time, table = cost_of(stage, service, _attention_tokens(lengths[position], requests, added))
        services.append(ServicePlan(service, stage, service_time, first))
        # The LLM stage stands between the services before and after it.
        rows["stage"] = position + (position >= llm_stage)
        rows["linear"], rows["sequences"] = tables.add(table)
        rows["quantity"] = QUANTITIES[lengths[position]]
        _fill_service(rows, service)
        first += service.clients
    _check_range(clients, requests, added)
    memory = allocate(
        clients,
        np.concatenate(tables.parts),
        requests.arrival_ps,
        requests.prompt_tokens + added,
        requests.output_tokens,
        router=ROUTERS[deployment.router],
        handover_router=ROUTERS[deployment.handover_router],
        max_run=max_run,
        query_tokens=requests.prompt_tokens,
        llm_stage=llm_stage,
    )
    return Lowered(memory, tuple(pools), tuple(services))


def _attention_tokens(quantity: Quantity, requests: Requests, added: int) -> float:
    """Return the length of text that a token of the workload attends to on average: ``Σ l² / Σ l``, 2 digits."""
    lengths = {
        "query": requests.prompt_tokens,
        "prompt": requests.prompt_tokens + added,
        "output": requests.output_tokens,
    }.get(quantity)
    if lengths is None:
        return 1.0
    length = lengths.astype(np.float64)
    return float(f"{(length @ length) / length.sum():.2g}")


def _check_range(clients: npt.NDArray[np.void], requests: Requests, added: int) -> None:
    """Refuse prompts so long that the attention time of one prefill could exceed 64 bits."""
    longest = int(requests.prompt_tokens.max()) + added + int(requests.output_tokens.max())
    pair, read = int(clients["prefill_pair"].max()), int(clients["prefill_read"].max())
    if longest * max(longest * pair, read) >= 1 << 62:
        raise SpecError(f"workload: a request of {longest:,} tokens is beyond what a step's time can count")


class _Tables:
    """Cost tables one after the other."""

    def __init__(self) -> None:
        self.parts: list[npt.NDArray[np.int64]] = []
        self._length = 0

    def add(self, table: npt.NDArray[np.int64]) -> tuple[int, int]:
        """Append a table; return the offsets of its linear and its sequences part."""
        start = self._length
        self.parts.append(table)
        self._length += len(table)
        return start, start + len(_TOKENS)


def check_services(services: Sequence[Service], stages: Sequence[ServiceStage]) -> None:
    """Check that every service stage has clients, and every service a stage.

    Raises
    ------
    SpecError
        Naming the stage.
    """
    names = [stage.name for stage in stages]
    for service in services:
        if service.stage not in names:
            known = ", ".join(names) or "none, the pipeline is the LLM alone"
            raise SpecError(f"services: no stage {service.stage!r} in the pipeline; its services: {known}")
    for name in names:
        if name not in {service.stage for service in services}:
            raise SpecError(f"services: stage {name!r} of the pipeline has no clients; add one with stage: {name}")


def _fill_service(clients: npt.NDArray[np.void], service: Service) -> None:
    """Write what a service's clients are into their records."""
    clients["role"] = ROLES["service"]
    clients["max_batch"] = service.max_batch_requests
    clients["block_tokens"] = 1
    clients["max_wait_ps"] = round(service.max_wait_ms * 1e9)
    clients["link_latency_ps"] = max(1, round(service.hop_us * 1e6))


def _fill(clients: npt.NDArray[np.void], plan: PoolPlan, deployment: Deployment) -> None:
    """Write what a pool's clients are into their records."""
    pool, cost = plan.pool, plan.cost
    fixed_point = PS_PER_S * (1 << COEFFICIENT_SHIFT)
    latency_ps, ps_per_token = hand_over_ps(pool, deployment)
    clients["role"] = ROLES[pool.role]
    clients["policy"] = POLICIES[pool.batching.policy]
    clients["max_batch"] = pool.batching.max_batch_requests
    clients["token_budget"] = pool.batching.token_budget_tokens
    clients["block_tokens"] = pool.kv_memory.block_tokens
    clients["total_blocks"] = plan.blocks
    clients["watermark_blocks"] = int(plan.blocks * pool.kv_memory.watermark)
    clients["attention_ps"] = max(1, round(cost.decode_s * PS_PER_S))
    clients["prefill_pair"] = round(cost.prefill_pair_s * fixed_point)
    clients["prefill_read"] = round(cost.prefill_read_s * fixed_point)
    clients["link_latency_ps"] = max(1, latency_ps)
    clients["link_ps_per_token"] = ps_per_token
