"""Low-rank adapters (LoRA) that a client serves beside its model."""

from __future__ import annotations

from pydantic import Field

from simulator.spec.base import Spec


class Adapters(Spec):
    """Adapters of one rank on all linear layers but routed experts and the output head."""

    rank: int = Field(ge=1, le=1024, description="rank r of every adapter")
    slots: int = Field(default=8, ge=1, le=4096, description="adapters held in memory, the most that a batch may mix")
    memory: str | None = Field(
        default=None,
        min_length=1,
        description="name of the catalogued memory in which adapters without a slot lie; the host's, over PCIe 4.0, "
        "if absent",
    )
    gb_per_s: float | None = Field(
        default=None,
        gt=0,
        description="bandwidth at which a client loads an adapter, 1e9 bytes/s; that of the memory if absent",
    )
    latency_us: float | None = Field(
        default=None, ge=0, le=1e9, description="start-up time of a load, microseconds; that of the memory if absent"
    )
