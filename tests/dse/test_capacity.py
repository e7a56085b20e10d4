"""Capacity: against queueing theory and brute force, the same every time, and honest about queues that grow."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from dse.capacity import Load, Trial, at_rate, attempt, capacity_of, knee_of, least_cost, scaled, search, sweep
from dse.capacity.page import render_sweep
from dse.cli.capacity import capacity as command
from simulator import SLO, Deployment, SpecError, Workload, build_requests, simulate

AZURE = {"statistics": "azure-2023-conversation"}


def chat(requests: int = 2000, **changes: Any) -> Workload:
    """A bursty chat load."""
    arrivals = {"process": "statistics", "rate_rps": 4.0, **AZURE}
    return Workload.parse({"requests": requests, "arrivals": arrivals, "lengths": AZURE, **changes})


def chat_server(**changes: Any) -> Deployment:
    return Deployment.parse({"pools": [{"model": "llama-3.1-8b", "accelerator": "l40s", "clients": 2, **changes}]})


def promise(metric: str, percentile: float, limit_s: float) -> SLO:
    return SLO.parse({"metric": metric, "percentile": percentile, "limit_s": limit_s})


# Theory: one request at a time, all alike


def one_by_one() -> Deployment:
    """A server that reads one prompt at a time: with prompts of one length a queue with constant service."""
    batching = {"policy": "static", "max_batch_requests": 1}
    return Deployment.parse({"pools": [{"model": "llama-3.1-8b", "accelerator": "h100-sxm", "batching": batching}]})


def alike(requests: int, *, process: str = "poisson", rate_rps: float = 1.0) -> Workload:
    lengths = {
        "prompt": {"distribution": "constant", "tokens": 2000},
        "output": {"distribution": "constant", "tokens": 1},
    }
    arrivals = {"process": process, "rate_rps": rate_rps}
    return Workload.parse({"requests": requests, "seed": 3, "arrivals": arrivals, "lengths": lengths})


def service_and_way_s() -> tuple[float, float]:
    """Return how long a prompt keeps the server, and what else is in its time to first token."""
    lone = simulate(one_by_one(), alike(100, process="constant", rate_rps=0.01))
    service_s = lone.pools[0].busy * lone.span_s / 100
    return service_s, float(lone.ttft_s[0]) - service_s


def waiting_share(wait_s: float, rate_rps: float, service_s: float) -> float:
    """Return the share of requests of M/D/1 that wait at most so long (A. K. Erlang, 1909).

    ``P(W <= t) = (1 - rate S) sum_{k=0}^{floor(t/S)} exp(rate (t - k S)) (-rate (t - k S))^k / k!``
    """
    terms = (
        math.exp(rate_rps * (wait_s - k * service_s)) * (-rate_rps * (wait_s - k * service_s)) ** k / math.factorial(k)
        for k in range(int(wait_s // service_s) + 1)
    )
    return (1 - rate_rps * service_s) * sum(terms)


@pytest.mark.parametrize("waits", [1.5, 4.0])
def test_sustained_rate_of_constant_service_is_erlangs(waits: float) -> None:
    """Measured with 20,000, 50,000 and 100,000 requests: within 1.1 % of theory."""
    service_s, way_s = service_and_way_s()
    slo = promise("ttft", 90, way_s + (1 + waits) * service_s)
    found = capacity_of(one_by_one(), alike(20_000), [slo])
    lowest, highest = 0.01 / service_s, 0.999 / service_s
    expected = brentq(lambda rate: waiting_share(waits * service_s, rate, service_s) - 0.9, lowest, highest)
    assert found.rate_rps == pytest.approx(expected, rel=0.03)
    assert found.searches[0].limit.broken == slo.name


def test_without_promises_the_rate_is_that_of_the_server() -> None:
    service_s, _ = service_and_way_s()
    found = capacity_of(one_by_one(), alike(5000))
    assert found.rate_rps == pytest.approx(1 / service_s, rel=0.015)
    assert found.searches[0].limit.broken == "queue"
    assert "the queue grows" in found.limited_by


# Queues that grow


def test_overload_that_a_short_run_hides_is_not_sustained() -> None:
    """A fifth more than the server can do: a lenient promise holds in one run, but every pass adds to the queue."""
    service_s, _ = service_and_way_s()
    lenient, load = promise("ttft", 99, 60.0), Load.of(alike(1000))
    rate_rps = 1.2 / service_s
    trial, result = attempt(one_by_one(), load, rate_rps, [lenient])
    assert result is not None
    assert result.violation(lenient) < 0
    assert not trial.holds
    assert trial.broken == "queue"
    # What arrives less what is served: a sixth of the requests of a pass.
    assert trial.growth_requests == pytest.approx(1000 * (1 - 1 / 1.2), rel=0.02)


def test_promise_broken_only_when_the_requests_come_again_is_not_sustained() -> None:
    service_s, _ = service_and_way_s()
    load, rate_rps = Load.of(alike(1000)), 1.2 / service_s
    once = simulate(one_by_one(), at_rate(load.requests, rate_rps)).percentile_s("ttft", 99)
    slo = promise("ttft", 99, once * 1.01)
    trial, _ = attempt(one_by_one(), load, rate_rps, [slo])
    assert not trial.holds
    assert trial.broken == slo.name
    assert trial.reached_s[slo.name] <= slo.limit_s < trial.reached_again_s[slo.name]


@pytest.mark.parametrize("share", [0.3, 0.7, 0.9, 0.97])
def test_a_server_that_keeps_up_is_not_called_overloaded(share: float) -> None:
    service_s, _ = service_and_way_s()
    for seed in range(5):
        load = Load.of(alike(2000).model_copy(update={"seed": seed}))
        trial, _ = attempt(one_by_one(), load, share / service_s, [])
        assert trial.holds, (seed, trial)


def test_tpot_alone_does_not_hide_the_queue() -> None:
    """Time per token levels off at the batch limit; only the queue tells that the load is too much."""
    server = chat_server(batching={"max_batch_requests": 16})
    slo = promise("tpot", 90, 1.0)
    found = capacity_of(server, chat(), [slo])
    high = simulate(server, at_rate(build_requests(chat()), 20 * found.rate_rps))
    assert high.violation(slo) < 0
    assert found.searches[0].limit.broken == "queue"


# The search


def steps(thresholds: list[float]) -> Callable[[float], Trial]:
    """Return trials that hold up to the first threshold, not up to the second, again up to the third, …"""
    return lambda rate: Trial(rate, sum(rate > each for each in thresholds) % 2 == 0, {}, broken="queue")


@given(st.floats(1e-3, 1e6), st.floats(1e-2, 1e4), st.floats(0.001, 0.5))
@settings(max_examples=200, deadline=None)
def test_search_finds_a_single_threshold(threshold: float, start: float, tolerance: float) -> None:
    tried: list[float] = []

    def attempted(rate: float) -> Trial:
        tried.append(rate)
        return steps([threshold])(rate)

    found = search(attempted, start, tolerance=tolerance)
    if threshold < start * 1e-6:
        assert found.rate_rps == 0
        assert found.best is None
    else:
        assert found.rate_rps <= threshold < found.failing_rps <= found.rate_rps * (1 + tolerance) * (1 + 1e-12)
    assert found.holds_again_rps == ()
    assert len(set(tried)) == len(tried)  # nothing is simulated twice
    assert [trial.rate_rps for trial in found.trials] == sorted(tried)


@given(st.lists(st.floats(0.1, 1000), min_size=1, max_size=9, unique=True), st.floats(0.1, 100))
@settings(max_examples=200, deadline=None)
def test_search_is_honest_about_rates_that_hold_again(thresholds: list[float], start: float) -> None:
    odd = sorted(thresholds)[: len(thresholds) - (len(thresholds) % 2 == 0)]  # in the end nothing holds
    found = search(steps(odd), start)
    below = [trial for trial in found.trials if trial.rate_rps <= found.rate_rps]
    assert all(trial.holds for trial in below)
    assert not found.limit.holds
    assert found.failing_rps <= found.rate_rps * 1.01 * (1 + 1e-12)
    above = [trial for trial in found.trials if trial.rate_rps > found.failing_rps]
    assert found.holds_again_rps == tuple(trial.rate_rps for trial in above if trial.holds)


def test_search_looks_for_holes_below_its_answer() -> None:
    """Bracketing from 9.5 never sees that 7.5 to 8.5 do not hold; four fifths of the answer, 10, lie there."""
    found = search(steps([7.5, 8.5, 10.0]), 9.5)
    assert found.rate_rps <= 7.5 < found.failing_rps <= 7.5 * 1.01
    assert any(8.5 < rate <= 10 for rate in found.holds_again_rps)


def test_search_gives_up_where_nothing_holds() -> None:
    found = search(steps([1e-9]), 5.0, lowest_rps=0.01)
    assert found.rate_rps == 0
    assert found.failing_rps == 0.01


# Common random numbers


def test_stretching_is_what_a_trace_does(tmp_path: Path) -> None:
    requests = build_requests(chat(500))
    rows = zip(requests.arrival_ps / 1e12, requests.prompt_tokens, requests.output_tokens, strict=True)
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{a},{p},{o}\n" for a, p, o in rows))
    stretched = build_requests(Workload.parse({"trace": {"path": str(path), "rate_rps": 7.5}}))
    again = at_rate(build_requests(Workload.parse({"trace": {"path": str(path)}})), 7.5)
    assert again.fingerprint() == stretched.fingerprint()
    assert again.rate_rps == pytest.approx(7.5)


def test_the_answer_is_the_same_every_time() -> None:
    slos = [promise("ttft", 90, 0.6), promise("tpot", 90, 0.08)]
    first = capacity_of(chat_server(), chat(), slos, replications=3)
    again = capacity_of(chat_server(), chat(), slos, replications=3, jobs=2)
    assert first.table.equals(again.table)
    assert first.rate_rps == again.rate_rps
    alone = capacity_of(chat_server(), chat(), slos)
    assert alone.rates_rps == first.rates_rps[:1]


def test_the_start_hardly_matters() -> None:
    slo = promise("ttft", 90, 0.6)
    answers = [capacity_of(chat_server(), chat(), [slo], start_rps=start).rate_rps for start in (0.05, 4.0, 300.0)]
    assert max(answers) <= min(answers) * 1.03


def test_the_answer_holds_as_dse_simulate_sees_it() -> None:
    slo = promise("ttft", 90, 0.6)
    found = capacity_of(chat_server(), chat(), [slo])
    low, high = found.bracket_rps
    assert low == found.rate_rps
    assert high <= low * 1.01
    best = found.searches[0].best
    assert best is not None
    reached = simulate(chat_server(), at_rate(build_requests(chat()), low)).percentile_s("ttft", 90)
    assert best.reached_s[slo.name] == reached <= slo.limit_s
    assert set(found.table["rate_rps"]) == {trial.rate_rps for trial in found.searches[0].trials}


def test_tighter_promises_and_fewer_clients_never_sustain_more() -> None:
    loose, tight = promise("ttft", 90, 0.8), promise("ttft", 90, 0.3)
    base = capacity_of(chat_server(), chat(), [loose]).rate_rps
    assert capacity_of(chat_server(), chat(), [tight]).rate_rps < base
    assert capacity_of(chat_server(clients=1), chat(), [loose]).rate_rps < base
    assert capacity_of(chat_server(clients=4), chat(), [loose]).rate_rps > base


def test_replications_differ_and_the_interval_holds_their_mean() -> None:
    found = capacity_of(chat_server(), chat(), [promise("ttft", 90, 0.6)], replications=4)
    assert len(set(found.rates_rps)) > 1
    interval = found.interval_rps
    assert interval.low < np.mean(found.rates_rps) == found.rate_rps < interval.high
    assert found.bracket_rps[0] == min(found.rates_rps)


def test_sessions_are_counted_and_their_think_times_stay() -> None:
    session = {"turns": 3, "wait_s": 5, "prompt_tokens": 100}
    load = chat(300, session=session)
    found = capacity_of(chat_server(), load, [promise("session", 90, 60.0)])
    assert found.counted == "sessions"
    slower = at_rate(build_requests(load), 0.1)
    assert slower.sessions is not None
    assert set(slower.sessions.wait_ps.tolist()) == {0, 5 * 10**12}
    assert slower.rate_rps == pytest.approx(0.1)


def test_prefix_caches_do_not_know_the_next_pass() -> None:
    """Played again, no prompt is found in a cache that only its twin has filled."""
    load = Load.of(chat(300, prefix={"system_prompts": 3, "tokens": 512}))
    prefixes = load.passes.prefixes
    assert prefixes is not None
    each: list[set[int]] = [set(), set(), set()]
    for row in range(900):
        first, count = prefixes.chunk_first[row], prefixes.all_chunks[row]
        each[row // 300] |= set(prefixes.chunks[first : first + count].tolist())
    assert not each[0] & each[1]
    assert not each[1] & each[2]
    assert len(each[0]) == len(each[1]) == len(each[2]) > 0
    cached = chat_server(prefix_cache={})
    assert capacity_of(cached, load, [promise("ttft", 90, 0.6)]).rate_rps > 0


# What cannot be asked


def test_closed_loops_and_short_loads_have_no_rate() -> None:
    with pytest.raises(SpecError, match="at least 100"):
        capacity_of(chat_server(), chat(99))
    requests = build_requests(chat(200))
    at_once = type(requests)(np.zeros(200), requests.prompt_tokens, requests.output_tokens)
    with pytest.raises(SpecError, match="closed loop"):
        capacity_of(chat_server(), Load(at_once))


def test_a_promise_that_no_rate_keeps() -> None:
    found = capacity_of(chat_server(), chat(300), [promise("ttft", 90, 1e-6)])
    assert found.rate_rps == 0
    assert found.searches[0].best is None
    assert "TTFT p90" in found.limited_by


def test_a_deployment_that_rejects_everything_sustains_nothing() -> None:
    found = capacity_of(chat_server(min_prompt_tokens=900_000), chat(300))
    assert found.rate_rps == 0
    assert found.limited_by.startswith("every request is rejected")


@pytest.mark.parametrize("wrong", [{"tolerance": 0.0}, {"replications": 0}, {"tolerance": 2.0}])
def test_wrong_numbers_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(wrong))):
        capacity_of(chat_server(), chat(300), **wrong)


# Sweeps and costs


def test_sweep_is_what_single_runs_say() -> None:
    slos = [promise("ttft", 90, 0.6), promise("itl", 99, 0.3)]
    table = sweep(chat_server(), chat(), [2.0, 1.0, 40.0], slos)
    assert table.index.get_level_values("rate_rps").tolist() == [1.0, 2.0, 40.0]
    for (_, rate_rps), row in table.iterrows():
        single = simulate(chat_server(), at_rate(build_requests(chat()), rate_rps))
        assert row["ttft_p99_s"] == single.percentile_s("ttft", 99)
        assert row["itl_p99_s"] == single.percentile_s("itl", 99)
        assert row["goodput_rps"] == single.goodput_rps(tuple(slos))
        assert row["ttft_p90_s_low"] <= row["ttft_p90_s"] <= row["ttft_p90_s_high"]
    assert table["holds"].tolist() == [True, True, False]
    assert sweep(chat_server(), chat(), [2.0, 1.0, 40.0], slos, jobs=2).equals(table)


def test_knee_of_an_open_queue_is_half_its_rate() -> None:
    """M/M/1: median stay ``ln 2 / (mu - rate)``, so power is proportional to ``rate (mu - rate)`` (Kleinrock, 1979)."""
    import pandas as pd

    rates = np.linspace(0.1, 9.9, 99)
    table = pd.DataFrame({"replication": 0, "rate_rps": rates, "power": rates * (10 - rates) / math.log(2)})
    table = table.set_index(["replication", "rate_rps"])
    assert knee_of(table) == pytest.approx(5.0)
    assert math.isnan(knee_of(table[:30]))  # it lies beyond


def test_least_cost_against_trying_every_number_of_clients() -> None:
    slos = [promise("ttft", 90, 0.6)]
    designs = {"small": chat_server(clients=3), "large": chat_server(accelerator="h100-sxm", clients=1)}
    table = least_cost(designs, chat(1000), [1.0, 12.0], slos)
    load = Load.of(chat(1000))
    for row in table.to_dict("records"):
        holding = [
            clients
            for clients in range(1, 17)
            if attempt(scaled(designs[row["design"]], clients), load, row["rate_rps"], slos)[0].holds
        ]
        assert row["clients"] in holding
        assert row["clients"] - 1 not in holding
        one = simulate(scaled(designs[row["design"]], 1), load.requests)
        assert row["usd_per_hour"] == pytest.approx(row["clients"] * one.usd_per_hour)
    for rate_rps, rows in table.groupby("rate_rps"):
        assert rows["usd_per_hour"].is_monotonic_increasing, rate_rps
        assert rows["cheapest"].tolist() == [True, False]
    assert least_cost(designs, chat(1000), [1.0, 12.0], slos, jobs=2).equals(table)


def test_least_cost_says_where_no_number_of_clients_will_do() -> None:
    table = least_cost({"only": chat_server()}, chat(300), [5.0], [promise("ttft", 90, 1e-6)], most_clients=4)
    assert table["holds"].tolist() == [False]
    assert not table["cheapest"].any()
    assert table["one_less_breaks"].tolist() == ["ttft_p90_s"]


def test_scaling_keeps_proportions_and_groups() -> None:
    pools = [
        {"name": "p", "model": "llama-3.1-8b", "accelerator": "l40s", "role": "prefill", "clients": 2, "groups": 2},
        {"name": "d", "model": "llama-3.1-8b", "accelerator": "l40s", "role": "decode", "clients": 6, "groups": 2},
    ]
    deployment = Deployment.parse({"pools": pools})
    for clients in range(1, 20):
        small, large = (pool.clients for pool in scaled(deployment, clients).pools)
        assert clients <= large < clients + 2
        assert clients / 3 <= small < clients / 3 + 2
        assert small % 2 == large % 2 == 0
    assert scaled(deployment, 6) == deployment


# Page and command


def test_page_is_self_contained_and_its_figures_are_valid() -> None:
    import plotly.graph_objects as go

    from dse.capacity.page import latency_figure

    slos = [promise("ttft", 95, 0.6)]
    found = capacity_of(chat_server(), chat(500), slos)
    table = sweep(chat_server(), chat(500), [1.0, 4.0, 8.0, 12.0, 30.0], slos)
    page = render_sweep(table, found, "a <load>")
    assert page == render_sweep(table, found, "a <load>")
    assert "a &lt;load&gt;" in page
    assert "http://" not in page.split("<script>")[0]
    assert "https://" not in page.split("<script>")[0]
    figure = latency_figure(table, "ttft", slos, found.rate_rps, 5.0, "requests/s")
    names = [trace["name"] for trace in figure["data"]]
    assert names == ["p50", "p90", "p95", "p99", "p95 limit", "sustained", "knee"]
    p95 = figure["data"][2]["y"]
    assert p95 == pytest.approx(table["ttft_p95_s"].tolist(), rel=1e-4)
    layout = {key: value for key, value in figure["layout"].items() if key != "template"}
    go.Figure(figure["data"][:-2], layout)  # refuses what Plotly does not know; the last two have colours of the page


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "deployment.yaml").write_text("pools: [{model: llama-3.1-8b, accelerator: l40s, clients: 2}]")
    (tmp_path / "workload.yaml").write_text(chat(500).to_yaml())
    return [str(tmp_path / "deployment.yaml"), "--workload", str(tmp_path / "workload.yaml")]


def dse_capacity(*arguments: str) -> Any:
    import typer
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(arguments))


def test_command_answers_in_json(files: list[str], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    more = ["--slo", "ttft:p90:0.6", "--rates", "1:8:3", "--cost", "2,9", "--plot", str(page), "--json"]
    result = dse_capacity(*files, *more)
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    expected = capacity_of(chat_server(), chat(500), [promise("ttft", 90, 0.6)])
    assert answer["rate_rps"] == expected.rate_rps
    assert answer["interval_low_rps"] is None
    assert [row["rate_rps"] for row in answer["sweep"]] == [1.0, 4.5, 8.0]
    assert [row["rate_rps"] for row in answer["least_cost"]] == [2.0, 9.0]
    assert len(answer["tried"]) == len(expected.table)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_command_says_it_in_words(files: list[str], tmp_path: Path) -> None:
    result = dse_capacity(*files, "--slo", "ttft:90:0.6", "--replications", "2", "--cost", "3")
    assert result.exit_code == 0, result.output
    assert "sustains" in result.stdout
    assert "limited by" in result.stdout
    assert "2 replications" in result.stdout
    nothing = dse_capacity(*files, "--slo", "ttft:90:0.000001", "--plot", str(tmp_path / "page.html"))
    assert nothing.exit_code == 3
    assert "sustains no rate" in nothing.stdout


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--slo", "ttft:p90"),
        ("--slo", "ttft:px:1"),
        ("--rates", "5:2:3"),
        ("--rates", "1:2"),
        ("--tolerance", "0%"),
        ("--cost", "1,-2"),
        ("--replications", "0"),
        ("--jobs", "0"),
    ],
)
def test_command_refuses_what_makes_no_sense(files: list[str], option: str, value: str) -> None:
    result = dse_capacity(*files, option, value)
    assert isinstance(result.exception, SpecError)
    assert option in str(result.exception)


def test_command_answers_for_the_front_of_a_run(tmp_path: Path) -> None:
    from dse.output import JOURNAL, claim, save
    from dse.study import run_study

    from .conftest import small

    spec = small(budget={"trials": 20})
    folder = tmp_path / "run"
    with claim(folder, resume=False, overwrite=False):
        result = run_study(spec, jobs=1, journal=folder / JOURNAL)
        save(result, folder)
    answered = dse_capacity(str(folder), "--json", "--cost", "2")
    assert answered.exit_code == 0, answered.output
    found = json.loads(answered.stdout)
    assert len(found["designs"]) == len(result.distinct_front)
    # What keeps its promises at the study's rate sustains it, but for what only playing again shows.
    assert all(row["rate_rps"] > 0.8 * spec.workload.arrivals.rate_rps for row in found["designs"])  # type: ignore[union-attr]
    refused = dse_capacity(str(folder), "--clients", "3")
    assert "--clients" in str(refused.exception)


def test_the_page_of_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "capacity.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    exec(compile(code, "docs/capacity.md", "exec"), {})
    assert "bottleneck" in capsys.readouterr().out
