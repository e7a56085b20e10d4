"""The highest rate that a deployment sustains within its promises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dse.capacity.search import FIRST_STEP, Search, search
from dse.capacity.trial import OVERLOAD, QUEUE, REJECTED, Load, Trial, attempt
from dse.confidence.interval import Interval, mean_interval
from dse.words import label, number, seconds
from simulator import SLO, Deployment, SpecError, Workload
from simulator.lowering import LLM_ALONE_PLAN
from simulator.performance.price import deployment_usd_per_hour

if TYPE_CHECKING:
    import pandas as pd

NEXT_STEP = 1.05
"""First step of a replication that starts at the answer of the one before: they differ by a few percent."""

Heard = Callable[[Trial], None]
"""Told of each rate that was tried."""


@dataclass(frozen=True, eq=False)
class Capacity:
    """The highest rate that a deployment sustains within its promises.

    Attributes
    ----------
    deployment, slos
        What was asked.
    searches
        One of each replication; the first of the workload itself.
    usd_per_hour
        Price of the deployment.
    counted
        What rates count: ``requests``, or ``sessions``, each of several requests.
    """

    deployment: Deployment
    slos: tuple[SLO, ...]
    searches: tuple[Search, ...]
    usd_per_hour: float
    counted: str = "requests"

    @property
    def rates_rps(self) -> tuple[float, ...]:
        """The answer of each replication, requests (sessions) per second; 0 where no rate holds."""
        return tuple(each.rate_rps for each in self.searches)

    @property
    def rate_rps(self) -> float:
        """The answer: mean over the replications, requests (sessions) per second."""
        return float(np.mean(self.rates_rps))

    @property
    def interval_rps(self) -> Interval:
        """The answer with the interval that holds its expected value in 95 of 100 cases; no limits without others."""
        return mean_interval(np.array(self.rates_rps))

    @property
    def bracket_rps(self) -> tuple[float, float]:
        """The lowest rate that is an answer, and the highest that was the first to fail, over the replications."""
        return min(self.rates_rps), max(each.failing_rps for each in self.searches)

    @property
    def holds_again_rps(self) -> tuple[float, ...]:
        """Rates above the first that fails which hold again, in the workload's own draw."""
        return self.searches[0].holds_again_rps

    @property
    def limited_by(self) -> str:
        """What breaks first above the answer, in words."""
        limit = self.searches[0].limit
        resource = f"; bottleneck {limit.bottleneck}" if limit.bottleneck else ""
        return f"{broken_words(limit, self.slos)} at {number(limit.rate_rps)}/s{resource}"

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each rate that was tried: what each SLO reached, in the run and in its last pass, and why not."""
        import pandas as pd

        rows = [
            {
                "replication": number,
                "rate_rps": trial.rate_rps,
                "holds": trial.holds,
                **trial.reached_s,
                **{f"{slo.name}_again": trial.reached_again_s.get(slo.name, math.nan) for slo in self.slos},
                "growth_requests": trial.growth_requests,
                "broken": trial.broken,
                "bottleneck": trial.bottleneck,
            }
            for number, each in enumerate(self.searches)
            for trial in each.trials
        ]
        return pd.DataFrame(rows)


def broken_words(trial: Trial, slos: Sequence[SLO]) -> str:
    """Return in words why a rate is not sustained."""
    if trial.broken == QUEUE:
        return f"the queue grows by {number(trial.growth_requests)} requests from pass to pass"
    if trial.broken == OVERLOAD:
        return "the load would take more than 100 days"
    if trial.broken == REJECTED:
        return "every request is rejected"
    slo = next(slo for slo in slos if slo.name == trial.broken)
    reached = trial.reached_s[slo.name]
    limit = f"of {seconds(slo.limit_s)} allowed"
    if reached <= slo.limit_s:
        again = seconds(trial.reached_again_s[slo.name])
        return f"{label(slo.name)} {again} {limit} once the requests come again ({seconds(reached)} in one run)"
    return f"{label(slo.name)} {seconds(reached)} {limit}"


def capacity_of(
    deployment: Deployment,
    workload: Workload | Load,
    slos: Sequence[SLO] = (),
    *,
    tolerance: float = 0.01,
    replications: int = 1,
    start_rps: float | None = None,
    jobs: int = 1,
    heard: Heard | None = None,
) -> Capacity:
    """Return the highest rate that a deployment sustains within its promises.

    Parameters
    ----------
    deployment
        Pools, services, routers.
    workload
        What arrives, at any rate; or requests already built, with the plan of their stages.
    slos
        Promises. Without any the answer is the highest rate at which the queue does not grow.
    tolerance
        Largest ratio, less 1, of the rate that fails and the rate that holds.
    replications
        Draws of the load; see :func:`~dse.confidence.replicate.replicate`. Each has an answer of its own.
    start_rps
        Rate to try first; the workload's own if absent.
    jobs
        Processes for the replications after the first. The answer does not depend on it.
    heard
        Told of each rate that is tried for the first replication.

    Returns
    -------
    Capacity
        The rate, its bracket, all that was tried, and what limits it.

    Raises
    ------
    SpecError
        If the deployment is impossible, or the workload has less than 100 requests or no rate.

    Examples
    --------
    >>> from simulator import SLO, Deployment, Workload
    >>> deployment = Deployment.parse({"pools": [{"model": "llama-3.1-8b", "accelerator": "h100-sxm"}]})
    >>> workload = Workload.parse({"requests": 500, "arrivals": {"process": "poisson", "rate_rps": 2},
    ...                            "lengths": {"statistics": "azure-2023-conversation"}})
    >>> capacity = capacity_of(deployment, workload, [SLO(metric="ttft", percentile=90, limit_s=0.5)])
    >>> capacity.bracket_rps[0] <= capacity.rate_rps < capacity.bracket_rps[1]
    True
    """
    if not 0 < tolerance <= 1:
        raise SpecError(f"tolerance: must be above 0 and at most 1, given {tolerance:g}")
    if replications < 1:
        raise SpecError(f"replications: must be at least 1, given {replications}")
    if len({slo.name for slo in slos}) < len(slos):
        raise SpecError(f"slos: one limit for each metric and percentile, given {', '.join(s.name for s in slos)}")
    load = Load.of(workload)
    promises = tuple(slos)
    start = load.requests.rate_rps if start_rps is None else start_rps
    first = _search(deployment, load, promises, start, tolerance, FIRST_STEP, heard)
    searches = [first]
    if replications > 1:
        from joblib import Parallel, delayed

        near = first.rate_rps or start
        searches += Parallel(n_jobs=jobs)(
            delayed(_search)(deployment, load.replication(number), promises, near, tolerance, NEXT_STEP)
            for number in range(1, replications)
        )
    price = deployment_usd_per_hour(deployment, load.plan or LLM_ALONE_PLAN)
    return Capacity(deployment, promises, tuple(searches), price, load.what)


def _search(
    deployment: Deployment,
    load: Load,
    slos: tuple[SLO, ...],
    start_rps: float,
    tolerance: float,
    first_step: float,
    heard: Heard | None = None,
) -> Search:
    def tried(rate_rps: float) -> Trial:
        trial, _ = attempt(deployment, load, rate_rps, slos)
        if heard:
            heard(trial)
        return trial

    return search(tried, start_rps, lowest_rps=load.lowest_rps, tolerance=tolerance, first_step=first_step)
