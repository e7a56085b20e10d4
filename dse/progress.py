"""How a running study fares, in numbers that only ever improve."""

from __future__ import annotations

import time

import numpy as np

from dse.evaluation import Evaluation
from dse.pareto import Floats, losses, non_dominated, reference_point, relative_hypervolume
from dse.spec import MOST_TRIALS, StudySpec


class Progress:
    """Counts and front of a running study; a listener of :func:`dse.study.run_study`.

    Attributes
    ----------
    simulated, excluded, feasible
        Designs simulated, designs that could not be simulated, and simulated designs that keep every promise.
    """

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.simulated = self.excluded = self.feasible = 0
        self._start = time.perf_counter()
        self._before = 0
        self._front: Floats = np.zeros((0, len(spec.objectives)))
        self._box: tuple[Floats, Floats] | None = None

    def restored(self, evaluation: Evaluation) -> None:
        """Count a design of an earlier session."""
        self._count(evaluation)
        self._before = self.simulated

    def evaluated(self, evaluation: Evaluation) -> None:
        """Count a design and add it to the front."""
        self._count(evaluation)

    def _count(self, evaluation: Evaluation) -> None:
        self.simulated += evaluation.simulated
        self.excluded += not evaluation.simulated
        self.feasible += evaluation.feasible
        if evaluation.feasible:
            point = losses(np.array([evaluation.objectives]), self.spec.objectives)
            self._front = np.vstack([self._front, point])
            self._front = self._front[non_dominated(self._front)]

    @property
    def front_size(self) -> int:
        """Number of designs on the front so far."""
        return len(self._front)

    @property
    def hypervolume(self) -> float:
        """Volume dominated so far, in units of the front at the time when it first had two designs.

        1 is that front's box; the figure grows without bound and is for watching, not for comparing studies.
        """
        if self._box is None:
            if len(self._front) < 2:
                return 0.0
            self._box = self._front.min(axis=0), reference_point(self._front)
        return relative_hypervolume(self._front, *self._box)

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until the budget is used; None before the first simulation of a session, or without end."""
        new = self.simulated - self._before
        if not new or self.spec.budget.trials == MOST_TRIALS:
            return None
        elapsed = time.perf_counter() - self._start
        return elapsed / new * max(0, self.spec.budget.trials - self.simulated)
