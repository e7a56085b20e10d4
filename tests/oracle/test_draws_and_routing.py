"""Hand-computed scenarios of draws and routers; the conventions are those of ``test_oracle``."""

from dataclasses import replace

import numpy as np
import pytest

from .draws import draw
from .engine import OracleRequest, OracleResult, OracleStage, simulate, simulate_llm
from .test_oracle import CONTINUOUS, DECODE, PREFILL, prefill_clients
from .test_services import SERVICE


def mixed(x: np.ndarray) -> np.ndarray:
    """The same in numpy, where 32 bits wrap by themselves."""
    for _ in range(2):
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x45D9F3B)
    result: np.ndarray = x ^ (x >> np.uint32(16))
    return result


def test_draws() -> None:
    requests = np.arange(1000, dtype=np.uint32)
    for seed, salt in ((0, 0), (7, 4), (2**32 - 1, 2**20 + 3)):
        expected = mixed(mixed(requests + np.uint32(seed)) + np.uint32(salt))
        assert [draw(seed, r, salt) for r in range(1000)] == expected.tolist()
    # Written down from an expression with exact whole numbers, x // 65536 and % 2^32.
    drawn = [draw(0, 0, 0), draw(0, 1, 0), draw(1, 0, 0), draw(7, 3, 4), draw(2**32 - 1, 2, 2**20 + 5)]
    assert drawn == [0, 379550018, 379550018, 986690015, 854236665]


def test_random_router() -> None:
    # Stage 1 has the salt 4, its hand-overs 6. Clients 1 and 2 prefill, 3, 4 and 5 decode.
    clients = [SERVICE, *[replace(PREFILL, stage=1)] * 2, *[replace(DECODE, stage=1)] * 3]
    requests = [OracleRequest(1000 * i, 2, 2) for i in range(40)]
    stages = [OracleStage("service"), OracleStage("llm", "random", "random")]
    result = simulate(clients, requests, stages, [(0, 1)], seed=11)
    assert prefill_clients(result) == [1 + draw(11, r, 4) % 2 for r in range(40)]
    assert [r.finish_client for r in result.requests] == [3 + draw(11, r, 6) % 3 for r in range(40)]
    assert len({r.finish_client for r in result.requests}) == 3


def test_power_of_two() -> None:
    # Far apart all are empty: the lower of the two. In the second half four at a time: the emptier of the two.
    requests = [OracleRequest(1000 * i, 2, 1) for i in range(20)]
    requests += [OracleRequest(30_000, 2, 1) for _ in range(20)]
    result = simulate_llm([CONTINUOUS] * 4, requests, "power_of_two", "round_robin")
    places = [(draw(0, r, 0) % 4, draw(0, r, 1) % 4) for r in range(40)]
    expected = [min(two) for two in places[:20]]
    load = [0] * 4
    for two in places[20:]:
        expected.append(min(two, key=lambda place: (load[place], place)))
        load[expected[-1]] += 1
    assert prefill_clients(result) == expected


@pytest.mark.parametrize(
    ("router", "third"), [("least_prompt_tokens", 1), ("least_output_tokens", 0), ("least_kv_tokens", 0)]
)
def test_least_lengths(router: str, third: int) -> None:
    # A = (5, 1) -> 0, B = (1, 9) -> 1; for C: prompts 5 and 1, outputs 1 and 9, together 6 and 10.
    requests = [OracleRequest(0, 5, 1), OracleRequest(0, 1, 9), OracleRequest(0, 1, 1)]
    assert prefill_clients(simulate_llm([CONTINUOUS] * 2, requests, router, "round_robin")) == [0, 1, third]


@pytest.mark.parametrize(("router", "client"), [("session_affinity", 1), ("join_shortest_queue", 0)])
def test_session_affinity(router: str, client: int) -> None:
    # E -> 0: 0..10, A -> 1: 0..20. A's follower arrives at 21, when both are empty.
    requests = [
        OracleRequest(0, 1, 1),
        OracleRequest(0, 2, 1, first_follower=2, followers=1),
        OracleRequest(0, 1, 1, needs=1),
    ]
    result = simulate_llm([CONTINUOUS] * 2, requests, router, "round_robin")
    assert prefill_clients(result) == [0, 1, client]


@pytest.mark.parametrize(("affinity", "client"), [(0, 1), (1, 0)])
def test_prefix_affinity(affinity: int, client: int) -> None:
    # A = (8, 1) -> 0: 0..80. X = (5, 1) -> 0 on a tie: 6 tokens outstanding. B = (9, 1) finds A's 8 tokens on
    # client 0: 6 + affinity * (9 - 8) there and 0 + affinity * 9 on client 1.
    requests = [
        OracleRequest(0, 8, 1, chunk_ids=(0, 1), prompt_chunks=2),
        OracleRequest(99, 5, 1),
        OracleRequest(100, 9, 1, chunk_ids=(0, 1), prompt_chunks=2),
    ]
    stages = [OracleStage("llm", "prefix_affinity", affinity=affinity)]
    clients = [replace(CONTINUOUS, cached=True)] * 2
    result = simulate(clients, requests, stages, [(0,)], chunk_tokens=4)
    assert prefill_clients(result) == [0, 0, client]
    assert [c.hit_tokens for c in result.clients] == [8 * (client == 0), 0]


def test_lengths_that_a_client_takes() -> None:
    # Client 0 takes prompts up to 3, client 1 from 3 to 5: prompts of 2, 4, 3 (-> 0 on a tie) and none of 6.
    clients = [replace(CONTINUOUS, max_prompt=3), replace(CONTINUOUS, min_prompt=3, max_prompt=5)]
    requests = [OracleRequest(1000 * i, prompt, 1) for i, prompt in enumerate([2, 4, 3, 6])]
    result = simulate_llm(clients, requests, "join_shortest_queue", "round_robin")
    assert prefill_clients(result) == [0, 1, 0, -1]
    assert [r.rejected for r in result.requests] == [False, False, False, True]


def lend(prefill: int, decode: int, requests: list[OracleRequest]) -> OracleResult:
    """One prefill client (0) and one decode client (1) that lend themselves beyond so many tokens."""
    stages = [OracleStage("llm", lend_prefill_tokens=prefill, lend_decode_tokens=decode)]
    return simulate([PREFILL, DECODE], requests, stages, [(0,)])


@pytest.mark.parametrize(("threshold", "clients"), [(10, (1, 1)), (11, (0, 1)), (-1, (0, 1))])
def test_a_decode_client_lends_itself(threshold: int, clients: tuple[int, int]) -> None:
    # A = (10, 1): 0..100 on the prefill client, 11 tokens outstanding when B = (3, 2) arrives.
    # Lent: B 1..31, 31..41 on the decode client. Else: 100..130, hand-over at 131, 131..141.
    result = lend(threshold, -1, [OracleRequest(0, 10, 1), OracleRequest(1, 3, 2)])
    outcome = result.requests[1]
    assert (outcome.prefill_client, outcome.finish_client) == clients
    assert outcome.finish_ps == (41 if clients == (1, 1) else 141)


@pytest.mark.parametrize(("threshold", "client"), [(6, 0), (7, 1), (-1, 1)])
def test_a_prefill_client_lends_itself(threshold: int, client: int) -> None:
    # A = (2, 10): 0..20, hand-over at 21 as nothing is outstanding there; decodes end at 31, 41, 51, ...
    # B = (2, 3) 30..50: when its prompt is done A has 9 - 2 = 7 tokens to go, as 51 has not come yet.
    # Lent: decodes 50..60, 60..70 on client 0. Else: at 51 to client 1, A and B 51..71, 71..91.
    result = lend(-1, threshold, [OracleRequest(0, 2, 10), OracleRequest(30, 2, 3)])
    outcome = result.requests[1]
    assert (outcome.prefill_client, outcome.finish_client) == (0, client)
    assert outcome.finish_ps == (70 if client == 0 else 91)
    assert result.requests[0].finish_client == 1


def test_local_handover() -> None:
    # The decode client of the prefill client's group, although another one has the lower index.
    clients = [replace(PREFILL, group=1), DECODE, replace(DECODE, group=1)]
    for local, client in ((True, 2), (False, 1)):
        result = simulate(clients, [OracleRequest(0, 2, 2)], [OracleStage("llm", local_handover=local)], [(0,)])
        assert result.requests[0].finish_client == client
    # A prefill client without a decode client of its group is of no use but for one token.
    result = simulate(
        [PREFILL, replace(DECODE, group=1)],
        [OracleRequest(0, 2, 2), OracleRequest(0, 2, 1)],
        [OracleStage("llm", local_handover=True)],
        [(0,)],
    )
    assert [r.rejected for r in result.requests] == [True, False]
