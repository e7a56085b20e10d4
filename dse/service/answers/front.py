"""The front of a study that grows, and how it grew."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dse.evaluation import Evaluation
from dse.pareto import Floats, knee, losses, non_dominated
from dse.service.answers.records import HypervolumePoint

MOST_STEPS = 200
"""Steps of the hypervolume that are told."""


class FrontKeeper:
    """The designs that no other dominates, kept up to date as feasible ones arrive.

    Of equal designs the one that was proposed first stays, in whatever order they arrive, as in
    :attr:`dse.result.StudyResult.front`.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self._objectives = objectives
        self.designs: tuple[Evaluation, ...] = ()
        self.recommended: Evaluation | None = None

    def add(self, feasible: Sequence[Evaluation]) -> None:
        """Take in feasible designs."""
        if not feasible:
            return
        contenders = sorted((*self.designs, *feasible), key=lambda evaluation: evaluation.number)
        points = losses(np.array([evaluation.objectives for evaluation in contenders]), self._objectives)
        kept = non_dominated(points)
        self.designs = tuple(contenders[place] for place in kept)
        self.recommended = self.designs[knee(points[kept])]


def steps(shares: Floats) -> list[HypervolumePoint]:
    """Return where a hypervolume rose, and its last value: the largest rises if there are too many to tell."""
    if not len(shares):
        return []
    rises = np.diff(shares, prepend=0.0)
    largest = np.argsort(-rises, kind="stable")[: MOST_STEPS - 1]
    told = np.union1d(largest[rises[largest] > 0], [len(shares) - 1])
    return [HypervolumePoint(simulated=int(place) + 1, share=float(shares[place])) for place in told]
