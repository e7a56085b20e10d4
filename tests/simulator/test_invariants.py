"""What must hold of every simulation, whatever the cost model says.

Two levels: random bare kernels (hypothesis; tiny lengths and few blocks, so that every rare branch is met) and
real deployments from the catalog. Only claims that can be proven are made: batching has scheduling anomalies, so
"more memory never hurts" or "more clients never hurt" is false in general, and each such test says which form is
true and why.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from simulator import (
    SLO,
    Deployment,
    Overload,
    Requests,
    Result,
    Workload,
    build_requests,
    catalog,
    simulate,
)
from simulator.kernel import Memory, run_compiled
from simulator.kernel.layout import SEQUENCE_KNOTS
from simulator.lowering import NO_LIMIT, Lowered, lower
from simulator.metrics import percentile
from tests.oracle.engine import (
    LINEAR_KNOTS,
    OracleClientSpec,
    OracleProfile,
    OracleRequest,
    itl_bin,
)
from tests.oracle.engine import simulate_llm as simulate_by_oracle
from tests.oracle.scenarios import Scenario
from tests.simulator.engines import REQUEST_S
from tests.simulator.kernel_memory import memory_of
from tests.simulator.plain_scenarios import plain, plain_scenarios, with_clients, with_requests

RELAXED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TIMES = ("arrival_ps", "scheduled_ps", "first_token_ps", "finish_ps")


def run_scenario(scenario: Scenario, max_run: int = NO_LIMIT) -> Memory:
    memory = memory_of(scenario, max_run)
    run_compiled(memory)
    return memory


# ----------------------------------------------------------------------------------------------------------------------
# Any memory, random or real


def assert_causal(memory: Memory) -> None:
    """Each request is served in order of its stages, or rejected and untouched."""
    rows = memory.requests
    served = rows["finish_ps"] >= 0
    assert (rows["arrival_ps"][served] <= rows["scheduled_ps"][served]).all()
    assert (rows["scheduled_ps"][served] < rows["first_token_ps"][served]).all()
    single = served & (rows["output_tokens"] == 1)
    assert (rows["first_token_ps"][single] == rows["finish_ps"][single]).all()
    several = served & (rows["output_tokens"] > 1)
    assert (rows["first_token_ps"][several] < rows["finish_ps"][several]).all()
    for field in TIMES[1:]:
        assert (rows[field][~served] == -1).all()
    assert (rows["client"][served] >= 0).all()
    assert (rows["client"][~served] == -1).all()


def assert_tokens_conserved(memory: Memory) -> None:
    """Every token is computed once; what preemption adds is bounded by what it threw away.

    A first token comes out of a prefill, each later one out of a decode or out of the recomputation after a preemption.
    """
    rows, clients = memory.requests, memory.clients
    served = rows["finish_ps"] >= 0
    prompts = int(rows["prompt_tokens"][served].sum())
    outputs = int(rows["output_tokens"][served].sum())
    recomputations = outputs - int(served.sum()) - int(clients["decode_tokens"].sum())
    recomputed_tokens = int(clients["prefill_tokens"].sum()) - prompts
    evicted = rows["preemptions"].astype(np.int64)
    assert int(evicted.sum()) == int(clients["preemptions"].sum())
    assert 0 <= recomputations <= evicted.sum()
    assert 0 <= recomputed_tokens <= (evicted * (rows["prompt_tokens"] + rows["output_tokens"])).sum()
    if not evicted.any():
        assert recomputations == recomputed_tokens == 0
        # Causal attention: all pairs of a prompt and of each decode, however they are cut into steps.
        p, o = rows["prompt_tokens"][served].astype(np.int64), rows["output_tokens"][served].astype(np.int64)
        assert clients["prefill_pairs"].sum() == (p * (p + 1) // 2).sum()
        assert clients["decode_context_tokens"].sum() == (p * (o - 1) + o * (o - 1) // 2).sum()
    assert memory.itl_histogram.sum() == outputs - served.sum()


def assert_within_limits(memory: Memory) -> None:
    clients = memory.clients
    assert (clients["peak_blocks"] <= clients["total_blocks"]).all()
    assert (clients["busy_ps"] <= max(0, memory.requests["finish_ps"].max())).all()
    blocked = clients["blocked_kv_ps"] + clients["blocked_batch_ps"] + clients["blocked_budget_ps"]
    assert (blocked <= clients["busy_ps"]).all()


@RELAXED
@given(plain_scenarios())
def test_random_kernels_keep_the_books(scenario: Scenario) -> None:
    memory = run_scenario(scenario)
    assert_causal(memory)
    assert_tokens_conserved(memory)
    assert_within_limits(memory)


@RELAXED
@given(plain_scenarios())
def test_a_request_is_rejected_only_if_no_client_holds_it(scenario: Scenario) -> None:
    """Eligibility from the contract: ``both`` needs room for all tokens; ``prefill`` for the prompt, and a decoder."""
    specs, requests = scenario.clients, scenario.requests
    room = {
        role: max((s.total_blocks * s.block_tokens for s in specs if s.role == role), default=0)
        for role in ("both", "prefill", "decode")
    }
    memory = run_scenario(scenario)
    for request, finish in zip(requests, memory.requests["finish_ps"], strict=True):
        whole = request.prompt_tokens + request.output_tokens
        apart = room["prefill"] >= request.prompt_tokens and (request.output_tokens == 1 or room["decode"] >= whole)
        assert (finish >= 0) == (room["both"] >= whole or apart)


# ----------------------------------------------------------------------------------------------------------------------
# Symmetries of time


def whole_picoseconds(spec: OracleClientSpec) -> OracleClientSpec:
    """Return the client with attention coefficients of whole picoseconds, so that scaling them rounds nothing."""
    profile = spec.profile
    return replace(spec, profile=replace(profile, pair=profile.pair // 1024 * 1024, read=profile.read // 1024 * 1024))


def slowed(spec: OracleClientSpec, times: int) -> OracleClientSpec:
    """Return the client with every cost multiplied."""
    profile = spec.profile
    return replace(
        spec,
        profile=OracleProfile(
            linear=tuple(times * value for value in profile.linear),
            sequences=tuple(times * value for value in profile.sequences),
            attention_ps=times * profile.attention_ps,
            pair=times * profile.pair,
            read=times * profile.read,
        ),
        link_latency_ps=times * spec.link_latency_ps,
        link_ps_per_token=times * spec.link_ps_per_token,
    )


def bins_after_doubling(histogram: Any) -> Counter[int]:
    """Return where each inter-token gap's bin lies once the gap is twice as long."""
    bins = np.flatnonzero(histogram)
    moved = Counter[int]()
    for bin_ in bins.tolist():
        # Bins below 256 hold one value each; above, doubling moves a bin of 2^e values onto one of 2^(e+1).
        moved[itl_bin(2 * bin_) if bin_ < 256 else bin_ + 128] += int(histogram[bin_])
    return moved


@RELAXED
@given(plain_scenarios())
def test_a_world_twice_as_slow_does_the_same(scenario: Scenario) -> None:
    """Time has no unit: all costs and arrivals doubled doubles all times and changes no decision."""
    scenario = with_clients(scenario, [whole_picoseconds(spec) for spec in scenario.clients])
    slow_requests = [replace(request, arrival_ps=2 * request.arrival_ps) for request in scenario.requests]
    slow_world = with_clients(scenario, [slowed(spec, 2) for spec in scenario.clients])
    memory, slow = run_scenario(scenario), run_scenario(with_requests(slow_world, slow_requests))

    served = memory.requests["finish_ps"] >= 0
    for field in TIMES:
        assert np.array_equal(slow.requests[field][served], 2 * memory.requests[field][served]), field
    for field in ("client", "prefill_client", "preemptions", "state"):
        assert np.array_equal(slow.requests[field], memory.requests[field]), field
    for field in ("busy_ps", "blocked_kv_ps", "blocked_batch_ps", "blocked_budget_ps"):
        assert np.array_equal(slow.clients[field], 2 * memory.clients[field]), field
    for field in ("steps", "prefill_tokens", "decode_tokens", "peak_blocks", "preemptions"):
        assert np.array_equal(slow.clients[field], memory.clients[field]), field
    doubled = bins_after_doubling(memory.itl_histogram)
    found = {int(b): int(slow.itl_histogram[b]) for b in np.flatnonzero(slow.itl_histogram)}
    assert found == dict(doubled)


@RELAXED
@given(plain_scenarios(), st.integers(1, 10**15))
def test_a_world_that_begins_later_does_the_same(scenario: Scenario, delay_ps: int) -> None:
    """Time has no origin: the same arrivals some days later give the same times, so many days later."""
    late_requests = [replace(request, arrival_ps=request.arrival_ps + delay_ps) for request in scenario.requests]
    memory, late = run_scenario(scenario), run_scenario(with_requests(scenario, late_requests))
    served = memory.requests["finish_ps"] >= 0
    for field in TIMES:
        assert np.array_equal(late.requests[field][served], memory.requests[field][served] + delay_ps), field
    assert np.array_equal(late.clients["busy_ps"], memory.clients["busy_ps"])
    assert np.array_equal(late.itl_histogram, memory.itl_histogram)


@RELAXED
@given(plain_scenarios(), st.data())
def test_the_future_does_not_change_the_past(scenario: Scenario, data: st.DataObject) -> None:
    """Causality across requests: cutting the last arrivals off changes nothing that happened before them."""
    requests = scenario.requests
    keep = data.draw(st.integers(1, len(requests)))
    assume(keep < len(requests))
    whole, cut = run_scenario(scenario), run_scenario(with_requests(scenario, requests[:keep]))
    horizon = requests[keep].arrival_ps
    for field in TIMES[1:]:
        before, after = cut.requests[field], whole.requests[field][:keep]
        past = (before < horizon) | (after < horizon)
        assert np.array_equal(before[past], after[past]), field


# ----------------------------------------------------------------------------------------------------------------------
# More never hurts, where that is true


def one_at_a_time(spec: OracleClientSpec) -> OracleClientSpec:
    """Return a client that serves one request after the other and never runs out of KV."""
    return replace(spec, role="both", max_batch=1, total_blocks=1000)


def assert_no_later(better: Memory, worse: Memory) -> None:
    for field in TIMES[1:]:
        assert (better.requests[field] <= worse.requests[field]).all(), field


@RELAXED
@given(plain_scenarios(), st.integers(2, 5))
def test_a_faster_client_finishes_no_later(scenario: Scenario, times: int) -> None:
    """One client, one request at a time: cheaper steps finish every request no later.

    Proof: the service of a request is a function of the request alone, and first come first served starts are
    ``max(arrival, last finish)`` (Lindley), monotone in every service. With batches it is false (Graham's anomalies): a
    step that ends earlier may start without a request that just misses it.
    """
    client = one_at_a_time(scenario.clients[0])
    fast = run_scenario(with_clients(scenario, [client]))
    slow = run_scenario(with_clients(scenario, [slowed(client, times)]))
    assert_no_later(fast, slow)


@RELAXED
@given(plain_scenarios(), st.integers(1, 3), st.integers(2, 3))
def test_a_multiple_of_the_clients_finishes_no_later(scenario: Scenario, clients: int, times: int) -> None:
    """Round robin over identical clients that serve one request at a time: k times as many finish nothing later.

    Proof: request i goes to client i mod c; with kc clients those before it at its client are a subset of those with c,
    and in a first come first served queue of one server fewer predecessors never delay. It needs a multiple (from 2
    to 3 clients the neighbours change: a short queue may become a long one) and one request at a time.
    """
    client = one_at_a_time(scenario.clients[0])
    few = run_scenario(plain([client] * clients, scenario.requests, "round_robin"))
    many = run_scenario(plain([client] * (clients * times), scenario.requests, "round_robin"))
    assert_no_later(many, few)


@RELAXED
@given(plain_scenarios(), st.integers(1, 6))
def test_a_larger_batch_of_constant_cost_finishes_no_later(scenario: Scenario, max_batch: int) -> None:
    """Steps of constant cost with arrivals on their grid: one more place in the batch finishes nothing later.

    Proof: this is a queue with ``max_batch`` servers, first come first served, and the vector of their free times
    (Kiefer and Wolfowitz) is monotone in their number. Where a step grows with its batch it is false: more
    neighbours slow everyone down.
    """
    step = 10
    profile = OracleProfile((step,) * len(LINEAR_KNOTS), (0,) * 1025, 0, 0, 0)
    client = OracleClientSpec("both", "chunked", max_batch, 10_000, 16, 10_000, 0, profile, 0, 0)
    on_grid = [replace(request, arrival_ps=request.arrival_ps // step * step) for request in scenario.requests]
    few = run_scenario(plain([client], on_grid))
    many = run_scenario(plain([replace(client, max_batch=max_batch + 1)], on_grid))
    assert_no_later(many, few)


@RELAXED
@given(plain_scenarios())
def test_memory_that_is_not_missed_changes_nothing(scenario: Scenario) -> None:
    """A client needs its peak, the watermark, and a block for each running request to grow into; more is not used.

    Proof: blocks enter a decision only in comparisons, all of which had the same outcome: an admission compares
    blocks in use, growth (one a running request at most) and need with the total less the watermark. In general more
    memory *can* hurt: it admits a request whose prefill delays the others' tokens.
    """
    roomy = run_scenario(with_clients(scenario, [replace(spec, total_blocks=1000) for spec in scenario.clients]))
    longest = max(r.prompt_tokens + r.output_tokens for r in scenario.requests)
    snug = []
    for spec, peak in zip(scenario.clients, roomy.clients["peak_blocks"].tolist(), strict=True):
        needed = peak + spec.watermark_blocks + spec.max_batch + 1
        snug.append(replace(spec, total_blocks=max(needed, -(-longest // spec.block_tokens))))
    memory = run_scenario(with_clients(scenario, snug))
    assert np.array_equal(memory.requests, roomy.requests)
    assert np.array_equal(memory.itl_histogram, roomy.itl_histogram)
    assert not memory.clients["blocked_kv_ps"].any()


# ----------------------------------------------------------------------------------------------------------------------
# Real deployments

POOLS: dict[str, list[dict[str, Any]]] = {
    "chunked": [{"model": "llama-3.1-8b", "accelerator": "h100-sxm"}],
    "static": [
        {
            "model": "llama-3.1-70b",
            "accelerator": "h100-sxm",
            "tp": 4,
            "weights": "fp8",
            "clients": 3,
            "batching": {"policy": "static", "max_batch_requests": 16},
        }
    ],
    "continuous": [
        {
            "model": "mixtral-8x7b",
            "accelerator": "a100-80gb",
            "tp": 4,
            "clients": 2,
            "batching": {"policy": "continuous"},
        }
    ],
    "apart": [
        {"name": "in", "model": "llama-3.1-8b", "accelerator": "h100-sxm", "role": "prefill", "clients": 2},
        {"name": "out", "model": "llama-3.1-8b", "accelerator": "a100-80gb", "role": "decode", "clients": 2},
    ],
    "mixed": [
        {"name": "in", "model": "qwen3-8b", "accelerator": "h100-sxm", "role": "prefill"},
        {"name": "out", "model": "qwen3-8b", "accelerator": "l40s", "role": "decode", "kv": "fp8"},
        {"name": "all", "model": "qwen3-8b", "accelerator": "l40s", "batching": {"policy": "continuous"}},
    ],
    "latent": [{"model": "deepseek-v3", "accelerator": "h200-sxm", "tp": 8, "weights": "fp8"}],
    "little memory": [
        {
            "model": "llama-3.1-8b",
            "accelerator": "h100-sxm",
            "clients": 2,
            "kv_memory": {"blocks": 250},
            "batching": {"max_batch_requests": 64, "token_budget_tokens": 512},
        }
    ],
}
ROUTERS = ("round_robin", "join_shortest_queue", "least_outstanding_tokens")


@cache
def load(requests: int = 1500) -> Requests:
    return build_requests(
        Workload.parse(
            {
                "requests": requests,
                "seed": 3,
                "arrivals": {"process": "gamma", "rate_rps": 12, "burstiness_cv": 2.5},
                "lengths": {"statistics": "azure-2023-conversation"},
            }
        )
    )


@cache
def deployment_of(name: str, router: str = "join_shortest_queue") -> Deployment:
    return Deployment.parse({"pools": POOLS[name], "router": router, "handover_router": router})


@cache
def outcome(name: str, router: str = "join_shortest_queue") -> Result:
    return simulate(deployment_of(name, router), load())


@pytest.fixture(params=sorted(POOLS))
def result(request: pytest.FixtureRequest) -> Result:
    return outcome(request.param)


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("name", sorted(POOLS))
def test_real_deployments_keep_the_books(name: str, router: str) -> None:
    memory = outcome(name, router).lowered.memory
    assert_causal(memory)
    assert_tokens_conserved(memory)
    assert_within_limits(memory)


def test_the_cases_cover_what_they_are_for() -> None:
    """Without preemptions, rejections and hand-overs in the sample the tests above would say little."""
    tight = outcome("little memory")
    assert tight.pools[0].preemptions > 10
    assert tight.rejected > 10
    apart = outcome("apart").lowered.memory.requests
    assert (apart["client"][apart["output_tokens"] > 1] >= 2).all()
    assert (apart["prefill_client"] < 2).all()


@pytest.mark.parametrize("name", sorted(POOLS))
def test_simulate_is_deterministic_and_steps_do_not_matter(name: str) -> None:
    """The same call gives the same bits, and so does stepping through every iteration."""
    first = outcome(name)
    for max_run in (NO_LIMIT, 1):
        again = simulate(deployment_of(name), load(), max_run=max_run)
        assert np.array_equal(again.lowered.memory.requests, first.lowered.memory.requests)
        assert np.array_equal(again.lowered.memory.itl_histogram, first.lowered.memory.itl_histogram)
        assert again.summary() == first.summary()


@pytest.mark.parametrize("name", sorted(POOLS))
def test_real_costs_doubled_double_the_times(name: str) -> None:
    """Scaling holds for real tables too: time has no unit."""
    memories = []
    for times in (1, 2):
        requests = load(300)
        lowered = lower(
            deployment_of(name),
            Requests(times * requests.arrival_ps, requests.prompt_tokens, requests.output_tokens),
        )
        memory = lowered.memory
        for field in ("prefill_pair", "prefill_read"):
            # Whole picoseconds, so that the shift rounds nothing; "+ 1024" keeps them above zero.
            memory.clients[field] = times * (memory.clients[field] // 1024 * 1024 + 1024)
        for field in ("attention_ps", "decode_ps", "decode_sequence_ps", "link_latency_ps", "link_ps_per_token"):
            memory.clients[field] *= times
        # Interpolation rounds down between knots: multiples of the widest distance (512) make it exact.
        first, last = memory.clients["linear"].min(), memory.clients["sequences"].max() + SEQUENCE_KNOTS
        tables = memory.scratch[first:last]
        tables[:] = times * (tables // 512 * 512 + 512)
        run_compiled(memory)
        memories.append(memory)
    once, twice = memories
    served = once.requests["finish_ps"] >= 0
    for field in TIMES:
        assert np.array_equal(twice.requests[field][served], 2 * once.requests[field][served]), field
    assert np.array_equal(twice.clients["busy_ps"], 2 * once.clients["busy_ps"])


BETTER_HARDWARE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"accelerator": "h100-sxm"}, {"accelerator": "h200-sxm"}),  # more bandwidth, the same arithmetic
    ({"accelerator": "l4"}, {"accelerator": "l40s"}),  # more of everything
    (
        {"accelerator": "h100-sxm"},
        {"accelerator": "h100-sxm", "weights": "fp8"},
    ),  # half the bytes, twice the peak
    ({"accelerator": "l40s", "kv": "bf16"}, {"accelerator": "l40s", "kv": "fp8"}),
]


@pytest.mark.parametrize(("worse", "better"), BETTER_HARDWARE)
def test_better_hardware_serves_one_at_a_time_no_later(worse: dict[str, Any], better: dict[str, Any]) -> None:
    """A client without batching on a chip that is no worse in any figure finishes no request later.

    True for one request at a time only (see ``test_a_faster_client_finishes_no_later``).
    """
    pool = {"model": "llama-3.1-8b", "batching": {"max_batch_requests": 1}}
    rows = [
        simulate(Deployment.parse({"pools": [pool | hardware]}), load(200)).lowered.memory.requests
        for hardware in (worse, better)
    ]
    assert (rows[0]["finish_ps"] > 0).all()
    for field in TIMES[1:]:
        assert (rows[1][field] <= rows[0][field]).all(), field
    assert rows[1]["finish_ps"].max() < rows[0]["finish_ps"].max()


# ----------------------------------------------------------------------------------------------------------------------
# Metrics


def naive_percentile(values: list[float], percent: str) -> float:
    """Return the smallest value that at least ``percent`` percent of the values do not exceed, by counting."""
    enough = Fraction(percent) * len(values) / 100
    ordered = sorted(values)
    return next(value for value in ordered if bisect_right(ordered, value) >= enough)


@given(
    st.lists(
        st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 7.0, math.inf]) | st.floats(0, 100),
        min_size=1,
        max_size=120,
    ),
    st.decimals("0.1", 100, places=1).map(str) | st.sampled_from(["50", "90", "99", "99.9", "100"]),
)
def test_percentile_is_what_its_definition_says(values: list[float], percent: str) -> None:
    assert percentile(np.array(values), float(percent)) == naive_percentile(values, percent)


def test_percentiles_of_a_result(result: Result) -> None:
    rows = result.requests()
    arrival = result.lowered.memory.requests["arrival_ps"] / 1e12
    for metric in ("ttft", "e2e"):
        stamp = {"ttft": "first_token_ps", "e2e": "finish_ps"}[metric]
        stamps = result.lowered.memory.requests[stamp] / 1e12
        # A rejected request waits for ever.
        seconds = [s - a + REQUEST_S if s >= 0 else math.inf for s, a in zip(stamps, arrival, strict=True)]
        for percent in ("50", "90", "99"):
            expected = naive_percentile(seconds, percent)
            assert result.percentile_s(metric, float(percent)) == pytest.approx(expected, rel=1e-9)
    decoding = rows.output_tokens > 1
    tpot = (rows.e2e_s - rows.ttft_s)[decoding] / (rows.output_tokens[decoding] - 1)
    np.testing.assert_allclose(rows.tpot_s[decoding], tpot, rtol=1e-6)


def oracle_scenario(lowered: Lowered, requests: Requests) -> tuple[list[OracleClientSpec], list[OracleRequest]]:
    """Return lowered clients and their requests in the oracle's words."""
    memory, specs = lowered.memory, []
    for plan in lowered.pools:
        for row in memory.clients[plan.first : plan.first + plan.pool.clients]:
            linear, sequences = int(row["linear"]), int(row["sequences"])
            profile = OracleProfile(
                tuple(memory.scratch[linear : linear + len(LINEAR_KNOTS)].tolist()),
                tuple(memory.scratch[sequences : sequences + SEQUENCE_KNOTS].tolist()),
                int(row["attention_ps"]),
                int(row["prefill_pair"]),
                int(row["prefill_read"]),
                decode_ps=int(row["decode_ps"]),
                decode_sequence_ps=int(row["decode_sequence_ps"]),
            )
            specs.append(
                OracleClientSpec(
                    plan.pool.role,
                    plan.pool.batching.policy,
                    plan.pool.batching.max_batch_requests,
                    plan.pool.batching.token_budget_tokens,
                    plan.pool.kv_memory.block_tokens,
                    plan.blocks,
                    int(row["watermark_blocks"]),
                    profile,
                    int(row["link_latency_ps"]),
                    int(row["link_ps_per_token"]),
                    schedules_ahead=plan.pool.batching.schedule_ahead,
                )
            )
    columns = (requests.arrival_ps, requests.prompt_tokens, requests.output_tokens)
    return specs, [OracleRequest(int(t), int(p), int(o)) for t, p, o in zip(*columns, strict=True)]


@pytest.mark.parametrize("name", sorted(POOLS))
def test_gaps_and_times_of_real_deployments_against_the_oracle(name: str) -> None:
    """Every token stepped one by one: the same times, and gap percentiles at most a bin (0.8 %) above exact ones."""
    requests = load(80)
    result = simulate(deployment_of(name), requests)
    specs, oracle_requests = oracle_scenario(result.lowered, requests)
    expected = simulate_by_oracle(specs, oracle_requests, "join_shortest_queue", "join_shortest_queue")
    assert result.lowered.memory.requests["finish_ps"].tolist() == [r.finish_ps for r in expected.requests]
    gaps = sorted(Counter(expected.itl_gaps_ps).elements())
    for percent in (1, 10, 50, 90, 99, 99.9, 100):
        exact = gaps[math.ceil(Fraction(str(percent)) * len(gaps) / 100) - 1] / 1e12
        assert exact <= result.percentile_s("itl", percent) <= exact * 1.008


def test_latencies_are_in_order(result: Result) -> None:
    rows = result.requests()
    served = rows[rows.served]
    assert (served.queue_s >= 0).all()
    assert (served.frontend_s == REQUEST_S).all()
    assert (served.queue_s + served.frontend_s < served.ttft_s).all()
    assert (served.ttft_s <= served.e2e_s).all()
    assert rows[~rows.served][["frontend_s", "queue_s", "ttft_s", "e2e_s", "tpot_s"]].isna().all(axis=None)
    figures = result.summary()
    for metric in ("ttft", "tpot", "itl", "e2e"):
        assert figures[f"{metric}_p50_s"] <= figures[f"{metric}_p90_s"] <= figures[f"{metric}_p99_s"]
    assert figures["requests"] == len(load())
    assert figures["requests_per_s"] == pytest.approx(served.shape[0] / result.span_s)
    assert figures["output_tokens_per_s"] == pytest.approx(served.output_tokens.sum() / result.span_s)
    assert result.span_s == pytest.approx(float((served.arrival_s + served.e2e_s - REQUEST_S).max()))


def test_energy_lies_between_idle_and_the_limit(result: Result) -> None:
    """Idle power for the span at least, board power for the busy time at most."""
    for use, plan in zip(result.pools, result.lowered.pools, strict=True):
        chip = catalog.accelerator(plan.pool.accelerator)
        devices = plan.pool.clients * plan.pool.tp
        idle = devices * chip.idle_w * result.span_s
        at_most = idle + devices * (chip.tdp_w - chip.idle_w) * result.span_s * use.busy
        assert idle < use.energy_j <= at_most * (1 + 1e-9)
        assert at_most <= devices * chip.tdp_w * result.span_s * (1 + 1e-9)
    assert result.energy_j == pytest.approx(sum(use.energy_j for use in result.pools))
    figures = result.summary()
    assert figures["energy_j_per_output_token"] * result.output_tokens == pytest.approx(result.energy_j)


def test_shares_are_shares(result: Result) -> None:
    """No resource is busier than its client, no client busier than the clock, no cache fuller than full."""
    for use in result.pools:
        assert 0 < use.busy <= 1
        assert 0 < use.kv_peak <= 1
        for share in (use.compute, use.memory_bandwidth, use.link):
            assert 0 <= share <= use.busy
        assert use.blocked_by_kv + use.blocked_by_batch + use.blocked_by_budget <= use.busy * (1 + 1e-9)


def test_cost_is_hours_times_price(result: Result) -> None:
    per_hour = sum(
        pool.clients * pool.tp * catalog.accelerator(pool.accelerator).price_usd_per_hour
        for pool in result.deployment.pools
    )
    assert result.usd_per_hour == pytest.approx(per_hour)
    tokens = int(result.requests().query("served").output_tokens.sum())
    spent = per_hour / 3600 * result.span_s
    assert result.usd_per_million_output_tokens == pytest.approx(spent * 1e6 / tokens)


@pytest.mark.parametrize("metric", ["ttft", "tpot", "itl", "e2e"])
def test_goodput_and_attainment_follow_from_the_requests(result: Result, metric: Any) -> None:
    """Goodput never exceeds throughput, falls with tighter limits, and counts what a loop over requests counts."""
    throughput = result.summary()["requests_per_s"]
    previous = 0.0
    column = {"ttft": "ttft_s", "tpot": "tpot_s", "itl": "tpot_s", "e2e": "e2e_s"}[metric]
    rows = result.requests()
    for limit_s in (1e-6, 0.01, 0.05, 0.3, 2.0, 10.0, 1e6):
        slo = SLO(metric=metric, percentile=90, limit_s=limit_s)
        goodput = result.goodput_rps((slo,))
        assert previous <= goodput <= throughput * (1 + 1e-12)
        previous = goodput
        good = sum(
            served and (math.isnan(seconds) or seconds <= limit_s)
            for served, seconds in zip(rows.served, rows[column], strict=True)
        )
        assert goodput * result.span_s == pytest.approx(good)
        assert 0 <= result.attainment(slo) <= 1
        assert (result.attainment(slo) >= 0.9) == (result.violation(slo) <= 0)
    assert previous == pytest.approx(throughput)
    assert result.goodput_rps(()) == pytest.approx(throughput)
    both = (SLO(metric="ttft", percentile=90, limit_s=0.3), SLO(metric=metric, percentile=50, limit_s=0.05))
    assert result.goodput_rps(both) <= min(result.goodput_rps((slo,)) for slo in both)


def test_nobody_served() -> None:
    """Only prompts too long for the cache: infinite latencies, no throughput, and no division by zero."""
    deployment = deployment_of("little memory")
    requests = Requests(np.arange(5) * 10**12, np.full(5, 100_000), np.full(5, 10))
    result = simulate(deployment, requests)
    assert result.rejected == 5
    figures = result.summary()
    assert figures["requests_per_s"] == figures["output_tokens_per_s"] == 0
    assert figures["ttft_p50_s"] == figures["e2e_p99_s"] == figures["tpot_p50_s"] == math.inf
    slo = SLO(metric="ttft", percentile=99, limit_s=10)
    assert result.goodput_rps((slo,)) == 0
    assert result.attainment(slo) == 0
    assert result.violation(slo) > 0
    assert result.usd_per_million_output_tokens == math.inf


def test_a_hopeless_overload_is_told_not_wrapped() -> None:
    """A million requests, one at a time, take longer than the clock counts: an error, never a wrong time."""
    deployment = Deployment.parse(
        {"pools": [{"model": "llama-3.1-8b", "accelerator": "l4", "batching": {"max_batch_requests": 1}}]}
    )
    with pytest.raises(Overload, match="100 simulated days"):
        simulate(deployment, load(1_000_000))
