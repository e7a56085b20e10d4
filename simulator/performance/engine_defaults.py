"""Settings that a specification leaves to the engine."""

from __future__ import annotations

from typing import Any

from simulator.performance.engine import profile_of
from simulator.spec.deployment import Deployment, EngineSettings, Pool


def with_engine_defaults(pool: Pool) -> Pool:
    """Return a pool in which the engine's defaults stand where its specification says nothing.

    A batch is not made larger than the token budget that is given, and a static batch is never scheduled ahead.
    """
    defaults = profile_of(pool).defaults
    batching, memory = _unset(pool.batching, defaults), _unset(pool.kv_memory, defaults)
    if pool.batching.policy == "static":
        batching.pop("schedule_ahead", None)
    else:
        budget = batching.get("token_budget_tokens", pool.batching.token_budget_tokens)
        if "max_batch_requests" in batching:
            batching["max_batch_requests"] = min(batching["max_batch_requests"], budget)
        if "token_budget_tokens" in batching:
            largest = batching.get("max_batch_requests", pool.batching.max_batch_requests)
            batching["token_budget_tokens"] = max(budget, largest)
    changes: dict[str, Any] = {}
    if batching:
        changes["batching"] = pool.batching.model_copy(update=batching)
    if memory:
        changes["kv_memory"] = pool.kv_memory.model_copy(update=memory)
    return pool.model_copy(update=changes) if changes else pool


def resolved(deployment: Deployment) -> Deployment:
    """Return a deployment in which every default of its engines is written out, for whoever does not know them."""
    return deployment.model_copy(update={"pools": tuple(with_engine_defaults(pool) for pool in deployment.pools)})


def _unset(given: EngineSettings, defaults: Any) -> dict[str, Any]:
    """Return the defaults of an engine for what a specification does not set."""
    values = {name: getattr(defaults, name) for name in given.LEFT_TO_ENGINE if name not in given.model_fields_set}
    return {name: value for name, value in values.items() if value is not None}
