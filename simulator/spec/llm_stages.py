"""What may stand in the place of ``prefill, decode``: a named LLM, a cascade of LLMs, an LLM that reasons.

A service of the kind ``route`` may stand there too (:class:`~simulator.spec.service_stages.RouteStage`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec
from simulator.spec.distributions import TokenNumbers
from simulator.spec.service_stages import FilterStage, GuardStage, StageName

#: Name of the LLM stage that ``prefill, decode`` stand for.
LLM: Final = "llm"

Probability = Annotated[float, Field(ge=0, le=1)]
Join = Literal["first", "majority", "all"]


class LlmStage(Spec):
    """One LLM with a name: pools say by it which stage they serve."""

    kind: Literal["llm"] = Field(default="llm", description="an LLM with a name")
    name: StageName = LLM


class CascadeStage(Spec):
    """Several LLMs, asked one after the other until an answer is good enough.

    The request goes to the first stage. With the probability ``fallback[i]`` the answer of stage i is refused and the
    same prompt goes to stage i + 1 as a request of its own that follows; the last answer is taken as it is.
    """

    kind: Literal["cascade"] = Field(default="cascade", description="LLMs asked in turn until one answers well")
    stages: tuple[StageName, ...] = Field(min_length=2, max_length=16, description="LLM stages in the order of asking")
    fallback: tuple[Probability, ...] = Field(
        description="probability that the answer of each stage but the last is refused"
    )
    judge: Annotated[GuardStage | FilterStage, Field(discriminator="kind")] | None = Field(
        default=None, description="service that judges every answer but the last's; judging costs nothing if absent"
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if len(set(self.stages)) < len(self.stages):
            raise ValueError(f"stages: must differ, given {', '.join(self.stages)}")
        if len(self.fallback) != len(self.stages) - 1:
            raise ValueError(
                f"fallback: one probability for each stage but the last, {len(self.stages) - 1} in all, "
                f"given {len(self.fallback)}"
            )
        return self


class ReasonStage(Spec):
    """An LLM that thinks before it answers: on one path, or on several branches at once.

    On one path the output is ``factor`` times as long. With branches, a first request reads the prompt (and writes one
    token); then all branches, which share its prompt, think for ``factor · output`` tokens each; when enough of them
    are done the request goes on: to the services after the LLM, or first to a call that reads prompt and answers and
    writes ``summary_tokens``.
    """

    kind: Literal["reason"] = Field(default="reason", description="an LLM that thinks before it answers")
    llm: StageName = Field(default=LLM, description="name of the LLM stage")
    factor: float = Field(
        default=1.0, ge=1, le=10_000, description="tokens written, thoughts and answer, per token of the answer"
    )
    branches: int = Field(default=1, ge=1, le=10_000, description="paths of thought at once")
    join: Join | None = Field(
        default=None, description="branches to wait for: first, majority (more than half) or all; all if absent"
    )
    sigma: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="how branches differ in length: standard deviation of the logarithm, mean unchanged; 0: not at all",
    )
    summary_tokens: TokenNumbers | None = Field(
        default=None, description="output of a call that sums up the branches' answers; no such call if absent"
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.branches == 1:
            given = [name for name in ("join", "sigma", "summary_tokens") if getattr(self, name)]
            if given:
                raise ValueError(f"{', '.join(given)}: only with branches of 2 or more, given branches 1")
        return self

    @property
    def needed(self) -> int:
        """Number of branches that must be done before the request goes on."""
        match self.join:
            case "first":
                return 1
            case "majority":
                return self.branches // 2 + 1
            case _:
                return self.branches
