"""Every stage and every way through them that the classes of a workload need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from simulator.errors import SpecError
from simulator.spec.llm_stages import CascadeStage, LlmStage, ReasonStage
from simulator.spec.stages import (
    Quantity,
    RouteStage,
    ServiceStage,
    Stage,
    added_prompt_tokens,
    llm_stages_of,
    quantities,
    services_after,
    services_before,
    services_of,
    the_llm,
)


@dataclass(frozen=True)
class PipelinePlan:
    """The stages of a workload and the ways through them.

    Attributes
    ----------
    stages
        Names of all stages, LLM stages and services, in order of first appearance; a single pipeline's in its order.
    services
        The service stages, each once.
    quantities
        For each of ``services`` the length that its work depends on.
    llm_stages
        Names of the LLM stages, each once.
    ways
        For each way the names of its stages, in order. Two ways may have the same stages if they differ in what is
        added to the prompt.
    added_prompt_tokens
        For each way the tokens that retrieved documents add to the prompts of :class:`~simulator.workload.Requests`;
        they stand behind the prompt's own text.
    class_ways
        For each class the ways of its calls, as indices into ``ways``. One LLM stage, or reasoning on one path: one.
        A router: one for each target. A cascade: refused and accepted by its first stage, by its second, …; accepted
        by its last. Branches: reading the prompt, a branch, what follows.
    """

    stages: tuple[str, ...]
    services: tuple[ServiceStage, ...]
    quantities: tuple[Quantity, ...]
    llm_stages: tuple[str, ...]
    ways: tuple[tuple[str, ...], ...]
    added_prompt_tokens: tuple[int, ...]
    class_ways: tuple[tuple[int, ...], ...]

    def service(self, name: str) -> ServiceStage:
        """Return the service stage of this name."""
        return next(stage for stage in self.services if stage.name == name)

    def quantity(self, name: str) -> Quantity:
        """Return the length that the work of the service stage of this name depends on."""
        return next(found for stage, found in zip(self.services, self.quantities, strict=True) if stage.name == name)

    def llm_of_way(self, way: int) -> str | None:
        """Return the name of the LLM stage of a way; None if it has none."""
        return next((name for name in self.ways[way] if name in self.llm_stages), None)


def added_prompt_tokens_of_way(plan: PipelinePlan, way: int) -> int:
    """Return the tokens that retrieved documents add to the prompt of a request that takes this way."""
    return plan.added_prompt_tokens[way]


def plan_pipelines(pipelines: Sequence[Sequence[Stage]]) -> PipelinePlan:
    """Return the plan of the pipelines of a workload's classes.

    Parameters
    ----------
    pipelines
        One checked pipeline for each class (:func:`~simulator.spec.stages.check_pipeline`).

    Raises
    ------
    SpecError
        If a name stands for different stages in two classes, or a service reads the query in one and in the other a
        prompt with documents.
    """
    return _planned(tuple(tuple(pipeline) for pipeline in pipelines))


# A search asks for the plan of the same workload with every design.
@lru_cache(maxsize=64)
def _planned(pipelines: tuple[tuple[Stage, ...], ...]) -> PipelinePlan:
    names: dict[str, None] = {}
    services: dict[str, tuple[ServiceStage, Quantity]] = {}
    llms: dict[str, None] = {}
    ways: dict[tuple[tuple[str, ...], int], int] = {}
    class_ways = []
    for pipeline in pipelines:
        own = services_of(pipeline)
        for stage, length in zip(own, quantities(own), strict=True):
            known, before = services.setdefault(stage.name, (stage, length))
            if known != stage:
                raise SpecError(
                    f"pipeline: stage {stage.name!r} is not the same in two classes; give one of them another name"
                )
            if before != length:
                raise SpecError(
                    f"pipeline: stage {stage.name!r} reads the {before} in one class and the {length} in another, "
                    "as a retrieval stands before only one of them; give one of them another name"
                )
        llms |= dict.fromkeys(llm_stages_of(pipeline))
        added = added_prompt_tokens(services_before(pipeline))
        class_ways.append(tuple(ways.setdefault((way, added), len(ways)) for way in _ways_of(pipeline)))
        names |= dict.fromkeys(_in_order(pipeline))
    for name in llms:
        if name in services:
            raise SpecError(f"pipeline: stage {name!r} is an LLM in one class and a service in another")
    return PipelinePlan(
        stages=tuple(names),
        services=tuple(stage for stage, _ in services.values()),
        quantities=tuple(length for _, length in services.values()),
        llm_stages=tuple(llms),
        ways=tuple(way for way, _ in ways),
        added_prompt_tokens=tuple(added for _, added in ways),
        class_ways=tuple(class_ways),
    )


def _in_order(pipeline: Sequence[Stage]) -> list[str]:
    """Return the names of a pipeline's stages, the LLM stages and a cascade's judge where the LLM stands."""
    llm = the_llm(pipeline)
    judge = [llm.judge.name] if isinstance(llm, CascadeStage) and llm.judge else []
    before, after = ([stage.name for stage in part(pipeline)] for part in (services_before, services_after))
    return [*before, *llm_stages_of(pipeline), *judge, *after]


def _ways_of(pipeline: Sequence[Stage]) -> list[tuple[str, ...]]:
    """Return the ways of the calls of a pipeline, in the order that ``class_ways`` promises."""
    before, after = (tuple(stage.name for stage in part(pipeline)) for part in (services_before, services_after))
    llm = the_llm(pipeline)
    match llm:
        case LlmStage():
            return [(*before, llm.name, *after)]
        case RouteStage():
            return [(*before, name, *after) for name in llm.llm_stages]
        case ReasonStage() if llm.branches == 1:
            return [(*before, llm.llm, *after)]
        case ReasonStage():
            return [(*before, llm.llm), (llm.llm,), (*([llm.llm] if llm.summary_tokens else []), *after)]
        case CascadeStage():
            found = []
            for place, name in enumerate(llm.stages):
                start = (*(before if place == 0 else ()), name)
                if place < len(llm.stages) - 1:
                    start = (*start, *([llm.judge.name] if llm.judge else []))
                    found.append(start)
                found.append((*start, *after))
            return found
