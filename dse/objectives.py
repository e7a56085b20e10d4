"""Metrics that a study can optimise or bound, and which way is better."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, cast

from simulator import Result, SpecError
from simulator.spec.slo import SLO, LatencyMetric

Direction = Literal["minimize", "maximize"]
Promises = Sequence[SLO]

_LATENCY = re.compile(r"(ttft|tpot|itl|e2e|session)_(?:p(\d+(?:\.\d+)?)|mean)_s")

LATENCIES: Final[dict[str, str]] = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "inter-token latency",
    "e2e": "end-to-end latency",
    "session": "end-to-end time of a session",
}
"""Latencies in words: each is a metric at every percentile, and as a mean."""


@dataclass(frozen=True)
class Metric:
    """One figure of a simulation.

    Attributes
    ----------
    name
        As written in ``objectives`` and ``constraints``.
    direction
        Which way is better.
    unit
        Of the value; empty for counts and shares.
    description
        What it is, in a few words.
    read
        Its value, from a simulation and the study's SLOs.
    label
        Its name for a person, without the unit.
    """

    name: str
    direction: Direction
    unit: str
    description: str
    read: Callable[[Result, Promises], float]
    label: str


def _registered(*metrics: Metric) -> dict[str, Metric]:
    return {metric.name: metric for metric in metrics}


METRICS: Final = _registered(
    Metric(
        "usd_per_hour",
        "minimize",
        "USD",
        "price of all devices and tiers, USD per hour",
        lambda result, _: result.usd_per_hour,
        "cost per hour",
    ),
    Metric(
        "usd_per_million_output_tokens",
        "minimize",
        "USD",
        "price by tokens generated, USD per million",
        lambda result, _: result.usd_per_million_output_tokens,
        "cost per million output tokens",
    ),
    Metric(
        "accelerators",
        "minimize",
        "",
        "number of accelerators",
        lambda result, _: result.deployment.accelerators,
        "accelerators",
    ),
    Metric(
        "energy_j_per_output_token",
        "minimize",
        "J",
        "energy by tokens generated, J per token",
        lambda result, _: result.energy_j_per_output_token,
        "energy per output token",
    ),
    Metric(
        "energy_j_per_request",
        "minimize",
        "J",
        "energy by requests served, J per request",
        lambda result, _: result.energy_j / result.served if result.served else float("inf"),
        "energy per request",
    ),
    Metric(
        "power_mean_w",
        "minimize",
        "W",
        "mean power of all devices over the span, W",
        lambda result, _: result.power_mean_w,
        "mean power",
    ),
    Metric(
        "power_peak_w",
        "minimize",
        "W",
        "sum of the TDP of all devices, W",
        lambda result, _: result.power_peak_w,
        "peak power",
    ),
    Metric(
        "output_tokens_per_s",
        "maximize",
        "",
        "tokens generated per second",
        lambda result, _: result.output_tokens / result.span_s,
        "output tokens per second",
    ),
    Metric(
        "output_tokens_per_s_per_accelerator",
        "maximize",
        "",
        "tokens generated per second and accelerator",
        lambda result, _: result.output_tokens / result.span_s / result.deployment.accelerators,
        "output tokens per second and accelerator",
    ),
    Metric(
        "requests_per_s",
        "maximize",
        "",
        "requests finished per second",
        lambda result, _: result.served / result.span_s,
        "requests per second",
    ),
    Metric(
        "requests_per_s_per_accelerator",
        "maximize",
        "",
        "requests finished per second and accelerator",
        lambda result, _: result.served / result.span_s / result.deployment.accelerators,
        "requests per second and accelerator",
    ),
    Metric(
        "goodput_rps",
        "maximize",
        "",
        "requests per second that meet every SLO limit",
        lambda result, slos: result.goodput_rps(slos),
        "goodput, requests per second",
    ),
    Metric(
        "goodput_requests_per_usd",
        "maximize",
        "",
        "requests that meet every SLO limit, per USD",
        lambda result, slos: per_usd(result.goodput_rps(slos), result.usd_per_hour),
        "good requests per USD",
    ),
    Metric(
        "slo_attainment",
        "maximize",
        "",
        "share of requests that meet every SLO limit",
        lambda result, slos: result.good_requests(slos) / result.requests_total,
        "SLO attainment",
    ),
    Metric(
        "slo_attainment_least",
        "maximize",
        "",
        "share of requests within the limit of the SLO that is met least",
        lambda result, slos: min(result.attainment(slo) for slo in slos),
        "attainment of the SLO met least",
    ),
    Metric(
        "utilisation_mean",
        "maximize",
        "",
        "share of the span in which clients computed, mean over the accelerators",
        lambda result, _: result.utilisation_mean,
        "mean utilisation",
    ),
    Metric(
        "utilisation_busiest",
        "maximize",
        "",
        "share of the span in which the clients of the busiest pool computed",
        lambda result, _: max(use.busy for use in result.pools),
        "utilisation of the busiest pool",
    ),
)
"""Every metric but the latencies, which go by ``{ttft|tpot|itl|e2e|session}_{p99|mean}_s``."""


def per_usd(per_s: float, usd_per_hour: float) -> float:
    """Return how much of what comes at a rate per second comes for one USD; infinite where nothing costs anything."""
    return per_s * 3600 / usd_per_hour if usd_per_hour else float("inf")


def latency_of(name: str) -> tuple[LatencyMetric, float | None] | None:
    """Return latency and percentile (None: the mean) of a metric's name; None if it is no latency."""
    match = _LATENCY.fullmatch(name)
    if match is None or (match[2] and not 0 < float(match[2]) <= 100):
        return None
    return cast(LatencyMetric, match[1]), float(match[2]) if match[2] else None


def metric(name: str) -> Metric:
    """Return a metric by its name.

    Raises
    ------
    SpecError
        If there is no such metric.
    """
    latency = latency_of(name)
    if latency is None:
        if name not in METRICS:
            raise SpecError(
                f"no metric {name!r}; known: {', '.join(METRICS)}, "
                "and {ttft|tpot|itl|e2e|session}_{p1 ... p100|mean}_s such as ttft_p99_s or tpot_mean_s"
            )
        return METRICS[name]
    which, percent = latency
    acronym = which if which == "session" else which.upper()
    if percent is None:
        return Metric(
            name,
            "minimize",
            "s",
            f"{LATENCIES[which]}, mean, seconds",
            lambda result, _: result.mean_s(which),
            f"{acronym} mean",
        )
    return Metric(
        name,
        "minimize",
        "s",
        f"{LATENCIES[which]}, {percent:g}th percentile, seconds",
        lambda result, _: result.percentile_s(which, percent),
        f"{acronym} p{percent:g}",
    )


def is_metric(name: str) -> bool:
    """Return whether a metric has this name."""
    return name in METRICS or latency_of(name) is not None


def needs_slos(name: str) -> bool:
    """Return whether a metric says nothing in a study without SLOs."""
    return name.startswith("slo_attainment")


def direction_of(name: str) -> Direction:
    """Return which way of a metric is better.

    Raises
    ------
    SpecError
        If there is no such metric.
    """
    return "minimize" if latency_of(name) else metric(name).direction


def describe(name: str) -> str:
    """Return what a metric is, in a few words."""
    return metric(name).description


def value_of(name: str, result: Result, slos: Promises) -> float:
    """Return a metric of a simulation."""
    return float(metric(name).read(result, slos))
