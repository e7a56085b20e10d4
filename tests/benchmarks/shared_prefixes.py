"""Prefix caches, three tiers and a router that looks for hits: the Mooncake conversation trace."""

from __future__ import annotations

from simulator import Deployment, Workload, build_requests
from tests.benchmarks.measure import MOONCAKE, Case, say, times

POOL = {"model": "llama-3.1-70b", "accelerator": "h100-sxm", "tp": 4, "clients": 16, "prefix_cache": {}}
TIERS = [
    {"name": "host", "clients": 1, "memory_gb": 512, "gb_per_s": 50},
    {"name": "ssd", "clients": 4, "memory_gb": 8000, "gb_per_s": 12},
    {"name": "rack", "memory_gb": 32000, "gb_per_s": 20},
]


def shared_prefixes() -> None:
    """Measure with tiers, without, and without any reuse."""
    if not MOONCAKE.exists():
        say("Mooncake conversation trace", f"skipped: {MOONCAKE.name} is not in the reference data")
        return
    requests = build_requests(Workload.parse({"trace": {"path": str(MOONCAKE), "prefixes": True}}))
    everything = {"pools": [POOL], "tiers": TIERS, "router": "prefix_affinity"}
    without = {"pools": [{**POOL, "prefix_cache": None}], "router": "least_outstanding_tokens"}
    found = times(
        *(Case(Deployment.parse(each), requests) for each in (everything, {**everything, "tiers": []}, without))
    )
    what = f"Mooncake conversation trace, {len(requests):,} requests, llama-3.1-70b on 16 x (h100 tp4)"
    say(f"{what}, prefix caches, 3 tiers, prefix affinity", f"{found[0]}")
    say("the same without tiers", f"{found[1]}")
    say("the same without prefix caches, least outstanding tokens", f"{found[2]}")
