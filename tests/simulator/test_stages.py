"""Stages and services as a person writes them: strict, complete by default, and the same after a round trip."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import Field

from simulator.errors import SpecError
from simulator.spec import Spec
from simulator.spec.stages import (
    SERVICE_KINDS,
    DetokeniseStage,
    EmbedStage,
    FilterStage,
    GuardStage,
    RerankStage,
    RetrieveStage,
    RouteStage,
    Service,
    ServiceStage,
    Stage,
    TokeniseStage,
    added_prompt_tokens,
    check_stages,
    quantities,
)


class Stages(Spec):
    """Some stages."""

    stages: tuple[ServiceStage, ...] = Field(description="stages")


KINDS: list[type[Any]] = list(get_args(get_args(ServiceStage)[0]))
#: What a kind cannot do without.
NEEDED: dict[type[Any], dict[str, Any]] = {RouteStage: {"to": {"small": 0.7, "large": 0.3}}}


def kind_of(stage: type[Any]) -> str:
    return str(stage.model_fields["kind"].default)


def test_kinds_are_those_of_the_union() -> None:
    assert sorted(map(kind_of, KINDS)) == sorted(SERVICE_KINDS)
    every = {get_args(each)[1].tag for each in get_args(get_args(Stage)[0])}
    assert every == {*SERVICE_KINDS, "llm", "cascade", "reason", "prefill, decode"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_alone_is_a_stage_named_after_it(kind: type[Any]) -> None:
    given = NEEDED.get(kind, {})
    parsed = Stages.parse({"stages": [{"kind": kind_of(kind), **given}]}).stages[0]
    assert type(parsed) is kind
    assert parsed == kind(**given)
    assert parsed.name == parsed.kind


@pytest.mark.parametrize("spec", [*KINDS, Service])
def test_every_field_is_described(spec: type[Spec]) -> None:
    for name, field in spec.model_fields.items():
        assert field.description or name == "name", name
    schema = spec.model_json_schema()
    assert all("description" in entry for entry in schema["properties"].values())


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "stages.yaml"
    stages = Stages(stages=tuple(kind(name=f"my-{kind_of(kind)}", **NEEDED.get(kind, {})) for kind in KINDS))
    path.write_text(stages.to_yaml())
    assert Stages.from_yaml(path) == stages
    service = Service(stage="embed", device="l4", clients=3, max_wait_ms=2.5)
    path.write_text(service.to_yaml())
    assert Service.from_yaml(path) == service


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"kind": "summarise"}, ["kind", "summarise", "'retrieve'"]),
        ({"kind": "embed", "modle": "x"}, ["modle", "unknown key"]),
        ({"kind": "tokenise", "us_per_token": "1"}, ["us_per_token", "valid number"]),
        ({"kind": "tokenise", "us_per_token": -1}, ["us_per_token", "-1"]),
        ({"kind": "tokenise", "name": None}, ["name", "valid string"]),
        ({"kind": "guard", "applies_to": "query"}, ["applies_to", "'prompt' or 'output'"]),
        ({"kind": "retrieve", "probes": 99, "centroids": 9}, ["probes 99 is above centroids 9"]),
        ({"kind": "retrieve", "vectors": 100, "centroids": 50, "shards": 4}, ["centroids 50", "25 vectors"]),
        ({"kind": "rerank", "documents": 3, "keep": 4}, ["keep 4 is above documents 3"]),
        ({"kind": "retrieve", "documents": 2.0}, ["documents", "valid integer"]),
    ],
)
def test_wrong_stages_are_refused(stage: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        Stages.parse({"stages": [stage]})
    assert str(caught.value).startswith("specification: stages.0")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("change", [{"clients": 0}, {"max_wait_ms": -1}, {"devices": "2"}, {"hops": 1}, {"device": ""}])
def test_wrong_services_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(change))):
        Service.parse({"stage": "embed", "device": "l4"} | change)


def test_documents_lengthen_the_prompt() -> None:
    retrieve = RetrieveStage(documents=16, tokens_per_document=100)
    rerank = RerankStage(documents=16, keep=5, tokens_per_document=100)
    assert retrieve.added_prompt_tokens == 1600
    assert added_prompt_tokens([]) == 0
    assert added_prompt_tokens([EmbedStage(), retrieve]) == 1600
    assert added_prompt_tokens([EmbedStage(), retrieve, rerank]) == 500
    assert added_prompt_tokens([retrieve, rerank, RetrieveStage(documents=1, tokens_per_document=7)]) == 507


def test_before_a_retrieval_the_prompt_is_the_query() -> None:
    stages: list[ServiceStage] = [
        GuardStage(name="in"),
        FilterStage(),
        EmbedStage(),
        RetrieveStage(),
        RerankStage(),
        TokeniseStage(),
        GuardStage(name="out", applies_to="output"),
        DetokeniseStage(),
    ]
    assert quantities(stages) == ("query", "query", "query", "none", "query", "prompt", "output", "output")


def test_stages_that_do_not_fit_together_are_refused() -> None:
    check_stages([RetrieveStage(), RerankStage()])
    with pytest.raises(ValueError, match="different names, given guard, guard"):
        check_stages([GuardStage(), GuardStage(applies_to="output")])
    with pytest.raises(ValueError, match="needs a retrieve before"):
        check_stages([RerankStage(), RetrieveStage()])
    with pytest.raises(ValueError, match="documents 10 is above the 5"):
        check_stages([RetrieveStage(documents=5), RerankStage(documents=10)])


def test_shards_multiply_the_machines() -> None:
    service = Service(stage="retrieve", device="grace", clients=2, devices=2)
    assert service.devices_in_all(RetrieveStage(shards=8)) == 32
    assert service.devices_in_all(EmbedStage()) == 4


def test_shards_of_a_service_take_the_place_of_the_stages() -> None:
    service = Service(stage="retrieve", device="grace", clients=2, shards=4)
    assert service.shards_of(RetrieveStage(shards=8)) == 4
    assert service.devices_in_all(RetrieveStage(shards=8)) == 8
    assert Service(stage="retrieve", device="grace").shards_of(RetrieveStage(shards=8)) == 8
