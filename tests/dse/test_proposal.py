"""Spaces solved exhaustively beside the search that proves what it leaves out; and the search of a space too large."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from dse.certificate.ledger import Status
from dse.evaluation import Evaluation, build_load, evaluate, precheck
from dse.library import load_study
from dse.pareto import Floats, hypervolume, losses, non_dominated, reference_point
from dse.proposal import search_of
from dse.proposal.finite import LISTABLE, SHOWN, FiniteSearch
from dse.proposal.improvement import possible
from dse.proposal.sampled import SampledSearch
from dse.result import StudyResult
from dse.spec import StudySpec
from dse.study import run_study
from search_spaces import Design
from simulator import SpecError

CHAT = {"statistics": "azure-2023-conversation", "max_prompt_tokens": 3000, "max_output_tokens": 400}
BASE: dict[str, Any] = {
    "name": "solved",
    "model": "llama-3.1-8b",
    "workload": {
        "requests": 120,
        "seed": 1,
        "arrivals": {"process": "gamma", "rate_rps": 6, "burstiness_cv": 2},
        "lengths": CHAT,
    },
    "space": {
        "accelerators": ["h100-sxm", "l40s"],
        "clients": [1, 2, 4],
        "tp": [1, 2],
        "token_budgets_tokens": [512, 4096],
        "max_batches_requests": [4, 64],
        "routers": ["round_robin", "join_shortest_queue"],
    },
    "objectives": ["usd_per_hour", "e2e_p90_s"],
    "slos": [{"metric": "ttft", "percentile": 90, "limit_s": 0.4}],
    "budget": {"certified": 0},
}
ONLY_COLOCATED = {**BASE["space"], "layouts": ["colocated"]}
TWO_CASES = [
    {"name": "calm", "workload": BASE["workload"]},
    {"name": "long", "workload": {**BASE["workload"], "seed": 2, "lengths": {"statistics": "azure-2023-code"}}},
]
STUDIES: dict[str, dict[str, Any]] = {
    "two layouts": {},
    "maximised": {
        "space": {**ONLY_COLOCATED, "policies": ["static", "continuous", "chunked"]},
        "objectives": ["output_tokens_per_s", "energy_j_per_output_token"],
        "limits": {"accelerators": 6},
    },
    "four objectives": {
        "space": {**ONLY_COLOCATED, "clients": [1, 3], "token_budgets_tokens": [2048]},
        "objectives": ["usd_per_million_output_tokens", "ttft_p50_s", "tpot_p90_s", "requests_per_s"],
    },
    "one objective": {"space": ONLY_COLOCATED, "objectives": ["e2e_mean_s"]},
    "nothing is known of it": {
        "space": {**ONLY_COLOCATED, "clients": [1, 2], "token_budgets_tokens": [2048]},
        "objectives": ["utilisation_mean", "usd_per_hour"],
        "slos": [],
    },
    "two workloads": {
        "space": {**ONLY_COLOCATED, "tp": [1]},
        "workload": None,
        "workloads": TWO_CASES,
        "slos": [{"metric": "e2e", "percentile": 90, "limit_s": 8.0, "penalty": 1.0}],
    },
}


def study(name: str, **changes: Any) -> StudySpec:
    data = {**BASE, **STUDIES[name], **changes}
    return StudySpec.parse({key: value for key, value in data.items() if value is not None})


@cache
def solved(name: str) -> dict[Design, Evaluation]:
    """Every design of a space that can be simulated, simulated."""
    spec = study(name)
    load = build_load(spec)
    return {design: evaluate(design, spec, load) for design in spec.space.space if precheck(design, spec) is None}


@cache
def proved(name: str) -> StudyResult:
    return run_study(study(name), jobs=1)


def front_of(evaluations: list[Evaluation], spec: StudySpec) -> Floats:
    values = losses(np.array([e.objectives for e in evaluations if e.feasible]), spec.objectives)
    return values[non_dominated(values)]


@pytest.mark.parametrize("name", STUDIES)
def test_the_front_is_the_true_one_and_nothing_of_it_is_excluded(name: str) -> None:
    spec, everything, result = study(name), solved(name), proved(name)
    true = front_of(list(everything.values()), spec)
    assert len(true)
    np.testing.assert_array_equal(front_of(list(result.evaluations), spec), true)
    certificate = result.certificate
    assert certificate is not None
    assert certificate.gap == 0.0
    assert sum(certificate.counts.values()) == certificate.designs == spec.space.space.size
    assert certificate.counts[Status.SIMULATED] == len(result.simulated)
    assert len(result.simulated) < len(everything) or name == "nothing is known of it"


@pytest.mark.parametrize("name", STUDIES)
def test_every_exclusion_is_right(name: str) -> None:
    """Design by design, not only those of the front: what is said of each is so."""
    spec, everything, result = study(name), solved(name), proved(name)
    search = FiniteSearch(spec, build_load(spec))
    search.learn(result.evaluations)
    front = search.ledger.front
    for row, status in enumerate(search.ledger.status.tolist()):
        found = everything.get(search.space.design_of(search.codes[row]))
        if status == Status.IMPOSSIBLE:
            assert found is None or not found.simulated
        elif found is not None and found.simulated:
            value = losses(np.array([found.objectives]), spec.objectives)[0]
            assert (search.ledger.floors[row] <= value).all() or not found.feasible
            if status == Status.BREAKS:
                assert not found.feasible
            if status == Status.DOMINATED and found.feasible:
                assert (front <= value).all(axis=1).any()


def test_processes_do_not_matter() -> None:
    name = "two layouts"
    one, other = proved(name), run_study(study(name), jobs=2)
    assert [e.design for e in other.evaluations] == [e.design for e in one.evaluations]
    assert [e.objectives for e in other.evaluations] == [e.objectives for e in one.evaluations]
    assert other.certificate == one.certificate


@pytest.mark.parametrize("name", ["two layouts", "maximised", "four objectives"])
def test_a_share_of_the_hypervolume_is_certified(name: str) -> None:
    spec = study(name, budget={"certified": 0.05})
    result = run_study(spec, jobs=1)
    assert result.certificate is not None
    assert result.certificate.gap <= 0.05
    found, true = front_of(list(result.evaluations), spec), front_of(list(solved(name).values()), spec)
    reference = reference_point(found)
    assert hypervolume(true, reference) <= 1.05 * hypervolume(found, reference)
    assert len(result.simulated) <= len(proved(name).simulated)


def test_a_certificate_for_any_sampler() -> None:
    spec = study("maximised", sampler="random", budget={"certified": 0.1, "trials": 200})
    result = run_study(spec, jobs=1)
    assert result.certificate is not None
    assert sum(result.certificate.counts.values()) == spec.space.space.size
    assert len(result.simulated) <= 200


def test_nothing_is_feasible() -> None:
    """All is excluded by proof; without a certificate to reach, some are shown all the same."""
    impatient = [{"metric": "ttft", "percentile": 90, "limit_s": 0.0001}]
    spec = study("two layouts", slos=impatient, budget={"trials": 200})
    result = run_study(spec, jobs=1)
    assert result.certificate is not None
    assert result.certificate.open == 0
    assert result.certificate.gap == 0.0
    assert not result.feasible
    assert 0 < len(result.simulated) <= SHOWN
    assert run_study(study("two layouts", slos=impatient), jobs=1).certificate is not None


def test_nothing_is_possible() -> None:
    space = {**ONLY_COLOCATED, "accelerators": ["a10g"], "tp": [1]}
    spec = study("two layouts", model="llama-3.1-70b", space=space, budget={"trials": 50})
    result = run_study(spec, jobs=1)
    assert result.certificate is not None
    assert result.certificate.counts[Status.IMPOSSIBLE] == spec.space.space.size
    assert not result.simulated
    assert all(evaluation.reason for evaluation in result.evaluations)


def test_what_was_found_before_counts() -> None:
    """A search that is told of earlier trials does not propose them, and knows their front."""
    spec, name = study("two layouts"), "two layouts"
    search = FiniteSearch(spec, build_load(spec))
    half = proved(name).evaluations[: len(proved(name).evaluations) // 2]
    search.learn(half)
    np.testing.assert_array_equal(search.ledger.front, front_of(list(half), spec))
    told = {evaluation.design for evaluation in half}
    while batch := search.propose(20):
        assert len(set(batch)) == len(batch)
        assert not told & set(batch)
        told |= set(batch)
        search.learn([solved(name)[design] for design in batch])
    np.testing.assert_array_equal(search.ledger.front, front_of(list(solved(name).values()), spec))


def test_possible_takes_those_that_add_most_at_best() -> None:
    front = np.array([[1.0, 3.0], [3.0, 1.0]])
    floors = np.array([[2.9, 2.9], [1.5, 1.5], [3.5, 3.5], [1.5, 1.5]])
    first, second = possible(floors, np.array([0.5, 0.2, 1.0, 0.9]), front, 2)
    # Of two with the same floors the likelier one; what is beaten never.
    assert first == 3
    assert second in (0, 1)
    assert 2 not in possible(floors, np.full(4, 0.5), front, 4)


# -- a space too large to list


def chat(trials: int, sampler: str = "auto", seed: int = 0, **changes: Any) -> StudySpec:
    spec = load_study("chat")
    workload = spec.workload.model_copy(update={"requests": 300})
    data = spec.model_copy(update={"workload": workload}).model_dump(mode="json", exclude_unset=True)
    return StudySpec.parse({**data, "budget": {"trials": trials}, "sampler": sampler, "seed": seed, **changes})


def test_sampled_search_never_proposes_twice_nor_what_is_impossible() -> None:
    spec = chat(60)
    assert spec.space.space.size > LISTABLE
    load = build_load(spec)
    search, again, other = (search_of(spec, load, seed) for seed in (7, 7, 8))
    assert isinstance(search, SampledSearch)
    seen: set[Design] = set()
    differ = False
    for _ in range(4):
        batch = search.propose(20)
        assert len(batch) == len(set(batch)) == 20
        assert not seen & set(batch)
        assert all(precheck(design, spec) is None for design in batch)
        assert again.propose(20) == batch
        differ |= other.propose(20) != batch
        seen |= set(batch)
        found = [evaluate(design, spec, load) for design in batch]
        search.learn(found)
        again.learn(found)
    assert differ
    assert search.certificate is None
    assert not search.is_certified(0.99)


def test_sampled_search_beats_random_search() -> None:
    results = {
        (sampler, seed): run_study(chat(60, sampler, seed), jobs=1) for sampler in ("auto", "random") for seed in (0, 1)
    }
    spec = chat(60)
    fronts = {key: front_of(list(result.evaluations), spec) for key, result in results.items() if result.feasible}
    whole = np.concatenate(list(fronts.values()))
    reference = reference_point(whole[non_dominated(whole)])
    covered = {key: hypervolume(fronts[key], reference) if key in fronts else 0.0 for key in results}
    for seed in (0, 1):
        assert covered["auto", seed] > 1.2 * covered["random", seed]


def test_a_space_too_large_cannot_be_certified() -> None:
    with pytest.raises(SpecError, match="certified: the space has"):
        run_study(chat(10, budget={"certified": 0.1}), jobs=1)
