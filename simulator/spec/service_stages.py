"""The services around the LLM as a person writes them: one class for each kind of stage."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from simulator.spec.base import Spec
from simulator.spec.file_names import ModelName
from simulator.spec.names import Name, on_one_line

Quantity = Literal["none", "query", "prompt", "output", "media"]
"""Which length of a request the work of a stage depends on: none of them, the text as it arrived, the prompt with
its history and what retrieval added, the output, or the patches of its images (frames of its sound)."""

Text = Literal["prompt", "output"]
StageName = Annotated[Name, Field(min_length=1, description="name of the stage, unique in a pipeline")]
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
    model: ModelName = Field(
        default="llama-3.2-1b", min_length=1, description="catalogued model, or path of a Hugging Face config.json"
    )
    applies_to: Text = Field(default="prompt", description="text that is judged: prompt or output")


class EmbedStage(Spec):
    """An encoder that makes one vector of the query."""

    kind: Literal["embed"] = Field(default="embed", description="query to vector")
    name: StageName = "embed"
    model: ModelName = Field(
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
        default=7.05, gt=0, le=1000, description="codes that one core scans, 1e9 bytes/s; 18 with ScaNN's 4-bit tables"
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
    model: ModelName = Field(
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


class EncodeStage(Spec):
    """An encoder of images or sound; what it makes stands in the prompt as tokens.

    An image is cut into patches (sound into frames), each a token to the encoder; ``fold`` of them become one token of
    the prompt. How many images a request has is ``media`` of the workload or class.
    """

    kind: Literal["encode"] = Field(default="encode", description="images or sound to tokens of the prompt")
    name: StageName = "encode"
    model: ModelName = Field(
        default="clip-vit-l-336", min_length=1, description="catalogued encoder, or path of a Hugging Face config.json"
    )
    patches_per_image: int = Field(
        default=576, ge=1, le=1_000_000, description="patches of an image (frames of a clip) that are encoded"
    )
    fold: int = Field(default=1, ge=1, le=65_536, description="patches that become one token of the prompt")

    @property
    def prompt_tokens_per_image(self) -> int:
        """Tokens that an image adds to the prompt: ``patches_per_image / fold``, rounded up."""
        return -(-self.patches_per_image // self.fold)


RouteTarget = tuple[str, float | tuple[str, ...]]
"""An LLM stage and its weight, its least number of tokens, or its classes."""


def _targets(value: Any) -> Any:
    """Return targets written as a mapping from LLM stages to a number, a class or a list of classes."""
    if isinstance(value, list | tuple) and all(isinstance(each, list | tuple) and len(each) == 2 for each in value):
        value = {str(name): what for name, what in value}
    if isinstance(value, dict) and len(value) > 100:
        raise ValueError(f"at most 100 LLM stages, given {len(value):,}")
    if not isinstance(value, dict):
        raise ValueError("must map LLM stages to numbers or classes, such as {small: 0.7, large: 0.3}")
    targets: list[RouteTarget] = []
    for name, what in value.items():
        on_one_line(name)
        if isinstance(what, str):
            targets.append((name, (what,)))
        elif isinstance(what, list | tuple) and what and all(isinstance(each, str) for each in what):
            targets.append((name, tuple(what)))
        elif isinstance(what, int | float) and not isinstance(what, bool):
            if not abs(what) <= 1e300:
                raise ValueError(f"{name}: must be a number of at most 1e300")
            targets.append((name, float(what)))
        else:
            raise ValueError(f"{name}: must be a number, the name of a class or a list of such, given {what!r}")
    return tuple(targets)


def _as_mapping(targets: tuple[RouteTarget, ...]) -> dict[str, float | list[str]]:
    return {name: list(what) if isinstance(what, tuple) else what for name, what in targets}


RouteBy = Literal["chance", "prompt_tokens", "output_tokens", "class"]


class RouteStage(Spec):
    """A router that reads the request and sends it to one of several LLM stages.

    It stands in the place of ``prefill, decode``. Its time is ``us_per_request + us_per_token · prompt tokens`` on a
    CPU or, with a ``model``, a forward pass of this classifier over the prompt.
    """

    kind: Literal["route"] = Field(default="route", description="sends each request to one of several LLM stages")
    name: StageName = "route"
    by: RouteBy = Field(
        default="chance",
        description="what decides: chance, prompt_tokens (with what retrieval added), output_tokens (as a router "
        "guesses them that guesses right), or the request's class",
    )
    to: Annotated[
        tuple[RouteTarget, ...],
        BeforeValidator(_targets, json_schema_input_type=dict[str, float | str | list[str]]),
        PlainSerializer(_as_mapping),
    ] = Field(
        description="LLM stages, each with its relative weight (chance), the least number of tokens it takes "
        "(prompt_tokens, output_tokens; one takes from 0), or the classes it takes (class)"
    )
    model: ModelName | None = Field(
        default=None,
        min_length=1,
        description="catalogued encoder that classifies, or path of a Hugging Face config.json; absent: CPU rules",
    )
    us_per_request: Microseconds = Field(
        default=50.0, description="time of a request whatever its length, microseconds; without a model"
    )
    us_per_token: Microseconds = Field(
        default=0.0, description="time of one token of the prompt, microseconds; without a model"
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if len(self.to) < 2:
            raise ValueError(f"to: at least two LLM stages, given {len(self.to)}")
        given = ", ".join(f"{name}: {what!r}" for name, what in _as_mapping(self.to).items())
        numbers = [what for _, what in self.to if isinstance(what, float)]
        if self.by == "class":
            named = [each for _, what in self.to if isinstance(what, tuple) for each in what]
            if numbers or len(set(named)) < len(named):
                raise ValueError(f"to: by class, each stage needs its own classes, given {given}")
        elif len(numbers) < len(self.to):
            raise ValueError(f"to: by {self.by}, each stage needs a number, given {given}")
        elif self.by == "chance":
            if min(numbers) < 0 or not sum(numbers) > 0:
                raise ValueError(f"to: weights must not be negative, nor all 0, given {given}")
        elif min(numbers) != 0 or len(set(numbers)) < len(numbers) or any(each % 1 for each in numbers):
            raise ValueError(f"to: least numbers of tokens must be whole, differ, and one be 0, given {given}")
        return self

    @property
    def llm_stages(self) -> tuple[str, ...]:
        """Names of the LLM stages, in the order of ``to``."""
        return tuple(name for name, _ in self.to)


ServiceStage = Annotated[
    TokeniseStage
    | DetokeniseStage
    | FilterStage
    | GuardStage
    | EmbedStage
    | RetrieveStage
    | RerankStage
    | EncodeStage
    | RouteStage,
    Field(discriminator="kind"),
]

#: Values of ``kind``, in the order in which a pipeline usually has them.
SERVICE_KINDS: Final = (
    "filter",
    "guard",
    "encode",
    "embed",
    "retrieve",
    "rerank",
    "tokenise",
    "route",
    "detokenise",
)


def quantity(stage: ServiceStage) -> Quantity:
    """Return the length that the work of a stage depends on, if it stands where such a stage usually stands."""
    match stage:
        case TokeniseStage() | RouteStage():
            return "prompt"
        case DetokeniseStage():
            return "output"
        case FilterStage() | GuardStage():
            return stage.applies_to
        case EmbedStage() | RerankStage():
            return "query"
        case RetrieveStage():
            return "none"
        case EncodeStage():
            return "media"
