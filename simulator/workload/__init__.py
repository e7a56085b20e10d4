"""Requests to simulate: read from traces, or generated from distributions and learned statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simulator.spec.pipeline_plan import PipelinePlan, added_prompt_tokens_of_way
from simulator.spec.workload import pipeline_plan
from simulator.workload.generate import build_requests
from simulator.workload.prefixes import Prefixes
from simulator.workload.requests import NO_DEADLINE_PS, PS_PER_S, Requests
from simulator.workload.sessions import KEEP, Sessions
from simulator.workload.traces import read_trace, read_trace_file

if TYPE_CHECKING:
    from simulator.workload.statistics import TraceStatistics, learn_statistics, load_statistics

__all__ = [
    "KEEP",
    "NO_DEADLINE_PS",
    "PS_PER_S",
    "PipelinePlan",
    "Prefixes",
    "Requests",
    "Sessions",
    "TraceStatistics",
    "added_prompt_tokens_of_way",
    "build_requests",
    "learn_statistics",
    "load_statistics",
    "pipeline_plan",
    "read_trace",
    "read_trace_file",
]


def __getattr__(name: str) -> Any:
    """Import ``statistics`` on first use: ``python -m`` on that module must not find it imported."""
    if name in ("TraceStatistics", "learn_statistics", "load_statistics"):
        from simulator.workload import statistics

        return getattr(statistics, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
