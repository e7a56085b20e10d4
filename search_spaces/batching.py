"""How each pool forms its batches."""

from __future__ import annotations

from search_spaces.dimension import Dimension
from search_spaces.placement import COLOCATED, DISAGGREGATED
from search_spaces.space import Space

FIRST_COME = ("fcfs",)
"""Queues in order of arrival everywhere: nothing to choose."""


def queue_order(orders: tuple[str, ...]) -> Space:
    """Return the choice of the order of waiting queues, the same in all pools; none if it is that of arrival."""
    if orders == FIRST_COME:
        return Space(())
    return Space((Dimension("order", orders, "who is admitted first"),))


def batching(
    policies: tuple[str, ...],
    token_budgets: tuple[int, ...],
    max_batches: tuple[int, ...],
    layouts: tuple[str, ...],
) -> Space:
    """Return the choice of policy, token budget and batch size.

    A prefill pool has a token budget and a policy, a decode pool a batch size: the rest does not change
    what they do.
    """
    dimensions: list[Dimension] = []
    if COLOCATED in layouts:
        here = ("layout", (COLOCATED,))
        dimensions += [
            Dimension("main.policy", policies, "batching policy", here),
            Dimension("main.token_budget_tokens", token_budgets, "tokens in a step", here),
            Dimension("main.max_batch_requests", max_batches, "requests in a batch", here),
        ]
    if DISAGGREGATED in layouts:
        here = ("layout", (DISAGGREGATED,))
        dimensions += [
            Dimension("prefill.token_budget_tokens", token_budgets, "prompt tokens in a prefill step", here),
            Dimension("decode.max_batch_requests", max_batches, "requests in a decode batch", here),
        ]
    return Space(tuple(dimensions))
