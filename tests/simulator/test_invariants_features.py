"""What must hold of every simulation with sessions, services, caches, tiers, links, windows, swapping, speculation, ...

As in `test_invariants` only claims that can be proven are made, each with its reason where it is not a definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from simulator.kernel import Memory, run_compiled
from simulator.kernel._compile import interpreted
from simulator.kernel.layout import CACHE_CAPACITY, CACHE_SIZE, DONE, REJECTED, ROLE_LINK, UNSEEN, VISIT_FIELDS
from simulator.lowering import NO_LIMIT
from tests.oracle.engine import OracleClientSpec, OracleProfile, OracleRequest, OracleStage
from tests.oracle.scenarios import (
    Scenario,
    cache_scenarios,
    everything,
    llm_scenarios,
    pipeline_scenarios,
    session_scenarios,
)
from tests.simulator.kernel_memory import assert_empty_at_the_end, memory_of
from tests.simulator.plain_scenarios import client_specs, plain, plain_scenarios

RELAXED = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
QUICK = settings(RELAXED, max_examples=60)
THEMES: list[Callable[[], st.SearchStrategy[Scenario]]] = [
    llm_scenarios,
    pipeline_scenarios,
    session_scenarios,
    cache_scenarios,
    everything,
]
of_every_theme = pytest.mark.parametrize("theme", THEMES, ids=lambda theme: theme.__name__)
TIMES = ("scheduled_ps", "first_token_ps", "finish_ps", "done_ps")


def run_scenario(scenario: Scenario, max_run: int = NO_LIMIT) -> Memory:
    memory = memory_of(scenario, max_run)
    run_compiled(memory)
    return memory


def way_of(scenario: Scenario, request: int) -> tuple[int, ...]:
    return scenario.ways[scenario.requests[request].way]


def is_llm(scenario: Scenario, stage: int) -> bool:
    return scenario.stages[stage].kind == "llm"


def passes_llm(scenario: Scenario) -> npt.NDArray[np.bool_]:
    """Which requests' ways have an LLM stage, shape (requests,)."""
    ways = [any(is_llm(scenario, stage) for stage in way) for way in scenario.ways]
    return np.array([ways[request.way] for request in scenario.requests])


def visits_of(memory: Memory, scenario: Scenario, request: int) -> npt.NDArray[np.int64]:
    """Return when a request reached each stage of its way, was first served, and left, shape (stages, 3)."""
    first, stages = int(memory.visits[request]), len(way_of(scenario, request))
    return memory.scratch[first : first + stages * VISIT_FIELDS].reshape(stages, VISIT_FIELDS)


# ----------------------------------------------------------------------------------------------------------------------
# Who is served, and when


@of_every_theme
def test_every_request_ends_or_is_reported(theme: Callable[[], st.SearchStrategy[Scenario]]) -> None:
    """Nobody is left behind: done, rejected at arrival for want of a client that holds it, or never released."""

    @QUICK
    @given(theme())
    def check(scenario: Scenario) -> None:
        memory = run_scenario(scenario)
        rows, llm = memory.requests, passes_llm(scenario)
        done = rows["state"] == DONE
        assert np.isin(rows["state"], (DONE, REJECTED, UNSEEN)).all()
        assert np.array_equal(done, rows["done_ps"] >= 0)
        assert np.array_equal(done & llm, rows["finish_ps"] >= 0)
        for field in TIMES:
            assert (rows[field][~done] == -1).all(), field
        for field in TIMES[:3]:
            assert (rows[field][~llm] == -1).all(), field
        # What needs no LLM is never rejected; what needs no other always arrives.
        assert llm[rows["state"] == REJECTED].all()
        assert all(scenario.requests[r].needs > 0 for r in np.flatnonzero(rows["state"] == UNSEEN))
        assert_empty_at_the_end(memory)

    check()


@of_every_theme
def test_followers_arrive_when_enough_are_done(theme: Callable[[], st.SearchStrategy[Scenario]]) -> None:
    """The arrival of a request that needs n others is the n-th end of those that lead to it, and its wait.

    The earliest possible moment, since every end lowers ``needs`` by one, and only ends do.
    """

    @QUICK
    @given(theme())
    def check(scenario: Scenario) -> None:
        memory = run_scenario(scenario)
        ends: list[list[int]] = [[] for _ in scenario.requests]
        for request, done_ps in zip(scenario.requests, memory.requests["done_ps"].tolist(), strict=True):
            if done_ps >= 0:
                for follower in range(request.first_follower, request.first_follower + request.followers):
                    ends[follower].append(done_ps)
        for r, request in enumerate(scenario.requests):
            row = memory.requests[r]
            if request.needs == 0:
                assert row["arrival_ps"] == request.arrival_ps
            elif len(ends[r]) < request.needs:
                assert row["state"] == UNSEEN
            else:
                assert row["state"] != UNSEEN
                if row["state"] == DONE:
                    released_ps = sorted(ends[r])[request.needs - 1]
                    assert row["arrival_ps"] == released_ps + max(1, request.wait_ps)

    check()


@of_every_theme
def test_each_stage_comes_after_the_one_before(theme: Callable[[], st.SearchStrategy[Scenario]]) -> None:
    """Arrival ≤ reached ≤ started < left, then a hop of at least 1 ps; at the LLM the first token lies between.

    A step and a batch last at least 1 ps, as all tables begin above 0. What the visits say must agree with what the
    request's record and its service time say.
    """

    @QUICK
    @given(theme())
    def check(scenario: Scenario) -> None:
        memory = run_scenario(scenario)
        rows = memory.requests
        latencies = [
            {spec.link_latency_ps for spec in scenario.clients if spec.stage == stage}
            for stage in range(len(scenario.stages))
        ]
        for r in range(len(rows)):
            row, way = rows[r], way_of(scenario, r)
            if row["state"] == DONE and row["finish_ps"] >= 0:
                assert row["arrival_ps"] <= row["scheduled_ps"] < row["first_token_ps"] <= row["finish_ps"]
                assert row["finish_ps"] <= row["done_ps"]
                assert (row["first_token_ps"] == row["finish_ps"]) <= (
                    row["output_tokens"] == 1 or scenario.clients[row["client"]].draft > 0
                )
            if len(memory.visits) == 0:
                continue
            visits = visits_of(memory, scenario, r)
            if row["state"] != DONE:
                assert (visits == -1).all()
                continue
            reached, started, left = visits.T
            assert reached[0] == row["arrival_ps"]
            assert left[-1] == row["done_ps"]
            assert (reached <= started).all()
            assert (started < left).all()
            for place, hop_ps in enumerate((reached[1:] - left[:-1]).tolist()):
                assert hop_ps >= 1
                assert hop_ps in latencies[way[place]]
            at_llm = np.array([is_llm(scenario, stage) for stage in way])
            assert (left - reached)[~at_llm].sum() == row["service_ps"]
            if at_llm.any():
                assert started[at_llm] == row["scheduled_ps"]
                assert left[at_llm] == row["finish_ps"]

    check()


@RELAXED
@given(everything(), st.integers(1, 10**15))
def test_a_world_that_begins_later_does_the_same(scenario: Scenario, delay_ps: int) -> None:
    """Time has no origin, whatever there is: deadlines and what follows others shift with the arrivals."""
    late_requests = [
        replace(request, arrival_ps=request.arrival_ps + delay_ps, deadline_ps=request.deadline_ps + delay_ps)
        if request.needs == 0
        else request
        for request in scenario.requests
    ]
    memory, late = run_scenario(scenario), run_scenario(replace(scenario, requests=tuple(late_requests)))
    done = memory.requests["state"] == DONE
    assert np.array_equal(late.requests["state"], memory.requests["state"])
    for field in ("arrival_ps", *TIMES):
        happened = done & (memory.requests[field] >= 0)
        assert np.array_equal(late.requests[field][happened], memory.requests[field][happened] + delay_ps), field
    for field in ("busy_ps", "hit_tokens", "fetched_tokens", "prefill_tokens", "preemptions"):
        assert np.array_equal(late.clients[field], memory.clients[field]), field
    assert np.array_equal(late.itl_histogram, memory.itl_histogram)
    for field in ("hit_chunks", "stored_chunks"):
        assert np.array_equal(late.caches[field], memory.caches[field]), field


@RELAXED
@given(everything(), st.data())
def test_the_future_does_not_change_the_past(scenario: Scenario, data: st.DataObject) -> None:
    """Cutting the last sessions off changes nothing that happened before the first of them arrives."""
    requests = scenario.requests
    leads = [(r, q.first_follower, q.first_follower + q.followers) for r, q in enumerate(requests) if q.followers > 0]
    alone = [r for r, request in enumerate(requests) if request.needs == 0]
    cuts = [
        keep
        for keep in range(1, max(alone, default=0) + 1)
        if all(last <= keep if r < keep else first >= keep for r, first, last in leads)
    ]
    assume(cuts)
    keep = data.draw(st.sampled_from(cuts))
    kept, arrivals = requests[:keep], [requests[r].arrival_ps for r in alone if r >= keep]
    whole, part = run_scenario(scenario), run_scenario(replace(scenario, requests=kept))
    for field in TIMES:
        before, after = part.requests[field], whole.requests[field][:keep]
        past = ((before >= 0) & (before < arrivals[0])) | ((after >= 0) & (after < arrivals[0]))
        assert np.array_equal(before[past], after[past]), field


# ----------------------------------------------------------------------------------------------------------------------
# Tokens


@of_every_theme
def test_tokens_are_conserved(theme: Callable[[], st.SearchStrategy[Scenario]]) -> None:
    """Every prompt token is computed or spared, every later one emitted once; only recomputation adds to that.

    A preempted request that was not swapped computes its prompt and what it generated again, and thereby emits one
    token. How many were swapped is known from the oracle, which counts both; times agree with it elsewhere.
    """

    @QUICK
    @given(theme())
    def check(scenario: Scenario) -> None:
        memory = run_scenario(scenario)
        rows, clients = memory.requests, memory.clients
        served = rows["finish_ps"] >= 0
        prompt, output = rows["prompt_tokens"].astype(np.int64), rows["output_tokens"].astype(np.int64)
        emitted_later = int((output - 1)[served].sum())
        evicted = rows["preemptions"].astype(np.int64)
        assert evicted.sum() == clients["preemptions"].sum()
        recomputes = 0
        if evicted.any():
            happened = scenario.simulate().happened
            recomputes = happened["recompute"]
            assert happened["swap"] + recomputes == evicted.sum()
            event("swap" if happened["swap"] else "recompute")

        computed = int(clients["prefill_tokens"].sum() + clients["hit_tokens"].sum())
        recomputed = computed - int(prompt[served].sum())
        assert 0 <= recomputed <= (evicted * (prompt + output)).sum()
        # Where nothing but recomputation makes a difference there is none without it.
        assert recomputed == 0 or recomputes > 0
        assert 0 <= emitted_later - int(clients["decode_tokens"].sum()) <= recomputes
        assert memory.itl_histogram.sum() == emitted_later

        drafting = np.array([spec.draft for spec in scenario.clients])
        most = clients["steps"] * clients["max_batch"] * (1 + clients["draft"])
        assert (clients["decode_tokens"] <= most).all()
        if recomputes == 0 and not drafting.any():
            pairs = int((prompt * (prompt + 1) // 2)[served].sum())
            assert clients["prefill_pairs"].sum() <= pairs
            if not clients["hit_tokens"].any():
                assert clients["prefill_pairs"].sum() == pairs
            contexts = int((prompt * (output - 1) + output * (output - 1) // 2)[served].sum())
            assert clients["decode_context_tokens"].sum() == contexts

    check()


@RELAXED
@given(cache_scenarios() | everything())
def test_hits_are_no_more_than_there_is_to_hit(scenario: Scenario) -> None:
    """Each admission spares leading whole chunks but for the last token; tiers only give what was fetched from them."""
    memory = run_scenario(scenario)
    rows, clients, chunk = memory.requests, memory.clients, scenario.chunk_tokens
    most = np.minimum(rows["prompt_chunks"], (rows["prompt_tokens"] - 1) // chunk).astype(np.int64)
    times = np.where(rows["finish_ps"] >= 0, 1 + rows["preemptions"], 0)
    hits, fetched = int(clients["hit_tokens"].sum()), int(clients["fetched_tokens"].sum())
    assert hits % chunk == fetched % chunk == 0
    assert 0 <= fetched <= hits <= chunk * int((times * most).sum())
    tiers = memory.caches[: len(scenario.tiers)]
    # A client with expected values gives what no cache and no tier holds.
    real = np.array([spec.expected is None for spec in scenario.clients])
    assert clients["fetched_tokens"][: len(real)][real].sum() <= chunk * int(tiers["hit_chunks"].sum())
    if not real.all():
        return
    # Where a chunk occurs first it is no hit. (One that is not only in prompts may come from an answer.)
    served = [(scenario.requests[r].chunk_ids, most[r]) for r in np.flatnonzero(rows["finish_ps"] >= 0)]
    different = {c for ids, limit in served for c in ids[:limit]} - {c for ids, limit in served for c in ids[limit:]}
    assert hits <= chunk * (int((times * most).sum()) - len(different))


@RELAXED
@given(cache_scenarios())
def test_a_prefix_cache_never_adds_to_the_tokens_computed(scenario: Scenario) -> None:
    """With memory that nobody misses: what the cache spares is the difference to a world without it, to the token.

    Proof: without preemption every prompt is admitted once. (Where memory is short it is false: other times mean other
    preemptions.)
    """
    roomy = [replace(spec, total_blocks=2000 + spec.total_blocks) for spec in scenario.clients]
    without = [replace(spec, cached=False, tiers=(), always_fetch=False, expected=None) for spec in roomy]
    cached = run_scenario(replace(scenario, clients=tuple(roomy)))
    plainly = run_scenario(replace(scenario, clients=tuple(without)))
    assert not cached.clients["preemptions"].any()
    assert np.array_equal(cached.requests["state"], plainly.requests["state"])
    computed, all_of_it = (int(memory.clients["prefill_tokens"].sum()) for memory in (cached, plainly))
    assert computed <= all_of_it
    assert computed + int(cached.clients["hit_tokens"].sum()) == all_of_it
    assert cached.clients["prefill_pairs"].sum() <= plainly.clients["prefill_pairs"].sum()
    assert cached.clients["decode_tokens"].sum() == plainly.clients["decode_tokens"].sum()


@RELAXED
@given(cache_scenarios())
def test_a_prefix_cache_makes_nobody_later_who_is_served_alone(scenario: Scenario) -> None:
    """One client, one request at a time, no tiers, no sessions, attention limited by arithmetic: no later than without.

    Proof: fewer tokens in no more steps of no larger cost, so no service is longer; the rest is Lindley's recursion.
    Each restriction counts: reading the covered tokens may take longer than computing them, a follower that comes
    earlier may delay others, batches have their anomalies, and the noise of a step goes by its number.
    """
    spec = next(spec for spec in scenario.clients)
    profile = replace(spec.profile, pair=spec.profile.pair // 1024 * 1024, read=0, window_ps=0, window_pair=0)
    policy = "chunked" if spec.policy == "static" else spec.policy
    client = replace(
        spec,
        role="both",
        policy=policy,
        max_batch=1,
        total_blocks=2000,
        profile=profile,
        tiers=(),
        cached=True,
        expected=None,
        factors=(),
    )
    requests = tuple(
        replace(request, needs=0, wait_ps=0, first_follower=0, followers=0) for request in scenario.requests
    )
    world = replace(scenario, clients=(client,), requests=requests, tiers=(), links=0)
    cached, plainly = run_scenario(world), run_scenario(replace(world, clients=(replace(client, cached=False),)))
    for field in TIMES:
        assert (cached.requests[field] <= plainly.requests[field]).all(), field


# ----------------------------------------------------------------------------------------------------------------------
# Limits, at any time

COUNTERS = (
    "busy_ps",
    "steps",
    "prefill_tokens",
    "decode_tokens",
    "hit_tokens",
    "fetched_tokens",
    "peak_blocks",
    "peak_running",
    "peak_step_tokens",
    "preemptions",
    "virtual_ps",
)


class Watched:
    """A record as an object, on which no number of places or tokens may ever be set beyond its limit."""

    def __init__(self, record: Any) -> None:
        for name in record.dtype.names:
            object.__setattr__(self, name, record[name].item())

    def __setattr__(self, name: str, value: int) -> None:
        if name == "running":
            fields = vars(self)
            assert value >= 0
            assert value <= fields["max_batch"] or fields["role"] == ROLE_LINK
        elif name in ("swap_free", "outstanding", "waiting", "cached_blocks", "context_tokens", "active_adapters"):
            assert value >= 0, (name, value)
        elif name in COUNTERS:
            assert value >= getattr(self, name), (name, value)
        object.__setattr__(self, name, value)


class WatchedWorld(Watched):
    """The world, in which limits that may be passed within an event must hold after each.

    Within one, a request may reference an entry before its own copy of these blocks is freed.
    """

    clients: list[Any]
    requests: list[Any]
    caches: list[int]
    scratch: list[int]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "events":
            for client in self.clients:
                # What nobody references counts as free.
                assert 0 <= client.cached_blocks <= client.free_blocks <= client.total_blocks
                assert client.active_adapters <= max(client.max_adapters, 0)
                assert client.decoding <= client.running
            for cache in self.caches:
                assert 0 <= self.scratch[cache + CACHE_SIZE] <= self.scratch[cache + CACHE_CAPACITY]
        object.__setattr__(self, name, value)


class Rows(list[Watched]):
    @property
    def shape(self) -> tuple[int]:
        return (len(self),)


@of_every_theme
def test_no_limit_is_ever_passed(theme: Callable[[], st.SearchStrategy[Scenario]]) -> None:
    """KV, places in the batch, swap space and caches: looked at whenever the uncompiled kernel writes them."""
    from simulator.kernel.loop import run

    uncompiled = interpreted(run)

    @settings(QUICK, max_examples=40)
    @given(theme(), st.sampled_from([NO_LIMIT, 1]))
    def check(scenario: Scenario, max_run: int) -> None:
        memory = memory_of(scenario, max_run)
        world, clients = WatchedWorld(memory.world[0]), Rows(map(Watched, memory.clients))
        requests, scratch = Rows(map(Watched, memory.requests)), memory.scratch.tolist()
        caches = memory.caches["start"].tolist()
        for name, value in (("clients", clients), ("requests", requests), ("caches", caches), ("scratch", scratch)):
            object.__setattr__(world, name, value)
        uncompiled(world, clients, requests, scratch)
        for client in clients:
            assert vars(client)["free_blocks"] == vars(client)["total_blocks"]
            assert vars(client)["peak_blocks"] <= vars(client)["total_blocks"]

    check()


@of_every_theme
def test_nobody_is_busier_than_the_clock(theme: Callable[[], st.SearchStrategy[Scenario]]) -> None:
    """A client serves one step or batch at a time, so it is busy no longer than from first arrival to last end."""

    @QUICK
    @given(theme())
    def check(scenario: Scenario) -> None:
        memory = run_scenario(scenario)
        clients, rows = memory.clients, memory.requests
        done = rows["state"] == DONE
        span = int(rows["done_ps"][done].max() - rows["arrival_ps"][done].min()) if done.any() else 0
        assert (clients["busy_ps"] <= span).all()
        assert (clients["peak_blocks"] <= clients["total_blocks"]).all()
        blocked = clients["blocked_kv_ps"] + clients["blocked_batch_ps"] + clients["blocked_budget_ps"]
        assert (blocked <= clients["busy_ps"]).all()
        # Everyone whose way passes a service is served there once.
        passed = [not is_llm(scenario, stage) for r in np.flatnonzero(done).tolist() for stage in way_of(scenario, r)]
        assert clients["service_requests"].sum() == sum(passed)
        assert (clients["service_requests"] <= clients["steps"] * clients["max_batch"]).all()

    check()


# ----------------------------------------------------------------------------------------------------------------------
# Links


@st.composite
def lone_transfers(draw: st.DrawFn) -> tuple[OracleClientSpec, OracleClientSpec, OracleRequest]:
    """A prefill and a decode client, each with room for the one request that there is."""
    prefill, decode = (replace(draw(client_specs(role)), total_blocks=100) for role in ("prefill", "decode"))
    prefill = replace(
        prefill,
        egress=draw(st.sampled_from([-1, 0])),
        link_layers=draw(st.sampled_from([0, 1, 3, 50])),
        link_ps_per_token=draw(st.integers(1, 200)),
    )
    return prefill, decode, OracleRequest(draw(st.integers(0, 99)), draw(st.integers(1, 30)), draw(st.integers(2, 40)))


@RELAXED
@given(lone_transfers(), st.data())
def test_more_bandwidth_never_makes_a_lone_transfer_later(
    case: tuple[OracleClientSpec, OracleClientSpec, OracleRequest], data: st.DataObject
) -> None:
    """Nobody else is there, so a request is exactly its prefill, its transfer and its decode."""
    prefill, decode, request = case
    faster = replace(prefill, link_ps_per_token=data.draw(st.integers(0, prefill.link_ps_per_token)))
    rows = []
    for client in (prefill, faster):
        row = run_scenario(replace(plain([client, decode], [request]), links=1)).requests[0]
        rows.append(row)
        work = request.prompt_tokens * client.link_ps_per_token
        if client.link_layers > 0:
            hidden_ps = int(row["first_token_ps"] - row["scheduled_ps"])
            work = max(work // client.link_layers, work - hidden_ps)
        alone = plain([replace(decode, role="both")], [request])
        if client.egress >= 0:
            handed_over_ps = max(1, work) + max(1, client.link_latency_ps)
        else:
            handed_over_ps = max(1, work + client.link_latency_ps)
        # The decode of one whose KV is there: that of a client that does both, from its first token on.
        both = run_scenario(alone).requests[0]
        decoding_ps = int(both["finish_ps"] - both["first_token_ps"])
        assert row["finish_ps"] == row["first_token_ps"] + handed_over_ps + decoding_ps
    slow, fast = rows
    assert fast["first_token_ps"] == slow["first_token_ps"]
    assert fast["finish_ps"] <= slow["finish_ps"]


@RELAXED
@given(lone_transfers(), st.integers(2, 6))
def test_a_shared_link_is_no_faster_than_a_transfer_alone(
    case: tuple[OracleClientSpec, OracleClientSpec, OracleRequest], count: int
) -> None:
    """Transfers that share a link take at least their own work, and all of them no less than the work of all.

    Proof: a link serves one picosecond a picosecond; as its virtual time is rounded down it may take longer, by less
    than the number of transfers at each of its events.
    """
    prefill, decode, request = case
    prefill = replace(prefill, egress=0, link_layers=0)
    senders = [prefill] * count
    latency_ps = max(1, prefill.link_latency_ps)
    work = request.prompt_tokens * prefill.link_ps_per_token
    scenario = replace(plain([*senders, decode], [request] * count, "round_robin"), links=1)
    rows = run_scenario(scenario).requests
    alone = run_scenario(replace(plain([prefill, decode], [request]), links=1)).requests[0]
    assert (rows["first_token_ps"] == alone["first_token_ps"]).all()
    assert (rows["finish_ps"] >= alone["finish_ps"]).all()
    last = int(rows["finish_ps"].max() - rows["first_token_ps"][0])
    assert last >= count * work + latency_ps
    # All of the same work, begun together, end together.
    if decode.max_batch >= count and decode.policy != "static":
        assert rows["scheduled_ps"].min() == rows["scheduled_ps"].max()


# ----------------------------------------------------------------------------------------------------------------------
# More never hurts, where that is true


@st.composite
def tandems(draw: st.DrawFn) -> Scenario:
    """Services before and after an LLM, each stage one client that serves one request at a time."""
    scenario = draw(plain_scenarios())
    before, after = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    clients = []
    for stage in range(before + 1 + after):
        spec = replace(draw(client_specs("both")), max_batch=1, total_blocks=1000, stage=stage)
        if stage != before:
            quantity = draw(st.sampled_from(["none", "prompt", "output"]))
            spec = replace(spec, role="service", policy="static", quantity=quantity)
        clients.append(spec)
    stages = tuple(OracleStage("llm" if stage == before else "service") for stage in range(len(clients)))
    return replace(scenario, clients=tuple(clients), stages=stages, ways=(tuple(range(len(clients))),))


def faster(spec: OracleClientSpec, times: int) -> OracleClientSpec:
    """Return the client with every cost divided, at least 1 ps a step."""
    profile = spec.profile
    return replace(
        spec,
        profile=OracleProfile(
            linear=tuple(max(1, value // times) for value in profile.linear),
            sequences=tuple(value // times for value in profile.sequences),
            attention_ps=profile.attention_ps // times,
            pair=profile.pair // times,
            read=profile.read // times,
        ),
    )


@RELAXED
@given(tandems(), st.data())
def test_a_faster_stage_makes_nobody_later_anywhere(scenario: Scenario, data: st.DataObject) -> None:
    """Single servers in a row, first come first served: a faster one, or a quicker hop, delays no request at any stage.

    Proof: requests stay in order of arrival, and ``start = max(reached, end of the one before)`` is monotone in every
    service and hop (tandem queues are max-plus linear). So neither makespan nor throughput suffers.
    """
    which = data.draw(st.integers(0, len(scenario.clients) - 1))
    better = faster(scenario.clients[which], data.draw(st.integers(1, 5)))
    better = replace(better, link_latency_ps=data.draw(st.integers(1, better.link_latency_ps)))
    clients = (*scenario.clients[:which], better, *scenario.clients[which + 1 :])
    slow, fast = run_scenario(scenario), run_scenario(replace(scenario, clients=clients))
    for field in TIMES:
        assert (fast.requests[field] <= slow.requests[field]).all(), field
    for r in range(len(scenario.requests)):
        assert (visits_of(fast, scenario, r) <= visits_of(slow, scenario, r)).all()


@RELAXED
@given(tandems(), st.integers(2, 3))
def test_a_multiple_of_a_services_clients_makes_nobody_later_there(scenario: Scenario, times: int) -> None:
    """Round robin over k times as many identical single servers: nothing leaves the first stage later.

    The same proof as for LLM clients; it does not carry on to the next stage, where requests may come in another order.
    """
    first = scenario.clients[0]
    stages = (replace(scenario.stages[0], router="round_robin"), *scenario.stages[1:])
    few = run_scenario(replace(scenario, stages=stages))
    many = run_scenario(replace(scenario, stages=stages, clients=(*[first] * (times - 1), *scenario.clients)))
    for r in range(len(scenario.requests)):
        assert visits_of(many, scenario, r)[0, 2] <= visits_of(few, scenario, r)[0, 2]


@RELAXED
@given(plain_scenarios())
def test_swap_space_that_is_not_used_changes_nothing(scenario: Scenario) -> None:
    """Memory that nobody misses leaves nothing to swap, and places for adapters that nobody has load nothing."""
    roomy = tuple(replace(spec, total_blocks=1000) for spec in scenario.clients)
    extras = tuple(
        replace(spec, swap_ps=5, swap_free=1000, max_adapters=2, adapter_ps=7, adapter_load_ps=9) for spec in roomy
    )
    without, with_extras = (run_scenario(replace(scenario, clients=clients)) for clients in (roomy, extras))
    for field in (*TIMES, "client", "preemptions"):
        assert np.array_equal(with_extras.requests[field], without.requests[field]), field
    assert np.array_equal(with_extras.clients["busy_ps"], without.clients["busy_ps"])


@RELAXED
@given(plain_scenarios(), st.integers(1, 4))
def test_a_draft_that_is_always_refused_emits_one_token_a_step(scenario: Scenario, draft: int) -> None:
    """One that is always accepted takes ``ceil((output - 1) / (1 + draft))`` decode steps, one request at a time."""
    spec = replace(scenario.clients[0], role="both", policy="continuous", max_batch=1, total_blocks=1000)
    # One step for each prompt, and those of the decodes.
    outputs = np.array([request.output_tokens for request in scenario.requests])
    for threshold, a_step in ((1 << 32, 1), (0, 1 + draft)):
        client = replace(spec, draft=draft, thresholds=(threshold,) * draft)
        memory = run_scenario(plain([client], scenario.requests))
        assert memory.clients["steps"][0] == len(outputs) + (-(-(outputs - 1) // a_step)).sum()
        assert memory.clients["decode_tokens"][0] == (outputs - 1).sum()
