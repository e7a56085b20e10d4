"""Which design is recommended at hundreds of prices, by arrays instead of one evaluation after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dse.evaluation import Evaluation
from dse.objectives import direction_of
from dse.pareto import knee, losses, non_dominated
from dse.repricing import DEVICES, TIERS, Prices
from dse.result import SAME
from dse.spec import StudySpec

PRICED: Final = ("usd_per_hour", "usd_per_million_output_tokens", "goodput_requests_per_usd")
"""Metrics that depend on prices."""


class PriceScan:
    """Recommendations at other prices of devices.

    What a design costs an hour is the same with every workload, and worst case, mean and penalties scale with it. So an
    objective in USD changes as the costs do, and one per USD by the inverse; the others, and what is feasible where
    nothing bounds prices, stay.

    Parameters
    ----------
    evaluations
        Feasible designs, each with its figures at the catalogue's prices.
    spec
        The study.
    today
        The design that is recommended at the catalogue's prices.
    """

    def __init__(self, evaluations: Sequence[Evaluation], spec: StudySpec, today: Evaluation) -> None:
        self._names = sorted({n for e in evaluations for n in e.figures if n.startswith(DEVICES)})
        self._counts = np.array([[e.figures.get(name, 0.0) for name in self._names] for e in evaluations])
        self._tiers_usd = np.array([first_figure(e, TIERS) for e in evaluations])
        self._values = np.array([e.objectives for e in evaluations])
        self._objectives = spec.objectives
        self._priced = np.array([name in PRICED for name in spec.objectives])
        self._rises = np.array([direction_of(name) == "minimize" for name in spec.objectives])
        self._usd_per_hour = self._costs(Prices())
        self._today = next((place for place, e in enumerate(evaluations) if e.design == today.design), None)

    @property
    def knows(self) -> bool:
        """Whether ratios of costs say all: everything has a price."""
        return bool((self._usd_per_hour > 0).all())

    def _costs(self, prices: Prices) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        usd = np.array([prices.of(name.removeprefix(DEVICES)) for name in self._names])
        return np.asarray(self._counts @ usd + self._tiers_usd)

    def changed(self, prices: Prices) -> bool:
        """Return whether another design than today's is recommended, and not just a twin of it."""
        ratio = (self._costs(prices) / self._usd_per_hour)[:, None]
        if not (ratio > 0).all():
            ratio = np.maximum(ratio, 1e-300)
        values = np.where(self._priced, np.where(self._rises, self._values * ratio, self._values / ratio), self._values)
        points = losses(values, self._objectives)
        front = non_dominated(points)
        best = int(front[knee(points[front])])
        if best == self._today:
            return False
        return self._today is None or not np.allclose(values[best], values[self._today], rtol=SAME, atol=0)


def first_figure(evaluation: Evaluation, name: str) -> float:
    """Return a figure that stands there for all workloads, or for each with the same value."""
    figures = evaluation.figures
    return figures[next(known for known in figures if known == name or known.endswith(f".{name}"))]
