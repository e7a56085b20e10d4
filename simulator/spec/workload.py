"""What a person writes about the load: when requests arrive and how long they are.

Two short forms::

    requests: 10000                                   requests: 10000   # optional: the first N rows
    arrivals: {process: poisson, rate_rps: 8}         trace: {path: my_trace.csv, rate_rps: 8}
    lengths: {statistics: azure-2023-conversation}

and what ``docs/workloads.md`` adds to them: several models, reasoning, sessions, classes, shared prefixes, media.
"""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from simulator.spec.arrivals import Arrivals, RateRps
from simulator.spec.base import Spec
from simulator.spec.classes import RequestClass, ResolvedClass, check_class
from simulator.spec.file_names import TracePath
from simulator.spec.lengths import Lengths
from simulator.spec.pipeline_plan import PipelinePlan, plan_pipelines
from simulator.spec.stages import LLM_ALONE, MOST_STAGES, Stage
from simulator.spec.traits import Traits

#: Requests generated where the specification names no number.
DEFAULT_REQUESTS: Final = 10_000
#: Tokens of a chunk of text with an id of its own, where the specification names none.
DEFAULT_CHUNK_TOKENS: Final = 64
#: Tokens of a chunk in a Mooncake trace.
MOONCAKE_CHUNK_TOKENS: Final = 512


class Trace(Spec):
    """A file of recorded requests, replayed as it is or at another rate."""

    path: TracePath = Field(description="file to read, relative to the working directory")
    format: Literal["auto", "azure", "mooncake", "csv"] = Field(
        default="auto",
        description="azure: TIMESTAMP,ContextTokens,GeneratedTokens; mooncake: JSON lines; "
        "csv: arrival_s,prompt_tokens,output_tokens; auto: told from the first line",
    )
    rate_rps: RateRps | None = Field(
        default=None,
        description="mean rate in requests per second, reached by stretching time; as recorded if absent",
    )
    start_s: float = Field(default=0.0, ge=0, description="skip requests before this time of the recording")
    duration_s: float | None = Field(
        default=None, gt=0, description="keep this many seconds of the recording; all of it if absent"
    )
    prefixes: bool = Field(
        default=False,
        description="read hash_ids (mooncake): which chunks of 512 tokens of the prompts are the same text",
    )


class Workload(Traits):
    """A load of requests: recorded (``trace``), or generated (``arrivals`` and ``lengths``)."""

    pipeline: tuple[Stage, ...] = Field(
        default=LLM_ALONE,
        max_length=MOST_STAGES,
        description="stages of every request, in order: services around prefill, decode",
    )
    requests: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="number of requests (of sessions, if they have turns): to generate (10 000 if absent), or the "
        "first of the trace (all)",
    )
    seed: int = Field(default=0, ge=0, description="seed of the generator; a trace needs none")
    arrivals: Arrivals | None = Field(default=None, description="when generated requests (sessions) arrive")
    lengths: Lengths | None = Field(default=None, description="how long generated requests are")
    trace: Trace | None = Field(default=None, description="recorded requests, instead of arrivals and lengths")
    classes: tuple[RequestClass, ...] | None = Field(
        default=None, min_length=1, max_length=1000, description="kinds of requests; all are of one kind if absent"
    )
    chunk_tokens: int | None = Field(
        default=None,
        ge=16,
        le=65_536,
        multiple_of=16,
        description="tokens of a chunk, the unit in which prefixes are shared: a multiple of 16; 64 if absent",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        names = [each.name for each in self.classes or ()]
        if len(set(names)) < len(names):
            raise ValueError(f"classes: names must differ, given {', '.join(names)}")
        for each in self.resolved_classes:
            try:
                check_class(each, names)
                if self.trace is not None:
                    _check_traced(each, self.trace)
            except ValueError as error:
                raise ValueError(f"class {each.name}: {error}" if self.classes else str(error)) from None
        if self.trace is not None:
            if self.arrivals is not None or any(each.lengths is not None for each in self.resolved_classes):
                raise ValueError("give either trace, or both arrivals and lengths")
            if self.trace.prefixes and self.chunk_tokens not in (None, MOONCAKE_CHUNK_TOKENS):
                raise ValueError(f"chunk_tokens: 512 in a trace with prefixes, given {self.chunk_tokens}")
        elif self.arrivals is None or any(each.lengths is None for each in self.resolved_classes):
            raise ValueError("give either trace, or both arrivals and lengths")
        _ = self.plan
        return self

    @property
    def resolved_classes(self) -> tuple[ResolvedClass, ...]:
        """The classes, each with what it has from the workload; one named ``all`` if there are none."""
        whole = RequestClass(name="all", share=1.0)
        return tuple(self._resolved(number, each) for number, each in enumerate(self.classes or (whole,)))

    def _resolved(self, number: int, given: RequestClass) -> ResolvedClass:
        priority = self.priority if given.priority is None else given.priority
        return ResolvedClass(
            name=given.name,
            share=given.share,
            pipeline=given.pipeline or self.pipeline,
            lengths=given.lengths or self.lengths,
            session=given.session or self.session,
            prefix=given.prefix or self.prefix,
            prefix_owner=number + 1 if given.prefix else 0,
            media=given.media or self.media,
            adapters=given.adapters or self.adapters,
            adapter_owner=number + 1 if given.adapters else 0,
            priority=priority or 0,
            deadline_s=given.deadline_s or self.deadline_s,
        )

    @property
    def plan(self) -> PipelinePlan:
        """The stages of all classes and the ways through them."""
        return plan_pipelines([each.pipeline for each in self.resolved_classes])


def _check_traced(each: ResolvedClass, trace: Trace) -> None:
    """Refuse what recorded requests cannot have."""
    if each.session:
        raise ValueError("session: only for generated requests, given with a trace")
    if trace.prefixes and (each.prefix or each.adapters):
        name = "prefix" if each.prefix else "adapters"
        raise ValueError(f"{name}: not with prefixes of a trace, which says itself what is shared")


def pipeline_plan(workload: Workload) -> PipelinePlan:
    """Return the stages of all classes of a workload and the ways through them.

    Raises
    ------
    SpecError
        As :func:`~simulator.spec.pipeline_plan.plan_pipelines`; not for a workload that was validated.
    """
    return workload.plan
