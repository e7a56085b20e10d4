"""What a use case needs of a chip: bounds, the least in the cost model, chips that just do, catalogued ones beside."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dse.requirements.bounds import Bound, bounds_of
from dse.requirements.chip import Chip, Resource
from dse.requirements.demand import Demand
from dse.requirements.judge import Judge, Verdict
from dse.requirements.solver import Solution, Solver
from dse.requirements.use_case import UseCase
from simulator import SpecError, catalog
from simulator.performance.engine import engine_of


@dataclass(frozen=True)
class Candidate:
    """A catalogued accelerator held against a use case.

    Attributes
    ----------
    accelerator
        Its name.
    chip
        Its figures.
    ratios
        By resource what it has over the least that is needed where all else costs no time; of the bound, if there is no
        such least.
    verdict
        What it reaches with its own kernels and links.
    """

    accelerator: str
    chip: Chip
    ratios: dict[Resource, float]
    verdict: Verdict

    @property
    def scarcest(self) -> Resource:
        """The resource that it has least of, for what is needed."""
        return min(self.ratios, key=lambda resource: self.ratios[resource])


@dataclass(frozen=True)
class Requirements:
    """What a use case needs.

    Attributes
    ----------
    case, demand
        The use case, and its lengths and load.
    bounds
        What no machine can go below, by resource.
    alone
        The least of each resource in the cost model where the others cost no time; empty if no chip will do.
    chips
        Chips that just keep the promises, the balanced one first; empty if none does.
    unlimited
        What a chip reaches whose kernels take no longer than their start-ups.
    candidates
        Catalogued accelerators, those that do first.
    """

    case: UseCase
    demand: Demand
    bounds: dict[Resource, Bound]
    alone: dict[Resource, float]
    chips: tuple[Solution, ...]
    unlimited: Verdict
    candidates: tuple[Candidate, ...]

    @property
    def reachable(self) -> bool:
        """Whether some chip keeps the promises, with this engine and such kernels."""
        return bool(self.chips)

    @property
    def resources(self) -> tuple[Resource, ...]:
        """What is needed at all."""
        return tuple(self.bounds)

    @property
    def chip(self) -> Chip | None:
        """The balanced chip."""
        return self.chips[0].chip if self.chips else None


def requirements_of(
    case: UseCase, accelerators: Iterable[str] | None = None, *, balanced_only: bool = False
) -> Requirements:
    """Return what a use case needs of an accelerator, and how far others are from it.

    Parameters
    ----------
    case
        The use case.
    accelerators
        Which to hold against it; the whole catalogue if absent.
    balanced_only
        Whether to find only the balanced one of the chips that just do.

    Raises
    ------
    SpecError
        If a name is unknown, or the model cannot be sharded so.
    """
    engine_of(case.deployment(case.like).pools[0])  # which says why, if the model cannot be sharded so
    demand = Demand.of(case)
    judge, bounds = Judge(case, demand), bounds_of(case, demand)
    solver = Solver(judge, bounds)
    alone = solver.alone()
    chips = solver.front(alone, balanced_only=balanced_only) if alone else ()
    names = catalog.accelerator_names() if accelerators is None else tuple(accelerators)
    found = [_candidate(judge, name, bounds, alone or {}) for name in names]
    return Requirements(
        case,
        demand,
        bounds,
        alone or {},
        chips,
        judge.verdict(solver.unlimited.name(case)),
        tuple(sorted(found, key=_order)),
    )


def _candidate(judge: Judge, name: str, bounds: dict[Resource, Bound], alone: dict[Resource, float]) -> Candidate:
    chip = Chip.of(name, judge.case)
    needed = {resource: alone.get(resource, bound.value) for resource, bound in bounds.items()}
    ratios = {resource: chip.of_resource(resource) / value for resource, value in needed.items()}
    try:
        verdict = judge.verdict(name)
    except SpecError as error:
        verdict = Verdict(False, float("inf"), float("inf"), "links", str(error))
    return Candidate(name, chip, ratios, verdict)


def _order(candidate: Candidate) -> tuple[bool, float, str]:
    return not candidate.verdict.keeps, -min(candidate.ratios.values()), candidate.accelerator
