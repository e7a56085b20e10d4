"""Why a study found what it found: held against enumeration, theory, new simulations, and Optuna's own evaluator."""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import plotly.graph_objects as go
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dse.cli.main import main
from dse.cli.why import show_none
from dse.evaluation import Evaluation, build_load, evaluate, precheck
from dse.repricing import Prices
from dse.result import Clock, StudyResult
from dse.spec import StudySpec
from dse.understanding import (
    binding,
    break_even,
    difference,
    ends,
    find,
    first_failure,
    importance,
    pair_slices,
    price_sensitivity,
    rate_sensitivity,
    repriced,
    resources,
    slices,
    weighted_pick,
)
from dse.understanding.answers import Asked, answer
from dse.understanding.difference import sampled_shapley, shapley
from dse.understanding.importance import divergence
from dse.understanding.page import render_answers
from dse.understanding.picks import trial_of
from dse.understanding.prices import Contenders
from simulator import SpecError, build_requests, catalog

from .conftest import SMALL, small


def studied(spec: StudySpec, count: int = 160) -> StudyResult:
    """Return a study of designs drawn at random: what is explained must not depend on how designs are searched."""
    space, rng = spec.space.space, random.Random(0)
    load = build_load(spec)
    drawn = (space.design({d.name: rng.choice(list(d.values)) for d in space.dimensions}) for _ in range(count))
    evaluations = tuple(precheck(design, spec) or evaluate(design, spec, load) for design in dict.fromkeys(drawn))
    numbered = tuple(replace(e, number=number) for number, e in enumerate(evaluations))
    return StudyResult(spec, numbered, load, Clock(1.0, 0.1, 1.0))


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return studied(small())


@pytest.fixture(scope="module")
def robust() -> StudyResult:
    """Two workloads, a soft promise, and an objective that is better the more comes for a USD."""
    load = SMALL["workload"]
    calm = {**load, "seed": 3, "arrivals": {"process": "poisson", "rate_rps": 2}}
    cases = [{"name": "busy", "workload": load, "weight": 2}, {"name": "calm", "workload": calm}]
    slos = [{**SMALL["slos"][0], "penalty": 2.0}, *SMALL["slos"][1:]]
    objectives = ["usd_per_million_output_tokens", "goodput_requests_per_usd", "e2e_p90_s"]
    data = {**SMALL, "workloads": cases, "slos": slos, "objectives": objectives, "robust": "weighted"}
    data.pop("workload")
    return studied(StudySpec.parse(data))


# Importance


def invented(
    objective: Callable[[dict[str, Any]], float], keeps: Callable[[dict[str, Any]], bool], **space: Any
) -> StudyResult:
    """Return a study of which every design was "simulated" with an invented outcome."""
    kinds = {"accelerators": ["h100-sxm", "l40s", "a10g"], "clients": [1, 2, 3, 4], "tp": [1, 2, 4]}
    spec = small(space={**kinds, "policies": ["chunked"], **space}, objectives=["usd_per_hour"])
    evaluations = tuple(
        Evaluation(
            design,
            (objective(dict(design)),),
            {slo.name: -0.5 if keeps(dict(design)) else 0.5 for slo in spec.slos},
            {f"{slo.name}_excess": -0.5 for slo in spec.slos},
            number=number,
        )
        for number, design in enumerate(spec.space.space)
    )
    return StudyResult(spec, evaluations, build_load(spec), Clock(1.0, 0.1, 1.0))


ONE_LAYOUT: dict[str, Any] = {"layouts": ["colocated"], "token_budgets_tokens": [512], "max_batches_requests": [32, 64]}


def test_importance_of_a_function_with_a_known_answer() -> None:
    """The best fifth has TP 1 only, and fewer than 4 clients; whether SLOs are kept depends on accelerators alone."""
    found = importance(
        invented(
            lambda d: 10.0 * d["main.tp"] + (d["main.clients"] == 4),
            lambda d: d["main.accelerator"] != "a10g",
            **ONE_LAYOUT,
        )
    )
    feasible = found.loc["feasible"]
    assert feasible["importance"]["main.accelerator"] == pytest.approx(1.0)
    assert feasible["p_value"]["main.accelerator"] < 1e-9
    # 144 designs, of which 96 are feasible; those are spread evenly over everything else, better than by chance.
    assert (feasible["importance"].drop("main.accelerator") == 0).all()
    best = found.loc["usd_per_hour"]
    # p = 1/3 each; q = (1, 0, 0): D = 1/3 ((3 - 1)² + 1 + 1) = 2. Clients: p = 1/4, q = (1/3, 1/3, 1/3, 0): D = 1/3.
    assert best["divergence"]["main.tp"] == pytest.approx(2.0)
    assert best["divergence"]["main.clients"] == pytest.approx(1 / 3)
    assert list(best.index[:2]) == ["main.tp", "main.clients"]
    assert best["favoured"]["main.tp"] == 1
    assert best["share_of_best"]["main.tp"] == 1.0
    assert best["importance"].sum() == pytest.approx(1.0)


def test_choices_inside_a_layout_that_is_never_good_explain_nothing() -> None:
    space = small(space={**SMALL["space"], "clients": [1, 2]}).space.space
    designs = list(space)[::301]
    best = np.array([design["layout"] == "colocated" and design["main.tp"] == 1 for design in designs])
    found = {dimension.name: divergence(designs, best, dimension.name) for dimension in space.dimensions}
    inside = [each.value for name, each in found.items() if name.startswith(("prefill.", "decode."))]
    assert inside == [0.0] * len(inside) != []
    # All of the best have the layout: it counts in full, what is inside it counts 1 / (its share) times.
    share = found["main.tp"].active
    assert found["layout"].value == pytest.approx(1 / share - 1)
    own = np.array([design["main.tp"] == 1 for design in designs if "main.tp" in design])
    assert found["main.tp"].value == pytest.approx((1 / own.mean() - 1) / share)


@pytest.mark.parametrize(("values", "best"), [([1, 1, 2, 3, 3, 3], 2), ([1, 2, 2, 2, 1], 3), ([1, 2, 3, 4], 1)])
def test_chance_is_the_mean_over_all_ways_to_draw_the_best(values: list[int], best: int) -> None:
    designs = [{"x": value} for value in values]
    found = []
    for chosen in itertools.combinations(range(len(values)), best):
        mask = np.isin(np.arange(len(values)), chosen)
        found.append(divergence(designs, mask, "x"))
    assert np.mean([each.value for each in found]) == pytest.approx(found[0].by_chance)


@pytest.mark.filterwarnings("ignore:divide by zero")
def test_importance_agrees_with_optuna() -> None:
    """Optuna's conditional PED-ANOVA without the prior of its Parzen estimators, up to a constant factor."""
    rng = np.random.default_rng(0)
    designs, losses = [], []
    for _ in range(1000):
        design: dict[str, Any] = {"layout": ("one", "two")[rng.integers(2)], "tp": int(rng.integers(4))}
        if design["layout"] == "two":
            design["decode"] = int(rng.integers(5))
        designs.append(design)
        losses.append(3 * design["tp"] + (design["layout"] == "one") + 0.8 * design.get("decode", 2) + rng.normal())
    kinds = {"layout": ("one", "two"), "tp": tuple(range(4)), "decode": tuple(range(5))}
    study = optuna.create_study()
    for design, loss in zip(designs, losses, strict=True):
        distributions = {name: optuna.distributions.CategoricalDistribution(kinds[name]) for name in design}
        study.add_trial(optuna.create_trial(params=design, distributions=distributions, value=loss))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.2)
    evaluator._prior_weight = 0.0
    theirs = evaluator.evaluate(study)
    cut = np.sort(losses)[len(losses) // 5 - 1]
    for name in kinds:
        own = divergence(designs, np.array(losses) <= cut, name).value
        assert theirs[name] == pytest.approx(own * 0.2**2, rel=1e-6)


# Picks and slices


@settings(max_examples=50, deadline=None)
@given(weights=st.tuples(st.floats(0, 10), st.floats(0.01, 10)))
def test_weighted_pick_is_the_best_of_the_front(result: StudyResult, weights: tuple[float, float]) -> None:
    front = np.array([e.objectives for e in result.front])
    spread = (front - front.min(axis=0)) / np.ptp(front, axis=0)
    pick = weighted_pick(result, dict(zip(result.spec.objectives, weights, strict=True)))
    chosen = next(place for place, e in enumerate(result.front) if e is pick)
    assert (spread @ weights)[chosen] == pytest.approx((spread @ weights).min())


def test_ends_and_names(result: StudyResult) -> None:
    best = ends(result)
    assert best["usd_per_hour"].objectives[0] == min(e.objectives[0] for e in result.feasible)
    assert best["e2e_p90_s"].objectives[1] == min(e.objectives[1] for e in result.feasible)
    assert weighted_pick(result, {"e2e_p90_s": 1}) is best["e2e_p90_s"]
    assert find(result, "cheapest") is best["usd_per_hour"]
    assert find(result, "fastest") is best["e2e_p90_s"]
    assert find(result, "recommended") is result.recommended
    assert find(result, "F1") is result.front[0]
    simulated = result.simulated[7]
    assert find(result, str(trial_of(result, simulated))) is simulated
    assert result.trials.loc[trial_of(result, simulated), "e2e_p90_s"] == simulated.objectives[1]


def test_slices_against_the_table_of_trials(result: StudyResult) -> None:
    table = result.trials
    feasible = table[table["feasible"]].groupby("main.tp")["e2e_p90_s"]
    found = slices(result, "main.tp")
    for value, row in found.iterrows():
        assert row["simulated"] == (table["simulated"] & (table["main.tp"] == value)).sum()
        if row["feasible"]:
            assert row["e2e_p90_s_best"] == feasible.min()[value]
            assert row["e2e_p90_s_median"] == feasible.median()[value]
    pairs = pair_slices(result, "main.tp", "main.accelerator", "e2e_p90_s")
    assert pairs.min(axis=1).dropna().tolist() == feasible.min().tolist()
    best = table[table["feasible"]].groupby(["main.tp", "main.accelerator"])["e2e_p90_s"].min()
    assert pairs.stack().dropna().to_dict() == best.to_dict()


# What binds


def with_neighbours(result: StudyResult) -> StudyResult:
    """Return a result to which all designs are added that differ from a front design in one choice."""
    own, space = result.front[len(result.front) // 2].design, result.spec.space.space
    around = [
        space.design({**own, d.name: v})
        for d in space.dimensions
        if d.name in own and d.name != "layout"
        for v in d.values
    ]
    new = dict.fromkeys(around)
    for e in result.evaluations:
        new.pop(e.design, None)
    found = (precheck(design, result.spec) or evaluate(design, result.spec, result.load) for design in new)
    return replace(result, evaluations=(*result.evaluations, *found))


def test_binding_is_the_least_slack(result: StudyResult) -> None:
    result = with_neighbours(result)
    found = binding(result)
    assert (found["change"] != "").any()
    assert list(found.index) == [trial_of(result, e) for e in result.front]
    for e, (_, row) in zip(result.front, found.iterrows(), strict=True):
        simulation = result.simulate(e)
        slacks = {
            slo.name: 1 - simulation.percentile_s(slo.metric, slo.percentile) / slo.limit_s for slo in result.spec.slos
        }
        assert row["slo"] == min(slacks, key=lambda name: slacks[name])
        assert row["slack"] == pytest.approx(min(slacks.values()))
        assert row["reached_s"] == pytest.approx(row["limit_s"] * (1 - row["slack"]))
        assert row["bottleneck"] == simulation.bottleneck
        near = [
            other.figures[f"{row['slo']}_excess"]
            for other in result.simulated
            if other.design.keys() == e.design.keys() and sum(other.design[n] != e.design[n] for n in e.design) == 1
        ]
        better = [-excess for excess in near if -excess > row["slack"]]
        if better:
            assert row["neighbour_slack"] == max(better)
            assert row["change"]
        else:
            assert row["change"] == ""


# Differences


def game(values: list[float]) -> Callable[[int], Any]:
    return lambda mask: np.array([values[mask], values[mask] ** 2])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), players=st.integers(1, 4))
def test_effects_are_shapley_values(data: st.DataObject, players: int) -> None:
    """Against the definition: the mean over all orders, walked one by one."""
    values = data.draw(st.lists(st.floats(-10, 10), min_size=2**players, max_size=2**players))
    measure = game(values)
    expected = np.zeros((players, 2))
    for order in itertools.permutations(range(players)):
        mask = 0
        for player in order:
            expected[player] += measure(mask | 1 << player) - measure(mask)
            mask |= 1 << player
    effects, alone = shapley(players, measure)
    assert effects == pytest.approx(expected / math.factorial(players), abs=1e-9)
    assert alone == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), players=st.integers(2, 5))
def test_effects_add_up_where_designs_are_impossible(data: st.DataObject, players: int) -> None:
    full = 2**players - 1
    values = data.draw(st.lists(st.floats(-10, 10), min_size=full + 1, max_size=full + 1))
    lost = data.draw(st.sets(st.integers(1, full - 1))) if full > 1 else set()
    whole = game(values)

    def measure(mask: int) -> Any:
        return None if mask in lost else whole(mask)

    for way in (shapley, sampled_shapley):
        effects, alone = way(players, measure)
        assert effects.sum(axis=0) == pytest.approx(whole(full) - whole(0), abs=1e-9)
        assert ((alone >= 0) & (alone <= 1 + 1e-12)).all()
    if len(lost) == full - 1:  # nothing in between: all share
        assert effects == pytest.approx(np.tile((whole(full) - whole(0)) / players, (players, 1)))
        assert (alone == 0).all()


def test_an_impossible_design_makes_two_choices_move_together() -> None:
    """Of players a, b, c only {c} and {a, b} are possible: c moves alone, first or last."""
    values = {0: 0.0, 4: 1.0, 3: 10.0, 7: 14.0}
    effects, alone = shapley(3, lambda mask: np.array([values[mask]]) if mask in values else None)
    assert effects[:, 0] == pytest.approx([(13 + 10) / 4, (13 + 10) / 4, (1 + 4) / 2])
    assert list(alone) == [0, 0, 1]


def test_effects_explain_the_difference_of_real_designs(result: StudyResult) -> None:
    """Costs are price × clients × TP, whose Shapley values are known; columns add up; turned round, signs turn."""
    alike = [e for e in result.feasible if e.design["layout"] == "colocated"]
    pairs = [
        (a, b)
        for a, b in itertools.combinations(alike, 2)
        if a.design["main.accelerator"] == b.design["main.accelerator"]
        and a.design["main.clients"] != b.design["main.clients"]
        and a.design["main.tp"] != b.design["main.tp"]
    ]
    first, second = pairs[0]
    found, back = difference(result, first, second), difference(result, second, first)
    measures = ["usd_per_hour", "e2e_p90_s", "ttft_p90_s", "itl_p99_s"]
    assert list(found.measures.index) == measures
    assert found.effects[measures].sum().to_numpy() == pytest.approx(
        found.measures["change"].to_numpy(), rel=1e-9, abs=1e-12
    )
    price = catalog.accelerator(first.design.text("main.accelerator")).price_usd_per_hour
    (c1, t1), (c2, t2) = ((e.design.number("main.clients"), e.design.number("main.tp")) for e in (first, second))
    if not found.impossible:
        assert found.effects["usd_per_hour"]["main.clients"] == pytest.approx(price * (c2 - c1) * (t1 + t2) / 2)
        assert found.effects["usd_per_hour"]["main.tp"] == pytest.approx(price * (t2 - t1) * (c1 + c2) / 2)
        assert back.effects[measures].to_numpy() == pytest.approx(-found.effects[measures].to_numpy(), abs=1e-9)
    assert found.simulated <= 2 ** len(found.effects) - 2
    simulation = result.simulate(second)
    assert found.measures["second"]["ttft_p90_s"] == pytest.approx(simulation.percentile_s("ttft", 90))


def test_designs_of_different_layouts_can_be_compared(result: StudyResult) -> None:
    apart = next(e for e in result.simulated if e.design["layout"] == "disaggregated" and "finite" not in e.constraints)
    assert result.recommended
    together = next(e for e in result.feasible if e.design["layout"] == "colocated")
    found = difference(result, together, apart)
    assert "layout" in found.effects.index
    names = list(found.measures.index)
    assert found.effects[names].sum().to_numpy() == pytest.approx(found.measures["change"].to_numpy(), abs=1e-9)
    assert found.choices["first"]["decode.tp"] is None
    assert set(found.resources.index) == {("first", "main"), ("second", "prefill"), ("second", "decode")}


def test_resources_count_what_the_pool_did(result: StudyResult) -> None:
    assert result.recommended
    simulation = result.simulate(result.recommended)
    table = resources(simulation)
    assert table["usd_per_hour"].sum() == pytest.approx(simulation.usd_per_hour)
    assert table["share_of_cost"].sum() == pytest.approx(1.0)
    rows = simulation.lowered.memory.clients
    # Every token but the first of each answer is one request's share of a decode step.
    decoded = simulation.output_tokens - len(result.requests)
    batch = (table["mean_batch_requests"] * [rows["steps"].sum()]).sum() if len(table) == 1 else math.nan
    assert math.isnan(batch) or batch == pytest.approx(decoded, rel=0.02)


# Prices


def at_prices(monkeypatch: pytest.MonkeyPatch, prices: dict[str, float]) -> None:
    """Change what the catalogue says that accelerators cost."""
    known = catalog.accelerator

    def priced(name: str) -> Any:
        found = known(name)
        return found.model_copy(update={"price_usd_per_hour": prices[name]}) if name in prices else found

    monkeypatch.setattr(catalog, "accelerator", priced)


@pytest.mark.parametrize("prices", [{"h100-sxm": 1.0}, {"l40s": 9.0, "a10g": 0.2}])
def test_other_prices_are_what_a_new_simulation_says(
    result: StudyResult, monkeypatch: pytest.MonkeyPatch, prices: dict[str, float]
) -> None:
    changed = repriced(result, Prices(prices))
    at_prices(monkeypatch, prices)
    for old, new in zip(result.simulated, changed.simulated, strict=True):
        again = evaluate(old.design, result.spec, result.load)
        assert new.objectives == pytest.approx(again.objectives)
        assert new.feasible == again.feasible
        assert new.figures["usd_per_million_output_tokens"] == pytest.approx(
            again.figures["usd_per_million_output_tokens"]
        )
    simulated = StudyResult(
        result.spec,
        tuple(evaluate(e.design, result.spec, result.load) for e in result.simulated),
        result.load,
        result.clock,
    )
    assert changed.recommended
    assert simulated.recommended
    assert changed.recommended.design == simulated.recommended.design


@settings(max_examples=25, deadline=None)
@given(prices=st.fixed_dictionaries({n: st.floats(0.05, 20) for n in ("h100-sxm", "l40s", "a10g")}))
def test_contenders_hold_the_front_at_any_prices(result: StudyResult, prices: dict[str, float]) -> None:
    whole, few = repriced(result, Prices(prices)), Contenders(result).at(Prices(prices))
    assert np.array([e.objectives for e in few.front]) == pytest.approx(np.array([e.objectives for e in whole.front]))
    assert whole.recommended
    assert few.recommended
    assert few.recommended.objectives == pytest.approx(whole.recommended.objectives)


GENERIC = (1.0, 1.0123456789, 0.9876543217)
"""Factors that leave no round ratio between prices."""


@settings(max_examples=40, deadline=None)
@given(prices=st.fixed_dictionaries({n: st.floats(0.05, 20) for n in ("h100-sxm", "l40s", "a10g")}))
def test_a_scan_of_prices_sees_the_changes_that_evaluations_show(
    result: StudyResult, robust: StudyResult, prices: dict[str, float]
) -> None:
    """At prices that no two designs share: of two that cost the same, rounding decides who is recommended."""
    prices = {name: price * factor for (name, price), factor in zip(prices.items(), GENERIC, strict=True)}
    for found in (result, robust):
        contenders = Contenders(found)
        assert contenders.scan
        assert contenders.scan.changed(Prices(prices)) == contenders.changed(contenders.at(Prices(prices)))
        assert not contenders.scan.changed(Prices())


def test_no_scan_where_prices_decide_what_is_allowed() -> None:
    bound = studied(small(limits={**SMALL.get("limits", {}), "usd_per_hour": 30.0}))
    assert Contenders(bound).scan is None
    assert len(break_even(bound))


def test_break_even_prices_are_where_the_recommendation_changes(result: StudyResult) -> None:
    assert result.recommended
    today = result.recommended.design
    found = break_even(result)
    sides = 0
    for device, row in found.iterrows():
        for side, beyond in (("below", 0.999), ("above", 1.001)):
            price = row[side]
            if math.isnan(price):
                continue
            sides += 1
            over = repriced(result, Prices({str(device): price * beyond})).recommended
            before = repriced(result, Prices({str(device): price / beyond})).recommended
            assert over
            assert before
            assert over.design != today
            assert result.evaluations[row[f"trial_{side}"]].design == over.design
            # Before it, the same design or a twin of it.
            nearly = repriced(result, Prices({str(device): price / beyond}))
            same = next(e for e in nearly.simulated if e.design == today)
            assert before.design == today or before.objectives == pytest.approx(same.objectives, rel=0.005)
    assert sides


def test_the_cheapest_changes_where_two_designs_cost_the_same() -> None:
    """With cost alone as objective the break-even price is a ratio of counts."""
    result = studied(small(objectives=["usd_per_hour"]))
    assert result.recommended
    best = result.recommended
    device = best.design.text("main.accelerator" if "main.accelerator" in best.design else "decode.accelerator")
    count = best.figures[f"devices.{device}"]
    rest = best.objectives[0] - count * catalog.accelerator(device).price_usd_per_hour

    def crossing(e: Evaluation) -> float:
        """Price of the device at which both cost the same."""
        own = e.figures.get(f"devices.{device}", 0.0)
        others = e.objectives[0] - own * catalog.accelerator(device).price_usd_per_hour
        return (others - rest) / (count - own) if own < count else math.inf

    expected = min(crossing(e) for e in result.feasible)
    found = break_even(result)["above"][device]
    # A twin within 0.5 % does not count as another design.
    assert found == pytest.approx(expected, rel=0.02)
    assert found >= expected * (1 - 1e-5)


def test_price_sensitivity_agrees_with_repricing_everything(result: StudyResult) -> None:
    table = price_sensitivity(result, [0.5, 1.0, 2.0], ["l40s"])
    today = catalog.accelerator("l40s").price_usd_per_hour
    for (_, factor), row in table.iterrows():
        changed = repriced(result, Prices({"l40s": today * factor}))
        assert row["front"] == len(changed.front)
        assert changed.recommended
        assert row["usd_per_hour"] == pytest.approx(changed.recommended.objectives[0])
    same = table.loc[("l40s", 1.0)]
    assert not same["changed"]
    assert same["joined"] == same["left"] == 0


@pytest.mark.parametrize(
    "figures",
    [
        "memory_gb=90, memory_bandwidth_gb_per_s=3850",
        "memory_bandwidth_gb_per_s=3850,memory_gb=90",
        " memory_gb = 90.0 , memory_bandwidth_gb_per_s=3.85e3",
    ],
)
def test_hypothetical_accelerators_have_prices_however_they_are_spelled(figures: str) -> None:
    chip = "b200(memory_gb=90, memory_bandwidth_gb_per_s=3850)"
    kinds = {"accelerators": [chip, "h100-sxm"], "clients": {"high": 4}, "tp": [1, 2]}
    result = studied(small(space=kinds), 40)
    asked = Asked(prices=(f"b200({figures})=-20%,h100-sxm=2",))
    found = answer(result, asked, summary=False).repriced
    assert found
    wanted = repriced(result, Prices({chip: 0.8 * catalog.device(chip).price_usd_per_hour, "h100-sxm": 2}))
    assert [e.objectives for e in found.evaluations] == [e.objectives for e in wanted.evaluations]
    used = [e for e in found.simulated if e.figures.get(f"devices.{chip}")]
    assert used
    today = {e.design: e.figures["usd_per_hour"] for e in result.evaluations if e.simulated}
    assert all(e.figures["usd_per_hour"] < today[e.design] for e in used)


# Rates


def test_rates_are_simulated_with_the_requests_closer_together(result: StudyResult) -> None:
    table = rate_sensitivity(result, [1.0, 1.5])
    assert len(table) == 2 * len(result.front)
    for e in result.front:
        same = table.loc[(trial_of(result, e), 1.0)]
        assert tuple(same[list(result.spec.objectives)]) == e.objectives
        assert same["feasible"]
    workload = result.spec.workload
    assert workload
    assert workload.arrivals
    faster = workload.model_copy(update={"arrivals": workload.arrivals.model_copy(update={"rate_rps": 6.0})})
    e = result.front[0]
    again = evaluate(e.design, result.spec, build_requests(faster))
    row = table.loc[(trial_of(result, e), 1.5)]
    assert row["e2e_p90_s"] == pytest.approx(again.objectives[1], rel=1e-6)
    assert row["feasible"] == again.feasible
    assert row["rate_rps"] == pytest.approx(1.5 * result.requests.rate_rps)


def test_first_failure_is_between_a_rate_that_holds_and_one_that_does_not(result: StudyResult) -> None:
    e = result.front[0]
    found = first_failure(result, e)
    base = result.requests.rate_rps
    table = rate_sensitivity(result, [found.kept_rps / base, found.broken_rps / base], [e])
    assert list(table["feasible"]) == [True, False]
    assert found.broken in table["broken"].iloc[1]
    assert found.broken_rps / found.kept_rps <= 1.01
    assert found.simulations < 25


@pytest.mark.parametrize("count", [50, 1])
def test_a_load_that_arrives_at_once_has_all_answers_but_those_about_rates(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "batch.csv").write_text("arrival_s,prompt_tokens,output_tokens\n" + "0,500,50\n" * count)
    load = {"trace": {"path": str(tmp_path / "batch.csv")}}
    slos = [{"metric": "e2e", "percentile": 99, "limit_s": 60}]
    study = {**SMALL, "workload": load, "slos": slos, "budget": {"trials": 20}}
    (tmp_path / "batch.yaml").write_text(yaml.safe_dump(study))
    monkeypatch.chdir(tmp_path)
    assert dse(monkeypatch, "run", "batch.yaml", "--jobs", "1", "--out", "batch", "-q") == 0
    capsys.readouterr()
    assert dse(monkeypatch, "why", "batch") == 0
    why = "small: all requests arrive at once, so there is no rate to change"
    assert f"not known: {why}\n" in capsys.readouterr().out
    assert dse(monkeypatch, "why", "batch", "--json", "-o", "why.html") == 0
    assert json.loads(capsys.readouterr().out)["first_failure"] is None
    assert f"Not known: {why}." in Path("why.html").read_text(encoding="utf-8")
    assert dse(monkeypatch, "why", "batch", "--rate", "+20%") == 2
    assert f"error: {why}\n" == capsys.readouterr().err


# The command


def dse(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process and return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dse", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a study that finds something, and one that does not."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, slos in (("good", SMALL["slos"]), ("bad", [{"metric": "ttft", "percentile": 99, "limit_s": 1e-6}])):
            Path(f"{name}.yaml").write_text(yaml.safe_dump({**SMALL, "slos": slos, "budget": {"trials": 40}}))
            assert dse(patch, "run", f"{name}.yaml", "--jobs", "1", "--out", name, "-q") == (0 if name == "good" else 3)
    return folder


def test_why_prints_a_summary_on_one_screen(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    assert dse(monkeypatch, "why", "good") == 0
    printed = capsys.readouterr().out
    for said in ("recommended", "cheapest", "fastest", "What bounds", "choices matter", "prices", "requests/s"):
        assert said in printed
    assert len(printed.splitlines()) <= 45


def test_why_answers_questions_and_writes_a_page(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    asked = ["--trials", "cheapest", "fastest", "--slice", "main.tp", "--slice", "main.accelerator,main.tp"]
    asked += ["--prices", "h100-sxm=-20%", "--prices", "electricity=0.1", "--rate", "+10%", "--rate", "5"]
    asked += ["--weights", "usd_per_hour=2,e2e_p90_s=1"]
    assert dse(monkeypatch, "why", "good", *asked, "-o", "why.html") == 0
    printed = capsys.readouterr().out
    for said in ("By these weights", "By main.tp", "At these prices", "At these rates", "together", "page: why.html"):
        assert said in printed
    page = Path("why.html").read_text(encoding="utf-8")
    for anchor in ("bounds", "weights", "difference", "importance", "slices", "prices", "rate"):
        assert f'id="{anchor}"' in page
    assert dse(monkeypatch, "why", "good", *asked, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert set(data) >= {"recommended", "weighted", "slices", "repriced", "rates", "difference"}
    effects = {row["choice"]: row["usd_per_hour"] for row in data["difference"]["effects"]}
    change = next(row["change"] for row in data["difference"]["measures"] if row["measure"] == "usd_per_hour")
    assert sum(effects.values()) == pytest.approx(change)
    assert dse(monkeypatch, "why", "good", "--json") == 0
    assert {"picks", "binding", "importance", "break_even", "first_failure"} <= set(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--weights", "usd=1"], "no objective"),
        (["--weights", "usd_per_hour"], "objective=weight"),
        (["--weights", "usd_per_hour=0"], "above 0"),
        (["--trials", "cheapest", "9999"], "no trial"),
        (["--trials", "F1", "F1"], "same design"),
        (["--slice", "main.tpp"], "did you mean main.tp"),
        (["--prices", "h200=1"], "h200"),
        (["--prices", "h100-sxm=20%"], "+20% or -20%"),
        (["--prices", "h100-sxm=-100%"], "nothing would be left"),
        (["--prices", "b200(memory_gb=90)"], "allowed: h100-sxm=-20%"),
        (["--prices", "b200(memory=90)=-20%"], "'memory=90'; allowed"),
        (["--prices", "b200(memory_gb=90)=1,b200(memory_gb=90.0)=2"], "given twice"),
        (["--rate", "fast"], "--rate"),
        (["-o", "why.txt"], ".html"),
    ],
)
def test_mistakes_are_one_line(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(runs)
    assert dse(monkeypatch, "why", "good", *arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1


def test_why_without_a_run_or_a_front(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(runs)
    assert dse(monkeypatch, "why", "nowhere") == 2
    assert "no finished run" in capsys.readouterr().err
    assert dse(monkeypatch, "why", "bad") == 3
    assert capsys.readouterr().out.startswith("small: no design")


def test_figures_are_plotly_figures_and_the_page_is_reproducible(result: StudyResult) -> None:
    asked = Asked(trials=("cheapest", "fastest"), slices=("main.tp", "main.tp,main.clients"))
    answers = answer(result, asked, summary=True)
    page = render_answers(answers)
    assert page == render_answers(answer(result, asked, summary=True))
    start = page.index('type="application/json">') + len('type="application/json">')
    payload = json.loads(page[start : page.index("</script>", start)])
    kinds = set()
    for figure in payload["figures"].values():
        text = json.dumps({**figure, "layout": {**figure["layout"], "template": None}}).replace('"--', '"#2f7bd6')
        for name in ("faint", "ink", "line", "grid"):
            text = text.replace(f"#2f7bd6{name}", "#2f7bd6")
        kinds |= {trace.type for trace in go.Figure(json.loads(text)).data}
    assert kinds == {"bar", "scatter", "heatmap", "waterfall"}


def test_the_page_says_where_a_price_leaves_nothing_feasible() -> None:
    result = studied(small(limits={"accelerators": 8}))
    limit = min(e.figures["usd_per_hour"] for e in result.feasible) * 1.1
    tight = studied(small(limits={"accelerators": 8, "usd_per_hour": limit}))
    (device,) = {pool.accelerator for e in tight.feasible for pool in tight.deployment(e).pools}
    page = render_answers(answer(tight, Asked(prices=(f"{device}=+50%",)), summary=True))
    assert ">nothing feasible<" in page
    assert "recommended:</b> nothing, as nothing is feasible" in page
    assert "trial None" not in page
    assert "trial &lt;NA&gt;" not in page


def test_nothing_feasible_has_no_answer(result: StudyResult, capsys: pytest.CaptureFixture[str]) -> None:
    empty = replace(result, evaluations=tuple(e for e in result.evaluations if not e.feasible))
    for ask in (binding, importance):
        assert ask(empty).empty
    for question in (lambda: weighted_pick(empty, {"usd_per_hour": 1}), lambda: break_even(empty), lambda: ends(empty)):
        with pytest.raises(SpecError, match="no design keeps every SLO"):
            question()
    show_none(empty)
    nearest = min(empty.simulated, key=lambda e: sum(max(0.0, v) for v in e.constraints.values()))
    assert f"nearest: trial {trial_of(empty, nearest)}, " in capsys.readouterr().out
