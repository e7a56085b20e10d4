"""Services around the LLMs as records of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from simulator.errors import SpecError
from simulator.lowering.codes import QUANTITIES, ROLES
from simulator.lowering.tables import Tables, service_tables
from simulator.performance.service_cost import ServiceCost
from simulator.spec.stages import Quantity, Service, ServiceStage


@dataclass(frozen=True)
class ServicePlan:
    """A service as it was lowered: its clients are ``first`` … ``first + service.clients - 1``."""

    service: Service
    stage: ServiceStage
    cost: ServiceCost
    first: int


def check_services(services: Sequence[Service], stages: Sequence[ServiceStage]) -> None:
    """Check that every service stage has clients, and every service a stage, one that retrieves if it has shards.

    Raises
    ------
    SpecError
        Naming the stage.
    """
    kinds = {stage.name: stage.kind for stage in stages}
    for service in services:
        if service.stage not in kinds:
            known = ", ".join(kinds) or "none, the pipeline is the LLM alone"
            raise SpecError(f"services: no stage {service.stage!r} in the pipeline; its services: {known}")
        if service.shards is not None and kinds[service.stage] != "retrieve":
            raise SpecError(
                f"services: shards {service.shards} given for {service.stage!r} of the kind {kinds[service.stage]}; "
                "allowed: for the kind retrieve"
            )
    for name in kinds:
        if name not in {service.stage for service in services}:
            raise SpecError(f"services: stage {name!r} of the pipeline has no clients; add one with stage: {name}")


def attention_tokens(quantity: Quantity, requests: npt.NDArray[Any]) -> float:
    """Return the length of text that a token of the workload attends to on average: ``Σ l² / Σ l``, 2 digits."""
    if quantity not in ("query", "prompt", "output"):
        return 1.0
    length = requests[f"{quantity}_tokens"].astype(np.float64)
    return float(f"{(length @ length) / max(1.0, length.sum()):.2g}")


def fill_service(
    clients: npt.NDArray[Any],
    service: Service,
    stage: ServiceStage,
    quantity: Quantity,
    requests: npt.NDArray[Any],
    tables: Tables,
) -> ServiceCost:
    """Write what a service's clients are into their records; return the cost of their batches."""
    cost, table = service_tables(stage, service, attention_tokens(quantity, requests))
    clients["linear"], clients["sequences"] = tables.add_cost(table)
    clients["role"] = ROLES["service"]
    clients["quantity"] = QUANTITIES[quantity]
    clients["max_batch"] = service.max_batch_requests
    clients["block_tokens"] = 1
    clients["max_wait_ps"] = round(service.max_wait_ms * 1e9)
    clients["link_latency_ps"] = max(1, round(service.hop_us * 1e6))
    return cost
