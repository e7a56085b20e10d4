"""A service-level objective: a percentile of a latency metric and its limit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from simulator.spec.base import Spec

LatencyMetric = Literal["ttft", "tpot", "itl", "e2e", "session"]
"""Time to first token, mean time per output token of a request, inter-token latency, end to end of a request, end to
end of a session (from its arrival to the end of its last call, only for a workload with sessions)."""


class SLO(Spec):
    """At least ``percentile`` percent of requests stay within ``limit_s``; of token gaps for ``itl``, of sessions."""

    metric: LatencyMetric = Field(description="ttft, tpot, itl, e2e or session")
    percentile: float = Field(gt=0, le=100, description="share of requests that must stay within the limit, percent")
    limit_s: float = Field(gt=0, description="limit in seconds")

    @property
    def name(self) -> str:
        """Short name as used for columns and constraints, e.g. ``ttft_p99_s``."""
        return f"{self.metric}_p{self.percentile:g}_s"
