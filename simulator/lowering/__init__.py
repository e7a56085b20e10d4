"""From specifications to the kernel's arrays: the only bridge down."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.errors import SpecError
from simulator.kernel import Memory, allocate, new_clients, new_stages
from simulator.kernel.layout import NEVER, ROLE_PREFILL
from simulator.lowering.calls import end_of_window, reply_ps_of_ways, request_records
from simulator.lowering.codes import KEEPS, ORDERS, POLICIES, QUANTITIES, ROLES, ROUTERS, WRITES
from simulator.lowering.pools import (
    PoolPlan,
    check_adapters,
    check_chunks,
    check_stages,
    fill_pool,
    hand_over_ps,
    plan_pool,
)
from simulator.lowering.services import ServicePlan, check_services, fill_service
from simulator.lowering.tables import Tables
from simulator.lowering.tiers import TierPlan, expect_tiers, is_expected, plan_tiers, reused_chunks
from simulator.spec.deployment import Deployment
from simulator.spec.pipeline_plan import PipelinePlan, plan_pipelines
from simulator.spec.stages import LLM_ALONE
from simulator.workload import Requests

__all__ = [
    "KEEPS",
    "LLM_ALONE_PLAN",
    "NO_LIMIT",
    "ORDERS",
    "POLICIES",
    "QUANTITIES",
    "ROLES",
    "ROUTERS",
    "WRITES",
    "Lowered",
    "PoolPlan",
    "ServicePlan",
    "TierPlan",
    "check_services",
    "check_stages",
    "hand_over_ps",
    "lower",
]

NO_LIMIT = 1 << 40
"""Iterations of a run when only the simulation itself ends it."""

LLM_ALONE_PLAN = plan_pipelines([LLM_ALONE])
"""Plan of a pipeline of one LLM."""


@dataclass(frozen=True)
class Lowered:
    """A simulation ready to run, and what is needed to read its outcome."""

    memory: Memory
    plan: PipelinePlan
    requests: Requests
    pools: tuple[PoolPlan, ...]
    services: tuple[ServicePlan, ...]
    tiers: tuple[TierPlan, ...]


def lower(
    deployment: Deployment,
    requests: Requests,
    *,
    plan: PipelinePlan = LLM_ALONE_PLAN,
    max_run: int = NO_LIMIT,
    window_requests: int | None = None,
    log_capacity: int = 0,
    log_window_ps: tuple[int, int] = (0, NEVER),
) -> Lowered:
    """Return the kernel's arrays for a deployment and its requests.

    Parameters
    ----------
    plan
        Stages of the requests and the ways through them.
    max_run
        Iterations that the kernel may advance at once; 1 is plain stepping with the same result.
    window_requests
        Requests in memory at the beginning, for :func:`simulator.windows.run_in_windows`; all if absent.
    log_capacity, log_window_ps
        Entries of the log of what clients do, and the time in which it is kept.

    Raises
    ------
    SpecError
        If a name is unknown, a model cannot be sharded in this way or does not fit, or a stage has no clients.
    """
    check_stages(deployment, plan.llm_stages)
    check_services(deployment.services, plan.services)
    number = {name: i for i, name in enumerate(plan.stages)}
    if requests.prefixes is not None and is_expected(deployment.tiers):
        # What no other request has cannot be found in a tier.
        reused = replace(requests.prefixes, prompt_chunks=reused_chunks(requests.prefixes))
        requests = replace(requests, prefixes=reused)
    last = None if window_requests is None else end_of_window(requests, 0, window_requests)
    rows = request_records(requests, plan, 0, last, reply_ps=reply_ps_of_ways(plan, deployment.pools))
    tables = Tables()
    clients = new_clients(
        sum(pool.clients for pool in deployment.pools) + sum(service.clients for service in deployment.services)
    )
    first = 0
    pools: list[PoolPlan] = []
    # Clients of one stage stand together.
    for pool in sorted(deployment.pools, key=lambda pool: number[pool.stage]):
        pools.append(plan_pool(pool, first))
        own = clients[first : first + pool.clients]
        own["stage"] = number[pool.stage]
        fill_pool(own, pools[-1], deployment, tables)
        first += pool.clients
    services: list[ServicePlan] = []
    for service in sorted(deployment.services, key=lambda service: number[service.stage]):
        stage, quantity = plan.service(service.stage), plan.quantity(service.stage)
        own = clients[first : first + service.clients]
        own["stage"] = number[service.stage]
        cost = fill_service(own, service, stage, quantity, rows, tables)
        services.append(ServicePlan(service, stage, cost, first))
        first += service.clients
    _check_range(clients, rows)
    check_adapters(pools, requests.adapter)
    prefixes = requests.prefixes
    chunk_tokens = prefixes.chunk_tokens if prefixes is not None else 1
    if prefixes is not None:
        check_chunks(pools, chunk_tokens)
    else:
        clients["cache"] = -1
    simulated = () if is_expected(deployment.tiers) else deployment.tiers
    if prefixes is not None and is_expected(deployment.tiers):
        expect_tiers(clients, pools, deployment.tiers, chunk_tokens)
    tiers, tier_records = plan_tiers(clients, pools, simulated, chunk_tokens)
    links = len(tiers)
    if deployment.link.shared:
        senders = np.flatnonzero(clients["role"] == ROLE_PREFILL)
        clients["egress"][senders] = links + np.arange(len(senders))
        links += len(senders)
    memory = allocate(
        clients,
        _stages(deployment, plan),
        rows,
        tables.joined(),
        max_run=max_run,
        ways=[[number[name] for name in way] for way in plan.ways],
        tiers=tier_records,
        links=links,
        chunks=prefixes.chunks if prefixes is not None else None,
        chunk_tokens=chunk_tokens,
        seed=deployment.seed,
        requests_in_all=len(requests),
        keep_visits=window_requests is None,
        log_capacity=log_capacity,
        log_window_ps=log_window_ps,
    )
    order = {plan.pool.name: plan for plan in pools}
    return Lowered(
        memory,
        plan,
        requests,
        tuple(order[pool.name] for pool in deployment.pools),
        tuple(next(plan for plan in services if plan.service is service) for service in deployment.services),
        tiers,
    )


def _stages(deployment: Deployment, plan: PipelinePlan) -> npt.NDArray[Any]:
    """Return the kernel's records of stages."""
    stages = new_stages(len(plan.stages))
    own = {each.stage: each.router for each in deployment.routers}
    for name in own:
        if name not in plan.stages:
            raise SpecError(f"routers: no stage {name!r} in the pipeline; its stages: {', '.join(plan.stages)}")
    stages["llm"] = [name in plan.llm_stages for name in plan.stages]
    stages["router"] = [ROUTERS[own.get(name, deployment.router)] for name in plan.stages]
    stages["handover_router"] = ROUTERS[deployment.handover_router]
    stages["local_handover"] = deployment.handover_scope == "local"
    stages["affinity"] = deployment.prefix_weight
    if deployment.lending:
        llm = stages["llm"] == 1
        for field in ("prefill", "decode"):
            limit = getattr(deployment.lending, f"{field}_above_tokens")
            if limit is not None:
                stages[f"lend_{field}_tokens"][llm] = limit
    return stages


def _check_range(clients: npt.NDArray[Any], requests: npt.NDArray[Any]) -> None:
    """Refuse prompts so long that the attention time of one prefill could exceed 64 bits."""
    longest = int(requests["prompt_tokens"].max()) + int(requests["output_tokens"].max())
    pair = int(max(clients["prefill_pair"].max(), clients["window_pair"].max()))
    read = int(clients["prefill_read"].max())
    if longest * max(longest * pair, read) >= 1 << 62:
        raise SpecError(f"workload: a request of {longest:,} tokens is beyond what a step's time can count")
