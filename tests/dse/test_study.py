"""The study loop: the same whatever the processes, nothing twice, nothing lost."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import optuna
import pytest

from dse.evaluation import Evaluation, precheck
from dse.execution import Workers
from dse.output import to_json
from dse.report import render_report
from dse.result import StudyResult
from dse.spec import StudySpec
from dse.study import run_study
from search_spaces import to_deployment
from simulator import SpecError, simulate

from .conftest import small


def record(result: StudyResult) -> list[object]:
    """Everything about the trials, in their order, that does not depend on the clock."""
    return [{**e.to_json(), "cpu_s": 0} for e in result.evaluations]


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return run_study(small(), jobs=1)


def test_jobs_do_not_matter(result: StudyResult) -> None:
    for jobs in (2, 3):
        other = run_study(small(), jobs=jobs)
        assert record(other) == record(result)
        assert [e.design for e in other.front] == [e.design for e in result.front]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_other_samplers_are_reproducible_too(sampler: str) -> None:
    spec = small(sampler=sampler, budget={"trials": 25})
    assert record(run_study(spec, jobs=1)) == record(run_study(spec, jobs=2))


def test_seeds_matter() -> None:
    one, other = (run_study(small(seed=seed, sampler="nsga2"), jobs=1) for seed in (0, 1))
    assert record(one) != record(other)


def test_budget_counts_distinct_simulated_designs(result: StudyResult) -> None:
    assert len(result.simulated) == 60
    designs = [e.design for e in result.evaluations]
    assert len(set(designs)) == len(designs)


def test_evaluations_are_what_the_simulator_says(result: StudyResult) -> None:
    evaluation = result.simulated[-1]
    again = simulate(to_deployment(evaluation.design, "llama-3.1-8b"), result.requests)
    assert evaluation.objectives == (again.usd_per_hour, again.percentile_s("e2e", 90))
    kept = all(again.violation(slo) <= 0 for slo in result.spec.slos)
    assert evaluation.feasible == kept


def test_front_against_brute_force(result: StudyResult) -> None:
    def beats(a: Evaluation, b: Evaluation) -> bool:
        pairs = list(zip(a.objectives, b.objectives, strict=True))
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    best = {e.objectives for e in result.feasible if not any(beats(o, e) for o in result.feasible)}
    assert {e.objectives for e in result.front} == best
    assert result.recommended in result.front
    assert (result.hypervolume[1:] >= result.hypervolume[:-1]).all()


def test_exhausted_space_ends_early() -> None:
    tiny = {"accelerators": ["h100-sxm"], "clients": [1, 2], "tp": [1], "layouts": ["colocated"]}
    spec = small(space={**tiny, "policies": ["chunked"], "token_budgets_tokens": [512], "max_batches_requests": [256]})
    result = run_study(spec, jobs=1)
    assert len(result.evaluations) == spec.space.space.size == 6


def test_single_value_space_of_one_design() -> None:
    tiny = {
        "accelerators": ["h100-sxm"],
        "clients": [1],
        "tp": [1],
        "layouts": ["colocated"],
        "routers": ["round_robin"],
    }
    spec = small(space={**tiny, "policies": ["chunked"], "token_budgets_tokens": [512], "max_batches_requests": [256]})
    assert len(run_study(spec, jobs=1).front) == 1


def test_impossible_designs_are_told_with_how_far(spec: StudySpec) -> None:
    """Optuna hears of designs beyond memory or budget as infeasible, the worse the further away, without simulation."""
    spec = StudySpec.parse({**spec.model_dump(mode="json", exclude_none=True), "model": "llama-3.1-70b"})
    by_kind: dict[str, list[tuple[float, float]]] = {}
    for design in itertools.islice(spec.space.space, 0, None, 7):
        evaluation = precheck(design, spec)
        if evaluation is None:
            continue
        assert not evaluation.feasible
        assert not evaluation.simulated
        assert evaluation.reason
        deployment = to_deployment(design, spec.model)
        (kind, violation), *rest = evaluation.constraints.items()
        assert not rest
        assert violation > len(spec.slos)  # worse than any simulated design that misses its SLOs
        by_kind.setdefault(kind, []).append((deployment.accelerators, violation))
    assert {"accelerators", "memory"} <= by_kind.keys()
    ordered = sorted(by_kind["accelerators"])
    assert [v for _, v in ordered] == sorted(v for _, v in ordered)


def test_journal_is_an_optuna_study(tmp_path: Path) -> None:
    path = tmp_path / "trials.journal"
    result = run_study(small(budget={"trials": 20}), jobs=1, journal=path)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.load_study(study_name="small", storage=storage)
    assert len(study.trials) == len(result.evaluations)
    front = {tuple(trial.values) for trial in study.best_trials}
    assert front == {e.objectives for e in result.front}


def test_resume_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "trials.journal"
    first = run_study(small(budget={"trials": 20}), jobs=1, journal=path)
    second = run_study(small(budget={"trials": 50}), jobs=2, journal=path)
    assert len(second.simulated) == 50
    assert record(first) == [r for r in record(second) if r in record(first)]
    third = run_study(small(budget={"trials": 50}), jobs=1, journal=path)
    assert record(third) == record(second)


def test_the_order_in_which_evaluations_finish_does_not_matter(
    result: StudyResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Workers.submit
    monkeypatch.setattr(Workers, "submit", lambda self, designs: reversed(list(submit(self, designs))))
    other = run_study(small(), jobs=2)
    assert record(other) == record(result)
    assert other.front_table.equals(result.front_table)


def test_objectives_without_a_finite_value_are_infeasible() -> None:
    """Answers of one token have no time per output token; requests that fit nowhere have no latency at all."""
    one = {"distribution": "constant", "tokens": 1}
    lengths = {"prompt": {"distribution": "constant", "tokens": 100}, "output": one}
    workload = {"requests": 20, "arrivals": {"process": "poisson", "rate_rps": 4}, "lengths": lengths}
    result = run_study(small(workload=workload, objectives=["tpot_p90_s"], slos=[], budget={"trials": 5}), jobs=1)
    assert not result.front
    assert all(e.constraints == {"finite": 1.0} for e in result.simulated)
    json.dumps(to_json(result), allow_nan=False)
    assert "<html" in render_report(result)


def test_nothing_simulated_is_a_result_too() -> None:
    result = run_study(small(limits={"usd_per_hour": 0.001}), jobs=1)
    assert not result.simulated
    assert result.front_table.empty
    assert not result.trials.empty
    assert "<html" in render_report(result)


def test_journal_of_another_study_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.journal"
    run_study(small(budget={"trials": 5}), jobs=1, journal=path)
    with pytest.raises(SpecError, match="different 'small' study"):
        run_study(small(model="qwen3-14b"), jobs=1, journal=path)
    garbage = tmp_path / "garbage.journal"
    garbage.write_text("this is no journal\n")
    with pytest.raises(SpecError, match="not a journal"):
        run_study(small(), jobs=1, journal=garbage)


def test_cut_off_journal_loses_only_the_last_line(tmp_path: Path) -> None:
    """A process killed while it writes leaves half a line; everything before it counts."""
    path = tmp_path / "trials.journal"
    run_study(small(budget={"trials": 10}), jobs=1, journal=path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    assert len(run_study(small(budget={"trials": 20}), jobs=1, journal=path).simulated) == 20


def test_evaluation_round_trip(result: StudyResult) -> None:
    for evaluation in result.evaluations:
        assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation


def test_infeasible_study_has_no_front() -> None:
    spec = small(slos=[{"metric": "ttft", "percentile": 99, "limit_s": 1e-6}], budget={"trials": 10})
    result = run_study(spec, jobs=1)
    assert not result.front
    assert result.recommended is None
    assert not result.hypervolume.any()
