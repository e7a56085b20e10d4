"""Forecasts and floors of many designs at once: nothing simulated beats a floor, and nothing possible is left out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dse.evaluation import build_load, evaluate, precheck
from dse.pareto import Floats, hypervolume, losses
from dse.screening.closer import CloserLook
from dse.screening.design_floors import StudyFloors
from dse.screening.directions import directions, most_added, reach
from dse.screening.screen import Screen
from dse.spec import StudySpec
from simulator import SpecError

OBJECTIVES = [
    "usd_per_hour",
    "usd_per_million_output_tokens",
    "accelerators",
    "e2e_p50_s",
    "e2e_p99_s",
    "e2e_mean_s",
    "ttft_p50_s",
    "ttft_p90_s",
    "ttft_mean_s",
    "tpot_p50_s",
    "tpot_mean_s",
    "itl_p99_s",
    "energy_j_per_output_token",
    "output_tokens_per_s",
    "requests_per_s",
    "goodput_rps",
    "slo_attainment",
    "utilisation_mean",
]
SLOS = [
    {"metric": "ttft", "percentile": 90, "limit_s": 0.3},
    {"metric": "e2e", "percentile": 90, "limit_s": 4.0},
    {"metric": "tpot", "percentile": 90, "limit_s": 0.03},
]
LENGTHS = {
    "prompt": {"distribution": "lognormal", "mean_tokens": 900, "p99_tokens": 8000},
    "output": {"distribution": "geometric", "mean_tokens": 15},
}
WORKLOAD: dict[str, Any] = {
    "requests": 60,
    "seed": 2,
    "arrivals": {"process": "gamma", "rate_rps": 8, "burstiness_cv": 2},
    "lengths": LENGTHS,
}
SPACE: dict[str, Any] = {
    "accelerators": ["h100-sxm", "l40s", "a10g"],
    "clients": [1, 2, 3],
    "tp": [1, 2],
    "policies": ["static", "continuous", "chunked"],
    "token_budgets_tokens": [256, 2048],
    "max_batches_requests": [4, 256],
    "memory_utilizations": [0.8, 0.9],
}
DISAGGREGATED = {"layouts": ["disaggregated"]}
COLOCATED = {"layouts": ["colocated"]}
PREFIX = {"prefix": {"system_prompts": 2, "tokens": 600}, "chunk_tokens": 64}
SESSION = {
    "turns": {"distribution": "geometric", "mean": 3},
    "wait_s": {"distribution": "exponential", "mean_s": 0.1},
    "prompt_tokens": 50,
    "keep": "keep",
    "max_context_tokens": 6000,
}
GUARDED = [{"kind": "guard", "name": "in"}, "prefill", "decode", {"kind": "detokenise"}]
GUARDS = {
    "in": {"devices": ["l4", "epyc-9654"], "clients": [1, 2], "max_batches_requests": [1, 8], "max_waits_ms": [0, 5]}
}
INDEX = {"kind": "retrieve", "vectors": 6 * 10**9, "centroids": 10**5, "documents": 5, "tokens_per_document": 100}
SHARDS = {"retrieve": {"devices": ["xeon-gold-6448y", "epyc-9654"], "clients": [1, 2], "shards": [1, 2, 100_000]}}
"""One socket of 512 GB does not hold the index of 624 GB, and 100,000 shards have fewer vectors than centroids."""
DETOKENISE = {"stage": "detokenise", "device": "epyc-9654", "clients": 1}
LENDING = {"no": None, "yes": {"decode_above_tokens": 0, "prefill_above_tokens": 0}}
CASES = [
    {"name": "chat", "workload": WORKLOAD, "weight": 3.0},
    {"name": "long", "workload": {**WORKLOAD, "seed": 3, "arrivals": {"process": "poisson", "rate_rps": 30}}},
]
LONG = {**LENGTHS, "prompt": {"distribution": "lognormal", "mean_tokens": 9000, "p99_tokens": 60_000}}
SINGLE_TOKENS = {**LONG, "output": {"distribution": "constant", "tokens": 1}}


def study(space: dict[str, Any], workload: dict[str, Any] | None = None, **changes: Any) -> StudySpec:
    given = {} if "workloads" in changes else {"workload": {**WORKLOAD, **(workload or {})}}
    data = {"name": "floors", "model": "llama-3.1-8b", "objectives": OBJECTIVES, "slos": SLOS}
    return StudySpec.parse({**data, **given, "space": {**SPACE, **space}, **changes})


STUDIES: dict[str, dict[str, Any]] = {
    "colocated": {"space": COLOCATED},
    "disaggregated": {"space": DISAGGREGATED},
    "two types": {"space": {**COLOCATED, "mixed": [True], "prompt_splits_tokens": [0, 600]}},
    "groups": {"space": {**DISAGGREGATED, "handover_scopes": ["local", "global"], "groups": [2]}},
    "lending": {"space": {**DISAGGREGATED, "lending": LENDING}},
    "prefix cache": {"space": {"prefix_cache": [True, False]}, "workload": PREFIX},
    "drafts": {"space": {"drafts": {"none": None, "n": {"draft_tokens": 3, "acceptance": 0.7}}}},
    "swap": {"space": {**COLOCATED, "swaps_gb": [0, 4], "accelerators": ["a10g"]}},
    "single tokens": {
        "space": {**DISAGGREGATED, "accelerators": ["b200", "a10g"]},
        "workload": {"lengths": SINGLE_TOKENS},
    },
    "long prompts": {
        "space": {**DISAGGREGATED, "accelerators": ["h100-sxm", "a10g"]},
        "workload": {"seed": 7, "lengths": LONG, "arrivals": {"process": "poisson", "rate_rps": 100}},
    },
    "services": {
        "space": {"services": GUARDS},
        "workload": {"pipeline": GUARDED},
        "services": [DETOKENISE],
    },
    "shards": {
        "space": {"services": SHARDS},
        "workload": {"pipeline": [INDEX, "prefill", "decode"]},
    },
    "branches": {"space": {}, "workload": {"pipeline": [{"kind": "reason", "branches": 3, "join": "first"}]}},
    "branches and services": {
        "space": {},
        "workload": {"pipeline": [{"kind": "reason", "branches": 3, "join": "first"}, {"kind": "detokenise"}]},
        "services": [DETOKENISE],
    },
    "sessions": {"space": {}, "workload": {"session": SESSION, "requests": 20}},
    "two models": {
        "model": {"small": "llama-3.2-1b", "large": "llama-3.1-8b"},
        "space": {"stages": {"small": {"clients": [1, 2]}, "large": {}}, "layouts": ["colocated"]},
        "workload": {"pipeline": [{"kind": "route", "by": "prompt_tokens", "to": {"small": 0, "large": 600}}]},
        "services": [{"stage": "route", "device": "epyc-9654", "clients": 1}],
    },
    "a model that nobody asks": {
        "model": {"small": "llama-3.2-1b", "large": "llama-3.1-8b"},
        "space": {"stages": {"small": {}, "large": {}}, "layouts": ["colocated"]},
        "workload": {"pipeline": [{"kind": "route", "by": "prompt_tokens", "to": {"small": 0, "large": 900_000}}]},
        "services": [{"stage": "route", "device": "epyc-9654", "clients": 1}],
    },
    "worst of two workloads": {"space": {}, "workloads": CASES},
    "mean of two workloads": {"space": {}, "workloads": CASES, "robust": "weighted"},
    "soft promises": {
        "space": {},
        "slos": [{**slo, "penalty": 0.5} for slo in SLOS],
        "constraints": [
            {"metric": "energy_j_per_output_token", "at_most": 3.0},
            {"metric": "output_tokens_per_s", "at_least": 90.0},
        ],
    },
    "limits": {"space": {}, "limits": {"accelerators": 4, "usd_per_hour": 8, "power_kw": 2}},
}
"""Every layout and what may upset its floors; memory is scarce on small accelerators, so some requests never fit."""
SAMPLED = 60
SIMULATED = 14
"""Designs drawn from each space, and simulated of them."""


@pytest.mark.parametrize("name", STUDIES)
def test_no_simulation_beats_its_floors(name: str) -> None:
    """Whatever the room of many designs says, and the closer looks at one; and impossible is what cannot be."""
    spec = study(**STUDIES[name])
    load, space = build_load(spec), spec.space.space
    codes = space.sample(SAMPLED, np.random.default_rng(len(name)), by="choices")
    screen, closer = Screen(spec, load[0]), CloserLook(spec, load)
    forecast = screen.forecast(codes)
    possible = screen.is_possible(forecast)
    floors, broken = StudyFloors(screen, load).of(codes, forecast)
    simulated = 0
    for row, design in enumerate(map(space.design_of, codes)):
        refused = precheck(design, spec) is not None
        assert possible[row] or refused
        if refused or simulated == SIMULATED:
            continue
        found = evaluate(design, spec, load)
        simulated += 1
        values = losses(np.array([found.objectives]), spec.objectives)[0]
        for least, breaks in ((floors[row], broken[row]), closer.of_any_size(design), closer.of(design)):
            assert not np.isnan(least).any()
            beaten = [(each, a, b) for each, a, b in zip(spec.objectives, least, values, strict=True) if a > b]
            assert not beaten, design
            assert not (breaks and found.feasible), design
    assert simulated > SIMULATED // 2


def test_floors_say_something() -> None:
    """With time enough and one client, the floor of a latency is near what comes out; and promises are seen broken."""
    spec = study({**COLOCATED, "clients": [1]}, {"arrivals": {"process": "poisson", "rate_rps": 0.05}})
    load, space = build_load(spec), spec.space.space
    codes = space.sample(20, np.random.default_rng(1))
    screen = Screen(spec, load[0])
    forecast = screen.forecast(codes)
    floors, broken = StudyFloors(screen, load).of(codes, forecast)
    column = OBJECTIVES.index("e2e_mean_s")
    shares = []
    for row in np.flatnonzero(screen.is_possible(forecast)):
        found = evaluate(space.design_of(codes[row]), spec, load)
        shares.append(floors[row, column] / found.objectives[column])
        if not broken[row]:
            assert floors[row, column] < np.inf
    assert np.median(np.array(shares)[np.isfinite(shares)]) > 0.9
    assert broken.any()
    assert not broken.all()


@pytest.mark.parametrize("name", ["colocated", "disaggregated", "two types", "groups", "services", "two models"])
def test_forecasts_depend_on_nothing_but_the_design(name: str) -> None:
    """Neither on the order of rows nor on which came before."""
    spec = study(**STUDIES[name])
    load, random = build_load(spec), np.random.default_rng(3)
    codes = spec.space.space.sample(200, random)
    whole = Screen(spec, load[0])
    forecast = whole.forecast(codes)
    floors, broken = StudyFloors(whole, load).of(codes, forecast)
    order = random.permutation(len(codes))
    pieces = Screen(spec, load[0])
    bounds = StudyFloors(pieces, load)
    for rows in (order[:1], order[1:60], order[60:]):
        again = pieces.forecast(codes[rows])
        np.testing.assert_array_equal(again["possible"], forecast["possible"][rows])
        for field in forecast.dtype.names or ():
            np.testing.assert_allclose(again[field], forecast[field][rows], rtol=1e-9, err_msg=field)
        least, breaks = bounds.of(codes[rows], again)
        np.testing.assert_allclose(least, floors[rows], rtol=1e-9)
        np.testing.assert_array_equal(breaks, broken[rows])


def test_services_that_cannot_run_are_impossible_designs() -> None:
    """And no study ends because of them: the precheck says the same of each design, with the reason."""
    spec = study(**STUDIES["shards"])
    space, screen = spec.space.space, Screen(spec, build_load(spec)[0])
    codes = space.sample(300, np.random.default_rng(1), by="choices")
    forecast = screen.forecast(codes)
    possible = screen.is_possible(forecast)
    refused = {"one": 0, "many": 0}
    for row, given in enumerate(codes):
        design = space.design_of(given)
        found = precheck(design, spec)
        assert possible[row] == (found is None), design
        small = design["retrieve.device"] == "xeon-gold-6448y" and design["retrieve.shards"] == 1
        many = design["retrieve.shards"] == 100_000
        assert found is not None or not (small or many)
        reason = found.reason if found else ""
        refused["one"] += "one of 1 holds 624 GB, 1 x xeon-gold-6448y 512 GB" in reason
        refused["many"] += "one of 100000 has 60000 vectors, fewer than 100000 centroids" in reason
    assert min(refused.values()) > 10
    assert possible.sum() > 10


def test_a_study_with_services_that_never_can_run_says_why() -> None:
    spec = study({"services": {"retrieve": {**SHARDS["retrieve"], "shards": [100_000]}}}, STUDIES["shards"]["workload"])
    load = build_load(spec)
    with pytest.raises(SpecError, match="fewer shards or centroids"):
        StudyFloors(Screen(spec, load[0]), load)


def test_a_space_of_impossible_designs() -> None:
    spec = study({"accelerators": ["a10g"], "tp": [1]}, model="llama-3.1-70b")
    codes = spec.space.space.sample(20, np.random.default_rng(0))
    load = build_load(spec)
    screen = Screen(spec, load[0])
    forecast = screen.forecast(codes)
    assert not screen.is_possible(forecast).any()
    assert StudyFloors(screen, load).of(codes, forecast)[0].shape == (20, len(OBJECTIVES))


# -- hypervolume along directions


@pytest.mark.parametrize(("objectives", "tolerance"), [(2, 0.03), (3, 0.05)])
def test_directional_hypervolume_against_the_exact_one(objectives: int, tolerance: float) -> None:
    """It is proportional to the volume: the share of a front that part of it covers comes out within some percent."""
    random = np.random.default_rng(4)
    along = directions(objectives, 512)
    for _ in range(10):
        front = np.abs(random.normal(size=(30, objectives)))
        front = 1.0 - front / np.linalg.norm(front, axis=1, keepdims=True) * random.uniform(0.7, 1.0, (30, 1))
        part, reference = front[:6], np.full(objectives, 1.05)
        exact = hypervolume(part, reference) / hypervolume(front, reference)
        found = reach(part, reference, along).max(axis=0).mean() / reach(front, reference, along).max(axis=0).mean()
        assert found == pytest.approx(exact, rel=tolerance)


def test_reach_by_hand() -> None:
    along = np.array([[1.0, 0.0], [0.6, 0.8]]) + 1e-12
    assert reach(np.array([[1.0, 2.0]]), np.array([4.0, 4.0]), along)[0] == pytest.approx([9.0, 2.5**2])
    assert reach(np.array([[5.0, 2.0]]), np.array([4.0, 4.0]), along)[0] == pytest.approx([0.0, 0.0])


def slowly_chosen(reaches: Floats, covered: Floats, weight: Floats, count: int, least: float) -> list[int]:
    """The greedy choice, every candidate looked at anew each time."""
    covered, chosen = covered.copy(), list[int]()
    while len(chosen) < count:
        added = np.maximum(reaches - covered, 0.0).mean(axis=1) * weight
        added[chosen] = -1.0
        best = int(np.argmax(added))
        if added[best] <= least:
            break
        chosen.append(best)
        covered = np.maximum(covered, reaches[best] * min(1.0, 2.0 * weight[best]))
    return chosen


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("least", [0.0, 0.05])
def test_the_quick_greedy_choice_is_the_slow_one(seed: int, least: float) -> None:
    random = np.random.default_rng(seed)
    reaches = random.random((60, 16)) ** 3
    covered, weight = random.random(16) * 0.3, random.uniform(0.2, 1.0, 60)
    before = covered.copy()
    assert most_added(reaches, covered, weight, 12, least) == slowly_chosen(reaches, covered, weight, 12, least)
    np.testing.assert_array_equal(covered, before)


def test_nothing_is_chosen_that_adds_nothing() -> None:
    assert most_added(np.full((3, 4), 0.5), np.ones(4), np.ones(3), 2) == []
    assert most_added(np.zeros((0, 4)), np.ones(4), np.ones(0), 2) == []
