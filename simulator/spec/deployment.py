"""What a person writes about a system: pools of identical clients, and how requests reach them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from simulator.spec.adapters import Adapters
from simulator.spec.base import Spec
from simulator.spec.file_names import Engine, KernelsPath, ModelName
from simulator.spec.kv_cache import PrefixCache, Tier, check_tiers
from simulator.spec.lookup import Lookup
from simulator.spec.names import Name
from simulator.spec.speculation import Speculation
from simulator.spec.stages import MOST_STAGES, Service
from simulator.spec.topology import Topology

Policy = Literal["static", "continuous", "chunked"]
Role = Literal["both", "prefill", "decode"]
QueueOrder = Literal["fcfs", "shortest_first", "least_work_left", "priority", "earliest_deadline"]
Router = Literal[
    "round_robin",
    "join_shortest_queue",
    "least_outstanding_tokens",
    "least_prompt_tokens",
    "least_output_tokens",
    "least_kv_tokens",
    "random",
    "power_of_two",
    "session_affinity",
    "prefix_affinity",
]
WeightPrecision = Literal["bf16", "fp8", "int8", "fp4"]
KvPrecision = Literal["bf16", "fp8", "int8"]


MOST_TIERS: Final = 8
"""Memories behind the prefix caches."""


class EngineSettings(Spec):
    """Settings of which an engine has defaults of its own: what nobody set is left to it, also when written out."""

    LEFT_TO_ENGINE: ClassVar[tuple[str, ...]]
    """Fields that hold the engine's default unless they are set; their values here are for engines without one."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return plain data that reads back as the same settings: a value that stands there is no default any more."""
        data: dict[str, Any] = serialise(self)
        for name in set(self.LEFT_TO_ENGINE) - self.model_fields_set:
            data.pop(name, None)
        return data


class Batching(EngineSettings):
    """How a client forms the batch of each step."""

    LEFT_TO_ENGINE = ("max_batch_requests", "token_budget_tokens", "schedule_ahead")

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

    order: QueueOrder = Field(
        default="fcfs",
        description="who is admitted first: fcfs, shortest_first (prompt), least_work_left (prompt and answer), "
        "priority (the smallest number) or earliest_deadline",
    )
    schedule_ahead: bool = Field(
        default=False,
        description="whether the batch of a step is decided while the step before it runs (vLLM: async scheduling, "
        "SGLang and TensorRT-LLM: overlap scheduler)",
    )

    @model_validator(mode="after")
    def _can_schedule_ahead(self) -> Self:
        if self.schedule_ahead and self.policy == "static":
            raise ValueError("schedule_ahead: given with policy static, allowed with continuous or chunked")
        return self

    @model_validator(mode="after")
    def _budget_holds_batch(self) -> Self:
        if self.policy == "chunked" and self.token_budget_tokens < self.max_batch_requests:
            raise ValueError(
                f"token_budget_tokens {self.token_budget_tokens} is below max_batch_requests "
                f"{self.max_batch_requests}: a chunked step must hold one token of every request"
            )
        return self


class KvMemory(EngineSettings):
    """How much memory a client keeps for KV cache, and in which pieces."""

    LEFT_TO_ENGINE = ("memory_utilization", "block_tokens")

    block_tokens: int = Field(default=16, ge=1, le=1024, description="tokens in a KV block")
    memory_utilization: float = Field(
        default=0.9, gt=0, le=1, description="share of device memory that the engine may use"
    )
    blocks: int | None = Field(default=None, ge=1, description="number of KV blocks; from memory if absent")
    watermark: float = Field(
        default=0.01, ge=0, lt=1, description="share of blocks that admission leaves free, against preemption"
    )
    swap_gb: float = Field(
        default=0.0,
        ge=0,
        description="host memory of a client to which preempted requests' KV is swapped, 1e9 bytes; 0: recomputed",
    )
    swap_gb_per_s: float = Field(
        default=25.0, gt=0, description="bandwidth of swapping to and from the host, 1e9 bytes/s per accelerator"
    )


class Pool(Spec):
    """Identical clients: each one engine on ``tp x pp x dp`` accelerators."""

    name: Name = Field(default="main", min_length=1, description="name of the pool, unique in a deployment")
    model: ModelName = Field(description="name of a catalogued model, or path of a Hugging Face config.json")
    accelerator: str = Field(
        description="name of a catalogued accelerator, or one with changed figures, e.g. b200(memory_gb=288)"
    )
    clients: int = Field(default=1, ge=1, le=100_000, description="number of identical clients")
    tp: int = Field(default=1, ge=1, le=1024, description="tensor parallelism: accelerators that share every layer")
    pp: int = Field(default=1, ge=1, le=256, description="pipeline parallelism: stages that the layers are split into")
    layers_per_stage: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        default=None, max_length=256, description="layers of each pipeline stage; as even as possible if absent"
    )
    stage_accelerators: tuple[str, ...] | None = Field(
        default=None,
        max_length=256,
        description="name of the accelerator of each pipeline stage, the first being `accelerator`; "
        "all have that one if absent",
    )
    dp: int = Field(
        default=1, ge=1, le=1024, description="attention data parallelism: ranks that share a batch inside a client"
    )
    ep: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="expert parallelism: groups that the experts are dealt to, a divisor of tp x dp; "
        "every expert is split over tp x dp if absent",
    )
    topology: Topology | None = Field(
        default=None, description="links between a client's accelerators; those of the catalogued accelerator if absent"
    )
    engine: Engine = Field(
        default="vllm-0.15",
        description="name of a catalogued engine and version, path of a profile (.yaml, from `dse calibrate`), "
        "or a profile itself",
    )
    kernels: KernelsPath | None = Field(
        default=None,
        description="path of a profile of the accelerator's kernels (.yaml, from `dse calibrate kernels`); "
        "the catalogued one if absent",
    )
    adapters: Adapters | None = Field(default=None, description="low-rank adapters (LoRA) served beside the model")
    speculation: Speculation | None = Field(default=None, description="speculative decoding")
    lookup: Lookup | None = Field(default=None, description="search of a datastore while decoding")
    stage: Name = Field(default="llm", min_length=1, description="name of the pipeline's LLM stage that is served")
    role: Role = Field(default="both", description="what of it the pool serves: both, prefill or decode")
    groups: int = Field(
        default=1, ge=1, description="equal groups of neighbouring clients, for hand-overs within a group"
    )
    min_prompt_tokens: int = Field(default=1, ge=1, description="shorter prompts are not sent to this pool")
    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="longer prompts are not sent to this pool; any length if absent"
    )
    expert_skew: float = Field(
        default=0.0,
        ge=0,
        le=4,
        description="exponent of the power law by which tokens visit experts; 0: all alike, as trained on such text",
    )
    weights: WeightPrecision = Field(default="bf16", description="precision of weights")
    kv: KvPrecision = Field(default="bf16", description="precision of the KV cache")
    batching: Batching = Field(default_factory=Batching, description="batch formation")
    kv_memory: KvMemory = Field(default_factory=KvMemory, description="memory for KV cache")
    prefix_cache: PrefixCache | None = Field(
        default=None, description="reuse of KV between prompts that begin alike; none if absent"
    )
    step_noise_cv: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="coefficient of variation of a step's duration around the model's (lognormal, mean 1); 0: none",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.clients % self.groups:
            raise ValueError(f"groups: {self.groups} does not divide clients {self.clients}")
        if self.max_prompt_tokens is not None and self.max_prompt_tokens < self.min_prompt_tokens:
            raise ValueError(f"max_prompt_tokens {self.max_prompt_tokens} is below {self.min_prompt_tokens}")
        if self.prefix_cache and (self.role == "decode" or self.batching.policy == "static"):
            raise ValueError(
                "prefix_cache: only clients that read prompts with continuous or chunked batching reuse them, "
                f"given role {self.role}, policy {self.batching.policy}"
            )
        if self.speculation and (self.prefix_cache or self.batching.policy == "static"):
            raise ValueError("speculation: needs continuous or chunked batching and no prefix_cache")
        self._check_stage_accelerators()
        return self

    def _check_stage_accelerators(self) -> None:
        """Check that the accelerators of pipeline stages go with the pool's other fields."""
        given = self.stage_accelerators
        if given is None:
            return
        if len(given) != self.pp:
            raise ValueError(f"stage_accelerators: {len(given)} given for pp {self.pp}; allowed: {self.pp} names")
        if given[0] != self.accelerator:
            raise ValueError(
                f"stage_accelerators: begins with {given[0]}, but accelerator is {self.accelerator}; "
                "allowed: the same name in both"
            )
        for name in ("topology", "kernels"):
            if self.mixed and getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: describes one kind of accelerator, given with stage_accelerators of several; "
                    "allowed: absent"
                )

    @property
    def accelerators(self) -> int:
        """Number of accelerators in the pool."""
        return self.clients * self.accelerators_per_client

    @property
    def mixed(self) -> bool:
        """Whether pipeline stages have different accelerators."""
        return len(set(self.stage_accelerators or ())) > 1

    @property
    def accelerator_counts(self) -> dict[str, int]:
        """Number of accelerators in the pool by name."""
        if not self.mixed:
            return {self.accelerator: self.accelerators}
        stages = Counter(self.stage_accelerators)
        return {name: self.clients * self.tp * self.dp * count for name, count in stages.items()}

    @property
    def accelerators_per_client(self) -> int:
        """Number of accelerators of one client."""
        return self.tp * self.pp * self.dp


class Link(Spec):
    """What carries KV from prefill to decode clients."""

    gb_per_s: float | None = Field(
        default=None,
        gt=0,
        description="bandwidth of a hand-over, 1e9 bytes/s; the measured share of the slower end's network if absent",
    )
    latency_us: float | None = Field(
        default=None,
        ge=0,
        description="start-up time of a hand-over, microseconds; the measured one for each layer if absent",
    )
    shared: bool = Field(
        default=False,
        description="whether hand-overs of one client that are under way at the same time share the bandwidth",
    )
    layer_wise: bool = Field(
        default=False, description="whether the KV of a layer leaves while later ones are still computed"
    )


class StageRouter(Spec):
    """A rule for one stage, other than that for all."""

    stage: Name = Field(min_length=1, description="name of the stage")
    router: Router = Field(description="rule by which requests pick a client of the stage")


class Lending(Spec):
    """Prefill and decode clients that help each other out (mixed pools, as in arXiv:2311.18677)."""

    prefill_above_tokens: int | None = Field(
        default=None,
        ge=0,
        description="decode clients read prompts, too, while every prefill client has more outstanding tokens",
    )
    decode_above_tokens: int | None = Field(
        default=None,
        ge=0,
        description="prefill clients keep and decode a request while every decode client has more outstanding tokens",
    )


class Deployment(Spec):
    """Pools of clients, the routers before them, and the link between them."""

    pools: tuple[Pool, ...] = Field(min_length=1, max_length=1000, description="pools of identical clients")
    router: Router = Field(default="join_shortest_queue", description="rule by which arrivals pick a client")
    handover_router: Router = Field(
        default="join_shortest_queue", description="rule by which hand-overs pick a decode client"
    )
    link: Link = Field(default_factory=Link, description="link for hand-overs, and to services after the LLM")
    services: tuple[Service, ...] = Field(
        default=(), max_length=MOST_STAGES, description="clients of the pipeline's service stages"
    )
    routers: tuple[StageRouter, ...] = Field(
        default=(), max_length=MOST_STAGES, description="stages with a router of their own"
    )
    handover_scope: Literal["global", "local"] = Field(
        default="global", description="hand-overs reach every decode client of the stage, or those of the same group"
    )
    lending: Lending | None = Field(default=None, description="when prefill and decode clients help each other out")
    prefix_weight: int = Field(
        default=1,
        ge=0,
        le=1000,
        description="router prefix_affinity: outstanding tokens that one token to compute weighs as much as",
    )
    tiers: tuple[Tier, ...] = Field(
        default=(), max_length=MOST_TIERS, description="memories behind the prefix caches, nearest first"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="of random routers, speculation and noise")

    @model_validator(mode="after")
    def _pools_fit_together(self) -> Self:
        check_tiers(self.tiers)
        names = [pool.name for pool in self.pools]
        if len(set(names)) < len(names):
            raise ValueError(f"pools: names must differ, given {', '.join(names)}")
        for stage in dict.fromkeys(pool.stage for pool in self.pools):
            pools = [pool for pool in self.pools if pool.stage == stage]
            check_stage_pools(pools)
            groups = {pool.groups for pool in pools if pool.role != "both"}
            if self.handover_scope == "local" and len(groups) > 1:
                given = ", ".join(f"{pool.name} {pool.groups}" for pool in pools if pool.role != "both")
                raise ValueError(f"groups: must be the same for local hand-overs, given {given}")
        if self.lending and all(pool.role == "both" for pool in self.pools):
            raise ValueError("lending: needs prefill and decode pools, given only pools of the role both")
        routed = [each.stage for each in self.routers]
        if len(set(routed)) < len(routed):
            raise ValueError(f"routers: one for each stage, given {', '.join(routed)}")
        if self.tiers and not any(pool.prefix_cache for pool in self.pools):
            raise ValueError("tiers: hold KV for prefix caches, but no pool has a prefix_cache")
        return self

    @property
    def accelerators(self) -> int:
        """Number of accelerators in all pools."""
        return sum(pool.accelerators for pool in self.pools)


def check_stage_pools(pools: Sequence[Pool]) -> None:
    """Check that the pools of one LLM stage fit together.

    Raises
    ------
    ValueError
        If prefill pools stand without decode pools or the reverse, or models differ.
    """
    roles = {pool.role for pool in pools}
    if ("prefill" in roles) != ("decode" in roles):
        given = ", ".join(pool.role for pool in pools)
        raise ValueError(f"pools: prefill pools need decode pools and the reverse, given roles {given}")
    if len({pool.model for pool in pools}) > 1:
        raise ValueError("pools: all pools of a stage must serve the same model")
