"""Figures of a simulation by name: those of its summary, and those of its pools, tiers and stages.

================================ ====================================================================================
``ttft_p50_s``, …               any percentile of ttft, tpot, itl, e2e, session; all but itl also ``ttft_mean_s``
``usd_per_hour``, …             the others of :meth:`simulator.Result.summary`
``sessions``, ``sessions_per_s`` sessions, and sessions by seconds of the span; a request without one is one by itself
``cache_hits``                  share of prompt tokens that prefix caches and tiers spared, all pools together
``kv_peak``                     largest share of KV blocks in use on any client
``busy``, ``blocked_by_kv``     share of the span, averaged over the clients of all pools
``<tier>_fetched``              share of prompt tokens whose KV came from the tier
``<tier>_full``                 share of the tier's capacity that holds something at the end
``<stage>_queue_p90_s``, …      time waited for a stage, any percentile or mean; likewise ``<stage>_service_…``
``<stage>_busy``                share of the span in which the clients of a service worked
``<stage>_share_of_ttft``       time waited for a stage and served there until the first token, of all requests
                                together, as a share of their TTFT
``frontend_share_of_ttft``      likewise the way to the LLM's engine and back
``hops_share_of_ttft``          likewise the time between stages
``sustained_rps``               highest rate that keeps the comparison's ``slos``, or without any lets no queue grow:
                                that of :func:`dse.capacity.capacity_of`, about 16 simulations more
================================ ====================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from simulator import SLO, Deployment, Result, SpecError, Workload
from simulator.metrics import percentile

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

#: Figures that every simulation's summary has, but for percentiles.
SUMMARY: Final = (
    "requests",
    "rejected",
    "span_s",
    "requests_per_s",
    "output_tokens_per_s",
    "accelerators",
    "usd_per_hour",
    "usd_per_million_output_tokens",
    "energy_j_per_output_token",
    "preemptions",
)
#: Figures of pools that are averaged over clients.
MEANS: Final = ("busy", "blocked_by_kv", "blocked_by_batch", "blocked_by_budget")
#: Parts of the TTFT that are not at a stage.
_BETWEEN: Final = ("frontend", "hops")
#: Figures of sessions.
SESSIONS: Final = ("sessions", "sessions_per_s")
#: The highest rate within the promises.
SUSTAINED: Final = "sustained_rps"

_RANK = r"(?:p(?P<percent>\d+(?:\.\d+)?)|(?P<mean>mean))_s"
_LATENCY = re.compile(rf"(?P<metric>ttft|tpot|itl|e2e|session)_{_RANK}")
_STAGE_TIME = re.compile(rf"(?P<stage>.+)_(?P<part>queue|service)_{_RANK}")


class HasSpecs(Protocol):
    """What is simulated."""

    @property
    def deployment(self) -> Deployment:
        """Pools and services."""

    @property
    def workload(self) -> Workload:
        """Requests and the stages that they pass."""

    @property
    def slos(self) -> tuple[SLO, ...]:
        """Promises within which a rate must be sustained."""


def check_figure(name: str, cases: Iterable[HasSpecs], field: str) -> None:
    """Check that at least one of some cases has a figure.

    Raises
    ------
    SpecError
        Naming the field, the figure and those that are allowed.
    """
    import difflib

    allowed: dict[str, None] = {}
    for case in cases:
        if _has(name, case):
            return
        allowed.update(dict.fromkeys(_examples(case)))
    close = difflib.get_close_matches(name, allowed, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    raise SpecError(
        f"{field}: no figure {name!r}; {hint}allowed: {', '.join(allowed)}; other percentiles, or mean, instead of p90"
    )


def _has(name: str, case: HasSpecs) -> bool:
    latency, stage_time = _LATENCY.fullmatch(name), _STAGE_TIME.fullmatch(name)
    if latency:
        return _is_rank(latency) and not (latency["metric"] == "itl" and latency["mean"])
    if stage_time:
        return stage_time["stage"] in case.workload.plan.stages and _is_rank(stage_time)
    return name in _examples(case)


def _is_rank(match: re.Match[str]) -> bool:
    return match["percent"] is None or 0 < float(match["percent"]) <= 100


def _examples(case: HasSpecs) -> list[str]:
    """Return the figures of a case, those with percentiles once."""
    plan = case.workload.plan
    names = [*SUMMARY, *(f"{metric}_p90_s" for metric in ("ttft", "tpot", "itl", "e2e", "session"))]
    names += [*SESSIONS, "cache_hits", "kv_peak", *MEANS, SUSTAINED]
    names += [f"{tier.name}_{what}" for tier in case.deployment.tiers for what in ("fetched", "full")]
    names += [f"{stage}_{part}_p90_s" for stage in plan.stages for part in ("queue", "service")]
    names += [f"{service.name}_busy" for service in plan.services]
    return [*names, *(f"{part}_share_of_ttft" for part in (*plan.stages, *_BETWEEN))]


class Figures:
    """Figures of one simulation.

    Parameters
    ----------
    result, case
        Outcome, and what was simulated.
    """

    def __init__(self, result: Result, case: HasSpecs) -> None:
        self._result, self._case = result, case

    def __getitem__(self, name: str) -> float:
        """Return a figure; NaN if the simulation has no such figure."""
        if not _has(name, self._case):
            return float("nan")
        latency, stage_time = _LATENCY.fullmatch(name), _STAGE_TIME.fullmatch(name)
        if latency:
            return self._latency(latency)
        if stage_time:
            values = self._stage_time(stage_time["stage"], stage_time["part"])
            return _ranked(values, stage_time)
        if name.endswith("_share_of_ttft"):
            return self._shares.get(name.removesuffix("_share_of_ttft"), 0.0)
        return self._plain(name)

    def _latency(self, match: re.Match[str]) -> float:
        metric = match["metric"]
        if match["percent"]:
            return self._result.percentile_s(metric, float(match["percent"]))  # type: ignore[arg-type]
        return _ranked(getattr(self._result, f"{metric}_s"), match)

    def _plain(self, name: str) -> float:
        result = self._result
        if name in SESSIONS:
            return len(result.session_s) / (1.0 if name == "sessions" else result.span_s)
        if name == "cache_hits":
            clients = result.lowered.memory.clients
            spared = int(clients["hit_tokens"].sum())
            return spared / max(1, spared + int(clients["prefill_tokens"].sum()))
        if name == "kv_peak":
            return max(use.kv_peak for use in result.pools)
        if name in MEANS:
            sizes = [pool.clients for pool in self._case.deployment.pools]
            return float(np.average([getattr(use, name) for use in result.pools], weights=sizes))
        if name == SUSTAINED:
            from dse.capacity import capacity_of

            return capacity_of(self._case.deployment, self._case.workload, self._case.slos).rate_rps
        if name in self._uses:
            return self._uses[name]
        return float(self._summary[name])

    @cached_property
    def _summary(self) -> dict[str, float]:
        return self._result.summary()

    @cached_property
    def _uses(self) -> dict[str, float]:
        """Figures of tiers and services."""
        result, found = self._result, {}
        prompts = int(result.lowered.memory.clients["hit_tokens"].sum())
        prompts += int(result.lowered.memory.clients["prefill_tokens"].sum())
        for tier in self._case.deployment.tiers:
            # With several LLM stages each has tiers of its own, named after both.
            alike = [use for use in result.tiers if use.name == tier.name or use.name.startswith(f"{tier.name} of ")]
            found[f"{tier.name}_fetched"] = sum(use.fetched_tokens for use in alike) / max(1, prompts)
            found[f"{tier.name}_full"] = max((use.full for use in alike), default=0.0)
        for service, use in zip(self._case.deployment.services, result.services, strict=True):
            found[f"{service.stage}_busy"] = use.busy
        return found

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return self._result.requests()

    def _stage_time(self, stage: str, part: str) -> Floats:
        """Return the time that each request waited for a stage or was served there; NaN where it was not."""
        column = f"{stage}_{part}_s"
        if column in self._frame:
            return self._frame[column].to_numpy()
        # A single stage has no columns of its own: it is the LLM, reached at the arrival.
        frame = self._frame
        waited = frame["queue_s"].to_numpy()
        return waited if part == "queue" else (frame["e2e_s"] - frame["frontend_s"]).to_numpy() - waited

    @cached_property
    def _shares(self) -> dict[str, float]:
        """Share of the TTFT of all served requests together that each stage, the way to the engine and hops have."""
        frame, plan = self._frame, self._case.workload.plan
        way = self._result.lowered.requests.way
        ways = np.zeros(len(frame), dtype=np.int64) if way is None else np.asarray(way)
        ttft, waited, frontend = (frame[name].to_numpy() for name in ("ttft_s", "queue_s", "frontend_s"))
        seconds: dict[str, float] = dict.fromkeys([*plan.stages, *_BETWEEN], 0.0)
        for number, stages in enumerate(plan.ways):
            llm = plan.llm_of_way(number)
            if llm is None:
                continue
            here = (ways == number) & ~np.isnan(ttft)
            if llm not in stages or not here.any():
                continue
            queued = self._stage_time(llm, "queue")[here]
            reached = waited[here] - queued
            seconds[llm] += float((ttft[here] - frontend[here] - reached).sum())
            seconds["frontend"] += float(frontend[here].sum())
            before = np.zeros_like(reached)
            for stage in stages[: stages.index(llm)]:
                times = self._stage_time(stage, "queue")[here] + self._stage_time(stage, "service")[here]
                seconds[stage] += float(times.sum())
                before += times
            seconds["hops"] += float((reached - before).sum())
        whole = float(np.nansum(ttft))
        return {stage: value / whole if whole else float("nan") for stage, value in seconds.items()}


def _ranked(values: Floats, match: re.Match[str]) -> float:
    """Return the percentile or mean that a name asks for, of the values that are there; NaN of none."""
    values = values[~np.isnan(values)]
    if match["percent"]:
        return percentile(values, float(match["percent"]))
    return float(values.mean()) if len(values) else float("nan")
