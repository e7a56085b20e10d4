"""What devices and memories cost."""

from __future__ import annotations

from simulator import catalog
from simulator.performance.tiers import resolved_tier
from simulator.spec.deployment import Deployment, Pool
from simulator.spec.stages import Service, ServiceStage


def pool_usd_per_hour(pool: Pool) -> float:
    """Return the price of a pool's accelerators."""
    return pool.accelerators * catalog.accelerator(pool.accelerator).price_usd_per_hour


def service_usd_per_hour(service: Service, stage: ServiceStage) -> float:
    """Return the price of a service's devices, all shards included."""
    return service.devices_in_all(stage) * catalog.device(service.device).price_usd_per_hour


def tiers_usd_per_hour(deployment: Deployment) -> float:
    """Return the price of the memories behind the prefix caches; host memory that KV is swapped to is not counted.

    Of every tier the clients with a prefix cache of an LLM stage have ``ceil(clients of the stage / tier.clients)``
    memories, or one if all share it: different stages have different models, whose KV has nothing in common.

    Raises
    ------
    SpecError
        If the catalogue has no such kind of tier.
    """
    cached: dict[str, int] = {}
    for pool in deployment.pools:
        if pool.prefix_cache:
            cached[pool.stage] = cached.get(pool.stage, 0) + pool.clients
    total = 0.0
    for tier in map(resolved_tier, deployment.tiers):
        memories = sum(-(-clients // (tier.clients or clients)) for clients in cached.values())
        total += memories * tier.memory_gb * tier.usd_per_gb_hour
    return total
