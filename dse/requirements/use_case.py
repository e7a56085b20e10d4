"""A use case as a person writes it: a model, its requests, and how quickly they must be answered."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from dse.spec import KnownModel
from simulator import SLO, Batching, Deployment, Pool, Workload, catalog
from simulator.errors import SpecError
from simulator.spec.base import Spec
from simulator.spec.deployment import KvPrecision, WeightPrecision
from simulator.spec.distributions import MAX_TOKENS
from simulator.spec.file_names import EngineName

Percentile = Annotated[float, Field(gt=0, le=100)]
Limit = Annotated[float, Field(gt=0)]

LIKE: Final = "h100-sxm"
"""Whose kernels a hypothetical chip has where nothing is said: kernels and engine were both calibrated there."""


class UseCase(Spec):
    """What a chip is needed for.

    Without a rate a client has ``batch`` requests that decode at once, and lone prompts. With one, requests arrive as a
    Poisson process (or as ``workload`` says), and the percentiles of a simulation count.
    """

    name: str = Field(default="use case", min_length=1, max_length=200, description="what to call it")
    model: KnownModel = Field(description="catalogued model, or path of a Hugging Face config.json")
    prompt_tokens: int | None = Field(default=None, ge=1, le=MAX_TOKENS, description="prompt of every request")
    output_tokens: int | None = Field(default=None, ge=2, le=MAX_TOKENS, description="answer of every request")
    workload: Workload | None = Field(
        default=None, description="what arrives, in the place of prompt_tokens, output_tokens and rate_rps"
    )
    ttft_s: Limit = Field(description="limit of the time to the first token, seconds")
    tpot_s: Limit = Field(description="limit of the time per output token of a request, seconds")
    ttft_percentile: Percentile = Field(default=90, description="share of requests that keep it, percent")
    tpot_percentile: Percentile = Field(default=90, description="share of requests that keep it, percent")
    rate_rps: float | None = Field(
        default=None, gt=0, description="requests per second of all clients; requests alone if absent"
    )
    requests: int = Field(default=2000, ge=100, le=1_000_000, description="requests to simulate at the rate")
    seed: int = Field(default=0, ge=0, lt=2**32, description="of their arrivals")
    alone: bool = Field(
        default=False, description="take of the workload only the lengths: requests alone, as without a rate"
    )
    accelerators: int | None = Field(
        default=None, ge=1, le=1_000_000, description="in all, a multiple of tp x pp; one client if absent"
    )
    tp: int = Field(default=1, ge=1, le=1024, description="tensor parallelism of a client")
    pp: int = Field(default=1, ge=1, le=256, description="pipeline stages of a client")
    weights: WeightPrecision = Field(default="bf16", description="precision of weights")
    kv: KvPrecision = Field(default="bf16", description="precision of the KV cache")
    batch: int | None = Field(
        default=None,
        ge=1,
        le=65536,
        description="requests that decode at once, 1 if absent; with a rate the engine's largest batch",
    )
    token_budget_tokens: int | None = Field(
        default=None, ge=1, le=1_000_000, description="tokens of a step at most; the engine's default if absent"
    )
    like: str = Field(
        default=LIKE, description="catalogued accelerator whose kernels reach the same shares of the peaks"
    )
    engine: EngineName = Field(default="vllm-0.15", description="engine whose overheads are counted")

    @model_validator(mode="after")
    def _check(self) -> Self:
        catalog.accelerator(self.like)
        lengths = (self.prompt_tokens, self.output_tokens)
        if self.workload is None and None in lengths:
            raise ValueError("prompt_tokens: give prompt_tokens and output_tokens, or a workload")
        if self.workload is not None:
            if lengths != (None, None) or self.rate_rps is not None:
                raise ValueError(
                    "workload: says lengths and rate itself; given prompt_tokens, output_tokens or rate_rps, too"
                )
            plan = self.workload.plan
            if plan.services or len(plan.llm_stages) > 1:
                stages = ", ".join(plan.stages)
                raise SpecError(f"workload: requirements are those of one LLM alone, given the stages {stages}")
        if self.accelerators is not None and self.accelerators % self.per_client:
            raise ValueError(
                f"accelerators: {self.accelerators} is no multiple of tp {self.tp} x pp {self.pp}; "
                f"allowed: {self.per_client}, {2 * self.per_client}, …"
            )
        if self.alone and self.workload is None:
            raise ValueError("alone: given without a workload; leave rate_rps out instead")
        return self

    @property
    def per_client(self) -> int:
        """Accelerators of a client."""
        return self.tp * self.pp

    @property
    def total(self) -> int:
        """Accelerators in all."""
        return self.accelerators or self.per_client

    @property
    def clients(self) -> int:
        """Clients that share the requests."""
        return self.total // self.per_client

    @property
    def slos(self) -> tuple[SLO, SLO]:
        """Both promises."""
        return (
            SLO(metric="ttft", percentile=self.ttft_percentile, limit_s=self.ttft_s),
            SLO(metric="tpot", percentile=self.tpot_percentile, limit_s=self.tpot_s),
        )

    @property
    def loaded(self) -> bool:
        """Whether requests arrive at a rate."""
        return not self.alone and (self.workload is not None or self.rate_rps is not None)

    @property
    def load(self) -> Workload | None:
        """What arrives, or has the lengths of requests that are alone; None where all are as long."""
        if self.workload is not None or self.rate_rps is None:
            return self.workload
        return Workload.parse(
            {
                "requests": self.requests,
                "seed": self.seed,
                "arrivals": {"process": "poisson", "rate_rps": self.rate_rps},
                "lengths": {
                    "prompt": {"distribution": "constant", "tokens": self.prompt_tokens},
                    "output": {"distribution": "constant", "tokens": self.output_tokens},
                },
            },
            source=self.name,
        )

    def deployment(self, accelerator: str) -> Deployment:
        """Return the clients on an accelerator, catalogued or hypothetical.

        Raises
        ------
        SpecError
            If the model cannot be sharded so.
        """
        pool: dict[str, object] = {
            "model": self.model,
            "accelerator": accelerator,
            "clients": self.clients,
            "tp": self.tp,
            "pp": self.pp,
            "weights": self.weights,
            "kv": self.kv,
            "engine": self.engine,
        }
        batching: dict[str, int] = {}
        if self.token_budget_tokens is not None:
            batching["token_budget_tokens"] = self.token_budget_tokens
        if self.batch is not None:
            batching["max_batch_requests"] = self.batch
            if self.batch > batching.get("token_budget_tokens", Batching().token_budget_tokens):
                batching["token_budget_tokens"] = self.batch
        if batching:
            pool["batching"] = batching
        return Deployment(pools=(Pool.parse(pool, source=self.name),))
