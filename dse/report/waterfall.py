"""Where requests spend their time: a bar for each stage, which add up to the mean end-to-end latency."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from simulator import Result
from simulator.kernel.layout import DONE
from simulator.metrics import percentile
from simulator.timeline.stays import visits_by_place
from simulator.workload import PS_PER_S

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

FRONTEND, HOPS = "frontend", "hops"
"""Bars that belong to no stage."""


@dataclass(frozen=True)
class StageTime:
    """Time of the requests at one stage, a bar of the waterfall.

    Attributes
    ----------
    stage, label
        Its name, and what it is in words.
    mean_s
        Mean over all requests that were served; the bars add up to the mean end-to-end latency.
    p99_s
        99th percentile over those that pass it.
    waiting_mean_s
        Part of the mean spent before they were first served there.
    """

    stage: str
    label: str
    mean_s: float
    p99_s: float | None
    waiting_mean_s: float


@dataclass
class _Bar:
    """Seconds by request: NaN where a request does not come along."""

    stage: str
    label: str
    seconds: Floats
    waiting: Floats

    def add(self, requests: Integers, times_ps: Integers, waited_ps: Integers) -> None:
        """Count the time of some requests, none of them twice."""
        known = np.nan_to_num(self.seconds[requests])
        self.seconds[requests] = known + times_ps / PS_PER_S
        self.waiting[requests] += waited_ps / PS_PER_S

    def told(self, requests: int) -> StageTime:
        passing = self.seconds[~np.isnan(self.seconds)]
        return StageTime(
            stage=self.stage,
            label=self.label,
            mean_s=float(passing.sum() / requests),
            p99_s=percentile(passing, 99.0) if len(passing) else None,
            waiting_mean_s=float(np.nansum(self.waiting) / requests),
        )


def waterfall(result: Result) -> list[StageTime]:
    """Return the mean time of all requests that were served, by stage: an LLM's until the first token, and from then.

    What requests of other classes never pass counts as no time; the 99th percentile is over those that pass. Until the
    first token includes the wait for admission; from then on, where prefill and decode are apart, the way of the KV
    and the wait for a place there. Empty if nothing was served.
    """
    rows, plan = result.lowered.memory.requests, result.lowered.plan
    served = rows["state"] == DONE
    way = result.lowered.requests.way
    passes = np.array([len(stages) > 0 for stages in plan.ways])
    counted = served & (passes[0] if way is None else passes[way])
    requests = int(counted.sum())
    if not requests:
        return []
    whole = np.where(counted, (rows["done_ps"] - rows["arrival_ps"]) / PS_PER_S, 0.0)
    frontend = np.where(counted & (rows["llm_stage"] >= 0), result.frontend_s, np.nan)
    stages = _of_visits(result, counted) if _has_visits(result) else _of_rows(result, counted)
    rest = whole - sum(np.nan_to_num(bar.seconds) for bar in stages)
    # Differences of sums: what is no more than their rounding is nothing.
    rest[np.abs(rest) < 1e-12 + 1e-14 * whole] = 0.0
    bars = [
        _Bar(FRONTEND, "way to the engine and back", frontend, np.zeros(1)),
        *stages,
        _Bar(
            HOPS, "from stage to stage" if _has_visits(result) else "queues, and from stage to stage", rest, np.zeros(1)
        ),
    ]
    told = [bar.told(requests) for bar in bars]
    return [bar for bar in told if bar.mean_s > 0]


def _has_visits(result: Result) -> bool:
    """Return whether it is known when requests were at which stage: runs in windows do not keep it."""
    return bool(len(result.lowered.memory.visits)) or all(len(stages) <= 1 for stages in result.lowered.plan.ways)


def _of_visits(result: Result, counted: npt.NDArray[np.bool_]) -> list[_Bar]:
    rows, plan = result.lowered.memory.requests, result.lowered.plan
    bars: dict[str, _Bar] = {}
    for stage in plan.stages:
        name = f"{stage}: " if len(plan.llm_stages) > 1 else ""
        labels = {stage: stage}
        if stage in plan.llm_stages:
            labels = {
                f"{stage}.prefill": f"{name}until the first token",
                f"{stage}.decode": f"{name}from the first token on",
            }
        for key, label in labels.items():
            bars[key] = _Bar(key, label, np.full(len(rows), np.nan), np.zeros(len(rows)))
    for visits in visits_by_place(result):
        known = visits.of(counted[visits.request] & (visits.left_ps >= 0))
        for number, stage in enumerate(plan.stages):
            here = known.of(known.stage == number)
            waited = np.maximum(here.started_ps, here.reached_ps) - here.reached_ps
            if stage in plan.llm_stages:
                first = rows["first_token_ps"][here.request]
                bars[f"{stage}.prefill"].add(here.request, first - here.reached_ps, waited)
                bars[f"{stage}.decode"].add(here.request, here.left_ps - first, np.zeros_like(first))
            else:
                bars[stage].add(here.request, here.left_ps - here.reached_ps, waited)
    return list(bars.values())


def _of_rows(result: Result, counted: npt.NDArray[np.bool_]) -> list[_Bar]:
    """Return the bars of a run in windows, of which only sums over all services are known."""
    rows = result.lowered.memory.requests
    llm = counted & (rows["llm_stage"] >= 0)

    def seconds(since: str, until: str) -> Floats:
        return np.where(llm, (rows[until] - rows[since]) / PS_PER_S, np.nan)

    services = np.where(counted, result.service_s, np.nan)
    return [
        _Bar("services", "services", services, np.zeros(1)),
        _Bar("llm.prefill", "admitted, until the first token", seconds("scheduled_ps", "first_token_ps"), np.zeros(1)),
        _Bar("llm.decode", "from the first token on", seconds("first_token_ps", "finish_ps"), np.zeros(1)),
    ]
