"""The report: self-contained, escaped, complete, the same for the same result, in all kinds of studies."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from dse import StudyResult, StudySpec, run_study, words
from dse.cli.screen import show_result
from dse.confidence import Replications, Sureness, confirm
from dse.evaluation import build_load
from dse.output import to_json
from dse.report import render_markdown, render_report
from dse.report.chosen import SHOWN, Chosen, quantiles, spread
from dse.report.outlook import outlook, rates_said
from dse.report.promises import _seconds
from dse.report.spending import parts_of
from dse.report.summary import summary
from dse.repricing import Prices
from dse.understanding import break_even, repriced
from simulator import catalog, simulate

from .random_pairs import random_pairs

QUESTION = '<script>alert("who & why")</script>'


def study(**changes: Any) -> StudyResult:
    """Run a small study: an 8B model, 300 requests, 40 designs."""
    text: dict[str, Any] = {
        "name": "small",
        "question": QUESTION,
        "model": "llama-3.1-8b",
        "workload": {
            "requests": 300,
            "arrivals": {"process": "poisson", "rate_rps": 10},
            "lengths": {
                "prompt": {"distribution": "uniform", "low_tokens": 100, "high_tokens": 900},
                "output": {"distribution": "geometric", "mean_tokens": 100},
            },
        },
        "space": {"accelerators": ["a100-80gb", "h100-sxm"], "clients": [1, 2, 4], "tp": [1, 2]},
        "limits": {"accelerators": 8},
        "objectives": ["usd_per_hour", "e2e_p90_s"],
        "slos": [{"metric": "ttft", "percentile": 90, "limit_s": 0.5}],
        "budget": {"trials": 40},
    }
    whole = {key: value for key, value in {**text, **changes}.items() if value is not None}
    return run_study(StudySpec.parse(whole), jobs=1)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return study()


@pytest.fixture(scope="module")
def page(result: StudyResult) -> str:
    return render_report(result)


class Reader(HTMLParser):
    """Collect what can load something, headings, identifiers and text; complain of tags that do not match."""

    VOID = frozenset({"meta", "br", "input", "link", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [given[name] or "" for name in ("src", "href", "srcset", "action", "data") if name in given]
        self.ids += [given["id"] or ""] if "id" in given else []
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data


def payload(page: str) -> dict[str, Any]:
    found = re.search(r'<script id="report-data" type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def resolved(value: Any, shared: dict[str, Any]) -> Any:
    """Do what the page's script does."""
    if isinstance(value, str):
        return "#123456" if value.startswith("--") else value
    if isinstance(value, list):
        return [resolved(item, shared) for item in value]
    if not isinstance(value, dict):
        return value
    if "$" in value:
        whole = shared[value["$"]]
        return resolved([whole[i] for i in value["at"]] if "at" in value else whole, shared)
    return {key: resolved(item, shared) for key, item in value.items()}


def test_loads_nothing_from_a_network(page: str) -> None:
    own = page.replace(get_plotlyjs(), "")
    assert len(own) < 500_000
    assert "http://" not in own
    assert "https://" not in own
    assert "@import" not in own
    assert "url(" not in own
    assert not re.search(r"\bfetch\(|XMLHttpRequest|WebSocket|import\(", own)
    assert all(link.startswith("#") for link in Reader(own).links)
    assert "default-src 'none'" in own


def test_plotly_is_there_once(page: str) -> None:
    assert page.count(get_plotlyjs()) == 1


def test_same_result_same_bytes(result: StudyResult, page: str) -> None:
    assert render_report(result) == page


def test_is_well_formed_and_in_order(page: str) -> None:
    read = Reader(page.replace(get_plotlyjs(), ""))
    assert len(set(read.ids)) == len(read.ids)
    assert read.headings[0] == 1
    assert all(below <= above + 1 for above, below in zip(read.headings, read.headings[1:], strict=False))


def test_text_of_the_study_is_escaped(page: str) -> None:
    assert QUESTION not in page
    assert QUESTION in Reader(page.replace(get_plotlyjs(), "")).text


def test_shows_the_recommendation(result: StudyResult, page: str) -> None:
    assert result.recommended
    text = Reader(page.replace(get_plotlyjs(), "")).text
    assert words.short(result.deployment(result.recommended)) in text
    assert words.quantity("usd_per_hour", result.recommended.figures["usd_per_hour"]) in text
    assert result.requests.fingerprint() in text
    assert "dse run small.yaml --seed 0" in text


def test_shipped_study_is_reproduced_by_name() -> None:
    from dse import load_study
    from dse.report.origin import reproduce
    from dse.result import Clock
    from simulator import Requests

    requests = Requests([0, 1], [1, 1], [1, 1])  # type: ignore[arg-type]
    spec = load_study("chat").model_copy(update={"seed": 7})
    assert "dse run chat --seed 7" in reproduce(StudyResult(spec, (), (requests,), Clock(1.0, 0.5, 0.5)))


@pytest.mark.parametrize(
    "objectives",
    [
        ["usd_per_hour"],
        ["usd_per_hour", "e2e_p90_s"],
        ["output_tokens_per_s", "usd_per_hour", "ttft_p99_s"],
        ["goodput_rps", "usd_per_hour", "ttft_p99_s", "energy_j_per_output_token"],
    ],
)
def test_figures_are_valid_for_any_number_of_objectives(objectives: list[str]) -> None:
    result = study(objectives=objectives)
    data = payload(render_report(result))
    pairs = {1: 1, 2: 1, 3: 3, 4: 6}[len(objectives)]
    assert sum(key.startswith("front") for key in data["figures"]) == pairs
    for figure in data["figures"].values():
        go.Figure(resolved(figure, data["shared"]))


def test_designs_of_several_models_are_drawn() -> None:
    """Layouts are then those of all stages, ``colocated+disaggregated``."""
    result = study(
        model={"small": "llama-3.2-1b", "large": "llama-3.1-8b"},
        workload={
            "requests": 200,
            "arrivals": {"process": "poisson", "rate_rps": 5},
            "lengths": {"statistics": "azure-2023-conversation"},
            "pipeline": [{"kind": "route", "name": "router", "by": "chance", "to": {"small": 1, "large": 1}}],
        },
        services=[{"stage": "router", "device": "epyc-9654"}],
        space={
            "accelerators": ["h100-sxm"],
            "clients": [1],
            "stages": {"small": {"layouts": ["colocated"]}, "large": {"layouts": ["disaggregated"]}},
        },
    )
    assert {e.design.text("layout") for e in result.simulated} == {"colocated+disaggregated"}
    page = render_report(result)
    rows = Tables(page).found["Pools of F1"][1:]
    of_large = [f"{what} of large (llama-3.1-8b)" for what in ("prefill", "decode")]
    assert [row[0] for row in rows] == ["prefill and decode of small (llama-3.2-1b)", *of_large]
    data = payload(page)
    drawn = resolved(data["figures"]["front"], data["shared"])["data"]
    assert any("diamond" in symbol for trace in drawn for symbol in trace.get("marker", {}).get("symbol", ()))


def test_no_feasible_design_names_what_to_relax() -> None:
    result = study(slos=[{"metric": "ttft", "percentile": 99, "limit_s": 1e-4}])
    assert not result.feasible
    page = render_report(result)
    text = Reader(page.replace(get_plotlyjs(), "")).text
    assert "No feasible design" in text
    assert "To relax: TTFT p99 to " in text
    data = payload(page)
    for figure in data["figures"].values():
        go.Figure(resolved(figure, data["shared"]))


def in_text(page: str) -> str:
    return Reader(page.replace(get_plotlyjs(), "")).text


def test_a_broken_bound_is_relaxed_like_an_slo_and_a_soft_promise_is_not() -> None:
    soft = {"metric": "ttft", "percentile": 99, "limit_s": 1e-4, "penalty": 1.0}
    result = study(slos=[soft], constraints=[{"metric": "usd_per_hour", "at_most": 1}])
    page = render_report(result)
    cheapest = min(e.figures["usd_per_hour"] for e in result.simulated)
    assert f"To relax: cost per hour to {cheapest:.2f} USD (now 1.00 USD) would make N1 feasible." in in_text(page)
    (promise,) = Tables(page).found["Promises that simulated designs broke"][1:]
    many = str(len(result.simulated))
    assert promise == ["cost per hour at most", "1.00 USD", many, "100 %", many, f"{cheapest:.2f} USD"]
    head, nearest = Tables(page).found["Least violating designs"][:2]
    assert nearest[head.index("Cost per hour at most margin")] == f"−{words.percent(cheapest - 1)}"
    slo = {"metric": "ttft", "percentile": 99, "limit_s": 1e-4}
    both = in_text(render_report(study(slos=[slo], constraints=[{"metric": "output_tokens_per_s", "at_least": 1e6}])))
    assert re.search(r"To relax: TTFT p99 to \S+ ms \(now 0.1 ms\) and output tokens per second to \S+ \(now 1,", both)


def test_the_terminal_says_by_how_much_the_nearest_design_misses_what(capsys: pytest.CaptureFixture[str]) -> None:
    slo = {"metric": "ttft", "percentile": 99, "limit_s": 1e-6, "penalty": 1.0}
    result = study(slos=[slo], constraints=[{"metric": "usd_per_hour", "at_most": 1}])
    show_result(result, Path("runs/[test]"))
    said = " ".join(capsys.readouterr().out.split())
    over = words.percent(min(e.figures["usd_per_hour"] for e in result.simulated) - 1)
    assert "no design keeps every promise nearest: " in said
    assert f", which misses cost per hour by {over} report: runs/[test]/report.html" in said


def test_no_limit_holds_what_is_not_finite() -> None:
    """Answers of one token have no time per output token."""
    workload = {
        "requests": 50,
        "arrivals": {"process": "poisson", "rate_rps": 10},
        "lengths": {kind: {"distribution": "constant", "tokens": 1} for kind in ("prompt", "output")},
    }
    slo = {"metric": "ttft", "percentile": 99, "limit_s": 1e-6}
    page = render_report(study(workload=workload, objectives=["tpot_p90_s"], slos=[slo]))
    text = in_text(page)
    assert "would make N1 feasible" not in text
    assert "It misses: a finite value of every objective, TTFT p99. " in text
    rows = Tables(page).found["Promises that simulated designs broke"]
    assert [row[0] for row in rows] == ["Promise", "TTFT p99", "a finite value of every objective"]
    assert rows[2][1] == rows[2][5] == "–"
    without = in_text(render_report(study(workload=workload, objectives=["tpot_p90_s"], slos=[])))
    assert "It misses: a finite value of every objective. " in without


def test_a_soft_slo_that_is_missed_is_not_said_to_be_kept() -> None:
    soft = {"metric": "ttft", "percentile": 99, "limit_s": 1e-4, "penalty": 0.1}
    chosen = Chosen(study(slos=[soft]))
    found = outlook(chosen)
    said = {point.topic: point.said for point in summary(chosen, found)}
    assert "TTFT p99 is missed" in said["It keeps"]
    assert "it keeps every hard promise" in said["Other rates"]
    assert "it keeps every promise" not in said["Other rates"]
    rows = Tables(render_report(chosen.result)).found["Rate of requests 20 % lower and higher"][1:]
    assert {row[3] for row in rows} == {"hard ones kept"}
    bound = {"metric": "usd_per_hour", "at_most": 1, "penalty": 0.1}
    bounded = Chosen(study(constraints=[bound]))
    assert "it keeps every promise" not in rates_said(bounded, outlook(bounded))


def test_services_that_are_searched_are_said_of_each_design() -> None:
    embed = {"devices": ["epyc-9654", "l4"], "clients": [1], "max_batches_requests": [8, 16]}
    workload = {
        "requests": 200,
        "arrivals": {"process": "poisson", "rate_rps": 10},
        "lengths": {"statistics": "azure-2023-conversation"},
        "pipeline": [{"kind": "embed", "model": "bge-large-en"}, "prefill", "decode"],
    }
    space = {"accelerators": ["h100-sxm"], "clients": [1, 2], "layouts": ["colocated"], "token_budgets_tokens": [2048]}
    searched = study(workload=workload, space={**space, "services": {"embed": embed}})
    chosen, page = Chosen(searched), render_report(searched)
    assert chosen.recommended
    (service,) = chosen.recommended.deployment.services
    text = in_text(page)
    assert text.count(f"Services: {words.served(service)}.") >= 3  # in short, recommendation, its panel
    assert "of the LLM. Weights in" in text
    assert "the same in every design" not in text
    tables = Tables(page).found
    assert "Services around the LLM" in tables
    front = next(rows for caption, rows in tables.items() if caption.startswith("Front of"))
    assert front[0][1] == "Accelerators of the LLM"
    assert all("embed 1 × " in row[0] for row in front[1:])
    assert all("embed 1 × " in each for each in payload(page)["shared"]["designs"])
    given = [{"stage": "embed", "device": "l4"}]
    fixed = render_report(study(workload=workload, space=space, services=given))
    assert "Services around the LLM, the same in every design" in Tables(fixed).found
    assert "Services: embed 1 × l4, batch 32." in in_text(fixed)
    assert all("embed" not in each for each in payload(fixed)["shared"]["designs"])


def test_nothing_simulated() -> None:
    result = study(
        model="llama-3.1-70b", space={"accelerators": ["l40s"], "clients": [1], "tp": [1], "layouts": ["colocated"]}
    )
    assert not result.simulated
    text = Reader(render_report(result).replace(get_plotlyjs(), "")).text
    assert "No design could be simulated." in text
    assert "model does not fit into memory" in text


def test_no_slos() -> None:
    assert "The study has no SLOs." in render_report(study(slos=[]))


def test_figures_of_designs_are_capped_with_the_recommended_one(result: StudyResult) -> None:
    chosen = Chosen(result)
    assert chosen.recommended in chosen.shown
    assert {rival.design for rival in chosen.rivals} <= set(chosen.shown)
    assert len(chosen.shown) == min(SHOWN, len(result.front))


def test_spread_takes_clusters_once() -> None:
    points = np.array([[0.0, 1.0], [0.0, 0.999], [0.5, 0.5], [1.0, 0.001], [1.0, 0.0]])
    assert spread(points, 3, [2]) == [0, 2, 4]
    assert spread(points, 9, [2]) == [0, 1, 2, 3, 4]


def test_latency_curve_is_of_the_simulators_percentiles(result: StudyResult) -> None:
    from dse.report.chosen import LEVELS, latency_curve

    assert result.recommended
    simulation = result.simulate(result.recommended)
    for metric in ("ttft", "tpot", "itl", "e2e"):
        curve = latency_curve(simulation, metric)
        assert curve is not None
        assert len(curve) <= 200
        for level in (0.5, 0.9, 0.99):
            index = int(abs(LEVELS - level).argmin())
            assert curve[index] == simulation.percentile_s(metric, 100 * level)
    assert quantiles(simulation.ttft_s)[-1] == simulation.ttft_s.max()


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.000123, "0.000123"), (1.0, "1"), (1.234, "1.23"), (12.34, "12.3"), (12345.6, "12,346")],
)
def test_number(value: float, text: str) -> None:
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1, "100 %"), (0.9999999, "> 99.9 %"), (0.00001, "< 0.1 %"), (0.5, "50.0 %"), (104.3, "10,430 %")],
)
def test_percent_never_claims_all_or_nothing(share: float, text: str) -> None:
    assert words.percent(share) == text


def test_importing_the_report_leaves_plotly_out() -> None:
    import subprocess
    import sys

    code = "import sys, dse.report; assert not {'plotly', 'pandas', 'optuna'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the answer, its parts, and both formats ------------------------------------------------------------------------


class Tables(HTMLParser):
    """The tables of a page by caption: rows of plain text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self.rows: list[list[str]] = []
        self.caption = self.said = ""
        self.feed(page.replace(get_plotlyjs(), ""))

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("caption", "th", "td"):
            self.said = ""
        elif tag == "tr":
            self.rows.append([])
        elif tag == "small":
            self.said += " – "
        elif tag == "span":
            self.said += " "

    def handle_endtag(self, tag: str) -> None:
        if tag == "caption":
            self.caption, self.rows = self.said, []
        elif tag in ("th", "td"):
            self.rows[-1].append(" ".join(self.said.split()))
        elif tag == "table":
            self.found.setdefault(self.caption, self.rows)

    def handle_data(self, data: str) -> None:
        self.said += data


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Return the tables of Markdown, as a reader of GitHub's dialect sees their cells."""
    tables: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if not line.startswith("| "):
            tables += [[]] if tables[-1] else []
        elif not line.startswith("| ---"):
            cells = re.split(r"(?<!\\) ?\| ?", line)[1:-1]
            tables[-1].append([re.sub(r"\\(.)", r"\1", cell.replace("**", "")) for cell in cells])
    return [table for table in tables if table]


CASES = [
    {"name": name, "workload": {**study_text, "seed": seed, "arrivals": {"process": "poisson", "rate_rps": rate}}}
    for study_text in (
        {
            "requests": 200,
            "lengths": {
                "prompt": {"distribution": "uniform", "low_tokens": 100, "high_tokens": 900},
                "output": {"distribution": "geometric", "mean_tokens": 100},
            },
        },
    )
    for name, seed, rate in (("day", 1, 10), ("night", 5, 16))
]


@pytest.fixture(scope="module")
def robust() -> StudyResult:
    bound = {"metric": "usd_per_hour", "at_most": 30}
    return study(workload=None, workloads=CASES, constraints=[bound])


def test_the_summary_says_the_numbers_of_the_result(result: StudyResult) -> None:
    chosen = Chosen(result)
    said = {point.topic: point.said for point in summary(chosen, outlook(chosen))}
    best = result.recommended
    assert best
    deployment = result.deployment(best)
    simulation = simulate(deployment, build_load(result.spec)[0])
    price = sum(catalog.accelerator(p.accelerator).price_usd_per_hour * p.accelerators for p in deployment.pools)
    watts = sum(catalog.accelerator(pool.accelerator).tdp_w * pool.accelerators for pool in deployment.pools)
    assert f"{price:.2f} USD per hour" in said["It costs"]
    tokens = price * simulation.span_s / 3600 / (simulation.lowered.requests.output_tokens.sum() / 1e6)
    assert f"{tokens:.2f} USD per million" in said["It costs"]
    assert f"at most {words.number(watts / 1e3)} kW" in said["It costs"]
    assert f"draws {words.number(simulation.energy_j / simulation.span_s / 1e3)} kW" in said["It costs"]
    ordered = sorted(simulation.ttft_s)
    reached = ordered[int(np.ceil(0.9 * len(ordered))) - 1]
    assert f"TTFT p90 {words.seconds(reached)} of 500 ms" in said["It keeps"]
    assert f"({words.percent(1 - reached / 0.5)} left)" in said["It keeps"]
    assert said["Requests take"].startswith(f"{words.seconds(float(simulation.e2e_s.mean()))} on average")
    assert said["Chosen from"].startswith(f"{len(result.evaluations)} designs, of which {len(result.simulated)} ")
    for rival in chosen.rivals:
        assert words.short(rival.design.deployment) in said["Instead"]
    assert "one run" in said["How sure"]


def test_sentences_of_prices_and_rates_are_those_of_a_study_at_these(result: StudyResult) -> None:
    chosen = Chosen(result)
    found = outlook(chosen)
    best = result.recommended
    assert best
    assert {(row.device, row.factor) for row in found.prices} == {
        (device, factor) for device in ("a100-80gb", "h100-sxm") for factor in (0.8, 1.2)
    }
    for price in found.prices:
        # Independently: all feasible designs at the other price, and the knee of their front.
        assert price.usd_per_hour == pytest.approx(catalog.device(price.device).price_usd_per_hour * price.factor)
        assert price.recommended
        cost = sum(
            pool.accelerators
            * catalog.accelerator(pool.accelerator).price_usd_per_hour
            * (price.factor if pool.accelerator == price.device else 1)
            for pool in result.deployment(price.recommended).pools
        )
        assert price.objectives == pytest.approx((cost, price.recommended.objectives[1]))
    for row in found.rates:
        requests = result.requests
        times = np.round(requests.arrival_ps / row.factor).astype(np.int64)
        closer = type(requests)(times, requests.prompt_tokens, requests.output_tokens)
        simulation = simulate(row.design.deployment, closer)
        slo = result.spec.slos[0]
        assert row.least_slack == pytest.approx(-simulation.violation(slo), rel=1e-6)
        assert row.feasible == (simulation.violation(slo) <= 0)
        assert row.rate_rps == pytest.approx(requests.rate_rps * row.factor)


def test_break_even_prices_are_those_of_dse_why(result: StudyResult) -> None:
    """A hair beyond each the other design is recommended, a hair before it today's; text and table say so."""
    chosen = Chosen(result)
    found = outlook(chosen)
    known = break_even(result)
    assert [row.device for row in found.break_evens] == list(known.index)
    turns = 0
    for row in found.break_evens:
        for crossing, column, beyond in ((row.below, "below", 0.999), (row.above, "above", 1.001)):
            if crossing is None:
                assert np.isnan(known[column][row.device])
                continue
            turns += 1
            assert crossing.usd_per_hour == known[column][row.device]
            over = repriced(result, Prices({row.device: crossing.usd_per_hour * beyond})).recommended
            assert over
            assert crossing.recommended
            assert over.design == crossing.recommended.design
            before = repriced(result, Prices({row.device: crossing.usd_per_hour / beyond})).recommended
            assert before
            assert result.recommended
            assert before.design == result.recommended.design
    assert turns
    html = render_report(result)
    rows = Tables(html).found["Break-even prices of each accelerator"][1:]
    assert [row[0] for row in rows] == list(known.index)
    for row, turn in zip(rows, found.break_evens, strict=True):
        for cell, crossing in ((row[2], turn.below), (row[5], turn.above)):
            assert cell == (words.quantity("usd_per_hour", crossing.usd_per_hour) if crossing else "–")
    (bars, today) = resolved(payload(html)["figures"], payload(html)["shared"])["break-even"]["data"]
    for place, turn in enumerate(found.break_evens):
        low = turn.below.usd_per_hour if turn.below else turn.usd_per_hour / 10
        high = turn.above.usd_per_hour if turn.above else turn.usd_per_hour * 10
        assert bars["base"][place] == pytest.approx(low, rel=1e-3)
        assert bars["base"][place] + bars["x"][place] == pytest.approx(high, rel=1e-3)
        assert low < today["x"][place] < high
    assert "The nearest break-even: with one" in render_markdown(result)


def test_without_prices_there_is_no_break_even() -> None:
    without = study(objectives=["e2e_p90_s"])
    assert outlook(Chosen(without)).break_evens == ()
    assert "reak-even" not in render_markdown(without)


@pytest.mark.parametrize("seed", range(4))
def test_parts_add_up_to_price_power_and_time(seed: int) -> None:
    """Over random pipelines with several pools, services and tiers."""
    kinds = set()
    for pair in islice(random_pairs(100 + 1000 * seed, per_workload=2), 10):
        one = pair.result
        parts = parts_of(pair.deployment, (one, one))
        kinds |= {part.kind for part in parts}
        assert sum(part.usd_per_hour for part in parts) == pytest.approx(one.usd_per_hour)
        assert sum(part.peak_kw for part in parts) * 1e3 == pytest.approx(one.power_peak_w)
        for case in (0, 1):
            assert sum(part.mean_kw[case] for part in parts) * 1e3 == pytest.approx(one.power_mean_w)
    assert {"pool", "service"} <= kinds


def test_tables_and_figures_of_parts_add_up(result: StudyResult, page: str) -> None:
    assert result.recommended
    simulation = result.simulate(result.recommended)
    tables, figures = Tables(page).found, payload(page)["figures"]
    tag = Chosen(result).tags[id(result.recommended)]
    *parts, whole = tables[f"Cost and power of {tag}, by part"][1:]
    assert whole[3] == words.quantity("usd_per_hour", result.recommended.figures["usd_per_hour"])
    assert float(whole[3].split()[0]) == pytest.approx(sum(float(row[3].split()[0]) for row in parts), abs=0.02)
    assert whole[5:] == [words.number(simulation.power_mean_w / 1e3), words.number(simulation.power_peak_w / 1e3)]
    assert sum(figures["cost"]["data"][0]["x"]) == pytest.approx(simulation.usd_per_hour, rel=1e-4)
    assert sum(figures["power"]["data"][0]["x"]) * 1e3 == pytest.approx(simulation.power_mean_w, rel=1e-4)
    devices = tables[f"Cost and power of {tag}, by device"][1:]
    assert sum(float(row[3].split()[0]) for row in devices) == pytest.approx(simulation.usd_per_hour, abs=0.02)
    stays = tables[f"Time of requests of {tag}, stage by stage"][1:]
    assert stays[-1][1] == words.seconds(float(simulation.e2e_s.mean()))
    waiting, served = figures["waterfall"]["data"]
    assert sum(waiting["x"]) + sum(served["x"]) == pytest.approx(simulation.e2e_s.mean(), rel=1e-4)
    # Every bar begins where the one before ended.
    ends = [sum(pair) for pair in zip(served["base"], served["x"], strict=True)]
    assert waiting["base"] == pytest.approx([0, *ends[:-1]], rel=1e-4, abs=1e-6)
    assert served["base"] == pytest.approx(
        [sum(pair) for pair in zip(waiting["base"], waiting["x"], strict=True)], rel=1e-4, abs=1e-6
    )


def test_markdown_says_what_the_page_says(result: StudyResult, page: str) -> None:
    text = render_markdown(result)
    assert render_markdown(result) == text
    of_page = list(Tables(page).found.values())
    of_text = markdown_tables(text)
    assert len(of_page) > 10
    for table in of_page:
        assert table in of_text, table[0]
    assert all(len({len(row) for row in table}) == 1 for table in of_text)
    chosen = Chosen(result)
    words_of_text = re.sub(r"\\(.)", r"\1", text)
    words_of_page = Reader(page.replace(get_plotlyjs(), "")).text
    for point in summary(chosen, outlook(chosen)):
        assert f"- **{point.topic}**: {point.said}" in words_of_text
        assert point.said in words_of_page
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == re.findall(r"<h2>(.*?)</h2>", page)
    assert result.spec.to_yaml().strip() in text
    # What a person writes is shown, not taken for HTML.
    assert QUESTION not in text.split("## Reproduce")[0]


def test_no_markdown_heading_stands_above_nothing(result: StudyResult) -> None:
    lines = [line for line in re.sub(r"```.*?```", "", render_markdown(result), flags=re.DOTALL).splitlines() if line]
    levels = [len(line) - len(line.lstrip("#")) for line in lines]
    assert not [line for line, a, b in zip(lines, levels, levels[1:], strict=False) if a and b and b <= a]


@pytest.mark.parametrize("changes", [{"slos": []}, {"slos": [{"metric": "ttft", "percentile": 99, "limit_s": 1e-4}]}])
def test_markdown_of_any_outcome(changes: dict[str, Any]) -> None:
    text = render_markdown(study(**changes))
    assert ("The study has no SLOs." in text) == (not changes["slos"])
    assert ("## No feasible design" in text) == bool(changes["slos"])


def test_every_workload_has_its_promises_waterfall_and_power(robust: StudyResult) -> None:
    best, page = robust.recommended, render_report(robust)
    assert best
    tag = Chosen(robust).tags[id(best)]
    tables = Tables(page).found
    rows = tables[f"SLOs of {tag}"][1:]
    assert [row[0] for row in rows] == ["day", "day", "night", "night"]
    loads = build_load(robust.spec)
    for case, load in enumerate(loads):
        simulation = simulate(robust.deployment(best), load)
        name = robust.spec.cases[case].name
        assert rows[2 * case][3] == words.seconds(simulation.percentile_s("ttft", 90))
        assert rows[2 * case + 1][3] == words.quantity("usd_per_hour", simulation.usd_per_hour)
        assert tables[f"Time of requests of {tag} with {name}, stage by stage"][-1][1] == words.seconds(
            float(simulation.e2e_s.mean())
        )
        cost = tables[f"Cost and power of {tag}, by part"]
        assert cost[-1][cost[0].index(f"Mean kW, {name}")] == words.number(simulation.power_mean_w / 1e3)
    text = render_markdown(robust)
    assert all(table in markdown_tables(text) for table in tables.values())


def test_intervals_of_one_run_and_of_replications(result: StudyResult) -> None:
    best = result.recommended
    assert best
    confirmation = confirm(result, Replications(initial=4, most=4))
    sure = replace(result, sureness=Sureness.of(confirmation))
    chosen = Chosen(sure)
    assert chosen.recommended
    row = chosen.replicated(chosen.recommended)
    assert row
    tag = chosen.recommended.tag
    cell = Tables(render_report(sure)).found[f"SLOs of {tag}"][1][3]
    assert cell.endswith("(4 replications)")
    (confirmed,) = (each for each in confirmation.designs if each.evaluation is best)
    missed = confirmed.missed["ttft_p90_s"]
    assert missed.high < 0  # so the miss is linear in the latency
    assert cell.startswith(f"{words.seconds(0.5 * (1 + missed.low))} to {words.seconds(0.5 * (1 + missed.high))}")
    assert Tables(render_report(result)).found[f"SLOs of {tag}"][1][3].endswith("(one run)")
    slo = result.spec.slos[0]
    assert _seconds(slo, 0.5) == pytest.approx(1.0)  # v / (1 + v) = 1/2 says twice the limit
    assert np.isinf(_seconds(slo, None))


def test_all_requests_at_once_have_no_rate() -> None:
    base = study().spec.workload
    assert base
    result = study(workload={**base.model_dump(exclude_none=True), "requests": 1}, slos=[])
    text = render_markdown(result)
    assert "no rate to change" in text


def test_provenance_names_versions_fingerprints_and_calibration(result: StudyResult, page: str) -> None:
    text = Reader(page.replace(get_plotlyjs(), "")).text
    for package in ("dse-llm", "numba", "numpy", "optuna"):
        assert f"{package} {version(package)}" in text
    assert f"fingerprint {result.requests.fingerprint()}" in text
    assert sha256(result.spec.to_yaml().encode()).hexdigest() in text
    rows = Tables(page).found["Calibration of every accelerator on the front"][1:]
    used = {pool.accelerator for e in result.front for pool in result.deployment(e).pools}
    assert {row[0].removesuffix(" (recommended)") for row in rows} == used


def test_the_hash_of_a_trace_is_that_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.csv"
    rows = "".join(f"{place * 0.3},{300 + place % 5 * 40},60\n" for place in range(60))
    path.write_text(f"arrival_s,prompt_tokens,output_tokens\n{rows}")
    found = study(workload={"trace": {"path": str(path)}}, budget={"trials": 5})
    digest = sha256(path.read_bytes()).hexdigest()
    assert f"SHA-256 of {path} {digest}" in Reader(render_report(found)).text
    assert to_json(found)["requests"][0]["trace_sha256"] == digest
    path.unlink()
    assert to_json(found)["requests"][0]["trace_sha256"] is None


def test_the_command_writes_either_kind(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from dse.cli.main import app

    (tmp_path / "small.yaml").write_text(study(budget={"trials": 5}).spec.to_yaml())
    folder = tmp_path / "run"
    for command in (
        ["run", str(tmp_path / "small.yaml"), "--out", str(folder), "--jobs", "1"],
        ["report", str(folder), "--format", "markdown"],
        ["report", str(folder), "--out", str(tmp_path / "other.md")],
        ["report", str(folder), "--out", str(tmp_path / "other.txt"), "--format", "html"],
    ):
        answer = CliRunner().invoke(app, command)
        assert answer.exit_code == 0, answer.output
    written = (folder / "report.md").read_text()
    assert written.startswith("# small")
    assert (tmp_path / "other.md").read_text() == written
    assert (tmp_path / "other.txt").read_text() == (folder / "report.html").read_text()
