"""One kind of memory that KV of prompts is kept in behind the accelerators, each figure with its source."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from simulator.catalog.accelerator import Positive
from simulator.spec.base import Spec


class TierMemory(Spec):
    """A memory, and the link over which clients reach it.

    Attributes
    ----------
    name
        Short kebab-case name.
    description
        What it is, and whose its link is.
    memory_gb
        Size that a typical one has, 1e9 bytes.
    gb_per_s
        Bandwidth of its link as transfers of chunks of KV reach it, 1e9 bytes per second.
    latency_us
        Start-up time of a fetch, microseconds, software included.
    usd_per_gb_hour
        Price of 1e9 bytes for an hour, US dollars.
    sources
        For each figure where it comes from.
    """

    name: str
    description: str
    memory_gb: Positive
    gb_per_s: Positive
    latency_us: Annotated[float, Field(ge=0)]
    usd_per_gb_hour: Annotated[float, Field(ge=0)]
    sources: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        unknown = sorted(set(self.sources) - set(type(self).model_fields))
        if unknown:
            raise ValueError(f"sources: no such field: {', '.join(unknown)}")
        return self
