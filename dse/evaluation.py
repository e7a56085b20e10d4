"""One design: is it possible, and if so, what does the simulation say? Runs in worker processes."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from dse.objectives import direction_of, value_of
from dse.spec import StudySpec
from search_spaces import Design, to_deployment
from simulator import Deployment, Overload, Pool, Requests, SpecError, simulate
from simulator.performance.engine import engine_of
from simulator.performance.memory import DoesNotFit, kv_blocks
from simulator.performance.price import pool_usd_per_hour, service_usd_per_hour


@dataclass(frozen=True)
class Evaluation:
    """What is known about one design.

    Attributes
    ----------
    design
        The active choices.
    objectives
        Value of each objective in the study's order; the worst imaginable if not simulated.
    constraints
        By name, how far each promise or limit is missed: zero or less if it holds. A missed SLO counts
        ``v / (1 + v)`` for a relative excess v, so at most 1, like an objective without a finite value; what
        forbids a simulation counts more than all SLOs together.
    figures
        The simulation's summary and the relative excess of each SLO; empty if not simulated.
    bottleneck
        Pool and resource that limit the design.
    reason
        Why the design was not simulated; empty if it was.
    cpu_s
        Processor time of the evaluation.
    number
        Place in the order of proposal, over all sessions of a study.
    """

    design: Design
    objectives: tuple[float, ...]
    constraints: dict[str, float]
    figures: dict[str, float] = field(default_factory=dict)
    bottleneck: str = ""
    reason: str = ""
    cpu_s: float = 0.0
    number: int = -1

    @property
    def simulated(self) -> bool:
        """Whether the design was simulated."""
        return not self.reason

    @property
    def feasible(self) -> bool:
        """Whether every promise and limit holds."""
        return all(violation <= 0 for violation in self.constraints.values())

    def to_json(self) -> dict[str, Any]:
        """Return plain data from which :meth:`from_json` makes the same record."""
        return {
            "design": dict(self.design),
            "objectives": list(self.objectives),
            "constraints": self.constraints,
            "figures": self.figures,
            "bottleneck": self.bottleneck,
            "reason": self.reason,
            "cpu_s": self.cpu_s,
            "number": self.number,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Evaluation:
        """Return the record of :meth:`to_json`."""
        return cls(**{**data, "design": Design(data["design"]), "objectives": tuple(data["objectives"])})


def deployment_of(design: Design, spec: StudySpec) -> Deployment:
    """Return the deployment of a design of a study.

    Raises
    ------
    pydantic.ValidationError
        If its choices contradict each other.
    """
    return to_deployment(design, spec.model, spec.services, stage=spec.llm_stage)


def obstacle(deployment: Deployment, spec: StudySpec) -> tuple[str, str, float] | None:
    """Return what forbids a deployment, before any simulation: constraint, reason and how far; None if nothing."""
    limits = spec.limits
    if limits.accelerators and deployment.accelerators > limits.accelerators:
        excess = deployment.accelerators / limits.accelerators - 1
        return (
            "accelerators",
            f"{deployment.accelerators} accelerators, {limits.accelerators} allowed",
            excess,
        )
    try:
        for pool in deployment.pools:
            engine_of(pool)
        price = sum(pool_usd_per_hour(pool) for pool in deployment.pools)
        stage_of = spec.workload.plan.service
        price += sum(service_usd_per_hour(service, stage_of(service.stage)) for service in deployment.services)
        if limits.usd_per_hour and price > limits.usd_per_hour:
            excess = price / limits.usd_per_hour - 1
            return "usd_per_hour", f"{price:.2f} USD/h, {limits.usd_per_hour:g} allowed", excess
        missing = [shortage for pool in deployment.pools if (shortage := _shortage(pool))]
        if missing:
            return "memory", str(missing[0]), sum(error.shortage_bytes / error.allowed_bytes for error in missing)
    except SpecError as error:
        return "possible", str(error), 1.0
    return None


def _shortage(pool: Pool) -> DoesNotFit | None:
    try:
        kv_blocks(pool)
    except DoesNotFit as error:
        return error
    return None


def not_simulated(design: Design, spec: StudySpec, constraint: str, reason: str, excess: float) -> Evaluation:
    """Return the record of a design that is not worth or not capable of simulation."""
    return Evaluation(design, _worst(spec), {constraint: len(spec.slos) + 1 + max(excess, 1e-9)}, reason=reason)


def _worst(spec: StudySpec) -> tuple[float, ...]:
    """Return the worst imaginable value of each objective."""
    return tuple(math.inf if direction_of(name) == "minimize" else -math.inf for name in spec.objectives)


def precheck(design: Design, spec: StudySpec) -> Evaluation | None:
    """Return the record of a design that cannot be simulated; None if it can."""
    try:
        deployment = deployment_of(design, spec)
    except ValidationError as error:
        return not_simulated(design, spec, "possible", error.errors()[0]["msg"], 1.0)
    found = obstacle(deployment, spec)
    return not_simulated(design, spec, *found) if found else None


def evaluate(design: Design, spec: StudySpec, requests: Requests) -> Evaluation:
    """Simulate a design that passed :func:`precheck` and hold it against the study's SLOs."""
    start = time.process_time()
    try:
        result = simulate(deployment_of(design, spec), requests, plan=spec.workload.plan)
    except Overload as error:
        return not_simulated(design, spec, "overload", str(error), 1.0)
    figures, constraints = result.summary(), {}
    for slo in spec.slos:
        excess = result.violation(slo)
        figures[f"{slo.name}_excess"] = excess
        constraints[slo.name] = (excess / (1 + excess) if math.isfinite(excess) else 1.0) if excess > 0 else excess
    values = [figures[name] if name in figures else value_of(name, result, spec.slos) for name in spec.objectives]
    if not all(map(math.isfinite, values)):
        # Rejected requests make latencies infinite, and where no request has two tokens there is no TPOT.
        constraints["finite"] = 1.0
    return Evaluation(
        design=design,
        objectives=tuple(
            value if math.isfinite(value) else worst for value, worst in zip(values, _worst(spec), strict=True)
        ),
        constraints=constraints,
        figures=figures,
        bottleneck=result.bottleneck,
        cpu_s=time.process_time() - start,
    )


def evaluate_many(designs: Sequence[Design], spec: StudySpec, requests: Requests) -> list[Evaluation]:
    """Evaluate several designs in one task, so that a task outweighs its overhead."""
    return [evaluate(design, spec, requests) for design in designs]
