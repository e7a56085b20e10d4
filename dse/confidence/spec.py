"""How many replications a person is willing to spend, and how sure they want to be."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec


class Replications(Spec):
    """Runs of the same designs on other draws of the same load."""

    initial: int = Field(default=4, ge=2, le=1000, description="replications of every design near the front")
    most: int = Field(default=32, ge=2, le=10_000, description="replications at most, of designs that stay uncertain")
    confidence: float = Field(
        default=0.95, ge=0.5, lt=1, description="probability with which each interval holds what it estimates"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.most < self.initial:
            raise ValueError(f"most {self.most} is below initial {self.initial}")
        return self

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of replications after which it is decided who needs more: doubled from ``initial`` to ``most``."""
        counts = [self.initial]
        while counts[-1] < self.most:
            counts.append(min(2 * counts[-1], self.most))
        return tuple(counts)
