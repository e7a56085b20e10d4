"""What a person writes about the stages around the LLM, and where they run.

A pipeline that looks up documents before it answers::

    - {kind: embed}
    - {kind: retrieve, vectors: 100000000, documents: 10, tokens_per_document: 100}
    - {kind: rerank, documents: 10, keep: 5}

and the clients that serve it::

    - {stage: embed, device: l4}
    - {stage: retrieve, device: xeon-gold-6448y, max_batch_requests: 16}
    - {stage: rerank, device: l4}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from simulator.spec.base import Spec

Quantity = Literal["none", "query", "prompt", "output"]
"""Which length of a request the work of a stage depends on: none of them, the prompt as it arrived, the prompt
with what retrieval added, or the output."""

Text = Literal["prompt", "output"]
StageName = Annotated[str, Field(min_length=1, description="name of the stage, unique in a pipeline")]
Microseconds = Annotated[float, Field(ge=0, le=1e9)]


class TokeniseStage(Spec):
    """Text to tokens, on a CPU: ``us_per_request + us_per_token · prompt tokens``."""

    kind: Literal["tokenise"] = Field(default="tokenise", description="text to tokens")
    name: StageName = "tokenise"
    us_per_request: Microseconds = Field(
        default=50.0, description="time of a request whatever its length, microseconds"
    )
    us_per_token: Microseconds = Field(default=1.0, description="time of one token of the prompt, microseconds")


class DetokeniseStage(Spec):
    """Tokens to text, on a CPU: ``us_per_request + us_per_token · output tokens``."""

    kind: Literal["detokenise"] = Field(default="detokenise", description="tokens to text")
    name: StageName = "detokenise"
    us_per_request: Microseconds = Field(
        default=20.0, description="time of a request whatever its length, microseconds"
    )
    us_per_token: Microseconds = Field(default=0.5, description="time of one token of the output, microseconds")


class FilterStage(Spec):
    """A list of forbidden words and patterns, on a CPU: ``us_per_request + us_per_token · tokens``."""

    kind: Literal["filter"] = Field(default="filter", description="words and patterns that may not pass")
    name: StageName = "filter"
    applies_to: Text = Field(default="prompt", description="text that is looked through: prompt or output")
    us_per_request: Microseconds = Field(
        default=20.0, description="time of a request whatever its length, microseconds"
    )
    us_per_token: Microseconds = Field(default=0.2, description="time of one token of the text, microseconds")


class GuardStage(Spec):
    """A small model that judges a text in one forward pass over its tokens."""

    kind: Literal["guard"] = Field(default="guard", description="a model that judges the text")
    name: StageName = "guard"
    model: str = Field(
        default="llama-3.2-1b", min_length=1, description="catalogued model, or path of a Hugging Face config.json"
    )
    applies_to: Text = Field(default="prompt", description="text that is judged: prompt or output")


class EmbedStage(Spec):
    """An encoder that makes one vector of the query."""

    kind: Literal["embed"] = Field(default="embed", description="query to vector")
    name: StageName = "embed"
    model: str = Field(
        default="bge-large-en", min_length=1, description="catalogued encoder, or path of a Hugging Face config.json"
    )


class RetrieveStage(Spec):
    """Nearest neighbours of the query in an inverted file of compressed vectors (IVF-PQ); lengthens the prompt.

    With several shards of equal size every request goes to all of them and waits for all: one client stands for all
    shards, lasts as long as one and pays for every machine.
    """

    kind: Literal["retrieve"] = Field(default="retrieve", description="documents near the query")
    name: StageName = "retrieve"
    vectors: int = Field(default=100_000_000, ge=1, le=10**15, description="vectors in all shards together")
    dimension: int = Field(default=768, ge=1, le=65_536, description="numbers in a vector")
    bytes_per_vector: float = Field(
        default=96.0, gt=0, le=1_000_000, description="bytes of one code: of a product quantiser, or of raw numbers"
    )
    centroids: int = Field(default=10_000, ge=1, le=10**9, description="inverted lists (coarse centroids) of one shard")
    probes: int = Field(default=32, ge=1, le=10**9, description="lists of each shard that a query scans")
    documents: int = Field(default=10, ge=1, le=100_000, description="documents found per request (k)")
    tokens_per_document: int = Field(default=100, ge=1, le=100_000, description="tokens of a document in the prompt")
    shards: int = Field(default=1, ge=1, le=100_000, description="machines over which the vectors are spread equally")
    threads: int | None = Field(
        default=None, ge=1, le=65_536, description="search threads of a client, one query each; all cores if absent"
    )
    scan_gb_per_s: float = Field(
        default=5.4, gt=0, le=1000, description="codes that one core scans, 1e9 bytes/s; 18 with ScaNN's 4-bit tables"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.probes > self.centroids:
            raise ValueError(f"probes {self.probes} is above centroids {self.centroids}")
        if self.shards > self.vectors:
            raise ValueError(f"shards {self.shards} is above vectors {self.vectors}")
        if self.centroids * self.shards > self.vectors:
            raise ValueError(
                f"centroids {self.centroids} is above the {self.vectors // self.shards} vectors of one shard"
            )
        return self

    @property
    def added_prompt_tokens(self) -> int:
        """Tokens that the documents add to the prompt, unless a later rerank keeps fewer."""
        return self.documents * self.tokens_per_document


class RerankStage(Spec):
    """A cross-encoder that reads the query with every document and keeps the best."""

    kind: Literal["rerank"] = Field(default="rerank", description="keeps the best documents")
    name: StageName = "rerank"
    model: str = Field(
        default="bge-large-en", min_length=1, description="catalogued encoder, or path of a Hugging Face config.json"
    )
    documents: int = Field(default=10, ge=1, le=100_000, description="documents read per request")
    keep: int = Field(default=5, ge=1, le=100_000, description="documents that stay in the prompt")
    tokens_per_document: int = Field(default=100, ge=1, le=100_000, description="tokens of a document")

    @model_validator(mode="after")
    def _keeps_some(self) -> Self:
        if self.keep > self.documents:
            raise ValueError(f"keep {self.keep} is above documents {self.documents}")
        return self

    @property
    def kept_prompt_tokens(self) -> int:
        """Tokens that the kept documents add to the prompt."""
        return self.keep * self.tokens_per_document


ServiceStage = Annotated[
    TokeniseStage | DetokeniseStage | FilterStage | GuardStage | EmbedStage | RetrieveStage | RerankStage,
    Field(discriminator="kind"),
]

#: Values of ``kind``, in the order in which a pipeline usually has them.
SERVICE_KINDS: Final = ("filter", "guard", "embed", "retrieve", "rerank", "tokenise", "detokenise")


class Service(Spec):
    """Where a stage runs: identical clients, each with its own queue and batches."""

    stage: str = Field(min_length=1, description="name of the stage that is served")
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

    def devices_in_all(self, stage: ServiceStage) -> int:
        """Return the devices that all clients pay for: ``clients · devices``, times shards for a retrieval."""
        shards = stage.shards if isinstance(stage, RetrieveStage) else 1
        return self.clients * self.devices * shards


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


def quantity(stage: ServiceStage) -> Quantity:
    """Return the length that the work of a stage depends on, if it stands where such a stage usually stands."""
    match stage:
        case TokeniseStage():
            return "prompt"
        case DetokeniseStage():
            return "output"
        case FilterStage() | GuardStage():
            return stage.applies_to
        case EmbedStage() | RerankStage():
            return "query"
        case RetrieveStage():
            return "none"


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


Stage = Literal["prefill", "decode"] | ServiceStage
"""A stage of a pipeline: one of the two of the LLM, or a service."""

LLM_ALONE: Final[tuple[Stage, ...]] = ("prefill", "decode")


def services_of(pipeline: Sequence[Stage]) -> tuple[ServiceStage, ...]:
    """Return the service stages of a pipeline, in order."""
    return tuple(stage for stage in pipeline if not isinstance(stage, str))


def llm_position(pipeline: Sequence[Stage]) -> int:
    """Return how many services stand before the LLM."""
    return list(pipeline).index("prefill")


def check_pipeline(pipeline: Sequence[Stage]) -> None:
    """Check that a pipeline has one LLM and that its services fit together.

    Raises
    ------
    ValueError
        If ``prefill, decode`` does not stand in it once, in this order, with nothing between; or as
        :func:`check_stages`.
    """
    words = [stage if isinstance(stage, str) else stage.name for stage in pipeline]
    llm = [position for position, stage in enumerate(pipeline) if isinstance(stage, str)]
    if [pipeline[position] for position in llm] != ["prefill", "decode"] or llm[1] != llm[0] + 1:
        raise ValueError(f"pipeline: prefill, decode must stand in it once, side by side; given {', '.join(words)}")
    check_stages(services_of(pipeline))
