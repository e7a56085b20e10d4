"""What a person writes to have layers or stages placed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec
from simulator.spec.deployment import KvPrecision, WeightPrecision
from simulator.spec.file_names import EngineName, ModelName
from simulator.spec.workload import Workload

Count = Annotated[int, Field(ge=1)]


class Devices(Spec):
    """Some equal accelerators."""

    accelerator: str = Field(min_length=1, description="name of a catalogued accelerator")
    count: int = Field(ge=1, le=64, description="how many there are")


class SplitSpec(Spec):
    """A model whose layers are split over a pipeline of different accelerators."""

    model: ModelName = Field(description="name of a catalogued model, or path of a Hugging Face config.json")
    devices: tuple[Devices, ...] = Field(min_length=1, max_length=64, description="accelerators that there are")
    objective: Literal["throughput", "latency"] = Field(
        default="throughput",
        description="throughput: the shortest step of a full pipeline; latency: the shortest way of a lone batch",
    )
    order: Literal["free", "given"] = Field(
        default="free", description="order of the stages: any, or that in which the devices are given"
    )
    use: Literal["all", "any"] = Field(default="all", description="whether every device must have layers")
    tp: tuple[Count, ...] | None = Field(
        default=None,
        min_length=1,
        description="tensor parallelism, the same in every stage: the ones to try; all that divide if absent",
    )
    decodes: int = Field(default=64, ge=0, le=65_536, description="requests that decode in a step")
    context_tokens: int = Field(default=2048, ge=0, le=10_000_000, description="context of each of them")
    prompt_tokens: int = Field(default=0, ge=0, le=1_000_000, description="tokens of prompts in a step")
    kv_tokens: int | None = Field(
        default=None,
        ge=1,
        description="tokens of context that must find room at once; those of the decodes and prompts if absent",
    )
    weights: WeightPrecision = Field(default="bf16", description="precision of weights")
    kv: KvPrecision = Field(default="bf16", description="precision of the KV cache")
    engine: EngineName = Field(default="vllm-0.15", description="name of a catalogued engine and version")
    time_limit_s: float = Field(default=60.0, gt=0, description="time of the solver, all alternatives together")

    @model_validator(mode="after")
    def _works(self) -> Self:
        names = [each.accelerator for each in self.devices]
        if self.order == "free" and len(set(names)) < len(names):
            raise ValueError(f"devices: with a free order each accelerator once, given {', '.join(names)}")
        if self.order == "given" and self.use == "any":
            raise ValueError("order: given with use any, which leaves devices out; allowed: free, or use all")
        if not self.decodes + self.prompt_tokens:
            raise ValueError("decodes: 0 and prompt_tokens 0 given: a step works on tokens; allowed: at least one")
        return self


class Host(Spec):
    """Some equal devices that stages may be put on."""

    device: str = Field(min_length=1, description="name of a catalogued accelerator or CPU")
    count: int = Field(ge=1, le=100_000, description="how many there are")


class StagesSpec(Spec):
    """The stages of a workload's pipeline, and the hosts that they are to be put on."""

    model: ModelName = Field(description="name of a catalogued model that prefill and decode run")
    hosts: tuple[Host, ...] = Field(min_length=1, max_length=64, description="devices that there are")
    workload: Workload = Field(description="what arrives, and the pipeline it passes")
    objective: Literal["cost", "utilisation"] = Field(
        default="cost",
        description="cost: the least price of the devices used; utilisation: the least use of the busiest stage",
    )
    most_utilisation: float = Field(default=0.8, gt=0, le=1, description="use that no stage may exceed")
    layouts: tuple[Literal["together", "apart"], ...] = Field(
        default=("together", "apart"), min_length=1, description="prefill and decode in the same pools, or in their own"
    )
    tp: tuple[Count, ...] = Field(default=(1, 2, 4, 8), min_length=1, description="tensor parallelism of LLM clients")
    weights: WeightPrecision = Field(default="bf16", description="precision of weights")
    kv: KvPrecision = Field(default="bf16", description="precision of the KV cache")
    engine: EngineName = Field(default="vllm-0.15", description="name of a catalogued engine and version")
    time_limit_s: float = Field(default=60.0, gt=0, description="time of the solver for each layout")

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [each.device for each in self.hosts]
        if len(set(names)) < len(names):
            raise ValueError(f"hosts: each device once, given {', '.join(names)}")
        return self
