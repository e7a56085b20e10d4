"""What a study found: all trials, the front, the recommendation, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dse.certificate.ledger import Certificate
from dse.confidence.sureness import Sureness
from dse.evaluation import Evaluation, deployment_of
from dse.objectives import direction_of
from dse.pareto import Floats, knee, losses, non_dominated, reference_point, relative_hypervolume
from dse.spec import StudySpec
from dse.words import brief
from simulator import Deployment, Requests, Result, simulate

if TYPE_CHECKING:
    import pandas as pd


SAME = 0.005
"""Relative difference below which two designs count as equal in an objective."""


@dataclass(frozen=True)
class Clock:
    """Where the time of a study went in its last session, seconds.

    Attributes
    ----------
    wall_s
        From the first proposal to the last result.
    proposing_s
        Proposing designs, taking in results and writing the journal.
    simulator_cpu_s
        Processor time of all evaluations, over all processes.
    """

    wall_s: float
    proposing_s: float
    simulator_cpu_s: float


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Outcome of a study.

    Attributes
    ----------
    spec
        The study.
    evaluations
        Every distinct design, in order of proposal.
    load
        Requests of each of the study's workloads.
    clock
        Where the time went.
    interrupted
        Whether the study was stopped before its budget was used.
    certificate
        What was proved of the space; None if it is too large to list, or nobody asked.
    sureness
        What replications say of the front; None if there were none.
    """

    spec: StudySpec
    evaluations: tuple[Evaluation, ...]
    load: tuple[Requests, ...]
    clock: Clock
    interrupted: bool = False
    certificate: Certificate | None = None
    sureness: Sureness | None = None

    @property
    def requests(self) -> Requests:
        """Requests of the first workload, which is the only one of most studies."""
        return self.load[0]

    @cached_property
    def simulated(self) -> tuple[Evaluation, ...]:
        """Designs that were simulated."""
        return tuple(e for e in self.evaluations if e.simulated)

    @cached_property
    def feasible(self) -> tuple[Evaluation, ...]:
        """Designs that keep every promise and limit."""
        return tuple(e for e in self.evaluations if e.feasible)

    @cached_property
    def front(self) -> tuple[Evaluation, ...]:
        """Feasible designs that no other feasible design dominates, by the first objective."""
        return tuple(self.feasible[i] for i in non_dominated(self._losses(self.feasible)))

    @cached_property
    def recommended(self) -> Evaluation | None:
        """The knee of the front: nearest to the best of every objective; None if nothing is feasible."""
        return self.front[knee(self._losses(self.front))] if self.front else None

    @cached_property
    def distinct_front(self) -> tuple[Evaluation, ...]:
        """The front without designs that differ from the one before, or the recommended one, by less than ``SAME``."""
        return distinct(self.front, self.recommended)

    def _losses(self, evaluations: Sequence[Evaluation]) -> Floats:
        return losses(np.array([e.objectives for e in evaluations]), self.spec.objectives)

    @cached_property
    def hypervolume(self) -> Floats:
        """Share of the box between the best and the reference point that is dominated after each simulated trial.

        The box spans the feasible designs of the whole study; shape (simulated,).
        """
        if not self.feasible:
            return np.zeros(len(self.simulated))
        all_points = self._losses(self.feasible)
        ideal, reference = all_points.min(axis=0), reference_point(all_points)
        shares, share, found = np.zeros(len(self.simulated)), 0.0, np.zeros((0, all_points.shape[1]))
        for index, evaluation in enumerate(self.simulated):
            if evaluation.feasible:
                point = self._losses([evaluation])
                if not (found <= point).all(axis=1).any():  # else it adds nothing
                    found = np.vstack([found, point])
                    found = found[non_dominated(found)]
                    share = relative_hypervolume(found, ideal, reference)
            shares[index] = share
        return shares

    def deployment(self, evaluation: Evaluation) -> Deployment:
        """Return the deployment of a design."""
        return deployment_of(evaluation.design, self.spec)

    def simulate(self, evaluation: Evaluation, case: int = 0) -> Result:
        """Return the full simulation of a design with one of the study's workloads, as it was evaluated.

        Parameters
        ----------
        evaluation
            Of a design of the study.
        case
            Place of the workload, from 0.

        Raises
        ------
        SpecError
            If the design cannot be simulated.
        """
        plan = self.spec.cases[case].workload.plan
        return simulate(self.deployment(evaluation), self.load[case], plan=plan)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a distinct design: choices, objectives, figures, violations, feasibility, place on the front."""
        import pandas as pd

        on_front = {id(e) for e in self.front}
        rows = [
            {
                "simulated": e.simulated,
                "feasible": e.feasible,
                "on_front": id(e) in on_front,
                "recommended": e is self.recommended,
                **e.design,
                **(dict(zip(self.spec.objectives, e.objectives, strict=True)) if e.simulated else {}),
                **e.figures,
                "bottleneck": e.bottleneck,
                "reason": e.reason,
            }
            for e in self.evaluations
        ]
        return pd.DataFrame(rows).rename_axis("trial")

    @property
    def front_table(self) -> pd.DataFrame:
        """The rows of :attr:`trials` on the front, by the first objective."""
        place = {id(e): index for index, e in enumerate(self.evaluations)}
        return self.trials.iloc[[place[id(e)] for e in self.front]].dropna(axis="columns", how="all")


def distinct(front: Sequence[Evaluation], recommended: Evaluation | None) -> tuple[Evaluation, ...]:
    """Return a front without designs that differ from the one before, or the recommended one, by less than ``SAME``."""
    kept: list[Evaluation] = []
    for evaluation in front:
        last = kept[-1] if kept else None
        twin = last is not None and np.allclose(evaluation.objectives, last.objectives, rtol=SAME, atol=0)
        if not twin:
            kept.append(evaluation)
        elif evaluation is recommended:
            kept[-1] = evaluation
    return tuple(kept)


def compare(spec: StudySpec, evaluation: Evaluation, recommended: Evaluation) -> str:
    """Say in a few words what a front design gives and takes against the recommended one."""
    parts = []
    for name, here, there in zip(spec.objectives, evaluation.objectives, recommended.objectives, strict=True):
        change = here / there - 1 if there else 0.0
        gain = -change if direction_of(name) == "minimize" else change
        word = "the same" if abs(gain) < SAME else f"{abs(gain):.0%} {'better' if gain > 0 else 'worse'}"
        parts.append(f"{brief(name)} {word}")
    return ", ".join(parts)
