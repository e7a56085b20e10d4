"""The kernel's memory for a scenario of the oracle, and what both must agree on."""

from __future__ import annotations

from typing import Any

import numpy as np

from simulator.kernel import Memory, allocate, new_clients, new_requests, new_stages
from simulator.kernel.layout import CACHE, ITL_BINS, REJECTED, UNSEEN, VISIT_FIELDS
from simulator.lowering import KEEPS, ORDERS, POLICIES, QUANTITIES, ROLES, ROUTERS, WRITES
from tests.oracle.engine import OracleClientSpec, OracleRequest, OracleResult, itl_bin
from tests.oracle.scenarios import Scenario


def memory_of(scenario: Scenario, max_run: int) -> Memory:
    """Return the memory of a scenario."""
    tables: list[int] = []
    clients = new_clients(len(scenario.clients))
    for client, spec in zip(clients, scenario.clients, strict=True):
        _fill_client(client, spec, tables)
    stages = new_stages(len(scenario.stages))
    for stage, kind in zip(stages, scenario.stages, strict=True):
        stage["llm"] = kind.kind == "llm"
        stage["router"], stage["handover_router"] = ROUTERS[kind.router], ROUTERS[kind.handover_router]
        stage["local_handover"] = kind.local_handover
        for field in ("lend_prefill_tokens", "lend_decode_tokens", "affinity"):
            stage[field] = getattr(kind, field)
    tiers = np.zeros(len(scenario.tiers), dtype=CACHE)
    for number, tier in enumerate(scenario.tiers):
        for field in ("capacity", "link", "latency_ps", "chunk_ps", "spills"):
            tiers[field][number] = getattr(tier, field)
        tiers["behind"][number] = _behind(number, scenario.clients)
    requests, chunks = _requests(scenario.requests)
    return allocate(
        clients,
        stages,
        requests,
        np.asarray(tables, dtype=np.int64),
        max_run=max_run,
        ways=scenario.ways,
        tiers=tiers,
        links=scenario.links,
        chunks=chunks,
        chunk_tokens=scenario.chunk_tokens,
        seed=scenario.seed,
    )


def _fill_client(client: Any, spec: OracleClientSpec, tables: list[int]) -> None:
    client["role"], client["policy"] = ROLES[spec.role], POLICIES[spec.policy]
    client["quantity"], client["order"] = QUANTITIES[spec.quantity], ORDERS[spec.order]
    client["write"] = WRITES[spec.write]
    for field in (
        "stage",
        "group",
        "max_batch",
        "token_budget",
        "block_tokens",
        "total_blocks",
        "watermark_blocks",
        "min_prompt",
        "max_prompt",
        "max_wait_ps",
        "link_latency_ps",
        "link_ps_per_token",
        "link_layers",
        "egress",
        "swap_ps",
        "swap_free",
        "state_blocks",
        "window_tokens",
        "window_share",
        "draft",
        "max_adapters",
        "adapter_ps",
        "adapter_load_ps",
        "eviction_blocks",
        "always_fetch",
    ):
        client[field] = getattr(spec, field)
    profile = spec.profile
    client["attention_ps"], client["prefill_pair"], client["prefill_read"] = (
        profile.attention_ps,
        profile.pair,
        profile.read,
    )
    for field in ("window_ps", "window_pair", "decode_ps", "decode_sequence_ps"):
        client[field] = getattr(profile, field)
    client["cache"] = 0 if spec.cached else -1
    if spec.expected is not None:
        client["expected"] = 1
        client["expected_latency_ps"], client["expected_chunk"], client["expected_miss"] = spec.expected
    client["tier"] = spec.tiers[0] if spec.cached and spec.tiers else -1
    client["linear"] = len(tables)
    tables += profile.linear
    client["sequences"] = len(tables)
    tables += profile.sequences
    client["thresholds"] = len(tables)
    tables += spec.thresholds
    client["ahead"] = spec.schedules_ahead
    client["noise"] = len(tables) if spec.factors else -1
    tables += spec.factors


def _behind(tier: int, clients: list[OracleClientSpec] | tuple[OracleClientSpec, ...]) -> int:
    """Return the tier behind a tier: the one that follows it in the chains that hold it."""
    for spec in clients:
        if tier in spec.tiers[:-1]:
            return spec.tiers[spec.tiers.index(tier) + 1]
    return -1


def _requests(specs: list[OracleRequest] | tuple[OracleRequest, ...]) -> tuple[Any, Any]:
    requests = new_requests(len(specs))
    for field in (
        "arrival_ps",
        "prompt_tokens",
        "output_tokens",
        "media_tokens",
        "way",
        "priority",
        "deadline_ps",
        "adapter",
        "needs",
        "wait_ps",
        "first_follower",
        "followers",
        "prompt_chunks",
    ):
        requests[field] = [getattr(spec, field) for spec in specs]
    requests["query_tokens"] = [s.prompt_tokens if s.query_tokens is None else s.query_tokens for s in specs]
    requests["keep"] = [KEEPS[spec.keep] for spec in specs]
    requests["all_chunks"] = [len(spec.chunk_ids) for spec in specs]
    requests["chunk_first"] = np.cumsum([0, *(len(spec.chunk_ids) for spec in specs)])[:-1]
    chunks = [chunk for spec in specs for chunk in spec.chunk_ids]
    dense = np.unique(np.asarray(chunks, dtype=np.int64), return_inverse=True)[1]
    return requests, dense.astype(np.int32)


def assert_same_as_oracle(memory: Memory, expected: OracleResult) -> None:
    """Check that the kernel left behind what the oracle says, to the last bit."""
    _assert_same_requests(memory, expected)
    _assert_same_clients(memory, expected)
    gaps = np.zeros(ITL_BINS, dtype=np.int64)
    for gap, count in expected.itl_gaps_ps.items():
        gaps[itl_bin(gap)] += count
    assert np.array_equal(memory.itl_histogram, gaps)
    for number, tier in enumerate(expected.tiers):
        for field in ("hit_chunks", "stored_chunks"):
            assert memory.caches[field][number] == getattr(tier, field), (field, number)


def _assert_same_requests(memory: Memory, expected: OracleResult) -> None:
    requests = memory.requests
    rejected = (requests["state"] == REJECTED) | (requests["state"] == UNSEEN)
    assert rejected.tolist() == [r.rejected for r in expected.requests]
    for name in (
        "scheduled_ps",
        "first_token_ps",
        "finish_ps",
        "done_ps",
        "service_ps",
        "prefill_client",
        "preemptions",
    ):
        assert requests[name].tolist() == [getattr(r, name) for r in expected.requests], name
    assert requests["client"].tolist() == [r.finish_client for r in expected.requests]
    served = np.flatnonzero(~rejected)
    assert requests["arrival_ps"][served].tolist() == [expected.requests[r].arrival_ps for r in served]
    for r, first in enumerate(memory.visits.tolist()):
        for number, visit in enumerate(expected.requests[r].visits):
            start = first + VISIT_FIELDS * number
            assert memory.scratch[start : start + VISIT_FIELDS].tolist() == list(visit), (r, number)


def _assert_same_clients(memory: Memory, expected: OracleResult) -> None:
    clients = memory.clients[: len(expected.clients)]
    for name in (
        "busy_ps",
        "steps",
        "service_requests",
        "prefill_tokens",
        "hit_tokens",
        "fetched_tokens",
        "decode_tokens",
        "decode_context_tokens",
        "prefill_pairs",
        "peak_blocks",
        "peak_running",
        "peak_step_tokens",
        "preemptions",
    ):
        assert clients[name].tolist() == [getattr(c, name) for c in expected.clients], name
    for reason, name in ((1, "blocked_kv_ps"), (2, "blocked_batch_ps"), (3, "blocked_budget_ps")):
        assert clients[name].tolist() == [c.blocked_ps[reason] for c in expected.clients], name
    # Clients with the same tables share a histogram of steps.
    for offset in set(clients["step_histogram"].tolist()):
        sharing = np.flatnonzero(clients["step_histogram"] == offset)
        assert memory.step_histogram(int(sharing[0])).sum() == sum(expected.clients[c].steps for c in sharing)


def assert_empty_at_the_end(memory: Memory) -> None:
    """Check that no client holds anything after all requests are served, cached prefixes excepted."""
    clients: Any = memory.clients
    assert clients["free_blocks"].tolist() == clients["total_blocks"].tolist()
    for field in (
        "running",
        "decoding",
        "outstanding",
        "outstanding_tokens",
        "outstanding_prompt",
        "outstanding_output",
        "context_tokens",
        "window_context",
        "active_adapters",
    ):
        assert not clients[field].any(), field
    assert (clients["cached_blocks"] <= clients["total_blocks"]).all()
    assert (memory.caches["size"] <= memory.caches["capacity"]).all()
