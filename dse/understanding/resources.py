"""What the pools of a design did, and what each part of it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator import Result
from simulator.performance.price import pool_usd_per_hour, service_usd_per_hour, tiers_usd_per_hour

if TYPE_CHECKING:
    import pandas as pd

SHARES = (
    "busy",
    "compute",
    "memory_bandwidth",
    "link",
    "kv_peak",
    "blocked_by_kv",
    "blocked_by_batch",
    "blocked_by_budget",
)
"""Figures of a pool that are shares."""


def costs(simulation: Result) -> dict[str, float]:
    """Return what each part of a deployment costs, USD per hour: pools, services, tiers together."""
    found: dict[str, float] = {}
    for plan in simulation.lowered.pools:
        found[plan.pool.name] = pool_usd_per_hour(plan.pool)
    for service in simulation.lowered.services:
        name = f"{service.service.stage} on {service.service.device}"
        found[name] = found.get(name, 0.0) + service_usd_per_hour(service.service, service.stage)
    tiers = tiers_usd_per_hour(simulation.deployment)
    return found | ({"tiers": tiers} if tiers else {})


def resources(simulation: Result) -> pd.DataFrame:
    """Return what each pool and service of a simulated design did.

    Parameters
    ----------
    simulation
        Of :meth:`dse.result.StudyResult.simulate`.

    Returns
    -------
    pandas.DataFrame
        By pool, services after them: ``clients``, ``usd_per_hour``, ``share_of_cost``; shares of the span ``busy``,
        ``compute``, ``memory_bandwidth``, ``link``, ``blocked_by_kv``, ``blocked_by_batch``, ``blocked_by_budget``;
        ``kv_peak`` (largest share of KV blocks in use on a client); ``mean_batch_requests`` (requests that decode in a
        step; of a service: in a batch), ``mean_step_tokens`` (tokens read and written in a step), ``preemptions`` and
        ``bottleneck``. NaN where a service has no such figure.
    """
    import pandas as pd

    whole = simulation.usd_per_hour
    by_part = costs(simulation)
    rows: list[dict[str, object]] = []
    for plan, use in zip(simulation.lowered.pools, simulation.pools, strict=True):
        clients = simulation.lowered.memory.clients[plan.first : plan.first + plan.pool.clients]
        steps = max(1, int(clients["steps"].sum()))
        decoded, read = int(clients["decode_tokens"].sum()), int(clients["prefill_tokens"].sum())
        rows.append(
            {
                "name": use.name,
                "clients": plan.pool.clients,
                "usd_per_hour": by_part[use.name],
                **{field: getattr(use, field) for field in SHARES},
                "mean_batch_requests": decoded / steps,
                "mean_step_tokens": (decoded + read) / steps,
                "preemptions": use.preemptions,
                "bottleneck": use.bottleneck,
            }
        )
    for each, spent in zip(simulation.lowered.services, simulation.services, strict=True):
        rows.append(
            {
                "name": spent.name,
                "clients": each.service.clients,
                "usd_per_hour": service_usd_per_hour(each.service, each.stage),
                "busy": spent.busy,
                "mean_batch_requests": spent.mean_batch,
                "bottleneck": spent.bottleneck,
            }
        )
    columns = ["name", "clients", "usd_per_hour", "share_of_cost", *SHARES]
    columns += ["mean_batch_requests", "mean_step_tokens", "preemptions", "bottleneck"]
    frame = pd.DataFrame(rows, columns=columns)
    frame["share_of_cost"] = frame["usd_per_hour"] / whole if whole else float("nan")
    return frame.set_index("name")
