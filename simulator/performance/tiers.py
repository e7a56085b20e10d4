"""Tiers of KV as they are written, and as the catalogue completes them."""

from __future__ import annotations

from simulator import catalog
from simulator.spec.kv_cache import LATENCY_US, Tier


class ResolvedTier(Tier):
    """A tier all of whose figures are known."""

    memory_gb: float
    gb_per_s: float
    latency_us: float
    usd_per_gb_hour: float


def resolved_tier(tier: Tier) -> ResolvedTier:
    """Return a tier with what it leaves out: the figures of its kind; without a kind 10 µs of latency and no price.

    Raises
    ------
    SpecError
        If the catalogue has no such kind; close names are suggested.
    """
    if tier.kind is None:
        absent = {"latency_us": LATENCY_US, "usd_per_gb_hour": 0.0}
    else:
        memory = catalog.tier(tier.kind)
        absent = {
            "memory_gb": memory.memory_gb,
            "gb_per_s": memory.gb_per_s,
            "latency_us": memory.latency_us,
            "usd_per_gb_hour": memory.usd_per_gb_hour,
        }
    return ResolvedTier(**absent | tier.model_dump(exclude_none=True))
