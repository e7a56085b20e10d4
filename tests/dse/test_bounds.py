"""Bounds: no simulation beats them, and where nothing is in the way they are reached."""

from __future__ import annotations

from functools import cache
from itertools import combinations, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dse.bounds.deployment_bounds as deployment_bounds
from dse.bounds import Lengths, bounds_of, lateness, pool_floor
from dse.bounds.amortised import Prices, best_prices
from dse.bounds.demand import Machine, backlog_s, fullest_s
from dse.bounds.draws import draws, speculative_iterations
from dse.bounds.load import load_of
from dse.bounds.pool_floor import PoolFloor
from dse.bounds.stage_floor import StageFloor
from dse.bounds.step_floor import Client, StepFloor, client_of, lower_hull, step_floor
from dse.objectives import value_of
from simulator import Deployment, Scenario, Workload, simulate
from simulator.kernel._compile import interpreted
from simulator.kernel.cost import linear_ps, sequences_ps
from simulator.kernel.draws import draw
from simulator.lowering import LLM_ALONE_PLAN
from simulator.simulation import Result
from simulator.spec.deployment import Pool
from simulator.spec.slo import SLO
from simulator.workload import PS_PER_S, Requests, build_requests
from tests.dse.bound_checks import LATENCIES, compared
from tests.dse.random_pairs import Pair, random_pairs

EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.yaml"))
PAIRS = 300
CHAT: dict[str, Any] = {
    "requests": 1500,
    "seed": 3,
    "arrivals": {"process": "statistics", "statistics": "azure-2023-conversation", "rate_rps": 12},
    "lengths": {"statistics": "azure-2023-conversation"},
}
LLAMA: dict[str, Any] = {"model": "llama-3.1-70b", "accelerator": "h100-sxm", "tp": 4}


@cache
def pairs(first_seed: int = 0, count: int = PAIRS) -> list[Pair]:
    return list(islice(random_pairs(first_seed, per_workload=4), count))


@cache
def chat() -> Requests:
    return build_requests(Workload.parse(CHAT))


def wrong(found: list[Pair]) -> list[str]:
    return [f"{each}" for pair in found for each in compared(pair) if each.is_wrong]


def deployment(*pools: dict[str, Any], **rest: Any) -> Deployment:
    return Deployment.parse({"pools": [LLAMA | pool for pool in pools], **rest})


# -- nothing beats a bound


def test_no_simulation_beats_its_bounds() -> None:
    assert wrong(pairs()) == []


def test_the_pairs_cover_what_they_are_for() -> None:
    """Every feature occurs, and happens: evictions, hits, fetches, hand-overs, lending, rejections, drafts, noise."""
    found = pairs()
    clients = [pair.result.lowered.memory.clients for pair in found]
    requests = [pair.result.lowered.memory.requests for pair in found]
    assert sum(each["preemptions"].any() for each in clients) > 5
    assert sum(each["hit_tokens"].any() for each in clients) > 20
    assert sum(each["fetched_tokens"].any() for each in clients) > 5
    assert sum((each["prefill_client"] != each["client"]).any() for each in requests) > 20
    assert sum(0 < pair.result.rejected < pair.result.requests_total for pair in found) > 5
    assert sum(pair.requests.sessions is not None for pair in found) > 20
    pools = [pool for pair in found for pool in pair.deployment.pools]
    for what in (
        lambda pool: pool.speculation,
        lambda pool: pool.step_noise_cv,
        lambda pool: pool.adapters,
        lambda pool: pool.kv_memory.swap_gb,
        lambda pool: pool.batching.schedule_ahead,
        lambda pool: pool.batching.policy == "static",
        lambda pool: pool.pp > 1,
        lambda pool: pool.lookup,
    ):
        assert sum(bool(what(pool)) for pool in pools) > 5
    deployments = [pair.deployment for pair in found]
    for feature in ("lending", "services", "tiers"):
        assert sum(bool(getattr(each, feature)) for each in deployments) > 5
    assert len({stages for pair in found for stages in pair.plan.ways}) > 10


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_example_beats_its_bounds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    scenario = Scenario.from_yaml(path)
    requests, plan = build_requests(scenario.workload).first(150), scenario.workload.plan
    result = simulate(scenario.deployment, requests, plan=plan)
    assert wrong([Pair(scenario.deployment, requests, plan, result)]) == []


@pytest.mark.parametrize("router", ["round_robin", "random", "join_shortest_queue"])
@pytest.mark.parametrize("policy", ["static", "continuous", "chunked"])
@pytest.mark.parametrize("clients", [1, 2, 5])
def test_no_load_beats_its_bounds(clients: int, policy: str, router: str) -> None:
    """Long queues, which the small workloads of the random pairs do not have."""
    given = deployment({"clients": clients, "batching": {"policy": policy, "max_batch_requests": 32}}, router=router)
    assert wrong([Pair(given, chat(), LLM_ALONE_PLAN, simulate(given, chat()))]) == []


# -- the check can fail


def _longer(name: str, owner: type, factor: float) -> Any:
    """Return a property that is a bit more than it should be."""
    original = getattr(owner, name).func

    def mutated(self: Any) -> Any:
        return original(self) * factor

    return property(mutated)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (PoolFloor, "prefill_s"),
        (PoolFloor, "decode_s"),
        (PoolFloor, "gap_s"),
        (StepFloor, "least"),
        (StageFloor, "machines"),
        (StageFloor, "prompt_machines"),
        (StageFloor, "dynamic_j"),
        (deployment_bounds.Bounds, "span_s"),
    ],
)
def test_a_bound_that_is_too_high_is_noticed(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    factor = 1.02
    if name in ("machines", "prompt_machines"):
        # Prompts that come at once and keep a client busy: all that is taken off is the overhead of a last, short step.
        original = getattr(owner, name).func
        monkeypatch.setattr(owner, name, property(lambda self: [work * 1.2 for work in original(self)]))
        given = deployment({"batching": {"policy": "continuous", "order": "shortest_first"}})
        burst = Requests(np.zeros(300), np.full(300, 1000), np.ones(300))
        assert wrong([Pair(given, burst, LLM_ALONE_PLAN, simulate(given, burst))])
        return
    if name == "dynamic_j":
        factor = 3.0
    fresh = list(islice(random_pairs(900), 40))
    _forget_floors()
    monkeypatch.setattr(owner, name, _longer(name, owner, factor))
    try:
        assert wrong(fresh)
    finally:
        _forget_floors()


def _forget_floors() -> None:
    for kept in (pool_floor.__globals__["_pool_floor"], step_floor, client_of.__globals__["_client_of"]):
        kept.cache_clear()


# -- reached where nothing is in the way


@pytest.mark.parametrize("policy", ["static", "continuous", "chunked"])
@pytest.mark.parametrize("apart", [False, True], ids=["together", "apart"])
def test_a_lone_request_reaches_its_bounds(policy: str, apart: bool) -> None:
    requests = Requests([0], [1400], [120])
    batching = {"batching": {"policy": policy}}
    pools = [batching]
    if apart:
        pools = [batching | {"name": role, "role": role} for role in ("prefill", "decode")]
    given = deployment(*pools)
    bounds, result = bounds_of(given, requests), simulate(given, requests)
    for name in ("ttft", "tpot", "itl", "e2e"):
        share = bounds.percentile_s(name, 50) / result.percentile_s(name, 50)  # type: ignore[arg-type]
        assert share == pytest.approx(1, abs=2e-3 if name == "itl" else 1e-6)
    assert bounds.span_s == pytest.approx(result.span_s, rel=1e-6)
    assert bounds.best("usd_per_million_output_tokens") == pytest.approx(result.usd_per_million_output_tokens, rel=1e-6)


def test_a_lone_request_in_chunks_comes_near_its_bound() -> None:
    """Jensen's inequality splits a prompt into equal chunks, the scheduler fills all but the last."""
    requests = Requests([0], [3000], [2])
    given = deployment({"batching": {"policy": "chunked", "token_budget_tokens": 2048}})
    least, reached = bounds_of(given, requests).ttft_s[0], simulate(given, requests).ttft_s[0]
    assert 0.95 * reached < least <= reached


def test_known_draws_tell_the_steps_of_speculation() -> None:
    given = deployment({"speculation": {"draft_tokens": 3, "acceptance": 0.6}})
    requests = Requests([0, 10**14, 2 * 10**14], [300, 500, 900], [100, 200, 300])
    bounds, result = bounds_of(given, requests), simulate(given, requests)
    assert not result.lowered.memory.clients["preemptions"].any()
    steps = bounds.stages["llm"].pools[0].decode_iterations
    prompts = 3
    assert steps.sum() + prompts == result.lowered.memory.clients["steps"][0]
    # All that is not known is the context of each step.
    assert (bounds.tpot_s > 0.97 * result.tpot_s).all()


@pytest.mark.parametrize(("order", "share"), [("fcfs", 0.5), ("shortest_first", 0.2)])
def test_an_overloaded_client_cannot_keep_up(order: str, share: float) -> None:
    """Floors of single requests say nothing about a queue; that work is conserved does."""
    given = deployment({"batching": {"max_batch_requests": 64, "order": order}})
    bounds, result = bounds_of(given, chat()), simulate(given, chat())
    alone = np.percentile(bounds.stages["llm"].pools[0].prefill_s, 90)
    for metric in ("ttft", "e2e") if order == "fcfs" else ("e2e",):
        assert bounds.percentile_s(metric, 99) > 20 * alone  # type: ignore[arg-type]
        assert bounds.percentile_s(metric, 99) > share * result.percentile_s(metric, 99)  # type: ignore[arg-type]
    assert bounds.span_s > 0.8 * result.span_s


def test_without_waiting_bounds_hold_for_any_number_of_clients() -> None:
    one, many = ({"clients": count, "batching": {"max_batch_requests": 8}} for count in (1, 60))
    bounds, result = bounds_of(deployment(one), chat(), waiting=False), simulate(deployment(many), chat())
    for name in LATENCIES:
        assert bounds.best(name) <= value_of(name, result, ()) * (1 + 1e-9)
    assert bounds.span_s <= result.span_s
    assert bounds_of(deployment(one), chat()).span_s > 2 * bounds.span_s


def test_promises_that_only_break_together() -> None:
    """Decode clients that cannot keep up have no TPOT that they cannot reach, for first tokens may come late, too."""
    slos = (SLO(metric="ttft", percentile=99, limit_s=2), SLO(metric="tpot", percentile=90, limit_s=0.05))
    answering = {"role": "decode", "name": "out", "kv_memory": {"blocks": 700}}
    slow = deployment({"role": "prefill", "name": "in", "clients": 3}, answering)
    bounds = bounds_of(slow, chat())
    assert all(bounds.violation(slo) < 0 for slo in slos)
    assert bounds.breaks_promises(slos)
    result = simulate(slow, chat())
    assert any(result.violation(slo) > 0 for slo in slos)
    quick = deployment({"role": "prefill", "name": "in", "clients": 3}, answering | {"clients": 8})
    assert not bounds_of(quick, chat()).breaks_promises(slos)


def test_what_no_client_holds_is_rejected_in_both() -> None:
    requests = Requests([0, 0, 0], [100, 900, 2000], [10, 200, 10])
    given = deployment({"kv_memory": {"blocks": 130}, "max_prompt_tokens": 1000})
    bounds, result = bounds_of(given, requests), simulate(given, requests)
    assert result.rejected == 1
    assert np.array_equal(np.isinf(bounds.e2e_s), np.isinf(result.e2e_s))
    assert bounds.requests_served == 2


# -- parts, against what they stand for


def client(**pool: Any) -> Client:
    return client_of(Pool.model_validate(LLAMA | pool, strict=False))


def step_ps(of: Client, prompt_tokens: int, decodes: int, prompts: int) -> int:
    """Return the duration of a step by the kernel's own functions, attention left out."""
    table = np.concatenate([of.linear, of.sequences]).astype(np.int64)
    found = interpreted(linear_ps)(table, 0, prompt_tokens + decodes * (1 + of.draft))
    found += interpreted(sequences_ps)(table, len(of.linear), decodes + prompts)
    return int(found) + (of.decode_ps + of.decode_sequence_ps * decodes if decodes else 0)


@pytest.mark.parametrize("policy", ["continuous", "chunked"])
@pytest.mark.parametrize("blocks", [2000, 40])
def test_no_step_costs_less_than_its_prices(policy: str, blocks: int) -> None:
    of = client(
        batching={"policy": policy, "max_batch_requests": 48, "token_budget_tokens": 512},
        kv_memory={"blocks": blocks},
        speculation={"draft_tokens": 2, "acceptance": 0.5},
    )
    random = np.random.default_rng(1)
    for prompts, decodes, held in ((1e6, 0, 0), (0, 1e4, 4e5), (1e6, 1e4, 4e5), (1e5, 1e4, 10)):
        prices: Prices = best_prices(step_floor(of, 2048), prompts, decodes, held, 48)
        assert min(prices.prompt_token, prices.decode, prices.block) >= 0
        for _ in range(300):
            number = int(random.integers(0, 49))
            tokens = int(random.integers(0 if number else 1, 512 - 3 * number if number < 150 else 1))
            if policy == "continuous" and number:
                tokens = 0
            charged = prices.prompt_token * tokens + prices.decode * number + (prices.block * blocks if number else 0)
            assert charged <= step_ps(of, tokens, number, min(tokens, 1)) + 1e-3


def test_no_split_of_a_prompt_is_quicker_than_its_floor() -> None:
    """Against every split of a prompt into chunks, by dynamic programming."""
    of = client(batching={"policy": "chunked", "max_batch_requests": 8, "token_budget_tokens": 60})
    steps = StepFloor(of, 60)
    each = np.array([step_ps(of, tokens, 0, 1) for tokens in range(1, 61)], dtype=float)
    least = np.zeros(301)
    for tokens in range(1, 301):
        most = min(tokens, 60)
        least[tokens] = (least[tokens - most : tokens][::-1] + each[:most]).min()
    floors = steps.prefill(np.arange(1.0, 301), 60)
    assert (floors <= least[1:] + 1e-6).all()
    assert (floors > 0.9 * least[1:]).all()


def test_a_hull_is_below_its_points_and_convex() -> None:
    random = np.random.default_rng(2)
    x = np.cumsum(random.uniform(0.1, 2, 60))
    y = random.uniform(0, 5, 60) + 0.1 * x
    at, value = lower_hull(x, y)
    assert (np.interp(x, at, value) <= y + 1e-12).all()
    assert (np.diff(np.diff(value) / np.diff(at)) > 0).all()
    assert set(at) <= set(x)


def test_draws_are_the_kernels() -> None:
    world = SimpleNamespace(seed=2**32 - 5)
    for salt in (0, 7, 2**20 + 3):
        kernels = [interpreted(draw)(world, SimpleNamespace(number=number), salt) for number in range(200)]
        assert draws(np.arange(200), world.seed, salt).tolist() == kernels


def test_speculation_without_acceptance_takes_a_step_a_token() -> None:
    lengths = Lengths(
        *(np.array([9, 9]), np.array([1, 40]), np.zeros(2, int), np.zeros(2, int)), 60, None, np.arange(2)
    )
    assert speculative_iterations(lengths, (2**32, 2**32), 1).tolist() == [0, 39]
    assert speculative_iterations(lengths, (0, 0), 1).tolist() == [0, 13]


# -- queues


def least_late(arrival: npt.NDArray[Any], work: npt.NDArray[Any], limit: float) -> int:
    """Return the fewest jobs that miss ``arrival + limit`` on a preemptive machine; every choice is tried."""
    count = len(work)
    for late in range(count + 1):
        for out in combinations(range(count), late):
            kept = [i for i in range(count) if i not in out]
            # Deadlines come in the order of arrivals, so first come, first served is earliest deadline first.
            if not kept or (backlog_s(arrival[kept], work[kept]) <= limit + 1e-12).all():
                return late
    return count


@pytest.mark.parametrize("seed", range(12))
def test_no_schedule_beats_the_demand_bound(seed: int) -> None:
    random = np.random.default_rng(seed)
    arrival = np.sort(random.uniform(0, 4, 8))
    work = random.exponential(0.8, 8)
    machine = Machine(arrival, work, np.arange(8), 0.0)
    for limit in random.uniform(0.1, 4, 6):
        late = least_late(arrival, work, float(limit))
        # So many are late in the best schedule: no fewer than the bounds say.
        assert machine.least_latency_s(late) <= limit + 1e-9
        for values in machine.latencies_s(work, 0.0, 0):
            assert (values > limit + 1e-9).sum() <= late


def test_backlog_is_that_of_a_queue() -> None:
    """Lindley's recursion step by step."""
    random = np.random.default_rng(5)
    arrival, work = np.sort(random.uniform(0, 20, 50)), random.exponential(0.5, 50)
    free, waited = 0.0, []
    for at, each in zip(arrival, work, strict=True):
        free = max(free, at) + each
        waited.append(free - at)
    assert np.allclose(backlog_s(arrival, work), waited, rtol=1e-9)


def test_open_places_are_not_charged() -> None:
    """What may be unfinished is not counted, though all of the work comes at once."""
    machine = Machine(np.zeros(8), np.full(8, 2.0), np.arange(8), 0.5, open_s=np.full(8, 1.0), most_open_s=4.0)
    assert machine.least_latency_s(0) == pytest.approx(16 - 4 + 0.5)
    assert machine.least_latency_s(3) == pytest.approx(10 - 4 + 0.5)


def test_the_fullest_load_is_a_knapsacks() -> None:
    """No less than the best choice of whole things, found by trying all; more by a part of one at most."""
    random = np.random.default_rng(3)
    values, sizes = random.uniform(0, 5, 9), random.uniform(1, 4, 9)
    for room in (0.5, 5.0, 12.0, 100.0):
        best = max(
            values[list(chosen)].sum()
            for count in range(10)
            for chosen in combinations(range(9), count)
            if sizes[list(chosen)].sum() <= room
        )
        assert best - 1e-12 <= fullest_s(values, sizes, room) <= best + 1.01 * values.max()


# -- representatives


def test_lower_corners_bound_whom_they_stand_for() -> None:
    """Cells of requests, each stood for by its shortest prompt and its shortest output."""
    requests = load_of(chat(), LLM_ALONE_PLAN).lengths["llm"]
    cell = (requests.prompt_tokens // 400) * 1000 + requests.output_tokens // 60
    names, place = np.unique(cell, return_inverse=True)
    prompt, output = np.full(len(names), 10**9), np.full(len(names), 10**9)
    np.minimum.at(prompt, place, requests.prompt_tokens)
    np.minimum.at(output, place, requests.output_tokens)
    corners = Lengths.of(prompt, output, weights=np.bincount(place), longest_tokens=requests.longest_tokens)
    assert len(corners) < len(requests) / 4
    for pool in (
        {},
        {"batching": {"policy": "continuous", "max_batch_requests": 16}},
        {"kv_memory": {"blocks": 900}},
        {"speculation": {"draft_tokens": 2, "acceptance": 0.5}},
    ):
        of = Pool.model_validate(LLAMA | pool, strict=False)
        whole, few = pool_floor(of, requests), pool_floor(of, corners)
        for name in ("prefill_s", "decode_s", "gap_s"):
            assert (getattr(few, name)[place] <= getattr(whole, name) * (1 + 1e-12)).all(), name
        assert (few.holds[place] | ~whole.holds).all()
        for name in ("prefill_work_s", "decode_work_s", "work_s"):
            assert corners.total(getattr(few, name)) <= requests.total(getattr(whole, name)) * (1 + 1e-12), name


def test_bounds_have_every_latency_of_a_result() -> None:
    given = deployment({"clients": 4})
    bounds, result = bounds_of(given, chat()), simulate(given, chat())
    assert isinstance(result, Result)
    for name in LATENCIES:
        assert bounds.best(name) > 0
    assert bounds.earliest_s.max() == pytest.approx(chat().arrival_ps.max() / PS_PER_S)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 9)), min_size=1, max_size=8),
    st.integers(1, 20),
)
def test_least_late_is_never_more_than_the_fewest(jobs: list[tuple[int, int]], limit: int) -> None:
    arrivals = np.cumsum([gap for gap, _ in jobs]).astype(float)
    works = np.array([work for _, work in jobs], dtype=float)

    def in_time(chosen: tuple[int, ...]) -> bool:
        """Whether these alone are all in time, done in order of arrival."""
        now = 0.0
        for i in chosen:
            now = max(now, arrivals[i]) + works[i]
            if now > arrivals[i] + limit:
                return False
        return True

    count = len(jobs)
    fewest = min(
        count - size for size in range(count + 1) for chosen in combinations(range(count), size) if in_time(chosen)
    )
    assert lateness.least_late(arrivals, works, float(limit), fewest) <= fewest
    # Where all arrive at once the rule is exact.
    if fewest and not np.ptp(arrivals):
        assert lateness.least_late(arrivals, works, float(limit), fewest - 1) == fewest


def test_pipelines_over_different_accelerators() -> None:
    pool = {
        "model": "llama-3.1-8b",
        "accelerator": "h100-sxm",
        "pp": 2,
        "stage_accelerators": ["h100-sxm", "l4"],
        "layers_per_stage": [26, 6],
    }
    deployment, workload = Deployment.parse({"pools": [pool]}), Workload.parse({**CHAT, "requests": 120})
    requests = build_requests(workload)
    result = simulate(deployment, requests, plan=workload.plan)
    bounds = bounds_of(deployment, requests, workload.plan)
    for name in (*LATENCIES, "energy_j_per_output_token", "usd_per_million_output_tokens", "power_mean_w"):
        value = value_of(name, result, ())
        assert np.isnan(value) or bounds.best(name) <= value * (1 + 1e-9), name
