"""Optimistic bounds of a deployment on a workload: what its simulation can never beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from dse.bounds.demand import Machine, largest_sum, least_end_s
from dse.bounds.lateness import least_late
from dse.bounds.load import Load, load_of
from dse.bounds.promises import is_overdue, late_allowed
from dse.bounds.queues import first_tokens_s
from dse.bounds.service_floor import ServiceFloor, in_services, service_floor
from dse.bounds.stage_floor import Path, StageFloor, stage_floor
from dse.bounds.token_gaps import least_gap_s, most_gaps_within
from dse.objectives import direction_of, latency_of, per_usd
from simulator import catalog
from simulator.lowering import LLM_ALONE_PLAN, check_services, check_stages
from simulator.lowering.calls import reply_ps_of_ways
from simulator.lowering.tiers import is_expected
from simulator.metrics import percentile
from simulator.performance.power import tdp_w
from simulator.performance.price import deployment_usd_per_hour, devices_of
from simulator.spec.deployment import Deployment
from simulator.spec.pipeline_plan import PipelinePlan
from simulator.spec.slo import SLO, LatencyMetric
from simulator.workload import PS_PER_S, Requests

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SLACK: Final = 1e-11
"""Share that is taken off every bound, for rounding in floating point."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """What a simulation of a deployment cannot beat, however its events fall; arrays have the shape (requests,).

    Attributes
    ----------
    deployment, load
        Of what.
    stages, services
        Floors of each LLM stage and of each service stage, by name.
    waiting
        Whether requests wait for each other. Without, bounds hold however many clients the pools have.
    """

    deployment: Deployment
    load: Load
    stages: dict[str, StageFloor]
    services: dict[str, ServiceFloor]
    waiting: bool = True
    _percentiles: dict[tuple[str, float], float] = field(default_factory=dict)
    _kept_machines: dict[str, list[Machine]] = field(default_factory=dict)

    # -- each request alone

    @cached_property
    def _with_llm(self) -> Flags:
        found = np.zeros(len(self.load), dtype=np.bool_)
        for stage in self.stages.values():
            found[stage.rows] = True
        return found

    @cached_property
    def _several(self) -> Flags:
        return np.asarray((self.load.rows["output_tokens"] > 1) & self._with_llm)

    @cached_property
    def _before_s(self) -> Floats:
        """Least time before the LLM stage; without one, to the end."""
        return in_services(self.load, self.services, before=True)

    @cached_property
    def _after_s(self) -> Floats:
        """Least time behind the LLM stage, the hop from there apart."""
        return in_services(self.load, self.services, before=False)

    @cached_property
    def _goes_on(self) -> Flags:
        """Which requests pass a stage behind the LLM."""
        llms = self.load.plan.llm_stages
        return np.array(
            [bool(way) and any(n in llms for n in way) and way[-1] not in llms for way in self.load.plan.ways]
        )[self.load.way]

    def _of_stages(self, otherwise: float, of: Callable[[StageFloor], Floats]) -> Floats:
        """Return a figure of the LLM stage that each request passes, and something else for those without."""
        found = np.full(len(self.load), otherwise)
        for stage in self.stages.values():
            found[stage.rows] = of(stage)
        return found

    @cached_property
    def _frontend_s(self) -> Floats:
        return self._of_stages(0.0, lambda stage: stage.least(lambda path: path.request_s))

    @cached_property
    def _first_token_s(self) -> Floats:
        """Least time from a request's arrival to its first token by the clock of the engine."""
        found = self._before_s + self._of_stages(np.inf, lambda stage: stage.least(lambda path: path.first_token_s))
        for name, stage in self.stages.items() if self.waiting else ():
            queued = first_tokens_s(self.deployment, name, stage, self.load, self._before_s)
            if queued is not None:
                found[stage.rows] = np.maximum(found[stage.rows], queued)
        return found

    @cached_property
    def _done_s(self) -> Floats:
        """Least time from a request's arrival to its end by the clock of the engine; infinite if never."""
        on = self._goes_on

        def least(of: Callable[[Path], Floats]) -> Floats:
            """Return the least of a figure, with the hop behind the LLM where there is one."""
            return self._of_stages(
                0.0,
                lambda stage: np.where(
                    on[stage.rows], stage.least(lambda path: of(path) + path.hop_s), stage.least(of)
                ),
            )

        whole = self._before_s + least(lambda path: path.whole_s)
        if self._with_llm.any():
            queued = self._first_token_s + least(lambda path: path.decode_s)
            whole = np.where(self._with_llm, np.maximum(whole, queued), whole)
        return whole + self._after_s

    @cached_property
    def earliest_s(self) -> Floats:
        """Earliest arrival of each request; infinite for those that never arrive."""
        load = self.load
        arrival = np.where(load.follows, np.inf, load.arrival_s)
        if not load.generations:
            return arrival
        reply_ps = reply_ps_of_ways(load.plan, self.deployment.pools)[load.way]
        for each in load.generations:
            end = (arrival + self._done_s)[each.leads]
            reply = np.zeros(len(each.rows), dtype=np.int64)
            np.maximum.at(reply, each.follower, reply_ps[each.leads])
            # The earliest time by which as many as are needed are done.
            order = np.lexsort((end, each.follower))
            first = np.searchsorted(each.follower, np.arange(len(each.rows)))
            enough = first + each.needs - 1
            released = end[order][enough]
            wait_ps = np.maximum(1, load.rows["wait_ps"][each.rows] + reply)
            arrival[each.rows] = released + wait_ps / PS_PER_S
        return arrival

    @cached_property
    def served(self) -> Flags:
        """Which requests are served to their end; the others are rejected, or never arrive."""
        return np.isfinite(self.earliest_s + self._done_s)

    @cached_property
    def ttft_s(self) -> Floats:
        """Least time to first token, infinite if rejected: of requests whose way has an LLM stage."""
        alone = self._of_stages(np.inf, lambda stage: stage.least(lambda path: path.first_token_s + path.request_s))
        seconds = np.maximum(self._before_s + alone, self._first_token_s + self._frontend_s)
        return self._if_served(seconds)[self._with_llm]

    @cached_property
    def e2e_s(self) -> Floats:
        """Least end-to-end latency, infinite if rejected: of requests that pass any stage."""
        return self._if_served(self._done_s + self._frontend_s)[self.load.with_stage]

    @cached_property
    def tpot_s(self) -> Floats:
        """Least time per output token after the first, infinite if rejected: of requests with at least two."""
        seconds = self._of_stages(np.inf, lambda stage: stage.least(lambda path: path.decode_s))
        later = np.maximum(self.load.rows["output_tokens"] - 1, 1)
        return self._if_served(seconds / later)[self._several]

    @cached_property
    def session_s(self) -> Floats:
        """Least time from the arrival of a session's first request to the end of its last, infinite if never."""
        whole = self._if_served(self._done_s + self._frontend_s)
        if self.load.session_rows is None:
            return whole
        first, last = self.load.session_rows
        return np.asarray((self.earliest_s + whole)[last] - self.load.arrival_s[first])

    def _if_served(self, seconds: Floats) -> Floats:
        return np.where(self.served, seconds, np.inf)

    # -- all requests together

    def _machines(self, metric: LatencyMetric) -> list[Machine]:
        """Return what must be done of the requests of each LLM stage that arrive by themselves."""
        if metric not in self._kept_machines:
            self._kept_machines[metric] = [
                machine
                for stage in self.stages.values()
                if self.waiting and (self.served[stage.rows] & ~self.load.follows[stage.rows]).any()
                for machine in self._machines_of(metric, stage)
            ]
        return self._kept_machines[metric]

    def _machines_of(self, metric: LatencyMetric, stage: StageFloor) -> Iterator[Machine]:
        known = np.flatnonzero(~self.load.follows[stage.rows] & self.served[stage.rows])
        rows = stage.rows[known]
        among = self._with_llm if metric == "ttft" else self.load.with_stage
        place, arrival = (np.cumsum(among) - 1)[rows], self.load.arrival_s[rows]
        around = float(self._before_s[rows].min() + self._frontend_s[rows].min())
        if metric == "e2e":
            around += float(self._after_s[rows].min())
        for work in stage.prompt_machines if metric == "ttft" else stage.machines:
            yield Machine(arrival, work[known], place, around)
        if metric == "ttft" and stage.counts_answers:
            # Who has a first token has a place in a batch or is at its end, so that most have been served to the end.
            answers, most = stage.answers
            for work in stage.machines:
                yield Machine(arrival, work[known], place, around, answers[known], most)

    def _values_s(self, metric: LatencyMetric) -> Floats:
        return cast(Floats, getattr(self, f"{metric}_s"))

    def _queued_s(self, metric: LatencyMetric, longer_than_s: float, late: int) -> Iterator[Floats]:
        """Yield values that the latencies of all requests exceed when both are sorted.

        Only such in which more than ``late`` latencies may exceed ``longer_than_s`` for want of time.
        """
        values = self._values_s(metric)
        for machine in self._machines(metric):
            if machine.greatest_backlog_s + machine.around_s > longer_than_s:
                yield from machine.latencies_s(values, longer_than_s, late)

    def percentile_s(self, metric: LatencyMetric, percent: float) -> float:
        """Return a bound from below on a percentile of a latency, seconds; NaN if no request has it.

        Parameters
        ----------
        metric
            ``ttft``, ``tpot``, ``itl``, ``e2e`` or ``session``.
        percent
            From 0 to 100.
        """
        key = (metric, percent)
        if key not in self._percentiles:
            self._percentiles[key] = self._percentile_s(metric, percent) * (1 - SLACK)
        return self._percentiles[key]

    def _percentile_s(self, metric: LatencyMetric, percent: float) -> float:
        if metric == "itl":
            return least_gap_s([(stage, self.served[stage.rows]) for stage in self.stages.values()], percent)
        values = self._values_s(metric)
        found = percentile(values, percent)
        if metric not in ("ttft", "e2e") or not np.isfinite(found):
            return found
        rank = max(0, int(np.ceil(len(values) * percent / 100 - 1e-9)) - 1)
        late = len(values) - 1 - rank
        rejected = int(np.isinf(values).sum())
        for machine in self._machines(metric):
            found = max(found, machine.least_latency_s(late - rejected))
        for queued in self._queued_s(metric, found, late):
            found = max(found, percentile(queued, percent))
        return found

    def mean_s(self, metric: LatencyMetric) -> float:
        """Return a bound from below on the mean of a latency, seconds; NaN if no request has it."""
        if metric != "itl":
            values = self._values_s(metric)
            return float(values.mean()) * (1 - SLACK) if len(values) else float("nan")
        several = self._several & self.served
        gaps = int((self.load.rows["output_tokens"][several] - 1).sum(dtype=np.int64))
        seconds = self._of_stages(0.0, lambda stage: stage.least(lambda path: path.decode_s))
        return float(seconds[several].sum()) / gaps * (1 - SLACK) if gaps else float("nan")

    def violation(self, slo: SLO) -> float:
        """Return by which fraction of its limit an SLO is exceeded at least: above zero if it cannot hold."""
        reached = self.percentile_s(slo.metric, slo.percentile)
        return -1.0 if np.isnan(reached) else reached / slo.limit_s - 1.0

    def breaks_promises(self, slos: Sequence[SLO]) -> bool:
        """Tell whether no simulation can keep all of these SLOs: one alone, or TTFT and TPOT together."""
        if any(self.violation(slo) > 0 or self._too_many_late(slo) for slo in slos):
            return True
        firsts = [slo for slo in slos if slo.metric == "ttft"]
        return any(self._overdue(first, each) for first in firsts for each in slos if each.metric == "tpot")

    def _too_many_late(self, slo: SLO) -> bool:
        """Tell whether more requests must be later than an SLO's limit than it allows, for want of time."""
        if slo.metric not in ("ttft", "e2e"):
            return False
        allowed = late_allowed(len(self._values_s(slo.metric)), slo.percentile)
        return any(
            machine.open_s is None
            and least_late(machine.arrival_s, machine.work_s, slo.limit_s - machine.around_s, allowed) > allowed
            for machine in self._machines(slo.metric)
        )

    def _overdue(self, first: SLO, each: SLO) -> bool:
        """Tell whether requests that get their tokens in time are more than can be served in time.

        Who is in time by both SLOs has its last token ``first + each · (output tokens - 1)`` after its arrival.
        """
        late = late_allowed(len(self.ttft_s), first.percentile) + late_allowed(len(self.tpot_s), each.percentile)
        later_s = (each.limit_s * (self.load.rows["output_tokens"] - 1))[self.load.with_stage]
        return any(
            # Deadlines come after arrivals, so that no more can be overdue than ever waits.
            machine.greatest_backlog_s > largest_sum(machine.work_s, late)
            and is_overdue(
                machine.arrival_s, machine.arrival_s + first.limit_s + later_s[machine.place], machine.work_s, late
            )
            for machine in self._machines("e2e")
        )

    @cached_property
    def span_s(self) -> float:
        """Least time from the first arrival to the end of the last request."""
        arrival = self.earliest_s
        known = np.isfinite(arrival)
        ends = np.where(self.served, arrival + self._done_s, np.where(known, arrival, self.load.arrival_s))
        found = max(float(ends.max()), 1 / PS_PER_S)
        for stage in self.stages.values() if self.waiting else ():
            here = np.flatnonzero(self.served[stage.rows])
            if not len(here):
                continue
            here = here[np.argsort(arrival[stage.rows[here]], kind="stable")]
            rows = stage.rows[here]
            around = float(self._before_s[rows].min() + self._after_s[rows].min())
            for work in stage.machines:
                found = max(found, least_end_s(arrival[rows], work[here]) + around)
        return found * (1 - SLACK)

    @cached_property
    def output_tokens(self) -> int:
        """Tokens generated."""
        generated = self.served & self._with_llm
        return int(self.load.rows["output_tokens"][generated].sum(dtype=np.int64))

    @cached_property
    def requests_total(self) -> int:
        """Requests that arrive; those that only join others are not counted."""
        return int(self.load.with_stage.sum())

    @cached_property
    def requests_served(self) -> int:
        """Requests served, those that only join others not counted."""
        return int((self.served & self.load.with_stage).sum())

    @cached_property
    def usd_per_hour(self) -> float:
        """Price of all devices, and of the memory of tiers."""
        return deployment_usd_per_hour(self.deployment, self.load.plan)

    @cached_property
    def idle_w(self) -> float:
        """Power of all devices when they do nothing."""
        devices = devices_of(self.deployment, self.load.plan)
        return sum(count * catalog.device(name).idle_w for name, count in devices.items())

    @cached_property
    def energy_j(self) -> float:
        """Least energy of all devices over the span."""
        dynamic = self._of_stages(0.0, lambda stage: stage.dynamic_j)
        return self.idle_w * self.span_s + float(dynamic[self.served].sum())

    def most_good_requests(self, slos: Sequence[SLO]) -> int:
        """Return the most requests that can meet every limit of ``slos``."""
        good = self.served & self.load.with_stage
        for slo in slos:
            limit_s = slo.limit_s * (1 + SLACK)
            if slo.metric in ("tpot", "itl"):
                good[self._several] &= self.tpot_s <= limit_s
            elif slo.metric == "ttft":
                good[self._with_llm] &= self.ttft_s <= limit_s
            elif slo.metric == "e2e":
                good[self.load.with_stage] &= self.e2e_s <= limit_s
        most = int(good.sum())
        # Of those that have the latency of an SLO no more are good than are within its limit.
        for slo in slos:
            if slo.metric in ("ttft", "e2e"):
                late = len(self._values_s(slo.metric)) - self._most_within(slo)
                most = min(most, self.requests_total - late)
        return most

    def _most_within(self, slo: SLO) -> int:
        """Return the most requests (sessions) within the limit of an SLO."""
        limit_s = slo.limit_s * (1 + SLACK)
        most = int((self._values_s(slo.metric) <= limit_s).sum())
        if slo.metric in ("ttft", "e2e"):
            for queued in self._queued_s(slo.metric, limit_s, 0):
                most = min(most, int((queued <= limit_s).sum()))
        return most

    def attainment(self, slo: SLO) -> float:
        """Return the largest share of requests (for ``itl``: of gaps) that can be within an SLO's limit."""
        if slo.metric == "itl":
            return most_gaps_within([(stage, self.served[stage.rows]) for stage in self.stages.values()], slo.limit_s)
        count = len(self._values_s(slo.metric))
        return self._most_within(slo) / count if count else 1.0

    def best(self, objective: str, slos: Sequence[SLO] = ()) -> float:
        """Return the best value that a metric can have; infinitely good without a bound, NaN if nothing has it.

        Parameters
        ----------
        objective
            Name of a metric (:mod:`dse.objectives`).
        slos
            Promises that it depends on.

        Raises
        ------
        SpecError
            If there is no such metric.
        """
        latency = latency_of(objective)
        if latency:
            metric, percent = latency
            return self.mean_s(metric) if percent is None else self.percentile_s(metric, percent)
        worst = np.inf if direction_of(objective) == "minimize" else -np.inf
        if objective not in _BEST:
            return -worst
        value = _BEST[objective](self, slos)
        return value * (1 - SLACK) if worst > 0 else value * (1 + SLACK)


_BEST: Final[dict[str, Callable[[Bounds, Sequence[SLO]], float]]] = {
    "usd_per_hour": lambda bounds, _: bounds.usd_per_hour,
    "usd_per_million_output_tokens": lambda bounds, _: per_token(
        bounds.usd_per_hour * bounds.span_s / 3600 * 1e6, bounds
    ),
    "accelerators": lambda bounds, _: bounds.deployment.accelerators,
    "energy_j_per_output_token": lambda bounds, _: per_token(bounds.energy_j, bounds),
    "energy_j_per_request": lambda bounds, _: (
        bounds.energy_j / bounds.requests_served if bounds.requests_served else float("inf")
    ),
    "power_mean_w": lambda bounds, _: bounds.idle_w,
    "power_peak_w": lambda bounds, _: tdp_w(bounds.deployment, bounds.load.plan),
    "output_tokens_per_s": lambda bounds, _: bounds.output_tokens / bounds.span_s,
    "output_tokens_per_s_per_accelerator": lambda bounds, _: (
        bounds.output_tokens / bounds.span_s / bounds.deployment.accelerators
    ),
    "requests_per_s": lambda bounds, _: bounds.requests_served / bounds.span_s,
    "requests_per_s_per_accelerator": lambda bounds, _: (
        bounds.requests_served / bounds.span_s / bounds.deployment.accelerators
    ),
    "goodput_rps": lambda bounds, slos: bounds.most_good_requests(slos) / bounds.span_s,
    "goodput_requests_per_usd": lambda bounds, slos: per_usd(
        bounds.most_good_requests(slos) / bounds.span_s, bounds.usd_per_hour
    ),
    "slo_attainment": lambda bounds, slos: bounds.most_good_requests(slos) / bounds.requests_total,
    "slo_attainment_least": lambda bounds, slos: min(bounds.attainment(slo) for slo in slos),
    "utilisation_mean": lambda *_: 1.0,
    "utilisation_busiest": lambda *_: 1.0,
}


def per_token(amount: float, bounds: Bounds) -> float:
    """Return an amount by tokens generated."""
    return amount / bounds.output_tokens if bounds.output_tokens else float("inf")


def bounds_of(
    deployment: Deployment, requests: Requests, plan: PipelinePlan = LLM_ALONE_PLAN, *, waiting: bool = True
) -> Bounds:
    """Return what a simulation of a deployment on a workload cannot beat.

    Parameters
    ----------
    deployment
        Pools, services, link and tiers.
    requests
        What arrives.
    plan
        Stages of the requests and the ways through them; one LLM alone if absent.
    waiting
        Whether requests wait for each other. Without, latencies and the span hold however many clients the pools have.

    Raises
    ------
    SpecError
        As :func:`simulator.simulate` before it runs: an unknown name, a model that does not fit, a stage without
        clients.
    """
    check_stages(deployment, plan.llm_stages)
    check_services(deployment.services, plan.services)
    load = load_of(requests, plan, expected=is_expected(deployment.tiers))
    stages = {
        name: stage_floor(deployment, name, rows, load.lengths[name])
        for name, rows in load.stage_rows.items()
        if len(rows)
    }
    services = {stage.name: service_floor(deployment.services, stage.name, load) for stage in plan.services}
    return Bounds(deployment, load, stages, services, waiting)
