"""The report in a real browser: from a file, on a wide screen, on a telephone, on paper."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dse import StudyResult, run_study
from dse.certificate.ledger import Certificate, Status
from dse.confidence import Replications, Sureness, confirm
from dse.family import Answer, Found
from dse.family.folder import save_answer
from dse.report import render_report
from tests.chromium import launched, needs_browser

from .test_family import family
from .test_report import CASES, payload, resolved, study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

NARROW = {"width": 360, "height": 780}
CUT = """limit => [...document.querySelectorAll("main *, header *")]
    .filter(node => node.offsetParent !== null && !node.closest("svg, .quiet"))
    .filter(node => node.getBoundingClientRect().right > limit + 1)
    .map(node => node.outerHTML.slice(0, 120))"""
"""What reaches beyond a width."""
PAPER_PX = 184 / 25.4 * 96
"""Width of A4 between the margins of the style sheet."""

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def results() -> dict[str, StudyResult]:
    return {"one": study(), "robust": study(workload=None, workloads=CASES), "whole": whole()}


def whole() -> StudyResult:
    """A study with all that a report can say: services, stages, pairs of objectives, bounds, doubts and proofs."""
    found = study(
        model={"small": "llama-3.2-1b", "large": "llama-3.1-8b"},
        workload={
            "requests": 150,
            "arrivals": {"process": "poisson", "rate_rps": 10},
            "lengths": {
                "prompt": {"distribution": "uniform", "low_tokens": 100, "high_tokens": 900},
                "output": {"distribution": "geometric", "mean_tokens": 100},
            },
            "pipeline": [{"kind": "route", "name": "router", "by": "chance", "to": {"small": 1, "large": 1}}],
        },
        services=[{"stage": "router", "device": "epyc-9654"}],
        space={
            "accelerators": ["a100-80gb", "h100-sxm", "l40s"],
            "clients": [1, 2],
            "tp": [1, 2],
            "stages": {"small": {"layouts": ["colocated"]}, "large": {"layouts": ["colocated", "disaggregated"]}},
        },
        objectives=["usd_per_hour", "e2e_p90_s", "energy_j_per_output_token"],
        slos=[
            {"metric": "ttft", "percentile": 90, "limit_s": 0.0285},
            {"metric": "tpot", "percentile": 90, "limit_s": 0.004, "penalty": 1.0},
        ],
        constraints=[{"metric": "output_tokens_per_s", "at_least": 10.0}],
    )
    sure = Sureness.of(confirm(found, Replications(initial=4, most=4)))
    counts = {status.name.lower(): 7 for status in Status}
    proved = Certificate.from_json({"designs": 7 * len(counts), "counts": counts, "gap": 0.02})
    return replace(found, sureness=sure, certificate=proved, interrupted=True)


@pytest.fixture(scope="module")
def files(results: dict[str, StudyResult], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    paths = {name: folder / f"{name}.html" for name in results}
    for name, path in paths.items():
        path.write_text(render_report(results[name]), encoding="utf-8")
    return paths


class Reader:
    """A tab, and what went wrong in it."""

    def __init__(self, browser: Browser, path: Path, **options: Any) -> None:
        self.context: BrowserContext = browser.new_context(accept_downloads=True, reduced_motion="reduce", **options)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.page.locator(".plot .main-svg").first.wait_for()

    def close(self, path: Path) -> None:
        """Leave, content: nothing was said, nothing asked of a network."""
        strangers = [url for url in self.asked if url != path.as_uri() and not url.startswith(("blob:", "data:"))]
        self.context.close()
        assert self.complaints == []
        assert strangers == []


@pytest.fixture(params=["one", "robust", "whole"])
def path(request: pytest.FixtureRequest, files: dict[str, Path]) -> Path:
    return files[request.param]


def test_every_section_works_without_a_word_of_complaint(browser: Browser, path: Path) -> None:
    reader = Reader(browser, path, viewport={"width": 1280, "height": 900})
    page = reader.page
    for link in page.locator("nav a").all():
        link.click()
    tags = [str(option.get_attribute("value")) for option in page.locator("#design option").all()]
    assert len(tags) > 1
    for tag in tags:
        page.locator("#design").select_option(tag)
        panel = page.locator(f'[data-panel="{tag}"]')
        assert panel.locator(".main-svg").count() >= 4
    assert page.locator(".drawing svg .d-chip").count() >= 1
    page.locator("table.sortable thead button").nth(1).click()
    assert page.evaluate(CUT.replace("!node.closest(", "!node.closest('.scroll, .plot') && !node.closest("), 1280) == []
    reader.close(path)


def test_csv_holds_the_values_of_the_figure(browser: Browser, path: Path) -> None:
    reader = Reader(browser, path, viewport={"width": 1280, "height": 900})
    page, data = reader.page, payload(path.read_text())
    figures = resolved(data["figures"], data["shared"])
    shown = [str(plot.get_attribute("data-figure")) for plot in page.locator(".plot:visible").all()]
    assert len(shown) >= 8
    assert page.locator(".plot").count() == page.locator(".plot + a.csv").count()
    for place, key in enumerate(shown):
        if place and place % 5 == 0:  # Chromium stops a page that downloads one file after the other
            reader.close(path)
            reader = Reader(browser, path, viewport={"width": 1280, "height": 900})
            page = reader.page
        with page.expect_download() as download:
            page.locator(f'[data-figure="{key}"] + a.csv').click()
        assert download.value.suggested_filename == f"{key}.csv"
        head, *rows = csv.reader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8")))
        assert head[0] == "series"
        traces = figures[key]["data"]
        points = [
            (trace.get("name", ""), x, y) for trace in traces for x, y in zip(trace["x"], trace["y"], strict=True)
        ]
        assert len(rows) == len(points), key
        for row, (name, x, y) in zip(rows, points, strict=True):
            assert row[0] == name
            for cell, value in zip(row[1:3], (x, y), strict=True):
                if isinstance(value, str):
                    assert cell == value.replace("<br>", " ")
                else:
                    assert (float(cell) if cell else None) == value
        if key.startswith("waterfall"):
            assert head[3] == "from"
            assert [float(row[3]) for row in rows] == [start for trace in traces for start in trace["base"]]
    reader.close(path)


def test_page_of_a_family(browser: Browser, tmp_path: Path) -> None:
    """A figure and a table for each scenario, wide and on a telephone; links lead to the members' reports."""
    asked = family()
    founds = tuple(Found(member, run_study(member.spec, jobs=1)) for member in asked.members)
    save_answer(Answer(asked, founds), tmp_path)
    path = tmp_path / "report.html"
    for viewport in ({"width": 1280, "height": 900}, NARROW):
        reader = Reader(browser, path, viewport=viewport)
        page = reader.page
        assert page.locator(".plot .main-svg").first.is_visible()
        assert page.locator(".plot").count() == page.locator(".plot + a.csv").count() == len(asked.scenarios)
        beyond = CUT.replace("!node.closest(", "!node.closest('.scroll, .plot, pre') && !node.closest(")
        assert page.evaluate(beyond, viewport["width"]) == []
        targets = [link.get_attribute("href") for link in page.locator("#members td a").all()]
        assert targets == [f"{member.label}/report.html" for member in asked.members]
        with page.expect_download() as download:
            page.locator(".plot + a.csv").first.click()
        rows = list(csv.reader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
        assert {row[0] for row in rows[1:]} == {"short", "long", "recommended"}
        reader.close(path)


def test_csv_works_in_the_sandbox_of_the_service(browser: Browser, files: dict[str, Path], tmp_path: Path) -> None:
    frame = tmp_path / "frame.html"
    inside = files["one"].as_uri()
    frame.write_text(f'<iframe sandbox="allow-scripts allow-downloads" src="{inside}" width="900" height="900">')
    page = browser.new_page()
    page.goto(frame.as_uri())
    report = page.frame_locator("iframe")
    report.locator(".plot .main-svg").first.wait_for()
    with page.expect_download() as download:
        report.locator("#front a.csv").first.click()
    assert Path(download.value.path()).read_text(encoding="utf-8").startswith("series,")
    page.close()


def test_a_telephone_never_scrolls_sideways(browser: Browser, path: Path) -> None:
    reader = Reader(browser, path, viewport=NARROW)
    page = reader.page
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    beyond = CUT.replace("!node.closest(", "!node.closest('.scroll, .plot, pre') && !node.closest(")
    assert page.evaluate(beyond, NARROW["width"]) == []
    reader.close(path)


def test_every_section_that_there_can_be_is_there(browser: Browser, files: dict[str, Path]) -> None:
    reader = Reader(browser, files["whole"], viewport={"width": 1280, "height": 900})
    page = reader.page
    said = page.locator("main").inner_text()
    for words in (
        "What is proved of the space",
        "How sure the front is",
        "Services around the LLM",
        "Break-even prices of each accelerator",
        "stopped before its budget was used",
    ):
        assert words in said, words
    assert page.locator("caption", has_text="Promises that simulated designs broke").count() == 1
    pairs = [str(option.get_attribute("value")) for option in page.locator("#pair option").all()]
    assert len(pairs) == 3
    for pair in pairs:
        page.locator("#pair").select_option(pair)
        assert page.locator(f'[data-panel="{pair}"] .main-svg').first.is_visible()
    reader.close(files["whole"])


@pytest.mark.parametrize(("name", "scheme"), [("one", "dark"), ("robust", "light"), ("whole", "light")])
def test_paper_holds_everything_in_light_colours(
    browser: Browser, files: dict[str, Path], name: str, scheme: Any
) -> None:
    path = files[name]
    reader = Reader(browser, path, viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    page = reader.page
    # What a reader does on Ctrl+P: nothing may be wider than the paper, or it is cut or shrunk.
    page.emulate_media(media="print")
    page.set_viewport_size({"width": int(PAPER_PX), "height": 1100})
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(CUT, PAPER_PX) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("details[open]").count() == 1
    assert page.locator("nav, .csv, .pick").locator("visible=true").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(media="screen")
    printed = page.pdf(prefer_css_page_size=True)
    assert printed.startswith(b"%PDF-")
    boxes = set(re.findall(rb"/MediaBox \[([^]]*)\]", printed))
    assert all([round(float(side)) for side in box.split()] == [0, 0, 595, 842] for box in boxes)
    assert 5 <= len(re.findall(rb"/Type /Page\b", printed)) <= 25
    assert "paper" not in str(page.locator("html").get_attribute("class") or "")
    reader.close(path)
