"""What a person writes about the stages around the LLM, and where they run.

A pipeline that looks up documents before it answers::

    - {kind: embed}
    - {kind: retrieve, vectors: 100000000, documents: 10, tokens_per_document: 100}
    - {kind: rerank, documents: 10, keep: 5}
    - prefill
    - decode

and the clients that serve it::

    - {stage: embed, device: l4}
    - {stage: retrieve, device: xeon-gold-6448y, max_batch_requests: 16}
    - {stage: rerank, device: l4}

In the place of ``prefill, decode`` may stand one of ``{kind: llm}``, ``{kind: route}``, ``{kind: cascade}`` and
``{kind: reason}``; these kinds are in :mod:`simulator.spec.llm_stages`, the services in
:mod:`simulator.spec.service_stages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal

from pydantic import Discriminator, Field, Tag

from simulator.spec.base import Spec
from simulator.spec.llm_stages import LLM, CascadeStage, LlmStage, ReasonStage
from simulator.spec.names import Name
from simulator.spec.service_stages import (
    SERVICE_KINDS,
    DetokeniseStage,
    EmbedStage,
    EncodeStage,
    FilterStage,
    GuardStage,
    Quantity,
    RerankStage,
    RetrieveStage,
    RouteStage,
    ServiceStage,
    TokeniseStage,
    quantity,
)

__all__ = [
    "LLM",
    "LLM_ALONE",
    "MOST_STAGES",
    "SERVICE_KINDS",
    "CascadeStage",
    "DetokeniseStage",
    "EmbedStage",
    "EncodeStage",
    "FilterStage",
    "GuardStage",
    "LlmPart",
    "LlmStage",
    "Quantity",
    "ReasonStage",
    "RerankStage",
    "RetrieveStage",
    "RouteStage",
    "Service",
    "ServiceStage",
    "Stage",
    "TokeniseStage",
    "added_prompt_tokens",
    "check_pipeline",
    "check_stages",
    "llm_position",
    "llm_stages_of",
    "quantities",
    "quantity",
    "services_after",
    "services_before",
    "services_of",
    "the_llm",
]


class Service(Spec):
    """Where a stage runs: identical clients, each with its own queue and batches."""

    stage: Name = Field(min_length=1, description="name of the stage that is served")
    device: str = Field(min_length=1, description="name of a catalogued CPU or accelerator")
    clients: int = Field(default=1, ge=1, le=100_000, description="number of identical clients")
    devices: int = Field(
        default=1,
        ge=1,
        le=1024,
        description="processors (sockets) or accelerators per client; of each shard for a sharded retrieval",
    )
    max_batch_requests: int = Field(default=32, ge=1, le=65_536, description="largest number of requests in a batch")
    max_wait_ms: float = Field(default=0.0, ge=0, le=1e6, description="longest wait for a batch to fill, milliseconds")
    hop_us: float = Field(default=50.0, ge=0, le=1e9, description="time to reach the next stage, microseconds")
    shards: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="of a retrieval: machines over which a client's vectors are spread equally; the stage's if absent",
    )

    def shards_of(self, stage: ServiceStage) -> int:
        """Return over how many machines a client spreads the vectors of a retrieval; 1 for any other stage."""
        if not isinstance(stage, RetrieveStage):
            return 1
        return self.shards or stage.shards

    def devices_in_all(self, stage: ServiceStage) -> int:
        """Return the devices that all clients pay for: ``clients · devices``, times shards for a retrieval."""
        return self.clients * self.devices * self.shards_of(stage)


def added_prompt_tokens(stages: Sequence[ServiceStage]) -> int:
    """Return the tokens that documents add to a prompt.

    Every retrieval adds its documents; a rerank replaces what was found before it by what it keeps.

    Parameters
    ----------
    stages
        Service stages before the LLM, in the order of the pipeline.
    """
    added = 0
    for stage in stages:
        if isinstance(stage, RetrieveStage):
            added += stage.added_prompt_tokens
        elif isinstance(stage, RerankStage) and added:
            added = min(added, stage.kept_prompt_tokens)
    return added


def quantities(stages: Sequence[ServiceStage]) -> tuple[Quantity, ...]:
    """Return the length that the work of each stage depends on: before any retrieval the prompt is the query.

    Parameters
    ----------
    stages
        All service stages of a pipeline in order, the LLM left out.
    """
    retrieved = False
    found: list[Quantity] = []
    for stage in stages:
        retrieved |= isinstance(stage, RetrieveStage)
        length = quantity(stage)
        found.append("query" if length == "prompt" and not retrieved else length)
    return tuple(found)


def check_stages(stages: Sequence[ServiceStage]) -> None:
    """Check that stages fit together.

    Parameters
    ----------
    stages
        All service stages of a pipeline in order, the LLM left out.

    Raises
    ------
    ValueError
        If two have the same name, or a rerank reads more documents than were retrieved before it.
    """
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):
        raise ValueError(f"name: stages of a pipeline must have different names, given {', '.join(names)}")
    documents = 0
    for stage in stages:
        if isinstance(stage, RetrieveStage):
            documents += stage.documents
        elif isinstance(stage, RerankStage):
            if not documents:
                raise ValueError(f"{stage.name}: a rerank needs a retrieve before it")
            if stage.documents > documents:
                raise ValueError(
                    f"{stage.name}: documents {stage.documents} is above the {documents} that were retrieved"
                )
            documents = stage.keep


LlmPart = LlmStage | CascadeStage | ReasonStage | RouteStage
"""What stands in the place of ``prefill, decode``."""

_WORDS: Final = "prefill, decode"


def _kind(given: object) -> object:
    """Return what kind of stage is given: the key by which pydantic picks its class."""
    if isinstance(given, str):
        return _WORDS
    return given.get("kind", "none") if isinstance(given, dict) else getattr(given, "kind", repr(given))


Stage = Annotated[
    Annotated[Literal["prefill", "decode"], Tag(_WORDS)]
    | Annotated[TokeniseStage, Tag("tokenise")]
    | Annotated[DetokeniseStage, Tag("detokenise")]
    | Annotated[FilterStage, Tag("filter")]
    | Annotated[GuardStage, Tag("guard")]
    | Annotated[EmbedStage, Tag("embed")]
    | Annotated[RetrieveStage, Tag("retrieve")]
    | Annotated[RerankStage, Tag("rerank")]
    | Annotated[EncodeStage, Tag("encode")]
    | Annotated[RouteStage, Tag("route")]
    | Annotated[LlmStage, Tag("llm")]
    | Annotated[CascadeStage, Tag("cascade")]
    | Annotated[ReasonStage, Tag("reason")],
    Discriminator(_kind),
]
"""A stage of a pipeline: a service, one of the two of the LLM, or what stands in their place."""

MOST_STAGES: Final = 100
"""Stages of a pipeline."""

LLM_ALONE: Final[tuple[Stage, ...]] = ("prefill", "decode")


def _is_llm(stage: Stage) -> bool:
    """Return whether a stage belongs to the LLM part."""
    return isinstance(stage, str | LlmStage | CascadeStage | ReasonStage | RouteStage)


def the_llm(pipeline: Sequence[Stage]) -> LlmPart:
    """Return the LLM part of a checked pipeline; ``prefill, decode`` are the LLM stage named ``llm``."""
    found = next(stage for stage in pipeline if _is_llm(stage))
    return found if isinstance(found, LlmPart) else LlmStage()


def services_before(pipeline: Sequence[Stage]) -> tuple[ServiceStage, ...]:
    """Return the service stages that a request passes before its LLM, in order; a router is the last of them."""
    start = next(place for place, stage in enumerate(pipeline) if _is_llm(stage))
    router = pipeline[start]
    return _services(pipeline[:start]) + ((router,) if isinstance(router, RouteStage) else ())


def services_after(pipeline: Sequence[Stage]) -> tuple[ServiceStage, ...]:
    """Return the service stages after the LLM, in order."""
    end = max(place for place, stage in enumerate(pipeline) if _is_llm(stage))
    return _services(pipeline[end + 1 :])


def _services(stages: Sequence[Stage]) -> tuple[ServiceStage, ...]:
    return tuple(stage for stage in stages if not isinstance(stage, str | LlmStage | CascadeStage | ReasonStage))


def services_of(pipeline: Sequence[Stage]) -> tuple[ServiceStage, ...]:
    """Return the service stages of a pipeline, in order; a cascade's judge stands where the cascade stands."""
    found: list[ServiceStage] = []
    for stage in pipeline:
        if isinstance(stage, CascadeStage):
            found += [stage.judge] if stage.judge else []
        else:
            found += _services([stage])
    return tuple(found)


def llm_stages_of(pipeline: Sequence[Stage]) -> tuple[str, ...]:
    """Return the names of the LLM stages of a checked pipeline."""
    llm = the_llm(pipeline)
    match llm:
        case LlmStage():
            return (llm.name,)
        case CascadeStage():
            return llm.stages
        case ReasonStage():
            return (llm.llm,)
        case RouteStage():
            return llm.llm_stages


def llm_position(pipeline: Sequence[Stage]) -> int:
    """Return how many services stand before the LLM."""
    return len(services_before(pipeline))


def check_pipeline(pipeline: Sequence[Stage]) -> None:
    """Check that a pipeline has one LLM part and that its services fit together.

    Raises
    ------
    ValueError
        If ``prefill, decode`` does not stand in it once, in this order, with nothing between, nor one stage of the
        kinds llm, route, cascade and reason in their place; if an LLM and a service have the same name; if it has two
        stages that encode, or one after the LLM; or as :func:`check_stages`.
    """
    words = [stage if isinstance(stage, str) else getattr(stage, "name", stage.kind) for stage in pipeline]
    llm = [place for place, stage in enumerate(pipeline) if _is_llm(stage)]
    pair = [pipeline[place] for place in llm] == ["prefill", "decode"] and llm[1] == llm[0] + 1
    if not pair and not (len(llm) == 1 and not isinstance(pipeline[llm[0]], str)):
        raise ValueError(
            f"pipeline: prefill, decode must stand in it once, side by side; given {', '.join(words)}; "
            "in their place may stand one stage of the kinds llm, route, cascade, reason"
        )
    services = services_of(pipeline)
    check_stages(services)
    llm_names = llm_stages_of(pipeline)
    for stage in services:
        if stage.name in llm_names:
            raise ValueError(f"name: {stage.name!r} is both an LLM stage and a service of the kind {stage.kind}")
    encoders = [stage.name for stage in services if isinstance(stage, EncodeStage)]
    if len(encoders) > 1:
        raise ValueError(f"pipeline: at most one stage of the kind encode, given {', '.join(encoders)}")
    late = [stage.name for stage in services_after(pipeline) if isinstance(stage, EncodeStage)]
    if late:
        raise ValueError(f"pipeline: {late[0]} must stand before the LLM that reads what it encodes")
