"""Runs in windows give what one run gives, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from simulator import Deployment, Workload, build_requests, simulate
from simulator.windows import OUTCOME

CHAT = {
    "requests": 1500,
    "arrivals": {"process": "poisson", "rate_rps": 40},
    "lengths": {"statistics": "azure-2023-conversation"},
}
POOL = {"model": "llama-3.1-8b", "accelerator": "l40s", "clients": 3}
TOKENISER = {"stage": "tokenise", "device": "xeon-gold-6448y", "max_batch_requests": 4}
AGENTS = {
    "session": {"turns": {"distribution": "uniform", "low": 1, "high": 5}, "wait_s": 0.5, "prompt_tokens": 60},
    "prefix": {"system_prompts": 4, "tokens": 512},
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "chunked": ({"pools": [POOL]}, CHAT),
    "shortest first": ({"pools": [{**POOL, "batching": {"order": "shortest_first", "max_batch_requests": 8}}]}, CHAT),
    "ahead, with noise": (
        {"pools": [{**POOL, "batching": {"schedule_ahead": True, "max_batch_requests": 8}, "step_noise_cv": 0.2}]},
        CHAT,
    ),
    "ahead, shortest first": (
        {"pools": [{**POOL, "batching": {"schedule_ahead": True, "order": "shortest_first"}}]},
        CHAT,
    ),
    "random": ({"pools": [POOL], "router": "random", "seed": 5}, CHAT),
    "static": ({"pools": [{**POOL, "batching": {"policy": "static", "max_batch_requests": 16}}]}, CHAT),
    "disaggregated, shared links": (
        {
            "pools": [{**POOL, "name": "p", "role": "prefill"}, {**POOL, "name": "d", "role": "decode"}],
            "link": {"gb_per_s": 2, "shared": True},
        },
        CHAT,
    ),
    "pipeline": (
        {"pools": [POOL], "services": [TOKENISER]},
        {**CHAT, "pipeline": [{"kind": "tokenise"}, "prefill", "decode"]},
    ),
    "speculation": (
        {"pools": [{**POOL, "speculation": {"draft_tokens": 3, "acceptance": 0.7}}]},
        CHAT,
    ),
    "agents with a prefix cache and a tier": (
        {
            "pools": [{**POOL, "prefix_cache": {}}],
            "router": "prefix_affinity",
            "tiers": [{"name": "host", "memory_gb": 20, "gb_per_s": 20}],
        },
        {**CHAT, **AGENTS, "requests": 500, "arrivals": {"process": "poisson", "rate_rps": 8}},
    ),
}


@pytest.mark.parametrize("name", sorted(CASES))
@pytest.mark.parametrize("window", [1, 97, 700])
def test_windows_change_nothing(name: str, window: int) -> None:
    deployment, workload = Deployment.parse(CASES[name][0]), Workload.parse(CASES[name][1])
    requests = build_requests(workload)
    whole = simulate(deployment, requests, plan=workload.plan)
    parts = simulate(deployment, requests, plan=workload.plan, window_requests=window)
    for field in OUTCOME.names or ():
        assert np.array_equal(whole.lowered.memory.requests[field], parts.lowered.memory.requests[field]), field
    for field in ("busy_ps", "steps", "prefill_tokens", "hit_tokens", "decode_tokens", "peak_blocks", "preemptions"):
        assert np.array_equal(whole.lowered.memory.clients[field], parts.lowered.memory.clients[field]), field
    assert whole.summary() == parts.summary()
    assert whole.pools == parts.pools


def test_a_window_holds_whole_sessions_and_little_more() -> None:
    """What the kernel holds is the window and what is under way, not all that ever was."""
    workload = Workload.parse({**CHAT, "requests": 4000, "arrivals": {"process": "poisson", "rate_rps": 5}})
    result = simulate(Deployment.parse({"pools": [POOL]}), workload, window_requests=200)
    assert result.requests_total == 4000
    assert len(result.requests()) == 4000
    assert (result.e2e_s > 0).all()
