"""What may vary in the pools of one LLM stage, as a person writes it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from search_spaces.adapters import AdapterSpace, adapters
from search_spaces.batching import FIRST_COME, batching, queue_order
from search_spaces.hardware_mix import ONE_TYPE, hardware_mix, mixture
from search_spaces.kv_cache import NO_SWAP, OFF, UTILIZATION, WATERMARK, kv_memory, prefix_cache
from search_spaces.parallelism import (
    ONE,
    data_parallelism,
    expert_parallelism,
    parallelism,
    pipeline_parallelism,
    precision,
)
from search_spaces.placement import ANY_LENGTH, Places, prompt_split
from search_spaces.ranges import Count, Counts, values_of
from search_spaces.space import Space
from search_spaces.speculation import speculation
from simulator.spec.base import Spec
from simulator.spec.deployment import KvPrecision, Policy, QueueOrder, WeightPrecision
from simulator.spec.distributions import MAX_TOKENS
from simulator.spec.speculation import Speculation

MOST_ALTERNATIVES: Final = 200
"""Named alternatives of one choice: every one is held against every other."""


class LlmSpace(Spec):
    """What may vary in the pools of an LLM stage."""

    accelerators: tuple[str, ...] = Field(min_length=1, description="accelerator types that any pool may use")
    clients: Counts = Field(description="clients per pool: a list, or low and high")
    tp: tuple[Count, ...] = Field(default=(1, 2, 4, 8), min_length=1, description="tensor parallelism")
    layouts: tuple[Literal["colocated", "disaggregated"], ...] = Field(
        default=("colocated", "disaggregated"), min_length=1, description="prefill and decode together or apart"
    )
    weights: tuple[WeightPrecision, ...] = Field(default=("bf16",), min_length=1, description="weight precision")
    kv: tuple[KvPrecision, ...] = Field(default=("bf16",), min_length=1, description="KV-cache precision")
    policies: tuple[Policy, ...] = Field(
        default=("continuous", "chunked"), min_length=1, description="batching policies of colocated clients"
    )
    token_budgets_tokens: tuple[Count, ...] = Field(
        default=(512, 1024, 2048, 4096, 8192), min_length=1, description="token budgets of a step"
    )
    max_batches_requests: tuple[Count, ...] = Field(
        default=(32, 64, 128, 256, 512), min_length=1, description="largest batches"
    )
    pp: tuple[Count, ...] = Field(default=ONE, min_length=1, description="pipeline parallelism")
    dp: tuple[Count, ...] = Field(
        default=ONE,
        min_length=1,
        description="attention data parallelism; pays for models with experts or a latent KV cache",
    )
    ep: tuple[Count, ...] = Field(
        default=ONE,
        min_length=1,
        description="expert parallelism, for models with experts alone: divisors of tp x dp; 1: every expert is split",
    )
    orders: tuple[QueueOrder, ...] = Field(
        default=FIRST_COME, min_length=1, description="orders of waiting queues, the same in all pools"
    )
    prefix_cache: tuple[bool, ...] = Field(
        default=OFF,
        min_length=1,
        description="reuse of KV between prompts that begin alike, where prompts are read",
    )
    mixed: tuple[bool, ...] = Field(
        default=ONE_TYPE,
        min_length=1,
        description="a second pool of colocated clients, extra, that chooses its own accelerator, clients and tp",
    )
    prompt_splits_tokens: tuple[Annotated[int, Field(ge=0, le=MAX_TOKENS)], ...] = Field(
        default=ANY_LENGTH,
        min_length=1,
        description="longest prompts for the pool main where longer ones go to extra; 0: both take any",
    )
    drafts: dict[str, Speculation | None] = Field(
        default_factory=dict,
        max_length=MOST_ALTERNATIVES,
        description="named alternatives of speculative decoding; null: none",
    )
    memory_utilizations: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=UTILIZATION, min_length=1, description="shares of device memory that the engine may use"
    )
    watermarks: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = Field(
        default=WATERMARK, min_length=1, description="shares of KV blocks that admission leaves free"
    )
    swaps_gb: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=NO_SWAP,
        min_length=1,
        description="host memory of a client for preempted requests' KV, 1e9 bytes; 0: recomputed",
    )

    adapters: AdapterSpace | None = Field(
        default=None, description="adapters (LoRA) that all pools serve; none in any design if absent"
    )

    def caches(self, place: Places) -> Space:
        """Return the choice of prefix caches."""
        return prefix_cache(self.prefix_cache, self.policies, place)

    def basic(self, place: Places) -> Space:
        """Return what every study chooses."""
        return (
            mixture(self.mixed, place)
            | hardware_mix(self.accelerators, values_of(self.clients), place)
            | parallelism(self.tp, place)
            | precision(self.weights, self.kv, place)
            | batching(self.policies, self.token_budgets_tokens, self.max_batches_requests, place)
        )

    def further(self, place: Places) -> Space:
        """Return what a study chooses if it asks for it."""
        return (
            pipeline_parallelism(self.pp, place)
            | queue_order(self.orders, place)
            | self.caches(place)
            | data_parallelism(self.dp, place)
            | expert_parallelism(self.ep, place)
            | prompt_split(self.prompt_splits_tokens, place)
            | speculation(self.drafts, self.prefix_cache, self.policies, place)
            | kv_memory(self.memory_utilizations, self.watermarks, self.swaps_gb, self.policies, place)
            | adapters(self.adapters, place)
        )


class StageSpace(LlmSpace):
    """What one of several LLM stages chooses from; what is left out is as in the space around it."""

    accelerators: tuple[str, ...] = Field(default=(), description="accelerator types that any pool may use")
    clients: Counts = Field(default=(), description="clients per pool: a list, or low and high")

    @model_serializer(mode="wrap")
    def _only_given(self, default: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what was left out, so that what is written down reads back the same."""
        return {name: value for name, value in default(self).items() if name in self.model_fields_set}

    @property
    def given(self) -> dict[str, Any]:
        """What was given, by field."""
        return {name: getattr(self, name) for name in self.model_fields_set}
