"""The report: self-contained, escaped, complete, the same for the same result, in all kinds of studies."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from dse import StudyResult, StudySpec, run_study, words
from dse.report import render_report
from dse.report.chosen import SHOWN, Chosen, quantiles, spread

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
    return run_study(StudySpec.parse({**text, **changes}), jobs=1)


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
    from dse.report.page import _reproduce
    from dse.result import Clock
    from simulator import Requests

    requests = Requests([0, 1], [1, 1], [1, 1])  # type: ignore[arg-type]
    spec = load_study("chat").model_copy(update={"seed": 7})
    assert "dse run chat --seed 7" in _reproduce(StudyResult(spec, (), (requests,), Clock(1.0, 0.5, 0.5)))


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
    import numpy as np

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
