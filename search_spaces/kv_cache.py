"""Where KV lies: how much on the device, what is kept for prompts that begin alike, and which tiers are behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from search_spaces.alternatives import chosen, name_of
from search_spaces.batching import not_static
from search_spaces.design import Design
from search_spaces.dimension import Dimension, Value
from search_spaces.placement import DECODE, MAIN, PREFILL, Places
from search_spaces.space import Space
from simulator.spec.deployment import Deployment, KvMemory, Pool
from simulator.spec.kv_cache import PrefixCache, Tier

OFF: Final = (False,)
"""No prefix cache anywhere: nothing to choose."""

THROUGH: Final = ("through",)
"""Chunks reach the tiers when they are computed in every design: nothing to choose."""

UTILIZATION: Final = (KvMemory.model_fields["memory_utilization"].default,)
WATERMARK: Final = (KvMemory.model_fields["watermark"].default,)
NO_SWAP: Final = (KvMemory.model_fields["swap_gb"].default,)
"""The defaults of KV memory, with which there is nothing to choose."""

Tiers = Mapping[str, tuple[Tier, ...]]
"""Named alternatives of tiers behind the prefix caches."""


def prefix_cache(choices: tuple[bool, ...], policies: tuple[str, ...], place: Places) -> Space:
    """Return the choice of a prefix cache on the clients that read prompts; none if it is off in every design.

    Decode clients read no prompts, and static batching reuses none.
    """
    if choices == OFF:
        return Space(())
    meaning, dimensions = "whether prompts that begin alike share KV", []
    if reading := not_static(policies, place):
        dimensions.append(Dimension(f"{place.prefix}{MAIN}.prefix_cache", choices, meaning, reading))
    if prefill := place.pool(PREFILL):
        dimensions.append(Dimension(f"{prefill[0]}.prefix_cache", choices, meaning, prefill[1]))
    return Space(tuple(dimensions))


def kv_tiers(tiers: Tiers, writes: tuple[str, ...], caches: Space) -> Space:
    """Return the choice of the tiers behind the prefix caches and of when they are written; none without tiers.

    Parameters
    ----------
    tiers
        Named alternatives; one of them may be without any tier.
    writes
        When chunks reach the tiers.
    caches
        The choice of prefix caches (:func:`prefix_cache`): without one tiers hold nothing.
    """
    if not tiers:
        return Space(())
    dimensions = []
    behind = tuple(name for name, each in tiers.items() if each)
    for cache in caches.dimensions:
        pool = cache.name.removesuffix(".prefix_cache")
        meaning = "memories behind the prefix caches"
        dimensions.append(Dimension(f"{pool}.tiers", tuple(tiers), meaning, (cache.name, (True,))))
        if writes != THROUGH and behind:
            meaning = "when KV reaches the tiers: computed (through), evicted (back) or none"
            dimensions.append(Dimension(f"{pool}.prefix_write", writes, meaning, (f"{pool}.tiers", behind)))
    return Space(tuple(dimensions))


def kv_memory(
    utilizations: tuple[float, ...],
    watermarks: tuple[float, ...],
    swaps_gb: tuple[float, ...],
    policies: tuple[str, ...],
    place: Places,
) -> Space:
    """Return the choice of the memory for KV, of what admission leaves free, and of where preempted KV goes.

    Only clients that decode preempt, and not those with static batching, which admit for the whole answer.
    """
    dimensions = []
    if utilizations != UTILIZATION:
        meaning = "share of device memory that the engine may use"
        dimensions.append(Dimension(f"{place.prefix}memory_utilization", utilizations, meaning))
    decode = place.pool(DECODE)
    conditions = {MAIN: not_static(policies, place), DECODE: decode[1] if decode else None}
    for kind, when in conditions.items():
        if when is None:
            continue
        if watermarks != WATERMARK:
            meaning = "share of KV blocks that admission leaves free"
            dimensions.append(Dimension(f"{place.prefix}{kind}.watermark", watermarks, meaning, when))
        if swaps_gb != NO_SWAP:
            meaning = "host memory for preempted KV, 1e9 bytes; 0: recomputed"
            dimensions.append(Dimension(f"{place.prefix}{kind}.swap_gb", swaps_gb, meaning, when))
    return Space(tuple(dimensions))


def kv_fields(design: Design, prefix: str, kind: str) -> dict[str, Any]:
    """Return the fields of a pool called ``main``, ``prefill`` or ``decode`` that say where its KV lies."""
    pool = f"{prefix}{kind}"
    memory: dict[str, Any] = {
        field: design.real(name)
        for field, name in (
            ("memory_utilization", f"{prefix}memory_utilization"),
            ("watermark", f"{pool}.watermark"),
            ("swap_gb", f"{pool}.swap_gb"),
        )
        if name in design
    }
    cache = None
    if design.get(f"{pool}.prefix_cache"):
        cache = PrefixCache(write=design.get(f"{pool}.prefix_write", "through"))  # type: ignore[arg-type]
    return {"kv_memory": KvMemory(**memory), "prefix_cache": cache}


def kv_values(prefix: str, name: str, pool: Pool) -> dict[str, Value]:
    """Return the choices that a pool makes of :func:`kv_memory` and :func:`prefix_cache`."""
    return {
        f"{prefix}memory_utilization": pool.kv_memory.memory_utilization,
        f"{name}.watermark": pool.kv_memory.watermark,
        f"{name}.swap_gb": pool.kv_memory.swap_gb,
        f"{name}.prefix_cache": pool.prefix_cache is not None,
        f"{name}.prefix_write": pool.prefix_cache.write if pool.prefix_cache else "through",
    }


def tiers_of(design: Design, tiers: Tiers) -> tuple[Tier, ...]:
    """Return the tiers of a design, which all its prefix caches share; none without a prefix cache."""
    names = (name for name in design if name.endswith(".tiers"))
    return next((found for name in names if (found := chosen(design, name, tiers))), ())


def tier_values(deployment: Deployment, pools: Mapping[str, Pool], tiers: Tiers) -> dict[str, Value]:
    """Return the choices of tiers that a deployment makes, given its pools by their names in a design."""
    found: dict[str, Value] = {}
    for name, pool in pools.items():
        if pool.prefix_cache:
            found |= name_of(f"{name}.tiers", deployment.tiers, tiers)
    return found
