"""What devices cost."""

from __future__ import annotations

from simulator import catalog
from simulator.spec.deployment import Pool
from simulator.spec.stages import Service, ServiceStage


def pool_usd_per_hour(pool: Pool) -> float:
    """Return the price of a pool's accelerators."""
    return pool.accelerators * catalog.accelerator(pool.accelerator).price_usd_per_hour


def service_usd_per_hour(service: Service, stage: ServiceStage) -> float:
    """Return the price of a service's devices, all shards included."""
    return service.devices_in_all(stage) * catalog.device(service.device).price_usd_per_hour
