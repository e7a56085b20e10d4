"""What must hold of whole simulations from specifications: conversations, thinkers, tiers, drafts, swapping."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from simulator import Deployment, Result, Workload, simulate
from simulator.kernel.layout import (
    DONE,
    LOG_BLOCKS,
    LOG_CLIENT,
    LOG_DECODES,
    LOG_END_PS,
    LOG_RUNNING,
    LOG_START_PS,
    LOG_STEPS,
    REJECTED,
    UNSEEN,
)
from simulator.workload import PS_PER_S
from tests.simulator.engines import REQUEST_PS
from tests.simulator.kernel_memory import assert_empty_at_the_end

LOAD: dict[str, Any] = {
    "requests": 400,
    "seed": 5,
    "arrivals": {"process": "gamma", "rate_rps": 6, "burstiness_cv": 2},
    "lengths": {"statistics": "azure-2023-conversation"},
}
TALKS = LOAD | {
    "session": {
        "turns": {"distribution": "geometric", "mean": 4},
        "wait_s": {"distribution": "exponential", "mean_s": 3},
        "prompt_tokens": 200,
        "keep": "offload",
    },
    "prefix": {"system_prompts": 5, "tokens": {"distribution": "uniform", "low_tokens": 200, "high_tokens": 900}},
}
THINKERS = LOAD | {
    "requests": 150,
    "pipeline": [
        {"kind": "tokenise"},
        {"kind": "reason", "branches": 4, "join": "all", "factor": 2, "sigma": 0.5, "summary_tokens": 100},
        {"kind": "detokenise"},
    ],
}
ON_CPUS = [{"stage": stage, "device": "xeon-gold-6448y", "clients": 2} for stage in ("tokenise", "detokenise")]
POOL = {"model": "llama-3.1-8b", "accelerator": "h100-sxm", "clients": 2}
FEW_BLOCKS = {"blocks": 700}

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "cache": (
        {"pools": [POOL | {"prefix_cache": {}, "kv_memory": FEW_BLOCKS}], "router": "prefix_affinity"},
        TALKS,
    ),
    "tiers": (
        {
            "pools": [POOL | {"prefix_cache": {"write": "back", "fetch": "always"}, "kv_memory": FEW_BLOCKS}],
            "router": "session_affinity",
            "tiers": [
                {"name": "host", "clients": 1, "memory_gb": 2, "gb_per_s": 50, "spills": True},
                {"name": "rack", "scope": "rack", "memory_gb": 100, "gb_per_s": 5, "latency_us": 100},
            ],
        },
        TALKS,
    ),
    "apart": (
        {
            "pools": [
                POOL | {"name": "in", "role": "prefill", "groups": 2, "prefix_cache": {}},
                POOL | {"name": "out", "role": "decode", "groups": 2},
            ],
            "link": {"shared": True, "layer_wise": True, "gb_per_s": 5},
            "handover_scope": "local",
            "lending": {"prefill_above_tokens": 4000, "decode_above_tokens": 4000},
        },
        TALKS,
    ),
    "swap": (
        {"pools": [POOL | {"kv_memory": FEW_BLOCKS | {"swap_gb": 8}, "batching": {"order": "shortest_first"}}]},
        LOAD | {"arrivals": {"process": "poisson", "rate_rps": 40}},
    ),
    "draft": (
        {
            "pools": [
                POOL
                | {
                    "speculation": {"draft_model": "llama-3.2-1b", "draft_tokens": 3, "acceptance": 0.7},
                    "kv_memory": FEW_BLOCKS,
                }
            ],
            "router": "power_of_two",
        },
        LOAD | {"arrivals": {"process": "poisson", "rate_rps": 40}},
    ),
    "windows": ({"pools": [POOL | {"model": "gemma-3-12b", "kv_memory": {"blocks": 4000}}]}, LOAD),
    "states": ({"pools": [POOL | {"model": "nemotron-h-8b", "kv_memory": {"blocks": 3000}}], "router": "random"}, LOAD),
    "thinkers": ({"pools": [POOL | {"prefix_cache": {}}], "services": ON_CPUS, "router": "session_affinity"}, THINKERS),
}


@cache
def outcome(name: str) -> Result:
    deployment, workload = CASES[name]
    return simulate(Deployment.parse(deployment), Workload.parse(workload), log=True)


@pytest.fixture(params=sorted(CASES))
def result(request: pytest.FixtureRequest) -> Result:
    return outcome(request.param)


def test_the_cases_cover_what_they_are_for() -> None:
    clients = {name: outcome(name).lowered.memory.clients for name in CASES}
    for name in ("cache", "tiers", "apart", "thinkers"):
        assert clients[name]["hit_tokens"].sum() > 0, name
    assert clients["tiers"]["fetched_tokens"].sum() > 0
    assert (outcome("tiers").lowered.memory.caches["hit_chunks"][:2] > 0).all()
    for name in ("swap", "draft"):
        assert clients[name]["preemptions"].sum() > 10, name
    assert clients["swap"]["swap_ps"].all()
    apart = outcome("apart").lowered.memory.requests
    assert (apart["prefill_client"] != apart["client"]).any()
    assert (apart["prefill_client"] == apart["client"]).any()
    assert clients["windows"]["window_share"][0] > 0
    assert clients["states"]["state_blocks"][0] > 0


def test_every_call_ends_or_is_reported(result: Result) -> None:
    memory = result.lowered.memory
    state = memory.requests["state"]
    assert np.isin(state, (DONE, REJECTED, UNSEEN)).all()
    assert result.rejected == (state != DONE).sum()
    assert len(result.requests()) == result.requests_total == len(state)
    assert result.requests().served.sum() == (state == DONE).sum()
    assert_empty_at_the_end(memory)


def test_first_token_then_end_then_end_of_the_session(result: Result) -> None:
    """TTFT ≤ E2E for each call, and E2E ≤ session for each call of a session that was served to its end."""
    assert (result.queue_s <= result.ttft_s).all()
    assert (result.ttft_s <= result.e2e_s).all()
    sessions = result.lowered.requests.sessions
    if sessions is None:
        assert np.array_equal(result.session_s, result.e2e_s)
        return
    served = result.lowered.memory.requests["state"] == DONE
    assert (result.e2e_s[served] <= result.session_s[sessions.session[served]]).all()


def test_a_session_is_its_chain_of_calls_and_waits(result: Result) -> None:
    """From the last call back to the first, each after the call that released it: ends and waits add up, to the ps.

    A call that follows others waits until the last of their answers is back.
    """
    sessions = result.lowered.requests.sessions
    if sessions is None:
        return
    rows = result.lowered.memory.requests
    served = rows["state"] == DONE
    back_ps = np.where(rows["llm_stage"] >= 0, REQUEST_PS, 0)  # one that only joins others goes nowhere
    assert np.array_equal(np.rint(result.frontend_s[served] * PS_PER_S), back_ps[served])
    reply_ps = np.zeros(len(rows), dtype=np.int64)  # of those that a call follows
    for r in range(len(rows)):
        first, count = int(sessions.first_follower[r]), int(sessions.followers[r])
        for follower in range(first, first + count):
            reply_ps[follower] = max(reply_ps[follower], back_ps[r])
    wait = np.maximum(sessions.wait_ps + reply_ps, 1)
    chain_ps = np.zeros(len(rows), dtype=np.int64)  # of the calls that led to this one and the waits between
    released = sessions.needs == 0
    # A call stands before those that follow it.
    for r in range(len(rows)):
        if not served[r]:
            continue
        assert released[r]
        e2e_ps = int(rows["done_ps"][r] - rows["arrival_ps"][r])
        first, count = int(sessions.first_follower[r]), int(sessions.followers[r])
        for follower in range(first, first + count):
            assert follower > r
            if rows["arrival_ps"][follower] == rows["done_ps"][r] + wait[follower]:
                released[follower] = True
                chain_ps[follower] = chain_ps[r] + e2e_ps + wait[follower]
            elif served[follower]:
                # Others were waited for.
                assert rows["arrival_ps"][follower] > rows["done_ps"][r] + wait[follower]
    first_rows = sessions.first_rows
    last_rows = np.append(first_rows[1:], len(rows)) - 1
    whole = served[last_rows]
    total_ps = (chain_ps + rows["done_ps"] - rows["arrival_ps"] + back_ps)[last_rows]
    assert np.array_equal(total_ps[whole], np.rint(result.session_s[whole] * PS_PER_S))
    # No session is shorter than its calls one after the other, where they do not run side by side.
    if (sessions.followers <= 1).all():
        each_ps = np.where(served, rows["done_ps"] - rows["arrival_ps"] + back_ps, 0)
        sums = np.bincount(sessions.session, weights=each_ps / PS_PER_S)
        waits = np.bincount(sessions.session, weights=np.where(sessions.needs > 0, sessions.wait_ps, 0) / PS_PER_S)
        assert np.allclose((sums + waits)[whole], result.session_s[whole], rtol=1e-9)


@pytest.mark.parametrize("name", sorted(CASES))
def test_kv_is_never_above_capacity(name: str) -> None:
    """By the log of a stepped run: blocks in use at every step, without those of entries that nobody references."""
    deployment, workload = CASES[name]
    result = simulate(Deployment.parse(deployment), Workload.parse(workload), max_run=1, log=True)
    memory, log = result.lowered.memory, result.lowered.memory.log
    assert (log[:, LOG_STEPS] == 1).all()
    assert len(log) > 0
    clients = memory.clients[log[:, LOG_CLIENT]]
    assert (log[:, LOG_BLOCKS] >= 0).all()
    assert (log[:, LOG_BLOCKS] <= clients["total_blocks"]).all()
    assert (memory.clients["peak_blocks"] <= memory.clients["total_blocks"]).all()
    assert (log[:, LOG_RUNNING] <= clients["max_batch"]).all()
    assert (log[:, LOG_DECODES] <= log[:, LOG_RUNNING]).all()
    assert (memory.caches["size"] <= memory.caches["capacity"]).all()
    for use in result.pools:
        assert 0 <= use.kv_peak <= 1


def test_clients_do_one_thing_at_a_time(result: Result) -> None:
    """Entries of one client in the log do not overlap, and make up its busy time and its steps."""
    memory, log = result.lowered.memory, result.lowered.memory.log
    assert (log[:, LOG_START_PS] < log[:, LOG_END_PS]).all()
    for c in range(len(memory.clients)):
        own = log[log[:, LOG_CLIENT] == c]
        own = own[np.argsort(own[:, LOG_START_PS], kind="stable")]
        assert (own[1:, LOG_START_PS] >= own[:-1, LOG_END_PS]).all()
        if len(own):
            assert (own[:, LOG_END_PS] - own[:, LOG_START_PS]).sum() == memory.clients["busy_ps"][c]
            assert own[:, LOG_STEPS].sum() == memory.clients["steps"][c]


def test_prompts_are_computed_or_spared(result: Result) -> None:
    memory = result.lowered.memory
    rows, clients = memory.requests, memory.clients
    served = rows["finish_ps"] >= 0
    prompts = int(rows["prompt_tokens"][served].sum(dtype=np.int64))
    computed = int(clients["prefill_tokens"].sum() + clients["hit_tokens"].sum())
    later = int((rows["output_tokens"][served].astype(np.int64) - 1).sum())
    assert computed >= prompts
    assert clients["decode_tokens"].sum() <= later
    if not clients["preemptions"].any():
        assert computed == prompts
        assert clients["decode_tokens"].sum() == later
    assert memory.itl_histogram.sum() == later


@pytest.mark.parametrize("name", ["cache", "tiers", "apart", "thinkers"])
def test_a_cache_that_lacks_nothing_computes_no_more(name: str) -> None:
    """The same world without a prefix cache computes what this one computes and spares, where nobody is preempted."""
    specification, workload = CASES[name]
    roomy = [pool | {"kv_memory": {}} for pool in specification["pools"]]
    without = [{key: value for key, value in pool.items() if key != "prefix_cache"} for pool in roomy]
    rest = {key: value for key, value in specification.items() if key != "tiers"}
    cached = simulate(Deployment.parse(specification | {"pools": roomy}), Workload.parse(workload))
    plainly = simulate(Deployment.parse(rest | {"pools": without}), Workload.parse(workload))
    clients, others = cached.lowered.memory.clients, plainly.lowered.memory.clients
    assert not clients["preemptions"].any()
    assert clients["hit_tokens"].sum() > 0
    assert clients["prefill_tokens"].sum() + clients["hit_tokens"].sum() == others["prefill_tokens"].sum()
    assert not others["hit_tokens"].any()


@pytest.mark.parametrize("name", sorted(CASES))
def test_steps_do_not_matter(name: str) -> None:
    """Stepping through every iteration gives the same bits."""
    deployment, workload = CASES[name]
    stepped = simulate(Deployment.parse(deployment), Workload.parse(workload), max_run=1)
    first, again = outcome(name).lowered.memory, stepped.lowered.memory
    for field in ("arrival_ps", "scheduled_ps", "first_token_ps", "finish_ps", "done_ps", "client", "preemptions"):
        assert np.array_equal(again.requests[field], first.requests[field]), field
    assert np.array_equal(again.itl_histogram, first.itl_histogram)
    assert stepped.summary() == outcome(name).summary()


@pytest.mark.parametrize("rate", [1, 5, 400])
def test_more_bandwidth_never_makes_a_lone_hand_over_later(rate: float) -> None:
    """One request, nobody else on the link: a link twice as fast hands over no later, shared or by layers."""
    kinds: list[dict[str, Any]] = [{}, {"shared": True}, {"layer_wise": True}, {"shared": True, "layer_wise": True}]
    for kind in kinds:
        ends = []
        for gb_per_s in (rate, 2 * rate):
            pools = [POOL | {"name": role, "role": role} for role in ("prefill", "decode")]
            deployment = Deployment.parse({"pools": pools, "link": kind | {"gb_per_s": gb_per_s}})
            row = simulate(deployment, Workload.parse(LOAD | {"requests": 1})).lowered.memory.requests[0]
            ends.append(int(row["finish_ps"]))
        assert ends[1] <= ends[0], kind
