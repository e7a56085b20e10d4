"""Hand-computed scenarios of prefix caches and tiers; the conventions are those of ``test_oracle``.

A chunk is a block of 4 tokens.
"""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from .engine import OracleClientSpec, OracleRequest, OracleResult, OracleStage, OracleTier, simulate
from .test_oracle import CHUNKED, CONTINUOUS, DECODE, PREFILL, spans, times

CACHED = replace(CONTINUOUS, cached=True)


def ask(arrival_ps: int, prompt: int, output: int, chunk_ids: tuple[int, ...], keep: str = "keep") -> OracleRequest:
    """A request with all whole chunks of its prompt, as far as there are ids."""
    prompt_chunks = min(len(chunk_ids), prompt // 4)
    return OracleRequest(arrival_ps, prompt, output, chunk_ids=chunk_ids, prompt_chunks=prompt_chunks, keep=keep)


def run(
    clients: Sequence[OracleClientSpec],
    requests: Sequence[OracleRequest],
    tiers: Sequence[OracleTier] = (),
    links: int = 1,
) -> OracleResult:
    stages = [OracleStage("llm", "round_robin")]
    return simulate(clients, requests, stages, [(0,)], tiers=tiers, links=links, chunk_tokens=4)


@pytest.mark.parametrize(("prompt", "hit"), [(10, 8), (9, 8), (8, 4), (5, 4), (4, 0)])
@pytest.mark.parametrize("policy", ["continuous", "chunked"])
def test_hit(policy: str, prompt: int, hit: int) -> None:
    # A = (8, 1): 0..80. B has the same text as far as it goes, but at least one token of it is computed.
    client = replace(CACHED, policy=policy)
    result = run([client], [ask(0, 8, 1, (0, 1)), ask(100, prompt, 1, (0, 1)[: prompt // 4])])
    assert times(result) == [(0, 80, 80), (100, 100 + 10 * (prompt - hit), 100 + 10 * (prompt - hit))]
    outcome = result.clients[0]
    assert (outcome.hit_tokens, outcome.fetched_tokens) == (hit, 0)
    assert outcome.prefill_tokens == 8 + prompt - hit
    rest = prompt - hit
    assert outcome.prefill_pairs == 36 + rest * hit + rest * (rest + 1) // 2


def test_the_answer_is_part_of_the_next_prompt() -> None:
    # A = (6, 5): 0..60 and 4 decodes to 100. 11 tokens, of which the KV of 10 has been computed: 2 chunks, the first
    # of the prompt alone. B = (14, 1) goes on: 8 tokens are there, 6 are left.
    result = run([CACHED], [ask(0, 6, 5, (0, 1)), ask(100, 14, 1, (0, 1, 2))])
    assert times(result) == [(0, 60, 100), (100, 160, 160)]
    # With 3 tokens of answer only 6 + 3 - 1 = 8 have been computed, with 2 too few.
    assert [
        run([CACHED], [ask(0, 6, n, (0, 1)), ask(200, 14, 1, (0, 1, 2))]).clients[0].hit_tokens for n in (3, 2)
    ] == [
        8,
        4,
    ]


def test_the_budget_counts_what_is_left() -> None:
    # Budget 6: A = (8, 1) first, 0..80. B and C = (10, 1) with 2 tokens left each and D = (3, 1): 2 + 2 and not 3.
    requests = [ask(0, 8, 1, (0, 1)), *[ask(100, 10, 1, (0, 1))] * 2, ask(100, 3, 1, ())]
    assert spans(run([replace(CACHED, token_budget=6)], requests)) == [(0, 80), (100, 140), (140, 170)]
    # Chunked: 2 + 2 + 2, and D's last one.
    requests[0] = ask(0, 8, 1, (0, 1))
    chunked = replace(CHUNKED, cached=True, token_budget=6)
    assert spans(run([chunked], requests)) == [(0, 60), (60, 80), (100, 160), (160, 170)]


def test_dedup() -> None:
    # A and B = (8, 2) compute the same 2 blocks at once: 0..160. Then they share them, and of 4 blocks 2 are free
    # to grow: 160..180. Without the cache B is preempted.
    client = replace(CACHED, total_blocks=4)
    requests = [ask(0, 8, 2, (0, 1))] * 2
    result = run([client], requests)
    assert times(result) == [(0, 160, 180)] * 2
    assert (result.clients[0].preemptions, result.clients[0].hit_tokens) == (0, 0)
    assert run([replace(client, cached=False)], requests).clients[0].preemptions == 1


def test_entries_without_references_are_free() -> None:
    # 3 blocks. A = (8, 1) leaves 2 entries; B = (11, 1), another text, needs all blocks: 100..210.
    result = run([replace(CACHED, total_blocks=3)], [ask(0, 8, 1, (0, 1)), ask(100, 11, 1, (2, 3))])
    assert times(result)[1] == (100, 210, 210)
    assert result.happened["eviction"] == 2


def test_a_hit_needs_the_blocks_of_its_entries() -> None:
    # 4 blocks, A = (8, 1) leaves 2 entries. At 100 X = (7, 2) takes 2 blocks: 100..170. B = (9, 1) needs 1 of its
    # own and the 2 entries, 3 of the 2 that are free: it waits until X has decoded, 170..180; then 180..190.
    requests = [ask(0, 8, 1, (0, 1)), ask(100, 7, 2, ()), ask(101, 9, 1, (0, 1))]
    result = run([replace(CACHED, total_blocks=4)], requests)
    assert times(result) == [(0, 80, 80), (100, 170, 180), (180, 190, 190)]
    assert result.clients[0].blocked_ps[1] == 10


@pytest.mark.parametrize(("eviction_blocks", "hit"), [(0, 4), (1, 0)])
def test_eviction_order(eviction_blocks: int, hit: int) -> None:
    # 3 blocks. A leaves the entries 1 and then 0. At 100 B = (8, 1) takes 2 blocks, so one of them must leave: 1,
    # which lost its last reference first. With 1 block beyond that both. C = (9, 1) finds what is left.
    client = replace(CACHED, total_blocks=3, eviction_blocks=eviction_blocks)
    result = run([client], [ask(0, 8, 1, (0, 1)), ask(100, 8, 1, ()), ask(200, 9, 1, (0, 1))])
    assert times(result)[2] == (200, 290 - 10 * hit, 290 - 10 * hit)
    assert result.clients[0].hit_tokens == hit


def test_the_least_recently_used_leaves() -> None:
    # 4 blocks: entries 0, 1, 2 of three prompts; then 0 is used again; then X = (7, 1) takes 2 blocks: 1 leaves.
    # Later prompts find 0 and 2 but not 1.
    requests = [ask(1000 * i, 5, 1, (chunk,)) for i, chunk in enumerate([0, 1, 2, 0])]
    requests += [ask(4000, 7, 1, ())]
    requests += [ask(5000 + 1000 * i, 5, 1, (chunk,)) for i, chunk in enumerate([0, 2, 1])]
    result = run([replace(CACHED, total_blocks=4)], requests)
    assert [r.finish_ps % 1000 for r in result.requests] == [50, 50, 50, 10, 70, 10, 10, 50]


def test_growth_makes_room() -> None:
    # 3 blocks. A leaves entry 0. B = (8, 2): 2 blocks 100..180; its decode needs the third: entry 0 leaves then.
    requests = [ask(0, 4, 1, (0,)), ask(100, 8, 2, ()), ask(300, 5, 1, (0,))]
    result = run([replace(CACHED, total_blocks=3)], requests)
    assert times(result) == [(0, 40, 40), (100, 180, 190), (300, 350, 350)]


@pytest.mark.parametrize(("keep", "hit"), [("keep", 8), ("drop", 0), ("offload", 0)])
def test_keep(keep: str, hit: int) -> None:
    tier = OracleTier(capacity=9, link=0, latency_ps=0, chunk_ps=1)
    client = replace(CACHED, tiers=(0,), write="none", always_fetch=True)
    requests = [ask(0, 8, 1, (0, 1), keep), ask(100, 9, 1, (0, 1))]
    result = run([client], requests, [tier])
    offloaded = 8 * (keep == "offload")
    assert (result.clients[0].hit_tokens, result.clients[0].fetched_tokens) == (hit + offloaded, offloaded)
    assert (result.tiers[0].stored_chunks, result.tiers[0].hit_chunks) == (offloaded // 4, offloaded // 4)


def test_a_prefill_client_keeps_its_references_until_the_handover_arrives() -> None:
    # 2 blocks, A = (8, 2): 0..80, hand-over at 130. B = (9, 1) of the same text needs a third block: never. C =
    # (8, 1) of another text has to wait until 130, when the entries have lost their references.
    clients = [replace(PREFILL, cached=True, total_blocks=2, link_latency_ps=50), DECODE]
    result = run(clients, [ask(0, 8, 2, (0, 1)), ask(80, 9, 1, (0, 1)), ask(80, 8, 1, (2, 3))])
    assert result.requests[1].rejected
    assert times(result)[2] == (130, 210, 210)


def test_preempted_requests_look_their_prompt_up_again() -> None:
    # 4 blocks. A = (4, 6) and B = (5, 5) are prefilled together 0..90 (1 and 2 blocks), then decode 90..110 (A takes
    # the fourth), 110..130 and 130..150. B's context is 8: it needs a block and is preempted with 4 tokens of 5; its
    # chunk becomes an entry without reference. A decodes 150..160; at 160 its context is 8, and B, which needs 1 of
    # its own entries and 2 blocks, has to wait: 160..170, A is done. B computes 9 - 4 tokens: 170..220.
    result = run([replace(CACHED, total_blocks=4)], [ask(0, 4, 6, (0,)), ask(0, 5, 5, (1,))])
    assert times(result)[0] == (0, 90, 170)
    assert times(result)[1] == (0, 90, 220)
    assert result.clients[0].hit_tokens == 4


def test_who_was_swapped_publishes_all_chunks_at_its_end() -> None:
    # As before, but B is swapped at 150: 8 tokens, 1 ps each: A 150..168, 168..178. B is back with 8 tokens (2 blocks
    # of its own, although its chunk is an entry): its last decode 178..196. Its chunk is the entry, so the block of its
    # own is freed, and the second one, of 5 + 5 - 1 tokens, becomes an entry: C finds both.
    client = replace(CACHED, total_blocks=4, swap_ps=1, swap_free=8)
    b = OracleRequest(0, 5, 5, chunk_ids=(1, 2), prompt_chunks=1)
    result = run([client], [ask(0, 4, 6, (0,)), b, ask(300, 9, 1, (1, 2))])
    assert times(result) == [(0, 90, 178), (0, 90, 196), (300, 310, 310)]
    assert result.clients[0].hit_tokens == 8


@pytest.mark.parametrize("first", [0, 1])
def test_who_finishes_together_leaves_in_order_of_index(first: int) -> None:
    # 5 blocks. A and B = (5, 4) of different texts finish together after 3 decodes. Whoever was admitted first, the
    # chunk of B loses its reference last. When X = (13, 1) takes 4 blocks, that of A leaves.
    requests = [
        OracleRequest(0, 5, 4, chunk_ids=(1,), prompt_chunks=1, priority=1 - first),
        OracleRequest(0, 5, 4, chunk_ids=(2,), prompt_chunks=1, priority=first),
        ask(1000, 13, 1, ()),
        ask(2000, 5, 1, (1,)),
        ask(3000, 5, 1, (2,)),
    ]
    result = run([replace(CACHED, total_blocks=5, order="priority")], requests)
    assert [r.finish_ps % 1000 for r in result.requests[3:]] == [50, 10]


# -- tiers


@pytest.mark.parametrize(
    ("chunk_ps", "always", "joins"),
    [
        (30, False, 165),  # 5 + 60 < 80
        (37, False, 179),  # 5 + 74 < 80
        (38, False, None),  # 5 + 76 is not worth it
        (38, True, 181),
    ],
)
def test_fetch_or_recompute(chunk_ps: int, always: bool, joins: int | None) -> None:
    # A = (8, 1) on client 0 writes 2 chunks to the tier that both share. At 100 B = (9, 1) comes to client 1: it
    # fetches 8 tokens and computes 1, or computes 9.
    client = replace(CACHED, tiers=(0,), always_fetch=always)
    tier = OracleTier(capacity=9, link=0, latency_ps=5, chunk_ps=chunk_ps)
    result = run([client] * 2, [ask(0, 8, 1, (0, 1)), ask(100, 9, 1, (0, 1))], [tier])
    fetched = joins is not None
    start = joins if joins is not None else 100
    finish = start + (10 if fetched else 90)
    assert times(result) == [(0, 80, 80), (start, finish, finish)]
    assert [c.fetched_tokens for c in result.clients] == [0, 8 * fetched]
    assert [c.hit_tokens for c in result.clients] == [0, 8 * fetched]
    assert (result.tiers[0].hit_chunks, result.tiers[0].stored_chunks) == (2 * fetched, 2)


def test_fetches_share_a_link() -> None:
    # B and C = (9, 1) come to clients 1 and 2 at 100. B: 5 + 2 * 20 < 80. C: 5 + 2 * 20 * 2 is not, unless always:
    # then both transfers end at 180.
    client = replace(CACHED, tiers=(0,))
    tier = OracleTier(capacity=9, link=0, latency_ps=5, chunk_ps=20)
    requests = [ask(0, 8, 1, (0, 1)), ask(100, 9, 1, (0, 1)), ask(100, 9, 1, (0, 1))]
    assert times(run([client] * 3, requests, [tier]))[1:] == [(145, 155, 155), (100, 190, 190)]
    client = replace(client, always_fetch=True)
    assert times(run([client] * 3, requests, [tier]))[1:] == [(185, 195, 195)] * 2


def test_write_back_and_spill() -> None:
    # 3 blocks, 1 beyond what is wanted; behind them a tier of 1 chunk that spills into one of 5. A leaves the
    # entries 1, 0. At 100 B takes 2 blocks: 1 leaves into the first tier, then 0, which spills 1 into the second.
    # C fetches 0 from the first, 200..210 and 5, and 1 from the second, 215..225 and 5: there it is stored in the
    # first tier, which spills 0. Then one token: 230..240.
    tiers = [
        OracleTier(capacity=1, link=0, latency_ps=5, chunk_ps=10, spills=True),
        OracleTier(capacity=5, link=1, latency_ps=5, chunk_ps=10),
    ]
    client = replace(CACHED, total_blocks=3, eviction_blocks=1, tiers=(0, 1), write="back")
    requests = [ask(0, 8, 1, (0, 1)), ask(100, 8, 1, ()), ask(200, 9, 1, (0, 1))]
    result = run([client], requests, tiers, links=2)
    assert times(result)[2] == (230, 240, 240)
    assert [(t.hit_chunks, t.stored_chunks) for t in result.tiers] == [(1, 3), (1, 2)]
    # Nothing is written: it has to compute all 9.
    result = run([replace(client, write="none")], requests, tiers, links=2)
    assert times(result)[2] == (200, 290, 290)


def test_a_full_tier_keeps_what_was_used_last() -> None:
    # A tier of 2 chunks behind two clients, which take turns: 0, 1 and 2 are computed and written, by which 0 leaves.
    # So client 1 computes 0 and writes it, by which 1 leaves, and client 0 computes 1.
    client = replace(CACHED, tiers=(0,), always_fetch=True)
    tier = OracleTier(capacity=2, link=0, latency_ps=0, chunk_ps=1)
    requests = [ask(1000 * i, 5, 1, (chunk,)) for i, chunk in enumerate([0, 1, 2, 0, 1])]
    result = run([client] * 2, requests, [tier])
    assert [r.finish_ps % 1000 for r in result.requests] == [50] * 5
    assert (result.tiers[0].hit_chunks, result.tiers[0].stored_chunks) == (0, 5)
    # With 3 chunks both are there: the transfer of 1 ps, 1 ps of latency, and 1 token.
    result = run([client] * 2, requests, [replace(tier, capacity=3)])
    assert [r.finish_ps % 1000 for r in result.requests] == [50, 50, 50, 12, 12]
    assert (result.tiers[0].hit_chunks, result.tiers[0].stored_chunks) == (2, 3)


def test_what_comes_into_the_cache_during_a_fetch() -> None:
    # A = (8, 1) is offloaded at 80. B = (9, 1) begins at 100 to fetch its 2 chunks, C = (5, 1) at 110 the first one.
    # B alone has had 10 of 100 at 110; C's 50 end at 210, when B has 40 left: 250. After 1 ps of latency C
    # computes one token, and the first chunk is an entry: of the 2 that cover B's prompt only 1 was fetched.
    tier = OracleTier(capacity=2, link=0, latency_ps=0, chunk_ps=50)
    client = replace(CACHED, tiers=(0,), write="none", always_fetch=True)
    requests = [ask(0, 8, 1, (0, 1), "offload"), ask(100, 9, 1, (0, 1)), ask(110, 5, 1, (0,))]
    result = run([client], requests, [tier])
    assert times(result)[1:] == [(251, 261, 261), (211, 221, 221)]
    assert (result.clients[0].hit_tokens, result.clients[0].fetched_tokens) == (8 + 4, 4 + 4)
