"""Pools of LLM clients as records of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulator.catalog import base_name
from simulator.errors import SpecError
from simulator.kernel.layout import COEFFICIENT_SHIFT
from simulator.lowering.codes import ORDERS, POLICIES, ROLES, WRITES
from simulator.lowering.noise import noise_factors
from simulator.lowering.tables import Tables, engine_tables
from simulator.performance.engine import Engine, engine_of, profile_of
from simulator.performance.engine_defaults import with_engine_defaults
from simulator.performance.kv_transfer import (
    NETWORK_SHARE,
    hand_over_bytes,
    kv_bytes_per_token_of_client,
    network_bytes_per_s,
    start_up_s,
)
from simulator.performance.memory import kv_blocks, state_blocks, window_share
from simulator.performance.speculation import acceptance_thresholds
from simulator.performance.step_cost import StepCost
from simulator.spec.deployment import Deployment, Pool
from simulator.workload import PS_PER_S

HOP_S: Final = 10e-6
"""Time in which a finished request reaches the next stage where the link says nothing else, seconds, by hand."""

_FIXED_POINT = PS_PER_S * (1 << COEFFICIENT_SHIFT)


@dataclass(frozen=True)
class PoolPlan:
    """A pool as it was lowered: its clients are ``first`` … ``first + pool.clients - 1``.

    ``request_s`` is a request's way to the engine and back, which no other request waits for.
    """

    pool: Pool
    engine: Engine
    cost: StepCost
    first: int
    blocks: int
    request_s: float


def check_stages(deployment: Deployment, llm_stages: Sequence[str]) -> None:
    """Check that every LLM stage has pools, and every pool a stage.

    Raises
    ------
    SpecError
        Naming the stage.
    """
    served = dict.fromkeys(pool.stage for pool in deployment.pools)
    for name in served:
        if name not in llm_stages:
            raise SpecError(f"pools: no LLM stage {name!r} in the pipeline; its LLM stages: {', '.join(llm_stages)}")
    for name in llm_stages:
        if name not in served:
            raise SpecError(f"pools: LLM stage {name!r} of the pipeline has no pool; add one with stage: {name}")


def hand_over_ps(pool: Pool, deployment: Deployment) -> tuple[int, int]:
    """Return the start-up time of a KV transfer from a pool and its time per prompt token, picoseconds.

    What a request has besides its growing KV (recurrent state, windows) is counted as start-up. Where the specification
    gives no rate it is the measured share of the slowest network among the client that sends and those that may
    receive, each with the links of all its accelerators; where it gives no start-up, the measured one for each layer.
    """
    link, engine = deployment.link, engine_of(pool)
    ends = [pool, *(end for end in deployment.pools if end.role == "decode" and end.stage == pool.stage)]
    # A request lies on one rank of data parallelism.
    rate = min(network_bytes_per_s(engine_of(end)) for end in ends) * NETWORK_SHARE
    if link.gb_per_s:
        rate = link.gb_per_s * 1e9
    per_token, constant = hand_over_bytes(engine)
    sends = pool.role == "prefill"
    measured_s = start_up_s(engine, layer_wise=link.layer_wise) if sends else HOP_S
    begin_s = measured_s if link.latency_us is None else link.latency_us * 1e-6
    begin_s += constant / rate if sends else 0.0
    return round(begin_s * PS_PER_S), max(1, round(per_token / rate * PS_PER_S))


def plan_pool(pool: Pool, first: int) -> PoolPlan:
    """Return the plan of a pool whose clients begin at ``first``."""
    pool = with_engine_defaults(pool)
    engine = engine_of(pool)
    return PoolPlan(pool, engine, engine_tables(engine)[0], first, kv_blocks(pool), request_s(pool))


def request_s(pool: Pool) -> float:
    """Return the time of a request's way to a pool's engine and back, seconds."""
    profile = profile_of(pool)
    return profile.request_us * 1e-6 * profile.host_slowdown.get(base_name(pool.accelerator), 1.0)


def fill_pool(clients: npt.NDArray[Any], plan: PoolPlan, deployment: Deployment, tables: Tables) -> None:
    """Write what a pool's clients are into their records."""
    pool, cost, engine = plan.pool, plan.cost, plan.engine
    latency_ps, ps_per_token = hand_over_ps(pool, deployment)
    clients["linear"], clients["sequences"] = tables.add_cost(engine_tables(engine)[1])
    clients["role"] = ROLES[pool.role]
    clients["policy"] = POLICIES[pool.batching.policy]
    clients["order"] = ORDERS[pool.batching.order]
    clients["ahead"] = pool.batching.schedule_ahead
    clients["group"] = np.arange(pool.clients) * pool.groups // pool.clients
    clients["max_batch"] = pool.batching.max_batch_requests
    clients["token_budget"] = pool.batching.token_budget_tokens
    clients["block_tokens"] = pool.kv_memory.block_tokens
    clients["total_blocks"] = plan.blocks
    clients["watermark_blocks"] = int(plan.blocks * pool.kv_memory.watermark)
    clients["min_prompt"] = pool.min_prompt_tokens
    if pool.max_prompt_tokens is not None:
        clients["max_prompt"] = pool.max_prompt_tokens
    clients["attention_ps"] = max(1, round(cost.decode_s * PS_PER_S))
    clients["prefill_pair"] = round(cost.prefill_pair_s * _FIXED_POINT)
    clients["prefill_read"] = round(cost.prefill_read_s * _FIXED_POINT)
    clients["decode_ps"] = round(cost.decode_step_s * PS_PER_S)
    clients["decode_sequence_ps"] = round(cost.decode_sequence_s * PS_PER_S)
    clients["link_latency_ps"] = max(1, latency_ps)
    clients["link_ps_per_token"] = ps_per_token
    clients["link_layers"] = engine.model.layers if deployment.link.layer_wise else 0
    clients["state_blocks"] = state_blocks(pool)
    if engine.model.window:
        clients["window_tokens"] = engine.model.window.window_tokens
        clients["window_share"] = window_share(pool)
        clients["window_ps"] = round(cost.window_s * PS_PER_S)
        clients["window_pair"] = round(cost.window_pair_s * _FIXED_POINT)
    if pool.kv_memory.swap_gb:
        rate = pool.kv_memory.swap_gb_per_s * 1e9 * pool.accelerators_per_client
        clients["swap_ps"] = max(1, round(kv_bytes_per_token_of_client(engine) / rate * PS_PER_S))
        clients["swap_free"] = int(pool.kv_memory.swap_gb * 1e9 / kv_bytes_per_token_of_client(engine))
    if pool.adapters:
        clients["max_adapters"] = pool.adapters.slots
        clients["adapter_ps"] = round(cost.adapter_s * PS_PER_S)
        clients["adapter_load_ps"] = round(cost.adapter_load_s * PS_PER_S)
    if pool.speculation:
        thresholds = acceptance_thresholds(pool.speculation)
        clients["draft"] = len(thresholds)
        clients["thresholds"] = tables.add(thresholds)
    if pool.step_noise_cv:
        clients["noise"] = tables.add(noise_factors(pool.step_noise_cv))
    if pool.prefix_cache:
        clients["cache"] = 0
        clients["write"] = WRITES[pool.prefix_cache.write]
        clients["always_fetch"] = pool.prefix_cache.fetch == "always"
        clients["eviction_blocks"] = int(plan.blocks * pool.prefix_cache.eviction_share)


def check_adapters(plans: Sequence[PoolPlan], adapter: npt.NDArray[np.int32] | None) -> None:
    """Check that pools hold adapters if requests ask for some.

    Raises
    ------
    SpecError
        Naming the pool.
    """
    for plan in plans:
        if adapter is not None and adapter.any() and plan.pool.adapters is None:
            raise SpecError(
                f"pool {plan.pool.name}: adapters: none given, but requests of this workload ask for adapters up to "
                f"number {adapter.max()}"
            )


def check_chunks(plans: Sequence[PoolPlan], chunk_tokens: int) -> None:
    """Check that the chunks of prompts are whole blocks of every client that reuses them.

    Raises
    ------
    SpecError
        Naming the pool and its block size.
    """
    for plan in plans:
        block = plan.pool.kv_memory.block_tokens
        if plan.pool.prefix_cache and chunk_tokens % block:
            raise SpecError(
                f"pool {plan.pool.name}: block_tokens {block} does not divide the {chunk_tokens} tokens of a prefix "
                "chunk of this workload"
            )
