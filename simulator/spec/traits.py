"""What a person writes about how requests hang together: sessions, shared prefixes, media, adapters, urgency.

All of it can stand in the workload, for every request, or in one of its classes, for the requests of that class.
"""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec
from simulator.spec.distributions import (
    MAX_TOKENS,
    ConstantSeconds,
    Counts,
    Seconds,
    TokenNumbers,
    Tokens,
    least_count,
)

#: Longest deadline in seconds: an arrival plus a deadline must fit int64 picoseconds.
MAX_DEADLINE_S: Final = 5 * 86_400.0

Keep = Literal["keep", "drop", "offload"]


class Session(Spec):
    """Several calls of the LLM that follow each other: a conversation, or an agent that calls tools.

    Each turn's prompt is everything before it (prompts and answers, not the thoughts of an LLM that reasons nor the
    documents that were retrieved for an earlier turn) and new text.
    """

    turns: Counts = Field(description="turns of a session: a number, or a distribution of counts from 1")
    wait_s: Seconds = Field(
        default=ConstantSeconds(distribution="constant", seconds=0.0),
        description="seconds from an answer to the next turn (tool call, think time): number or distribution",
    )
    prompt_tokens: TokenNumbers = Field(
        description="new tokens of each turn after the first, whose prompt lengths gives: number or distribution"
    )
    output_tokens: TokenNumbers | None = Field(
        default=None, description="output of each turn after the first; as lengths says if absent"
    )
    keep: Keep = Field(
        default="keep",
        description="what becomes of a turn's KV in the prefix cache at its end: keep until room is wanted, drop, or "
        "offload to the first tier",
    )
    max_context_tokens: Tokens = Field(
        default=MAX_TOKENS, description="a session ends before a turn whose prompt and output exceed this"
    )

    @model_validator(mode="after")
    def _at_least_one_turn(self) -> Self:
        if least_count(self.turns) < 1:
            raise ValueError(f"turns: must be at least 1, given a {self.turns.distribution} count that may be 0")
        return self


class SharedPrefix(Spec):
    """System prompts that many requests start with; they come before the tokens of ``lengths``."""

    system_prompts: int = Field(default=1, ge=1, le=1_000_000, description="number of different system prompts")
    tokens: TokenNumbers = Field(description="length of each system prompt: number or distribution")
    zipf: float = Field(
        default=1.0, ge=0, le=10, description="popularity: the i-th is drawn in proportion to i^-zipf; 0: all alike"
    )


class Media(Spec):
    """Images (or clips) that come with a request; a stage of the kind ``encode`` turns them into tokens."""

    images: Counts = Field(description="images of each call: a number, or a distribution of counts")


class AdapterMix(Spec):
    """Low-rank adapters of the model, of which every session uses one."""

    count: int = Field(ge=1, le=1_000_000, description="number of different adapters")
    zipf: float = Field(
        default=1.0, ge=0, le=10, description="popularity: the i-th is drawn in proportion to i^-zipf; 0: all alike"
    )


class Traits(Spec):
    """What a workload and a class of it have in common; a class without one of these has the workload's."""

    session: Session | None = Field(default=None, description="turns that follow each other; one call if absent")
    prefix: SharedPrefix | None = Field(default=None, description="system prompts that requests share")
    media: Media | None = Field(default=None, description="images or sound for the stage that encodes")
    adapters: AdapterMix | None = Field(default=None, description="adapters of the model; none if absent")
    priority: int | None = Field(
        default=None, ge=-1_000_000, le=1_000_000, description="the smaller, the more urgent; 0 if absent"
    )
    deadline_s: float | None = Field(
        default=None, gt=0, le=MAX_DEADLINE_S, description="deadline of each call, seconds after its arrival"
    )
