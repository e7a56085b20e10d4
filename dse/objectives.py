"""Metrics that a study can optimise, and which way is better."""

from __future__ import annotations

import re
from typing import Literal, cast

from simulator import Result, SpecError
from simulator.spec.slo import SLO, LatencyMetric

Direction = Literal["minimize", "maximize"]

_LATENCY = re.compile(r"(ttft|tpot|itl|e2e|session)_p(\d+(?:\.\d+)?)_s")

_FIGURES: dict[str, tuple[Direction, str]] = {
    "usd_per_hour": ("minimize", "price of all accelerators, USD per hour"),
    "usd_per_million_output_tokens": ("minimize", "price by tokens generated, USD per million"),
    "energy_j_per_output_token": ("minimize", "energy by tokens generated, J per token"),
    "accelerators": ("minimize", "number of accelerators"),
    "output_tokens_per_s": ("maximize", "tokens generated per second"),
    "requests_per_s": ("maximize", "requests finished per second"),
    "goodput_rps": ("maximize", "requests per second that meet every SLO limit"),
}


def _latency(name: str) -> tuple[LatencyMetric, float] | None:
    match = _LATENCY.fullmatch(name)
    if match is None or not 0 < float(match[2]) <= 100:
        return None
    return cast(LatencyMetric, match[1]), float(match[2])


def direction_of(name: str) -> Direction:
    """Return which way of a metric is better.

    Raises
    ------
    SpecError
        If there is no such metric.
    """
    if _latency(name):
        return "minimize"
    if name not in _FIGURES:
        raise SpecError(
            f"objectives: no metric {name!r}; known: {', '.join(_FIGURES)}, "
            "and {ttft|tpot|itl|e2e|session}_p{percentile}_s such as ttft_p99_s"
        )
    return _FIGURES[name][0]


def describe(name: str) -> str:
    """Return what a metric is, in a few words."""
    latency = _latency(name)
    if latency is None:
        return _FIGURES[name][1]
    words = {
        "ttft": "time to first token",
        "tpot": "time per output token",
        "itl": "inter-token latency",
        "e2e": "end-to-end latency",
        "session": "end-to-end time of a session",
    }
    return f"{words[latency[0]]}, {latency[1]:g}th percentile, seconds"


def value_of(name: str, result: Result, slos: tuple[SLO, ...]) -> float:
    """Return a metric of a simulation."""
    latency = _latency(name)
    if latency:
        return result.percentile_s(*latency)
    if name == "goodput_rps":
        return result.goodput_rps(slos)
    return float(result.summary()[name])
