"""Hand-computed scenarios of sessions and ways; the conventions are those of ``test_oracle``."""

from dataclasses import replace

import pytest

from .engine import OracleClientSpec, OracleRequest, OracleResult, OracleStage, RequestOutcome, simulate, simulate_llm
from .test_oracle import CONTINUOUS, spans, times
from .test_services import LLM, SERVICE


def serve(client: OracleClientSpec, requests: list[OracleRequest]) -> OracleResult:
    return simulate_llm([client], requests, "round_robin", "round_robin")


def arrivals(result: OracleResult) -> list[int]:
    return [r.arrival_ps for r in result.requests]


@pytest.mark.parametrize(("wait", "arrival"), [(5, 25), (1, 21), (0, 21)])
def test_chain(wait: int, arrival: int) -> None:
    # A = (2, 1): 0..20; then B, and at its end C.
    requests = [
        OracleRequest(0, 2, 1, first_follower=1, followers=1),
        OracleRequest(0, 3, 1, needs=1, wait_ps=wait, first_follower=2, followers=1),
        OracleRequest(0, 1, 1, needs=1, wait_ps=100),
    ]
    result = serve(CONTINUOUS, requests)
    assert arrivals(result) == [0, arrival, arrival + 30 + 100]
    assert times(result)[1] == (arrival, arrival + 30, arrival + 30)


def test_fork() -> None:
    # Both arrive at 25 and are prefilled together: 25..75.
    requests = [
        OracleRequest(0, 2, 1, first_follower=1, followers=2),
        OracleRequest(0, 2, 1, needs=1, wait_ps=5),
        OracleRequest(0, 3, 1, needs=1, wait_ps=5),
    ]
    assert times(serve(CONTINUOUS, requests)) == [(0, 20, 20), (25, 75, 75), (25, 75, 75)]


@pytest.mark.parametrize(("needs", "arrival"), [(1, 21), (2, 51), (3, 91), (4, -1)])
def test_join(needs: int, arrival: int) -> None:
    # A, B, C: 0..20, 20..50, 50..90, one at a time; D follows all of them and with needs = 1 comes between.
    requests = [OracleRequest(0, prompt, 1, first_follower=3, followers=1) for prompt in (2, 3, 4)]
    result = serve(replace(CONTINUOUS, max_batch=1), [*requests, OracleRequest(0, 1, 1, needs=needs)])
    assert arrivals(result) == [0, 0, 0, arrival]
    assert [r.finish_ps for r in result.requests[:3]] == [20, 50, 90]
    assert [r.rejected for r in result.requests] == [False] * 3 + [arrival == -1]


def test_who_is_rejected_releases_nobody() -> None:
    requests = [OracleRequest(0, 9, 1, first_follower=1, followers=1), OracleRequest(0, 1, 1, needs=1)]
    result = serve(replace(CONTINUOUS, total_blocks=2), requests)
    never = RequestOutcome(rejected=True, visits=[(-1, -1, -1)])
    assert result.requests == [replace(never, arrival_ps=0), never]


def test_deadlines_of_followers_are_relative() -> None:
    # A 0..20 releases B and C, which arrive at 21 and 26 with deadlines 121 and 116. X runs 1..51 or so: 20..70.
    # At 70 C is first: 70..80, then B.
    requests = [
        OracleRequest(0, 2, 1, first_follower=2, followers=2),
        OracleRequest(1, 5, 1, deadline_ps=1000),
        OracleRequest(0, 1, 1, needs=1, wait_ps=1, deadline_ps=100),
        OracleRequest(0, 1, 1, needs=1, wait_ps=6, deadline_ps=90),
    ]
    result = serve(replace(CONTINUOUS, max_batch=1, order="earliest_deadline"), requests)
    assert [r.finish_ps for r in result.requests] == [20, 70, 90, 80]


def test_arrivals_before_hops_before_client_events() -> None:
    # A 0..20 and B arrives at 30, as X does. Both are in the queue when the client wakes: 30..50.
    requests = [
        OracleRequest(0, 2, 1, first_follower=1, followers=1),
        OracleRequest(0, 1, 1, needs=1, wait_ps=10),
        OracleRequest(30, 1, 1),
    ]
    assert spans(serve(CONTINUOUS, requests)) == [(0, 20), (30, 50)]


def test_ways() -> None:
    # Stages: a service, two models, a service of media. Ways: (0, 1), (3, 2, 0) and (3).
    clients = [
        SERVICE,
        LLM,
        replace(LLM, stage=2, link_latency_ps=9),
        replace(SERVICE, stage=3, quantity="media", link_latency_ps=0),
    ]
    stages = [OracleStage("service"), OracleStage("llm"), OracleStage("llm"), OracleStage("service")]
    requests = [
        OracleRequest(0, 2, 2, way=0),
        OracleRequest(100, 3, 1, way=1, media_tokens=4, first_follower=2, followers=1),
        OracleRequest(0, 1, 1, way=2, media_tokens=2, needs=1, wait_ps=3),
    ]
    result = simulate(clients, requests, stages, [(0, 1), (3, 2, 0), (3,)])
    # A: 0..10, hop of 5, 15..35, 35..45. B: 4 of media 100..140, a hop of at least 1, 141..171, hop of 9, 180..190.
    # C arrives at 193, after B: 193..213.
    assert [r.visits for r in result.requests] == [
        [(0, 0, 10), (15, 15, 45)],
        [(100, 100, 140), (141, 141, 171), (180, 180, 190)],
        [(193, 193, 213)],
    ]
    assert [r.done_ps for r in result.requests] == [45, 190, 213]
    assert [r.finish_ps for r in result.requests] == [45, 171, -1]
    assert [r.service_ps for r in result.requests] == [10, 50, 20]
    assert [r.finish_client for r in result.requests] == [1, 2, -1]


def test_rejected_by_one_model_only() -> None:
    # Of the two models the second one is too small for 9 tokens.
    clients = [CONTINUOUS, replace(CONTINUOUS, stage=1, total_blocks=2)]
    requests = [OracleRequest(0, 8, 1, way=0), OracleRequest(0, 8, 1, way=1)]
    result = simulate(clients, requests, [OracleStage("llm")] * 2, [(0,), (1,)])
    assert [r.rejected for r in result.requests] == [False, True]
