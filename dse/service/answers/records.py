"""What answers look like: the shapes that the API documents, the page draws and the client reads."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

State = Literal["queued", "running", "paused", "finished", "failed", "cancelled"]
Number = float | None
"""A figure; None where it is not finite, or there is none."""


class StudySummary(BaseModel):
    """One line of the list of studies."""

    id: str
    name: str
    question: str
    state: State
    asked: Literal["", "pause", "cancel"] = Field(description="what a running study was asked to do")
    reason: str = Field(description="why it failed; empty if it did not")
    created_s: float = Field(description="seconds since 1970")
    started_s: Number
    ended_s: Number
    running_s: float = Field(description="wall time over all sessions")
    revision: int = Field(description="grows with every change")
    designs: int = Field(description="designs in the space")
    trials: int = Field(description="budget: designs to simulate")
    requests: int = Field(description="requests of all workloads together")
    evaluated: int = Field(description="distinct designs so far, those excluded before simulation too")
    simulated: int
    feasible: int
    front: int = Field(description="designs on the front")
    worker: str | None = Field(description="who runs it")


class StudyList(BaseModel):
    """Studies, the newest first."""

    studies: list[StudySummary]
    total: int
    next: str | None = Field(description="give as `after` for the next page; None at the end")


class Study(StudySummary):
    """A study with what it is."""

    spec: dict[str, Any] = Field(description="the specification, as StudySpec")
    objectives: list[Objective]
    certificate: dict[str, Any] | None = Field(description="what was proved of the space, at the end")
    sureness: dict[str, Any] | None = Field(description="what replications say of the front, at the end")


class Objective(BaseModel):
    """What a study optimises."""

    name: str
    label: str = Field(description="in words")
    title: str = Field(description="of an axis, with the unit")
    direction: Literal["minimize", "maximize"]


class Trial(BaseModel):
    """One distinct design and how it did."""

    number: int = Field(description="place in the order of proposal; names the trial in URLs")
    label: str = Field(description="the design in a few words")
    design: dict[str, Any] = Field(description="the active choices")
    simulated: bool
    feasible: bool
    objectives: list[Number] = Field(description="in the order of the study's; None if not simulated")
    broken: list[str] = Field(description="promises and limits that it misses, in words, the worst first")
    bottleneck: str
    reason: str = Field(description="why it was not simulated; empty if it was")


class TrialPage(BaseModel):
    """Trials in the order in which they finished."""

    trials: list[Trial]
    total: int = Field(description="trials of the study that pass the filter")
    next: int | None = Field(description="give as `after` for the next page; None at the end")


class HypervolumePoint(BaseModel):
    """How much was found after how many simulations."""

    simulated: int
    share: float = Field(description="of the box between the best and the worst feasible values")


class Front(BaseModel):
    """The Pareto front."""

    objectives: list[Objective]
    trials: list[Trial] = Field(description="by the first objective")
    recommended: int | None = Field(description="number of the knee; None if nothing is feasible")
    hypervolume: list[HypervolumePoint] = Field(description="its steps, at most 200")
    evaluated: int
    simulated: int
    feasible: int
    caveat: str = Field(description="what the figures do not rest on, e.g. GPUs that were never measured; or empty")


class FrontUpdate(BaseModel):
    """The event `front`: who is on the front now."""

    front: list[int] = Field(description="numbers, by the first objective")
    recommended: int | None
    evaluated: int
    simulated: int
    feasible: int


class Figure(BaseModel):
    """A figure with what it means."""

    name: str
    label: str
    value: Number
    said: str = Field(description="value with unit, as a person reads it")


class SloCheck(BaseModel):
    """A promise and how it is kept."""

    name: str
    label: str
    limit: Number
    value: Number
    limit_said: str
    value_said: str
    holds: bool
    soft: bool


class TrialDetail(Trial):
    """All that is known of a trial without simulating it again."""

    sentence: str = Field(description="the deployment in words")
    figures: list[Figure]
    slos: list[SloCheck]
    deployment: dict[str, Any] | None = Field(description="as Deployment, with the engines' defaults written out")
    drawing: str = Field(description="pools, stages and links as SVG; empty if the design is impossible")
    recommended: bool
    on_front: bool


class Deployable(BaseModel):
    """Files that deploy a trial's design, and what they do not hold."""

    target: str = Field(description="what they are for, or `all`")
    files: dict[str, str] = Field(description="content by path; `NOTES.md` has the notes as a page")
    notes: dict[str, list[str]] = Field(description="sentences by target, `load` for the load's files")


class Curve(BaseModel):
    """A latency's distribution: the share of requests within each time."""

    metric: str
    label: str
    seconds: list[Number]
    percent: list[float]
    limits: list[dict[str, float]] = Field(description="SLOs: percentile and limit_s")


class Series(BaseModel):
    """One quantity over time."""

    part: str = Field(description="pool or service")
    name: str
    label: str
    unit: str
    values: list[Number]


class StageTime(BaseModel):
    """Where requests spend their time, a bar of the waterfall."""

    stage: str
    label: str
    mean_s: float = Field(description="mean over all requests")
    p99_s: Number
    waiting_mean_s: float = Field(description="part of it in queues")


class PoolUse(BaseModel):
    """What a pool or service did."""

    name: str
    bottleneck: str
    shares: list[Figure]


class Simulation(BaseModel):
    """A trial simulated again, in full."""

    number: int
    bottleneck: str
    latencies: list[Curve]
    stages: list[StageTime]
    time_s: list[float] = Field(description="start of each bin of the series")
    series: list[Series]
    uses: list[PoolUse]


class Row(BaseModel):
    """A line of a comparison."""

    name: str
    label: str
    first: str
    second: str
    better: Literal["first", "second", "same", ""]
    ratio: Number = Field(description="second by first")


class Comparison(BaseModel):
    """Two designs side by side."""

    first: int
    second: int
    choices: list[Row] = Field(description="what differs in the design")
    figures: list[Row]
    said: list[str] = Field(description="the difference in sentences")


class Explanation(BaseModel):
    """Which choices make the difference between two designs."""

    first: int
    second: int
    said: list[str] = Field(description="a sentence for each objective")


class WhatIf(BaseModel):
    """Other prices, another rate."""

    model_config = {"extra": "forbid", "strict": True}

    usd_per_hour: dict[str, float] = Field(default_factory=dict, description="price of a device by catalogued name")
    electricity_usd_per_kwh: float = Field(default=0.0, ge=0, le=1e6)
    rate_factor: float = Field(default=1.0, gt=0, le=64, description="rate of requests by the study's")


class WhatIfAnswer(BaseModel):
    """The front as it would be."""

    trials: list[Trial] = Field(description="designs of the new front with their new objectives, by the first one")
    recommended: int | None
    joined: list[int] = Field(description="numbers that come to the front")
    left: list[int] = Field(description="numbers that leave it")
    devices: dict[str, float] = Field(description="devices that designs use and their price, USD per hour")
    rate_rps: Number = Field(description="requests a second, of the first workload")
    said: str


class Dimension(BaseModel):
    """What a study may choose in one respect."""

    name: str
    label: str = Field(description="in words")
    values: list[str | int | float | bool]


class StudyCheck(BaseModel):
    """What a study would be, if it were created."""

    designs: int = Field(description="designs in the space")
    dimensions: list[Dimension]
    requests: int = Field(description="requests of all workloads together, at most")
    objectives: list[Objective]
    warnings: list[str] = Field(description="what its author should know before it runs")
    spec: dict[str, Any] = Field(description="what was given, as JSON, whether it came as JSON or YAML")


Study.model_rebuild()
