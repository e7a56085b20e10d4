"""Samplers: they learn, repeat themselves by seed, bear batches and resumption; the agents' gradient is a gradient."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from dse.evaluation import evaluate, precheck
from dse.pareto import hypervolume, losses
from dse.samplers import POPULATION, SAMPLERS, SCREENED, learning, make_sampler, policy, tpe_then_nsga2
from dse.samplers.gp import aligned
from dse.samplers.multi_agent import MultiAgentSampler
from dse.samplers.policy import Policy
from dse.samplers.single_agent import SingleAgentSampler
from dse.samplers.subsystems import OTHER, subsystem_of
from dse.spec import StudySpec
from simulator import SpecError, build_requests
from tests.benchmarks import search_solved
from tests.benchmarks.search import interval
from tests.benchmarks.search_runs import run, shares_of
from tests.benchmarks.search_solved import Solved, solved

from .conftest import small

optuna.logging.set_verbosity(optuna.logging.WARNING)

# A toy with the shape of a study: what it costs against how long it takes, one budget, one promise, some impossible.
SPACE: dict[str, BaseDistribution] = {
    "layout": CategoricalDistribution(["colocated", "disaggregated"]),
    "main.accelerator": CategoricalDistribution(["slow", "quick", "quickest"]),
    "main.clients": IntDistribution(1, 12),
    "main.tp": CategoricalDistribution([1, 2, 4, 8]),
    "kv": CategoricalDistribution(["bf16", "fp8"]),
    "main.max_batch_requests": CategoricalDistribution([8, 16, 32, 64, 128, 256]),
    "main.token_budget_tokens": CategoricalDistribution([512, 1024, 2048, 4096]),
    "router": CategoricalDistribution(["round_robin"]),
}
SPEED = {"slow": 1.0, "quick": 2.5, "quickest": 4.0}
REFERENCE = np.array([100.0, 1.0])


def outcome(params: dict[str, object]) -> tuple[tuple[float, float], dict[str, float]]:
    """Objectives and constraints of the toy."""
    devices = params["main.clients"] * params["main.tp"]  # type: ignore[operator]
    if devices > 32:
        return (math.inf, math.inf), {"accelerators": 2 + devices / 32}
    cost = devices * SPEED[params["main.accelerator"]] ** 1.2  # type: ignore[index]
    waste = abs(math.log2(params["main.max_batch_requests"] / 64)) + abs(  # type: ignore[operator]
        math.log2(params["main.token_budget_tokens"] / 2048)  # type: ignore[operator]
    )
    speed = devices**0.8 * SPEED[params["main.accelerator"]] * (1.3 if params["kv"] == "fp8" else 1.0)  # type: ignore[index]
    late = (1 + waste + (params["layout"] == "disaggregated")) / speed
    return (cost, late), {"late": late - 1.0}


def tell(study: optuna.Study, trial: optuna.Trial) -> None:
    values, constraints = outcome(trial.params)
    for name, violation in constraints.items():
        trial.set_constraint(name, violation)
    study.tell(trial, values)


def searched(name: str, seed: int, trials: int, known: Sequence[FrozenTrial] = ()) -> optuna.Study:
    """A study in which batches are asked for while earlier ones are under way; half of a batch is told at once."""
    study = optuna.create_study(directions=["minimize"] * 2, sampler=make_sampler(name, SPACE, seed))
    study.add_trials(known)
    waiting: list[optuna.Trial] = []
    for _ in range(trials // POPULATION):
        batch = [study.ask(SPACE) for _ in range(POPULATION)]
        for trial in waiting + batch[: POPULATION // 2]:
            tell(study, trial)
        waiting = batch[POPULATION // 2 :]
    for trial in waiting:
        tell(study, trial)
    return study


def found(trials: Sequence[FrozenTrial]) -> float:
    """Hypervolume of the feasible trials."""
    points = [list(trial.values) for trial in trials if all(v <= 0 for v in trial.constraints.values())]
    return hypervolume(np.array(points), REFERENCE) if points else 0.0


QUICK = [name for name in SAMPLERS if name != "gp" and name not in SCREENED]
LEARNING = {"tpe": 120, "tpe-multivariate": 120, "nsga2": 300, "nsga3": 300, "multi_agent": 300, "single_agent": 300}


@pytest.mark.parametrize("name", QUICK)
def test_a_seed_gives_the_same_trials(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, again, other = (searched(name, seed, 80) for seed in (1, 1, 2))
    assert [trial.params for trial in first.trials] == [trial.params for trial in again.trials]
    assert [trial.params for trial in first.trials] != [trial.params for trial in other.trials]


@pytest.mark.parametrize(("name", "trials"), LEARNING.items())
def test_learning_finds_more_than_chance(name: str, trials: int) -> None:
    learned, chance = (
        np.mean([found(searched(each, seed, trials).trials) for seed in range(2)]) for each in (name, "random")
    )
    assert learned > chance


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "multi_agent", "single_agent"])
def test_what_is_known_is_learned_from(name: str) -> None:
    known = searched("random", 5, 300).trials
    fresh = searched(name, 1, 60).trials
    resumed = searched(name, 1, 60, known).trials[len(known) :]
    assert len(resumed) == len(fresh)
    assert found(resumed) > found(fresh)


@pytest.mark.parametrize("name", ["multi_agent", "single_agent", "nsga3", "tpe+nsga2"])
def test_a_study_without_any_feasible_design_goes_on(name: str) -> None:
    study = optuna.create_study(directions=["minimize"] * 2, sampler=make_sampler(name, SPACE, 0))
    for number in range(260):
        trial = study.ask(SPACE)
        if number % 7 == 0:
            study.tell(trial, state=TrialState.FAIL)
            continue
        trial.set_constraint("possible", 1.0)
        study.tell(trial, (math.inf, math.inf))
    assert len(study.trials) == 260


@pytest.mark.parametrize("name", QUICK)
def test_all_of_a_small_space_is_proposed_in_the_end(name: str) -> None:
    """Also if known designs are not evaluated again, and the best ones are far from the rest."""
    names = ("main.accelerator", "main.tp", "kv")
    rest = {name: each for name, each in SPACE.items() if name not in names}
    space = {name: SPACE[name] for name in names}
    study = optuna.create_study(directions=["minimize"] * 2, sampler=make_sampler(name, space, 0))
    known: set[tuple[object, ...]] = set()
    for _ in range(500):
        trial = study.ask(space)
        design = tuple(trial.params.values())
        if design in known:
            study.tell(trial, state=TrialState.FAIL)
            continue
        known.add(design)
        values, constraints = outcome(
            {**{name: learning.values_of(each)[0] for name, each in rest.items()}, **trial.params}
        )
        for constraint, violation in constraints.items():
            trial.set_constraint(constraint, violation)
        study.tell(trial, values)
        if len(known) == 24:
            return
    pytest.fail(f"{len(known)} of 24 designs")


def test_tpe_hands_over_to_nsga2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpe_then_nsga2, "TPE_TRIALS", 60)
    trials = searched("tpe+nsga2", 3, 140).trials
    assert [t.params for t in trials[:60]] == [t.params for t in searched("tpe", 3, 60).trials]
    assert [t.params for t in trials[60:80]] != [t.params for t in searched("tpe", 3, 80).trials[60:]]
    # Its first generation already descends from what TPE found.
    assert found(trials[60:100]) > found(searched("nsga2", 3, 40).trials)


def test_quasi_random_points_are_even() -> None:
    study = optuna.create_study(directions=["minimize"], sampler=make_sampler("qmc", SPACE, 0))
    params = [study.ask(SPACE).params for _ in range(64)]
    # A Sobol sequence is a (t, s)-sequence in base 2: 64 points lie evenly in the quarters and halves of every axis.
    for name in ("main.tp", "kv", "main.token_budget_tokens"):
        counts = [sum(each[name] == value for each in params) for value in SPACE[name].choices]  # type: ignore[attr-defined]
        assert set(counts) == {64 // len(counts)}


def test_unknown_sampler() -> None:
    with pytest.raises(SpecError, match=r"^sampler: no 'nsga'; did you mean .*nsga2.* known: gp"):
        make_sampler("nsga", SPACE, 0)


def test_what_has_no_end_cannot_be_proposed_by_agents() -> None:
    with pytest.raises(TypeError, match="no finite number"):
        make_sampler("multi_agent", {"x": optuna.distributions.FloatDistribution(0, 1)}, 0)


def test_gp_without_torch_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dse.samplers.gp.find_spec", lambda _: None)
    with pytest.raises(SpecError, match="PyTorch"):
        make_sampler("gp", SPACE, 0)


def test_gp_searches_a_study_with_different_constraints() -> None:
    pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study = searched("gp", 0, 20)
    assert found(study.trials) > 0


def test_gp_sees_one_constraint_and_finite_objectives() -> None:
    def trial(values: Sequence[float], constraints: dict[str, float]) -> FrozenTrial:
        return create_trial(values=values, constraints=constraints)

    seen = aligned(
        [
            trial([1.0, 5.0], {"ttft": -0.5, "tpot": -0.1}),
            trial([3.0, 4.0], {"ttft": 0.25, "tpot": 0.5}),
            trial([math.inf, -math.inf], {"memory": 4.0}),
        ]
    )
    assert [each.values for each in seen] == [[1.0, 5.0], [3.0, 4.0], [3.0, 4.0]]  # noqa: PD011
    assert [each.constraints for each in seen] == [{"violation": 0.0}, {"violation": 0.75}, {"violation": 4.0}]


# The agents.


@pytest.mark.parametrize(
    ("name", "subsystem"),
    [
        ("main.accelerator", "hardware"),
        ("decode.clients", "hardware"),
        ("mixed", "hardware"),
        ("prefill.tp", "parallelism"),
        ("main.pp", "parallelism"),
        ("main.policy", "batching"),
        ("prefill.token_budget_tokens", "batching"),
        ("decode.max_batch_requests", "batching"),
        ("rerank.max_wait_ms", "batching"),
        ("layout", "placement"),
        ("router", "placement"),
        ("handover_scope", "placement"),
        ("link.layer_wise", "placement"),
        ("weights", "memory"),
        ("kv", "memory"),
        ("main.prefix_cache", "memory"),
        ("decode.swap_gb", "memory"),
        ("colour", OTHER),
    ],
)
def test_subsystems(name: str, subsystem: str) -> None:
    assert subsystem_of(name) == subsystem


@pytest.mark.parametrize("study", search_solved.FINITE)
def test_every_dimension_of_the_shipped_spaces_has_an_owner(study: str) -> None:
    spec = search_solved.load_study(study)
    assert all(subsystem_of(dimension.name) != OTHER for dimension in spec.space.space.dimensions)


def test_twins_learn_equally_many_numbers() -> None:
    sizes = []
    for kind in (MultiAgentSampler, SingleAgentSampler):
        sampler = kind(SPACE, seed=0)
        study = optuna.create_study(directions=["minimize"] * 2, sampler=sampler)
        study.ask(SPACE)
        sizes.append(sum(len(each.theta) for each in sampler.policies.values()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)
    assert set(MultiAgentSampler(SPACE, seed=0).policies) == set()


def test_agents_own_what_they_choose() -> None:
    sampler = MultiAgentSampler(SPACE, seed=0)
    optuna.create_study(directions=["minimize"] * 2, sampler=sampler).ask(SPACE)
    values = {name: len(each.dimension) for name, each in sampler.policies.items()}
    assert values == {"placement": 3, "hardware": 15, "parallelism": 4, "memory": 2, "batching": 10}


def test_proposals_follow_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "SURPRISES", 0.0)
    sampler = SingleAgentSampler(SPACE, seed=0)
    wanted = np.array([0.2, 0.8, 0.5, 0.3, 0.2, *[1 / 12] * 12, 0.1, 0.2, 0.3, 0.4, 1, 0, *[1 / 6] * 6, *[0.25] * 4, 1])
    drawn = sampler._one_hot(np.array([sampler._drawn(wanted) for _ in range(20_000)]))
    # Four standard deviations of a share.
    assert (np.abs(drawn.mean(axis=0) - wanted) <= 4 * np.sqrt(wanted * (1 - wanted) / 20_000)).all()


def test_gradient_is_that_of_the_expected_reward() -> None:
    """Against differences of the definition, dimension by dimension."""
    rng = np.random.default_rng(0)
    sizes, samples = (3, 2, 4), 5
    agent = Policy(6, sizes, 7, rng)
    agent.theta += rng.normal(0, 0.3, len(agent.theta))
    observation, advantage = rng.normal(size=(samples, 6)), rng.normal(size=samples)
    best, chosen = (
        np.concatenate([np.eye(size)[rng.integers(size, size=samples)] for size in sizes], axis=1) for _ in range(2)
    )

    def worth() -> float:
        p = agent.probabilities(observation, best)
        total, begin = 0.0, 0
        for size in sizes:
            of_one = p[:, begin : begin + size]
            assert of_one.sum(axis=1) == pytest.approx(1)
            likelihood = np.log((of_one * chosen[:, begin : begin + size]).sum(axis=1))
            total += (advantage * likelihood - policy.ENTROPY * (of_one * np.log(of_one)).sum(axis=1)).mean()
            begin += size
        return float(total)

    slope = agent.gradient(observation, best, chosen, advantage).copy()
    for place in range(len(agent.theta)):
        before, step = agent.theta[place], 1e-5
        agent.theta[place] = before + step
        above = worth()
        agent.theta[place] = before - step
        below = worth()
        agent.theta[place] = before
        assert slope[place] == pytest.approx((above - below) / (2 * step), abs=1e-7)


def test_learning_makes_the_rewarded_likely() -> None:
    agent = Policy(2, (3, 3), 8, np.random.default_rng(1))
    observation = np.array([[1.0, 0.0], [0.0, 1.0]])
    best = np.zeros((2, 6))
    # What is good depends on the observation.
    chosen = np.array([[1.0, 0, 0, 0, 1, 0], [0, 0, 1, 0, 1, 0]])
    for _ in range(150):
        agent.learn(observation, best, chosen, np.ones(2))
    assert (agent.probabilities(observation, best)[chosen > 0] > 0.8).all()


def test_loss_ranks_as_dominance_and_feasibility_do() -> None:
    study = searched("random", 0, 200)
    memory = learning.Memory(list(SPACE), [learning.values_of(each) for each in SPACE.values()])
    memory.take(study)
    weights = np.random.default_rng(0).dirichlet(np.ones(2), 20)
    loss = memory.loss(weights)
    for i, j in itertools.permutations(range(0, len(memory), 4), 2):
        if memory.violation[i] == 0 and memory.violation[j] > 0:
            assert (loss[:, i] < loss[:, j]).all()
        elif memory.violation[i] == 0 and (memory.losses[i] <= memory.losses[j]).all():
            assert (loss[:, i] <= loss[:, j]).all()
        elif 0 < memory.violation[i] < memory.violation[j]:
            assert (loss[:, i] < loss[:, j]).all()


# The benchmark of the shipped finite studies.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Solved:
    spec = tiny_study()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(search_solved, "load_study", lambda _: spec)
        patch.setattr(search_solved, "is_cached", lambda: True)
        path = search_solved.table_path(spec)
        first = solved.__wrapped__("small")
        assert path.exists()
        stamp = Path(path).stat().st_mtime_ns
        again = solved.__wrapped__("small")
        assert Path(path).stat().st_mtime_ns == stamp
    drop = ["cpu_s"]
    pd.testing.assert_frame_equal(first.table.drop(columns=drop), again.table.drop(columns=drop))
    return again


def tiny_study() -> StudySpec:
    space = {"accelerators": ["h100-sxm", "a10g"], "clients": {"high": 5}, "tp": [1, 2], "layouts": ["colocated"]}
    sizes = {"token_budgets_tokens": [512, 2048], "max_batches_requests": [8, 64], "weights": ["bf16", "fp8"]}
    return small(space={**space, **sizes, "routers": ["round_robin"], "policies": ["chunked"]})


def test_solved_study_says_what_the_simulator_says(tiny: Solved) -> None:
    spec = tiny_study()
    requests = build_requests(spec.workload)
    assert len(tiny.table) == spec.space.space.size == len(set(tiny.designs)) == 160
    for design in tiny.designs[::7]:
        told, known = precheck(design, spec) or evaluate(design, spec, requests), tiny.evaluation(design)
        assert (told.objectives, told.constraints, told.simulated) == (
            known.objectives,
            known.constraints,
            known.simulated,
        )
        row = tiny.table.iloc[tiny.row[design]]
        assert {name: row[name] for name in design} == dict(design)
    assert 0 < tiny.feasible.sum() < len(tiny.table)
    assert not tiny.simulated.all()


def test_front_of_a_solved_study_by_brute_force(tiny: Solved) -> None:
    points = losses(tiny.table[list(tiny.spec.objectives)].to_numpy(), tiny.spec.objectives)[tiny.feasible]
    kept = {tuple(p) for p in points if not any((q <= p).all() and (q < p).any() for q in points)}
    assert {tuple(p) for p in tiny.losses[tiny.front]} == kept
    assert tiny.share(tiny.front) == pytest.approx(1)
    assert tiny.share(np.flatnonzero(~tiny.feasible)) == 0


@pytest.mark.parametrize("name", ["random", "multi_agent"])
def test_searching_all_of_a_space_finds_all(tiny: Solved, name: str) -> None:
    every = int(tiny.simulated.sum())
    searched_all = run(name, tiny, 0, every)
    assert searched_all.simulated == every
    assert searched_all.shares[-1] == pytest.approx(1)
    assert (np.diff(searched_all.shares) >= 0).all()


def test_shares_one_by_one(tiny: Solved) -> None:
    rows = np.random.default_rng(0).permutation(np.flatnonzero(tiny.simulated))[:30].tolist()
    expected = [tiny.share(rows[: count + 1]) for count in range(30)]
    assert shares_of(rows, tiny, 32) == pytest.approx([*expected, expected[-1], expected[-1]])


def test_interval_covers() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(1.0, 1.0, 400), rng.normal(0.0, 1.0, 400)
    low, high = interval(first, second)
    # By theory 3.92 standard errors wide, each sqrt(2 / 400).
    assert high - low == pytest.approx(3.92 * math.sqrt(2 / 400), rel=0.1)
    assert low < first.mean() - second.mean() < high
