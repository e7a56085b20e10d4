"""Hand-computed scenarios for the oracle.

Unless a test says otherwise a step costs 10 ps per token (`linear[T] = 10 T`, everything else 0), blocks are
of 4 tokens, and there is more of everything (blocks, batch, budget) than the scenario needs.
`a..b` in a comment is a step from time a to time b. Requests are (prompt, output) in comments.
"""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest

from .engine import (
    LINEAR_KNOTS,
    OracleClientSpec,
    OracleProfile,
    OracleRequest,
    OracleResult,
    RequestOutcome,
    itl_bin,
    linear_cost,
    prefill_cost,
    sequences_cost,
    simulate_llm,
)

TEN_PER_TOKEN = OracleProfile(
    linear=[10 * tokens for tokens in LINEAR_KNOTS], sequences=[0] * 1025, attention_ps=0, pair=0, read=0
)
CONTINUOUS = OracleClientSpec(
    role="both",
    policy="continuous",
    max_batch=8,
    token_budget=64,
    block_tokens=4,
    total_blocks=100,
    watermark_blocks=0,
    profile=TEN_PER_TOKEN,
    link_latency_ps=0,
    link_ps_per_token=0,
)
CHUNKED = replace(CONTINUOUS, policy="chunked")
STATIC = replace(CONTINUOUS, policy="static")
PREFILL = replace(CONTINUOUS, role="prefill")
DECODE = replace(CONTINUOUS, role="decode")
REJECTED = RequestOutcome(arrival_ps=0, rejected=True, visits=[(-1, -1, -1)])


def run(
    clients: Sequence[OracleClientSpec],
    requests: Sequence[tuple[int, int, int]],
    router: str = "round_robin",
    handover_router: str = "round_robin",
) -> OracleResult:
    """Simulate requests given as (arrival_ps, prompt_tokens, output_tokens)."""
    return simulate_llm(clients, [OracleRequest(*r) for r in requests], router, handover_router)


def times(result: OracleResult) -> list[tuple[int, int, int]]:
    """(scheduled, first token, finish) of each request."""
    return [(r.scheduled_ps, r.first_token_ps, r.finish_ps) for r in result.requests]


def spans(result: OracleResult, client: int = 0) -> list[tuple[int, int]]:
    """(start, end) of each step of a client."""
    assert result.steps_log is not None
    return [(start, end) for c, start, end, _, _ in result.steps_log if c == client]


def prefill_clients(result: OracleResult) -> list[int]:
    return [r.prefill_client for r in result.requests]


def test_single_request() -> None:
    # Prefill of 4 tokens 100..140 (token 1), decodes 140..150 (token 2) and 150..160 (token 3).
    result = run([CONTINUOUS], [(100, 4, 3)])
    assert times(result) == [(100, 140, 160)]
    assert result.itl_gaps_ps == Counter({10: 2})
    assert result.steps_log == [(0, 100, 140, 4, 1), (0, 140, 150, 1, 1), (0, 150, 160, 1, 1)]
    client = result.clients[0]
    assert (client.busy_ps, client.steps, client.prefill_tokens, client.decode_tokens) == (60, 3, 4, 2)
    # Decodes at contexts 4 and 5: C = 5 + 6. Pairs of the prompt: 1 + 2 + 3 + 4.
    assert (client.decode_context_tokens, client.prefill_pairs) == (11, 10)
    # One block for the prompt, a second one for token 5.
    assert client.peak_blocks == 2
    assert client.blocked_ps == {1: 0, 2: 0, 3: 0}
    assert (result.requests[0].prefill_client, result.requests[0].finish_client) == (0, 0)


def test_chunked_prompt_is_split() -> None:
    # Budget 4: chunks of 4, 4, 2: 0..40, 40..80, 80..100; then a decode 100..110.
    result = run([replace(CHUNKED, token_budget=4)], [(0, 10, 2)])
    assert spans(result) == [(0, 40), (40, 80), (80, 100), (100, 110)]
    assert times(result) == [(0, 100, 110)]
    # Pairs do not depend on the split: 10 * 11 / 2.
    assert result.clients[0].prefill_pairs == 55


def test_chunked_mixes_prefill_and_decode() -> None:
    # Budget 4. A = (3, 4) is prefilled 0..30, alone as B = (5, 1) arrives at 5.
    # At 30: A's decode leaves 3 tokens for B: 4 tokens 30..70. At 70: decode and B's last 2: 70..100, B is
    # done. At 100: A's last decode 100..110.
    result = run([replace(CHUNKED, token_budget=4)], [(0, 3, 4), (5, 5, 1)])
    assert times(result) == [(0, 30, 110), (30, 100, 100)]
    assert result.steps_log == [(0, 0, 30, 3, 1), (0, 30, 70, 4, 2), (0, 70, 100, 3, 2), (0, 100, 110, 1, 1)]
    assert result.itl_gaps_ps == Counter({40: 1, 30: 1, 10: 1})


def test_chunked_decodes_use_up_the_budget() -> None:
    # Budget 2. A and B = (1, 3) are prefilled together 0..20, C = (2, 1) finds no budget left.
    # 20..40 and 40..60: A and B decode, C still waits. 60..80: C.
    result = run([replace(CHUNKED, token_budget=2)], [(0, 1, 3), (0, 1, 3), (0, 2, 1)])
    assert times(result) == [(0, 20, 60), (0, 20, 60), (60, 80, 80)]
    assert result.clients[0].blocked_ps == {1: 0, 2: 0, 3: 60}


def test_continuous_prefill_stalls_decode() -> None:
    # A: prefill 0..40, decode 40..50. B came at 45: its prefill goes first, 50..110. A's last decode:
    # 110..120.
    result = run([CONTINUOUS], [(0, 4, 3), (45, 6, 1)])
    assert times(result) == [(0, 40, 120), (50, 110, 110)]
    assert result.itl_gaps_ps == Counter({10: 1, 70: 1})
    # Nobody was left waiting by a plan: B arrived during a step.
    assert result.clients[0].blocked_ps == {1: 0, 2: 0, 3: 0}


def test_continuous_simultaneous_arrivals_batch_together() -> None:
    # All three arrive before the wake-up: one prefill of 2 + 3 + 4 tokens, 5..95.
    result = run([CONTINUOUS], [(5, 2, 1), (5, 3, 1), (5, 4, 1)])
    assert result.steps_log == [(0, 5, 95, 9, 3)]
    assert times(result) == [(5, 95, 95)] * 3


def test_continuous_budget_admits_one_long_prompt() -> None:
    # Budget 5: A = 8 tokens is over it, but first: 0..80. Then B + C = 2 + 3 fit: 80..130, D = 1 not:
    # 130..140.
    result = run([replace(CONTINUOUS, token_budget=5)], [(0, 8, 1), (0, 2, 1), (0, 3, 1), (0, 1, 1)])
    assert spans(result) == [(0, 80), (80, 130), (130, 140)]
    assert result.clients[0].blocked_ps == {1: 0, 2: 0, 3: 130}


def test_max_batch() -> None:
    # One at a time: A prefill 0..20, decode 20..30, B waits for max_batch all the time; B 30..60.
    result = run([replace(CONTINUOUS, max_batch=1)], [(0, 2, 2), (0, 3, 1)])
    assert times(result) == [(0, 20, 30), (30, 60, 60)]
    assert result.clients[0].blocked_ps == {1: 0, 2: 30, 3: 0}


def test_static_batch() -> None:
    # max_batch 2. A (3, 2) and B (2, 3): prefill 0..50, both decode 50..70 (A done), B 70..80 (done).
    # Only then C (1, 1): 80..90.
    result = run([replace(STATIC, max_batch=2)], [(0, 3, 2), (0, 2, 3), (0, 1, 1)])
    assert times(result) == [(0, 50, 70), (0, 50, 80), (80, 90, 90)]
    assert result.clients[0].blocked_ps == {1: 0, 2: 80, 3: 0}
    # A takes ceil(5 / 4) blocks at once, B as well.
    assert result.clients[0].peak_blocks == 4


@pytest.mark.parametrize(
    ("spec", "reason"), [(replace(STATIC, token_budget=4), 3), (replace(STATIC, total_blocks=3), 1)]
)
def test_static_batch_is_limited(spec: OracleClientSpec, reason: int) -> None:
    # A (3, 2) takes the budget (3 of 4; B needs 2) or the blocks (2 of 3; B needs 2).
    # A: prefill 0..30 with B left for that reason, decode 30..40 with B left as a batch is running.
    # B (2, 3): prefill 40..60, decodes 60..70, 70..80.
    result = run([spec], [(0, 3, 2), (0, 2, 3)])
    assert times(result) == [(0, 30, 40), (40, 60, 80)]
    expected = {1: 0, 2: 10, 3: 0}
    expected[reason] += 30
    assert result.clients[0].blocked_ps == expected


def test_preemption_by_recompute() -> None:
    # Blocks of 2 tokens, 4 of them; A = B = (2, 4).
    # 0..40 both prefilled (1 block each, context 2). 40..60 both decode (2 blocks each, 0 free), 60..80 as
    # well: contexts 4, 3 tokens each. At 80 two new blocks are needed and none is free: B is preempted, which
    # frees 2. 80..90: A decodes alone and is done. At 90: B is prefilled again, 2 + 3 tokens, 90..140: its
    # 4th token.
    result = run([replace(CONTINUOUS, block_tokens=2, total_blocks=4)], [(0, 2, 4), (0, 2, 4)])
    assert times(result) == [(0, 40, 90), (0, 40, 140)]
    assert [r.preemptions for r in result.requests] == [0, 1]
    # A: 40 60 80 90; B: 40 60 80 140.
    assert result.itl_gaps_ps == Counter({20: 4, 10: 1, 60: 1})
    client = result.clients[0]
    assert (client.preemptions, client.prefill_tokens, client.decode_tokens) == (1, 9, 5)
    assert client.peak_blocks == 4
    assert client.blocked_ps == {1: 10, 2: 0, 3: 0}


def test_preemption_of_a_partly_prefilled_request() -> None:
    # Budget 4, 7 blocks of 2 tokens; A = (4, 4), B = (8, 1).
    # 0..40: A's prompt takes the budget. 40..80: A decodes (3 blocks now), B gets 4 blocks and 3 tokens; 0
    # free. 80..120: the same without growth (A's context is 5); B has 6 of 8 tokens. At 120 A's context is 6:
    # it needs a block, B is preempted. 120..130: A decodes and is done. 130..170, 170..210: B from its start.
    spec = replace(CHUNKED, token_budget=4, block_tokens=2, total_blocks=7)
    result = run([spec], [(0, 4, 4), (0, 8, 1)])
    assert times(result) == [(0, 40, 130), (40, 210, 210)]
    assert spans(result) == [(0, 40), (40, 80), (80, 120), (120, 130), (130, 170), (170, 210)]
    client = result.clients[0]
    assert (client.preemptions, client.prefill_tokens) == (1, 4 + 6 + 8)
    # Pairs: A 10; B first 6 and 3 * 3 + 6, then 36.
    assert client.prefill_pairs == 10 + 6 + 15 + 36
    assert client.blocked_ps == {1: 10, 2: 0, 3: 40}


def test_watermark() -> None:
    # 4 blocks, 2 of them the watermark; all prompts are 1 block. At 0: A (nothing runs, no watermark), B (3
    # free, 3 - 1 >= 2), not C (2 - 1 < 2): 0..80. B is done. At 80: 3 free, 1 for A's growth, 1 for C: 1 < 2.
    # A decodes 80..90 and is done. C: 90..130.
    spec = replace(CONTINUOUS, total_blocks=4, watermark_blocks=2)
    result = run([spec], [(0, 4, 2), (0, 4, 1), (0, 4, 1)])
    assert times(result) == [(0, 80, 90), (0, 80, 80), (90, 130, 130)]
    assert result.clients[0].blocked_ps == {1: 90, 2: 0, 3: 0}


def test_handover() -> None:
    # Prefill 0..30, hand-over takes 7 + 3 * 2 = 13: at 43; decodes 43..53, 53..63.
    prefill = replace(PREFILL, link_latency_ps=7, link_ps_per_token=2)
    result = run([prefill, DECODE], [(0, 3, 3)])
    assert times(result) == [(0, 30, 63)]
    assert (result.requests[0].prefill_client, result.requests[0].finish_client) == (0, 1)
    assert result.itl_gaps_ps == Counter({23: 1, 10: 1})
    assert [c.busy_ps for c in result.clients] == [30, 20]
    # The decode client starts with 1 block and grows by one when the context is 4.
    assert [c.peak_blocks for c in result.clients] == [1, 2]
    assert [c.decode_context_tokens for c in result.clients] == [0, 4 + 5]


def test_handover_holds_the_blocks_of_the_prefill_client() -> None:
    # As above with a single block on the prefill client and a second request (3, 2), which has to wait for
    # the hand-over at 43: prefill 43..73, hand-over at 86, decode 86..96.
    # It is blocked by blocks for the step 0..30; idle time does not count.
    prefill = replace(PREFILL, link_latency_ps=7, link_ps_per_token=2, total_blocks=1)
    result = run([prefill, DECODE], [(0, 3, 3), (0, 3, 2)])
    assert times(result) == [(0, 30, 63), (43, 73, 96)]
    assert result.clients[0].blocked_ps == {1: 30, 2: 0, 3: 0}


def test_handovers_at_the_same_time_and_a_budget_on_the_decode_client() -> None:
    # Both prompts 0..40, both hand-overs at 41 (at least 1 ps) before the decode client wakes. Chunked with
    # budget 1: 41..51, 51..61 for A; 61..71, 71..81 for B.
    result = run([PREFILL, replace(DECODE, policy="chunked", token_budget=1)], [(0, 2, 3), (0, 2, 3)])
    assert times(result) == [(0, 40, 61), (0, 40, 81)]
    assert result.itl_gaps_ps == Counter({10: 2, 11: 1, 31: 1})
    assert result.clients[1].blocked_ps == {1: 0, 2: 0, 3: 20}


def test_preemption_on_a_decode_client_is_prefilled_there() -> None:
    # Blocks of 2, 4 of them on the decode client; A = B = (2, 4). Prefill 0..40, hand-overs at 41. Each takes
    # 1 block and 1 of growth: A needs ceil(3 / 2) = 2 of 4, then B 2 of 4 - 1 - 1 = 2: both decode 41..61,
    # 61..81, as in test_preemption_by_recompute: B is preempted at 81, A is done at 91, B prefilled (5
    # tokens) 91..141.
    result = run([PREFILL, replace(DECODE, block_tokens=2, total_blocks=4, watermark_blocks=0)], [(0, 2, 4), (0, 2, 4)])
    assert times(result) == [(0, 40, 91), (0, 40, 141)]
    assert prefill_clients(result) == [0, 0]
    assert [r.finish_client for r in result.requests] == [1, 1]
    assert [c.prefill_tokens for c in result.clients] == [4, 5]
    assert [c.preemptions for c in result.clients] == [0, 1]


def test_rejection() -> None:
    # 2 blocks of 4: 6 + 3 tokens are too many, 6 + 2 are not: 0..60, 60..70.
    result = run([replace(CONTINUOUS, total_blocks=2)], [(0, 6, 3), (0, 6, 2)])
    assert result.requests[0] == REJECTED
    assert times(result) == [(-1, -1, -1), (0, 60, 70)]


def test_rejection_for_want_of_a_decode_client() -> None:
    # 7 tokens fit the 2 blocks of the prefill client. With 2 tokens of output the decode client would need 3
    # blocks; with 1 token of output none is needed.
    clients = [replace(PREFILL, total_blocks=2), replace(DECODE, total_blocks=2)]
    result = run(clients, [(0, 7, 2), (0, 7, 1)])
    assert result.requests[0] == REJECTED
    assert times(result)[1] == (0, 70, 70)
    assert result.requests[1].finish_client == 0


def test_round_robin_skips_clients_that_are_not_eligible() -> None:
    # Client 1 holds 1 block (4 tokens) only. A -> 0; B (8 tokens) -> not 1 but 2; C -> 0; D (2 tokens) -> 1.
    clients = [CONTINUOUS, replace(CONTINUOUS, total_blocks=1), CONTINUOUS]
    result = run(clients, [(0, 1, 1), (1, 7, 1), (2, 1, 1), (3, 1, 1)])
    assert prefill_clients(result) == [0, 2, 0, 1]


def test_join_shortest_queue() -> None:
    # A (3 tokens) -> 0 on a tie, runs 0..30; B (1 token) -> 1, runs 0..10. C arrives at 10, when B's step has
    # not ended: a tie, client 0. D arrives at 11: client 1 is empty.
    result = run([CONTINUOUS] * 2, [(0, 3, 1), (0, 1, 1), (10, 1, 1), (11, 1, 1)], "join_shortest_queue")
    assert prefill_clients(result) == [0, 1, 0, 1]
    assert times(result) == [(0, 30, 30), (0, 10, 10), (30, 40, 40), (11, 21, 21)]


@pytest.mark.parametrize(("arrival", "client"), [(60, 0), (61, 1)])
def test_least_outstanding_tokens(arrival: int, client: int) -> None:
    # Client 0 (budget 4): A = 8 + 1 tokens, 0..40 leaves 5 (40..80). Client 1 (budget 2): B = 9 + 1 tokens,
    # chunks of 2 end at 20, 40, 60: 6 are left before 60 has been processed, 4 after it.
    clients = [replace(CHUNKED, token_budget=4), replace(CHUNKED, token_budget=2)]
    result = run(clients, [(0, 8, 1), (0, 9, 1), (arrival, 1, 1)], "least_outstanding_tokens")
    assert prefill_clients(result) == [0, 1, client]


def test_handover_router_counts_requests_on_their_way() -> None:
    # Both prompts end at 40. A goes to decode client 1 on a tie and counts there while its KV is on the way,
    # so B goes to 2.
    clients = [replace(PREFILL, link_latency_ps=1000), DECODE, DECODE]
    result = run(clients, [(0, 2, 2), (0, 2, 2)], "round_robin", "join_shortest_queue")
    assert [r.finish_client for r in result.requests] == [1, 2]
    assert times(result) == [(0, 40, 1050)] * 2


def test_cost_of_a_step() -> None:
    # Chunks of 2 and 2, then a decode. pair = 1024, read = 5000 (in ps / 1024).
    # First chunk:  20 + 100 + (0 + 3 * 1024 = 3072) >> 10 = 3                 -> 123
    # Second chunk: 20 + 100 + (2 * max(2048, 5000) + 3072 = 13072) >> 10 = 12 -> 132, ends at 255
    # Decode:       10 + 100 + 7 * (4 + 1)                                     -> 145, ends at 400
    profile = replace(TEN_PER_TOKEN, sequences=[0] + [100] * 1024, attention_ps=7, pair=1024, read=5000)
    result = run([replace(CHUNKED, token_budget=2, profile=profile)], [(0, 4, 2)])
    assert spans(result) == [(0, 123), (123, 255), (255, 400)]


def test_cost_tables() -> None:
    assert len(LINEAR_KNOTS) == 1025 + 224 + 240
    squares = [knot * knot for knot in LINEAR_KNOTS]
    assert linear_cost(squares, 1000) == 1000000
    # Between 1024 and 1056: 1048576 + (1115136 - 1048576 = 66560) * 3 // 32 = 1048576 + 6240.
    assert linear_cost(squares, 1027) == 1054816
    assert linear_cost(squares, 8192) == 8192 * 8192
    # Beyond 131072: 130560^2 + (131072^2 - 130560^2 = 133955584) * 1024 // 512.
    assert linear_cost(squares, 131584) == 130560 * 130560 + 2 * 133955584
    falling = [3 - knot for knot in range(len(LINEAR_KNOTS))]
    # From 1024 (-1021) to 1056 (-1022): -1021 + floor(-1 / 32).
    assert linear_cost(falling, 1025) == -1022
    assert sequences_cost([*range(1024), 1030], 1026) == 1030 + 2 * 7
    assert prefill_cost(replace(TEN_PER_TOKEN, pair=3000, read=1), 5, 2) == (5 * 6000 + 9000) // 1024


def test_itl_bin() -> None:
    gaps = [0, 1, 255, 256, 257, 258, 511, 512, 1023, 1024]
    assert [itl_bin(gap) for gap in gaps] == [0, 1, 255, 256, 256, 257, 383, 384, 511, 512]


def random_spec(rng: random.Random, role: str) -> OracleClientSpec:
    scale = rng.choice([0, 1, 10])
    profile = OracleProfile(
        linear=[scale * tokens for tokens in LINEAR_KNOTS],
        sequences=[rng.choice([0, 5])] * 1025,
        attention_ps=rng.choice([0, 1]),
        pair=rng.choice([0, 900]),
        read=rng.choice([0, 3000]),
    )
    return OracleClientSpec(
        role=role,
        policy=rng.choice(["static", "continuous", "chunked"]),
        max_batch=rng.randint(1, 6),
        token_budget=rng.randint(1, 20),
        block_tokens=rng.randint(1, 4),
        total_blocks=rng.randint(4, 20),
        watermark_blocks=rng.randint(0, 3),
        profile=profile,
        link_latency_ps=rng.choice([0, 50]),
        link_ps_per_token=rng.choice([0, 3]),
    )


@pytest.mark.parametrize("seed", range(100))
def test_invariants_on_random_deployments(seed: int) -> None:
    """The oracle asserts its invariants while it runs."""
    rng = random.Random(seed)
    roles = rng.choice([["both"], ["both"] * 3, ["prefill", "decode"], ["decode", "prefill", "both", "decode"]])
    arrivals = sorted(rng.randint(0, 1500) for _ in range(40))
    names = ["round_robin", "join_shortest_queue", "least_outstanding_tokens"]
    requests = [(arrival, rng.randint(1, 15), rng.choice([1, 2, 5, 12])) for arrival in arrivals]
    result = run([random_spec(rng, role) for role in roles], requests, rng.choice(names), rng.choice(names))
    assert result.steps_log is not None
    assert sum(c.steps for c in result.clients) == len(result.steps_log)
