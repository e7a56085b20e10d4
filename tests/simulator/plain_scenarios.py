"""Small random scenarios of one LLM stage whose clients have nothing but a role, a policy and their limits.

Claims that caches, swapping, windows, ... make false hold here. All that a client may have: `tests.oracle.scenarios`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from hypothesis import strategies as st

from simulator.lowering import POLICIES
from tests.oracle.engine import LINEAR_KNOTS, OracleClientSpec, OracleProfile, OracleRequest, OracleStage
from tests.oracle.scenarios import ROUTERS, Scenario, table

ROLES = (
    ("both",),
    ("both", "both", "both"),
    ("prefill", "decode"),
    ("decode", "prefill", "both", "decode", "prefill"),
    ("decode", "decode", "prefill"),
)


@st.composite
def profiles(draw: st.DrawFn) -> OracleProfile:
    return OracleProfile(
        linear=table(draw(st.integers(1, 60)), draw(st.integers(0, 12)), LINEAR_KNOTS),
        sequences=table(0, draw(st.integers(0, 7)), tuple(range(1025))),
        attention_ps=draw(st.integers(0, 3)),
        pair=draw(st.sampled_from([0, 700, 2500])),
        read=draw(st.sampled_from([0, 1024, 9000])),
    )


@st.composite
def client_specs(draw: st.DrawFn, role: str) -> OracleClientSpec:
    return OracleClientSpec(
        role=role,
        policy=draw(st.sampled_from(sorted(POLICIES))),
        max_batch=draw(st.integers(1, 7)),
        token_budget=draw(st.integers(1, 24)),
        block_tokens=draw(st.integers(1, 5)),
        total_blocks=draw(st.integers(4, 26)),
        watermark_blocks=draw(st.integers(0, 3)),
        profile=draw(profiles()),
        link_latency_ps=draw(st.sampled_from([1, 2, 40])),
        link_ps_per_token=draw(st.integers(0, 4)),
    )


@st.composite
def plain_scenarios(draw: st.DrawFn) -> Scenario:
    clients = [draw(client_specs(role)) for role in draw(st.sampled_from(ROLES))]
    # Few distinct times, so that events coincide.
    quantum = draw(st.sampled_from([1, 10, 100]))
    count = draw(st.integers(1, 30))
    gaps = draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    lengths = draw(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 40)), min_size=count, max_size=count))
    requests = [OracleRequest(t * quantum, p, o) for t, (p, o) in zip(accumulate(gaps), lengths, strict=True)]
    router, handover_router = draw(st.sampled_from(ROUTERS)), draw(st.sampled_from(ROUTERS))
    return plain(clients, requests, router, handover_router, seed=draw(st.integers(0, 2**32 - 1)))


def plain(
    clients: Sequence[OracleClientSpec],
    requests: Sequence[OracleRequest],
    router: str = "round_robin",
    handover_router: str = "round_robin",
    seed: int = 0,
) -> Scenario:
    """Return the scenario of one LLM stage with these clients."""
    stage = OracleStage("llm", router, handover_router)
    return Scenario(tuple(clients), tuple(requests), (stage,), ((0,),), seed=seed)


def with_clients(scenario: Scenario, clients: Sequence[OracleClientSpec]) -> Scenario:
    return replace(scenario, clients=tuple(clients))


def with_requests(scenario: Scenario, requests: Sequence[OracleRequest]) -> Scenario:
    return replace(scenario, requests=tuple(requests))
