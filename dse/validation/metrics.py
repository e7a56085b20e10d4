"""Names and units of measured figures, for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from dse.words import number, seconds

_PLAIN: Final = {
    "requests_per_s": ("requests a second", "requests/s"),
    "output_tokens_per_s": ("output tokens a second", "tokens/s"),
    "power_w": ("power of an accelerator", "W"),
}
_LATENCIES: Final = ("ttft", "tpot", "e2e")
_STATISTICS: Final = ("mean", "p50", "p90", "p95", "p99")


def metric_label(metric: str, *, unit: bool = False) -> str:
    """Return a figure's name, e.g. ``TTFT mean``, with its unit if wanted."""
    if metric in _PLAIN:
        name, in_units = _PLAIN[metric]
    else:
        latency, _, statistic = metric.removesuffix("_s").partition("_")
        name, in_units = f"{latency.upper()} {statistic}", "s"
    return f"{name} ({in_units})" if unit else name


def metric_value(metric: str, value: float) -> str:
    """Return a figure's value with its unit."""
    return f"{number(value)} {_PLAIN[metric][1]}" if metric in _PLAIN else seconds(value)


def ordered(metrics: Iterable[str]) -> list[str]:
    """Return the distinct figures: latencies by statistic, then throughput and power, then others."""
    usual = [f"{latency}_{statistic}_s" for latency in _LATENCIES for statistic in _STATISTICS] + list(_PLAIN)
    found = list(dict.fromkeys(metrics))
    return [name for name in usual if name in found] + [name for name in found if name not in usual]
