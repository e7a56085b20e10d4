"""What answers at once look like; the figures themselves are those that the commands print with --json."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dse.service.answers.records import Number


class SloKept(BaseModel):
    """A promise, and how it was kept."""

    name: str = Field(description="as of a metric, e.g. ttft_p99_s")
    limit_s: float
    reached_s: Number
    attainment: Number = Field(description="share within the limit")
    holds: bool


class SimulationAnswer(BaseModel):
    """What happened: besides these all figures by name, e.g. ttft_p99_s; null where a figure is not finite."""

    model_config = ConfigDict(extra="allow")

    requests: int
    rejected: int
    span_s: Number
    bottleneck: str
    pools: list[dict[str, Any]] = Field(description="use of each, and where its coefficients come from")
    services: list[dict[str, Any]]
    tiers: list[dict[str, Any]]
    slos: list[SloKept]


class CapacityAnswer(BaseModel):
    """The highest rate that is sustained."""

    model_config = ConfigDict(extra="allow")

    rate_rps: float = Field(description="the answer, requests (or sessions) a second; 0 if none holds")
    holds_rps: Number
    fails_rps: Number
    interval_low_rps: Number
    interval_high_rps: Number
    limited_by: str
    holds_again_rps: list[float]
    usd_per_hour: float
    usd_per_hour_by_rps: Number
    tried: list[dict[str, Any]] = Field(description="each rate that was tried, and why it does not hold")


class ExplanationAnswer(BaseModel):
    """Where the time of steps goes."""

    conditions: dict[str, int]
    pools: list[dict[str, Any]] = Field(description="each with its steps, and these with their operators")
    services: list[dict[str, Any]]
    notes: list[str]
