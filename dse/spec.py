"""A study as a person writes it: workload, model, search space, objectives, SLOs, budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dse.objectives import direction_of
from search_spaces.serving import ServingSpace
from simulator import catalog
from simulator.errors import SpecError
from simulator.lowering import check_services
from simulator.spec.base import Spec
from simulator.spec.llm_stages import CascadeStage, ReasonStage
from simulator.spec.slo import SLO
from simulator.spec.stages import Service, the_llm
from simulator.spec.workload import Workload


def _known_objective(name: str) -> str:
    direction_of(name)
    return name


def _known_model(name: str) -> str:
    catalog.model(name)
    return name


def has_sessions(workload: Workload) -> bool:
    """Return whether requests of a workload may follow each other: turns, a cascade of models, branches of thought."""
    for each in workload.resolved_classes:
        llm = the_llm(each.pipeline)
        if each.session or isinstance(llm, CascadeStage) or (isinstance(llm, ReasonStage) and llm.branches > 1):
            return True
    return False


def check_session_metrics(names: Iterable[str], workload: Workload) -> None:
    """Check that metrics of whole sessions are asked for only where there are sessions.

    Raises
    ------
    SpecError
        Naming the metric.
    """
    asked = [name for name in names if name.startswith("session_")]
    if asked and not has_sessions(workload):
        raise SpecError(
            f"{asked[0]}: the workload has no sessions; give it session (or a cascade, or branches), or ask for e2e"
        )


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
        plan = self.workload.plan
        if len(plan.llm_stages) > 1:
            raise SpecError(
                f"workload: {len(plan.llm_stages)} LLM stages ({', '.join(plan.llm_stages)}); a study searches the "
                "pools of one model: several models at once are not possible yet; dse simulate can simulate them"
            )
        check_services(self.services, plan.services)
        check_session_metrics([*names, *self.objectives], self.workload)
        return self

    @property
    def llm_stage(self) -> str:
        """Name of the LLM stage, which all pools of every design serve."""
        return self.workload.plan.llm_stages[0]
