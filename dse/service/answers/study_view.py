"""What is known of one study's trials, grown as they arrive."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from dse import words
from dse.evaluation import Evaluation, deployment_of
from dse.objectives import direction_of
from dse.provenance import front_caveat
from dse.repricing import Prices
from dse.result import Clock, StudyResult
from dse.service.answers.front import FrontKeeper, steps
from dse.service.answers.records import Front, FrontUpdate, Objective, Trial
from dse.spec import StudySpec
from dse.understanding.prices import Contenders
from search_spaces import Design
from simulator import Deployment, Requests, SpecError


def objectives_of(spec: StudySpec) -> list[Objective]:
    """Return what a study optimises, in words."""
    return [
        Objective(name=name, label=words.label(name), title=words.axis_title(name), direction=direction_of(name))
        for name in spec.objectives
    ]


def finite_or_none(value: float) -> float | None:
    """Return a figure as JSON may hold it."""
    return value if math.isfinite(value) else None


class StudyView:
    """The distinct designs of a study and their front. Not safe for several threads at once.

    Parameters
    ----------
    spec
        The study.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.objectives = objectives_of(spec)
        self.simulated = self.feasible = 0
        self._evaluations: list[Evaluation] = []
        self._known: dict[Design, int] = {}
        self._numbers: dict[int, int] = {}
        self._labels: dict[Design, str] = {}
        self._front = FrontKeeper(spec.objectives)
        self._result: StudyResult | None = None
        self._contenders: dict[bool, Contenders] = {}

    def add(self, evaluations: Iterable[dict[str, Any]]) -> list[int]:
        """Take in trials as :meth:`Evaluation.to_json` wrote them; return the places of those whose design is new."""
        added, feasible = [], []
        for data in evaluations:
            # Thousands of trials have the same few names of figures: one word each is kept.
            figures = {sys.intern(name): value for name, value in data["figures"].items()}
            evaluation = Evaluation.from_json({**data, "figures": figures})
            if evaluation.design in self._known:
                continue
            place = len(self._evaluations)
            self._evaluations.append(evaluation)
            self._known[evaluation.design] = place
            self._numbers.setdefault(evaluation.number, place)
            self.simulated += evaluation.simulated
            if evaluation.feasible:
                feasible.append(evaluation)
            added.append(place)
        self.feasible += len(feasible)
        self._front.add(feasible)
        if added:
            self._result = None
            self._contenders.clear()
        return added

    @property
    def evaluations(self) -> Sequence[Evaluation]:
        """Every distinct design, in the order of arrival."""
        return self._evaluations

    def result(self, load: tuple[Requests, ...] = ()) -> StudyResult:
        """Return the same as a study's result, in the order of proposal; without a load it cannot simulate."""
        if load:
            return StudyResult(self.spec, self._proposed, load, Clock(0.0, 0.0, 0.0))
        if self._result is None:
            self._result = StudyResult(self.spec, self._proposed, (), Clock(0.0, 0.0, 0.0))
        return self._result

    def at(self, prices: Prices) -> StudyResult:
        """Return a result of the designs that can be on the front, at other prices.

        Raises
        ------
        SpecError
            If the trials are of an earlier version, which did not note their devices.
        """
        electricity = prices.electricity_usd_per_kwh > 0
        if electricity not in self._contenders:
            self._contenders[electricity] = Contenders(self.result(), electricity=electricity)
        return self._contenders[electricity].at(prices)

    @property
    def _proposed(self) -> tuple[Evaluation, ...]:
        return tuple(sorted(self._evaluations, key=lambda evaluation: evaluation.number))

    def by_number(self, number: int) -> Evaluation:
        """Return a trial by the number that names it.

        Raises
        ------
        KeyError
            If there is none.
        """
        return self._evaluations[self._numbers[number]]

    def deployment(self, evaluation: Evaluation) -> Deployment | None:
        """Return the deployment of a design; None if its choices contradict each other."""
        try:
            return deployment_of(evaluation.design, self.spec)
        except (ValidationError, SpecError):
            return None

    def label(self, evaluation: Evaluation) -> str:
        """Return a design in a few words; kept once known."""
        known = self._labels.get(evaluation.design)
        if known is None:
            deployment = self.deployment(evaluation)
            known = words.short(deployment) if deployment else ", ".join(_hardware(evaluation.design))
            self._labels[evaluation.design] = known
        return known

    def trial(self, evaluation: Evaluation) -> Trial:
        """Return what is said of a trial in a list; also of one at other prices or rates."""
        return Trial(
            number=evaluation.number,
            label=self.label(evaluation),
            design=dict(evaluation.design),
            simulated=evaluation.simulated,
            feasible=evaluation.feasible,
            objectives=[finite_or_none(value) for value in evaluation.objectives],
            broken=[words.promise(name) for name in evaluation.broken],
            bottleneck=evaluation.bottleneck,
            reason=evaluation.reason,
        )

    @property
    def front_designs(self) -> tuple[Evaluation, ...]:
        """The designs on the front, by the first objective."""
        return self._front.designs

    @property
    def recommended(self) -> Evaluation | None:
        """The knee of the front; None if nothing is feasible."""
        return self._front.recommended

    def front_update(self) -> FrontUpdate:
        """Return who is on the front."""
        return FrontUpdate(
            front=[evaluation.number for evaluation in self.front_designs],
            recommended=self.recommended.number if self.recommended else None,
            evaluated=len(self._evaluations),
            simulated=self.simulated,
            feasible=self.feasible,
        )

    def front(self) -> Front:
        """Return the front with what there is to say of it."""
        update, result = self.front_update(), self.result()
        return Front(
            objectives=self.objectives,
            trials=[self.trial(evaluation) for evaluation in self.front_designs],
            recommended=update.recommended,
            hypervolume=steps(result.hypervolume),
            evaluated=update.evaluated,
            simulated=update.simulated,
            feasible=update.feasible,
            caveat=front_caveat(result),
        )


def _hardware(design: Design) -> Iterator[str]:
    """Yield the choices that say most of a design which is no deployment."""
    for name, value in design.items():
        if name == "layout" or name.endswith(".accelerator"):
            yield str(value)
