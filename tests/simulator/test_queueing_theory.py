"""The kernel against queueing theory: waiting times that mathematics knows in closed form.

Clients here are bare kernel records whose steps cost what a textbook server needs. Theory is given the arrival rate and
the service moments *of the very sample*, which removes a good part of the statistical error; what is left of it was
measured over 12 seeds (standard deviation of simulated / theory) and stands beside each test.

References: L. Kleinrock, Queueing Systems, vol. 1 (1975) on Pollaczek-Khinchine, Erlang C and GI/M/1, vol. 2 (1976) on
processor sharing. D. V. Lindley, Proc. Camb. Phil. Soc. 48 (1952). J. Kiefer and J. Wolfowitz, Trans. AMS 78 (1955).
J. R. Jackson, Operations Research 5 (1957). P. J. Burke, Operations Research 4 (1956). J. D. C. Little, Operations
Research 9 (1961). R. W. Wolff, Operations Research 30 (1982).
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapreplace
from math import factorial

import numpy as np
import numpy.typing as npt
import pytest

from simulator import Deployment, Workload, simulate
from simulator.kernel import Memory, allocate, run_compiled
from simulator.kernel.layout import CLIENT, SEQUENCE_KNOTS
from simulator.lowering import NO_LIMIT, POLICIES, ROLES, ROUTERS
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


def serve(
    servers: list[Server],
    arrivals: Integers,
    prompts: Integers,
    outputs: Integers,
    *,
    router: str = "round_robin",
) -> Memory:
    """Run the compiled kernel on servers with more KV than anybody needs."""
    clients = np.zeros(len(servers), dtype=CLIENT)
    tables: list[Integers] = []
    offset = 0
    for client, server in zip(clients, servers, strict=True):
        client["role"], client["policy"] = ROLES[server.role], POLICIES[server.policy]
        client["max_batch"], client["token_budget"] = server.max_batch, PLENTY >> 16
        client["block_tokens"], client["total_blocks"] = 16, PLENTY
        client["link_latency_ps"] = server.link_ps
        client["linear"], client["sequences"] = offset, offset + len(LINEAR_KNOTS)
        tables.append(server.step_ps + server.token_ps * np.asarray(LINEAR_KNOTS, dtype=np.int64))
        tables.append(server.sequence_ps * np.arange(SEQUENCE_KNOTS, dtype=np.int64))
        offset += len(LINEAR_KNOTS) + SEQUENCE_KNOTS
    memory = allocate(
        clients,
        np.concatenate(tables),
        arrivals,
        prompts,
        outputs,
        router=ROUTERS[router],
        handover_router=ROUTERS["round_robin"],
        max_run=NO_LIMIT,
    )
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
    service = float((rows.e2e_s - rows.queue_s).iloc[0])
    assert np.allclose(rows.e2e_s - rows.queue_s, service)
    rho = 20_000 / result.span_s * service
    assert result.pools[0].busy == pytest.approx(rho, rel=1e-9)
    # M/D/1; 20,000 requests leave a standard deviation of about 3 %.
    assert rows.queue_s.mean() == pytest.approx(rho * service / (2 * (1 - rho)), rel=0.15)
