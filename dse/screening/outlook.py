"""What to expect of designs that were not simulated: objectives, and whether they keep their promises."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from dse.evaluation import Evaluation
from dse.objectives import direction_of
from dse.screening.learning import Corrected, Factors, features
from dse.screening.pool_settings import Floats
from dse.screening.screen import Screen
from search_spaces.codes import Codes

BOUNDLESS = 300.0
"""Logarithm beyond which an objective counts as this much: its exponential is still a number."""
LATE = 0.3
"""Logarithm of the factor by which a trial may miss its promises until it counts half."""
BEYOND = math.log(3.0)
"""How far beyond its limit a figure counts; what misses a promise by more teaches nothing about those that keep it."""


@dataclass(frozen=True)
class Hope:
    """What to expect of designs.

    Attributes
    ----------
    log
        Logarithm of each objective, shape (rows, objectives).
    error
        Its standard error, shape (rows, objectives).
    feasible
        Probability that every promise is kept, shape (rows,).
    missed
        Logarithm of the factors by which promises are missed, summed, shape (rows,).
    """

    log: Floats
    error: Floats
    feasible: Floats
    missed: Floats

    def of(self, rows: npt.NDArray[np.intp]) -> Hope:
        """Return that of some of the designs."""
        return Hope(self.log[rows], self.error[rows], self.feasible[rows], self.missed[rows])


class Outlook:
    """Forecasts of designs, and what trials taught about them.

    Parameters
    ----------
    screen
        Of the study.
    """

    def __init__(self, screen: Screen) -> None:
        spec = screen.spec
        self._screen = screen
        self._signs = np.array([1.0 if direction_of(name) == "minimize" else -1.0 for name in spec.objectives])
        at_most = [c for c in spec.constraints if c.at_most is not None]
        at_least = [c for c in spec.constraints if c.at_least is not None]
        self._limited = [*(slo.name for slo in spec.slos), *(c.metric for c in (*at_most, *at_least))]
        self._excess = [*(slo.name for slo in spec.slos), *(c.name for c in (*at_most, *at_least))]
        limits = [*(slo.limit_s for slo in spec.slos), *(c.at_most for c in at_most), *(c.at_least for c in at_least)]
        self._limit_log = np.log(np.array(limits, dtype=np.float64))
        self._side = np.array([1.0] * (len(limits) - len(at_least)) + [-1.0] * len(at_least))
        penalties = [*(slo.penalty for slo in spec.slos), *(bound.penalty for bound in (*at_most, *at_least))]
        self._hard = np.array([penalty is None for penalty in penalties], dtype=np.bool_)
        self._known: list[Floats] = []
        self._missed: list[Floats] = []
        self._weights: list[Floats] = []
        self._factors = Factors(np.zeros((0, 1)), np.zeros((0, 1)), np.zeros(0))

    def predicted_log(self, forecast: npt.NDArray[Any]) -> Floats:
        """Return logarithms of the predictions of objectives and of what has a limit, shape (rows, outputs)."""
        names = [*self._screen.spec.objectives, *self._limited]
        return self._within(np.log(self._screen.predicted(forecast, names)))

    def _within(self, logs: Floats) -> Floats:
        """Return logarithms with what has a limit cut off well beyond it on either side."""
        first = len(self._signs)
        logs[:, first:] = np.clip(logs[:, first:], self._limit_log - 2 * BEYOND, self._limit_log + BEYOND)
        return logs

    def learn(self, codes: Codes, evaluations: Sequence[Evaluation]) -> None:
        """Take in trials, the rows of codes being their designs."""
        rows = [i for i, e in enumerate(evaluations) if e.simulated and all(map(math.isfinite, e.objectives))]
        if not rows:
            return
        codes = codes[rows]
        forecast = self._screen.forecast(codes)
        observed = np.array([self._observed(evaluations[i]) for i in rows])
        self._known.append(features(self._screen.space, codes, forecast))
        logs = self._within(np.log(np.maximum(observed, 1e-300)))
        self._missed.append(np.clip(logs - self.predicted_log(forecast), -BEYOND, BEYOND))
        # What queues without end has little in common with what keeps its promises.
        late = np.maximum(self._side * (logs[:, len(self._signs) :] - self._limit_log), 0.0).sum(axis=1)
        self._weights.append(1.0 / (1.0 + (late / LATE) ** 2))
        self._factors = Factors(*(np.concatenate(each) for each in (self._known, self._missed, self._weights)))

    def _observed(self, evaluation: Evaluation) -> list[float]:
        """Return the objectives and what has a limit."""
        ratios = [
            1.0 + side * evaluation.figures[f"{name}_excess"]
            for name, side in zip(self._excess, self._side, strict=True)
        ]
        return [*evaluation.objectives, *(r * math.exp(log) for r, log in zip(ratios, self._limit_log, strict=True))]

    def hope(self, codes: Codes, forecast: npt.NDArray[Any]) -> Hope:
        """Return what to expect of designs."""
        corrected: Corrected = self._factors.correct(
            features(self._screen.space, codes, forecast), self.predicted_log(forecast)
        )
        first = len(self._signs)
        room = (self._side * (self._limit_log - corrected.log[:, first:]))[:, self._hard]
        feasible = np.prod(norm.cdf(room / corrected.error[:, first:][:, self._hard]), axis=1)
        missed = np.maximum(-room, 0.0).sum(axis=1)
        return Hope(corrected.log[:, :first], corrected.error[:, :first], feasible, missed)

    def losses(self, hope: Hope, optimism: float) -> Floats:
        """Return objectives, maximised ones negated, better than expected by some standard errors, shape (rows, k)."""
        return np.asarray(self._signs * np.exp(np.minimum(hope.log - optimism * self._signs * hope.error, BOUNDLESS)))
