"""Exports of AIPerf and of its predecessor GenAI-Perf (NVIDIA): summaries in JSON and CSV, and requests in JSON Lines.

===================================  =================================================================================
``profile_export_aiperf.json``,      a block for each metric with ``unit``, ``avg``, ``p50`` …; the load in
``profile_export_genai_perf.json``   ``input_config``, whose form changed: see :func:`_load`
``…_aiperf.csv``, ``…_genai_perf.csv``  the same figures in two tables, without the load: that of the JSON beside it
``profile_export.jsonl``             a line for each request with its ``metadata`` and ``metrics``
===================================  =================================================================================

``inter_token_latency`` is that of a request, without the first token: what this project calls TPOT. The raw export of
perf_analyzer (``experiments``) has no token counts and is not read.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from math import inf, nan
from pathlib import Path
from typing import Any, Final

import numpy as np

from dse.measurements.load import SECONDS, Given, Load, Records, measured_run, number, whole
from dse.measurements.measured_run import MeasuredRun
from simulator.errors import SpecError

LATENCIES: Final = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2e"}
STATISTICS: Final = {"avg": "mean", "p50": "p50", "p90": "p90", "p95": "p95", "p99": "p99"}
THROUGHPUTS: Final = {"request_throughput": "requests_per_s", "output_token_throughput": "output_tokens_per_s"}

REQUESTS: Final = 500
"""Requests where neither a count nor a concurrency is said."""

_UNIT: Final = re.compile(r"(.*?)\s*\(([^()]*)\)\s*$")

Blocks = Mapping[str, Mapping[str, Any]]


def read_aiperf_summary(result: Mapping[str, Any], file: Path, given: Given) -> list[MeasuredRun]:
    """Return the run of a JSON summary.

    Raises
    ------
    SpecError
        Naming the field at fault.
    """
    if "experiments" in result:
        raise SpecError(f"{file}: experiments: a raw export has no token counts; give …_genai_perf.json")
    blocks = {name: block for name, block in result.items() if isinstance(block, dict) and "avg" in block}
    config = result.get("input_config")
    return [_summary(blocks, config if isinstance(config, dict) else {}, file, given)]


def read_aiperf_csv(text: str, file: Path, given: Given) -> list[MeasuredRun]:
    """Return the run of a CSV summary; the load is that of the JSON of the same name, or given.

    Raises
    ------
    SpecError
        Naming the field at fault.
    """
    blocks: dict[str, dict[str, Any]] = {}
    head: list[str] = []
    for cells in csv.reader(io.StringIO(text)):
        if not any(cells):
            head = []
        elif not head:
            head = cells
        elif head[0] == "Metric":
            match = _UNIT.match(cells[0])
            name, unit = (match[1], match[2]) if match else (cells[0], "")
            values = {("avg" if key == "Value" else key): cell for key, cell in zip(head[1:], cells[1:], strict=False)}
            blocks[name.strip().lower().replace(" ", "_")] = {
                "unit": unit,
                **{key: cell for key, cell in values.items() if cell},
            }
    return [_summary(blocks, _config_beside(file), file, given)]


def read_aiperf_records(lines: list[Mapping[str, Any]], file: Path, given: Given) -> list[MeasuredRun]:
    """Return the run whose requests are one a line; users are those of the JSON summary beside it, or given.

    Raises
    ------
    SpecError
        Naming the field at fault.
    """
    found: list[tuple[float, ...]] = []
    failed = later = 0
    for index, line in enumerate(lines):
        source = f"{file} line {index + 1}"
        metadata, metrics = line.get("metadata") or {}, line.get("metrics") or {}
        if metadata.get("benchmark_phase", "profiling") != "profiling":
            continue
        if line.get("error") or metadata.get("was_cancelled") or "output_sequence_length" not in metrics:
            failed += 1
            continue
        if "request_start_ns" not in metadata:
            raise SpecError(f"{source}: metadata.request_start_ns: missing")
        later += bool(metadata.get("turn_index"))
        start_ns = number(metadata["request_start_ns"], "metadata.request_start_ns", source)
        lengths = [_value(metrics, f"{kind}_sequence_length", source) for kind in ("input", "output")]
        found.append(
            (
                start_ns,
                *lengths,
                *(_value(metrics, name, source) for name in ("time_to_first_token", "request_latency")),
            )
        )
    if not found:
        raise SpecError(f"{file}: metrics.output_sequence_length: no request was answered")
    start, prompt, output, ttft, e2e = np.array(found).T
    records = Records(
        start_s=(start - start.min()) / 1e9,
        prompt_tokens=whole(prompt, "input_sequence_length", str(file)),
        output_tokens=whole(output, "output_sequence_length", str(file)),
        ttft_s=ttft,
        e2e_s=e2e,
    )
    notes = [f"{failed} of {failed + len(found)} requests failed and are left out"] if failed else []
    if later:
        notes.append(f"{later} later turns of conversations: their prompts are computed anew")
    users, rate, _ = _load(_config_beside(file), str(file))
    users = given.concurrency or (users if rate == inf else None)
    return [
        measured_run(
            _name(file),
            given.deployment_of(file),
            records.requests(users),
            records.figures(),
            labels={"load": f"{users} users" if users else "as recorded"},
            notes=notes,
        )
    ]


def _summary(blocks: Blocks, config: Mapping[str, Any], file: Path, given: Given) -> MeasuredRun:
    source = str(file)
    deployment = given.deployment_of(file)
    users, rate, cv = _load(config, source)
    if given.concurrency is not None or given.rate_rps is not None:
        users, rate = given.concurrency, given.rate_rps or inf
    if users is None and rate == inf:
        raise SpecError(f"{source}: input_config: neither concurrency nor request rate; give --concurrency or --rate")
    lengths = []
    for kind in ("input", "output"):
        block = blocks.get(f"{kind}_sequence_length")
        if block is None or "avg" not in block:
            raise SpecError(f"{source}: {kind}_sequence_length: missing")
        lengths.append(number(block["avg"], f"{kind}_sequence_length.avg", source))
    notes = ["every request has the mean lengths: a summary has no others"]
    count = blocks.get("request_count", {}).get("avg") or blocks.get("request_latency", {}).get("count")
    if count is None:
        count = 10 * users if users and rate == inf else REQUESTS
        notes.append(f"request_count is missing: {count} requests")
    requests = max(1, round(number(count, "request_count.avg", source)))
    found: dict[str, float] = {}
    for name, metric in LATENCIES.items():
        for statistic, ours in STATISTICS.items():
            if blocks.get(name, {}).get(statistic) is not None:
                value = number(blocks[name][statistic], f"{name}.{statistic}", source)
                found[f"{metric}_{ours}_s"] = value * _unit(blocks[name].get("unit") or "ms", name, source)
    for name, figure in THROUGHPUTS.items():
        if blocks.get(name, {}).get("avg") is not None:
            found[figure] = number(blocks[name]["avg"], f"{name}.avg", source)
    load = Load(requests, lengths[0], lengths[1], rate_rps=rate, burstiness_cv=cv, concurrency=users)
    label = f"{rate:g}/s" if rate < inf else f"{users} users"
    return measured_run(_name(file), deployment, load.build(), found, labels={"load": label}, notes=notes)


def _load(config: Mapping[str, Any], source: str) -> tuple[int | None, float, float]:
    """Return users, rate and coefficient of variation of the gaps.

    ``input_config`` holds ``phases`` (newer AIPerf; the last that is no warm-up), ``loadgen`` (AIPerf before that),
    ``perf_analyzer.stimulus`` (newer GenAI-Perf) or the options as they are (older). AIPerf sends at random times where
    nothing is said, perf_analyzer at equal gaps.
    """
    phases = config.get("phases")
    if isinstance(phases, dict):
        phases = [{"name": name, **phase} for name, phase in phases.items() if isinstance(phase, dict)]
    if phases:
        at = [phase for phase in phases if "warmup" not in str(phase.get("name", ""))][-1]
        pattern = at.get("type")
    elif isinstance(config.get("loadgen"), dict):
        at = config["loadgen"]
        pattern = at.get("arrival_pattern") or at.get("request_rate_mode") or "poisson"
    else:
        at = (config.get("perf_analyzer") or {}).get("stimulus") or config
        pattern = "constant"
    rate = at.get("rate") or at.get("request_rate")
    users = at.get("concurrency")
    smoothness = at.get("smoothness") or at.get("arrival_smoothness")
    if pattern == "constant":
        cv = 0.0
    elif pattern == "gamma" and smoothness:
        cv = number(smoothness, "smoothness", source) ** -0.5
    else:
        cv = 1.0
    return (
        None if users is None else int(number(users, "concurrency", source)),
        inf if rate is None else number(rate, "request_rate", source),
        cv,
    )


def _config_beside(file: Path) -> Mapping[str, Any]:
    """Return the ``input_config`` of the JSON summary beside a file, if there is one."""
    beside = [
        file.with_suffix(".json"),
        *(file.with_name(f"{file.stem}{end}.json") for end in ("_aiperf", "_genai_perf")),
    ]
    for path in beside:
        try:
            config = json.loads(path.read_text(encoding="utf-8")).get("input_config")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(config, dict):
            return config
    return {}


def _value(metrics: Mapping[str, Any], name: str, source: str) -> float:
    """Return a metric of a request: tokens, or seconds; NaN if it has none."""
    block = metrics.get(name)
    if block is None:
        return nan
    value = number(block.get("value") if isinstance(block, dict) else block, f"metrics.{name}.value", source)
    unit = block.get("unit") if isinstance(block, dict) else None
    return value if name.endswith("_length") else value * _unit(unit or "ms", name, source)


def _unit(unit: str, name: str, source: str) -> float:
    if unit not in SECONDS:
        raise SpecError(f"{source}: {name}.unit: given {unit!r}; allowed: {', '.join(SECONDS)}")
    return SECONDS[unit]


def _name(file: Path) -> str:
    """Return the folder's name: all exports are called alike."""
    return file.resolve().parent.name if file.stem.startswith("profile_export") else file.stem
