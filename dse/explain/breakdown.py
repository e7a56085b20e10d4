"""The steps of a deployment's pools and the batches of its services, taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from dse.words import seconds
from simulator import Deployment, Pool, SpecError, Workload
from simulator.lowering import check_services
from simulator.performance.coefficients import Coefficients
from simulator.performance.engine import Engine, engine_of
from simulator.performance.engine_defaults import with_engine_defaults
from simulator.performance.explanation import (
    LATENCY_BOUND,
    Bound,
    Row,
    StepExplanation,
    StepLoad,
    drafted_tokens,
    engine_coefficients,
    explain_prompt,
    explain_step,
    request_seconds,
)
from simulator.performance.memory import kv_blocks
from simulator.performance.provenance import provenance_of
from simulator.performance.service_cost import service_cost
from simulator.spec.pipeline_plan import PipelinePlan
from simulator.spec.stages import EncodeStage, Service, ServiceStage

StepKind = Literal["prefill", "decode", "mixed"]
STEPS: Final[tuple[StepKind, ...]] = ("prefill", "decode", "mixed")


@dataclass(frozen=True)
class Conditions:
    """What the steps work on.

    Attributes
    ----------
    prompt_tokens
        Prompt as the LLM reads it, retrieved documents included.
    context_tokens
        Tokens whose KV each decoding request has stored.
    batch
        Requests that decode.
    output_tokens
        Answer, for services after the LLM.
    """

    prompt_tokens: int = 1024
    context_tokens: int = 1024
    batch: int = 32
    output_tokens: int = 256

    def __post_init__(self) -> None:
        """Refuse what no step can have."""
        for name, value in vars(self).items():
            least = 0 if name == "context_tokens" else 1
            if value < least:
                raise SpecError(f"--{name.replace('_', '-')}: must be at least {least}, given {value}")


@dataclass(frozen=True)
class PoolBreakdown:
    """One client of a pool.

    Attributes
    ----------
    pool, engine
        What it is.
    coefficients
        What its times were computed with.
    steps
        Its steps.
    notes
        What a reader must know.
    """

    pool: Pool
    engine: Engine
    coefficients: Coefficients
    steps: tuple[StepExplanation, ...]
    notes: tuple[str, ...]

    @property
    def kernels_words(self) -> str:
        """Where the times of kernels come from."""
        kernels = self.coefficients.kernels
        said = f"calibrated: {kernels.calibrated}"
        if kernels.transferred_from:
            said += f" from {kernels.transferred_from}"
        return f"{said} ({kernels.source}, {kernels.date})"

    @property
    def engine_words(self) -> str:
        """Where the engine's overheads come from, and what of them is in no step."""
        profile = self.engine.profile
        if profile is None:
            return "overheads set by hand"
        said = f"{profile.name}, calibrated: {self.engine_calibrated}"
        if self.engine_calibrated == "transferred":
            said += f" from {', '.join(profile.accelerators)}"
        said += f" ({profile.source}, {profile.date})"
        way = request_seconds(self.engine)
        return f"{said}; a request's way there and back, in no step: {seconds(way)}" if way else said

    @property
    def engine_calibrated(self) -> str:
        """Whether the engine's overheads were fitted, and to this accelerator."""
        return provenance_of(self.engine).engine_calibrated


@dataclass(frozen=True)
class ServiceBreakdown:
    """A full batch of a service on one client.

    Attributes
    ----------
    service, stage
        What it is.
    quantity, units
        What its work depends on besides the number of requests, and how many of it the batch has.
    seconds, compute_s, memory_s
        Duration, and what arithmetic and memory alone would need.
    """

    service: Service
    stage: ServiceStage
    quantity: str
    units: int
    seconds: float
    compute_s: float
    memory_s: float

    @property
    def requests_per_s(self) -> float:
        """Requests a second of all its clients."""
        return self.service.clients * self.service.max_batch_requests / self.seconds

    @property
    def unit_words(self) -> str:
        """What the units are."""
        return "patches" if self.quantity == "media" else f"{self.quantity} tokens"

    @property
    def bound(self) -> Bound:
        """What most of its time goes to; latency: the host, or one core of many."""
        longest = max(self.compute_s, self.memory_s)
        if longest < LATENCY_BOUND * self.seconds:
            return "latency"
        return "compute" if self.compute_s >= self.memory_s else "memory bandwidth"


@dataclass(frozen=True)
class DeploymentBreakdown:
    """All pools and services.

    Attributes
    ----------
    conditions
        What the steps work on.
    pools, services
        What was taken apart.
    notes
        What was left out.
    """

    conditions: Conditions
    pools: tuple[PoolBreakdown, ...]
    services: tuple[ServiceBreakdown, ...]
    notes: tuple[str, ...] = ()


def explain_deployment(
    deployment: Deployment,
    workload: Workload | None = None,
    conditions: Conditions | None = None,
    *,
    pool: str | None = None,
    steps: Sequence[StepKind] = ("prefill", "decode"),
) -> DeploymentBreakdown:
    """Return the steps of a deployment's pools and the batches of its services, taken apart.

    Parameters
    ----------
    deployment
        The system.
    workload
        Its pipeline has the service stages; without it services are left out.
    conditions
        What the steps work on.
    pool
        The only pool to look at, services left out; all if absent.
    steps
        Kinds of steps; a pool of prefill or decode clients has only those of its own.

    Raises
    ------
    SpecError
        If a pool is unknown or its model does not fit, or services are not those of the pipeline.
    """
    conditions = conditions or Conditions()
    names = [each.name for each in deployment.pools]
    if pool is not None and pool not in names:
        raise SpecError(f"--pool: no pool {pool!r}; given: {', '.join(names)}")
    pools = [each for each in deployment.pools if pool in (None, each.name)]
    services: tuple[ServiceBreakdown, ...] = ()
    notes: list[str] = []
    if deployment.services and pool is None:
        if workload is None:
            stages = ", ".join(service.stage for service in deployment.services)
            notes.append(f"services left out ({stages}): what they do is said by the pipeline of a workload")
        else:
            check_services(deployment.services, workload.plan.services)
            services = _services(deployment.services, workload.plan, conditions)
    return DeploymentBreakdown(
        conditions, tuple(_pool(each, conditions, steps) for each in pools), services, tuple(notes)
    )


def steps_of(pool: Pool, steps: Sequence[StepKind]) -> tuple[StepKind, ...]:
    """Return those of some kinds of steps that a pool has."""
    if pool.role == "both":
        return tuple(step for step in steps if step != "mixed" or pool.batching.policy == "chunked")
    return (pool.role,)


def _pool(pool: Pool, conditions: Conditions, kinds: Sequence[StepKind]) -> PoolBreakdown:
    pool = with_engine_defaults(pool)
    engine = engine_of(pool)
    blocks = kv_blocks(pool)
    budget = pool.batching.token_budget_tokens if pool.batching.policy == "chunked" else None
    decoding = StepLoad((), conditions.batch, conditions.context_tokens)
    found = steps_of(pool, kinds)
    steps = []
    for kind in found:
        if kind == "prefill":
            steps.append(explain_prompt(engine, conditions.prompt_tokens, budget))
        elif kind == "decode":
            steps.append(explain_step(engine, kind, decoding))
        else:
            left = pool.batching.token_budget_tokens - conditions.batch * (1 + drafted_tokens(engine))
            if left < 1:
                raise SpecError(
                    f"--batch: {conditions.batch} decodes leave no token of the budget of "
                    f"{pool.batching.token_budget_tokens} for a prompt; lower --batch or raise token_budget_tokens"
                )
            chunk = (min(left, conditions.prompt_tokens), 0)
            steps.append(explain_step(engine, kind, replace(decoding, chunks=(chunk,))))
    return PoolBreakdown(
        pool, engine, engine_coefficients(engine), tuple(steps), tuple(_notes(pool, conditions, blocks, steps))
    )


def _notes(pool: Pool, conditions: Conditions, blocks: int, steps: Sequence[StepExplanation]) -> list[str]:
    notes = []
    for step in steps:
        if len(step.loads) > 1:
            notes.append(
                f"{step.name}: {len(step.loads)} steps of at most {pool.batching.token_budget_tokens:,} tokens, in all"
            )
        rows = ", ".join(row.operator for row in step.unphysical)
        if rows:
            notes.append(f"{step.name}: more than the datasheet's peak of arithmetic: {rows}")
        rows = ", ".join(row.operator for row in step.faster_than_memory)
        if rows:
            notes.append(f"{step.name}: more than the datasheet's memory bandwidth (caches hold the data): {rows}")
    if any(load.decodes for step in steps for load in step.loads):
        if conditions.batch > pool.batching.max_batch_requests:
            notes.append(f"a batch holds at most max_batch_requests {pool.batching.max_batch_requests:,} requests")
        needed = conditions.batch * (conditions.context_tokens + 1)
        held = blocks * pool.kv_memory.block_tokens
        if needed > held:
            notes.append(f"the batch needs KV of {needed:,} tokens, a client holds {held:,}")
    return notes


def _services(services: Sequence[Service], plan: PipelinePlan, conditions: Conditions) -> tuple[ServiceBreakdown, ...]:
    added = max(plan.added_prompt_tokens)
    lengths = {
        "none": 0,
        "query": max(1, conditions.prompt_tokens - added),
        "prompt": conditions.prompt_tokens,
        "output": conditions.output_tokens,
    }
    found = []
    for service in services:
        stage, quantity = plan.service(service.stage), plan.quantity(service.stage)
        length = stage.patches_per_image if isinstance(stage, EncodeStage) else lengths[quantity]
        batch = service.max_batch_requests
        at = np.array([float(batch * length)]), np.array([float(batch)])
        cost = service_cost(stage, service, *at, attention_tokens=float(max(1, length)))
        found.append(
            ServiceBreakdown(
                service,
                stage,
                quantity,
                batch * length,
                float((cost.linear_s + cost.sequences_s)[0]),
                float((cost.linear_compute_s + cost.sequences_compute_s)[0]),
                float((cost.linear_memory_s + cost.sequences_memory_s)[0]),
            )
        )
    return tuple(found)


def to_json(breakdown: DeploymentBreakdown) -> dict[str, Any]:
    """Return everything as plain data: seconds, operations and bytes of one accelerator, shares from 0 to 1."""
    return {
        "conditions": vars(breakdown.conditions),
        "pools": [_pool_json(each) for each in breakdown.pools],
        "services": [
            {
                "stage": each.stage.name,
                "kind": each.stage.kind,
                "device": each.service.device,
                "clients": each.service.clients,
                "devices": each.service.devices,
                "batch_requests": each.service.max_batch_requests,
                "quantity": each.quantity,
                "units": each.units,
                "seconds": each.seconds,
                "requests_per_s": each.requests_per_s,
                "bound": each.bound,
            }
            for each in breakdown.services
        ],
        "notes": list(breakdown.notes),
    }


def _pool_json(each: PoolBreakdown) -> dict[str, Any]:
    pool, kernels = each.pool, each.coefficients.kernels
    return {
        "pool": pool.name,
        "stage": pool.stage,
        "model": each.engine.model.name,
        "accelerator": pool.accelerator,
        "clients": pool.clients,
        "parallelism": {"tp": pool.tp, "pp": pool.pp, "dp": pool.dp, "ep": pool.ep or 1},
        "weights": pool.weights,
        "kv": pool.kv,
        "calibrated": provenance_of(each.engine).calibrated,
        "kernels": {
            "calibrated": kernels.calibrated,
            "transferred_from": kernels.transferred_from,
            "source": kernels.source,
            "date": kernels.date,
        },
        "engine": {
            "name": each.engine.profile.name if each.engine.profile else None,
            "calibrated": each.engine_calibrated,
            "request_s": request_seconds(each.engine),
        },
        "steps": [_step_json(step) for step in each.steps],
        "notes": list(each.notes),
    }


def _step_json(step: StepExplanation) -> dict[str, Any]:
    return {
        "step": step.name,
        "seconds": step.seconds,
        "steps": len(step.loads),
        "prompt_tokens": sum(load.prompt_tokens for load in step.loads),
        "decodes": max(load.decodes for load in step.loads),
        "context_tokens": max(load.context_tokens for load in step.loads),
        "tokens_per_s": step.tokens_per_s,
        "flops": step.flops,
        "moved_bytes": step.moved_bytes,
        "mfu": step.mfu,
        "mbu": step.mbu,
        "engine_share": step.share("engine"),
        "waiting_share": step.share("waiting"),
        "bound": step.bound,
        "pipeline_stages": [
            {"layers": stage.stage.layers, "operators": [_row_json(row, step) for row in stage.rows]}
            for stage in step.stages
        ],
    }


def _row_json(row: Row, step: StepExplanation) -> dict[str, Any]:
    return {
        "operator": row.operator,
        "kind": row.kind,
        "seconds": row.seconds,
        "share": row.seconds / step.seconds,
        "flops": row.flops,
        "moved_bytes": row.moved_bytes,
        "link_bytes": row.link_bytes,
        "flops_per_byte": row.intensity,
        "bound": row.bound,
    }
