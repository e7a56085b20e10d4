"""Requests to simulate: read from traces, or generated from distributions and learned statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.workload.generate import build_requests
from simulator.workload.requests import PS_PER_S, Requests
from simulator.workload.traces import read_trace, read_trace_file

if TYPE_CHECKING:
    from simulator.workload.statistics import TraceStatistics, learn_statistics, load_statistics

__all__ = [
    "PS_PER_S",
    "Requests",
    "TraceStatistics",
    "build_requests",
    "learn_statistics",
    "load_statistics",
    "read_trace",
    "read_trace_file",
]


def __getattr__(name: str) -> Any:
    """Import ``statistics`` on first use: ``python -m`` on that module must not find it imported."""
    if name in ("TraceStatistics", "learn_statistics", "load_statistics"):
        from simulator.workload import statistics

        return getattr(statistics, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
