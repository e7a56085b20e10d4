"""The search space of LLM serving as a person writes it, and the way from a design to a deployment and back."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from search_spaces.batching import batching, queue_order
from search_spaces.design import Design
from search_spaces.dimension import Value
from search_spaces.hardware_mix import hardware_mix
from search_spaces.kv_cache import prefix_cache
from search_spaces.parallelism import parallelism, pipeline_parallelism, precision
from search_spaces.placement import COLOCATED, DISAGGREGATED, placement
from search_spaces.routing import routing
from search_spaces.space import Space
from simulator.errors import SpecError
from simulator.spec.base import Spec
from simulator.spec.deployment import (
    Batching,
    Deployment,
    KvPrecision,
    Policy,
    Pool,
    QueueOrder,
    Role,
    Router,
    WeightPrecision,
)
from simulator.spec.kv_cache import PrefixCache
from simulator.spec.stages import LLM, Service

Count = Annotated[int, Field(ge=1)]
PREFILL_BATCH = 256
"""Prompts in a prefill step: its token budget limits it first."""


class Range(Spec):
    """Whole numbers from ``low`` to ``high``, both included, ``step`` apart."""

    low: Count = Field(default=1, description="smallest value")
    high: Count = Field(description="largest value")
    step: Count = Field(default=1, description="distance between values")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.high < self.low:
            raise ValueError(f"high {self.high} is below low {self.low}")
        return self

    @property
    def values(self) -> tuple[int, ...]:
        """All values."""
        return tuple(range(self.low, self.high + 1, self.step))


class ServingSpace(Spec):
    """What may vary in a study."""

    accelerators: tuple[str, ...] = Field(min_length=1, description="accelerator types that any pool may use")
    clients: Range | tuple[Count, ...] = Field(description="clients per pool: a list, or low and high")
    tp: tuple[Count, ...] = Field(default=(1, 2, 4, 8), min_length=1, description="tensor parallelism")
    layouts: tuple[Literal["colocated", "disaggregated"], ...] = Field(
        default=("colocated", "disaggregated"), min_length=1, description="prefill and decode together or apart"
    )
    weights: tuple[WeightPrecision, ...] = Field(default=("bf16",), min_length=1, description="weight precision")
    kv: tuple[KvPrecision, ...] = Field(default=("bf16",), min_length=1, description="KV-cache precision")
    policies: tuple[Policy, ...] = Field(
        default=("continuous", "chunked"), min_length=1, description="batching policies of colocated clients"
    )
    token_budgets_tokens: tuple[Count, ...] = Field(
        default=(512, 1024, 2048, 4096, 8192), min_length=1, description="token budgets of a step"
    )
    max_batches_requests: tuple[Count, ...] = Field(
        default=(32, 64, 128, 256, 512), min_length=1, description="largest batches"
    )
    routers: tuple[Router, ...] = Field(
        default=("round_robin", "join_shortest_queue", "least_outstanding_tokens"),
        min_length=1,
        description="routing rules",
    )
    pp: tuple[Count, ...] = Field(default=(1,), min_length=1, description="pipeline parallelism")
    orders: tuple[QueueOrder, ...] = Field(
        default=("fcfs",), min_length=1, description="orders of waiting queues, the same in all pools"
    )
    prefix_cache: tuple[bool, ...] = Field(
        default=(False,),
        min_length=1,
        description="reuse of KV between prompts that begin alike, where prompts are read",
    )

    @property
    def space(self) -> Space:
        """The dimensions, conditional on the layout."""
        counts = self.clients.values if isinstance(self.clients, Range) else self.clients
        layouts = tuple(self.layouts)
        return (
            placement(layouts)
            | hardware_mix(self.accelerators, counts, layouts)
            | parallelism(self.tp, layouts)
            | precision(self.weights, self.kv)
            | batching(self.policies, self.token_budgets_tokens, self.max_batches_requests, layouts)
            | routing(self.routers)
            | pipeline_parallelism(self.pp, layouts)
            | queue_order(self.orders)
            | prefix_cache(self.prefix_cache, self.policies, layouts)
        )


def to_deployment(design: Design, model: str, services: tuple[Service, ...] = (), *, stage: str = LLM) -> Deployment:
    """Return the deployment that a design describes, serving a model, with the given services around it.

    Parameters
    ----------
    design
        The choices.
    model
        What all pools serve.
    services
        Clients of the service stages, the same in every design.
    stage
        Name of the LLM stage.

    Raises
    ------
    pydantic.ValidationError
        If the choices contradict each other, e.g. a chunked token budget below the batch size.
    """
    order: QueueOrder = design.get("order", "fcfs")  # type: ignore[assignment]
    if design["layout"] == COLOCATED:
        main = Batching(
            policy=design["main.policy"],  # type: ignore[arg-type]
            token_budget_tokens=design.number("main.token_budget_tokens"),
            max_batch_requests=design.number("main.max_batch_requests"),
            order=order,
        )
        pools: tuple[Pool, ...] = (_pool(design, model, stage, "main", "both", main),)
    else:
        budget = design.number("prefill.token_budget_tokens")
        batch = min(PREFILL_BATCH, budget)
        prefill = Batching(policy="chunked", token_budget_tokens=budget, max_batch_requests=batch, order=order)
        batch = design.number("decode.max_batch_requests")
        decode = Batching(policy="continuous", max_batch_requests=batch, order=order)
        pools = (
            _pool(design, model, stage, "prefill", "prefill", prefill),
            _pool(design, model, stage, "decode", "decode", decode),
        )
    router = design["router"]
    return Deployment(pools=pools, router=router, handover_router=router, services=services)  # type: ignore[arg-type]


def _pool(design: Design, model: str, stage: str, name: str, role: Role, batching: Batching) -> Pool:
    return Pool(
        name=name,
        model=model,
        accelerator=design.text(f"{name}.accelerator"),
        clients=design.number(f"{name}.clients"),
        tp=design.number(f"{name}.tp"),
        pp=design.number(f"{name}.pp") if f"{name}.pp" in design else 1,
        stage=stage,
        role=role,
        weights=design["weights"],  # type: ignore[arg-type]
        kv=design["kv"],  # type: ignore[arg-type]
        batching=batching,
        prefix_cache=PrefixCache() if design.get(f"{name}.prefix_cache") else None,
    )


def to_design(deployment: Deployment, space: Space) -> Design:
    """Return the design that describes a deployment; the inverse of :func:`to_deployment`.

    Raises
    ------
    SpecError
        If a choice of the deployment is not in the space, or is none that a design makes.
    """
    pools = {("main" if pool.role == "both" else pool.role): pool for pool in deployment.pools}
    first = deployment.pools[0]
    values: dict[str, Value] = {
        "layout": COLOCATED if "main" in pools else DISAGGREGATED,
        "weights": first.weights,
        "kv": first.kv,
        "router": deployment.router,
        "order": first.batching.order,
    }
    for name, pool in pools.items():
        values[f"{name}.accelerator"] = pool.accelerator
        values[f"{name}.clients"] = pool.clients
        values[f"{name}.tp"] = pool.tp
        values[f"{name}.pp"] = pool.pp
        values[f"{name}.prefix_cache"] = pool.prefix_cache is not None
        values[f"{name}.policy"] = pool.batching.policy
        values[f"{name}.token_budget_tokens"] = pool.batching.token_budget_tokens
        values[f"{name}.max_batch_requests"] = pool.batching.max_batch_requests
    design = space.design(values)
    if to_deployment(design, first.model, deployment.services, stage=first.stage) != deployment:
        raise SpecError("deployment: has settings that no design of this space expresses, such as a link or KV memory")
    return design
