"""Hand-computed scenarios of pipelines with services.

Unless a test says otherwise a batch costs 10 ps per request and a hop from a service 5 ps, the pipeline is
a service and then the LLM, and both have room for everything. `a..b` in a comment is a batch or a step from
time a to time b.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from .engine import (
    LINEAR_KNOTS,
    OracleClientSpec,
    OracleProfile,
    OracleRequest,
    OracleResult,
    OracleStage,
    RequestOutcome,
    simulate,
)
from .test_oracle import CONTINUOUS, DECODE, PREFILL, STATIC, TEN_PER_TOKEN, random_spec, spans, times

SERVICE = replace(CONTINUOUS, role="service", max_batch=8, link_latency_ps=5)
LLM = replace(CONTINUOUS, stage=1)


def through_all(
    clients: Sequence[OracleClientSpec],
    requests: Sequence[OracleRequest],
    router: str,
    handover_router: str,
    stages: int,
    llm_stage: int,
) -> OracleResult:
    """Simulate requests that all pass the same stages, one of them the LLM."""
    kinds = ["llm" if stage == llm_stage else "service" for stage in range(stages)]
    specs = [OracleStage(kind, router, handover_router) for kind in kinds]
    return simulate(clients, requests, specs, [tuple(range(stages))])


def run(
    clients: Sequence[OracleClientSpec],
    requests: Sequence[tuple[int, int, int]],
    router: str = "round_robin",
    stages: int = 2,
    llm_stage: int = 1,
) -> OracleResult:
    """Simulate requests given as (arrival_ps, prompt_tokens, output_tokens)."""
    return through_all(clients, [OracleRequest(*r) for r in requests], router, "round_robin", stages, llm_stage)


def serve(service: OracleClientSpec, arrivals: Sequence[int]) -> OracleResult:
    """Small requests through one service (client 0) before the LLM."""
    return run([service, LLM], [(arrival, 1, 1) for arrival in arrivals])


def service_ps(result: OracleResult) -> list[int]:
    return [r.service_ps for r in result.requests]


def done_ps(result: OracleResult) -> list[int]:
    return [r.done_ps for r in result.requests]


def test_without_services_done_is_finished() -> None:
    result = run([CONTINUOUS], [(100, 4, 3)], stages=1, llm_stage=0)
    assert done_ps(result) == [160]
    assert service_ps(result) == [0]
    assert result.clients[0].service_requests == 0


def test_batch_fills_up() -> None:
    # The third request makes the batch full long before 0 + 1000: 20..50.
    result = serve(replace(SERVICE, max_batch=3, max_wait_ps=1000), [0, 7, 20])
    assert spans(result) == [(20, 50)]
    assert service_ps(result) == [50, 43, 30]
    client = result.clients[0]
    assert (client.busy_ps, client.steps, client.service_requests) == (30, 1, 3)
    assert (client.prefill_tokens, client.decode_tokens, client.peak_blocks) == (0, 0, 0)
    assert client.blocked_ps == {1: 0, 2: 0, 3: 0}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (40, [(100, 120)]),  # both wait until 0 + 100
        (100, [(100, 120)]),  # an arrival comes before a client event of its time
        (101, [(100, 110), (201, 211)]),  # too late: waits for 101 + 100
    ],
)
def test_max_wait_expires(second: int, expected: list[tuple[int, int]]) -> None:
    assert spans(serve(replace(SERVICE, max_batch=3, max_wait_ps=100), [0, second])) == expected


def test_without_wait_it_serves_at_once() -> None:
    # 2..12 for the first; the second joins at 5 and is served as soon as the client is idle, 12..22.
    result = serve(SERVICE, [2, 5])
    assert spans(result) == [(2, 12), (12, 22)]
    assert service_ps(result) == [10, 17]


def test_simultaneous_arrivals_batch_together() -> None:
    # Although nobody waits, two of the three are in the queue when the client plans: 5..25, then 25..35.
    result = serve(replace(SERVICE, max_batch=2), [5, 5, 5])
    assert spans(result) == [(5, 25), (25, 35)]
    assert service_ps(result) == [20, 20, 30]


def test_arrivals_during_a_batch() -> None:
    # A is due at 15: 15..25. B joins at 18: not yet due at 25, alone 33..43. C and D join meanwhile and are
    # a full batch at 43: 43..63. E joins at 50: not yet due at 63, 65..75.
    result = serve(replace(SERVICE, max_batch=2, max_wait_ps=15), [0, 18, 35, 36, 50])
    assert spans(result) == [(15, 25), (33, 43), (43, 63), (65, 75)]
    assert service_ps(result) == [25, 25, 28, 27, 25]
    # A: 5..15. B joins at 8 and is due at 13, during the batch: served at its end. C joins at 15, before the
    # client event that ends the batch, and goes with B: 15..35.
    assert spans(serve(replace(SERVICE, max_wait_ps=5), [0, 8, 15])) == [(5, 15), (15, 35)]


def test_two_clients_round_robin() -> None:
    # The LLM client between them is skipped: 0, 2, 0. Each has its own queue.
    result = run([SERVICE, LLM, SERVICE], [(0, 1, 1), (1, 1, 1), (2, 1, 1)])
    assert spans(result, 0) == [(0, 10), (10, 20)]
    assert spans(result, 2) == [(1, 11)]
    assert service_ps(result) == [10, 10, 18]
    assert [c.service_requests for c in result.clients] == [2, 0, 1]


def test_each_stage_has_its_own_round_robin_pointer() -> None:
    # A service of two clients and three LLM clients: with one pointer for all stages the requests, a long time
    # apart, would not visit the LLM clients in turn.
    clients = [SERVICE, SERVICE, LLM, LLM, LLM]
    result = run(clients, [(1000 * i, 1, 1) for i in range(5)])
    assert [r.finish_client for r in result.requests] == [2, 3, 4, 2, 3]
    assert [c.service_requests for c in result.clients] == [3, 2, 0, 0, 0]


@pytest.mark.parametrize("router", ["join_shortest_queue", "least_outstanding_tokens"])
def test_two_clients_by_load(router: str) -> None:
    # A (3 tokens) -> 0: 0..30. B (1 token) -> 1, as a batch in service counts: 1..11. C arrives at 11, when B's
    # batch has not ended: a tie of one request each, whatever their tokens, so 0: 30..40. D arrives at 12:
    # client 1 is empty, 12..22.
    service = replace(SERVICE, quantity="prompt")
    result = run([service, service, LLM], [(0, 3, 1), (1, 1, 1), (11, 1, 1), (12, 1, 1)], router)
    assert spans(result, 0) == [(0, 30), (30, 40)]
    assert spans(result, 1) == [(1, 11), (12, 22)]


def test_service_before_the_llm() -> None:
    # 100..110, hop of 5. The LLM as if the request had arrived at 115: prefill 115..155, decodes to 175.
    result = run([SERVICE, LLM], [(100, 4, 3)])
    assert times(result) == [(115, 155, 175)]
    assert times(run([CONTINUOUS], [(115, 4, 3)], stages=1, llm_stage=0)) == times(result)
    assert done_ps(result) == [175]
    assert service_ps(result) == [10]
    assert (result.requests[0].prefill_client, result.requests[0].finish_client) == (1, 1)
    assert result.steps_log == [(0, 100, 110, 1, 1), (1, 115, 155, 4, 1), (1, 155, 165, 1, 1), (1, 165, 175, 1, 1)]


def test_service_after_the_llm() -> None:
    # The LLM finishes at 160, hop of 7, 167..177.
    clients = [replace(CONTINUOUS, link_latency_ps=7), replace(SERVICE, stage=1)]
    result = run(clients, [(100, 4, 3)], llm_stage=0)
    assert times(result) == [(100, 140, 160)]
    assert done_ps(result) == [177]
    assert service_ps(result) == [10]
    assert result.requests[0].finish_client == 0


def test_hops_of_equal_time_in_order_of_requests() -> None:
    # A: 0..40 on client 0, hop of 10. B: 0..30 on client 1, hop of 20. Both reach the service at 50; B left
    # first, but A is first by index.
    slow, fast = replace(CONTINUOUS, link_latency_ps=10), replace(CONTINUOUS, link_latency_ps=20)
    clients = [slow, fast, replace(SERVICE, stage=1, max_batch=1)]
    result = run(clients, [(0, 4, 1), (0, 3, 1)], llm_stage=0)
    assert done_ps(result) == [60, 70]
    assert service_ps(result) == [10, 20]


@pytest.mark.parametrize(("quantity", "total"), [("none", 2), ("query", 3 + 4), ("prompt", 8 + 4), ("output", 2 + 7)])
def test_quantity(quantity: str, total: int) -> None:
    # 10 ps per unit and 100 ps per request of a batch. The second request's query is its prompt.
    profile = replace(TEN_PER_TOKEN, sequences=[100 * count for count in range(1025)])
    requests = [OracleRequest(0, 8, 2, query_tokens=3), OracleRequest(0, 4, 7)]
    clients = [replace(SERVICE, profile=profile, quantity=quantity), LLM]
    result = through_all(clients, requests, "round_robin", "round_robin", stages=2, llm_stage=1)
    assert result.steps_log is not None
    assert result.steps_log[0] == (0, 0, 10 * total + 200, total, 2)
    # The LLM prefills the whole prompts.
    assert result.clients[1].prefill_tokens == 12


def test_rejection_before_services() -> None:
    # A needs 9 tokens, the LLM has room for 4. It is not served and does not move the router on: B -> 0.
    result = run([SERVICE, SERVICE, replace(LLM, total_blocks=1)], [(0, 8, 1), (0, 3, 1)])
    assert result.requests[0] == RequestOutcome(arrival_ps=0, rejected=True, visits=[(-1, -1, -1)] * 2)
    assert (result.requests[0].done_ps, result.requests[0].service_ps) == (-1, 0)
    assert [c.service_requests for c in result.clients] == [1, 0, 0]
    # B: 0..10, hop to 15, 15..45.
    assert done_ps(result) == [-1, 45]


def test_before_and_after_prefill_and_decode() -> None:
    # A = (4, 3), B = (2, 1). Before: 0..20, hop to 25. Prefill of both: 25..85. B is finished there: hop of
    # 20 to 105, 105..115. A's KV takes 20 + 4: at 109, decodes 109..119..129, hop of 7 to 136, 136..146.
    clients = [
        SERVICE,
        replace(PREFILL, stage=1, link_latency_ps=20, link_ps_per_token=1),
        replace(DECODE, stage=1, link_latency_ps=7),
        replace(SERVICE, stage=2),
    ]
    result = run(clients, [(0, 4, 3), (0, 2, 1)], stages=3)
    assert times(result) == [(25, 85, 129), (25, 85, 85)]
    assert [(r.prefill_client, r.finish_client) for r in result.requests] == [(1, 2), (1, 1)]
    assert done_ps(result) == [146, 115]
    assert service_ps(result) == [20 + 10, 20 + 10]
    assert [c.service_requests for c in result.clients] == [2, 0, 0, 2]
    assert [c.busy_ps for c in result.clients] == [20, 60, 20, 20]


def random_service(rng: random.Random, stage: int) -> OracleClientSpec:
    scale, fixed = rng.choice([0, 1, 4]), rng.choice([0, 30])
    profile = OracleProfile([scale * tokens for tokens in LINEAR_KNOTS], [fixed] * 1025, 0, 0, 0)
    return replace(
        STATIC,
        role="service",
        stage=stage,
        max_batch=rng.randint(1, 6),
        max_wait_ps=rng.choice([0, 1, 20, 300]),
        quantity=rng.choice(["none", "query", "prompt", "output"]),
        profile=profile,
        link_latency_ps=rng.choice([1, 5, 50]),
    )


@pytest.mark.parametrize("seed", range(100))
def test_invariants_on_random_pipelines(seed: int) -> None:
    """The oracle asserts its invariants while it runs."""
    rng = random.Random(seed)
    before, after = rng.randint(0, 2), rng.randint(0, 2)
    stages = before + 1 + after
    roles = rng.choice([["both"], ["both"] * 3, ["prefill", "decode"], ["decode", "prefill", "both", "decode"]])
    clients = [replace(random_spec(rng, role), stage=before, link_latency_ps=rng.choice([1, 7, 50])) for role in roles]
    for stage in set(range(stages)) - {before}:
        clients += [random_service(rng, stage) for _ in range(rng.randint(1, 3))]
    rng.shuffle(clients)
    requests = [
        OracleRequest(arrival, rng.randint(8, 15), rng.choice([1, 2, 5, 12]), rng.randint(1, 8))
        for arrival in sorted(rng.randint(0, 150) * 10 for _ in range(40))
    ]
    names = ["round_robin", "join_shortest_queue", "least_outstanding_tokens"]
    result = through_all(clients, requests, rng.choice(names), rng.choice(names), stages, before)
    served = len(requests) - sum(r.rejected for r in result.requests)
    assert sum(c.service_requests for c in result.clients) == (stages - 1) * served
    assert result.steps_log is not None
    for index, client in enumerate(result.clients):
        steps = [(start, end) for c, start, end, _, _ in result.steps_log if c == index]
        assert client.steps == len(steps)
        assert client.busy_ps == sum(end - start for start, end in steps)
        assert all(end <= start for (_, end), (start, _) in pairwise(steps))
