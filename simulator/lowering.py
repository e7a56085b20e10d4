"""From specifications to the kernel's arrays: the only bridge down."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

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
from simulator.performance.step_cost import StepCost, step_cost
from simulator.spec.deployment import Deployment, Link, Pool
from simulator.workload import PS_PER_S, Requests

ROLES = {"both": 0, "prefill": 1, "decode": 2}
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
class Lowered:
    """A simulation ready to run, and what is needed to read its outcome."""

    memory: Memory
    pools: tuple[PoolPlan, ...]


@lru_cache(maxsize=512)
def _tables(engine: Engine) -> tuple[StepCost, npt.NDArray[np.int64]]:
    """Return the cost of an engine's steps and its integer tables, linear first, then sequences."""
    cost = step_cost(engine, _TOKENS, _SEQUENCES)
    seconds = np.concatenate([cost.linear.seconds, cost.sequences.seconds])
    # A step of no duration would let time stand still.
    return cost, np.maximum(np.rint(seconds * PS_PER_S), 1).astype(np.int64)


def hand_over_ps(pool: Pool, engine: Engine, link: Link) -> tuple[int, int]:
    """Return the start-up time of a KV transfer and its time per prompt token, picoseconds."""
    bytes_per_token = engine.model.kv_elements_per_token * BYTES_PER_ELEMENT[pool.kv]
    rate = link.gb_per_s * 1e9 if link.gb_per_s else engine.accelerator.scale_out_bytes_per_s * pool.tp
    return round(link.latency_us * 1e6), max(1, round(bytes_per_token / rate * PS_PER_S))


def lower(deployment: Deployment, requests: Requests, *, max_run: int = NO_LIMIT) -> Lowered:
    """Return the kernel's arrays for a deployment and its requests.

    Parameters
    ----------
    max_run
        Iterations that the kernel may advance at once; 1 is plain stepping with the same result.

    Raises
    ------
    SpecError
        If a name is unknown, a model cannot be sharded in this way, or does not fit.
    """
    plans, tables, offset, first = [], [], 0, 0
    clients = np.zeros(sum(pool.clients for pool in deployment.pools), dtype=CLIENT)
    for pool in deployment.pools:
        engine = engine_of(pool)
        cost, table = _tables(engine)
        blocks = kv_blocks(pool)
        plans.append(PoolPlan(pool, engine, cost, first, blocks))
        _fill(clients[first : first + pool.clients], plans[-1], deployment.link)
        clients["linear"][first : first + pool.clients] = offset
        clients["sequences"][first : first + pool.clients] = offset + len(_TOKENS)
        tables.append(table)
        offset += len(table)
        first += pool.clients
    memory = allocate(
        clients,
        np.concatenate(tables),
        requests.arrival_ps,
        requests.prompt_tokens,
        requests.output_tokens,
        router=ROUTERS[deployment.router],
        handover_router=ROUTERS[deployment.handover_router],
        max_run=max_run,
    )
    return Lowered(memory, tuple(plans))


def _fill(clients: npt.NDArray[np.void], plan: PoolPlan, link: Link) -> None:
    """Write what a pool's clients are into their records."""
    pool, cost = plan.pool, plan.cost
    fixed_point = PS_PER_S * (1 << COEFFICIENT_SHIFT)
    latency_ps, ps_per_token = hand_over_ps(pool, plan.engine, link)
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
    clients["link_latency_ps"] = latency_ps
    clients["link_ps_per_token"] = ps_per_token
