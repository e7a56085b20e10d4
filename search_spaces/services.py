"""Where the stages around the LLM run, on how many clients, and how they form batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from search_spaces.design import Design
from search_spaces.dimension import Condition, Dimension, Value
from search_spaces.ranges import Count, Counts, values_of
from search_spaces.space import Space
from simulator.spec.base import Spec
from simulator.spec.stages import Service

Wait = Annotated[float, Field(ge=0, le=1e6)]

DEVICES_PER_CLIENT: Final = (1,)
MAX_BATCHES: Final = (Service.model_fields["max_batch_requests"].default,)
MAX_WAITS_MS: Final = (Service.model_fields["max_wait_ms"].default,)
"""The defaults of a service, with which there is nothing to choose."""


class ServiceSpace(Spec):
    """What may vary of the clients of one service stage."""

    devices: tuple[str, ...] = Field(min_length=1, description="CPUs or accelerators that the stage may run on")
    clients: Counts = Field(description="clients of the stage: a list, or low and high")
    devices_per_client: tuple[Count, ...] = Field(
        default=DEVICES_PER_CLIENT, min_length=1, description="processors or accelerators per client"
    )
    max_batches_requests: tuple[Count, ...] = Field(default=MAX_BATCHES, min_length=1, description="largest batches")
    max_waits_ms: tuple[Wait, ...] = Field(
        default=MAX_WAITS_MS, min_length=1, description="longest waits for a batch to fill"
    )
    shards: tuple[Count, ...] | None = Field(
        default=None,
        min_length=1,
        description="of a retrieval: machines over which a client's vectors are spread; the stage's if absent",
    )
    hop_us: float = Field(default=50.0, ge=0, le=1e9, description="time to reach the next stage, in every design")

    def first(self, stage: str) -> Service:
        """Return the clients of a stage with the first of every choice."""
        return services_of(next(iter(services({stage: self}))), {stage: self})[0]


def services(spaces: Mapping[str, ServiceSpace]) -> Space:
    """Return the choice of device, clients and batches of each service stage that may vary."""
    dimensions: list[Dimension] = []
    for stage, space in spaces.items():
        dimensions += [
            Dimension(f"{stage}.device", space.devices, f"CPU or accelerator of {stage} clients"),
            Dimension(f"{stage}.clients", values_of(space.clients), f"number of {stage} clients"),
        ]
        if space.devices_per_client != DEVICES_PER_CLIENT:
            meaning = f"processors or accelerators per {stage} client"
            dimensions.append(Dimension(f"{stage}.devices_per_client", space.devices_per_client, meaning))
        if space.shards is not None:
            meaning = f"machines over which the vectors of a {stage} client are spread"
            dimensions.append(Dimension(f"{stage}.shards", space.shards, meaning))
        if space.max_batches_requests != MAX_BATCHES:
            meaning = f"requests in a {stage} batch"
            dimensions.append(Dimension(f"{stage}.max_batch_requests", space.max_batches_requests, meaning))
        filling = tuple(batch for batch in space.max_batches_requests if batch > 1)
        if space.max_waits_ms != MAX_WAITS_MS and filling:
            # A batch of one request is full at once.
            several: Condition = (f"{stage}.max_batch_requests", filling)
            when = several if space.max_batches_requests != MAX_BATCHES else None
            meaning = f"longest wait for a {stage} batch to fill, milliseconds"
            dimensions.append(Dimension(f"{stage}.max_wait_ms", space.max_waits_ms, meaning, when))
    return Space(tuple(dimensions))


def services_of(design: Design, spaces: Mapping[str, ServiceSpace]) -> tuple[Service, ...]:
    """Return the clients of the service stages that a design chooses."""
    found = []
    for stage, space in spaces.items():
        numbers = {
            "devices_per_client": "devices",
            "shards": "shards",
            "max_batch_requests": "max_batch_requests",
        }
        fields = {to: design.number(f"{stage}.{name}") for name, to in numbers.items() if f"{stage}.{name}" in design}
        wait_ms = design.real(f"{stage}.max_wait_ms") if f"{stage}.max_wait_ms" in design else MAX_WAITS_MS[0]
        device, clients = design.text(f"{stage}.device"), design.number(f"{stage}.clients")
        found.append(
            Service(stage=stage, device=device, clients=clients, max_wait_ms=wait_ms, hop_us=space.hop_us, **fields)
        )
    return tuple(found)


def service_values(given: tuple[Service, ...]) -> dict[str, Value]:
    """Return the choices that clients of service stages make."""
    values: dict[str, Value] = {}
    for service in given:
        values |= {
            f"{service.stage}.device": service.device,
            f"{service.stage}.clients": service.clients,
            f"{service.stage}.devices_per_client": service.devices,
            f"{service.stage}.max_batch_requests": service.max_batch_requests,
            f"{service.stage}.max_wait_ms": service.max_wait_ms,
        }
        if service.shards is not None:
            values[f"{service.stage}.shards"] = service.shards
    return values
