"""A chip that is not there yet: four figures, and all else as of a catalogued accelerator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, Self

from dse.requirements.use_case import UseCase
from simulator import catalog
from simulator.catalog import Accelerator

Resource = Literal["arithmetic", "bandwidth", "memory", "links"]

RESOURCES: Final[tuple[Resource, ...]] = ("arithmetic", "bandwidth", "memory", "links")

UNITS: Final[dict[Resource, str]] = {
    "arithmetic": "TFLOPS",
    "bandwidth": "GB/s",
    "memory": "GB",
    "links": "GB/s",
}

WORDS: Final[dict[Resource, str]] = {
    "arithmetic": "arithmetic",
    "bandwidth": "memory bandwidth",
    "memory": "memory",
    "links": "links",
}


@dataclass(frozen=True)
class Chip:
    """Four figures of one accelerator.

    Attributes
    ----------
    arithmetic
        Dense peak at the precision in which products with weights are computed, 1e12 operations a second.
    bandwidth
        Peak memory bandwidth, 1e9 bytes a second.
    memory
        Memory that software sees, 1e9 bytes.
    links
        Bandwidth to the other accelerators of the client in one direction, 1e9 bytes a second, raw.
    """

    arithmetic: float
    bandwidth: float
    memory: float
    links: float

    @classmethod
    def of(cls, name: str, case: UseCase) -> Self:
        """Return the figures of an accelerator in a use case: links are the narrowest that a client spans.

        Parameters
        ----------
        name
            Of a catalogued accelerator.
        case
            Says how many accelerators a client has.
        """
        accelerator = catalog.accelerator(name)
        inside = accelerator.scale_up
        links = inside.gb_per_s
        if case.per_client > inside.devices:
            links = min(links, accelerator.scale_out_gb_per_s)
        return cls(
            accelerator.peak_flops(_precision(accelerator, case.weights)) / 1e12,
            accelerator.memory_bandwidth_gb_per_s,
            accelerator.usable_memory_bytes / 1e9,
            links,
        )

    def of_resource(self, resource: Resource) -> float:
        """Return one of the figures."""
        value: float = getattr(self, resource)
        return value

    def changed(self, figures: Mapping[Resource, float]) -> Chip:
        """Return the chip with other figures."""
        return replace(self, **{str(resource): value for resource, value in figures.items()})

    def name(self, case: UseCase) -> str:
        """Return the name by which the simulator knows a chip with these figures.

        A client that is larger than the scale-up domain of the accelerator it is like gets a domain as large.
        """
        like = catalog.accelerator(case.like)
        of_16_bits = like.peak_flops(_precision(like, "bf16")) / like.peak_flops(_precision(like, case.weights))
        changes = {
            "peak_tflops": self.arithmetic * of_16_bits,
            "memory_bandwidth_gb_per_s": self.bandwidth,
            "memory_gb": self.memory,
            "scale_up.gb_per_s": self.links,
        }
        if case.per_client > like.scale_up.devices:
            changes["scale_up.devices"] = case.per_client
        return catalog.hypothetical_name(case.like, changes)


def _precision(accelerator: Accelerator, weights: str) -> str:
    """Return what products with weights are computed in; 16 bits where the chip has no units for the weights."""
    known = accelerator.peak_tflops
    return weights if weights in known else "bf16" if "bf16" in known else "fp16"
