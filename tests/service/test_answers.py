"""What the service says of trials, against results, tables and simulations made without it."""

from __future__ import annotations

import io
import json
import math
import random
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from dse.certificate.ledger import Status
from dse.evaluation import Evaluation, build_load, deployment_of, evaluate, precheck
from dse.output import to_json
from dse.report.waterfall import waterfall
from dse.repricing import Prices
from dse.result import StudyResult
from dse.service.answers.comparison import compare, explain
from dse.service.answers.detail import detail
from dse.service.answers.exports import MEDIA_TYPES, export, report_html, result_with
from dse.service.answers.front import steps
from dse.service.answers.records import WhatIf
from dse.service.answers.simulation import BINS, simulation
from dse.service.answers.study_view import StudyView
from dse.service.answers.what_if import MOST_DESIGNS, candidates, what_if, what_if_at_rate
from dse.spec import StudySpec
from dse.study import run_study
from dse.understanding.prices import repriced
from dse.understanding.rates import load_at
from simulator import Deployment, SpecError, catalog, simulate
from simulator.performance.engine_defaults import resolved
from simulator.timeline import series

from ..dse.conftest import SMALL, small
from ..dse.random_pairs import random_pairs

DAY: dict[str, Any] = {**SMALL["workload"], "requests": 100}
NIGHT: dict[str, Any] = {**DAY, "seed": 5, "arrivals": {"process": "poisson", "rate_rps": 12}}
WITHOUT_WORKLOAD = {name: value for name, value in SMALL.items() if name != "workload"}


def several() -> StudySpec:
    """Return a study of two workloads, with a soft promise and bounds on both sides."""
    return StudySpec.parse(
        {
            **WITHOUT_WORKLOAD,
            "workloads": [{"name": "day", "workload": DAY}, {"name": "night", "workload": NIGHT}],
            "slos": [{"metric": "ttft", "percentile": 95, "limit_s": 0.4}, {**SMALL["slos"][1], "penalty": 0.5}],
            "constraints": [
                {"metric": "usd_per_hour", "at_most": 9.0},
                {"metric": "output_tokens_per_s", "at_least": 400.0},
            ],
        }
    )


# Proposed at random: quick, and some are excluded before simulation.
STUDIES: dict[str, StudySpec] = {
    "two": small(),
    "one": small(objectives=["usd_per_hour"]),
    "three": small(objectives=["usd_per_million_output_tokens", "e2e_p90_s", "output_tokens_per_s"]),
    "robust": several(),
    "infeasible": small(slos=[{"metric": "ttft", "percentile": 90, "limit_s": 1e-6}]),
    "excluded": small(limits={"accelerators": 3}),
}


def studied(spec: StudySpec, trials: int = 60) -> StudyResult:
    budget = spec.budget.model_copy(update={"trials": trials})
    return run_study(spec.model_copy(update={"sampler": "random", "budget": budget}), jobs=1, backend="sequential")


@pytest.fixture(scope="module")
def results() -> dict[str, StudyResult]:
    return {name: studied(spec) for name, spec in STUDIES.items()}


@pytest.fixture(scope="module")
def views(results: dict[str, StudyResult]) -> dict[str, StudyView]:
    return {name: view_of(result) for name, result in results.items()}


@pytest.fixture(params=list(STUDIES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def stored(result: StudyResult) -> list[dict[str, Any]]:
    """Return trials as they come out of the database: through JSON."""
    found: list[dict[str, Any]] = json.loads(json.dumps([each.to_json() for each in result.evaluations]))
    return found


def view_of(result: StudyResult) -> StudyView:
    view = StudyView(result.spec)
    view.add(stored(result))
    return view


def sendable(answer: BaseModel) -> dict[str, Any]:
    """Check that an answer is JSON without NaN and infinity, and that it reads back the same."""
    text = answer.model_dump_json()
    assert type(answer).model_validate_json(text) == answer
    data: dict[str, Any] = answer.model_dump()
    assert json.loads(json.dumps(data, allow_nan=False)) == json.loads(text)
    return data


# --- view and front ----------------------------------------------------------------------------------------------


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 30))
@pytest.mark.parametrize("study", list(STUDIES))
def test_the_front_grows_to_that_of_the_result(
    results: dict[str, StudyResult], study: str, seed: int, size: int
) -> None:
    result, source = results[study], random.Random(seed)
    trials = stored(result)
    source.shuffle(trials)
    view, sofar = StudyView(result.spec), list[dict[str, Any]]()
    for start in range(0, len(trials), size):
        batch = [*trials[start : start + size], *source.sample(sofar, min(2, len(sofar)))]
        added = view.add(batch)
        sofar += trials[start : start + size]
        assert added == list(range(start, len(sofar)))
        assert [view.evaluations[place].to_json() for place in added] == trials[start : start + size]
    known = sorted((Evaluation.from_json(each) for each in sofar), key=lambda each: each.number)
    whole = StudyResult(result.spec, tuple(known), result.load, result.clock)
    update = view.front_update()
    assert update.front == [each.number for each in whole.front]
    assert update.recommended == (whole.recommended.number if whole.recommended else None)
    assert (update.evaluated, update.simulated, update.feasible) == (
        len(result.evaluations),
        len(result.simulated),
        len(result.feasible),
    )
    assert view.result().evaluations == result.evaluations


def test_the_front_is_right_after_every_batch(results: dict[str, StudyResult]) -> None:
    trials, result = stored(results["three"]), results["three"]
    view = StudyView(result.spec)
    for count, each in enumerate(trials, 1):
        view.add([each])
        whole = StudyResult(result.spec, result.evaluations[:count], result.load, result.clock)
        assert view.front_update().front == [one.number for one in whole.front]


def test_trials_say_what_the_table_says(
    results: dict[str, StudyResult], views: dict[str, StudyView], name: str
) -> None:
    result, view = results[name], views[name]
    table = result.trials
    for evaluation, (_, row) in zip(result.evaluations, table.iterrows(), strict=True):
        trial = view.trial(view.by_number(evaluation.number))
        assert trial.number == evaluation.number
        sendable(trial)
        assert trial.label
        assert {choice: row[choice] for choice in trial.design} == trial.design
        assert (trial.simulated, trial.feasible) == (row["simulated"], row["feasible"])
        if trial.simulated:
            assert trial.objectives == [value if math.isfinite(value) else None for value in evaluation.objectives]
            if all(each.penalty is None for each in result.spec.promises):
                expected = [row[objective] for objective in result.spec.objectives]
                assert trial.objectives == expected or not np.isfinite(expected).all()
            assert trial.reason == ""
        else:
            assert trial.objectives == [None] * len(result.spec.objectives)
            assert trial.reason == row["reason"] != ""
        assert bool(trial.broken) == (not trial.feasible)


def test_the_front_as_it_is_told(results: dict[str, StudyResult], views: dict[str, StudyView], name: str) -> None:
    result, view = results[name], views[name]
    front = view.front()
    sendable(front)
    assert [trial.number for trial in front.trials] == view.front_update().front
    assert all(trial.feasible for trial in front.trials)
    assert [each.name for each in front.objectives] == list(result.spec.objectives)
    assert [each.direction for each in front.objectives][:1] == ["minimize"]
    shares = result.hypervolume
    if len(shares):
        assert front.hypervolume[-1].share == shares[-1]
        for point in front.hypervolume:
            assert point.share == shares[point.simulated - 1]
    assert bool(front.caveat) == any("l40s" in str(each.design) or "a10g" in str(each.design) for each in result.front)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=500))
def test_steps_of_the_hypervolume(rises: list[float]) -> None:
    shares = np.cumsum([rise * (rise > 0.5) for rise in rises])
    told = steps(shares)
    assert len(told) <= 200
    assert told[-1].simulated == len(shares)
    assert [point.share for point in told] == [shares[point.simulated - 1] for point in told]
    if np.count_nonzero(shares) and (np.diff(shares, prepend=0) > 0).sum() < 200:
        assert {point.share for point in told} == set(shares[shares > 0]) | {shares[-1]}


def test_an_unknown_trial_has_no_answer(views: dict[str, StudyView]) -> None:
    for ask in (views["two"].by_number, lambda number: detail(views["two"], number)):
        with pytest.raises(KeyError):
            ask(10**9)


def test_a_contradictory_design_still_has_a_label() -> None:
    spec = small(space={**SMALL["space"], "token_budgets_tokens": [64], "max_batches_requests": [256]})
    checked = (precheck(design, spec) for design in spec.space.space)
    found = next(each for each in checked if each is not None and "possible" in each.constraints)
    view = StudyView(spec)
    view.add([found.to_json() | {"number": 0}])
    told = detail(view, 0)
    sendable(told)
    assert "h100-sxm" in told.label
    assert told.deployment is None
    assert told.drawing == ""
    assert told.sentence == told.reason != ""


# --- one trial ---------------------------------------------------------------------------------------------------


def test_details_are_those_of_a_simulation(
    results: dict[str, StudyResult], views: dict[str, StudyView], name: str
) -> None:
    result, view = results[name], views[name]
    for evaluation in result.evaluations[:15]:
        told = detail(view, evaluation.number)
        sendable(told)
        assert told.drawing.startswith("<svg")
        assert told.on_front == (evaluation in result.front)
        assert told.recommended == (evaluation is result.recommended)
        assert told.deployment is not None
        # Read back, it is the same system with every default written out.
        read = Deployment.parse(told.deployment)
        assert resolved(read) == resolved(result.deployment(evaluation)) == read
        figures = {each.name: each.value for each in told.figures}
        if not evaluation.simulated:
            assert figures == {}
            assert told.slos == []
            continue
        runs = [simulate(read, load, plan=result.spec.workload.plan) for load in result.load]
        for case, run in zip(result.spec.cases, runs, strict=True):
            prefix = f"{case.name}." if len(runs) > 1 else ""
            for figure, value in run.summary().items():
                assert figures[f"{prefix}{figure}"] == (value if math.isfinite(value) else None)
        for slo, check in zip(result.spec.slos, told.slos, strict=False):
            reached = max(run.percentile_s(slo.metric, slo.percentile) for run in runs)
            assert check.value == (pytest.approx(reached) if math.isfinite(reached) else None)
            assert check.holds == all(run.violation(slo) <= 0 for run in runs)
            assert (check.limit, check.soft) == (slo.limit_s, slo.penalty is not None)
        for bound, check in zip(result.spec.constraints, told.slos[len(result.spec.slos) :], strict=True):
            values = [run.summary()[bound.metric] for run in runs]
            worst = min(values) if bound.at_most is None else max(values)
            assert check.value == pytest.approx(worst)
            assert check.holds == (bound.excess(worst) <= 0)


def test_without_a_latency_there_is_no_value() -> None:
    """Answers of one token have no time per output token: the promise is kept, and has no value."""
    lengths = {
        "prompt": {"distribution": "constant", "tokens": 100},
        "output": {"distribution": "constant", "tokens": 1},
    }
    spec = small(
        workload={**SMALL["workload"], "lengths": lengths},
        slos=[{"metric": "tpot", "percentile": 90, "limit_s": 0.5}],
        objectives=["usd_per_hour", "ttft_p90_s"],
    )
    result = studied(spec, 5)
    view = view_of(result)
    number = view.front_update().front[0]
    told = detail(view, number)
    assert told.slos[0].holds
    assert told.slos[0].value is None
    assert told.slos[0].value_said == "–"
    first, second = view.front_update().front[0], result.simulated[-1].number
    again = simulation(spec, view.by_number(number).to_json())
    for answer in (told, view.front(), compare(view, first, second), again):
        sendable(answer)
    assert "tpot" not in {each.metric for each in again.latencies}
    for file in MEDIA_TYPES:
        assert export(view, file)[0]


@pytest.mark.parametrize("study", ["two", "robust"])
def test_a_simulation_in_full(results: dict[str, StudyResult], study: str) -> None:
    result = results[study]
    best = result.recommended
    assert best
    case = len(result.load) - 1
    told = simulation(result.spec, json.loads(json.dumps(best.to_json())), case)
    sendable(told)
    plain = result.simulate(best, case)
    assert told.bottleneck == plain.bottleneck
    assert {each.metric for each in told.latencies} == {"ttft", "tpot", "itl", "e2e"}
    for curve in told.latencies:
        for percent in (50.0, 90.0, 99.0):
            there = curve.seconds[curve.percent.index(percent)]
            assert there == pytest.approx(plain.percentile_s(curve.metric, percent), rel=1e-4)  # type: ignore[arg-type]
        limits = [slo for slo in result.spec.slos if slo.metric == curve.metric]
        assert [limit["limit_s"] for limit in curve.limits] == [slo.limit_s for slo in limits]
    logged = series(simulate(result.deployment(best), result.load[case], log=True), BINS)
    assert told.time_s == pytest.approx(list(logged.index), rel=1e-4, abs=1e-9)
    assert len(told.time_s) <= 200
    for each in told.series:
        expected = logged[f"{each.part}/{each.name}"].to_numpy()
        given = np.array([math.nan if value is None else value for value in each.model_dump()["values"]])
        assert given == pytest.approx(expected, rel=1e-4, nan_ok=True)
    assert [use.name for use in told.uses] == [pool.name for pool in plain.deployment.pools]
    busy = next(share for share in told.uses[0].shares if share.name == "busy")
    assert busy.value == plain.pools[0].busy


def test_only_what_was_simulated_is_simulated_again(results: dict[str, StudyResult]) -> None:
    result = results["excluded"]
    left = next(each for each in result.evaluations if not each.simulated)
    with pytest.raises(SpecError, match="was not simulated"):
        simulation(result.spec, left.to_json())
    with pytest.raises(SpecError, match="case: given 1"):
        simulation(result.spec, result.simulated[0].to_json(), 1)


@pytest.mark.parametrize("seed", range(6))
def test_the_waterfall_adds_up(seed: int) -> None:
    """Over random pipelines, cascades and pools, with rejected and evicted requests: all of the time, nothing twice."""
    for pair in islice(random_pairs(1000 * seed, per_workload=2), 10):
        result, frame = pair.result, pair.result.requests()
        e2e = frame["e2e_s"][frame["served"]].dropna()
        bars = waterfall(result)
        if not len(e2e):
            assert bars == []
            continue
        assert sum(bar.mean_s for bar in bars) == pytest.approx(e2e.mean(), rel=1e-9)
        assert all(bar.mean_s > 0 and 0 <= bar.waiting_mean_s <= bar.mean_s * (1 + 1e-9) for bar in bars)
        by_name = {bar.stage: bar for bar in bars}
        served = frame[frame["served"]]
        for stage in pair.plan.stages:
            if f"{stage}_queue_s" not in frame:
                continue
            queue, service = (served[f"{stage}_{part}_s"].sum() / len(e2e) for part in ("queue", "service"))
            found = [by_name[key] for key in (stage, f"{stage}.prefill", f"{stage}.decode") if key in by_name]
            assert sum(bar.mean_s for bar in found) == pytest.approx(queue + service)
            assert sum(bar.waiting_mean_s for bar in found) == pytest.approx(queue, abs=1e-12)


def test_a_run_in_windows_keeps_its_sums() -> None:
    pairs = (pair for pair in random_pairs(31, per_workload=2) if any(len(way) > 1 for way in pair.plan.ways))
    for pair in islice(pairs, 5):
        whole = simulate(pair.deployment, pair.requests, plan=pair.plan, window_requests=7)
        e2e = whole.e2e_s[np.isfinite(whole.e2e_s)]
        if len(e2e):
            assert sum(bar.mean_s for bar in waterfall(whole)) == pytest.approx(e2e.mean())


def test_long_runs_are_logged_in_their_middle(results: dict[str, StudyResult], monkeypatch: pytest.MonkeyPatch) -> None:
    result = results["two"]
    best = result.recommended
    assert best
    whole = simulation(result.spec, best.to_json())
    monkeypatch.setattr("dse.service.answers.simulation.LOGGED_REQUESTS", 100)
    part = simulation(result.spec, best.to_json())
    assert part.latencies == whole.latencies
    assert part.stages == whole.stages
    arrivals = result.requests.arrival_ps / 1e12
    assert part.time_s[0] == pytest.approx(arrivals[100], rel=1e-4)
    assert arrivals[190] < part.time_s[-1] < arrivals[199]


# --- what if -----------------------------------------------------------------------------------------------------


@settings(max_examples=10, deadline=None)
@given(
    prices=st.dictionaries(st.sampled_from(["h100-sxm", "l40s", "a10g"]), st.floats(0.05, 20)),
    electricity=st.floats(0, 2),
)
@pytest.mark.parametrize("study", ["two", "three", "robust", "excluded"])
def test_other_prices(
    results: dict[str, StudyResult],
    views: dict[str, StudyView],
    study: str,
    prices: dict[str, float],
    electricity: float,
) -> None:
    result, view = results[study], views[study]
    answer = what_if(view, WhatIf(usd_per_hour=prices, electricity_usd_per_kwh=electricity))
    sendable(answer)
    whole = repriced(result, Prices(prices, electricity))
    assert np.array([trial.objectives for trial in answer.trials]) == pytest.approx(
        np.array([each.objectives for each in whole.front])
    )
    before, after = {each.number for each in result.front}, {trial.number for trial in answer.trials}
    assert set(answer.joined) == after - before
    assert set(answer.left) == before - after
    assert answer.rate_rps == pytest.approx(4.0)
    assert prices.items() & answer.devices.items() == {
        (name, price) for name, price in prices.items() if name in answer.devices
    }


def test_hypothetical_accelerators_have_prices_however_they_are_spelled() -> None:
    chip = "l40s(memory_gb=60, price_usd_per_hour=1)"
    space = {**SMALL["space"], "accelerators": ["h100-sxm", chip]}
    spec = small(space=space, slos=[{"metric": "ttft", "percentile": 90, "limit_s": 1e3}])
    load, view = build_load(spec), StudyView(spec)
    design = next(each for each in spec.space.space if each["main.accelerator"] == chip and not precheck(each, spec))
    view.add([evaluate(design, spec, load).to_json() | {"number": 0}])
    answer = what_if(view, WhatIf(usd_per_hour={"l40s(price_usd_per_hour=1.0,memory_gb=60)": 7.0}))
    assert answer.devices == {chip: 7.0}


def test_other_prices_are_what_a_simulation_at_them_says(
    results: dict[str, StudyResult], views: dict[str, StudyView], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, view = results["two"], views["two"]
    answer = what_if(view, WhatIf(usd_per_hour={"l40s": 7.0}))
    known = catalog.accelerator

    def dear(name: str) -> Any:
        found = known(name)
        return found.model_copy(update={"price_usd_per_hour": 7.0}) if name == "l40s" else found

    monkeypatch.setattr(catalog, "accelerator", dear)
    again = StudyView(result.spec)
    again.add(
        evaluate(each.design, result.spec, result.load).to_json() | {"number": each.number} for each in result.simulated
    )
    assert [trial.number for trial in answer.trials] == again.front_update().front
    assert answer.recommended == again.front_update().recommended


def test_prices_as_they_are_change_nothing(views: dict[str, StudyView], name: str) -> None:
    answer = what_if(views[name], WhatIf())
    assert [trial.number for trial in answer.trials] == views[name].front_update().front
    assert answer.recommended == views[name].front_update().recommended
    assert answer.joined == answer.left == []
    assert answer.said


@pytest.mark.parametrize("question", [{"usd_per_hour": {"abacus": 1.0}}, {"usd_per_hour": {"l40s": -1.0}}])
def test_impossible_prices(views: dict[str, StudyView], question: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"prices|abacus"):
        what_if(views["two"], WhatIf(**question))
    with pytest.raises(SpecError, match=r"prices: l40s"):
        what_if(views["two"], WhatIf(usd_per_hour={"l40s": math.inf}))


@pytest.mark.parametrize("factor", [0.5, 3.0])
@pytest.mark.parametrize("study", ["two", "three", "robust", "infeasible"])
def test_another_rate(results: dict[str, StudyResult], views: dict[str, StudyView], study: str, factor: float) -> None:
    result, view = results[study], views[study]
    question = WhatIf(rate_factor=factor, usd_per_hour={"l40s": 0.4})
    asked = candidates(view, question)
    assert len(asked) == min(MOST_DESIGNS, len(what_if(view, question).trials))
    answer = what_if_at_rate(result.spec, [each.to_json() for each in asked], view.front_update().front, question)
    sendable(answer)
    load = load_at(result, factor)
    again = [evaluate(each.design, result.spec, load) for each in asked]
    whole = repriced(StudyResult(result.spec, tuple(again), load, result.clock), Prices({"l40s": 0.4}))
    assert [tuple(trial.objectives) for trial in answer.trials] == [each.objectives for each in whole.front]
    assert answer.rate_rps == pytest.approx(factor * result.requests.rate_rps)
    assert set(answer.left) <= {each.number for each in asked}


# --- two trials --------------------------------------------------------------------------------------------------


def test_comparison(results: dict[str, StudyResult], views: dict[str, StudyView], name: str) -> None:
    result, view = results[name], views[name]
    one, other = (result.evaluations[place] for place in (0, -1))
    if len(result.simulated) > 1:
        one, other = result.simulated[0], result.simulated[-1]
    told = compare(view, one.number, other.number)
    sendable(told)
    changed = {choice for choice in {*one.design, *other.design} if one.design.get(choice) != other.design.get(choice)}
    assert {row.name for row in told.choices} == changed
    assert told.said
    if not (one.simulated and other.simulated):
        assert told.figures == []
        return
    rows = {row.name: row for row in told.figures}
    assert set(result.spec.objectives) <= set(rows)
    assert {slo.name for slo in result.spec.slos} <= set(rows)
    for place, objective in enumerate(result.spec.objectives):
        here, there = one.objectives[place], other.objectives[place]
        if math.isfinite(here) and math.isfinite(there) and abs(there / here - 1) > 0.01:
            assert rows[objective].ratio == pytest.approx(there / here)
            less = "first" if here < there else "second"
            more = "second" if here < there else "first"
            assert rows[objective].better == (more if objective == "output_tokens_per_s" else less)
    back = compare(view, other.number, one.number)
    assert {row.name: (row.second, row.first) for row in back.figures} == {
        row.name: (row.first, row.second) for row in told.figures
    }


def test_comparison_of_a_trial_with_itself(views: dict[str, StudyView]) -> None:
    number = views["two"].front_update().front[0]
    told = compare(views["two"], number, number)
    assert told.choices == []
    assert {row.better for row in told.figures} == {"same"}
    assert told.said == ["Both are the same design."]


def test_why_two_trials_differ(results: dict[str, StudyResult]) -> None:
    result = results["two"]
    first, second = result.front[0].number, result.front[-1].number
    said = explain(result.spec, stored(result), first, second)
    assert len(said) == 2
    assert all(line.endswith(".") and "→" in line for line in said)
    with pytest.raises(SpecError, match="same design"):
        explain(result.spec, stored(result), first, first)


# --- files -------------------------------------------------------------------------------------------------------


def test_exports_hold_the_tables(results: dict[str, StudyResult], views: dict[str, StudyView], name: str) -> None:
    result, view = results[name], views[name]
    files = {file: export(view, file) for file in MEDIA_TYPES}
    assert all(files[file][1] == media for file, media in MEDIA_TYPES.items())
    trials = pd.read_parquet(io.BytesIO(files["trials.parquet"][0]))
    assert list(trials.index) == [each.number for each in result.evaluations]
    pd.testing.assert_frame_equal(trials.reset_index(drop=True), result.trials.reset_index(drop=True))
    read = pd.read_csv(io.BytesIO(files["trials.csv"][0]), index_col="trial")
    assert list(read.columns) == list(result.trials.columns)
    assert list(read["feasible"]) == list(result.trials["feasible"])
    front = pd.read_csv(io.BytesIO(files["front.csv"][0]), index_col="trial")
    assert list(front.index) == view.front_update().front
    data = json.loads(files["study.json"][0])
    assert StudySpec.parse(data["study"]) == result.spec
    assert [each["number"] for each in data["front"]] == view.front_update().front
    # The same as the command writes, but for what only the end knows.
    assert data["requests"] == to_json(result)["requests"]
    assert len(data["requests"]) == len(result.spec.cases)
    assert StudySpec.parse(yaml.safe_load(files["study.yaml"][0])) == result.spec
    with pytest.raises(KeyError):
        export(view, "../etc/passwd")


def test_spreadsheets_compute_nothing() -> None:
    link = "=HYPERLINK(1)"
    space = {
        **SMALL["space"],
        "layouts": ["disaggregated"],
        "links": {link: {"gb_per_s": 10}, "+1": {"gb_per_s": 20}},
    }
    spec = small(space=space)
    designs = list(islice(spec.space.space, 0, None, 5000))[:4]
    load = build_load(spec)
    view = StudyView(spec)
    view.add(evaluate(each, spec, load).to_json() | {"number": place} for place, each in enumerate(designs))
    table = pd.read_csv(io.BytesIO(export(view, "trials.csv")[0]))
    assert set(table["link"]) <= {f"'{link}", "'+1"}
    whole = pd.read_parquet(io.BytesIO(export(view, "trials.parquet")[0]))
    assert set(whole["link"]) <= {link, "+1"}


OUTCOME = {
    "certificate": {
        "designs": 1000,
        "counts": {status.name.lower(): 3 if status == Status.OPEN else 0 for status in Status},
        "gap": 0.01,
    },
    "sureness": {"summary": "The front is sure.", "designs": []},
    "clock": {"wall_s": 3.0, "proposing_s": 1.0, "simulator_cpu_s": 2.0},
    "interrupted": True,
}


def test_the_end_is_known(results: dict[str, StudyResult], views: dict[str, StudyView]) -> None:
    found = result_with(views["two"], OUTCOME)
    assert found.interrupted
    assert found.clock.wall_s == 3.0
    assert found.certificate
    assert found.certificate.open == 3
    assert found.sureness
    assert found.sureness.summary == "The front is sure."
    data = json.loads(export(views["two"], "study.json", OUTCOME)[0])
    assert data["certificate"]["designs"] == 1000
    result = results["two"]
    page = report_html(result.spec, stored(result), OUTCOME)
    assert page.startswith("<!doctype html>")
    assert "The front is sure." in page
    assert result.recommended
    # The same as the command writes, but for what only the end knows.
    from dse.report import render_report

    plain = StudyResult(result.spec, result.evaluations, result.load, result_with(views["two"]).clock)
    assert report_html(result.spec, stored(result)) == render_report(plain)


def test_deployments_of_trials_are_those_of_the_study(views: dict[str, StudyView]) -> None:
    view = views["two"]
    for evaluation in view.evaluations[:10]:
        assert view.deployment(evaluation) == deployment_of(evaluation.design, view.spec)
