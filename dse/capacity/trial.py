"""One rate tried on one deployment: are the promises kept, and are they kept for good?

The requests are the same at every rate, only time is stretched: common random numbers, so that the outcome is a
function of the rate. What is no arrival keeps its length: think times and tool calls of sessions, deadlines.

A queue that grows needs time to break a promise, and a run may end before. So where the promises are kept the same
requests are played ``PASSES`` times in a row, without a break. The rate is sustained if the last pass keeps the
promises, too, and leaves no larger backlog than the one before. As both passes bring the same requests, a queue that
was empty once in between ends both in the same state; what grows is what arrives and is not served, and no luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from dse.confidence.percentiles import latencies, rows_of
from dse.confidence.replicate import replicate
from dse.confidence.resample import played
from simulator import SLO, Deployment, Overload, Requests, Result, SpecError, Workload, build_requests, simulate
from simulator.metrics import percentile
from simulator.spec.pipeline_plan import PipelinePlan
from simulator.workload.requests import MAX_DURATION_S, PS_PER_S

PASSES: Final = 3
"""How often the requests are played to see whether a rate is sustained."""
LEAST_REQUESTS: Final = 100
"""Requests (sessions) that a question of capacity needs."""
GROWTH_SHARE: Final = 0.005
"""Share of the requests of a pass by which the backlog may grow: half of the tolerance of 1 % of the rate."""
GROWTH_LEAST: Final = 3
"""Requests by which the backlog may grow in any case: which client has how many may differ from pass to pass."""

QUEUE, OVERLOAD, REJECTED = "queue", "overload", "rejected"
"""What may be broken beside SLOs: the queue grows from pass to pass; the run does not end; every request is refused."""


def at_rate(requests: Requests, rate_rps: float) -> Requests:
    """Return the same requests at another mean rate, reached by stretching time, as a trace's ``rate_rps`` does.

    Parameters
    ----------
    requests
        What arrives, at any finite rate.
    rate_rps
        Requests (sessions) per second: gaps by time from the first to the last arrival.
    """
    stretch = requests.rate_rps / rate_rps
    return replace(requests, arrival_ps=np.rint(requests.arrival_ps * stretch).astype(np.int64))


@dataclass(frozen=True, eq=False)
class Load:
    """Requests whose rate is to be found, and the stages they pass.

    Attributes
    ----------
    requests
        At any finite rate.
    plan
        Stages of the requests; one LLM alone if absent.
    workload
        What they were built from; None if not known.

    Raises
    ------
    SpecError
        If there are too few requests, or they all arrive at once (a closed loop), so that there is no rate.
    """

    requests: Requests
    plan: PipelinePlan | None = None
    workload: Workload | None = None

    def __post_init__(self) -> None:
        """Check that there is a rate to change."""
        count = self.requests.session_count
        if count < LEAST_REQUESTS:
            raise SpecError(f"workload: {count} {self.what}; a capacity needs at least {LEAST_REQUESTS}")
        if math.isinf(self.requests.rate_rps):
            raise SpecError(f"workload: all {count} {self.what} arrive at once (a closed loop has no rate to change)")

    @classmethod
    def of(cls, workload: Workload | Load) -> Load:
        """Return the load of a workload."""
        if isinstance(workload, Load):
            return workload
        return cls(build_requests(workload), workload.plan, workload)

    @property
    def what(self) -> str:
        """What rates count: requests, or sessions, each of several requests."""
        return "requests" if self.requests.sessions is None else "sessions"

    def replication(self, number: int) -> Load:
        """Return another draw of the load; 0 is the load itself (see :func:`~dse.confidence.replicate.replicate`)."""
        return replace(self, requests=replicate(self.workload, self.requests, number)) if number else self

    @cached_property
    def passes(self) -> Requests:
        """The requests, :data:`PASSES` times in a row."""
        return played(self.requests, PASSES)

    @property
    def lowest_rps(self) -> float:
        """Lowest rate whose arrivals fit the simulator's clock."""
        return PASSES * self.requests.session_count / (0.9 * MAX_DURATION_S)


@dataclass(frozen=True)
class Trial:
    """What happened at one rate.

    Attributes
    ----------
    rate_rps
        Requests (sessions) per second.
    holds
        Whether the promises are kept, for good.
    reached_s
        By SLO, its percentile in the run that ``dse simulate`` makes, seconds; NaN if no request has it.
    reached_again_s
        The same in the last pass; of ``itl`` over all passes. Empty if the promises broke before.
    growth_requests
        By how much the last pass lengthened the backlog; NaN if not played again.
    broken
        What broke, and by the largest fraction: name of an SLO, ``queue``, ``overload`` or ``rejected``; else empty.
    bottleneck
        Pool and resource that limit the deployment.
    """

    rate_rps: float
    holds: bool
    reached_s: dict[str, float]
    reached_again_s: dict[str, float] = field(default_factory=dict)
    growth_requests: float = math.nan
    broken: str = ""
    bottleneck: str = ""


def attempt(deployment: Deployment, load: Load, rate_rps: float, slos: Sequence[SLO]) -> tuple[Trial, Result | None]:
    """Simulate a deployment at a rate and judge it, as the module says.

    Parameters
    ----------
    deployment
        Pools, services, routers.
    load
        What arrives, with its passes.
    rate_rps
        Requests (sessions) a second to squeeze or stretch it to.
    slos
        Promises that must hold.

    Returns
    -------
    tuple
        The trial, and the run as ``dse simulate`` makes it; None of an overload.

    Raises
    ------
    SpecError
        If the deployment is impossible.
    """
    try:
        result = simulate(deployment, at_rate(load.requests, rate_rps), plan=load.plan)
    except Overload:
        return Trial(rate_rps, False, {slo.name: math.inf for slo in slos}, broken=OVERLOAD), None
    reached = {slo.name: result.percentile_s(slo.metric, slo.percentile) for slo in slos}
    first = Trial(rate_rps, False, reached, bottleneck=result.bottleneck)
    if result.rejected == result.requests_total:
        return replace(first, broken=REJECTED), result
    if broken := _most_broken(reached, slos):
        return replace(first, broken=broken), result
    try:
        long = simulate(deployment, at_rate(load.passes, rate_rps), plan=load.plan)
    except Overload:
        return replace(first, broken=OVERLOAD), result
    again = {slo.name: _in_last_pass_s(long, slo, load) for slo in slos}
    before, after = _backlogs(long, load)[-2:]
    broken = _most_broken(again, slos) or (QUEUE if after - before > _growth_allowed(load, before) else "")
    trial = replace(
        first, holds=not broken, reached_again_s=again, growth_requests=float(after - before), broken=broken
    )
    return trial, result


def _most_broken(reached_s: dict[str, float], slos: Sequence[SLO]) -> str:
    """Return the name of the SLO that is exceeded by the largest fraction; empty if all hold (NaN does)."""
    excess = {slo.name: reached_s[slo.name] / slo.limit_s - 1 for slo in slos}
    broken = {name: value for name, value in excess.items() if value > 0}
    return max(broken, key=lambda name: broken[name]) if broken else ""


def _in_last_pass_s(result: Result, slo: SLO, load: Load) -> float:
    """Return what the last pass reached of an SLO, seconds; all passes of ``itl``, whose gaps have no order."""
    if slo.metric == "itl":
        return result.percentile_s(slo.metric, slo.percentile)
    count = load.requests.session_count if slo.metric == "session" else len(load.requests)
    last = rows_of(result, slo.metric) >= (PASSES - 1) * count
    return percentile(latencies(result, slo.metric)[last], slo.percentile)


def _backlogs(result: Result, load: Load) -> npt.NDArray[np.int64]:
    """Return how many sessions (requests) are under way at the last arrival of each pass, shape (PASSES,).

    What was rejected left at once.
    """
    requests, count = result.lowered.requests, load.requests.session_count
    first = slice(None) if requests.sessions is None else requests.sessions.first_rows
    begin_s = requests.arrival_ps[first] / PS_PER_S
    end_s = begin_s + np.where(np.isfinite(result.session_s), result.session_s, 0.0)
    return np.array(
        [np.count_nonzero(end_s[: number * count] > begin_s[number * count - 1]) for number in range(1, PASSES + 1)]
    )


def _growth_allowed(load: Load, backlog: int) -> float:
    """Return by how many requests a steady backlog may differ between passes.

    Where routers or drafts draw anew in every pass, the number under way differs like a Poisson number of that mean:
    two standard deviations.
    """
    return max(GROWTH_LEAST, GROWTH_SHARE * load.requests.session_count, 2 * math.sqrt(backlog))
