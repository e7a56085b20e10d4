"""Metrics: what each says is what the requests and devices of a simulation say; prices change what they change."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.evaluation import Evaluation, build_load, evaluate, precheck
from dse.objectives import LATENCIES, METRICS, describe, direction_of, is_metric, latency_of, metric, value_of
from dse.repricing import Prices, reprice
from dse.spec import StudySpec
from dse.words import label, quantity
from search_spaces import Design
from simulator import SLO, Deployment, Result, SpecError, Workload, build_requests, catalog, simulate
from simulator.metrics import percentile, percentiles

from .conftest import small

DOCS = Path(__file__).parents[2] / "docs" / "objectives.md"
EVERY = [*METRICS, *(f"{name}_{rank}_s" for name in LATENCIES if name != "session" for rank in ("p90", "mean"))]
SLOS = [
    {"metric": "ttft", "percentile": 90, "limit_s": 0.1},
    {"metric": "e2e", "percentile": 50, "limit_s": 6.0},
]
RAG = {
    "pipeline": [{"kind": "embed", "model": "bge-large-en"}, "prefill", "decode"],
    "requests": 200,
    "arrivals": {"process": "poisson", "rate_rps": 4},
    "lengths": {"statistics": "azure-2023-conversation"},
}


@pytest.fixture(scope="module")
def result() -> Result:
    """Two pools of different accelerators, and a service on a third: 300 requests, some of them late."""
    deployment = Deployment.parse(
        {
            "pools": [
                {"name": "fast", "model": "llama-3.1-8b", "accelerator": "h100-sxm", "clients": 1},
                {"name": "slow", "model": "llama-3.1-8b", "accelerator": "l40s", "clients": 3},
            ],
            "services": [{"stage": "embed", "device": "l4", "clients": 2}],
        }
    )
    workload = Workload.parse(RAG)
    return simulate(deployment, build_requests(workload), plan=workload.plan)


@pytest.fixture(scope="module")
def promises() -> tuple[SLO, ...]:
    return tuple(SLO.parse(slo) for slo in SLOS)


def test_every_metric_is_in_the_docs() -> None:
    text = DOCS.read_text(encoding="utf-8")
    missing = [name for name in METRICS if f"`{name}`" not in text]
    assert not missing
    for name, each in METRICS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
        assert ("higher" if each.direction == "maximize" else "lower") in row


@pytest.mark.parametrize("name", EVERY)
def test_every_metric_has_words(name: str) -> None:
    assert metric(name).name == name
    assert direction_of(name) == metric(name).direction
    assert describe(name)
    assert label(name) != name or name == "accelerators"
    assert quantity(name, 0.5)


def test_unknown_metrics_are_told_what_is_known() -> None:
    for name in ("ttft_p0_s", "ttft_p101_s", "cost", "ttft_p9", "usd"):
        assert not is_metric(name)
        with pytest.raises(SpecError, match=r"slo_attainment.*such as ttft_p99_s") as error:
            direction_of(name)
        assert all(known in str(error.value) for known in METRICS)


def test_any_number_of_objectives() -> None:
    spec = small(objectives=EVERY, slos=SLOS)
    assert len(spec.objectives) == len(EVERY) > 20
    design = next(d for d in spec.space.space if precheck(d, spec) is None)
    evaluation = evaluate(design, spec, build_load(spec))
    assert len(evaluation.objectives) == len(EVERY)
    assert all(math.isfinite(value) for value in evaluation.objectives)
    assert all(evaluation.figures[name] == evaluation.objectives[EVERY.index(name)] for name in EVERY)


def test_metrics_against_the_table_of_requests(result: Result, promises: tuple[SLO, ...]) -> None:
    """From the rows a person sees, the deployment as written and the catalogue's data."""
    frame, value = result.requests(), partial(value_of, result=result, slos=promises)
    assert frame["served"].all()
    span = float((frame["arrival_s"] + frame["e2e_s"] - frame["frontend_s"]).max())
    tokens, count = int(frame["output_tokens"].sum()), len(frame)
    assert result.span_s == pytest.approx(span, rel=1e-9)
    assert value("output_tokens_per_s_per_accelerator") == pytest.approx(tokens / span / 4)
    assert value("requests_per_s_per_accelerator") == pytest.approx(count / span / 4)
    good = int(((frame["ttft_s"] <= 0.1) & (frame["e2e_s"] <= 6.0)).sum())
    assert 0 < good < count
    assert value("slo_attainment") == good / count
    assert value("slo_attainment_least") == min((frame["ttft_s"] <= 0.1).mean(), (frame["e2e_s"] <= 6.0).mean())
    h100, l40s, l4 = (catalog.accelerator(name) for name in ("h100-sxm", "l40s", "l4"))
    usd = h100.price_usd_per_hour + 3 * l40s.price_usd_per_hour + 2 * l4.price_usd_per_hour
    assert value("usd_per_hour") == pytest.approx(usd)
    assert value("goodput_requests_per_usd") == pytest.approx(good / (usd * span / 3600))
    assert value("power_peak_w") == h100.tdp_w + 3 * l40s.tdp_w + 2 * l4.tdp_w
    assert value("energy_j_per_request") == pytest.approx(value("power_mean_w") * span / count)
    assert value("energy_j_per_request") == pytest.approx(sum(result.energy_j_per_request.values()))
    assert value("energy_j_per_output_token") * tokens == pytest.approx(value("energy_j_per_request") * count)
    idle = h100.idle_w + 3 * l40s.idle_w + 2 * l4.idle_w
    assert idle < value("power_mean_w") < value("power_peak_w")
    fast, slow = (use.busy for use in result.pools)
    assert value("utilisation_mean") == pytest.approx((fast + 3 * slow) / 4)
    assert value("utilisation_busiest") == max(fast, slow)
    for name in ("ttft", "tpot", "e2e"):
        assert value(f"{name}_mean_s") == pytest.approx(frame[f"{name}_s"].mean(), rel=1e-12)


def test_mean_gap_against_the_histogram(result: Result) -> None:
    """The histogram gives upper edges of bins at most 0.8 % wide, the mean is exact: just below."""
    edges, counts = result.itl_histogram
    binned = float(edges @ counts / counts.sum())
    assert binned / 1.009 < result.mean_s("itl") <= binned
    assert counts.sum() == sum(result.requests()["output_tokens"] - 1)


def test_rejected_requests_have_no_mean() -> None:
    deployment = Deployment.parse({"pools": [{"model": "llama-3.1-8b", "accelerator": "l4", "kv_memory": {}}]})
    constant = {"distribution": "constant", "tokens": 120_000}
    lengths = {"prompt": constant, "output": {"distribution": "constant", "tokens": 1}}
    workload = Workload.parse({"requests": 3, "arrivals": {"process": "poisson", "rate_rps": 1}, "lengths": lengths})
    result = simulate(deployment, workload)
    assert result.rejected == 3
    for name in ("ttft_mean_s", "energy_j_per_request", "energy_j_per_output_token", "usd_per_million_output_tokens"):
        assert value_of(name, result, ()) == math.inf
    assert math.isnan(value_of("itl_mean_s", result, ()))
    assert value_of("slo_attainment", result, ()) == 0


@given(
    st.lists(st.floats(0, 1e6) | st.just(math.inf), min_size=1, max_size=60),
    st.lists(st.floats(0.1, 100), min_size=1, max_size=6),
)
def test_percentiles_at_once_are_percentiles_one_by_one(values: list[float], percents: list[float]) -> None:
    """By definition: the smallest value that at least p percent do not exceed."""
    found = percentiles(np.array(values), percents)
    for percent, value in zip(percents, found, strict=True):
        need = len(values) * percent / 100 - 1e-9
        assert value == next(v for v in sorted(values) if sum(other <= v for other in values) >= need)
        assert value == percentile(np.array(values), percent)


def _one(spec: StudySpec) -> tuple[Design, Evaluation]:
    """Return a design with two types of accelerators, and its evaluation."""
    space = spec.space.space
    choices = {dimension.name: dimension.values[0] for dimension in space.dimensions}
    apart = {"layout": "disaggregated", "prefill.accelerator": "h100-sxm", "decode.accelerator": "l40s"}
    design = space.design({**choices, **apart})
    assert precheck(design, spec) is None
    return design, evaluate(design, spec, build_load(spec))


PRICED = ["usd_per_hour", "usd_per_million_output_tokens", "goodput_requests_per_usd", "e2e_p90_s"]


@pytest.fixture(scope="module")
def priced() -> StudySpec:
    """Two workloads, a service, a soft bound on the price, a hard one: all that a price can change."""
    first = {**RAG, "requests": 60}
    second = {**RAG, "requests": 60, "seed": 7}
    return small(
        workloads=[{"name": "a", "workload": first}, {"name": "b", "workload": second, "weight": 3.0}],
        workload=first,
        robust="weighted",
        services=[{"stage": "embed", "device": "l4", "clients": 2}],
        objectives=PRICED,
        slos=SLOS,
        constraints=[
            {"metric": "usd_per_hour", "at_most": 6.0, "penalty": 0.5},
            {"metric": "usd_per_million_output_tokens", "at_most": 1.0},
        ],
    )


def test_repricing_equals_a_new_simulation(priced: StudySpec, monkeypatch: pytest.MonkeyPatch) -> None:
    design, evaluation = _one(priced)
    names = {str(design["prefill.accelerator"]), str(design["decode.accelerator"]), "l4"}
    assert len(names) == 3
    prices = {name: 3.7 + place for place, name in enumerate(sorted(names))}
    found = reprice(evaluation, priced, Prices(prices))
    dear = {name: catalog.accelerator(name).model_copy(update={"price_usd_per_hour": prices[name]}) for name in names}
    accelerator, device = catalog.accelerator, catalog.device
    monkeypatch.setattr(catalog, "accelerator", lambda name: dear.get(name) or accelerator(name))
    monkeypatch.setattr(catalog, "device", lambda name: dear.get(name) or device(name))
    again = evaluate(design, priced, build_load(priced))
    assert found.objectives == pytest.approx(again.objectives, rel=1e-12)
    assert found.objectives != pytest.approx(evaluation.objectives, rel=1e-3)
    assert found.constraints == pytest.approx(again.constraints, rel=1e-9, abs=1e-12)
    assert found.figures == pytest.approx(again.figures, rel=1e-12)


def test_repricing_at_the_same_prices_changes_nothing(priced: StudySpec) -> None:
    _, evaluation = _one(priced)
    kept = Evaluation.from_json(json.loads(json.dumps(evaluation.to_json())))  # as read from a run's folder
    same = reprice(kept, priced, Prices())
    assert same.objectives == pytest.approx(evaluation.objectives, rel=1e-12)
    assert same.figures == pytest.approx(evaluation.figures, rel=1e-12)


def test_electricity_is_paid_by_the_energy() -> None:
    spec = small(objectives=["usd_per_hour", "energy_j_per_output_token"])
    _, evaluation = _one(spec)
    result = reprice(evaluation, spec, Prices(electricity_usd_per_kwh=0.3))
    figures = evaluation.figures
    kwh = figures["energy_j_per_output_token"] * figures["output_tokens"] / 3.6e6
    paid = (result.objectives[0] - evaluation.objectives[0]) * figures["span_s"] / 3600
    assert paid == pytest.approx(0.3 * kwh)
    assert result.objectives[1] == evaluation.objectives[1]


def test_repricing_holds_designs_against_the_limit() -> None:
    spec = small(limits={"usd_per_hour": 100.0})
    _, evaluation = _one(spec)
    assert "usd_per_hour" not in evaluation.constraints
    dear = {name.removeprefix("devices."): 200.0 for name in evaluation.figures if name.startswith("devices.")}
    assert not reprice(evaluation, spec, Prices(dear)).feasible


def test_repricing_refuses_what_it_cannot_know() -> None:
    spec = small()
    _, evaluation = _one(spec)
    with pytest.raises(SpecError, match="h101"):
        Prices({"h101": 1.0})
    with pytest.raises(SpecError, match="at least 0 USD per hour, given -1"):
        Prices({"l4": -1.0})
    with pytest.raises(SpecError, match="at least 0 USD per kWh"):
        Prices(electricity_usd_per_kwh=math.nan)
    old = {name: value for name, value in evaluation.figures.items() if not name.startswith("devices.")}
    with pytest.raises(SpecError, match="earlier version"):
        reprice(replace(evaluation, figures=old), spec, Prices())


def test_latencies_by_name() -> None:
    assert latency_of("itl_p99.9_s") == ("itl", 99.9)
    assert latency_of("session_mean_s") == ("session", None)
    assert latency_of("usd_per_hour") is None
