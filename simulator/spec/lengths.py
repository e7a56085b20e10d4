"""What a person writes about how long requests are."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from simulator.spec.arrivals import StatisticsName
from simulator.spec.base import Spec
from simulator.spec.distributions import TokenDistribution, Tokens


class Lengths(Spec):
    """Prompt and output tokens: learned together from a trace, or each from its own distribution."""

    statistics: StatisticsName | None = Field(
        default=None,
        description="learned joint distribution of prompt and output: a shipped name or a .json path",
    )
    prompt: TokenDistribution | None = Field(default=None, description="prompt tokens; needs output too")
    output: TokenDistribution | None = Field(default=None, description="output tokens; needs prompt too")
    max_prompt_tokens: Tokens | None = Field(
        default=None, description="longer prompts are cut to this many tokens; no limit if absent"
    )
    max_output_tokens: Tokens | None = Field(
        default=None, description="longer outputs are cut to this many tokens; no limit if absent"
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        separate = (self.prompt is not None, self.output is not None)
        if separate != ((False, False) if self.statistics is not None else (True, True)):
            raise ValueError("give either statistics, or both prompt and output")
        return self
