"""Low-rank adapters (LoRA) that a client serves beside its model."""

from __future__ import annotations

from pydantic import Field

from simulator.spec.base import Spec


class Adapters(Spec):
    """Adapters of one rank on all linear layers but routed experts and the output head."""

    rank: int = Field(ge=1, le=1024, description="rank r of every adapter")
    slots: int = Field(default=8, ge=1, le=4096, description="adapters held in memory, the most that a batch may mix")
