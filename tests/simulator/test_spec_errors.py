"""What is wrong with a specification, in parts: field, message and what was given."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from dse.patience import CutOff
from dse.spec import StudySpec
from simulator import Deployment, Overload, SpecError, Workload
from simulator.errors import Problem
from simulator.performance.memory import DoesNotFit
from simulator.spec.base import MOST_PROBLEMS

POOL = {"model": "llama-3.1-8b", "accelerator": "h100-sxm"}
LENGTHS = {
    "prompt": {"distribution": "constant", "tokens": 5},
    "output": {"distribution": "constant", "tokens": 5},
}
LOAD: dict[str, Any] = {"arrivals": {"process": "poisson", "rate_rps": 2.0}, "lengths": LENGTHS}
STUDY = {
    "name": "s",
    "model": "llama-3.1-8b",
    "workload": LOAD,
    "space": {"accelerators": ["h100-sxm"], "clients": [1, 2]},
    "objectives": ["usd_per_hour"],
}


def problems_of(spec: Any, data: object) -> tuple[Problem, ...]:
    with pytest.raises(SpecError) as caught:
        spec.parse(data)
    problems: tuple[Problem, ...] = caught.value.problems
    return problems


def test_every_field_at_fault_is_a_problem_of_its_own() -> None:
    data = {"pools": [{**POOL, "clients": 0, "tp": "8"}], "routerr": 1}
    problems = problems_of(Deployment, data)
    assert [(each.field, each.given) for each in problems] == [
        ("pools.0.clients", "0"),
        ("pools.0.tp", "'8'"),
        ("routerr", "1"),
    ]
    assert "unknown key; allowed here: " in problems[2].message


def test_the_line_is_made_of_the_problems() -> None:
    with pytest.raises(SpecError) as caught:
        Deployment.parse({"pools": [{**POOL, "clients": 0, "tp": "8"}]}, source="d.yaml")
    parts = [f"{each.field}: {each.message}, given {each.given}" for each in caught.value.problems]
    assert str(caught.value) == "d.yaml: " + "; ".join(parts)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({**LOAD, "arrivals": {"process": "poisson", "rate_rps": -1}}, "arrivals.rate_rps"),
        ({**LOAD, "arrivals": {"process": "poisson"}}, "arrivals.rate_rps"),
        ({**LOAD, "arrivals": {"process": "nothing"}}, "arrivals"),
        (
            {**LOAD, "lengths": {**LENGTHS, "prompt": {"distribution": "constant", "tokens": 0}}},
            "lengths.prompt.tokens",
        ),
        ({**LOAD, "session": {"turns": 1_000_000, "prompt_tokens": 1}}, "session.turns"),
        ({**LOAD, "pipeline": [{"kind": "guard", "applies_to": "x"}, "prefill", "decode"]}, "pipeline.0.applies_to"),
        ({**LOAD, "requests": 0}, "requests"),
        ({"arrivals": LOAD["arrivals"]}, ""),
        ({**LOAD, "pipeline": ["decode"]}, "pipeline"),
        ([], ""),
        (None, ""),
    ],
)
def test_a_field_is_the_place_in_the_document_without_tags_of_unions(data: object, field: str) -> None:
    (problem,) = problems_of(Workload, data)
    assert problem.field == field


def test_where_a_whole_names_its_field_that_field_is_at_fault() -> None:
    (problem,) = problems_of(StudySpec, {**STUDY, "objectives": ["usd_per_hour", "usd_per_hour"]})
    assert problem == Problem("objectives", "must differ, given usd_per_hour, usd_per_hour")
    (problem,) = problems_of(StudySpec, {**STUDY, "space": {**STUDY["space"], "prefix_writes": ["back"]}})  # type: ignore[dict-item]
    assert problem.field == "space.prefix_writes"


def test_keys_of_mappings_stay_in_the_field() -> None:
    space = {"accelerators": ["h100-sxm"], "clients": {"low": 1, "high": 0}, "links": {"fast.one": {"gb_per_s": -1}}}
    fields = {each.field for each in problems_of(StudySpec, {**STUDY, "space": space})}
    assert {"space.links.fast.one.gb_per_s", "space.clients"} <= fields


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("arrivals: too long", Problem("arrivals", "too long")),
        ("workload.trace: too long: or so", Problem("workload.trace", "too long: or so")),
        ("my trace: too long", Problem("", "my trace: too long")),
        ("t.csv: too long", Problem("", "t.csv: too long")),
        ("/a/b: too long", Problem("", "/a/b: too long")),
        ("too long", Problem("", "too long")),
    ],
)
def test_other_errors_have_one_problem(message: str, problem: Problem) -> None:
    assert SpecError(message).problems == (problem,)


@pytest.mark.parametrize(
    "error",
    [
        SpecError("a: b\nc"),
        SpecError("a", [Problem("x", "y", "z"), Problem("", "w")]),
        DoesNotFit("main: too large", 1.5, 2.5),
        Overload("too much"),
        CutOff("not now"),
    ],
)
def test_errors_survive_pickling_and_copying(error: SpecError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert again.problems == error.problems
        assert vars(again) == vars(error)


def _fails() -> None:
    raise DoesNotFit("main: too large", 1.5, 2.5)


def test_errors_come_back_from_other_processes() -> None:
    from joblib import Parallel, delayed

    with pytest.raises(DoesNotFit, match="main: too large") as caught:
        Parallel(n_jobs=2)(delayed(_fails)() for _ in range(2))
    assert caught.value.shortage_bytes == 1.5


def test_a_long_list_of_faults_is_cut_off() -> None:
    with pytest.raises(SpecError, match=r"; and 850 more$") as caught:
        Deployment.parse({"pools": [{**POOL, "clients": 0}] * 900})
    assert len(caught.value.problems) == MOST_PROBLEMS


def test_long_values_are_cut_off() -> None:
    with pytest.raises(SpecError) as caught:
        Workload.parse({**LOAD, "requests": "x" * 9_000})
    assert len(str(caught.value)) < 1000
    assert "(9,002 characters)" in str(caught.value)
