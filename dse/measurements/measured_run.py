"""What was served, where, and what was measured: one row of a benchmark, whatever tool wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf

from simulator import Deployment, Requests


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """A deployment under a load, and the figures that were measured.

    Attributes
    ----------
    name
        Unique in its file.
    labels
        What results are grouped by: ``accelerator``, ``model``, ``tp``, ``engine``, and others.
    deployment, requests
        What was served, and the requests as they were sent.
    figures
        Measured values by name: ``ttft``, ``tpot`` or ``e2e`` with ``_mean_s``, ``_p50_s``, ``_p90_s``, ``_p95_s`` or
        ``_p99_s``; ``requests_per_s``, ``output_tokens_per_s``; ``power_w`` of one accelerator.
    begin_s, end_s
        Requests that arrived in between are counted, seconds from the first arrival.
    """

    name: str
    labels: Mapping[str, str]
    deployment: Deployment
    requests: Requests
    figures: Mapping[str, float]
    begin_s: float = 0.0
    end_s: float = inf
    notes: tuple[str, ...] = field(default=())
