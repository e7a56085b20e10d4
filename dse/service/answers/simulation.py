"""A trial simulated again, in full."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from dse import words
from dse.evaluation import Evaluation, deployment_of
from dse.report.chosen import LEVELS, latency_curve
from dse.report.waterfall import waterfall
from dse.service.answers.loads import load_of
from dse.service.answers.records import Curve, Figure, PoolUse, Series, Simulation, StageTime
from dse.service.answers.study_view import finite_or_none
from dse.spec import StudySpec
from simulator import Requests, Result, SpecError, simulate
from simulator.spec.slo import LatencyMetric
from simulator.timeline import series
from simulator.timeline.parts import parts_of

BINS: Final = 200
"""Of the series over time."""
LOGGED_REQUESTS: Final = 100_000
"""Requests whose time is shown as series at most: of a longer run those in its middle. They take about 100 MB."""
DIGITS: Final = 5
"""Significant digits of what is drawn."""

_SERIES: Final = {
    "queue_requests": ("requests that wait", "requests"),
    "running_requests": ("requests in batches", "requests"),
    "busy_share": ("clients that work", "share"),
    "kv_share": ("KV blocks in use", "share"),
    "prefill_tokens_per_s": ("prompt tokens read", "tokens/s"),
    "decode_tokens_per_s": ("tokens written", "tokens/s"),
    "power_w": ("power", "W"),
}


def simulation(spec: StudySpec, evaluation: dict[str, Any], case: int = 0) -> Simulation:
    """Simulate a trial again, as it was evaluated, and return all that is shown of it.

    Parameters
    ----------
    spec
        The study. Its load is built, and kept for the next question.
    evaluation
        The trial, as :meth:`Evaluation.to_json` wrote it.
    case
        Which of several workloads.

    Raises
    ------
    SpecError
        If the trial was not simulated, or there is no such workload.
    """
    trial = Evaluation.from_json(evaluation)
    if not trial.simulated:
        raise SpecError(f"trial {trial.number}: was not simulated: {trial.reason}")
    if not 0 <= case < len(spec.cases):
        raise SpecError(f"case: given {case}; allowed: 0 to {len(spec.cases) - 1}")
    load = load_of(spec)[case]
    plan = spec.cases[case].workload.plan
    result = simulate(deployment_of(trial.design, spec), load, plan=plan, log=_logged(load))
    times, drawn = _series(result)
    return Simulation(
        number=trial.number,
        bottleneck=result.bottleneck,
        latencies=list(_curves(result, spec)),
        stages=[StageTime(**vars(stay)) for stay in waterfall(result)],
        time_s=times,
        series=drawn,
        uses=list(_uses(result)),
    )


def _logged(load: Requests) -> bool | tuple[float, float]:
    """Return the time of which everything is noted: all of it, or that of the requests in the middle."""
    spare = len(load) - LOGGED_REQUESTS
    if spare <= 0:
        return True
    first, last = load.arrival_ps[spare // 2], load.arrival_ps[spare // 2 + LOGGED_REQUESTS - 1]
    return (float(first) / 1e12, float(last) / 1e12) if last > first else True


def _rounded(values: Any) -> list[float | None]:
    return [finite_or_none(float(f"{value:.{DIGITS}g}")) for value in values]


def _curves(result: Result, spec: StudySpec) -> Iterator[Curve]:
    """Yield the distribution of every latency that requests have, with the limits that the study sets."""
    metrics: list[LatencyMetric] = ["ttft", "tpot", "itl", "e2e"]
    metrics += ["session"] if result.lowered.requests.sessions is not None else []
    for metric in metrics:
        curve = latency_curve(result, metric)
        if curve is not None:
            limits = [
                {"percentile": slo.percentile, "limit_s": slo.limit_s} for slo in spec.slos if slo.metric == metric
            ]
            yield Curve(
                metric=metric,
                label=words.METRICS[metric],
                seconds=_rounded(curve),
                percent=[round(100 * float(level), 3) for level in LEVELS],
                limits=limits,
            )


def _series(result: Result) -> tuple[list[float], list[Series]]:
    """Return the start of each bin, and what is worth a look over time."""
    frame = series(result, BINS)
    found = []
    for column in frame.columns:
        part, _, name = str(column).rpartition("/")
        if name in _SERIES:
            label, unit = _SERIES[name]
            found.append(Series(part=part, name=name, label=label, unit=unit, values=_rounded(frame[column])))
    return [float(f"{start:.6g}") for start in frame.index], found


def _share(name: str, label: str, value: float) -> Figure:
    return Figure(name=name, label=label, value=finite_or_none(value), said=words.percent(value))


def _count(name: str, label: str, value: float) -> Figure:
    return Figure(name=name, label=label, value=finite_or_none(value), said=words.number(value))


def _uses(result: Result) -> Iterator[PoolUse]:
    """Yield what pools, services and tiers did."""
    for plan, use in zip(result.lowered.pools, result.pools, strict=True):
        shares = [_share(name, label, getattr(use, name)) for name, label in words.USES.items()]
        if plan.pool.prefix_cache:
            shares.append(_share("cache_hits", "prompt tokens spared by the prefix cache", use.cache_hits))
        shares.append(_count("preemptions", "preemptions", use.preemptions))
        yield PoolUse(name=use.name, bottleneck=use.bottleneck, shares=shares)
    named = parts_of(result)[len(result.pools) :]
    for part, spent in zip(named, result.services, strict=True):
        shares = [
            _share("busy", words.USES["busy"], spent.busy),
            _count("mean_batch", "requests a batch", spent.mean_batch),
            _count("requests", "requests served", spent.requests),
        ]
        yield PoolUse(name=part.name, bottleneck=spent.bottleneck, shares=shares)
    for tier in result.tiers:
        shares = [
            _count("fetched_tokens", "prompt tokens fetched", tier.fetched_tokens),
            _count("stored_tokens", "prompt tokens stored", tier.stored_tokens),
            _share("full", "full at the end", tier.full),
        ]
        yield PoolUse(name=tier.name, bottleneck="", shares=shares)
