"""What a person writes about a system: pools of identical clients, and how requests reach them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec
from simulator.spec.stages import Service

Policy = Literal["static", "continuous", "chunked"]
Role = Literal["both", "prefill", "decode"]
Router = Literal["round_robin", "join_shortest_queue", "least_outstanding_tokens"]
WeightPrecision = Literal["bf16", "fp8", "int8", "fp4"]
KvPrecision = Literal["bf16", "fp8", "int8"]


class Batching(Spec):
    """How a client forms the batch of each step."""

    policy: Policy = Field(
        default="chunked",
        description="static: a batch runs to its end; continuous: whole prompts first; "
        "chunked: prompts in pieces beside decodes",
    )
    max_batch_requests: int = Field(default=256, ge=1, le=65536, description="largest number of requests in a batch")
    token_budget_tokens: int = Field(
        default=2048,
        ge=1,
        le=1_000_000,
        description="largest number of tokens in a step "
        "(static, continuous: of prompt tokens; one prompt may exceed it)",
    )

    @model_validator(mode="after")
    def _budget_holds_batch(self) -> Self:
        if self.policy == "chunked" and self.token_budget_tokens < self.max_batch_requests:
            raise ValueError(
                f"token_budget_tokens {self.token_budget_tokens} is below max_batch_requests "
                f"{self.max_batch_requests}: a chunked step must hold one token of every request"
            )
        return self


class KvMemory(Spec):
    """How much memory a client keeps for KV cache, and in which pieces."""

    block_tokens: int = Field(default=16, ge=1, le=1024, description="tokens in a KV block")
    memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="share of device memory that the engine may use"
    )
    blocks: int | None = Field(default=None, ge=1, description="number of KV blocks; from memory if absent")
    watermark: float = Field(
        default=0.01, ge=0, lt=1, description="share of blocks that admission leaves free, against preemption"
    )


class Pool(Spec):
    """Identical clients: each one engine on ``tp`` accelerators."""

    name: str = Field(default="main", min_length=1, description="name of the pool, unique in a deployment")
    model: str = Field(description="name of a catalogued model, or path of a Hugging Face config.json")
    accelerator: str = Field(description="name of a catalogued accelerator")
    clients: int = Field(default=1, ge=1, le=100_000, description="number of identical clients")
    tp: int = Field(default=1, ge=1, le=1024, description="tensor parallelism: accelerators per client")
    role: Role = Field(default="both", description="stages the pool serves: both, prefill or decode")
    weights: WeightPrecision = Field(default="bf16", description="precision of weights")
    kv: KvPrecision = Field(default="bf16", description="precision of the KV cache")
    batching: Batching = Field(default_factory=Batching, description="batch formation")
    kv_memory: KvMemory = Field(default_factory=KvMemory, description="memory for KV cache")

    @property
    def accelerators(self) -> int:
        """Number of accelerators in the pool."""
        return self.clients * self.tp


class Link(Spec):
    """What carries KV from prefill to decode clients."""

    gb_per_s: float | None = Field(
        default=None,
        gt=0,
        description="bandwidth of a hand-over, 1e9 bytes/s; that of the slower end's network if absent",
    )
    latency_us: float = Field(default=10.0, ge=0, description="start-up time of a hand-over, microseconds")


class Deployment(Spec):
    """Pools of clients, the routers before them, and the link between them."""

    pools: tuple[Pool, ...] = Field(min_length=1, description="pools of identical clients")
    router: Router = Field(default="join_shortest_queue", description="rule by which arrivals pick a client")
    handover_router: Router = Field(
        default="join_shortest_queue", description="rule by which hand-overs pick a decode client"
    )
    link: Link = Field(default_factory=Link, description="link for hand-overs, and to services after the LLM")
    services: tuple[Service, ...] = Field(default=(), description="clients of the pipeline's service stages")

    @model_validator(mode="after")
    def _pools_fit_together(self) -> Self:
        names = [pool.name for pool in self.pools]
        if len(set(names)) < len(names):
            raise ValueError(f"pools: names must differ, given {', '.join(names)}")
        roles = {pool.role for pool in self.pools}
        if ("prefill" in roles) != ("decode" in roles):
            given = ", ".join(pool.role for pool in self.pools)
            raise ValueError(f"pools: prefill pools need decode pools and the reverse, given roles {given}")
        if len({pool.model for pool in self.pools}) > 1:
            raise ValueError("pools: all pools must serve the same model")
        return self

    @property
    def accelerators(self) -> int:
        """Number of accelerators in all pools."""
        return sum(pool.accelerators for pool in self.pools)
