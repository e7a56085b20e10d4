"""What the studies of a family found together: for each scenario one front over all alternatives."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dse.evaluation import Evaluation
from dse.family.spec import FamilySpec, Member
from dse.objectives import direction_of
from dse.pareto import knee, losses, non_dominated
from dse.result import StudyResult, distinct
from dse.words import short
from simulator import Deployment

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Found:
    """A member of a family and what its study found."""

    member: Member
    result: StudyResult

    def best(self, objective: str) -> float:
        """Return the best value of an objective among feasible designs; NaN if there is none."""
        place = self.member.spec.objectives.index(objective)
        values = [evaluation.objectives[place] for evaluation in self.result.feasible]
        if not values:
            return float("nan")
        return min(values) if direction_of(objective) == "minimize" else max(values)


@dataclass(frozen=True, eq=False)
class FrontDesign:
    """A design on the front of a scenario, and the member whose study found it."""

    found: Found
    evaluation: Evaluation

    @property
    def deployment(self) -> Deployment:
        """The design as a deployment."""
        return self.found.result.deployment(self.evaluation)


@dataclass(frozen=True, eq=False)
class ScenarioFront:
    """The designs of a scenario that no design of any alternative dominates, by the first objective.

    Attributes
    ----------
    scenario
        Its label; empty if the family has no scenarios.
    designs
        The front without near twins.
    recommended
        Its knee; None if nothing is feasible.
    """

    scenario: str
    designs: tuple[FrontDesign, ...]
    recommended: FrontDesign | None


@dataclass(frozen=True, eq=False)
class Answer:
    """What a family of studies found.

    Attributes
    ----------
    family
        What was asked.
    founds
        Its members, in order.
    options
        What the command line changed in all members, word by word: ``--rate``, ``3``.
    """

    family: FamilySpec
    founds: tuple[Found, ...]
    options: tuple[str, ...] = ()

    @property
    def command_options(self) -> str:
        """The options as one types them."""
        return shlex.join(self.options)

    @cached_property
    def members(self) -> pd.DataFrame:
        """A row for each member: labels, designs simulated and feasible, best of each objective, recommendation."""
        import pandas as pd

        rows = []
        for found in self.founds:
            best = found.result.recommended
            rows.append(
                {
                    "scenario": found.member.scenario,
                    "alternative": found.member.alternative,
                    "simulated": len(found.result.simulated),
                    "feasible": len(found.result.feasible),
                    **{f"best_{name}": found.best(name) for name in self.family.objectives},
                    "recommended": short(found.result.deployment(best)) if best else "",
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def front_table(self) -> pd.DataFrame:
        """The designs of all fronts, without near twins: labels, choices and figures as in a study's ``trials``."""
        import pandas as pd

        rows = [
            {
                "scenario": front.scenario,
                "alternative": design.found.member.alternative,
                "recommended": design is front.recommended,
                **design.evaluation.design,
                **dict(zip(self.family.objectives, design.evaluation.objectives, strict=True)),
                **design.evaluation.figures,
                "bottleneck": design.evaluation.bottleneck,
            }
            for front in self.fronts
            for design in front.designs
        ]
        return pd.DataFrame(rows)

    @cached_property
    def fronts(self) -> tuple[ScenarioFront, ...]:
        """A front for each scenario; one without a name if there are no scenarios."""
        scenarios = dict.fromkeys(found.member.scenario for found in self.founds)
        return tuple(
            _front(name, [found for found in self.founds if found.member.scenario == name]) for name in scenarios
        )


def _front(scenario: str, founds: Sequence[Found]) -> ScenarioFront:
    objectives = founds[0].member.spec.objectives
    every = [FrontDesign(found, evaluation) for found in founds for evaluation in found.result.front]
    points = losses(np.array([design.evaluation.objectives for design in every]), objectives)
    places = non_dominated(points)
    if not len(places):
        return ScenarioFront(scenario, (), None)
    front = [every[place] for place in places]
    best = front[knee(points[places])]
    by_evaluation = {id(design.evaluation): design for design in front}
    kept = distinct([design.evaluation for design in front], best.evaluation)
    return ScenarioFront(scenario, tuple(by_evaluation[id(each)] for each in kept), best)
