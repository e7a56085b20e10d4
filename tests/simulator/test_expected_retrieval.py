"""The expected-value form of KV retrieval: against its recursion, and in a simulation of one request at a time."""

from __future__ import annotations

import pytest

from simulator import Deployment, SpecError, Workload, simulate
from simulator.performance.expected_retrieval import expected_retrieval
from simulator.performance.tiers import ResolvedTier, resolved_tier
from simulator.spec.kv_cache import Tier

TIERS = [
    {"name": "host", "memory_gb": 100, "gb_per_s": 50, "latency_us": 20, "hit_rate": 0.6},
    {"name": "rack", "memory_gb": 1000, "gb_per_s": 2, "latency_us": 500, "hit_rate": 0.5},
]
WORKLOAD = {
    "requests": 20,
    "arrivals": {"process": "constant", "rate_rps": 0.01},
    "lengths": {
        "prompt": {"distribution": "constant", "tokens": 100},
        "output": {"distribution": "constant", "tokens": 5},
    },
    "prefix": {"system_prompts": 1, "tokens": 8192},
}


def resolved(tiers: list[dict[str, object]]) -> list[ResolvedTier]:
    return [resolved_tier(Tier.parse(tier)) for tier in tiers]


def recursion_s(tiers: list[ResolvedTier], size_bytes: float, recompute_s: float) -> float:
    """``f_n = h_n (t_n + S/B_n) + (1 - h_n) f_{n+1}``, as it stands in the paper."""
    if not tiers:
        return recompute_s
    first = tiers[0]
    assert first.hit_rate is not None
    hit_s = first.latency_us / 1e6 + size_bytes / (first.gb_per_s * 1e9)
    return first.hit_rate * hit_s + (1 - first.hit_rate) * recursion_s(tiers[1:], size_bytes, recompute_s)


@pytest.mark.parametrize("size_bytes", [0.0, 1e6, 3.3e9])
@pytest.mark.parametrize("recompute_s", [0.0, 0.7])
def test_three_numbers_tell_the_recursion(size_bytes: float, recompute_s: float) -> None:
    tiers = resolved(TIERS)
    found = expected_retrieval(tiers)
    expected_s = found.latency_s + found.s_per_byte * size_bytes + found.miss * recompute_s
    assert expected_s == pytest.approx(recursion_s(tiers, size_bytes, recompute_s), rel=1e-12)


def ttft_s(tiers: list[dict[str, object]]) -> float:
    pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "prefix_cache": {}}
    result = simulate(Deployment.parse({"pools": [pool], "tiers": tiers}), Workload.parse(WORKLOAD))
    assert result.rejected == 0
    assert result.ttft_s.max() == pytest.approx(result.ttft_s.min(), rel=1e-6)
    return float(result.ttft_s[0])


def test_a_sure_hit_takes_its_transfer_and_a_miss_the_prefill() -> None:
    """8,192 tokens of 131,072 bytes over 2e9 bytes/s, 500 us; never found they are computed, twice as it were."""
    hit_s = ttft_s([{**TIERS[1], "hit_rate": 1.0}])
    free_s = ttft_s([{**TIERS[1], "hit_rate": 1.0, "gb_per_s": 1e6, "latency_us": 0}])
    assert hit_s - free_s == pytest.approx(8192 * 131_072 / 2e9 + 500e-6, rel=1e-3)
    miss_s = ttft_s([{**TIERS[1], "hit_rate": 0.0}])
    half_s = ttft_s([{**TIERS[1], "hit_rate": 0.5}])
    assert half_s == pytest.approx((hit_s + miss_s) / 2, rel=1e-3)
    assert miss_s > free_s


def test_hit_rates_are_for_every_tier_or_none() -> None:
    pool = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "prefix_cache": {}}
    tiers = [TIERS[0], {key: value for key, value in TIERS[1].items() if key != "hit_rate"}]
    with pytest.raises(SpecError, match="hit_rate: for every tier or none, missing for rack"):
        Deployment.parse({"pools": [pool], "tiers": tiers})
