"""Soft and hard promises, bounds on metrics, and several workloads at once."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dse.assessment import assess
from dse.evaluation import Evaluation, build_load, deployment_of, evaluate, precheck
from dse.spec import StudySpec
from search_spaces import Design
from simulator import Result, SpecError, catalog, simulate

from .conftest import SMALL, small

DOCS = Path(__file__).parents[2] / "docs" / "objectives.md"
DAY: dict[str, Any] = {**SMALL["workload"], "requests": 120}
NIGHT: dict[str, Any] = {**DAY, "seed": 5, "arrivals": {"process": "poisson", "rate_rps": 12}}
BOTH = [{"name": "day", "workload": DAY, "weight": 3}, {"name": "night", "workload": NIGHT}]
OBJECTIVES = ["usd_per_million_output_tokens", "e2e_p90_s", "output_tokens_per_s"]
TTFT = {"metric": "ttft", "percentile": 90, "limit_s": 0.05}


def without_workload(**changes: Any) -> StudySpec:
    """Return the small study with other keys, and without its one workload."""
    base = {key: value for key, value in SMALL.items() if key != "workload"}
    return StudySpec.parse({**base, "objectives": OBJECTIVES, **changes})


def designs(spec: StudySpec, count: int = 12) -> list[Design]:
    """Return designs from all over the space that can be simulated."""
    spread = itertools.islice(spec.space.space, 0, None, 97)
    return list(itertools.islice((d for d in spread if precheck(d, spec) is None), count))


def alone(workload: dict[str, Any], design: Design, **changes: Any) -> tuple[Evaluation, Result]:
    """Return what a study of one workload says of a design, and its simulation."""
    spec = small(workload=workload, objectives=OBJECTIVES, **changes)
    (requests,) = build_load(spec)
    return evaluate(design, spec, requests), simulate(deployment_of(design, spec), requests)


# --- soft and hard -----------------------------------------------------------------------------------------------


def test_a_soft_promise_makes_every_objective_worse_by_its_miss() -> None:
    hard = small(objectives=OBJECTIVES, slos=[TTFT])
    soft = small(objectives=OBJECTIVES, slos=[{**TTFT, "penalty": 0.5}])
    missed = 0
    for design in designs(hard):
        a, b = evaluate(design, hard, build_load(hard)), evaluate(design, soft, build_load(soft))
        result = simulate(deployment_of(design, hard), build_load(hard)[0])
        excess = result.percentile_s("ttft", 90) / 0.05 - 1
        factor = 1 + 0.5 * max(0.0, excess)
        usd, e2e, rate = a.objectives
        assert b.objectives == pytest.approx((usd * factor, e2e * factor, rate / factor), rel=1e-12)
        assert b.feasible
        assert a.feasible == (excess <= 0)
        assert b.figures == a.figures  # what is known is the same: without penalties
        assert b.figures["ttft_p90_s_excess"] == pytest.approx(excess)
        assert [b.figures[name] for name in OBJECTIVES] == list(a.objectives)
        missed += excess > 0
    assert 0 < missed < 12


def test_bounds_on_any_metric() -> None:
    free = small(objectives=OBJECTIVES, slos=[])
    first, *_ = designs(free)
    figures = evaluate(first, small(objectives=["power_mean_w", "utilisation_mean"]), build_load(free)).figures
    watts, busy = figures["power_mean_w"], figures["utilisation_mean"]

    def held(**bound: Any) -> Evaluation:
        return evaluate(first, small(objectives=OBJECTIVES, slos=[], constraints=[bound]), build_load(free))

    assert held(metric="power_mean_w", at_most=watts * 1.01).feasible
    over = held(metric="power_mean_w", at_most=watts / 1.25)
    assert over.constraints == {"power_mean_w_at_most": pytest.approx(0.25 / 1.25)}  # v / (1 + v)
    assert over.figures["power_mean_w_at_most_excess"] == pytest.approx(0.25)
    assert held(metric="utilisation_mean", at_least=busy * 0.99).feasible
    under = held(metric="utilisation_mean", at_least=busy * 2)
    assert under.figures["utilisation_mean_at_least_excess"] == pytest.approx(0.5)
    assert not under.feasible
    soft = held(metric="utilisation_mean", at_least=busy * 2, penalty=3.0)
    assert soft.feasible
    assert soft.objectives[0] == pytest.approx(under.objectives[0] * 2.5)


def test_power_limit_forbids_before_simulation() -> None:
    spec = small(limits={"power_kw": 2.0})
    seen = set()
    for design in itertools.islice(spec.space.space, 0, None, 41):
        try:
            deployment = deployment_of(design, spec)
        except ValueError:
            continue
        pools = deployment.pools
        kw = sum(pool.accelerators * catalog.accelerator(pool.accelerator).tdp_w for pool in pools) / 1e3
        found = precheck(design, spec)
        assert (found is not None and "power_kw" in found.constraints) == (kw > 2.0)
        if found and kw > 2.0:
            assert found.constraints["power_kw"] == pytest.approx(len(spec.slos) + 1 + kw / 2 - 1)
            assert found.reason == f"{kw:.2f} kW of TDP, 2 allowed"
        seen.add(kw > 2.0)
    assert seen == {False, True}


FIGURE = st.floats(1e-6, 1e6)


@given(
    st.lists(st.tuples(FIGURE, FIGURE), min_size=2, max_size=2), FIGURE, FIGURE, st.sampled_from(["worst", "weighted"])
)
def test_a_penalty_is_never_a_gain(
    values: list[tuple[float, float]], limit: float, penalty: float, robust: str
) -> None:
    """So a bound on each objective is a bound on the penalised one, over one workload and over several."""
    names = ["usd_per_hour", "output_tokens_per_s"]
    bound = {"metric": "usd_per_hour", "at_most": limit}
    specs = [
        without_workload(workloads=BOTH, robust=robust, objectives=names, slos=[], constraints=[{**bound, **extra}])
        for extra in ({}, {"penalty": penalty})
    ]
    figures = [dict(zip(names, pair, strict=True)) for pair in values]
    hard, soft = (assess(figures, spec) for spec in specs)
    assert soft.objectives[0] >= hard.objectives[0] * (1 - 1e-12)
    assert soft.objectives[1] <= hard.objectives[1] * (1 + 1e-12)
    assert not soft.constraints
    assert (hard.constraints["usd_per_hour_at_most"] > 0) == any(usd > limit for usd, _ in values)


def test_rejected_requests_stay_infeasible_under_soft_promises() -> None:
    spec = small(objectives=["usd_per_hour", "output_tokens_per_s"], slos=[{**TTFT, "penalty": 1.0}])
    found = assess([{"usd_per_hour": 3.0, "output_tokens_per_s": 9.0, "ttft_p90_s_excess": math.inf}], spec)
    assert found.constraints == {"finite": 1.0}
    assert found.objectives == (math.inf, -math.inf)


# --- several workloads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("robust", ["worst", "weighted"])
def test_several_workloads_against_each_alone(robust: str) -> None:
    limits = [{**TTFT, "limit_s": 0.09}]
    spec = without_workload(workloads=BOTH, robust=robust, slos=limits)
    outcomes = set()
    for design in designs(spec):
        found = evaluate(design, spec, build_load(spec))
        (day, _), (night, _) = alone(DAY, design, slos=limits), alone(NIGHT, design, slos=limits)
        pairs = list(zip(day.objectives, night.objectives, strict=True))
        if robust == "worst":
            expected = (max(pairs[0]), max(pairs[1]), min(pairs[2]))
        else:
            expected = tuple(0.75 * a + 0.25 * b for a, b in pairs)  # type: ignore[assignment]
        assert found.objectives == pytest.approx(expected, rel=1e-12)
        assert found.feasible == (day.feasible and night.feasible)
        outcomes.add((day.feasible, night.feasible))
        for name in ("day", "night"):
            single = {"day": day, "night": night}[name]
            assert {key: found.figures[f"{name}.{key}"] for key in single.figures} == single.figures
        assert found.figures["ttft_p90_s_excess"] == max(e.figures["ttft_p90_s_excess"] for e in (day, night))
        assert found.figures["accelerators"] == day.figures["accelerators"]
        assert Evaluation.from_json(found.to_json()) == found
    assert (True, False) in outcomes  # else nothing says that promises must hold in both


def test_penalties_count_where_the_promise_is_missed() -> None:
    promise = [{**TTFT, "limit_s": 0.09, "penalty": 4.0}]
    spec = without_workload(workloads=BOTH, robust="weighted", slos=promise)
    apart = 0
    for design in designs(spec):
        found = evaluate(design, spec, build_load(spec))
        (day, _), (night, _) = alone(DAY, design, slos=promise), alone(NIGHT, design, slos=promise)
        assert found.objectives[1] == pytest.approx(0.75 * day.objectives[1] + 0.25 * night.objectives[1], rel=1e-12)
        apart += day.figures["ttft_p90_s_excess"] <= 0 < night.figures["ttft_p90_s_excess"]
    assert apart


def test_one_of_several_is_as_one() -> None:
    one = without_workload(workloads=[{"name": "day", "workload": DAY}])
    design = designs(one)[0]
    found, _ = alone(DAY, design)
    again = evaluate(design, one, build_load(one))
    assert (again.objectives, again.figures) == (found.objectives, found.figures)
    assert one.workload == one.cases[0].workload


def test_a_study_of_several_workloads_can_be_written_and_read() -> None:
    spec = without_workload(workloads=BOTH)
    data = spec.model_dump(mode="json", exclude_none=True)
    assert "workload" not in data
    assert StudySpec.parse(data) == spec == StudySpec.parse(yaml.safe_load(spec.to_yaml()))
    assert [case.name for case in spec.cases] == ["day", "night"]
    assert spec.workload == spec.cases[0].workload
    only = small()
    assert "workload" in only.model_dump()
    assert [case.workload for case in only.cases] == [only.workload]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "workload: missing; give workload, or workloads"),
        ({"workloads": BOTH, "workload": NIGHT}, "give either workload, or workloads"),
        ({"workloads": [BOTH[0], BOTH[0]]}, "names must differ, given day, day"),
        ({"workloads": [{**BOTH[0], "name": "Day"}]}, "workloads.0.name"),
        ({"workloads": [{**BOTH[0], "weight": 0}]}, "workloads.0.weight"),
        (
            {
                "workloads": [
                    BOTH[0],
                    {
                        "name": "rag",
                        "workload": {
                            **DAY,
                            "pipeline": [{"kind": "embed", "model": "bge-large-en"}, "prefill", "decode"],
                        },
                    },
                ]
            },
            "workloads: all must have the same stages, but day has llm and rag has embed, llm",
        ),
        ({"workloads": BOTH, "objectives": ["session_p90_s"]}, "session_p90_s: the workload has no sessions"),
        (
            {"workload": DAY, "constraints": [{"metric": "accelerators"}]},
            "accelerators: give either at_most or at_least",
        ),
        (
            {"workload": DAY, "constraints": [{"metric": "accelerators", "at_most": 3, "at_least": 1}]},
            "accelerators: give either at_most or at_least",
        ),
        ({"workload": DAY, "constraints": [{"metric": "cost", "at_most": 3}]}, "no metric 'cost'; known: usd_per_hour"),
        (
            {"workload": DAY, "constraints": [{"metric": "accelerators", "at_most": n} for n in (3, 4)]},
            "one bound for each metric and side",
        ),
        ({"workload": DAY, "slos": [{**TTFT, "penalty": 0}]}, "slos.0.penalty"),
        ({"workload": DAY, "slos": [], "objectives": ["slo_attainment"]}, "slo_attainment: .* the study has none"),
        ({"workload": DAY, "sampler": "magic"}, "multi_agent"),
        ({"workload": DAY, "budget": {"certified": 1.0}}, "budget.certified"),
        ({"workload": DAY, "limits": {"power_kw": 0}}, "limits.power_kw"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message.replace("(", r"\(")) as error:
        without_workload(**changes)
    assert "\n" not in str(error.value)


def test_different_services_of_one_name_are_refused() -> None:
    def rag(model: str) -> dict[str, Any]:
        return {**DAY, "pipeline": [{"kind": "embed", "model": model}, "prefill", "decode"]}

    workloads = [{"name": name, "workload": rag(f"bge-{name}-en")} for name in ("large", "base")]
    with pytest.raises(SpecError, match="stage 'embed' is not the same in large and base"):
        without_workload(workloads=workloads, services=[{"stage": "embed", "device": "l4"}])


def test_examples_in_the_docs_are_valid() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    promises, several = (yaml.safe_load(block) for block in blocks)
    spec = small(**promises)
    assert [each.penalty for each in spec.promises] == [None, 2.0, None, 5.0]
    assert without_workload(**several).robust == "weighted"


def test_warm_starts_and_budget_are_read() -> None:
    spec = small(start=["runs/chat", "mine.yaml"], budget={"certified": 0.01}, sampler="tpe+nsga2")
    assert spec.start == (Path("runs/chat"), Path("mine.yaml"))
    assert spec.budget.certified == 0.01
    assert StudySpec.parse(spec.model_dump(mode="json", exclude_none=True)) == spec
