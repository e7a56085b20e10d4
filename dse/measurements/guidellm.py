"""Reports of GuideLLM (vLLM project, before that Neural Magic): one run for each of ``benchmarks`` in its JSON.

Two forms are read. In older releases the strategy is in ``args``, and a request has ``start_time``,
``first_token_time`` and ``end_time``; in newer ones it is in ``config``, and a request has ``request_start_time``,
``request_latency`` (s) and ``time_to_first_token_ms``. Requests that were answered are replayed one by one where the
report holds all of them; if it holds a sample, or none, the figures are those of ``metrics``, and lengths are means.

``inter_token_latency_ms`` of a request is TPOT. In ``metrics`` newer versions weight it by tokens, so it is left out
there; ``time_per_output_token_ms`` counts the first token and is never read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, nan
from pathlib import Path
from typing import Any, Final

import numpy as np

from dse.measurements.load import Given, Load, Records, measured_run, number, whole
from dse.measurements.measured_run import MeasuredRun
from simulator import Requests
from simulator.errors import SpecError

LATENCIES: Final = {"time_to_first_token_ms": ("ttft", 1e-3), "request_latency": ("e2e", 1.0)}
THROUGHPUTS: Final = {"requests_per_second": "requests_per_s", "output_tokens_per_second": "output_tokens_per_s"}
REPLAY: Final = "trace"
"""Strategy that sends requests at the times of a file."""
PERCENTILES: Final = ("p50", "p90", "p95", "p99")


def read_guidellm(report: Mapping[str, Any], file: Path, given: Given) -> list[MeasuredRun]:
    """Return a run for each benchmark of a report.

    Raises
    ------
    SpecError
        Naming the field at fault.
    """
    benchmarks = report.get("benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        raise SpecError(f"{file}: benchmarks: must be a list of at least one benchmark")
    runs, names = [], set()
    for index, benchmark in enumerate(benchmarks):
        run = _run(benchmark, f"{file}: benchmarks.{index}", file, given)
        if run is None:
            continue
        name = run.name if run.name not in names else f"{run.name} {index + 1}"
        names.add(name)
        runs.append(MeasuredRun(**{**vars(run), "name": name}))
    if not runs:
        raise SpecError(f"{file}: benchmarks: no request of any benchmark was answered")
    return runs


def _run(benchmark: Mapping[str, Any], source: str, file: Path, given: Given) -> MeasuredRun | None:
    users, rate, cv = _load(benchmark, source)
    replayed = _strategy(benchmark, source)[0] == REPLAY
    if given.concurrency is not None or given.rate_rps is not None:
        users, rate = given.concurrency, given.rate_rps or inf
    metrics = benchmark.get("metrics") or {}
    answered = (benchmark.get("requests") or {}).get("successful") or []
    count = _statistic(metrics, "request_latency", source).get("count")
    if not answered and not count:
        return None
    unpaced = "as recorded" if replayed else "all at once"
    label = f"{rate:g}/s" if rate < inf else f"{users} users" if users else unpaced
    notes: list[str] = []
    cut = (benchmark.get("requests") or {}).get("incomplete") or []
    if cut:
        notes.append(f"{len(cut)} requests were cut off at the end and are left out")
    failed = (benchmark.get("requests") or {}).get("errored") or []
    if failed:
        notes.append(f"{len(failed)} requests failed and are left out")
    if answered and (count is None or len(answered) >= number(count, "metrics.request_latency.count", source)):
        records = _records(answered, source)
        requests, found = records.requests(users if rate == inf else None), records.figures()
    elif replayed:
        raise SpecError(f"{source}.requests: holds a sample of a replayed trace; write the report with all requests")
    else:
        requests, found = _drawn(metrics, Load(int(count or 0), 1, 1, rate, cv, users), source)
        notes.append("every request has the mean lengths: the report does not hold all requests")
    return measured_run(
        f"{file.stem} {label}", given.deployment_of(file), requests, found, labels={"load": label}, notes=notes
    )


def _records(answered: Sequence[Mapping[str, Any]], source: str) -> Records:
    """Return the answered requests, of either form."""
    rows = []
    for index, request in enumerate(answered):
        place = f"{source}.requests.successful.{index}"

        def field(*names: str, request: Mapping[str, Any] = request, place: str = place) -> float:
            for name in names:
                if request.get(name) is not None:
                    return number(request[name], name, place)
            return nan

        start, end = field("request_start_time", "start_time"), field("request_end_time", "end_time")
        ttft = field("time_to_first_token_ms") / 1e3
        first = field("first_token_time") - start
        latency = field("request_latency")
        rows.append(
            (
                start,
                field("prompt_tokens"),
                field("output_tokens"),
                first if np.isnan(ttft) else ttft,
                end - start if np.isnan(latency) else latency,
            )
        )
    start_s, prompt, output, ttft_s, e2e_s = np.array(rows, dtype=np.float64).T
    if np.isnan(start_s).any():
        raise SpecError(f"{source}: requests.successful: request_start_time (or start_time) is missing")
    return Records(
        start_s=start_s - start_s.min(),
        prompt_tokens=whole(prompt, "requests.successful.prompt_tokens", source),
        output_tokens=whole(output, "requests.successful.output_tokens", source),
        ttft_s=ttft_s,
        e2e_s=e2e_s,
    )


def _drawn(metrics: Mapping[str, Any], load: Load, source: str) -> tuple[Requests, dict[str, float]]:
    """Return requests drawn for a load, and the figures of the summary."""
    means = []
    for names in (("prompt_token_count", "prompt_tokens"), ("output_token_count", "output_tokens")):
        found = [_statistic(metrics, name, source).get("mean") for name in names]
        mean = next((value for value in found if value), None)
        if mean is None:
            raise SpecError(f"{source}: metrics.{names[0]}: missing")
        means.append(number(mean, f"metrics.{names[0]}", source))
    figures: dict[str, float] = {}
    for name, (metric, seconds) in LATENCIES.items():
        block = _statistic(metrics, name, source)
        values = {"mean": block.get("mean"), **{p: (block.get("percentiles") or {}).get(p) for p in PERCENTILES}}
        for statistic, value in values.items():
            if value is not None:
                figures[f"{metric}_{statistic}_s"] = seconds * number(value, f"metrics.{name}.{statistic}", source)
    for name, figure in THROUGHPUTS.items():
        mean = _statistic(metrics, name, source).get("mean")
        if mean is not None:
            figures[figure] = number(mean, f"metrics.{name}.mean", source)
    drawn = Load(load.requests, means[0], means[1], load.rate_rps, load.burstiness_cv, load.concurrency)
    return drawn.build(), figures


def _statistic(metrics: Mapping[str, Any], name: str, source: str) -> Mapping[str, Any]:
    """Return the summary of a metric over answered requests; empty if there is none."""
    block = metrics.get(name) or {}
    if not isinstance(block, dict):
        raise SpecError(f"{source}: metrics.{name}: must be a summary by status, given {block!r}")
    successful = block.get("successful")
    return successful if isinstance(successful, dict) else {}


def _strategy(benchmark: Mapping[str, Any], source: str) -> tuple[object, Mapping[str, Any]]:
    """Return how requests were paced: the kind of strategy, and the strategy."""
    for place in ("config", "args"):
        holder = benchmark.get(place)
        if isinstance(holder, dict) and isinstance(strategy := holder.get("strategy"), dict):
            return strategy.get("type_") or strategy.get("type"), strategy
    raise SpecError(f"{source}: config.strategy (or args.strategy): missing")


def _load(benchmark: Mapping[str, Any], source: str) -> tuple[int | None, float, float]:
    """Return users, rate and coefficient of variation of the gaps."""
    kind, strategy = _strategy(benchmark, source)
    if kind == "synchronous":
        return 1, inf, 1.0
    if kind == "concurrent":
        streams = strategy.get("streams") or strategy.get("max_concurrency")
        return int(number(streams, "strategy.streams", source)), inf, 1.0
    if kind == "throughput":
        most = strategy.get("max_concurrency")
        return (None if most is None else int(number(most, "strategy.max_concurrency", source))), inf, 1.0
    if kind in ("constant", "poisson", "async"):
        rate = number(strategy.get("rate"), "strategy.rate", source)
        return None, rate, 1.0 if kind == "poisson" else 0.0
    if kind == REPLAY:
        # The times at which requests were sent are in the report.
        return None, inf, 1.0
    raise SpecError(
        f"{source}: strategy.type_: given {kind!r}; allowed: synchronous, concurrent, throughput, constant, poisson, "
        f"{REPLAY}"
    )
