"""A study as a person writes it: workload, model, search space, objectives, SLOs, budget."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from dse.confidence.spec import Replications
from dse.objectives import direction_of, needs_slos
from search_spaces.serving import ServingSpace
from simulator import catalog
from simulator.errors import SpecError
from simulator.files import named_file
from simulator.lowering import check_services
from simulator.spec.base import Spec
from simulator.spec.llm_stages import CascadeStage, ReasonStage
from simulator.spec.slo import SLO
from simulator.spec.stages import MOST_STAGES, Service, the_llm
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


KnownModel = Annotated[str, AfterValidator(_known_model)]


MOST_ENTRIES: Final = 100
"""Entries of each list of a study, and LLM stages."""


def _few(given: Any) -> Any:
    """Refuse too many before each is looked up."""
    if isinstance(given, dict | list | tuple) and len(given) > MOST_ENTRIES:
        raise ValueError(f"at most {MOST_ENTRIES}, given {len(given):,}")
    return tuple(given) if isinstance(given, list) else given


Few = BeforeValidator(_few)


PLANNED: Final = "planned"
"""Stands for the designs of exact placement among warm starts."""


def _known_start(path: Path) -> Path:
    if str(path) != PLANNED:
        named_file(path, "start")
    return path


Start = Annotated[Path, Field(strict=False), AfterValidator(_known_start)]

Penalty = Annotated[float, Field(gt=0, le=1e6)]
SOFT: Final = (
    "soft: missing it by a fraction v makes every objective worse by the factor 1 + penalty * v, and the design stays "
    "feasible; hard if absent"
)

Sampler = Literal[
    "auto",
    "screened",
    "random",
    "qmc",
    "tpe",
    "tpe-multivariate",
    "tpe+nsga2",
    "nsga2",
    "nsga3",
    "gp",
    "multi_agent",
    "single_agent",
]
"""Ways to propose designs."""

Robust = Literal["worst", "weighted"]
"""How the objectives of several workloads become one: the worst of them, or their mean by weight."""


class Promise(SLO):
    """An SLO of a study: hard, or soft with a penalty."""

    penalty: Penalty | None = Field(default=None, description=SOFT)


class Constraint(Spec):
    """A bound on a metric: hard, or soft with a penalty."""

    metric: Objective = Field(description="any metric that can be an objective")
    at_most: float | None = Field(default=None, gt=0, description="largest value allowed")
    at_least: float | None = Field(default=None, gt=0, description="smallest value allowed")
    penalty: Penalty | None = Field(default=None, description=SOFT)

    @model_validator(mode="after")
    def _one_side(self) -> Self:
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError(f"{self.metric}: give either at_most or at_least; for both, two constraints")
        return self

    @property
    def name(self) -> str:
        """Short name as used for columns and constraints, e.g. ``usd_per_hour_at_most``."""
        return f"{self.metric}_{'at_least' if self.at_most is None else 'at_most'}"

    def excess(self, value: float) -> float:
        """Return by which fraction of its bound a value misses it: zero or less if it holds.

        Parameters
        ----------
        value
            Of the metric; NaN, where no request has it, misses nothing.
        """
        if value != value:
            return -1.0
        if self.at_most is not None:
            return value / self.at_most - 1.0
        assert self.at_least is not None
        return 1.0 - value / self.at_least


class Case(Spec):
    """One of several workloads that a design has to serve."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100, description="short name; its figures are called NAME.FIGURE"
    )
    workload: Workload = Field(description="requests to serve")
    weight: float = Field(default=1.0, gt=0, description="share of the mean with robust: weighted")


MOST_TRIALS: Final = 1_000_000
"""Designs that a study may simulate."""


class Rehearsal(Spec):
    """A search on the first requests of long traces, whose best designs are simulated first on the whole."""

    requests: int = Field(ge=1, description="requests of each workload that it is given")
    trials: int = Field(default=300, ge=1, le=MOST_TRIALS, description="designs to simulate on them")
    promoted: int = Field(default=60, ge=1, le=MOST_TRIALS, description="designs to simulate first on the whole")


class Budget(Spec):
    """When a study ends."""

    trials: int = Field(
        default=300, ge=1, le=MOST_TRIALS, description="designs to simulate; as many as it takes with certified"
    )
    timeout_s: float | None = Field(default=None, gt=0, description="stop after this time; no limit if absent")
    certified: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="stop as soon as the designs that are neither simulated nor excluded by proof could add at most "
        "this share of the hypervolume, e.g. 0.01",
    )

    rehearsal: Rehearsal | None = Field(default=None, description="search on the beginning of the traces first")

    @model_validator(mode="before")
    @classmethod
    def _until_certified(cls, data: Any) -> Any:
        """Simulate as many designs as the certificate needs, unless a number is given."""
        if isinstance(data, dict) and data.get("certified") is not None and data.get("trials") is None:
            return {**data, "trials": MOST_TRIALS}
        return data


class Limits(Spec):
    """What a design may use at most; designs beyond are not simulated."""

    accelerators: int | None = Field(default=None, ge=1, description="accelerators in all pools")
    usd_per_hour: float | None = Field(default=None, gt=0, description="price of all devices and tiers")
    power_kw: float | None = Field(
        default=None, gt=0, description="sum of the TDP of all devices of pools and services, kilowatts"
    )


class StudySpec(Spec):
    """What to search, for which load, under which promises."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100, description="short name, also of the output folder"
    )
    question: str = Field(default="", max_length=5000, description="what the study is to answer, for the report")
    model: Annotated[KnownModel | dict[str, KnownModel], Few] = Field(
        description="model to serve: a catalogued name or the path of a Hugging Face config.json; with several LLM "
        "stages that of each, by its name"
    )
    # Set by the validator if only workloads are given, so that it is never None to who reads it.
    workload: Workload = Field(default=None, description="requests to serve")  # type: ignore[assignment]
    workloads: tuple[Case, ...] = Field(
        default=(), max_length=100, description="several workloads of the same stages, instead of workload"
    )
    robust: Robust = Field(
        default="worst",
        description="how several workloads are judged: promises hold in each; objectives are the worst of them, or "
        "the mean by weight",
    )
    services: tuple[Service, ...] = Field(
        default=(),
        max_length=MOST_STAGES,
        description="clients of the pipeline's service stages, the same in every design",
    )
    space: ServingSpace = Field(description="what may vary")
    objectives: Annotated[tuple[Objective, ...], Few] = Field(
        min_length=1,
        max_length=MOST_ENTRIES,
        description="what to optimise, any number; the direction follows from the metric",
    )
    slos: tuple[Promise, ...] = Field(
        default=(), max_length=MOST_ENTRIES, description="promises that a feasible design keeps"
    )
    constraints: tuple[Constraint, ...] = Field(default=(), max_length=MOST_ENTRIES, description="bounds on metrics")
    limits: Limits = Field(default_factory=Limits, description="upper limits of resources")
    budget: Budget = Field(default_factory=Budget, description="when to stop")
    sampler: Sampler = Field(default="auto", description="how designs are proposed (dse list samplers); auto: screened")
    start: tuple[Start, ...] = Field(
        default=(),
        max_length=MOST_ENTRIES,
        description="warm starts, proposed first: folders of earlier runs, YAML files of deployments, and the word "
        "planned for what exact placement (dse plan) puts on the accelerators of the space",
    )
    confidence: Replications | None = Field(
        default=None, description="replications with other draws of the load that confirm the front; none if absent"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the search; the workload has its own")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.objectives)) < len(self.objectives):
            raise ValueError(f"objectives: must differ, given {', '.join(self.objectives)}")
        names = [slo.name for slo in self.slos]
        if len(set(names)) < len(names):
            raise ValueError(f"slos: one limit for each metric and percentile, given {', '.join(names)}")
        bounds = [bound.name for bound in self.constraints]
        if len(set(bounds)) < len(bounds):
            raise ValueError(f"constraints: one bound for each metric and side, given {', '.join(bounds)}")
        metrics = [*self.objectives, *(bound.metric for bound in self.constraints)]
        if lost := next((name for name in metrics if needs_slos(name) and not self.slos), None):
            raise ValueError(f"{lost}: share of requests within the SLOs, but the study has none; give slos")
        self._settle_workload()
        self.space.check_catalogued()
        _ = self.space.space.size
        for service in self.services:
            catalog.device(service.device)
        for case in self.cases:
            check_session_metrics([*names, *metrics], case.workload)
        self._check_stages()
        return self

    def _check_stages(self) -> None:
        """Check that every stage of the pipeline has a model or clients, and no other."""
        plan, space = self.workload.plan, self.space
        stages = ", ".join(plan.llm_stages)
        if (len(plan.llm_stages) > 1 or space.stages) and set(space.stages) != set(plan.llm_stages):
            given = ", ".join(space.stages) or "none"
            raise SpecError(f"space: stages: given {given}; the workload's LLM stages: {stages}")
        if set(self.models) != set(plan.llm_stages):
            raise SpecError(f"model: given for {', '.join(self.models)}; the workload's LLM stages: {stages}")
        twice = [service.stage for service in self.services if service.stage in space.services]
        if twice:
            raise SpecError(f"services: stage {twice[0]!r} is given both in services and in space: services")
        varied = (service.first(name) for name, service in space.services.items())
        check_services((*self.services, *varied), plan.services)

    def _settle_workload(self) -> None:
        """Make the first of several workloads the workload, and check that all have the same stages."""
        if not self.workloads:
            if self.workload is None:
                raise ValueError("workload: missing; give workload, or workloads for several")
            return
        first = self.workloads[0]
        if self.workload is not None and self.workload != first.workload:
            raise ValueError("workloads: give either workload, or workloads")
        names = [case.name for case in self.workloads]
        if len(set(names)) < len(names):
            raise ValueError(f"workloads: names must differ, given {', '.join(names)}")
        for case in self.workloads[1:]:
            _check_same_stages(first, case)
        self.__dict__["workload"] = first.workload

    @model_serializer(mode="wrap")
    def _once(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Return plain data that can be read back: what stands in workloads does not stand in workload too."""
        data: dict[str, Any] = serialise(self)
        if self.workloads:
            data.pop("workload", None)
        return data

    @property
    def cases(self) -> tuple[Case, ...]:
        """The workloads that every design is simulated with; one called ``workload`` if there are not several."""
        # Asked for at every simulation: the workload was validated, and takes some time to validate.
        return self.workloads or (Case.model_construct(name="workload", workload=self.workload, weight=1.0),)

    @property
    def promises(self) -> tuple[Promise | Constraint, ...]:
        """All SLOs, then all bounds on metrics."""
        return (*self.slos, *self.constraints)

    @property
    def models(self) -> dict[str, str]:
        """Model of each LLM stage, by its name."""
        return {self.workload.plan.llm_stages[0]: self.model} if isinstance(self.model, str) else dict(self.model)


def _check_same_stages(first: Case, other: Case) -> None:
    """Check that a workload passes the same stages as another, so that the same designs can serve both."""
    ours, theirs = first.workload.plan, other.workload.plan
    if set(ours.stages) != set(theirs.stages):
        raise ValueError(
            f"workloads: all must have the same stages, but {first.name} has {', '.join(ours.stages)} and "
            f"{other.name} has {', '.join(theirs.stages)}"
        )
    known = {stage.name: stage for stage in theirs.services}
    for stage in ours.services:
        if known.get(stage.name) != stage:
            raise ValueError(f"workloads: stage {stage.name!r} is not the same in {first.name} and {other.name}")
