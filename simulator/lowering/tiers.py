"""Tiers behind prefix caches as records of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.kernel.layout import CACHE, COEFFICIENT_SHIFT
from simulator.lowering.pools import PoolPlan
from simulator.performance.expected_retrieval import expected_retrieval
from simulator.performance.kv_transfer import kv_bytes_per_token_of_client
from simulator.performance.tiers import ResolvedTier, resolved_tier
from simulator.spec.kv_cache import Tier
from simulator.workload import PS_PER_S, Prefixes


@dataclass(frozen=True)
class TierPlan:
    """A memory of a tier as it was lowered: its parts are caches ``first`` … ``first + parts - 1`` of the memory.

    Attributes
    ----------
    tier
        What it is.
    stage
        The LLM stage whose KV it holds; the KV of different models has nothing in common.
    first, parts
        One part, or one for each client if the tier is private.
    capacity_chunks
        Chunks that each part has room for.
    link
        Number of its link.
    """

    tier: ResolvedTier
    stage: str
    first: int
    parts: int
    capacity_chunks: int
    link: int


def is_expected(tiers: Sequence[Tier]) -> bool:
    """Tell whether the tiers' hit rates are given, so that no cache is simulated."""
    return bool(tiers) and tiers[0].hit_rate is not None


def reused_chunks(prefixes: Prefixes) -> npt.NDArray[np.int32]:
    """Return how many leading chunks of each prompt other requests have too, shape (requests,)."""
    first = prefixes.chunk_first.astype(np.int64)
    begins_or_ends = np.zeros(len(prefixes.chunks) + 1, dtype=np.int64)
    np.add.at(begins_or_ends, first, 1)
    np.add.at(begins_or_ends, first + prefixes.all_chunks, -1)
    # Requests may point to the same numbers, so each of these counts as often as it is pointed to.
    users = np.bincount(prefixes.chunks, weights=np.cumsum(begins_or_ends)[:-1], minlength=prefixes.ids)
    alone = np.append(users[prefixes.chunks] < 2, True)
    places = np.where(alone, np.arange(len(alone)), len(alone))
    next_alone = np.minimum.accumulate(places[::-1])[::-1]
    return np.minimum(next_alone[first] - first, prefixes.prompt_chunks).astype(np.int32)


def expect_tiers(
    clients: npt.NDArray[Any], plans: Sequence[PoolPlan], tiers: Sequence[Tier], chunk_tokens: int
) -> None:
    """Let the clients with a prefix cache wait for prefixes as long as that takes on average."""
    expected = expected_retrieval([resolved_tier(tier) for tier in tiers])
    for plan in plans:
        if not plan.pool.prefix_cache:
            continue
        own = clients[plan.first : plan.first + plan.pool.clients]
        chunk_bytes = kv_bytes_per_token_of_client(plan.engine) * chunk_tokens
        own["cache"] = -1
        own["expected"] = 1
        own["expected_latency_ps"] = round(expected.latency_s * PS_PER_S)
        own["expected_chunk"] = round(expected.s_per_byte * chunk_bytes * PS_PER_S * (1 << COEFFICIENT_SHIFT))
        own["expected_miss"] = round(expected.miss * (1 << COEFFICIENT_SHIFT))


def plan_tiers(
    clients: npt.NDArray[Any], plans: Sequence[PoolPlan], tiers: Sequence[Tier], chunk_tokens: int
) -> tuple[tuple[TierPlan, ...], npt.NDArray[Any]]:
    """Return the tiers' plans and records, and point the clients with a prefix cache at their nearest one.

    Neighbouring clients with a cache share a tier, counted through all pools of an LLM stage.
    """
    found: list[TierPlan] = []
    records: list[npt.NDArray[Any]] = []
    count = 0
    for stage in dict.fromkeys(plan.pool.stage for plan in plans):
        cached = [plan for plan in plans if plan.pool.stage == stage and plan.pool.prefix_cache]
        numbers = [plan.first + i for plan in cached for i in range(plan.pool.clients)]
        nearer: list[int] = [-1] * len(numbers)  # the tier that each client reached so far
        for tier in map(resolved_tier, tiers if numbers else ()):
            shared = tier.clients or len(numbers)
            chunk_bytes = kv_bytes_per_token_of_client(cached[0].engine) * chunk_tokens
            for first in range(0, len(numbers), shared):
                members = range(first, min(first + shared, len(numbers)))
                parts = len(members) if tier.private else 1
                room = int(tier.memory_gb * 1e9 / (shared if tier.private else 1) / chunk_bytes)
                plan = TierPlan(tier, stage, count, parts, room, len(found))
                found.append(plan)
                records.append(_records(plan, chunk_bytes))
                for place, member in enumerate(members):
                    reached = count + (place if tier.private else 0)
                    _link(clients, records, numbers[member], nearer[member], reached)
                    nearer[member] = reached
                count += parts
    return tuple(found), np.concatenate([np.zeros(0, dtype=CACHE), *records])


def _records(plan: TierPlan, chunk_bytes: float) -> npt.NDArray[Any]:
    tier = plan.tier
    records = np.zeros(plan.parts, dtype=CACHE)
    records["capacity"] = plan.capacity_chunks
    records["link"] = plan.link
    records["behind"] = -1
    records["spills"] = tier.spills
    records["latency_ps"] = round(tier.latency_us * 1e6)
    records["chunk_ps"] = max(1, round(chunk_bytes / (tier.gb_per_s * 1e9) * PS_PER_S))
    return records


def _link(clients: npt.NDArray[Any], records: list[npt.NDArray[Any]], client: int, nearer: int, reached: int) -> None:
    """Make a tier the nearest one of a client, or the one behind the tier that it reached before."""
    if nearer < 0:
        clients["tier"][client] = reached
        return
    for part in records:
        if nearer < len(part):
            part["behind"][nearer] = reached
            return
        nearer -= len(part)
