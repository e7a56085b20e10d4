"""Whole numbers to choose from, as a person writes them: a list, or low and high."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from search_spaces.codes import MAX_VALUES
from simulator.spec.base import Spec

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]


class Range(Spec):
    """Whole numbers from ``low`` to ``high``, both included, ``step`` apart."""

    low: Count = Field(default=1, description="smallest value")
    high: Count = Field(description="largest value")
    step: Count = Field(default=1, description="distance between values")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high {self.high} is below low {self.low}")
        count = (self.high - self.low) // self.step + 1
        if count > MAX_VALUES:
            raise ValueError(f"{count:,} values from {self.low} to {self.high}; at most {MAX_VALUES:,} can be searched")
        return self

    @property
    def values(self) -> tuple[int, ...]:
        """All values."""
        return tuple(range(self.low, self.high + 1, self.step))


Counts = Range | tuple[Count, ...]
"""Counts to choose from."""


def values_of(counts: Counts) -> tuple[int, ...]:
    """Return all values."""
    return counts.values if isinstance(counts, Range) else counts
