"""What is proved of a space: the gap against brute force, the books, and twins that really run the same course."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.certificate.gap import dominated, gap
from dse.certificate.ledger import Certificate, Ledger, Status
from dse.evaluation import Evaluation, build_load, evaluate, precheck
from dse.pareto import Floats, hypervolume, non_dominated, reference_point
from dse.proposal.kinship import Kinship
from dse.screening.screen import Screen
from dse.spec import StudySpec

# -- the gap


def array(*rows: tuple[float, ...]) -> Floats:
    return np.array(rows, dtype=np.float64)


def test_gap_of_one_objective_is_the_share_by_which_the_best_could_improve() -> None:
    assert gap(array((10.0,), (12.0,)), array((8.0,), (11.0,))) == pytest.approx(0.2)
    assert gap(array((10.0,)), array((10.0,), (11.0,))) == 0.0
    # Maximised: 10 was reached, 12 is the most that is left.
    assert gap(array((-10.0,)), array((-12.0,))) == pytest.approx(0.2)


def test_gap_of_two_objectives_by_hand() -> None:
    # The reference is (2.1, 2.1). The front covers 1.1 x 0.1 twice, less 0.1 x 0.1.
    front, covered = array((1.0, 2.0), (2.0, 1.0)), 0.21
    # (1.5, 1.5) adds the square from there to (2, 2).
    assert gap(front, array((1.5, 1.5))) == pytest.approx(0.25 / covered)
    # (1, 1.2) covers 1.1 x 0.9, and (2, 1) another 0.1 x 0.2.
    assert gap(front, array((1.0, 1.2))) == pytest.approx(1.01 / covered - 1)
    assert gap(front, array((2.0, 2.0), (1.0, 3.0))) == 0.0
    # Of a front that lies beyond the reference of what could take its place nothing would be left.
    # (0.5, 0.5) covers 1.6² up to (2.1, 2.1), the front 0.21.
    assert gap(front, array((0.5, 0.5))) == pytest.approx(2.56 / 0.21 - 1)


def test_gap_of_a_design_beyond_the_ends_of_the_front() -> None:
    # Up to the front's own reference of (2.1, 2.1) it adds nothing; up to that of both, (2.2, 5.4), it adds 1 x 0.4.
    front = array((1.0, 2.0), (2.0, 1.0))
    assert gap(front, array((0.0, 5.0))) == pytest.approx(0.4 / (1.2 * 3.4 + 0.2 * 1))


def test_gap_of_three_objectives_by_hand() -> None:
    # The reference is (2.1, 2.1, 3.3): where there is no range, a tenth of the value away.
    front = array((1.0, 2.0, 3.0), (2.0, 1.0, 3.0))
    covered = (2 * 1.1 * 0.1 - 0.1 * 0.1) * 0.3
    assert gap(front, array((1.5, 1.5, 3.0))) == pytest.approx(0.5 * 0.5 * 0.3 / covered)


def test_gap_where_nothing_is_known_or_left() -> None:
    front, nothing = array((1.0, 2.0)), np.zeros((0, 2))
    assert gap(front, nothing) == 0.0
    assert gap(nothing, nothing) == 0.0
    assert gap(nothing, front) == float("inf")
    assert gap(front, array((-np.inf, 3.0))) == float("inf")


def points(objectives: int, least: int, most: int) -> st.SearchStrategy[list[list[float]]]:
    value = st.integers(-40, 40).map(lambda i: i / 4)
    return st.lists(st.lists(value, min_size=objectives, max_size=objectives), min_size=least, max_size=most)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_no_design_adds_more_than_the_gap(data: st.DataObject, objectives: int) -> None:
    every = np.array(data.draw(points(objectives, 1, 8)))
    front = every[non_dominated(every)]
    floors = np.array(data.draw(points(objectives, 1, 6))).reshape(-1, objectives)
    worse = np.array(data.draw(points(objectives, len(floors), len(floors)))).reshape(-1, objectives)
    most = gap(front, floors)
    real = floors + np.abs(worse)
    if objectives == 1:
        best = front.min()
        assert best - real.min() <= most * max(abs(best), 1e-300) + 1e-9
        return
    reference = reference_point(front)
    now, then = hypervolume(front, reference), hypervolume(np.concatenate([front, real]), reference)
    assert then <= now * (1 + most) * (1 + 1e-9) + 1e-12


@settings(max_examples=100, deadline=None)
@given(st.data(), st.integers(1, 4))
def test_dominated_against_brute_force(data: st.DataObject, objectives: int) -> None:
    floors = np.array(data.draw(points(objectives, 0, 8))).reshape(-1, objectives)
    front = np.array(data.draw(points(objectives, 0, 6))).reshape(-1, objectives)
    slow = [any(all(p <= f for p, f in zip(point, floor, strict=True)) for point in front) for floor in floors]
    assert dominated(floors, front).tolist() == slow


# -- the books


def ledger_of(floors: Floats) -> Ledger:
    none = np.zeros(len(floors), np.bool_)
    return Ledger(floors.copy(), none, none)


def test_impossible_counts_before_broken() -> None:
    ledger = Ledger(np.zeros((4, 2)), np.array([1, 1, 0, 0], np.bool_), np.array([1, 0, 1, 0], np.bool_))
    assert ledger.status.tolist() == [Status.IMPOSSIBLE, Status.IMPOSSIBLE, Status.BREAKS, Status.OPEN]
    assert ledger.gap == float("inf")


def test_who_is_settled_stays_settled_unless_simulated() -> None:
    ledger = ledger_of(np.zeros((2, 1)))
    assert ledger.settle(0, Status.TWIN)
    assert not ledger.settle(0, Status.IMPOSSIBLE)
    assert ledger.status[0] == Status.TWIN
    assert not ledger.settle(0, Status.SIMULATED)
    assert ledger.status.tolist() == [Status.SIMULATED, Status.OPEN]
    ledger.raise_floors(np.array([0, 1]), np.zeros(1), broken=True)
    assert ledger.status.tolist() == [Status.SIMULATED, Status.BREAKS]


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 3))
def test_the_books_against_brute_force(data: st.DataObject, objectives: int) -> None:
    """After any steps exactly those are excluded whose best floor so far is beaten by something found so far."""
    floors = np.array(data.draw(points(objectives, 1, 12))).reshape(-1, objectives)
    ledger, known, found, broken = ledger_of(floors), floors.copy(), [], set[int]()
    for _ in range(data.draw(st.integers(1, 6))):
        if data.draw(st.booleans()):
            new = np.array(data.draw(points(objectives, 1, 4)))
            ledger.found(new)
            found += new.tolist()
        else:
            rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(floors) - 1), min_size=1))))
            higher, breaks = np.array(data.draw(points(objectives, 1, 1))[0]), data.draw(st.booleans())
            still = set(rows[ledger.status[rows] == Status.OPEN].tolist())
            ledger.raise_floors(rows, higher, broken=breaks)
            known[rows] = np.maximum(known[rows], higher)
            if breaks:
                broken |= still
        assert sum(ledger.certificate().counts.values()) == len(floors)
    for row, floor in enumerate(known):
        beaten = any(all(p <= f for p, f in zip(point, floor, strict=True)) for point in found)
        expected = Status.BREAKS if row in broken else Status.DOMINATED if beaten else Status.OPEN
        assert ledger.status[row] == expected
    if found:
        best = np.array(found)[non_dominated(np.array(found))]
        assert sorted(ledger.front.tolist()) == sorted(best.tolist())


@pytest.mark.parametrize("share", [0.25, float("inf")])
def test_certificate_survives_json(share: float) -> None:
    certificate = Certificate(7, {status: int(status) for status in Status}, share)
    assert Certificate.from_json(certificate.to_json()) == certificate
    assert certificate.open == 0


# -- twins

CHAT = {"statistics": "azure-2023-conversation", "max_prompt_tokens": 3000, "max_output_tokens": 400}
SHORT = {
    "prompt": {"distribution": "lognormal", "mean_tokens": 700, "p99_tokens": 4000},
    "output": {"distribution": "geometric", "mean_tokens": 20},
}
LONG_ANSWERS = {
    "prompt": {"distribution": "lognormal", "mean_tokens": 250, "p99_tokens": 1000},
    "output": {"distribution": "geometric", "mean_tokens": 500},
}
LONG_PROMPTS = {**SHORT, "prompt": {"distribution": "lognormal", "mean_tokens": 3000, "p99_tokens": 14_000}}
BUDGETS = [64, 700, 2048, 8192, 9000]
BATCHES = [2, 16, 48, 64]
SPACE: dict[str, Any] = {
    "accelerators": ["h100-sxm"],
    "clients": [1],
    "tp": [1],
    "layouts": ["colocated"],
    "policies": ["chunked"],
    "token_budgets_tokens": BUDGETS,
    "max_batches_requests": BATCHES,
    "routers": ["round_robin", "least_kv_tokens"],
}
NEARLY_FULL = {"accelerators": ["l40s"], "memory_utilizations": [0.38]}


def twins_study(requests: int = 80, rate_rps: float = 1.5, lengths: Any = CHAT, **changes: Any) -> StudySpec:
    workload = {
        "requests": requests,
        "seed": 5,
        "arrivals": {"process": "gamma", "rate_rps": rate_rps, "burstiness_cv": 2},
        "lengths": lengths,
        **changes.pop("workload", {}),
    }
    given = {"workloads": changes.pop("cases")(workload)} if "cases" in changes else {"workload": workload}
    return StudySpec.parse(
        {
            "name": "twins",
            "model": "llama-3.1-8b",
            **given,
            "space": SPACE | changes.pop("space", {}),
            "objectives": [
                "usd_per_million_output_tokens",
                "e2e_p90_s",
                "ttft_mean_s",
                "itl_p99_s",
                "energy_j_per_output_token",
                "utilisation_mean",
            ],
            "slos": [{"metric": "ttft", "percentile": 90, "limit_s": 1.0}],
            **changes,
        }
    )


def two_cases(workload: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"name": "one", "workload": workload}, {"name": "two", "workload": {**workload, "seed": 9}}]


SETTINGS: dict[str, dict[str, Any]] = {
    "chunked": {},
    "continuous": {"space": {"policies": ["continuous"]}, "lengths": SHORT},
    "static": {"space": {"policies": ["static"]}},
    "policies at random arrivals": {"space": {"policies": ["static", "continuous", "chunked"]}, "rate_rps": 0.5},
    "memory binds": {"space": {**NEARLY_FULL, "policies": ["continuous", "chunked"]}, "rate_rps": 8.0},
    "memory binds alone": {
        "space": {
            "accelerators": ["l40s"],
            "memory_utilizations": [0.42],
            "token_budgets_tokens": [3000, 4096, 8192],
            "max_batches_requests": [96, 256],
        },
        "rate_rps": 2.0,
        "lengths": LONG_ANSWERS,
    },
    "memory binds, static": {"space": {**NEARLY_FULL, "policies": ["static"]}, "rate_rps": 8.0},
    "memory binds, swap": {"space": {**NEARLY_FULL, "swaps_gb": [4.0], "watermarks": [0.1]}, "rate_rps": 8.0},
    "prompts longer than the budget": {"space": {"token_budgets_tokens": [64, 65, 66, 96]}, "lengths": SHORT},
    "disaggregated": {"space": {"layouts": ["disaggregated"]}, "rate_rps": 3.0},
    "two clients": {"space": {"clients": [2], "routers": ["join_shortest_queue", "power_of_two"]}, "rate_rps": 3.0},
    "two types": {"space": {"mixed": [True], "prompt_splits_tokens": [0, 600], "token_budgets_tokens": [256, 2048]}},
    "prefix cache": {
        "space": {"prefix_cache": [True], **NEARLY_FULL},
        "workload": {"prefix": {"system_prompts": 3, "tokens": 600}, "chunk_tokens": 64},
        "rate_rps": 4.0,
    },
    "drafts": {"space": {"drafts": {"n": {"draft_tokens": 3, "acceptance": 0.7}}, **NEARLY_FULL}, "rate_rps": 4.0},
    "shortest first": {"space": {"orders": ["shortest_first"], **NEARLY_FULL}, "rate_rps": 8.0},
    "lending": {"space": {"layouts": ["disaggregated"], "lending": {"yes": {"prefill_above_tokens": 300}}}},
    "services": {
        "workload": {"pipeline": ["prefill", "decode", {"kind": "detokenise"}]},
        "services": [{"stage": "detokenise", "device": "epyc-9654", "clients": 2}],
    },
    "services that vary": {
        "workload": {"pipeline": [{"kind": "guard"}, "prefill", "decode"]},
        "space": {
            "token_budgets_tokens": [8192, 9000],
            "max_batches_requests": [64],
            "services": {"guard": {"devices": ["l4"], "clients": [1], "max_batches_requests": [1, 4, 16]}},
        },
        "rate_rps": 6.0,
    },
    "branches": {"workload": {"pipeline": [{"kind": "reason", "branches": 3, "join": "first"}]}, "requests": 25},
    "two workloads": {"cases": two_cases},
}
"""Where limits matter or just do not, by what might tell twins apart."""


Pair = tuple[Evaluation, Evaluation]


def same_course(one: Evaluation, other: Evaluation) -> bool:
    """Whether two simulations had the same outcome, bit by bit."""
    figures = {name: value for name, value in one.figures.items() if name.endswith("_s")}
    others = {name: other.figures[name] for name in figures}
    return one.objectives == other.objectives and repr(figures) == repr(others)


def pairs_of_twins(spec: StudySpec, kin: Literal["twins", "read_alike"] = "twins") -> list[Pair]:
    """Every design of a space with each of those that are called its kin, all simulated."""
    load, space = build_load(spec), spec.space.space
    kinship = Kinship(Screen(spec, load[0]), space.codes())
    designs = {row: space.design_of(codes) for row, codes in enumerate(space.codes())}
    found = {row: evaluate(each, spec, load) for row, each in designs.items() if precheck(each, spec) is None}
    pairs: list[Pair] = []
    possible = np.array([row in found for row in designs])
    for row, evaluation in found.items():
        if evaluation.simulated:
            pairs += [(evaluation, found[other]) for other in getattr(kinship, kin)(row, evaluation, possible)]
    return pairs


@pytest.mark.parametrize("name", SETTINGS)
def test_twins_run_the_same_course(name: str) -> None:
    pairs = pairs_of_twins(twins_study(**SETTINGS[name]))
    assert [(one.design, other.design) for one, other in pairs if not same_course(one, other)] == []


@pytest.mark.parametrize("rate_rps", [1.0, 6.0, 60.0])
@pytest.mark.parametrize("changes", [{}, {"lengths": SHORT}, {"lengths": LONG_PROMPTS}, {"cases": two_cases}])
def test_prompts_that_are_read_alike_have_the_same_first_tokens(changes: dict[str, Any], rate_rps: float) -> None:
    """Whoever decodes, as fast or slow, with much or little memory, over a fast or slow link."""
    space = {
        "accelerators": ["h100-sxm", "l40s"],
        "tp": [1, 2],
        "clients": [1, 2],
        "layouts": ["disaggregated"],
        "token_budgets_tokens": [2048],
        "max_batches_requests": [4, 64],
        "memory_utilizations": [0.4],
        "routers": ["join_shortest_queue"],
        "links": {"slow": {"gb_per_s": 0.05}, "fast": {}},
    }
    spec = twins_study(
        space=space, rate_rps=rate_rps, objectives=["ttft_mean_s", "ttft_p50_s", "ttft_p99_s"], **changes
    )
    pairs = pairs_of_twins(spec, "read_alike")
    assert [(a.design, b.design) for a, b in pairs if a.objectives != b.objectives] == []
    assert pairs or rate_rps > 6


def test_there_are_twins_and_others() -> None:
    """Limits that nobody comes near, and routers without a choice; but no twin where every limit binds."""
    easy = twins_study(rate_rps=0.5, space={"token_budgets_tokens": [4096, 8192], "max_batches_requests": [64, 128]})
    assert len(pairs_of_twins(easy)) == 8 * 7
    routers = twins_study(rate_rps=0.5, space={"token_budgets_tokens": [4096], "max_batches_requests": [64]})
    assert len(pairs_of_twins(routers)) == 2
    hard = twins_study(rate_rps=40.0, space={"token_budgets_tokens": [64, 128], "max_batches_requests": [2, 4]})
    assert all(one.design["router"] != other.design["router"] for one, other in pairs_of_twins(hard))


@pytest.mark.parametrize("policy", ["chunked", "continuous", "static"])
def test_a_limit_that_is_just_reached_is_one(policy: str) -> None:
    """The limits are set to the very peaks of a simulation, and around them."""
    alone = {"policies": [policy], "routers": ["round_robin"]}
    free = twins_study(space={**alone, "token_budgets_tokens": [65_536], "max_batches_requests": [256]})
    figures = evaluate(next(iter(free.space.space)), free, build_load(free)).figures
    running, tokens = int(figures["main.peak_running"]), int(figures["main.peak_step_tokens"])
    around = {
        "token_budgets_tokens": [tokens - 1, tokens, tokens + 1, 65_536],
        "max_batches_requests": [running - 1, running, running + 1],
    }
    pairs = pairs_of_twins(twins_study(space={**alone, **around}))
    assert pairs
    assert all(same_course(one, other) for one, other in pairs)
    assert all(one.design["main.max_batch_requests"] == running + 1 for one, _ in pairs)
