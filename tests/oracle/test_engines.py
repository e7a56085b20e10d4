"""Hand-computed scenarios of what clients of an LLM stage may have; the conventions are those of ``test_oracle``."""

from collections import Counter
from dataclasses import replace

import pytest

from .draws import draw
from .engine import OracleClientSpec, OracleRequest, OracleResult, OracleStage, RequestOutcome, simulate, simulate_llm
from .links import Link
from .request import Request
from .test_oracle import CHUNKED, CONTINUOUS, DECODE, PREFILL, STATIC, TEN_PER_TOKEN, spans, times


def serve(client: OracleClientSpec, requests: list[OracleRequest]) -> OracleResult:
    return simulate_llm([client], requests, "round_robin", "round_robin")


# -- order


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("fcfs", "BCD"),
        ("shortest_first", "CDB"),  # prompts 5, 2, 3
        ("least_work_left", "DBC"),  # 6, 8, 5
        ("priority", "DCB"),
        ("earliest_deadline", "CBD"),
    ],
)
@pytest.mark.parametrize("policy", ["static", "continuous", "chunked"])
def test_orders(policy: str, order: str, expected: str) -> None:
    # One at a time; A runs when the others come.
    requests = [
        OracleRequest(0, 2, 1),
        OracleRequest(1, 5, 1, priority=2, deadline_ps=50),
        OracleRequest(1, 2, 6, priority=1, deadline_ps=40),
        OracleRequest(1, 3, 2, priority=0, deadline_ps=60),
    ]
    result = serve(replace(CONTINUOUS, policy=policy, max_batch=1, order=order), requests)
    scheduled = {r.scheduled_ps: name for r, name in zip(result.requests, "ABCD", strict=True)}
    assert "".join(scheduled[time] for time in sorted(scheduled)) == "A" + expected


def test_of_equal_rank_the_first_by_index() -> None:
    # C arrives at its service before B, but both wait when A is done at 20.
    requests = [OracleRequest(0, 2, 1), OracleRequest(1, 1, 1, priority=3), OracleRequest(2, 1, 1, priority=3)]
    result = serve(replace(CONTINUOUS, max_batch=1, order="priority"), requests)
    assert times(result) == [(0, 20, 20), (20, 30, 30), (30, 40, 40)]


# Blocks of 2 tokens, 4 of them; A = B = (2, 4): at 80 both have 3 tokens and one of them must go.
TIGHT = replace(CONTINUOUS, block_tokens=2, total_blocks=4)


def test_priority_says_who_is_preempted() -> None:
    # As test_preemption_by_recompute, but A is preempted: B 80..90, A again 90..140.
    requests = [OracleRequest(0, 2, 4, priority=1), OracleRequest(0, 2, 4)]
    assert times(serve(replace(TIGHT, order="priority"), requests)) == [(0, 40, 140), (0, 40, 90)]


# -- swap


@pytest.mark.parametrize(("tokens", "finish"), [(4, (102, 124)), (3, (90, 140))])
def test_swap(tokens: int, finish: tuple[int, int]) -> None:
    # At 80 B has a context of 4. It is swapped if 4 tokens fit: 4 * 3 ps beside A's decode, 80..102, and as much
    # when it is back for its own last decode, 102..124. Else it is computed again as 5 tokens: 90..140.
    requests = [OracleRequest(0, 2, 4)] * 2
    result = serve(replace(TIGHT, swap_ps=3, swap_free=tokens), requests)
    assert tuple(r.finish_ps for r in result.requests) == finish
    assert [r.preemptions for r in result.requests] == [0, 1]
    assert result.clients[0].prefill_tokens == (4 if tokens == 4 else 9)
    assert result.clients[0].decode_tokens == (6 if tokens == 4 else 5)


def test_who_is_prefilling_is_not_swapped() -> None:
    # As test_preemption_of_a_partly_prefilled_request.
    spec = replace(CHUNKED, token_budget=4, block_tokens=2, total_blocks=7, swap_ps=3, swap_free=100)
    result = serve(spec, [OracleRequest(0, 4, 4), OracleRequest(0, 8, 1)])
    assert times(result) == [(0, 40, 130), (40, 210, 210)]


# -- fixed blocks and windows


@pytest.mark.parametrize("client", [CONTINUOUS, CHUNKED, STATIC])
def test_fixed_blocks(client: OracleClientSpec) -> None:
    # (6, 4): 2 blocks of state, ceil(4 * 512 / (1024 * 4)) = 1 of windows, ceil(10 / 4) = 3 that grow.
    spec = replace(client, state_blocks=2, window_tokens=4, window_share=512)
    result = serve(replace(spec, total_blocks=6), [OracleRequest(0, 6, 4)])
    assert times(result) == [(0, 60, 90)]
    assert result.clients[0].peak_blocks == 6
    assert serve(replace(spec, total_blocks=5), [OracleRequest(0, 6, 4)]).requests[0].rejected
    # Two at a time need 2 * (3 + 2) blocks for their prompts.
    one, two = (serve(replace(spec, total_blocks=n), [OracleRequest(0, 6, 1)] * 2) for n in (9, 10))
    assert len(spans(one)) == 2
    assert len(spans(two)) == 1


def test_fixed_blocks_of_a_prefill_client() -> None:
    # Tokens are those of the prompt: min(3, 8) * 1024 / (1024 * 4) -> 1; with 1 that grows it needs 2. A decode
    # client with min(3 + 9, 8) -> 2, and 3 that grow, needs 5.
    for blocks, rejected in (((2, 5), False), ((1, 5), True), ((2, 4), True)):
        clients = [
            replace(PREFILL, total_blocks=blocks[0], window_tokens=8, window_share=1024),
            replace(DECODE, total_blocks=blocks[1], window_tokens=8, window_share=1024),
        ]
        result = simulate_llm(clients, [OracleRequest(0, 3, 9)], "round_robin", "round_robin")
        assert result.requests[0].rejected == rejected


def test_cost_with_windows() -> None:
    # Windows of 3 tokens. Prefill of 4: 40 + (1 + 2 + 3 + 3). Decode: 10 + 7 * min(3, 4 + 2 // 2) + 100 + 1.
    profile = replace(TEN_PER_TOKEN, window_ps=7, window_pair=1024, decode_ps=100, decode_sequence_ps=1)
    result = serve(replace(CONTINUOUS, profile=profile, window_tokens=3), [OracleRequest(0, 4, 2)])
    assert spans(result) == [(0, 49), (49, 49 + 132)]
    # Each chunk is rounded on its own: (512 * (1 + 2)) >> 10 = 1, (512 * (3 + 3)) >> 10 = 3.
    chunked = replace(CHUNKED, profile=replace(TEN_PER_TOKEN, window_pair=512), window_tokens=3, token_budget=2)
    assert spans(serve(chunked, [OracleRequest(0, 4, 1)])) == [(0, 21), (21, 44)]


# -- adapters


def test_adapters() -> None:
    # One place. A: 20 + 3 and loading 20: 0..43, B is refused; A 43..56. B: 20 + 3 and loading 20: 56..99. C has
    # B's adapter: 99..122. D has none: with it nothing is added: 122..142.
    spec = replace(CONTINUOUS, max_adapters=1, adapter_ps=3, adapter_load_ps=20)
    requests = [
        OracleRequest(0, 2, 2, adapter=1),
        OracleRequest(0, 2, 1, adapter=2),
        OracleRequest(60, 2, 1, adapter=2),
        OracleRequest(110, 2, 1),
    ]
    result = serve(spec, requests)
    assert spans(result) == [(0, 43), (43, 56), (56, 99), (99, 122), (122, 142)]
    assert result.clients[0].blocked_ps == {1: 0, 2: 56, 3: 0}
    # Nobody looks at adapters: A and B together.
    result = serve(replace(spec, max_adapters=0), requests)
    assert spans(result) == [(0, 40), (40, 50), (60, 80), (110, 130)]


def test_the_adapter_used_longest_ago_leaves() -> None:
    # Two places: 1, 2, 1 again, so 3 takes the place of 2; 1 is still there, 2 is loaded again.
    spec = replace(CONTINUOUS, max_adapters=2, adapter_load_ps=50)
    requests = [OracleRequest(1000 * i, 1, 1, adapter=a) for i, a in enumerate([1, 2, 1, 3, 1, 2])]
    assert [end - start for start, end in spans(serve(spec, requests))] == [60, 60, 10, 60, 10, 60]


# -- speculation


@pytest.mark.parametrize(
    ("thresholds", "ends", "gaps"),
    [
        ((0, 0), [40, 70, 100], {30: 2, 0: 3}),  # 3 tokens a step, 2 in the last
        ((0, 2**32), [40, 70, 100, 130], {30: 3, 0: 2}),  # 2 tokens, 2, 1
        ((2**32, 2**32), [40, 70, 100, 130, 160, 190], {30: 5}),
    ],
)
@pytest.mark.parametrize("client", [CONTINUOUS, CHUNKED])
def test_speculation(
    client: OracleClientSpec, thresholds: tuple[int, int], ends: list[int], gaps: dict[int, int]
) -> None:
    # (4, 6): the prompt 0..40 gives 1 token; then steps of 1 + 2 tokens.
    result = serve(replace(client, draft=2, thresholds=thresholds), [OracleRequest(0, 4, 6)])
    assert [end for _, end in spans(result)] == ends
    assert result.itl_gaps_ps == Counter(gaps)
    assert result.clients[0].decode_tokens == 5
    # Room for min(4 + 3, 10) tokens in the first decode, in the end for all 10.
    assert result.clients[0].peak_blocks == 3
    if thresholds == (0, 0):
        assert result.clients[0].decode_context_tokens == (4 + 3) + (7 + 3)


def test_speculation_draws() -> None:
    # The first decode draws for 1 token generated; one of two thresholds is at most that: 2 tokens.
    drawn = draw(5, 0, 2**20 + 1)
    spec = replace(CONTINUOUS, draft=2, thresholds=(drawn, drawn + 1))
    result = simulate([spec], [OracleRequest(0, 4, 3)], [OracleStage("llm")], [(0,)], seed=5)
    assert spans(result) == [(0, 40), (40, 70)]


def test_speculation_takes_of_the_budget() -> None:
    # Budget 4, 1 + 2 tokens for A's decodes: B's prompt of 3 gets 1 token beside each, 40 ps.
    spec = replace(CHUNKED, draft=2, thresholds=(2**32, 2**32), token_budget=4)
    result = serve(spec, [OracleRequest(0, 4, 4), OracleRequest(0, 3, 1)])
    assert spans(result) == [(0, 40), (40, 80), (80, 120), (120, 160)]
    assert [r.finish_ps for r in result.requests] == [160, 160]


def test_room_for_drafts_of_who_was_handed_over() -> None:
    # Blocks of 1, 8 of them; A and B = (2, 4) come to the decode client at 41. Each needs min(2 + 1 + 2, 6) = 5 blocks
    # for its first decode, so B has to wait: A 41..71 (3 tokens), done as it has 4. B 71..101.
    decode = replace(DECODE, block_tokens=1, total_blocks=8, draft=2, thresholds=(0, 0))
    result = simulate_llm([PREFILL, decode], [OracleRequest(0, 2, 4)] * 2, "round_robin", "round_robin")
    assert spans(result, 1) == [(41, 71), (71, 101)]
    assert result.clients[1].peak_blocks == 5
    assert result.clients[1].blocked_ps == {1: 30, 2: 0, 3: 0}


# -- links


def request(index: int) -> Request:
    return Request(index, OracleRequest(0, 1, 1), (0,), RequestOutcome(), 0, 0)


def test_processor_sharing() -> None:
    # Two of work 10 from 0 on. At 5: v = floor(5 / 2) = 2, a third one with target 3 ends at 5 + (3 - 2) * 3 = 8.
    # v = 3; the two others at 8 + (10 - 3) * 2 = 22, the lower index first.
    link = Link(0)
    ends: list[tuple[int, int]] = []
    starts = [(0, 1, 10), (0, 0, 10), (5, 2, 1)]
    for now, index, work in starts:
        link.start(now, request(index), work, lambda end, index=index: ends.append((end, index)))  # type: ignore[misc]
    while link.event_ps is not None:
        link.end_one(link.event_ps)
    assert ends == [(8, 2), (22, 0), (22, 1)]


def test_handovers_share_a_link() -> None:
    # 10 ps a token. A's prompt of 2 ends at 20: 20 of work, B's of 3 at 30: 30 of work. At 30 A has had 10 of 20:
    # both share, A ends at 50, when B has had 10 of 30, and B at 70. The latency of 5: 55..65 and 75..85.
    prefill = replace(PREFILL, link_ps_per_token=10, link_latency_ps=5, egress=0)
    clients = [prefill, prefill, DECODE]
    requests = [OracleRequest(0, 2, 2), OracleRequest(0, 3, 2)]
    result = simulate(clients, requests, [OracleStage("llm", "round_robin")], [(0,)], links=1)
    assert times(result) == [(0, 20, 65), (0, 30, 85)]
    # A link each: 20 + 20 + 5 and 30 + 30 + 5.
    clients[1] = replace(prefill, egress=1)
    result = simulate(clients, requests, [OracleStage("llm", "round_robin")], [(0,)], links=2)
    assert times(result) == [(0, 20, 55), (0, 30, 75)]


@pytest.mark.parametrize(
    ("layers", "per_token", "work"),
    [
        (0, 20, 80),
        (1, 20, 80),  # the last layer is all of it
        (4, 20, 40),  # 40 of the 80 lay under the prefill
        (4, 5, 5),  # all but the last of 4 layers did
        (3, 5, 6),
    ],
)
@pytest.mark.parametrize("links", [0, 1])
def test_handover_by_layers(layers: int, per_token: int, work: int, links: int) -> None:
    # The prompt of 4 is computed 0..40; the latency is 5.
    prefill = replace(PREFILL, link_ps_per_token=per_token, link_latency_ps=5, link_layers=layers, egress=links - 1)
    result = simulate([prefill, DECODE], [OracleRequest(0, 4, 2)], [OracleStage("llm")], [(0,)], links=links)
    assert times(result) == [(0, 40, 40 + work + 5 + 10)]
