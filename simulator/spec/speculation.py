"""Speculative decoding: tokens drafted ahead and checked by the model in one step."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec
from simulator.spec.file_names import ModelName

Probability = Annotated[float, Field(ge=0, le=1)]


class Speculation(Spec):
    """A draft of some tokens a step (arXiv:2211.17192)."""

    draft_model: ModelName | None = Field(
        default=None, description="catalogued model that drafts; absent: prompt lookup (n-grams), which costs nothing"
    )
    draft_tokens: int = Field(ge=1, le=64, description="tokens drafted in each step")
    acceptance: Probability | tuple[Probability, ...] = Field(
        description="probability that a drafted token is accepted given that those before it were: "
        "one for all, or one for each position"
    )

    @model_validator(mode="after")
    def _one_for_each(self) -> Self:
        if isinstance(self.acceptance, tuple) and len(self.acceptance) != self.draft_tokens:
            raise ValueError(
                f"acceptance: {len(self.acceptance)} probabilities for draft_tokens {self.draft_tokens}; "
                "allowed: one number, or as many as draft_tokens"
            )
        return self

    @property
    def acceptances(self) -> tuple[float, ...]:
        """The probability of each position."""
        if isinstance(self.acceptance, tuple):
            return self.acceptance
        return (self.acceptance,) * self.draft_tokens
