"""Short traces first: what is promoted is simulated first, and nothing is lost by it."""

from __future__ import annotations

from dse.rehearsal import promoted, rehearsed
from dse.spec import Rehearsal
from dse.study import run_study

from .conftest import small

PLAN = Rehearsal(requests=60, trials=30, promoted=12)
FINITE = {"accelerators": ["h100-sxm", "l40s"], "clients": [1, 2, 3], "tp": [1, 2], "layouts": ["colocated"]}


def test_a_rehearsal_is_the_same_study_on_fewer_requests() -> None:
    spec = small(budget={"trials": 40, "certified": 0.01})
    short = rehearsed(spec, PLAN)
    assert short.workload.requests == 60
    assert short.budget.trials == 30
    assert short.budget.certified is None
    assert rehearsed(spec, Rehearsal(requests=10**6)).workload.requests == spec.workload.requests
    assert (short.space, short.slos, short.objectives) == (spec.space, spec.slos, spec.objectives)


def test_whom_it_promotes_is_simulated_first() -> None:
    budget = {"trials": 40, "rehearsal": PLAN.model_dump()}
    chosen = promoted(run_study(rehearsed(small(), PLAN), jobs=1), PLAN)
    assert len(chosen) == PLAN.promoted
    heard: list[str] = []
    result = run_study(small(budget=budget), jobs=1, say=heard.append)
    assert [each.design for each in result.evaluations[: len(chosen)]] == list(chosen)
    assert len(result.simulated) == 40
    assert all(each.figures["requests"] == 300 for each in result.simulated)
    assert heard == ["rehearsed 30 designs on 60 requests; 12 are promoted"]


def test_the_front_comes_first_and_then_those_behind_it() -> None:
    result = run_study(rehearsed(small(), PLAN), jobs=1)
    chosen = promoted(result, PLAN)
    front = [each.design for each in result.front]
    assert set(chosen[: len(front)]) == set(front)


def test_what_falls_through_is_not_excluded() -> None:
    budget = {"certified": 0.0, "rehearsal": {"requests": 20, "trials": 5, "promoted": 2}}
    rehearsal = run_study(small(space=FINITE, budget=budget), jobs=1)
    plain = run_study(small(space=FINITE, budget={"certified": 0.0}), jobs=1)
    assert {each.objectives for each in rehearsal.front} == {each.objectives for each in plain.front}
    assert rehearsal.certificate is not None
    assert rehearsal.certificate.open == 0


def test_nothing_feasible_there_promotes_the_nearest() -> None:
    hard = [{"metric": "ttft", "percentile": 99, "limit_s": 1e-4}]
    result = run_study(rehearsed(small(slos=hard), PLAN), jobs=1)
    assert not result.feasible
    chosen = promoted(result, PLAN)
    assert 0 < len(chosen) <= PLAN.promoted
