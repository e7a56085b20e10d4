"""Which designs the report shows, what it calls them, and what their simulations say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dse import words
from dse.evaluation import Evaluation
from dse.objectives import direction_of
from dse.pareto import losses, scaled
from dse.result import SAME, StudyResult, compare
from simulator import Deployment, Result
from simulator.spec.slo import LatencyMetric

Floats = npt.NDArray[np.float64]

SHOWN = 12
"""Designs with figures of their own; of several workloads fewer, so that there are no more simulations than this."""
SHOWN_AT_LEAST = 4
"""Designs with figures of their own, however many workloads there are."""
LEAST = 5
"""Designs shown if none is feasible."""

LEVELS: Floats = np.concatenate([np.linspace(0, 0.9, 91), np.linspace(0.9, 0.99, 61)[1:], np.linspace(0.99, 1, 46)[1:]])
"""Cumulative shares at which latency curves are drawn: closer where promises are made."""


@dataclass(frozen=True, eq=False)
class Named:
    """A design with the short name under which it appears everywhere in the report."""

    tag: str
    evaluation: Evaluation
    deployment: Deployment
    recommended: bool = False


@dataclass(frozen=True)
class Rival:
    """A design that was not recommended, and why.

    Attributes
    ----------
    design
        The design.
    role
        What makes it worth a look.
    trade
        What it gives and takes, from :func:`dse.result.compare`.
    gains
        By objective, how much of the front's range it is better (positive) or worse (negative).
    distance
        To the best of every objective, in units of the front's ranges.
    """

    design: Named
    role: str
    trade: str
    gains: tuple[float, ...]
    distance: float


def total_violation(evaluation: Evaluation) -> float:
    """Return how far a design misses its promises in all."""
    return sum(max(0.0, violation) for violation in evaluation.constraints.values())


def spread(points: Floats, count: int, first: Sequence[int]) -> list[int]:
    """Return the indices of at most ``count`` points, far from each other, among them all of ``first``.

    Each next point is the one farthest from those chosen before, so that clusters count once.
    """
    chosen = list(first)
    distance = np.linalg.norm(points[:, None] - points[chosen], axis=2).min(axis=1)
    while len(chosen) < min(count, len(points)):
        distance[chosen] = -1.0
        farthest = int(np.argmax(distance))
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(points - points[farthest], axis=1))
    return sorted(chosen)


class Chosen:
    """What the report shows of a result; simulations are run once, on demand."""

    def __init__(self, result: StudyResult) -> None:
        self.result = result
        self.cases = result.spec.cases
        self._simulations: dict[tuple[str, int], Result] = {}

    def _named(self, prefix: str, evaluations: Sequence[Evaluation]) -> tuple[Named, ...]:
        best = self.result.recommended
        return tuple(
            Named(f"{prefix}{i}", e, self.result.deployment(e), e is best) for i, e in enumerate(evaluations, 1)
        )

    @cached_property
    def front(self) -> tuple[Named, ...]:
        """The designs of the front, F1 being the best by the first objective."""
        return self._named("F", self.result.front)

    @cached_property
    def recommended(self) -> Named | None:
        """The knee."""
        return next((design for design in self.front if design.recommended), None)

    @cached_property
    def nearest(self) -> tuple[Named, ...]:
        """The simulated designs that miss their promises least; empty if one is feasible."""
        if self.front:
            return ()
        return self._named("N", sorted(self.result.simulated, key=total_violation)[:LEAST])

    @cached_property
    def shown(self) -> tuple[Named, ...]:
        """The designs with figures of their own: the recommended one, its rivals, and others spread over the front."""
        if self.recommended is None:
            return self.nearest
        rivals = [rival.design for rival in self.rivals if rival.design in self.front]
        first = [self.front.index(design) for design in (self.recommended, *rivals)]
        count = max(SHOWN_AT_LEAST, SHOWN // len(self.cases))
        picks = spread(self.scaled(self.result.front), count, first)
        return tuple(self.front[i] for i in picks)

    @cached_property
    def tags(self) -> dict[int, str]:
        """Short names by identity of the evaluation."""
        return {id(design.evaluation): design.tag for design in (*self.front, *self.nearest)}

    def simulation(self, design: Named, case: int = 0) -> Result:
        """Return the full simulation of a design with one of the study's workloads."""
        if (design.tag, case) not in self._simulations:
            self._simulations[design.tag, case] = self.result.simulate(design.evaluation, case)
        return self._simulations[design.tag, case]

    def simulations(self, design: Named) -> tuple[Result, ...]:
        """Return the full simulations of a design with all of the study's workloads."""
        return tuple(self.simulation(design, case) for case in range(len(self.cases)))

    def name_of(self, evaluation: Evaluation) -> str:
        """Return a design's short name and its hardware; without a short name the hardware alone."""
        tag = self.tags.get(id(evaluation), "")
        return (
            f"{tag} ({words.short(self.result.deployment(evaluation))})"
            if tag
            else words.short(self.result.deployment(evaluation))
        )

    @cached_property
    def sure(self) -> dict[str, dict[str, Any]]:
        """What replications say of designs, by what they are called there; none that share a name with another."""
        rows = self.result.sureness.rows if self.result.sureness else ()
        count = Counter(row["design"] for row in rows)
        return {row["design"]: row for row in rows if count[row["design"]] == 1}

    def replicated(self, design: Named) -> dict[str, Any] | None:
        """Return what replications say of a design, a row of :class:`dse.confidence.sureness.Sureness`."""
        return self.sure.get(words.row(design.deployment))

    def scaled(self, evaluations: Sequence[Evaluation]) -> Floats:
        """Return losses in units of the front's ranges, from its best values; shape (n, objectives)."""
        names = self.result.spec.objectives
        front = losses(np.array([e.objectives for e in self.result.front]), names)
        return scaled(losses(np.array([e.objectives for e in evaluations]), names), front)

    def distance(self, design: Named) -> float:
        """Return how far a design is from the best of every objective."""
        return float(np.linalg.norm(self.scaled([design.evaluation])[0]))

    @cached_property
    def rivals(self) -> tuple[Rival, ...]:
        """For each objective, the nearest front design that is better in it, and the best of all."""
        best = self.recommended
        if best is None:
            return ()
        names, found = self.result.spec.objectives, dict[str, Rival]()
        if len(names) == 1:
            return self._runners_up(best)
        points = self.scaled(self.result.front)
        here = points[self.front.index(best)]
        values = losses(np.array([d.evaluation.objectives for d in self.front]), names)
        own = losses(np.array([best.evaluation.objectives]), names)[0]
        for column, name in enumerate(names):
            rank = [
                i
                for i in np.argsort(np.linalg.norm(points - here, axis=1), kind="stable")
                if values[i, column] < own[column] - SAME * abs(own[column])
            ]
            if not rank:
                continue
            last = min(rank, key=lambda i: (values[i, column], points[i].sum()))
            for index, role in (
                (rank[0], f"next with better {words.brief(name)}"),
                (last, f"best {words.brief(name)}"),
            ):
                design = self.front[index]
                found.setdefault(design.tag, self._rival(design, role))
        return tuple(sorted(found.values(), key=lambda rival: int(rival.design.tag[1:])))

    def _runners_up(self, best: Named) -> tuple[Rival, ...]:
        """Return the next best feasible designs of a study with one objective."""
        sign = 1.0 if direction_of(self.result.spec.objectives[0]) == "minimize" else -1.0
        others = sorted(
            (e for e in self.result.feasible if e is not best.evaluation), key=lambda e: sign * e.objectives[0]
        )
        return tuple(self._rival(design, "runner-up") for design in self._named("R", others[:3]))

    def _rival(self, design: Named, role: str) -> Rival:
        assert self.recommended
        change = self.scaled([self.recommended.evaluation])[0] - self.scaled([design.evaluation])[0]
        trade = compare(self.result.spec, design.evaluation, self.recommended.evaluation)
        return Rival(design, role, trade, tuple(float(gain) for gain in change), self.distance(design))


def quantiles(values: Floats) -> Floats:
    """Return the values that shares :data:`LEVELS` do not exceed, by the simulator's definition of a percentile."""
    ranks = np.maximum(np.ceil(LEVELS * len(values) - 1e-9).astype(int) - 1, 0)
    return np.asarray(np.sort(values)[ranks])


def latency_curve(simulation: Result, metric: LatencyMetric) -> Floats | None:
    """Return the latency at each of :data:`LEVELS`, in seconds; None if no request has it."""
    if metric == "itl":
        edges, counts = simulation.itl_histogram
        if not len(edges):
            return None
        cumulative = np.cumsum(counts)
        wanted = np.maximum(np.ceil(LEVELS * cumulative[-1] - 1e-9), 1)
        return np.asarray(edges[np.searchsorted(cumulative, wanted)])
    values: Floats = getattr(simulation, f"{metric}_s")
    return quantiles(values) if len(values) else None
