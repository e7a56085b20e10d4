"""The compiled kernel, fast-forwarded and stepped, its uncompiled twin, and the oracle: the same integers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.kernel import Memory, allocate, run_compiled, run_interpreted
from simulator.kernel.layout import CLIENT, ITL_BINS
from simulator.lowering import NO_LIMIT, POLICIES, QUANTITIES, ROLES, ROUTERS
from tests.oracle.engine import (
    LINEAR_KNOTS,
    OracleClientSpec,
    OracleProfile,
    OracleRequest,
    OracleResult,
    itl_bin,
    simulate,
)

KNOTS = np.asarray(LINEAR_KNOTS, dtype=np.int64)


@st.composite
def profiles(draw: st.DrawFn) -> OracleProfile:
    base, slope = draw(st.integers(1, 60)), draw(st.integers(0, 12))
    return OracleProfile(
        linear=(base + slope * KNOTS).tolist(),
        sequences=(draw(st.integers(0, 7)) * np.arange(1025)).tolist(),
        attention_ps=draw(st.integers(0, 3)),
        pair=draw(st.sampled_from([0, 700, 2500])),
        read=draw(st.sampled_from([0, 1024, 9000])),
    )


@st.composite
def client_specs(draw: st.DrawFn, role: str) -> OracleClientSpec:
    return OracleClientSpec(
        role=role,
        policy=draw(st.sampled_from(sorted(POLICIES))),
        max_batch=draw(st.integers(1, 7)),
        token_budget=draw(st.integers(1, 24)),
        block_tokens=draw(st.integers(1, 5)),
        total_blocks=draw(st.integers(4, 26)),
        watermark_blocks=draw(st.integers(0, 3)),
        profile=draw(profiles()),
        link_latency_ps=draw(st.sampled_from([1, 2, 40])),
        link_ps_per_token=draw(st.integers(0, 4)),
    )


@st.composite
def scenarios(draw: st.DrawFn) -> tuple[list[OracleClientSpec], list[OracleRequest], str, str]:
    roles = draw(
        st.sampled_from(
            [
                ["both"],
                ["both", "both", "both"],
                ["prefill", "decode"],
                ["decode", "prefill", "both", "decode", "prefill"],
                ["decode", "decode", "prefill"],
            ]
        )
    )
    clients = [draw(client_specs(role)) for role in roles]
    # Few distinct times, so that events coincide.
    quantum = draw(st.sampled_from([1, 10, 100]))
    count = draw(st.integers(1, 30))
    gaps = draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    lengths = draw(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 40)), min_size=count, max_size=count))
    arrivals = np.cumsum(gaps) * quantum
    requests = [OracleRequest(int(t), p, o) for t, (p, o) in zip(arrivals, lengths, strict=True)]
    return clients, requests, draw(st.sampled_from(sorted(ROUTERS))), draw(st.sampled_from(sorted(ROUTERS)))


def memory_of(
    specs: list[OracleClientSpec],
    requests: list[OracleRequest],
    router: str,
    handover_router: str,
    max_run: int,
    llm_stage: int = 0,
) -> Memory:
    clients = np.zeros(len(specs), dtype=CLIENT)
    tables: list[int] = []
    for client, spec in zip(clients, specs, strict=True):
        client["role"], client["policy"] = ROLES[spec.role], POLICIES[spec.policy]
        client["max_batch"], client["token_budget"] = spec.max_batch, spec.token_budget
        client["block_tokens"], client["total_blocks"] = spec.block_tokens, spec.total_blocks
        client["watermark_blocks"] = spec.watermark_blocks
        client["attention_ps"] = spec.profile.attention_ps
        client["prefill_pair"], client["prefill_read"] = spec.profile.pair, spec.profile.read
        client["link_latency_ps"] = spec.link_latency_ps
        client["link_ps_per_token"] = spec.link_ps_per_token
        client["stage"], client["max_wait_ps"] = spec.stage, spec.max_wait_ps
        client["quantity"] = QUANTITIES[spec.quantity]
        client["linear"] = len(tables)
        tables += spec.profile.linear
        client["sequences"] = len(tables)
        tables += spec.profile.sequences
    return allocate(
        clients,
        np.asarray(tables, dtype=np.int64),
        np.array([r.arrival_ps for r in requests], dtype=np.int64),
        np.array([r.prompt_tokens for r in requests]),
        np.array([r.output_tokens for r in requests]),
        router=ROUTERS[router],
        handover_router=ROUTERS[handover_router],
        max_run=max_run,
        query_tokens=np.array([r.prompt_tokens if r.query_tokens is None else r.query_tokens for r in requests]),
        llm_stage=llm_stage,
    )


def assert_same_as_oracle(memory: Memory, expected: OracleResult) -> None:
    for name in (
        "scheduled_ps",
        "first_token_ps",
        "finish_ps",
        "done_ps",
        "service_ps",
        "prefill_client",
        "preemptions",
    ):
        assert memory.requests[name].tolist() == [getattr(r, name) for r in expected.requests], name
    assert memory.requests["client"].tolist() == [r.finish_client for r in expected.requests]
    for name in (
        "busy_ps",
        "steps",
        "service_requests",
        "prefill_tokens",
        "decode_tokens",
        "decode_context_tokens",
        "prefill_pairs",
        "peak_blocks",
        "preemptions",
    ):
        assert memory.clients[name].tolist() == [getattr(c, name) for c in expected.clients], name
    for reason, name in ((1, "blocked_kv_ps"), (2, "blocked_batch_ps"), (3, "blocked_budget_ps")):
        assert memory.clients[name].tolist() == [c.blocked_ps[reason] for c in expected.clients], name
    gaps = np.zeros(ITL_BINS, dtype=np.int64)
    for gap, count in expected.itl_gaps_ps.items():
        gaps[itl_bin(gap)] += count
    assert np.array_equal(memory.itl_histogram, gaps)
    # Clients with the same tables share a histogram of steps.
    for offset in set(memory.clients["step_histogram"].tolist()):
        sharing = np.flatnonzero(memory.clients["step_histogram"] == offset)
        assert memory.step_histogram(int(sharing[0])).sum() == sum(expected.clients[c].steps for c in sharing)


def assert_empty_at_the_end(memory: Memory) -> None:
    clients: Any = memory.clients
    assert clients["free_blocks"].tolist() == clients["total_blocks"].tolist()
    for field in ("running", "decoding", "outstanding", "outstanding_tokens", "context_tokens"):
        assert not clients[field].any(), field


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scenarios())
def test_bitwise_equal(scenario: tuple[list[OracleClientSpec], list[OracleRequest], str, str]) -> None:
    specs, requests, router, handover_router = scenario
    expected = simulate(specs, requests, router, handover_router)
    for max_run, run in (
        (NO_LIMIT, run_compiled),
        (1, run_compiled),
        (3, run_compiled),
        (NO_LIMIT, run_interpreted),
    ):
        memory = memory_of(specs, requests, router, handover_router, max_run)
        run(memory)
        assert_same_as_oracle(memory, expected)
        assert_empty_at_the_end(memory)


@st.composite
def service_specs(draw: st.DrawFn, stage: int) -> OracleClientSpec:
    return OracleClientSpec(
        role="service",
        policy="static",
        max_batch=draw(st.integers(1, 5)),
        token_budget=1,
        block_tokens=1,
        total_blocks=0,
        watermark_blocks=0,
        profile=draw(profiles()),
        link_latency_ps=draw(st.sampled_from([1, 7, 100])),
        link_ps_per_token=0,
        stage=stage,
        max_wait_ps=draw(st.sampled_from([0, 1, 30, 400])),
        quantity=draw(st.sampled_from(sorted(QUANTITIES))),
    )


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[list[OracleClientSpec], list[OracleRequest], str, str, int, int]:
    """A scenario with services before and after the LLM, clients in any order."""
    llm_clients, llm_requests, router, handover_router = draw(scenarios())
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    clients = [replace(spec, stage=before) for spec in llm_clients]
    for stage in range(before + after + 1):
        if stage != before:
            clients += [draw(service_specs(stage)) for _ in range(draw(st.integers(1, 2)))]
    shortened = draw(st.lists(st.integers(0, 29), min_size=len(llm_requests), max_size=len(llm_requests)))
    requests = [
        replace(request, query_tokens=max(1, request.prompt_tokens - cut))
        for request, cut in zip(llm_requests, shortened, strict=True)
    ]
    return draw(st.permutations(clients)), requests, router, handover_router, before + after + 1, before


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(pipelines())
def test_pipelines_are_bitwise_equal(
    scenario: tuple[list[OracleClientSpec], list[OracleRequest], str, str, int, int],
) -> None:
    specs, requests, router, handover_router, stages, llm_stage = scenario
    expected = simulate(specs, requests, router, handover_router, stages, llm_stage)
    for max_run, run in ((NO_LIMIT, run_compiled), (1, run_compiled), (NO_LIMIT, run_interpreted)):
        memory = memory_of(specs, requests, router, handover_router, max_run, llm_stage)
        run(memory)
        assert_same_as_oracle(memory, expected)
        assert_empty_at_the_end(memory)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_under_memory_pressure(policy: str) -> None:
    """Many requests, few blocks: preemption over preemption, and still the same integers."""
    rng = np.random.default_rng(7)
    profile = OracleProfile((40 + 3 * KNOTS).tolist(), np.arange(1025).tolist(), 2, 900, 3000)
    spec = OracleClientSpec("both", policy, 8, 32, 4, 40, 1, profile, 0, 0)
    arrivals = np.cumsum(rng.integers(0, 400, 300))
    requests = [
        OracleRequest(int(t), int(p), int(o))
        for t, p, o in zip(arrivals, rng.integers(1, 60, 300), rng.integers(1, 80, 300), strict=True)
    ]
    expected = simulate([spec, spec], requests, "least_outstanding_tokens", "round_robin")
    if policy != "static":
        assert sum(c.preemptions for c in expected.clients) > 50
    for max_run, run in ((NO_LIMIT, run_compiled), (1, run_compiled), (NO_LIMIT, run_interpreted)):
        memory = memory_of([spec, spec], requests, "least_outstanding_tokens", "round_robin", max_run)
        run(memory)
        assert_same_as_oracle(memory, expected)
