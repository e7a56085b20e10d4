"""Results of ``vllm bench serve``, of its predecessor ``benchmark_serving.py``, and of SGLang's ``bench_serving``.

One JSON object a run; several, one a line, after ``--append-result`` and from SGLang. Read are ``--save-result`` (means
and percentiles) and ``--save-detailed`` (lists with an entry for each request). What some versions do not write:

- ``start_times``: written with the lists by newer versions. Without them requests are drawn at ``request_rate``.
- ``burstiness``: the shape of gamma gaps, so the coefficient of variation is its root's inverse. Absent: Poisson.
- ``e2el``: only with ``--percentile-metrics``; SGLang calls it ``e2e_latency``.
- ``output_lens`` are the server's count, or the tokenizer's of the text; failed requests have 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any, Final

import numpy as np

from dse.measurements.load import Floats, Given, Load, Records, measured_run, number, numbers, whole
from dse.measurements.measured_run import MeasuredRun
from simulator import Requests
from simulator.errors import SpecError

METRICS: Final = {"ttft": "ttft", "tpot": "tpot", "e2el": "e2e", "e2e_latency": "e2e"}
"""Latencies that are compared. ``itl`` is not: one event may carry several tokens."""

_FIGURE: Final = re.compile(r"(mean|median|p\d+(?:\.\d+)?)_(\w+)_ms")


def read_vllm_benchmark(results: list[Mapping[str, Any]], file: Path, given: Given) -> list[MeasuredRun]:
    """Return a run for each result of a file.

    Parameters
    ----------
    results
        The objects of the file.
    file
        Where they come from: names runs and errors.
    given
        What was served, and the load where the file does not tell.

    Raises
    ------
    SpecError
        Naming the field at fault.
    """
    runs = []
    for index, result in enumerate(results):
        name = file.stem if len(results) == 1 else f"{file.stem} {index + 1}"
        runs.append(_run(result, name, f"{file}: {name}" if len(results) > 1 else str(file), file, given))
    return runs


def _run(result: Mapping[str, Any], name: str, source: str, file: Path, given: Given) -> MeasuredRun:
    deployment = given.deployment_of(file)
    notes: list[str] = []
    rate = _rate(result, source, given)
    users = given.concurrency or _users(result, source)
    found: dict[str, float] = {}
    if result.get("ttfts") and result.get("input_lens") and result.get("output_lens"):
        records = _records(result, source, notes)
        found = records.figures()
        if records.start_s is not None:
            requests = records.requests(None if _sent_in_time(result, rate, users) else users)
        else:
            load = Load(len(records.ttft_s), records.prompt_tokens.tolist(), records.output_tokens.tolist())
            requests = _with_rate(load, result, source, rate, users, notes)
    else:
        completed = int(number(_need(result, source, "completed", "num_prompts"), "completed", source))
        if completed < 1:
            raise SpecError(f"{source}: completed: no request was answered")
        means = [
            number(_need(result, source, f"total_{kind}_tokens"), f"total_{kind}_tokens", source) / completed
            for kind in ("input", "output")
        ]
        notes.append("every request has the mean lengths: the file has no lists (--save-detailed)")
        requests = _with_rate(Load(completed, means[0], means[1]), result, source, rate, users, notes)
    for field, value in result.items():
        match = _FIGURE.fullmatch(field)
        if match and match[2] in METRICS and value is not None:
            statistic = "p50" if match[1] == "median" else match[1]
            found.setdefault(f"{METRICS[match[2]]}_{statistic}_s", number(value, field, source) / 1e3)
    for field, figure in (("request_throughput", "requests_per_s"), ("output_throughput", "output_tokens_per_s")):
        if result.get(field) is not None:
            found[figure] = number(result[field], field, source)
    labels = {"load": _load_label(rate, users, result)}
    if result.get("model_id"):
        labels["served"] = str(result["model_id"])
    return measured_run(name, deployment, requests, found, labels=labels, notes=notes)


def _records(result: Mapping[str, Any], source: str, notes: list[str]) -> Records:
    """Return the answered requests one by one."""
    prompts, outputs, ttfts = (
        numbers(result[field], field, source) for field in ("input_lens", "output_lens", "ttfts")
    )
    gaps = result.get("itls")
    starts = numbers(result["start_times"], "start_times", source) if result.get("start_times") else None
    listed = {
        "output_lens": outputs,
        "ttfts": ttfts,
        "itls": gaps,
        "start_times": starts,
        "errors": result.get("errors"),
    }
    for field, values in listed.items():
        if values is not None and len(values) != len(prompts):
            raise SpecError(f"{source}: {field}: has {len(values)} entries, input_lens {len(prompts)}")
    after: Floats = np.full(len(prompts), np.nan)
    if gaps is not None:
        after = np.array([float(numbers(each, "itls", source).sum()) for each in gaps])
    answered = outputs >= 1
    if result.get("errors"):
        answered &= np.array([not error for error in result["errors"]])
    if not answered.any():
        raise SpecError(f"{source}: output_lens: no request was answered")
    if not answered.all():
        notes.append(f"{np.count_nonzero(~answered)} of {len(answered)} requests failed and are left out")
    return Records(
        start_s=None if starts is None else starts[answered],
        prompt_tokens=whole(prompts[answered], "input_lens", source),
        output_tokens=whole(outputs[answered], "output_lens", source),
        ttft_s=ttfts[answered],
        e2e_s=(ttfts + after)[answered],
    )


def _with_rate(
    load: Load, result: Mapping[str, Any], source: str, rate: float, users: int | None, notes: list[str]
) -> Requests:
    """Return requests drawn for a load of which only the rate or the users are known."""
    if result.get("ramp_up_strategy"):
        raise SpecError(f"{source}: ramp_up_strategy: a rate that changes needs start_times (--save-detailed)")
    if not _sent_in_time(result, rate, users):
        return replace(load, concurrency=users).build()
    burstiness = result.get("burstiness")
    cv = 1.0 if burstiness is None else number(burstiness, "burstiness", source) ** -0.5
    if rate < inf:
        notes.append("times of arrival are drawn: the file has only their rate")
    return replace(load, rate_rps=rate, burstiness_cv=cv).build()


def _sent_in_time(result: Mapping[str, Any], rate: float, users: int | None) -> bool:
    """Whether requests were sent when they were due, not when an earlier one was answered.

    By Little's law users who wait for their answers send at most ``users / e2e`` a second; below the rate, they hold
    requests back.
    """
    if users is None or rate == inf:
        return users is None
    e2e_ms = result.get("mean_e2el_ms") or result.get("mean_e2e_latency_ms")
    if e2e_ms is None:
        tokens = (result.get("total_output_tokens") or 0) / max(result.get("completed") or 1, 1)
        e2e_ms = (result.get("mean_ttft_ms") or 0) + (result.get("mean_tpot_ms") or 0) * max(tokens - 1, 0)
    return rate * e2e_ms / 1e3 <= users


def _rate(result: Mapping[str, Any], source: str, given: Given) -> float:
    if given.rate_rps is not None:
        return given.rate_rps
    value = result.get("request_rate")
    if value is None:
        if given.concurrency or result.get("max_concurrency") or result.get("start_times"):
            return inf
        raise SpecError(f"{source}: request_rate: missing; give --rate or --concurrency")
    rate = number(value, "request_rate", source)
    if not rate > 0:
        raise SpecError(f"{source}: request_rate: must be above 0, given {value!r}")
    return rate


def _users(result: Mapping[str, Any], source: str) -> int | None:
    value = result.get("max_concurrency")
    return None if value is None else int(number(value, "max_concurrency", source))


def _need(result: Mapping[str, Any], source: str, *fields: str) -> Any:
    for field in fields:
        if result.get(field) is not None:
            return result[field]
    raise SpecError(f"{source}: {fields[0]}: missing; expected a result of vllm bench serve --save-result")


def _load_label(rate: float, users: int | None, result: Mapping[str, Any]) -> str:
    if users is not None and not _sent_in_time(result, rate, users):
        return f"{users} users"
    return f"{rate:g}/s" if rate < inf else "all at once"
