"""What a simulation reached beside what it could reach at best."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from dse.bounds import Bounds, bounds_of
from dse.objectives import METRICS as OF_OBJECTIVES
from dse.objectives import direction_of, value_of
from simulator.spec.slo import SLO, LatencyMetric
from tests.dse.random_pairs import Pair

METRICS: Final[tuple[LatencyMetric, ...]] = ("ttft", "tpot", "itl", "e2e", "session")
PERCENTS: Final = (50.0, 90.0, 99.0, 100.0)
LATENCIES: Final = tuple(f"{metric}_p{percent:g}_s" for metric in METRICS for percent in PERCENTS)
MEANS: Final = tuple(f"{metric}_mean_s" for metric in METRICS)
OBJECTIVES: Final = tuple(OF_OBJECTIVES)
SLOS: Final = (
    SLO(metric="ttft", percentile=90, limit_s=0.5),
    SLO(metric="tpot", percentile=90, limit_s=0.03),
    SLO(metric="e2e", percentile=99, limit_s=5),
    SLO(metric="itl", percentile=50, limit_s=0.02),
)
RELATIVE_SLACK: Final = 1e-9


@dataclass(frozen=True)
class Compared:
    """One figure: what bounds say is the best, and what came out.

    Attributes
    ----------
    share
        How near the bound is: 1 if it is reached, 0 if it says nothing; above 1 if the bound is wrong.
    """

    name: str
    bound: float
    value: float

    @property
    def share(self) -> float:
        if math.isnan(self.bound) or math.isnan(self.value):
            return 1.0 if math.isnan(self.bound) == math.isnan(self.value) else math.inf
        least, most = self.bound, self.value
        if self.name in OBJECTIVES and direction_of(self.name) == "maximize":
            least, most = most, least
        if least == most:
            return 1.0
        return least / most if most else math.inf

    @property
    def is_wrong(self) -> bool:
        return self.share > 1 + RELATIVE_SLACK


def compared(pair: Pair, bounds: Bounds | None = None) -> list[Compared]:
    """Return every figure of a pair beside its bound."""
    result = pair.result
    bounds = bounds or bounds_of(pair.deployment, pair.requests, pair.plan)
    found = [
        Compared(name, bounds.best(name, SLOS), value_of(name, result, SLOS))
        for name in (*LATENCIES, *MEANS, *OBJECTIVES)
    ]
    found.append(Compared("span_s", bounds.span_s, result.span_s))
    for name in ("ttft_s", "tpot_s", "e2e_s", "session_s"):
        # Each request alone: the one whose bound is nearest, or wrong.
        least, most = getattr(bounds, name), getattr(result, name)
        with np.errstate(invalid="ignore"):
            shares = np.where(least == most, 1.0, least / most)
        if len(shares):
            worst = int(np.argmax(shares))
            found.append(Compared(f"{name} of each", float(least[worst]), float(most[worst])))
    for scale in (0.02, 0.1, 0.5, 1.0, 5.0):
        # Promises around what is reached, all of which no bound may forbid where they are kept.
        slos = [SLO(metric=slo.metric, percentile=slo.percentile, limit_s=slo.limit_s * scale) for slo in SLOS[:2]]
        kept = all(result.violation(slo) <= 0 for slo in slos)
        found.append(Compared("promises together", float(bounds.breaks_promises(slos)), float(not kept)))
    for metric in ("ttft", "e2e"):
        for percent in PERCENTS:
            # The tightest promise that is kept.
            reached = result.percentile_s(metric, percent)
            if math.isfinite(reached) and reached > 0:
                slo = SLO(metric=metric, percentile=percent, limit_s=reached * (1 + RELATIVE_SLACK))
                found.append(Compared(f"{slo.name} just kept", float(bounds.breaks_promises([slo])), 0.0))
    for slo in SLOS:
        reached, best = result.violation(slo), bounds.violation(slo)
        found.append(Compared(f"{slo.name} violation", best + 1, reached + 1))
        found.append(Compared(f"{slo.name} missed", 1 - bounds.attainment(slo), 1 - result.attainment(slo)))
    return found
