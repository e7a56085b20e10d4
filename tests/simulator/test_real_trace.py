"""The Azure conversation trace on a real deployment: every way of running gives the same integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simulator import Deployment, Requests, Workload, build_requests
from simulator.kernel import Memory, run_compiled, run_interpreted
from simulator.kernel.layout import LINEAR_KNOTS, SEQUENCE_KNOTS
from simulator.lowering import NO_LIMIT, POLICIES, lower
from tests.oracle.engine import OracleClientSpec, OracleProfile, OracleRequest, simulate_llm
from tests.simulator.kernel_memory import assert_empty_at_the_end, assert_same_as_oracle

BLOCKS = 900
"""KV blocks of a client: just above the longest request, so that bursts preempt; on real memory they hardly do."""


def deployment(policy: str) -> Deployment:
    pool = {
        "model": "llama-2-70b",
        "accelerator": "h100-sxm",
        "clients": 4,
        "tp": 4,
        "batching": {"policy": policy, "token_budget_tokens": 512},
        "kv_memory": {"blocks": BLOCKS},
    }
    return Deployment.parse({"pools": [pool], "router": "least_outstanding_tokens"})


@pytest.fixture(scope="module")
def trace(reference: Path) -> Requests:
    """At twice its rate."""
    path = reference / "traces" / "azure_llm_2023_conv.csv"
    return build_requests(Workload.parse({"trace": {"path": str(path), "rate_rps": 11}}))


def outcome(memory: Memory) -> dict[str, np.ndarray]:
    names = ("scheduled_ps", "first_token_ps", "finish_ps", "client", "preemptions")
    return {name: memory.requests[name].copy() for name in names}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_fast_forwarded_stepped_and_uncompiled(policy: str, trace: Requests) -> None:
    fast = lower(deployment(policy), trace).memory
    run_compiled(fast)
    assert_empty_at_the_end(fast)
    if policy != "static":
        assert fast.requests["preemptions"].sum() > 500
    expected = outcome(fast)
    for max_run, run in ((1, run_compiled), (NO_LIMIT, run_interpreted)):
        memory = lower(deployment(policy), trace, max_run=max_run).memory
        run(memory)
        for name, values in outcome(memory).items():
            assert np.array_equal(values, expected[name]), name
        assert np.array_equal(memory.itl_histogram, fast.itl_histogram)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_against_the_oracle(policy: str, trace: Requests) -> None:
    """The first part of the trace only: the oracle is slow."""
    count = 1200
    part = Requests(trace.arrival_ps[:count] // 2, trace.prompt_tokens[:count], trace.output_tokens[:count])
    memory = lower(deployment(policy), part).memory
    run_compiled(memory)
    specs = []
    for client in memory.clients:
        linear, sequences = int(client["linear"]), int(client["sequences"])
        profile = OracleProfile(
            tuple(memory.scratch[linear : linear + LINEAR_KNOTS].tolist()),
            tuple(memory.scratch[sequences : sequences + SEQUENCE_KNOTS].tolist()),
            int(client["attention_ps"]),
            int(client["prefill_pair"]),
            int(client["prefill_read"]),
            decode_ps=int(client["decode_ps"]),
            decode_sequence_ps=int(client["decode_sequence_ps"]),
        )
        specs.append(
            OracleClientSpec(
                "both",
                policy,
                int(client["max_batch"]),
                int(client["token_budget"]),
                int(client["block_tokens"]),
                int(client["total_blocks"]),
                int(client["watermark_blocks"]),
                profile,
                int(client["link_latency_ps"]),
                int(client["link_ps_per_token"]),
                schedules_ahead=bool(client["ahead"]),
            )
        )
    columns = (part.arrival_ps, part.prompt_tokens, part.output_tokens)
    requests = [OracleRequest(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
    expected = simulate_llm(specs, requests, "least_outstanding_tokens", "round_robin")
    if policy != "static":
        assert sum(c.preemptions for c in expected.clients) > 50
    assert_same_as_oracle(memory, expected)
