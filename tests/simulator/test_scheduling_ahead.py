"""Scheduling ahead, by hand: the times are those of the oracle and of the kernel.

A step costs 10 ps per token; `a..b` in a comment is a step from time a to time b, requests are (prompt, output). See
``tests/oracle/test_oracle.py`` for the rest of the conventions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings

from simulator import Deployment, Pool, SpecError, Workload, build_requests, simulate
from tests.oracle.engine import OracleClientSpec, OracleRequest, OracleResult, OracleStage
from tests.oracle.scenarios import Scenario
from tests.oracle.test_oracle import CHUNKED, CONTINUOUS, DECODE, PREFILL, spans, times
from tests.simulator.plain_scenarios import plain, plain_scenarios, with_clients, with_requests
from tests.simulator.test_kernel_against_oracle import check

AHEAD = replace(CONTINUOUS, schedules_ahead=True)
CHUNKED_AHEAD = replace(CHUNKED, schedules_ahead=True)


def serve(clients: Sequence[OracleClientSpec], requests: Sequence[tuple[int, int, int]]) -> OracleResult:
    """Serve requests given as (arrival, prompt, output) by the oracle, and see that the kernel does the same."""
    scenario = plain(clients, [OracleRequest(*request) for request in requests])
    check(scenario)
    return scenario.simulate()


def test_who_comes_in_mid_step_waits_for_its_rest_and_a_whole_one() -> None:
    # A = (4, 6): 0..40, decodes 40..50, 50..60, 60..70. B = (2, 1) comes at 55, when 60..70 is decided: 70..90, after
    # one and a half steps. A: 90..100, 100..110.
    assert times(serve([AHEAD], [(0, 4, 6), (55, 2, 1)])) == [(0, 40, 110), (70, 90, 90)]
    # Without: 60..80.
    assert times(serve([CONTINUOUS], [(0, 4, 6), (55, 2, 1)])) == [(0, 40, 110), (60, 80, 80)]


@pytest.mark.parametrize(("arrival", "scheduled"), [(49, 60), (50, 60), (51, 70), (59, 70), (60, 70), (61, 80)])
def test_the_start_of_a_step_is_in_time_for_the_next_one(arrival: int, scheduled: int) -> None:
    # Steps of A: 40..50, 50..60, 60..70, 70..80.
    assert times(serve([AHEAD], [(0, 4, 9), (arrival, 1, 1)]))[1] == (scheduled, scheduled + 10, scheduled + 10)


@pytest.mark.parametrize("client", [AHEAD, CHUNKED_AHEAD])
def test_an_idle_client_starts_at_once(client: OracleClientSpec) -> None:
    assert times(serve([client], [(100, 4, 1)])) == [(100, 140, 140)]
    # Two that come together are one batch.
    assert spans(serve([client], [(100, 4, 1), (100, 2, 1)])) == [(100, 160)]
    # B comes in A's last step, 0..40: nothing was decided ahead.
    assert times(serve([client], [(0, 4, 1), (10, 2, 1)])) == [(0, 40, 40), (40, 60, 60)]


def test_several_arrivals() -> None:
    # A = (4, 6): 0..40, 40..50, 50..60, 60..70. B = (2, 1), C = (3, 1) come in 50..60 and D = (1, 1) at its end, E =
    # (1, 1) in 60..70. Chunked: A, B, C, D 70..140, A's last token and E 140..160.
    result = serve([CHUNKED_AHEAD], [(0, 4, 6), (52, 2, 1), (58, 3, 1), (60, 1, 1), (61, 1, 1)])
    assert times(result) == [(0, 40, 160), *[(70, 140, 140)] * 3, (140, 160, 160)]
    assert result.clients[0].blocked_ps == {1: 0, 2: 0, 3: 0}


def test_a_prompt_under_way_goes_on() -> None:
    # Budget 4. A = (10, 2): 0..40, 40..80, 80..100, although B = (2, 1), which came at 50, would have had room in that
    # step; A's decode and B 100..130.
    client = replace(CHUNKED_AHEAD, token_budget=4)
    result = serve([client], [(0, 10, 2), (50, 2, 1)])
    assert spans(result) == [(0, 40), (40, 80), (80, 100), (100, 130)]
    assert times(result) == [(0, 100, 130), (100, 130, 130)]
    # Without: 80..120 with A's last two tokens.
    assert times(serve([replace(client, schedules_ahead=False)], [(0, 10, 2), (50, 2, 1)]))[1] == (80, 120, 120)


def test_hand_over() -> None:
    # X = (2, 5): prefill 0..20, at the decode client from 21 on: 21..31, 31..41. Y = (1, 3): prefill 20..30, at the
    # decode client at 31, when 31..41 has been decided: both 41..61, 61..81.
    result = serve([PREFILL, replace(DECODE, schedules_ahead=True)], [(0, 2, 5), (5, 1, 3)])
    assert spans(result, 1) == [(21, 31), (31, 41), (41, 61), (61, 81)]
    assert times(result) == [(0, 20, 81), (20, 30, 81)]


def test_only_who_is_known_is_blocked() -> None:
    # One at a time. A = (4, 6): 0..40, then five decodes to 90; B = (1, 1), there at 55, is left behind at 70 and 80.
    result = serve([replace(AHEAD, max_batch=1)], [(0, 4, 6), (55, 1, 1)])
    assert times(result)[1] == (90, 100, 100)
    assert result.clients[0].blocked_ps == {1: 0, 2: 20, 3: 0}


def test_an_order_is_that_of_the_known() -> None:
    # Two at a time. B = (3, 2) comes at 45, C = (1, 1) at 55: at 60 B is the only one known, 60..90, C waits until B's
    # second token is there: A and B 90..110, C 110..120.
    client = replace(AHEAD, max_batch=2, order="shortest_first")
    result = serve([client], [(0, 4, 9), (45, 3, 2), (55, 1, 1)])
    assert times(result)[1:] == [(60, 90, 110), (110, 120, 120)]


def test_a_new_head_cuts_a_run_one_iteration_later() -> None:
    # Batches of one: B waits from 0 on. C, shorter, comes in 50..60 and is the head from 70 on; A is done at 90.
    client = replace(AHEAD, max_batch=1, order="shortest_first")
    result = serve([client], [(0, 4, 6), (0, 9, 1), (55, 5, 1)])
    assert times(result) == [(0, 40, 90), (140, 230, 230), (90, 140, 140)]
    assert result.clients[0].blocked_ps[2] == 90 + 50


def test_blocks_of_a_hand_over_hold_the_known_back() -> None:
    # 3 blocks of 4. X = (4, 2): 0..40, its block is held to 1040. Y = (12, 1), there from 0 on, needs all of them:
    # nothing is decided ahead, so Z = (4, 1) is looked at, although it came at 10; its prompt is shorter: 40..80.
    prefill = replace(PREFILL, schedules_ahead=True, order="shortest_first", total_blocks=3, link_latency_ps=1000)
    result = serve([prefill, DECODE], [(0, 4, 2), (0, 12, 1), (10, 4, 1)])
    assert times(result) == [(0, 40, 1050), (1040, 1160, 1160), (40, 80, 80)]
    # In order of arrival Y is the head, and Z waits behind it: 1160..1200.
    result = serve([replace(prefill, order="fcfs"), DECODE], [(0, 4, 2), (0, 12, 1), (10, 4, 1)])
    assert times(result)[1:] == [(1040, 1160, 1160), (1160, 1200, 1200)]


def test_who_was_preempted_is_known() -> None:
    # Blocks of 2 tokens, 4 of them. A = B = (2, 4): 0..40, 40..60, 60..80; then B is preempted, 80..90. At 90 it is
    # computed again, 90..140.
    client = replace(AHEAD, block_tokens=2, total_blocks=4)
    result = serve([client], [(0, 2, 4), (0, 2, 4)])
    assert [r.preemptions for r in result.requests] == [0, 1]
    assert times(result) == [(0, 40, 90), (0, 40, 140)]


def test_a_wake_up_considers_all() -> None:
    # 4 blocks of 2. Y = (4, 5) and X = (4, 4): 0..80. Y is handed over, its 2 blocks are held to 1080; X stays, as the
    # decode client has something to do, but has no block for its next token: it is preempted and nothing runs. When
    # the blocks are free X, of 5 tokens now, and Z = (1, 1), which came at 10, are one batch: 1080..1140.
    prefill = replace(PREFILL, schedules_ahead=True, block_tokens=2, total_blocks=4, link_latency_ps=1000)
    requests = [OracleRequest(0, 4, 5), OracleRequest(0, 4, 4), OracleRequest(10, 1, 1)]
    stage = OracleStage("llm", lend_decode_tokens=0)
    scenario = replace(plain([prefill, DECODE], requests), stages=(stage,))
    check(scenario)
    result = scenario.simulate()
    assert spans(result) == [(0, 80), (1080, 1140), (1140, 1150), (1150, 1160)]
    assert times(result) == [(0, 80, 1120), (0, 80, 1160), (1080, 1140, 1140)]
    assert [r.preemptions for r in result.requests] == [0, 1, 0]


some = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@some
@given(plain_scenarios())
def test_who_is_there_from_the_beginning_does_not_notice(scenario: Scenario) -> None:
    """With one client, all requests there before it begins, deciding ahead changes nothing."""
    (client, *_) = [replace(c, role="both") for c in scenario.clients]
    client = replace(client, policy="chunked" if client.policy == "static" else client.policy)
    requests = [replace(request, arrival_ps=0) for request in scenario.requests]
    plainly = with_clients(with_requests(scenario, requests), [client])
    ahead = with_clients(plainly, [replace(client, schedules_ahead=True)])
    results = [each.simulate() for each in (plainly, ahead)]
    assert results[0].requests == results[1].requests
    assert results[0].clients == results[1].clients


POOL = {"model": "llama-3.1-8b", "accelerator": "l40s", "batching": {"schedule_ahead": True}}
LOAD = {
    "requests": 400,
    "arrivals": {"process": "poisson", "rate_rps": 4},
    "lengths": {"statistics": "azure-2023-conversation"},
}


def test_it_reaches_the_kernel() -> None:
    requests = build_requests(Workload.parse(LOAD))
    ahead, plainly = (
        simulate(Deployment.parse({"pools": [POOL | {"batching": {"schedule_ahead": on}}]}), requests)
        for on in (True, False)
    )
    # A wait of about one step more.
    more = (ahead.ttft_s - plainly.ttft_s).mean()
    assert more == pytest.approx(plainly.percentile_s("itl", 50), rel=0.5)


def test_a_static_batch_is_not_decided_ahead() -> None:
    with pytest.raises(SpecError, match="schedule_ahead: given with policy static, allowed with continuous or chunked"):
        Pool.parse(POOL | {"batching": {"policy": "static", "schedule_ahead": True}})
