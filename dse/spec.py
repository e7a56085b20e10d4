"""A study as a person writes it: workload, model, search space, objectives, SLOs, budget."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dse.objectives import direction_of
from search_spaces.serving import ServingSpace
from simulator import catalog
from simulator.lowering import check_services
from simulator.spec.base import Spec
from simulator.spec.slo import SLO
from simulator.spec.stages import Service, services_of
from simulator.spec.workload import Workload


def _known_objective(name: str) -> str:
    direction_of(name)
    return name


def _known_model(name: str) -> str:
    catalog.model(name)
    return name


Objective = Annotated[str, AfterValidator(_known_objective)]


class Budget(Spec):
    """When a study ends."""

    trials: int = Field(default=300, ge=1, le=1_000_000, description="designs to simulate")
    timeout_s: float | None = Field(default=None, gt=0, description="stop after this time; no limit if absent")


class Limits(Spec):
    """What a design may use at most; designs beyond are not simulated."""

    accelerators: int | None = Field(default=None, ge=1, description="accelerators in all pools")
    usd_per_hour: float | None = Field(default=None, gt=0, description="price of all accelerators")


class StudySpec(Spec):
    """What to search, for which load, under which promises."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="short name, also of the output folder")
    question: str = Field(default="", description="what the study is to answer, for the report")
    model: Annotated[str, AfterValidator(_known_model)] = Field(
        description="model to serve: a catalogued name or the path of a Hugging Face config.json"
    )
    workload: Workload = Field(description="requests to serve")
    services: tuple[Service, ...] = Field(
        default=(), description="clients of the pipeline's service stages, the same in every design"
    )
    space: ServingSpace = Field(description="what may vary")
    objectives: tuple[Objective, ...] = Field(
        min_length=1, max_length=4, description="what to optimise; the direction follows from the metric"
    )
    slos: tuple[SLO, ...] = Field(default=(), description="promises that a feasible design keeps")
    limits: Limits = Field(default_factory=Limits, description="upper limits of resources")
    budget: Budget = Field(default_factory=Budget, description="when to stop")
    sampler: Literal["auto", "nsga2", "tpe", "random"] = Field(
        default="auto", description="how designs are proposed; auto: nsga2"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the search; the workload has its own")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives: must differ, given {', '.join(self.objectives)}")
        names = [slo.name for slo in self.slos]
        if len(set(names)) < len(names):
            raise ValueError(f"slos: one limit for each metric and percentile, given {', '.join(names)}")
        for name in self.space.accelerators:
            catalog.accelerator(name)
        _ = self.space.space.closed
        for service in self.services:
            catalog.device(service.device)
        check_services(self.services, services_of(self.workload.pipeline))
        return self
