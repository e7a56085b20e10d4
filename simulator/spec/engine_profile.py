"""What one version of an inference engine adds to its kernels, and what it does where nothing is said."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from simulator.spec.base import Spec

Microseconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Slowdown = Annotated[float, Field(gt=0, le=10)]


class EngineDefaults(Spec):
    """Settings of an engine that a specification need not repeat; absent: as in the specification."""

    memory_utilization: float | None = Field(default=None, gt=0, le=1, description="share of device memory in use")
    block_tokens: int | None = Field(default=None, ge=1, le=1024, description="tokens in a KV block")
    max_batch_requests: int | None = Field(default=None, ge=1, le=65536, description="requests in a batch")
    token_budget_tokens: int | None = Field(default=None, ge=1, le=1_000_000, description="tokens in a step")
    schedule_ahead: bool | None = Field(
        default=None, description="whether the batch of a step is decided while the step before runs"
    )


class EngineProfile(Spec):
    """Overheads and defaults of one version of an engine.

    A step takes ``step_us`` on the host that nothing hides, and its kernels, whose launches shrink to ``launch_share``
    of what they take alone. A step of more tokens than captured graphs is launched layer by layer; the host works ahead
    of the accelerator, so that such a step takes the longer of all its launches and all its kernels, softly.
    """

    name: str = Field(min_length=1, description="engine and version, e.g. vllm-0.15")
    source: str = Field(description="measurements that the figures were fitted to")
    date: str = Field(description="day of the fit")
    note: str = Field(default="", description="what one must know")
    calibrated: Literal["yes", "by hand"] = Field(default="yes", description="whether the figures were fitted")
    accelerators: tuple[str, ...] = Field(
        default=(), description="accelerators that the figures were fitted on; on others they are transferred"
    )
    step_us: Microseconds = Field(description="host time of a step that is not hidden: scheduling, inputs, sampling")
    parallel_step_us: Microseconds = Field(
        default=0.0, description="what a step takes longer where several accelerators share it"
    )
    sequence_us: Microseconds = Field(default=0.0, description="host time of a sequence in a step")
    launch_share: Share = Field(
        default=1.0, description="start of a kernel inside the engine over that of the same kernel alone"
    )
    eager_layer_us: Microseconds = Field(
        default=0.0, description="host time to launch a layer where no graph was captured"
    )
    prompt_step_us: Microseconds = Field(
        default=0.0, description="host time besides in a step of more tokens than can be decoded, that is with a prompt"
    )
    graph_tokens: int = Field(default=0, ge=0, description="largest step that replays a captured graph")
    request_us: Microseconds = Field(
        default=0.0, description="a request's way to the engine and back: HTTP, tokenising, streaming"
    )
    compute_slowdown: dict[str, Slowdown] = Field(
        default_factory=dict,
        description="by accelerator: arithmetic inside the engine over that of kernels measured alone; 1 if absent",
    )
    host_slowdown: dict[str, Slowdown] = Field(
        default_factory=dict, description="by accelerator: host times on its servers over those given here; 1 if absent"
    )
    own_all_reduce: bool = Field(
        default=True, description="whether small all-reduces are the engine's own one-shot kernels"
    )
    collective_us: Microseconds = Field(default=0.0, description="what every collective takes longer than alone")
    bulk_tokens: int | None = Field(
        default=None, ge=1, description="steps of more tokens reduce more slowly among four and more; none if absent"
    )
    bulk_share: Share = Field(
        default=0.15, description="share of the links' bandwidth at which such all-reduces take longer than alone"
    )
    expert_imbalance: Annotated[float, Field(ge=1)] = Field(
        default=1.2, description="visits of the busiest of several expert-parallel ranks over the mean"
    )
    step_noise_cv: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.0, description="coefficient of variation of a step's duration around the model's"
    )
    defaults: EngineDefaults = Field(default_factory=EngineDefaults, description="settings where nothing is said")
    residuals: dict[str, float] = Field(
        default_factory=dict, description="median absolute percentage errors by measurement, of the fit and held out"
    )
