"""A workload from an engine's own metrics: rate, burstiness and lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from dse.imports.samples import Samples, read_samples
from simulator import Workload
from simulator.errors import SpecError

#: Names in vLLM and in SGLang.
PROMPTS: Final = ("vllm:request_prompt_tokens", "sglang:prompt_tokens_histogram")
OUTPUTS: Final = ("vllm:request_generation_tokens", "sglang:generation_tokens_histogram")
FINISHED: Final = ("vllm:request_success_total", "sglang:num_requests_total")
FEWEST: Final = 100
BURSTY: Final = 1.1
"""Variance over mean of counts from which arrivals are written as bursty."""


@dataclass(frozen=True)
class MeasuredWorkload:
    """A workload, and how well it follows what was measured."""

    workload: Workload
    notes: tuple[str, ...]


def import_metrics(
    path: str | Path,
    after: str | Path | None = None,
    *,
    seconds: float | None = None,
    rate_rps: float | None = None,
    requests: int | None = None,
) -> MeasuredWorkload:
    """Return the workload that an engine's metrics describe.

    Prompts and outputs are lognormal with the measured mean; their spread is fitted to the histogram's buckets.

    Parameters
    ----------
    path
        An answer of Prometheus to ``query_range`` (JSON), or what the engine shows at ``/metrics``.
    after
        A later ``/metrics``: what happened between is counted.
    seconds
        Time between the two; over which requests were counted.
    rate_rps
        Mean rate, where the files do not tell, or instead of theirs.
    requests
        How many to generate; as many as were counted, at most 10 000, if absent.

    Raises
    ------
    SpecError
        If a histogram is missing, or the rate cannot be told.
    """
    samples = read_samples(Path(path), None if after is None else Path(after), seconds)
    notes: list[str] = []
    lengths, counts = {}, []
    for kind, names in (("prompt", PROMPTS), ("output", OUTPUTS)):
        lengths[kind], count = _lognormal(samples, names, kind, path, notes)
        counts.append(count)
    counted = samples.total(*FINISHED) or counts[0]
    spanned = seconds or samples.seconds
    if rate_rps is None:
        if not spanned:
            raise SpecError(
                f"{path}: totals since the server's start tell no rate: give --rate, or a later scrape with --seconds "
                "between"
            )
        rate_rps = counted / spanned
    arrivals, told = _arrivals(samples, rate_rps)
    notes.append(told)
    notes.append(f"{counted:,.0f} requests were counted; prompts and outputs are drawn independently of each other.")
    data = {
        "requests": requests or int(min(max(counted, 1), 10_000)),
        "arrivals": arrivals,
        "lengths": lengths,
    }
    return MeasuredWorkload(Workload.parse(data, source=str(path)), tuple(notes))


def _lognormal(
    samples: Samples, names: Sequence[str], kind: str, path: str | Path, notes: list[str]
) -> tuple[dict[str, Any], float]:
    """Return the distribution that a histogram is drawn from, and how many it counts."""
    name = next((each for each in names if samples.buckets(each)), None)
    if name is None:
        raise SpecError(f"{path}: no histogram {' or '.join(names)} in it")
    buckets = samples.buckets(name)
    count = buckets[-1][1]
    total = samples.total(f"{name}_sum")
    if count < 1 or not total:
        raise SpecError(f"{path}: {name} counts no request")
    if count < FEWEST:
        notes.append(f"{kind}: only {count:.0f} requests; the distribution is a guess.")
    mean = max(total / count, 1.0)
    inner = [(edge, below / count) for edge, below in buckets if math.isfinite(edge) and 0 < below < count]
    if not inner:
        notes.append(f"{kind}: all in one bucket; taken as the same length, {mean:.0f} tokens.")
        return {"distribution": "constant", "tokens": max(round(mean), 1)}, count
    sigma, miss = _fit(mean, inner)
    notes.append(
        f"{kind}: mean {mean:.0f} tokens, lognormal with sigma {sigma:.2f}; shares of requests below the bucket edges "
        f"differ by at most {miss:.1%}."
    )
    return {"distribution": "lognormal", "mean_tokens": float(f"{mean:.6g}"), "sigma": float(f"{sigma:.4g}")}, count


def _fit(mean: float, edges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the sigma of a lognormal of a mean that misses shares below edges least, and its largest miss."""
    logs = np.log([edge for edge, _ in edges])
    shares = np.array([share for _, share in edges])
    normal = NormalDist()

    def misses(sigma: float) -> Any:
        location = math.log(mean) - sigma**2 / 2
        return np.array([normal.cdf((each - location) / sigma) for each in logs]) - shares

    candidates = np.geomspace(0.01, 4.0, 240)
    best = min(candidates, key=lambda sigma: float(np.sum(misses(float(sigma)) ** 2)))
    fine = np.linspace(best / 1.03, min(best * 1.03, 4.0), 61)
    sigma = float(min(fine, key=lambda each: float(np.sum(misses(float(each)) ** 2))))
    return sigma, float(np.abs(misses(sigma)).max())


def _arrivals(samples: Samples, rate_rps: float) -> tuple[dict[str, Any], str]:
    """Return arrivals of a rate, as bursty as the counts of a range query are, and what was seen."""
    rate = float(f"{rate_rps:.6g}")
    found = next((samples.steps[name] for name in FINISHED if name in samples.steps), None)
    if found is None or len(found[0]) < 10:
        return {
            "process": "poisson",
            "rate_rps": rate,
        }, "arrivals: Poisson; the files hold too few times to tell bursts."
    counts, step_s = np.array(found[0]), found[1]
    dispersion = float(counts.var() / counts.mean()) if counts.mean() else 1.0
    told = f"arrivals: {rate:g} a second; counts of {step_s:g} s vary {dispersion:.2f} times as much as Poisson's"
    if dispersion < BURSTY:
        return {"process": "poisson", "rate_rps": rate}, f"{told}: Poisson."
    cv = min(math.sqrt(dispersion), 20.0)
    return (
        {"process": "gamma", "rate_rps": rate, "burstiness_cv": float(f"{cv:.4g}")},
        f"{told}: gamma gaps. Finished requests are counted, which follow arrivals by their latency; slow changes of "
        "the rate count as bursts.",
    )
