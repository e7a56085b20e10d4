"""The search space of LLM serving as a person writes it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from itertools import combinations
from operator import or_
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_spaces.kv_cache import THROUGH, kv_tiers
from search_spaces.placement import (
    ANY_LENGTH,
    GLOBAL,
    WHOLE,
    handovers,
    layout_dimension,
    places,
)
from search_spaces.routing import ONE, prefix_weight, routing
from search_spaces.services import ServiceSpace, services
from search_spaces.space import Space
from search_spaces.stage import MOST_ALTERNATIVES, LlmSpace, StageSpace
from simulator import catalog
from simulator.spec.deployment import MOST_TIERS, Lending, Link, Router
from simulator.spec.kv_cache import Tier, Write, check_tiers
from simulator.spec.stages import LLM, MOST_STAGES


class ServingSpace(LlmSpace):
    """What may vary in a study."""

    routers: tuple[Router, ...] = Field(
        default=("round_robin", "join_shortest_queue", "least_outstanding_tokens"),
        min_length=1,
        description="routing rules",
    )
    prefix_weights: tuple[Annotated[int, Field(ge=0, le=1000)], ...] = Field(
        default=ONE,
        min_length=1,
        description="router prefix_affinity: outstanding tokens that one token to compute weighs as much as",
    )
    links: dict[str, Link] = Field(
        default_factory=dict,
        max_length=MOST_ALTERNATIVES,
        description="named alternatives of what carries KV from prefill to decode; colocated: the first",
    )
    layer_wise: tuple[bool, ...] = Field(
        default=WHOLE, min_length=1, description="whether the KV of a layer leaves while later ones are computed"
    )
    handover_scopes: tuple[Literal["global", "local"], ...] = Field(
        default=GLOBAL, min_length=1, description="hand-overs to every decode client, or to those of the same group"
    )
    groups: tuple[Annotated[int, Field(ge=2, le=1_000_000)], ...] = Field(
        default=(), description="groups of neighbouring clients for local hand-overs"
    )
    lending: dict[str, Lending | None] = Field(
        default_factory=dict,
        max_length=MOST_ALTERNATIVES,
        description="named alternatives of when prefill and decode clients help each other out; null: never",
    )
    tiers: dict[str, Annotated[tuple[Tier, ...], Field(max_length=MOST_TIERS)]] = Field(
        default_factory=dict,
        max_length=MOST_ALTERNATIVES,
        description="named alternatives of memories behind the prefix caches; []: none",
    )
    prefix_writes: tuple[Write, ...] = Field(
        default=THROUGH, min_length=1, description="when KV reaches the tiers: computed, evicted or never"
    )
    services: dict[str, ServiceSpace] = Field(
        default_factory=dict, max_length=MOST_STAGES, description="by service stage what may vary of its clients"
    )
    stages: dict[str, StageSpace] = Field(
        default_factory=dict,
        max_length=MOST_STAGES,
        description="every LLM stage, if there are several, and what differs in its space",
    )

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        stages = self.llm_spaces.values()
        if self.tiers and not any(True in stage.prefix_cache for stage in stages):
            raise ValueError("tiers: hold KV for prefix caches; prefix_cache must have true among its choices")
        if self.prefix_writes != THROUGH and not self.tiers:
            raise ValueError("prefix_writes: matter only with tiers, given none")
        if len(self.stages) > 1 and len(self.tiers) > 1:
            raise ValueError(f"tiers: serve all LLM stages, so with {len(self.stages)} of them at most one alternative")
        if ("local" in self.handover_scopes) != bool(self.groups):
            raise ValueError("handover_scopes: local needs groups of 2 and more, and groups need local")
        if self.layer_wise != WHOLE and any(link.layer_wise for link in self.links.values()):
            raise ValueError("links: layer_wise is chosen by the space's own layer_wise, given in both")
        for stage in stages:
            if stage.prompt_splits_tokens != ANY_LENGTH and True not in stage.mixed:
                raise ValueError("prompt_splits_tokens: need two pools; mixed must have true among its choices")
            _differ("drafts", stage.drafts.items())
        for name in ("links", "lending", "tiers"):
            _differ(name, getattr(self, name).items())
        for alternative in self.tiers.values():
            check_tiers(alternative)
        return self

    @property
    def llm_spaces(self) -> dict[str, LlmSpace]:
        """What may vary in each LLM stage; a single one goes by any name."""
        return {name: self.model_copy(update=stage.given) for name, stage in self.stages.items()} or {LLM: self}

    @property
    def space(self) -> Space:
        """The dimensions, conditional on what they matter for."""
        stages = self.llm_spaces
        layout = layout_dimension({name: stage.layouts for name, stage in stages.items()})
        where = places(layout, tuple(stages), {name: stage.mixed for name, stage in stages.items()})

        here = [(stage, where[name]) for name, stage in stages.items()]
        return (
            Space((layout,))
            | _all(stage.basic(place) for stage, place in here)
            | routing(self.routers)
            | _all(stage.further(place) for stage, place in here)
            | _all(kv_tiers(self.tiers, self.prefix_writes, stage.caches(place)) for stage, place in here)
            | prefix_weight(self.prefix_weights, self.routers)
            | handovers(layout, self.links, self.layer_wise, self.handover_scopes, self.groups, self.lending)
            | services(self.services)
        )

    def check_catalogued(self) -> None:
        """Check that every accelerator, device, draft model and kind of memory is in the catalogue.

        Raises
        ------
        SpecError
            Naming what is not, and what is.
        """
        for stage in self.llm_spaces.values():
            for name in stage.accelerators:
                catalog.accelerator(name)
            if stage.adapters:
                stage.adapters.check_catalogued()
            for draft in stage.drafts.values():
                if draft and draft.draft_model:
                    catalog.model(draft.draft_model)
        for service in self.services.values():
            for name in service.devices:
                catalog.device(name)


def _all(spaces: Iterable[Space]) -> Space:
    """Return the space of all."""
    return reduce(or_, spaces, Space(()))


def _differ(field: str, alternatives: Iterable[tuple[str, object]]) -> None:
    """Refuse two names for the same thing: designs that differ would be the same deployment."""
    for (name, one), (other, another) in combinations(alternatives, 2):
        if one == another:
            raise ValueError(f"{field}: alternatives must differ, {name} and {other} are the same")
