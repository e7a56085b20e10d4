"""How each pool forms its batches."""

from __future__ import annotations

from typing import Any, Final

from search_spaces.design import Design
from search_spaces.dimension import Condition, Dimension, Value
from search_spaces.placement import DECODE, MAIN, PREFILL, Places
from search_spaces.space import Space
from simulator.spec.deployment import Batching, Pool

FIRST_COME: Final = ("fcfs",)
"""Queues in order of arrival everywhere: nothing to choose."""

STATIC: Final = "static"
"""The policy under which a batch runs to its end: no reuse, no speculation, no preemption."""

PREFILL_BATCH: Final = 256
"""Prompts in a prefill step: its token budget limits it first."""


def queue_order(orders: tuple[str, ...], place: Places) -> Space:
    """Return the choice of the order of waiting queues, the same in all pools; none if it is that of arrival."""
    if orders == FIRST_COME:
        return Space(())
    return Space((Dimension(f"{place.prefix}order", orders, "who is admitted first"),))


def batching(
    policies: tuple[str, ...], token_budgets: tuple[int, ...], max_batches: tuple[int, ...], place: Places
) -> Space:
    """Return the choice of policy, token budget and batch size.

    A prefill pool has a token budget and a policy, a decode pool a batch size: the rest does not change
    what they do. A pool ``extra`` does as ``main``.
    """
    dimensions: list[Dimension] = []
    if main := place.pool(MAIN):
        name, here = main
        dimensions += [
            Dimension(f"{name}.policy", policies, "batching policy", here),
            Dimension(f"{name}.token_budget_tokens", token_budgets, "tokens in a step", here),
            Dimension(f"{name}.max_batch_requests", max_batches, "requests in a batch", here),
        ]
    if prefill := place.pool(PREFILL):
        name, here = prefill
        dimensions.append(
            Dimension(f"{name}.token_budget_tokens", token_budgets, "prompt tokens in a prefill step", here)
        )
    if decode := place.pool(DECODE):
        name, here = decode
        dimensions.append(Dimension(f"{name}.max_batch_requests", max_batches, "requests in a decode batch", here))
    return Space(tuple(dimensions))


def not_static(policies: tuple[str, ...], place: Places) -> Condition | None:
    """Return the condition under which colocated clients batch other than statically; None if they never do."""
    main = place.pool(MAIN)
    others = tuple(policy for policy in policies if policy != STATIC)
    return (f"{main[0]}.policy", others) if main and others else None


def batching_of(design: Design, prefix: str, kind: str) -> Batching:
    """Return how a pool called ``main``, ``prefill`` or ``decode`` forms its batches.

    Raises
    ------
    pydantic.ValidationError
        If a chunked token budget is below the batch size.
    """
    pool = f"{prefix}{kind}"
    shared: dict[str, Any] = {"order": design.get(f"{prefix}order", "fcfs")}
    if kind == DECODE:
        shared["max_batch_requests"] = design.number(f"{pool}.max_batch_requests")
        return Batching(policy="continuous", **shared)
    budget = design.number(f"{pool}.token_budget_tokens")
    if kind == PREFILL:
        batch = min(PREFILL_BATCH, budget)
        return Batching(policy="chunked", token_budget_tokens=budget, max_batch_requests=batch, **shared)
    shared["max_batch_requests"] = design.number(f"{pool}.max_batch_requests")
    return Batching(policy=design[f"{pool}.policy"], token_budget_tokens=budget, **shared)  # type: ignore[arg-type]


def batching_values(prefix: str, name: str, pool: Pool) -> dict[str, Value]:
    """Return the choices that a pool makes of :func:`batching` and :func:`queue_order`."""
    return {
        f"{name}.policy": pool.batching.policy,
        f"{name}.token_budget_tokens": pool.batching.token_budget_tokens,
        f"{name}.max_batch_requests": pool.batching.max_batch_requests,
        f"{prefix}order": pool.batching.order,
    }
