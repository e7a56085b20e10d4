"""What devices and memories cost."""

from __future__ import annotations

from simulator import catalog
from simulator.performance.tiers import resolved_tier
from simulator.spec.deployment import Deployment, Pool
from simulator.spec.pipeline_plan import PipelinePlan
from simulator.spec.stages import Service, ServiceStage


def pool_usd_per_hour(pool: Pool) -> float:
    """Return the price of a pool's accelerators."""
    counts = pool.accelerator_counts
    return sum(count * catalog.accelerator(name).price_usd_per_hour for name, count in counts.items())


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


def deployment_usd_per_hour(deployment: Deployment, plan: PipelinePlan) -> float:
    """Return the price of all devices of a deployment and of the memory of its tiers.

    Parameters
    ----------
    deployment
        Pools, services and tiers.
    plan
        The stages that its services serve.

    Raises
    ------
    SpecError
        If a name is not catalogued.
    """
    pools = sum(pool_usd_per_hour(pool) for pool in deployment.pools) + tiers_usd_per_hour(deployment)
    return pools + sum(service_usd_per_hour(each, plan.service(each.stage)) for each in deployment.services)


def devices_of(deployment: Deployment, plan: PipelinePlan) -> dict[str, int]:
    """Return how many devices of each catalogued name a deployment has, in pools and services.

    Parameters
    ----------
    deployment
        Pools and services.
    plan
        The stages that its services serve.
    """
    devices: dict[str, int] = {}
    for pool in deployment.pools:
        for name, count in pool.accelerator_counts.items():
            devices[name] = devices.get(name, 0) + count
    for each in deployment.services:
        devices[each.device] = devices.get(each.device, 0) + each.devices_in_all(plan.service(each.stage))
    return devices
