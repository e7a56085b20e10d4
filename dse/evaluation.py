"""One design: is it possible, and if so, what does the simulation say? Runs in worker processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from dse.assessment import Figures, assess, worst_of
from dse.certificate.peaks import peaks
from dse.objectives import latency_of, value_of
from dse.spec import StudySpec
from search_spaces import Design, to_deployment
from simulator import Deployment, Overload, Pool, Requests, Result, SpecError, build_requests, simulate
from simulator.metrics import SHOWN_PERCENTILES
from simulator.performance.engine import engine_of
from simulator.performance.memory import DoesNotFit, kv_blocks
from simulator.performance.power import tdp_w
from simulator.performance.price import deployment_usd_per_hour, devices_of, tiers_usd_per_hour
from simulator.performance.service_cost import refusal
from simulator.spec.slo import LatencyMetric


@dataclass(frozen=True)
class Evaluation:
    """What is known about one design.

    Attributes
    ----------
    design
        The active choices.
    objectives
        Value of each objective in the study's order, penalties of soft promises included; the worst imaginable if
        not simulated.
    constraints
        By name, how far each hard promise, bound or limit is missed: zero or less if it holds. A missed one counts
        ``v / (1 + v)`` for a relative excess v, so at most 1, like an objective without a finite value; what
        forbids a simulation counts more than all others together.
    figures
        The simulation's summary, every objective and bounded metric without penalties, the relative excess of each
        SLO and bound (soft ones too), and what other prices need (:mod:`dse.repricing`); empty if not simulated. Of
        several workloads over all of them, and that of each as ``NAME.FIGURE``.
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

    @property
    def broken(self) -> list[str]:
        """What is broken, the worst first: promises and limits by name, else why there is no simulation."""
        names = [name for name, violation in self.constraints.items() if violation > 0]
        return sorted(names, key=lambda name: -self.constraints[name])

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
    pydantic.ValidationError, SpecError
        If its choices contradict each other.
    """
    return to_deployment(design, spec.models, spec.services, serving=spec.space)


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
        plan = spec.workload.plan
        for service in deployment.services:
            if reason := refusal(plan.service(service.stage), service):
                return "possible", f"{service.stage}: {reason}", 1.0
        price = deployment_usd_per_hour(deployment, plan)
        if limits.usd_per_hour and price > limits.usd_per_hour:
            excess = price / limits.usd_per_hour - 1
            return "usd_per_hour", f"{price:.2f} USD/h, {limits.usd_per_hour:g} allowed", excess
        if limits.power_kw and (power := tdp_w(deployment, plan) / 1e3) > limits.power_kw:
            excess = power / limits.power_kw - 1
            return "power_kw", f"{power:.2f} kW of TDP, {limits.power_kw:g} allowed", excess
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
    others = len(spec.slos) + len(spec.constraints) + 1
    return Evaluation(design, worst_of(spec), {constraint: others + max(excess, 1e-9)}, reason=reason)


def precheck(design: Design, spec: StudySpec) -> Evaluation | None:
    """Return the record of a design that cannot be simulated; None if it can."""
    try:
        deployment = deployment_of(design, spec)
    except ValidationError as error:
        return not_simulated(design, spec, "possible", error.errors()[0]["msg"], 1.0)
    except SpecError as error:
        return not_simulated(design, spec, "possible", str(error), 1.0)
    found = obstacle(deployment, spec)
    return not_simulated(design, spec, *found) if found else None


def build_load(spec: StudySpec) -> tuple[Requests, ...]:
    """Return the requests of each of a study's workloads, in the order of ``spec.cases``."""
    return tuple(build_requests(case.workload) for case in spec.cases)


def evaluate(design: Design, spec: StudySpec, requests: Requests | tuple[Requests, ...]) -> Evaluation:
    """Simulate a design that passed :func:`precheck` and hold it against the study's promises.

    Parameters
    ----------
    design, spec
        What to simulate, and the study.
    requests
        Of each of ``spec.cases``, as :func:`build_load` returns them; without a tuple, of the only one.
    """
    start = time.process_time()
    load = requests if isinstance(requests, tuple) else (requests,)
    deployment = deployment_of(design, spec)
    cases, bottlenecks = list[Figures](), list[str]()
    for case, served in zip(spec.cases, load, strict=True):
        name = f"{case.name}: " if len(spec.cases) > 1 else ""
        try:
            result = simulate(deployment, served, plan=case.workload.plan)
        except Overload as error:
            return not_simulated(design, spec, "overload", f"{name}{error}", 1.0)
        cases.append(figures_of(result, spec))
        bottlenecks.append(f"{name}{result.bottleneck}")
    assessment = assess(cases, spec)
    return Evaluation(
        design=design,
        objectives=assessment.objectives,
        constraints=assessment.constraints,
        figures=assessment.figures,
        bottleneck="; ".join(bottlenecks),
        cpu_s=time.process_time() - start,
    )


def figures_of(result: Result, spec: StudySpec) -> Figures:
    """Return what a study needs to know of a simulation: :attr:`Evaluation.figures` of one workload."""
    asked = [*spec.objectives, *(bound.metric for bound in spec.constraints)]
    if "goodput_requests_per_usd" in asked:
        asked.append("goodput_rps")  # from which it is computed anew where prices change
    _look_up_latencies(result, asked, spec)
    figures = result.summary()
    figures |= {f"{slo.name}_excess": result.violation(slo) for slo in spec.slos}
    figures |= {name: value_of(name, result, spec.slos) for name in asked if name not in figures}
    plan, deployment = result.lowered.plan, result.deployment
    figures |= {"output_tokens": result.output_tokens, "energy_j": result.energy_j}
    figures |= {f"devices.{name}": count for name, count in devices_of(deployment, plan).items()}
    figures["tiers_usd_per_hour"] = tiers_usd_per_hour(deployment)
    return figures | peaks(result)


def _look_up_latencies(result: Result, asked: Sequence[str], spec: StudySpec) -> None:
    """Find all percentiles of a latency that are needed at once, which takes less time than one by one."""
    wanted: dict[LatencyMetric, set[float]] = {}
    for slo in spec.slos:
        wanted.setdefault(slo.metric, {*SHOWN_PERCENTILES}).add(slo.percentile)
    for name in asked:
        latency = latency_of(name)
        if latency and latency[1] is not None:
            wanted.setdefault(latency[0], {*SHOWN_PERCENTILES}).add(latency[1])
    for metric, percents in wanted.items():
        result.percentiles_s(metric, sorted(percents))


def evaluate_many(
    designs: Sequence[Design], spec: StudySpec, requests: Requests | tuple[Requests, ...]
) -> list[Evaluation]:
    """Evaluate several designs in one task, so that a task outweighs its overhead."""
    return [evaluate(design, spec, requests) for design in designs]
