"""The kernel against queueing theory: waiting times that mathematics knows in closed form.

Clients here are bare kernel records whose steps cost what a textbook server needs. Theory is given the arrival rate and
the service moments *of the very sample*, which removes a good part of the statistical error; what is left of it was
measured over 12 seeds (standard deviation of simulated / theory) and stands beside each test.

References: L. Kleinrock, Queueing Systems, vol. 1 (1975) on Pollaczek-Khinchine, Erlang C and GI/M/1, vol. 2 (1976) on
processor sharing. D. V. Lindley, Proc. Camb. Phil. Soc. 48 (1952). J. Kiefer and J. Wolfowitz, Trans. AMS 78 (1955).
J. R. Jackson, Operations Research 5 (1957). P. J. Burke, Operations Research 4 (1956). J. D. C. Little, Operations
Research 9 (1961). R. W. Wolff, Operations Research 30 (1982). A. Cobham, Operations Research 2 (1954). T. E. Phipps,
Operations Research 4 (1956). M. Mitzenmacher, IEEE Trans. Parallel and Distributed Systems 12 (2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from heapq import heapreplace
from math import factorial

import numpy as np
import numpy.typing as npt
import pytest

from simulator import Deployment, Workload, simulate
from simulator.kernel import Memory, allocate, new_clients, new_requests, new_stages, run_compiled
from simulator.kernel.layout import SEQUENCE_KNOTS
from simulator.lowering import NO_LIMIT, ORDERS, POLICIES, ROLES, ROUTERS
from tests.oracle.engine import LINEAR_KNOTS

Integers = npt.NDArray[np.int64]

REQUESTS = 10**6
PLENTY = 1 << 40
"""KV blocks that never run out."""

TOKEN_PS = 1_000
"""Time of a prompt token on a server whose service is its prompt."""

MEAN_PROMPT = 10_000
STEP_PS = 1_000_000
MEAN_STEPS = 1_500
"""Output tokens of a request whose service is its output: an admission waits half a step for the step under way,
0.03 % of a service. The kernel's heap of finishing iterations holds 2**31 of them, so this stays below 2,000."""


@dataclass(frozen=True)
class Server:
    """A client with a textbook cost: ``step + token * T + sequence * S`` picoseconds a step."""

    role: str = "both"
    policy: str = "chunked"
    max_batch: int = 1
    step_ps: int = 0
    token_ps: int = 0
    sequence_ps: int = 0
    link_ps: int = 0
    order: str = "fcfs"
    egress: int = -1
    transfer_ps: int = 0  # a token, on the link


def serve(
    servers: list[Server],
    arrivals: Integers,
    prompts: Integers,
    outputs: Integers,
    *,
    router: str = "round_robin",
    priorities: Integers | None = None,
    links: int = 0,
) -> Memory:
    """Run the compiled kernel on servers with more KV than anybody needs."""
    clients = new_clients(len(servers))
    tables: list[Integers] = []
    offset = 0
    for client, server in zip(clients, servers, strict=True):
        client["role"], client["policy"] = ROLES[server.role], POLICIES[server.policy]
        client["max_batch"], client["token_budget"] = server.max_batch, PLENTY >> 16
        client["block_tokens"], client["total_blocks"] = 16, PLENTY
        client["link_latency_ps"], client["link_ps_per_token"] = server.link_ps, server.transfer_ps
        client["order"], client["egress"] = ORDERS[server.order], server.egress
        client["linear"], client["sequences"] = offset, offset + len(LINEAR_KNOTS)
        tables.append(server.step_ps + server.token_ps * np.asarray(LINEAR_KNOTS, dtype=np.int64))
        tables.append(server.sequence_ps * np.arange(SEQUENCE_KNOTS, dtype=np.int64))
        offset += len(LINEAR_KNOTS) + SEQUENCE_KNOTS
    stages = new_stages(1)
    stages["llm"], stages["router"], stages["handover_router"] = 1, ROUTERS[router], ROUTERS["round_robin"]
    requests = new_requests(len(arrivals))
    requests["arrival_ps"], requests["prompt_tokens"], requests["output_tokens"] = arrivals, prompts, outputs
    if priorities is not None:
        requests["priority"] = priorities
    memory = allocate(clients, stages, requests, np.concatenate(tables), max_run=NO_LIMIT, links=links)
    run_compiled(memory)
    assert (memory.requests["finish_ps"] > 0).all()
    return memory


def waits(memory: Memory) -> Integers:
    """Return the time from arrival to first admission of each request, shape (requests,)."""
    return np.asarray(memory.requests["scheduled_ps"] - memory.requests["arrival_ps"])


def poisson(rng: np.random.Generator, mean_gap_ps: float) -> Integers:
    """Return arrivals with exponential gaps."""
    return np.rint(np.cumsum(rng.exponential(mean_gap_ps, REQUESTS))).astype(np.int64)


def ones() -> Integers:
    return np.ones(REQUESTS, dtype=np.int64)


def erlang_c_wait(servers: int, rate: float, service: float) -> float:
    """Return the mean wait of M/M/c: ``C(c, a) / (c/s - rate)`` with the Erlang C probability of waiting.

    ``C(c, a) = (a^c/c!) (1/(1-a/c)) / (sum_{k<c} a^k/k! + (a^c/c!) (1/(1-a/c)))``, a = rate * service.
    """
    load = rate * service
    all_busy = load**servers / factorial(servers) / (1 - load / servers)
    probability = all_busy / (sum(load**k / factorial(k) for k in range(servers)) + all_busy)
    return probability / (servers / service - rate)


def draw_services(kind: str, rng: np.random.Generator) -> Integers:
    """Return prompt lengths whose mean is MEAN_PROMPT."""
    match kind:
        case "exponential":
            drawn = rng.exponential(MEAN_PROMPT, REQUESTS)
        case "constant":
            drawn = np.full(REQUESTS, MEAN_PROMPT, dtype=np.float64)
        case "uniform":
            drawn = rng.uniform(0, 2 * MEAN_PROMPT, REQUESTS)
        case _:
            raise AssertionError(kind)
    return np.maximum(np.rint(drawn), 1).astype(np.int64)


# Standard deviation at utilisation 0.6 / 0.7: exponential 0.45 / 0.44 %, constant 0.30 / 0.41 %, uniform 0.32 / 0.36 %.
@pytest.mark.parametrize("utilisation", [0.6, 0.7])
@pytest.mark.parametrize("kind", ["exponential", "constant", "uniform"])
def test_single_server_waits_as_pollaczek_and_khinchine_say(kind: str, utilisation: float) -> None:
    """M/M/1, M/D/1 and M/U/1: ``W = rate E[S²] / (2 (1 - rate E[S]))``.

    The mean is held to theory within 2 %, each single wait to Lindley's recursion exactly
    (``W' = max(0, W + S - gap)``), and the busy share to ``rate * E[S]``.
    """
    rng = np.random.default_rng(20)
    prompts = draw_services(kind, rng)
    arrivals = poisson(rng, MEAN_PROMPT * TOKEN_PS / utilisation)
    memory = serve([Server(policy="static", token_ps=TOKEN_PS)], arrivals, prompts, ones())

    services = prompts * TOKEN_PS
    rate = REQUESTS / arrivals[-1]
    second_moment = float(np.mean(services.astype(np.float64) ** 2))
    expected = rate * second_moment / (2 * (1 - rate * services.mean()))
    assert waits(memory).mean() == pytest.approx(expected, rel=0.02)

    walk = np.concatenate([[0], np.cumsum(services[:-1] - np.diff(arrivals))])
    assert np.array_equal(waits(memory), walk - np.minimum.accumulate(walk))

    span = int(memory.requests["finish_ps"].max())
    assert int(memory.clients["busy_ps"][0]) == services.sum()
    assert memory.clients["busy_ps"][0] / span == pytest.approx(utilisation, rel=0.005)


# Standard deviation: c = 1: 0.55 %, c = 2: 0.61 %, c = 4: 0.85 %.
@pytest.mark.parametrize("servers", [1, 2, 4])
def test_a_batch_of_c_waits_as_erlang_says(servers: int) -> None:
    """M/M/c: with steps of constant cost a batch of c places is c servers; the output is the (geometric) service.

    Little's law holds for those in service too: their time average, from the client's counters of tokens, is
    rate times mean service.
    """
    utilisation = 0.7
    rng = np.random.default_rng(21)
    outputs = rng.geometric(1 / MEAN_STEPS, REQUESTS)
    arrivals = poisson(rng, MEAN_STEPS * STEP_PS / (utilisation * servers))
    memory = serve([Server(max_batch=servers, step_ps=STEP_PS)], arrivals, ones(), outputs)

    rate, service = REQUESTS / arrivals[-1], outputs.mean() * STEP_PS
    expected = erlang_c_wait(servers, rate, service)
    assert waits(memory).mean() == pytest.approx(expected, rel=0.02)

    requests, client = memory.requests, memory.clients[0]
    assert np.array_equal(requests["finish_ps"] - requests["scheduled_ps"], outputs * STEP_PS)
    span = int(requests["finish_ps"].max())
    in_service = float(client["prefill_tokens"] + client["decode_tokens"]) * STEP_PS / span
    assert in_service == pytest.approx(utilisation * servers, rel=0.005)
    assert in_service == pytest.approx(REQUESTS / span * service, rel=1e-9)


@pytest.mark.parametrize("servers", [1, 3, 10])
def test_a_batch_of_c_is_c_servers_exactly(servers: int) -> None:
    """Arrivals on the grid of steps leave no half step to wait: every start as Kiefer and Wolfowitz have it.

    ``start = max(arrival, earliest time that one of c servers is free)``, first come first served.
    """
    rng = np.random.default_rng(22)
    count = 100_000
    outputs = rng.geometric(1 / 20, count)
    arrivals = np.cumsum(rng.geometric(min(1.0, 0.8 * servers / 20), count)) * STEP_PS
    memory = serve([Server(max_batch=servers, step_ps=STEP_PS)], arrivals, np.ones_like(outputs), outputs)

    free = [0] * servers
    expected = []
    for arrival, output in zip(arrivals.tolist(), outputs.tolist(), strict=True):
        start = max(arrival, free[0])
        expected.append(start)
        heapreplace(free, start + output * STEP_PS)
    assert memory.requests["scheduled_ps"].tolist() == expected
    assert (waits(memory) > 0).mean() > 0.2


# Standard deviation: 0.52 %.
def test_round_robin_over_two_servers_is_an_erlang_queue() -> None:
    """Every second arrival of a Poisson process comes at Erlang-2 gaps: two E2/M/1 queues.

    GI/M/1: ``W = s x / (1 - x)`` where x in (0, 1) solves ``x = A*((1 - x) / s)`` and the transform of Erlang-2 gaps of
    mean g is ``A*(z) = (2 / (2 + g z))²``. Random choice would give M/M/1, 46 % more.
    """
    utilisation = 0.7
    rng = np.random.default_rng(23)
    prompts = draw_services("exponential", rng)
    arrivals = poisson(rng, MEAN_PROMPT * TOKEN_PS / utilisation / 2)
    memory = serve([Server(policy="static", token_ps=TOKEN_PS)] * 2, arrivals, prompts, ones())
    assert memory.requests["client"].tolist() == [0, 1] * (REQUESTS // 2)

    service, gap = prompts.mean() * TOKEN_PS, 2 * arrivals[-1] / REQUESTS
    x = 0.5
    for _ in range(200):
        x = (2 / (2 + gap * (1 - x) / service)) ** 2
    assert waits(memory).mean() == pytest.approx(service * x / (1 - x), rel=0.02)


# Standard deviation over all requests: constant 0.21 %, geometric 0.22 % (0.23 % in each half).
@pytest.mark.parametrize("kind", ["constant", "geometric"])
def test_steps_as_long_as_their_batch_are_processor_sharing(kind: str) -> None:
    """M/G/1-PS: where a step costs its number of sequences, a request of x steps stays ``x / (1 - rho)`` on average.

    This holds whatever the distribution of x (insensitivity), and for short and long requests apart.
    """
    utilisation, steps = 0.6, 300
    rng = np.random.default_rng(24)
    drawn = np.full(REQUESTS, steps) if kind == "constant" else rng.geometric(1 / steps, REQUESTS)
    arrivals = poisson(rng, steps * STEP_PS / utilisation)
    memory = serve([Server(max_batch=1024, sequence_ps=STEP_PS)], arrivals, ones(), drawn)

    stay = memory.requests["finish_ps"] - memory.requests["arrival_ps"]
    load = REQUESTS / arrivals[-1] * drawn.mean() * STEP_PS
    assert stay.mean() == pytest.approx(drawn.mean() * STEP_PS / (1 - load), rel=0.02)
    if kind == "geometric":
        short = drawn < steps // 2
        for group in (short, ~short):
            assert stay[group].mean() == pytest.approx(drawn[group].mean() * STEP_PS / (1 - load), rel=0.02)


# Standard deviation: prefill wait 0.41 %, decode wait 0.65 %.
def test_prefill_then_decode_is_a_jackson_network() -> None:
    """An M/M/1 prefill client sends Poisson departures (Burke) through a constant link to an M/M/c decode client.

    Each queue waits as if it were alone (Jackson): the prefill one as M/M/1, the decode one as M/M/c.
    """
    utilisation, places, link_ps = 0.7, 4, 5_000_000
    rng = np.random.default_rng(25)
    outputs = 1 + rng.geometric(1 / MEAN_STEPS, REQUESTS)
    prompts = draw_services("exponential", rng)
    gap = MEAN_STEPS * STEP_PS / (places * utilisation)
    token_ps = round(gap * utilisation / MEAN_PROMPT)
    arrivals = poisson(rng, gap)
    servers = [
        Server(role="prefill", policy="static", token_ps=token_ps, link_ps=link_ps),
        Server(role="decode", max_batch=places, step_ps=STEP_PS),
    ]
    memory = serve(servers, arrivals, prompts, outputs)
    requests = memory.requests

    rate = REQUESTS / arrivals[-1]
    assert waits(memory).mean() == pytest.approx(erlang_c_wait(1, rate, prompts.mean() * token_ps), rel=0.02)
    decoding = (outputs - 1) * STEP_PS
    decode_wait = requests["finish_ps"] - requests["first_token_ps"] - link_ps - decoding
    assert decode_wait.min() >= 0
    assert decode_wait.mean() == pytest.approx(erlang_c_wait(places, rate, decoding.mean()), rel=0.02)


# ----------------------------------------------------------------------------------------------------------------------
# Links

TRANSFERS = 400_000


def draw_transfers(kind: str, rng: np.random.Generator) -> Integers:
    """Return prompt lengths whose mean is about MEAN_PROMPT; the squared coefficient of variation is 0, 1 and 4."""
    match kind:
        case "constant":
            drawn = np.full(TRANSFERS, MEAN_PROMPT, dtype=np.float64)
        case "exponential":
            drawn = rng.exponential(MEAN_PROMPT, TRANSFERS)
        case "two-point":
            drawn = np.where(rng.random(TRANSFERS) < 0.9, MEAN_PROMPT / 3, 7 * MEAN_PROMPT)
        case _:
            raise AssertionError(kind)
    return np.maximum(np.rint(drawn), 1).astype(np.int64)


# Standard deviation over all / small / large: constant 0.39 %, exponential 0.51 / 0.39 / 0.56 %, two-point 0.82 / 0.58
# / 0.93 %.
@pytest.mark.parametrize("senders", [1, 5])
@pytest.mark.parametrize("kind", ["constant", "exponential", "two-point"])
def test_a_shared_link_is_processor_sharing(kind: str, senders: int) -> None:
    """M/G/1-PS: a transfer of x alone takes ``x / (1 - rho)`` on average, whatever the distribution (insensitivity).

    Prefill clients whose steps take 1 ps pass Poisson arrivals on to the one link that all of them share; the decode
    client takes 1 ps for the second and last token.
    """
    utilisation = 0.6
    rng = np.random.default_rng(26)
    sizes = draw_transfers(kind, rng)
    arrivals = np.rint(np.cumsum(rng.exponential(sizes.mean() * TOKEN_PS / utilisation, TRANSFERS))).astype(np.int64)
    servers = [Server(role="prefill", max_batch=64, step_ps=1, link_ps=1, egress=0, transfer_ps=TOKEN_PS)] * senders
    servers += [Server(role="decode", max_batch=64, step_ps=1)]
    memory = serve(servers, arrivals, sizes, np.full(TRANSFERS, 2), links=1)

    stay = (memory.requests["finish_ps"] - memory.requests["first_token_ps"]).astype(np.float64)
    alone = sizes * TOKEN_PS
    assert (stay >= alone).all()
    load = float(alone.sum()) / int(arrivals[-1])
    assert stay.mean() == pytest.approx(alone.mean() / (1 - load), rel=0.03)
    if kind != "constant":
        small = sizes < MEAN_PROMPT
        for group in (small, ~small):
            assert stay[group].mean() == pytest.approx(alone[group].mean() / (1 - load), rel=0.03)
    assert int(memory.clients["steps"][-1]) == TRANSFERS


# ----------------------------------------------------------------------------------------------------------------------
# Routing


def queues_found(memory: Memory, servers: int) -> npt.NDArray[np.float64]:
    """Return the share of time that a client has at least k requests, averaged over clients, for k = 0, 1, ..., 8."""
    rows = memory.requests
    until = int(rows["arrival_ps"][-1])
    times = np.concatenate([rows["arrival_ps"], rows["finish_ps"]])
    changes = np.repeat([1, -1], len(rows))
    client = np.tile(rows["client"], 2)
    order = np.lexsort((changes, times, client))
    times, changes, client = np.minimum(times[order], until), changes[order], client[order]
    lasts = np.append(np.diff(times), 0)
    same = np.append(client[1:] == client[:-1], False)
    # Every client's changes sum to 0, so that one running sum counts all of them.
    lengths, lasts = np.cumsum(changes), np.where(same, lasts, 0)
    return np.array([1.0, *(lasts[lengths >= k].sum() / (until * servers) for k in range(1, 9))])


@cache
def spread(router: str, utilisation: float = 0.8, servers: int = 100) -> Memory:
    """Return a million requests with exponential services, sent to a hundred single servers."""
    rng = np.random.default_rng(27)
    prompts = draw_services("exponential", rng)
    arrivals = poisson(rng, MEAN_PROMPT * TOKEN_PS / utilisation / servers)
    return serve([Server(policy="static", token_ps=TOKEN_PS)] * servers, arrivals, prompts, ones(), router=router)


# Standard deviation: wait 0.47 %, a queue of at least 1 … 5: 0 / 0.06 / 0.13 / 0.24 / 0.36 %.
def test_random_routing_splits_a_poisson_process() -> None:
    """n M/M/1 queues: ``W = s rho / (1 - rho)``, and each number of requests k or more with probability rho^k."""
    memory = spread("random")
    services = memory.requests["prompt_tokens"].astype(np.float64) * TOKEN_PS
    rho = services.sum() / int(memory.requests["arrival_ps"][-1]) / 100
    assert waits(memory).mean() == pytest.approx(services.mean() * rho / (1 - rho), rel=0.03)
    assert queues_found(memory, 100)[:6] == pytest.approx([rho**k for k in range(6)], rel=0.04)
    counts = np.bincount(memory.requests["client"], minlength=100)
    # 99 degrees of freedom: within 5 standard deviations of 14.
    assert 30 < float(((counts - 10_000) ** 2 / 10_000).sum()) < 170
    # Gaps at one client are exponential: as long as their standard deviation.
    gaps = np.diff(memory.requests["arrival_ps"][memory.requests["client"] == 7])
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


# Standard deviation for k = 1, 2, 3: 0.00 / 0.11 / 0.40 %, stay 0.12 %; mean above the limit 0.0 / 0.4 / 3.2 %, 1.1 %.
def test_two_choices_are_doubly_exponential() -> None:
    """Power of two for many queues: ``P(queue >= k) = rho^(2^k - 1)`` (Mitzenmacher, Vvedenskaya), at n = 100.

    The limit is of n to infinity; at n = 100 the tails are a little heavier (an order of 1/n).
    """
    memory = spread("power_of_two")
    services = memory.requests["prompt_tokens"].astype(np.float64) * TOKEN_PS
    rho = services.sum() / int(memory.requests["arrival_ps"][-1]) / 100
    found = queues_found(memory, 100)
    for k, tolerance in ((1, 0.005), (2, 0.01), (3, 0.05)):
        assert found[k] == pytest.approx(rho ** (2**k - 1), rel=tolerance), k
    stay = waits(memory) + services
    assert stay.mean() / services.mean() == pytest.approx(sum(rho ** (2**k - 2) for k in range(1, 12)), rel=0.02)


def test_who_knows_more_waits_less() -> None:
    """Join the shortest queue beats two choices, which beat chance by far, in mean and at the 99th percentile."""
    mean_s, tail_s = [], []
    for router in ("join_shortest_queue", "power_of_two", "random"):
        memory = spread(router)
        mean_s.append(float(waits(memory).mean()) / MEAN_PROMPT / TOKEN_PS)
        tail_s.append(float(np.percentile(waits(memory), 99)))
    assert 3 * mean_s[0] < mean_s[1] < mean_s[2] / 3
    assert tail_s == sorted(tail_s)
    # What joining the shortest of a hundred queues leaves lies above one queue before a hundred servers.
    assert mean_s[0] > erlang_c_wait(100, 80 * 0.99, 1.0)


# ----------------------------------------------------------------------------------------------------------------------
# Order of the queue


def wait_by_rank(services: Integers, rank: Integers, span_ps: int) -> npt.NDArray[np.float64]:
    """Return each request's mean wait by Cobham's formula, shape (n,): ``R / ((1 - before) (1 - before - own))``.

    R is half the rate times the second moment of the service; ``before`` is the load of the smaller ranks, ``own`` that
    of the rank itself. With a rank for each size this is Phipps' shortest job first.
    """
    alone = services.astype(np.float64)
    _, which = np.unique(rank, return_inverse=True)
    load = np.bincount(which, weights=alone) / span_ps
    up_to = np.cumsum(load)
    residual = float((alone**2).sum()) / span_ps / 2
    waits_of: npt.NDArray[np.float64] = residual / ((1 - (up_to - load)) * (1 - up_to))
    return waits_of[which]


# Standard deviation from urgent to patient: exponential 0.33 / 0.74 / 0.95 %, constant 0.20 / 0.30 / 0.83 %.
@pytest.mark.parametrize("kind", ["exponential", "constant"])
def test_priorities_wait_as_cobham_says(kind: str) -> None:
    """Non-preemptive M/G/1 with priorities: 30 % urgent, 50 % ordinary, 20 % that can wait."""
    utilisation = 0.7
    rng = np.random.default_rng(28)
    prompts = draw_services(kind, rng)
    arrivals = poisson(rng, MEAN_PROMPT * TOKEN_PS / utilisation)
    priorities = rng.choice([-5, 0, 7], REQUESTS, p=[0.3, 0.5, 0.2])
    server = Server(policy="static", token_ps=TOKEN_PS, order="priority")
    memory = serve([server], arrivals, prompts, ones(), priorities=priorities)
    services = prompts * TOKEN_PS
    expected = wait_by_rank(services, priorities, int(arrivals[-1]))
    for priority in (-5, 0, 7):
        group = priorities == priority
        assert waits(memory)[group].mean() == pytest.approx(expected[group].mean(), rel=0.03), priority
    # Kleinrock's conservation law: the work that waits is the same as in order of arrival.
    first_come = serve([Server(policy="static", token_ps=TOKEN_PS)], arrivals, prompts, ones())
    waiting, in_order = (float((waits(m) * services.astype(np.float64)).mean()) for m in (memory, first_come))
    assert waiting == pytest.approx(in_order, rel=1e-9)


# Standard deviation over short / long / all: exponential 0.15 / 0.43 / 0.30 %, uniform 0.13 / 0.49 / 0.39 %, two-point
# 0.15 / 0.75 / 0.34 %.
@pytest.mark.parametrize("order", ["shortest_first", "least_work_left"])
@pytest.mark.parametrize("kind", ["exponential", "uniform", "two-point"])
def test_shortest_job_first_waits_as_phipps_says(kind: str, order: str) -> None:
    """M/G/1-SJF: ``W(x) = R / ((1 - load below x) (1 - load up to x))``, the mean, and short and long jobs apart."""
    utilisation = 0.7
    rng = np.random.default_rng(29)
    if kind == "two-point":
        prompts = rng.choice([MEAN_PROMPT // 2, 3 * MEAN_PROMPT], REQUESTS, p=[0.8, 0.2])
    else:
        prompts = draw_services(kind, rng)
    arrivals = poisson(rng, MEAN_PROMPT * TOKEN_PS / utilisation)
    memory = serve([Server(policy="static", token_ps=TOKEN_PS, order=order)], arrivals, prompts, ones())
    expected = wait_by_rank(prompts * TOKEN_PS, prompts, int(arrivals[-1]))
    short = prompts <= np.median(prompts)
    for group in (short, ~short, np.ones_like(short)):
        assert waits(memory)[group].mean() == pytest.approx(expected[group].mean(), rel=0.03)
    # Shorter first: less than in order of arrival, which is Pollaczek and Khinchine's.
    in_order = wait_by_rank(prompts * TOKEN_PS, np.zeros_like(prompts), int(arrivals[-1]))
    assert waits(memory).mean() < in_order.mean()


def test_littles_law_on_a_realistic_run() -> None:
    """L = rate * W, where the two sides come from different records.

    Decoding requests: the time integral of their number is the sum of all inter-token gaps, which the kernel keeps as
    a histogram filled in closed form; ``rate * W`` comes from the requests' own times. A bin is 0.8 % wide.
    Whole system: what Poisson arrivals find is its time average (PASTA, Wolff 1982), hence ``rate * W``.
    """
    rate_rps = 40
    deployment = Deployment.parse({"pools": [{"model": "llama-3.1-8b", "accelerator": "h100-sxm", "clients": 4}]})
    workload = Workload.parse(
        {
            "requests": 30_000,
            "arrivals": {"process": "poisson", "rate_rps": rate_rps},
            "lengths": {"statistics": "azure-2023-conversation"},
        }
    )
    result = simulate(deployment, workload)
    rows = result.requests()
    served_s = float((rows.e2e_s - rows.ttft_s).sum())
    upper, counts = result.itl_histogram
    assert counts.sum() == (rows.output_tokens - 1).sum()
    assert float(upper @ counts) == pytest.approx(served_s * (1 + 1 / 384), rel=0.004)

    arrive, leave = rows.arrival_s.to_numpy(), np.sort((rows.arrival_s + rows.e2e_s).to_numpy())
    found = np.arange(len(rows)) - np.searchsorted(leave, arrive)
    window = (arrive > 60) & (arrive < arrive[-1])
    little = rate_rps * float(rows.e2e_s[window].mean())
    assert float(found[window].mean()) == pytest.approx(little, rel=0.03)


def test_busy_share_is_rate_times_service() -> None:
    """One request at a time: the pool's ``busy`` is arrival rate times mean service, by definition of utilisation."""
    deployment = Deployment.parse(
        {
            "pools": [
                {
                    "model": "llama-3.1-8b",
                    "accelerator": "h100-sxm",
                    "batching": {"policy": "static", "max_batch_requests": 1},
                }
            ]
        }
    )
    workload = Workload.parse(
        {
            "requests": 20_000,
            "arrivals": {"process": "poisson", "rate_rps": 1.5},
            "lengths": {
                "prompt": {"distribution": "constant", "tokens": 500},
                "output": {"distribution": "constant", "tokens": 50},
            },
        }
    )
    result = simulate(deployment, workload)
    rows = result.requests()
    served_s = rows.e2e_s - rows.queue_s - rows.frontend_s  # nobody waits for another's way to the engine
    service = float(served_s.iloc[0])
    assert np.allclose(served_s, service)
    rho = 20_000 / result.span_s * service
    assert result.pools[0].busy == pytest.approx(rho, rel=1e-9)
    # M/D/1; 20,000 requests leave a standard deviation of about 3 %.
    assert rows.queue_s.mean() == pytest.approx(rho * service / (2 * (1 - rho)), rel=0.15)
