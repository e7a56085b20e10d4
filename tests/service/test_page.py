"""The page in a real browser: Debian's Chromium on a server with workers, used with and without a mouse.

``DSE_SCREENSHOTS=docs/images pytest tests/service/test_page.py`` writes the pictures of the docs.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dse.client import ProblemError
from simulator import Deployment
from tests.chromium import launched, needs_browser

from .served import QUICK, Served, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

PICTURES = os.environ.get("DSE_SCREENSHOTS")
WIDE = {"width": 1360, "height": 980}
NARROW = {"width": 360, "height": 780}
TRIALS = 80
WATCHED = 240
"""Trials of the study that is watched: enough that a quick machine does not end it between two looks."""
POINTS = ".front-plot .scatterlayer .points path:not([display])"
BEYOND = """() => [...document.querySelectorAll("main *")]
    .filter(node => !node.closest(".scroll, .unseen, svg, pre, .plot"))
    .filter(node => node.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
    .map(node => node.outerHTML.slice(0, 120))"""
"""What is cut at the right, other than what can be scrolled."""

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with one worker that the tests share; the first finds it empty."""
    with Served(tmp_path_factory.mktemp("page") / "data", "--workers", "1") as server:
        until(lambda: server.client.session()["workers"])
        yield server


class Visitor:
    """Somebody with a browser, and what went wrong meanwhile.

    Attributes
    ----------
    complaints
        What the console, the content security policy and scripts said.
    strangers
        Addresses other than the server's that something asked for.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.context: BrowserContext = browser.new_context(viewport=WIDE, accept_downloads=True, **options)
        self.context.grant_permissions(["clipboard-read", "clipboard-write"])
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.context.on("console", self._heard)
        self.context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        self.context.on("request", self._asked)

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", f"blob:{self.url}")):
            self.strangers.append(request.url)

    def go(self, hash: str = "") -> Page:
        self.page.goto(f"{self.url}/{hash}")
        return self.page

    def wait(self, condition: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Wait until something is true; the browser goes on meanwhile."""
        end = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < end, "it did not happen in time"
            self.page.wait_for_timeout(50)
        return found

    def picture(self, name: str, top: Locator | None = None) -> None:
        """Take a picture for the docs, if somebody asked for them."""
        if not PICTURES:
            return
        self.page.mouse.move(1, 1)
        # What is drawn late may move what stands below it.
        for _ in range(2):
            if top is not None:
                top.evaluate("node => node.scrollIntoView({behavior: 'instant'})")
            self.page.wait_for_timeout(800)
        self.page.screenshot(path=Path(PICTURES) / f"service-{name}.png")

    def focused(self) -> str:
        """Return what has the focus, by what it says."""
        return str(
            self.page.evaluate("""() => {
                const node = document.activeElement;
                return ["MAIN", "BODY"].includes(node.tagName) ? node.id
                    : (node.getAttribute("aria-label") || node.innerText || node.id).trim();
            }""")
        )

    def tab_to(self, text: str, most: int = 80) -> None:
        """Go on with the tab key until something has the focus."""
        for _ in range(most):
            if text in self.focused():
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{text!r} was not reached, but {self.focused()!r}")


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Callable[..., Visitor]]:
    """Open a window; at the end nothing may have gone wrong but what a test expects."""
    opened: list[Visitor] = []
    expected: list[str] = []

    def open_(expects: str = "", url: str = "", **options: Any) -> Visitor:
        if expects:
            expected.append(expects)
        opened.append(Visitor(browser, url or served.url, **options))
        return opened[-1]

    yield open_
    for visitor in opened:
        visitor.context.close()
        unexpected = [text for text in visitor.complaints if not any(re.search(known, text) for known in expected)]
        assert not unexpected
        assert not visitor.strangers


@pytest.fixture(scope="module")
def finished(served: Served) -> str:
    """The address of a finished study."""
    study = served.client.create(study_of("small-fleet")).wait(120)
    return f"#/study/{study.id}"


def study_of(name: str) -> dict[str, Any]:
    """Return a study of three seconds or so, with designs of all kinds."""
    return {
        "name": name,
        "question": "Which GPUs serve a 70B model at 8 requests per second at the least cost and the shortest answers?",
        "model": "llama-3.1-70b",
        "workload": {
            "requests": 3000,
            "arrivals": {"process": "poisson", "rate_rps": 8},
            "lengths": {"statistics": "azure-2023-conversation"},
        },
        "space": {
            "accelerators": ["h100-sxm", "h200-sxm", "b200", "l40s"],
            "clients": {"high": 8},
            "tp": [2, 4, 8],
            "layouts": ["colocated"],
            "weights": ["bf16", "fp8"],
            "token_budgets_tokens": [1024, 2048],
        },
        "objectives": ["usd_per_million_output_tokens", "e2e_p90_s"],
        "slos": [
            {"metric": "ttft", "percentile": 90, "limit_s": 0.3},
            {"metric": "tpot", "percentile": 90, "limit_s": 0.025},
        ],
        "budget": {"trials": TRIALS},
    }


def name_field(page: Page) -> Locator:
    """Return the field of a study's name."""
    return page.get_by_role("textbox", name="Name required", exact=True)


def shown(page: Page, place: int) -> int:
    """Return the number of a tile at the head of a study."""
    return int(page.locator(".study-head .tiles b").nth(place).inner_text().replace(",", ""))


def test_a_study_from_the_form_to_its_export(visit: Callable[..., Visitor], served: Served) -> None:
    visitor = visit()
    page = visitor.go()

    # Nothing is there yet: the page says what to do and offers the shipped studies.
    page.get_by_role("heading", name="Start with a question that is already asked").wait_for()
    cards = page.locator("ul.cards a")
    visitor.wait(lambda: cards.count() >= 4)
    cards.filter(has=page.get_by_role("heading", name="finite-chat", exact=True)).click()

    # The form: what the service makes of it follows every change.
    name_field(page).fill("first")
    check = page.locator(".verdict")
    visitor.wait(lambda: "38,400 designs" in check.inner_text())
    page.get_by_role("checkbox", name=re.compile("^a100-80gb")).uncheck()
    visitor.wait(lambda: "30,720 designs" in check.inner_text())
    page.get_by_label("Tensor parallelism (TP)").fill("4, 8")
    page.get_by_label("Token budgets").fill("1024, 2048")
    page.get_by_role("checkbox", name="static").uncheck()
    page.get_by_label("Trials").fill(str(WATCHED))
    page.get_by_label("Requests", exact=True).fill("30000")
    wanted = "5,120 designs", f"up to {WATCHED} trials", "30,000 req"
    visitor.wait(lambda: all(said in check.inner_text() for said in wanted))
    assert '"a100-80gb"' not in page.locator("#source").input_value()
    visitor.picture("form", page.get_by_role("region", name="What may vary"))
    page.get_by_role("button", name="Run study").click()

    # Points arrive while it runs.
    page.locator(".state.is-running").wait_for(timeout=30_000)
    seen: set[tuple[int, int]] = set()

    def grown() -> bool:
        if page.locator(".state.is-running").count():
            seen.add((shown(page, 0), page.locator(POINTS).count()))
        return len({drawn for _, drawn in seen if drawn}) >= 3

    visitor.wait(grown, 60)
    page.locator(".state.is-finished").wait_for(timeout=120_000)
    visitor.wait(lambda: page.locator(".tiles").count() and shown(page, 0) == WATCHED)
    assert shown(page, 2) >= 2

    # A point is clicked: the design stands beside the front, and below it in full.
    number = click_front_point(page)
    assert f"trial={number}" in page.url
    page.get_by_role("button", name="See it in full").click()
    title = page.locator("#design-title")
    assert title.inner_text().startswith(f"Design #{number} ")
    page.locator("#design .drawing svg .d-pool").first.wait_for()
    page.locator("#design caption", has_text="Promises").wait_for()
    for kind, least in ((".curve-plot", 3), (".time-plot", 3)):
        visitor.wait(lambda kind=kind, least=least: page.locator(f"#design {kind}").count() >= least, 60)
        page.locator(f"#design {kind}").last.scroll_into_view_if_needed()
        visitor.wait(lambda kind=kind, least=least: page.locator(f"#design {kind} .main-svg .trace").count() >= least)
    assert page.locator("#design .waterfall tbody tr").count() >= 2
    visitor.picture("design", page.locator("#design"))

    # Its deployment can be copied and saved, and is one.
    page.get_by_text("Deployment as YAML").first.click()
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("copied", exact=True).wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    with page.expect_download() as saved:
        page.locator(".deployment").get_by_role("button", name="Download").click()
    assert Path(saved.value.path()).read_text() == copied
    assert Deployment.parse(yaml.safe_load(copied), source="copied").pools

    # What deploys it can be read there and saved, with the load that tries it.
    page.get_by_text("Files that deploy it").first.click()
    files = page.locator(".deploy")
    files.locator("code", has_text=".sh").first.wait_for()
    with page.expect_download() as saved:
        files.get_by_role("button", name="Download as zip").click()
    assert saved.value.suggested_filename == f"first-{number}-vllm.zip"
    with zipfile.ZipFile(saved.value.path()) as archive:
        names = archive.namelist()
    assert {Path(name).parent.name for name in names} == {f"first-{number}-vllm"}
    assert f"first-{number}-vllm/NOTES.md" in names
    files.get_by_label("For", exact=True).select_option("kubernetes")
    files.get_by_label("with its load,").check()
    files.get_by_label("Requests to replay").fill("20")
    files.get_by_label("Requests to replay").blur()
    files.locator("code", has_text="load/replay-vllm.sh").first.wait_for()
    files.locator("summary", has_text=".yaml").first.click()
    visitor.wait(lambda: "kind: Deployment" in files.inner_text())
    files.locator("summary", has_text="What they do not hold").click()
    assert files.locator("ul.notes li").count() > 3

    # Two are compared.
    boxes = page.locator("#designs tbody input")
    boxes.nth(0).check()
    boxes.nth(1).check()
    compare = page.locator("#compare")
    compare.get_by_text("How they did").wait_for()
    assert compare.locator("td.better").count()
    visitor.picture("compare", compare)
    compare.get_by_role("button", name="Which choices make the difference?").click()
    compare.locator(".why li").first.wait_for()

    # The table is filtered, sorted, and exported.
    page.get_by_role("radio", name="All simulated").check(force=True)
    page.locator("#filter-text").fill("b200")
    page.locator("#most-1").fill("8")
    page.locator("#designs th button", has_text="E2E p90").click()
    rows = page.locator("#designs tbody tr")
    visitor.wait(lambda: rows.count() and all("b200" in text for text in rows.all_inner_texts()))
    values = [float(text.split()[0]) for text in page.locator("#designs tbody td:nth-child(5)").all_inner_texts()]
    assert values == sorted(values)
    assert max(values) <= 8
    page.locator(".menu summary").click()
    with page.expect_download() as exported:
        page.get_by_role("button", name="Front as CSV").click()
    table = list(csv.DictReader(io.StringIO(Path(exported.value.path()).read_text())))
    assert len(table) == shown(page, 2)
    assert exported.value.suggested_filename == "first-front.csv"

    # The report opens in a tab of its own, under a policy of its own.
    page.locator(".menu summary").click()
    with page.expect_popup() as report:
        page.get_by_role("link", name="Report").click()
    report.value.locator(".plot .main-svg").first.wait_for(timeout=60_000)
    assert "first" in report.value.locator("h1").inner_text()
    report.value.close()

    # Everything is there again after a reload.
    def state() -> dict[str, Any]:
        return {
            "url": page.url,
            "design": title.inner_text(),
            "compared": compare.locator("thead").last.inner_text(),
            "rows": rows.all_inner_texts(),
            "filter": page.locator("#filter-text").input_value(),
            "most": page.locator("#most-1").input_value(),
            "sorted": page.locator("#designs th[aria-sort]").inner_text(),
        }

    before = state()
    page.reload()
    visitor.wait(lambda: page.locator(".tiles").count() and shown(page, 0) == WATCHED)
    compare.get_by_text("How they did").wait_for()
    visitor.wait(lambda: state() == before)
    page.go_back()

    # It is in the list, and the shared address of the study works in a window of its own.
    page = visitor.go()
    page.get_by_role("link", name="first", exact=True).wait_for()
    assert page.locator(".studies .state").first.inner_text() == "finished"
    assert served.client.find("first").id in before["url"]


def click_front_point(page: Page) -> int:
    """Click a design of the front in the plot; return its number."""
    place = page.locator(".front-plot")
    place.scroll_into_view_if_needed()
    page.wait_for_timeout(400)
    # The outlined ones are on the front.
    points = page.evaluate("""() => {
        const plot = document.querySelector(".front-plot");
        const {left, top} = plot.getBoundingClientRect();
        const {xaxis, yaxis} = plot._fullLayout;
        const trace = plot.data.find(one => one.marker?.size === 11.5);
        return trace.x.map((x, i) => [left + xaxis._offset + xaxis.d2p(x), top + yaxis._offset + yaxis.d2p(trace.y[i]),
                                      trace.customdata[i]]);
    }""")
    x, y, _ = points[0]
    page.mouse.move(x - 30, y - 30)
    page.mouse.move(x, y, steps=4)
    page.locator(".front-plot .hoverlayer .hovertext").first.wait_for()
    assert "USD" in (page.locator(".front-plot .hoverlayer").text_content() or "")
    page.mouse.click(x, y)
    found = re.search(r"#(\d+)", page.locator(".design-card h3").inner_text())
    assert found
    return int(found[1])


def test_prices_and_load_change_the_front_at_once(visit: Callable[..., Visitor], finished: str) -> None:
    visitor = visit()
    page = visitor.go(finished)
    page.get_by_text("What if prices or the load change?").click()
    words = page.locator(".what-if-words")
    price = page.locator(".what-if .slider input[type=number]").first
    price.wait_for()
    standard = float(price.input_value())
    for factor in (1.5, 2.5):
        before = words.inner_text()
        began = time.monotonic()
        price.fill(f"{factor * standard:.2f}")
        visitor.wait(lambda before=before: "Recommended" in words.inner_text() and words.inner_text() != before)
        took_s = time.monotonic() - began
    # The second one: the first may still load something.
    assert took_s < 3
    visitor.wait(lambda: page.locator(".front-plot .legendtext", has_text="what if").count() == 1)
    assert "what=" in page.url
    visitor.picture("what-if", page.locator("#front"))
    page.reload()
    visitor.wait(lambda: "Recommended" in words.inner_text())
    page.locator("#rate").press("ArrowRight")
    visitor.wait(lambda: "rate:1.25" in page.url.replace("%3A", ":").replace("%2C", ","))
    visitor.wait(lambda: page.locator(".what-if[aria-busy]").count() == 0 and "Recommended" in words.inner_text(), 60)
    page.get_by_role("button", name="Back to how it is").click()
    visitor.wait(
        lambda: "what=" not in page.url and not page.locator(".front-plot .legendtext", has_text="what if").count()
    )


def test_a_question_of_prices_comes_back_whatever_a_device_is_called(
    visit: Callable[..., Visitor], served: Served
) -> None:
    """Names of hypothetical devices hold commas; at four times the rate nothing keeps the promises."""
    chip = "l40s(memory_bandwidth_gb_per_s=1200, memory_gb=60, price_usd_per_hour=1.5)"
    space = {**QUICK["space"], "accelerators": ["l40s", chip], "clients": {"high": 1}, "tp": [1]}
    workload = {**QUICK["workload"], "arrivals": {"process": "poisson", "rate_rps": 2}}
    study = served.client.create({**QUICK, "name": "hypothetical", "workload": workload, "space": space}).wait(120)
    visitor = visit(expects="status of 422")
    page = visitor.go(f"#/study/{study.id}")
    page.get_by_text("What if prices or the load change?").click()
    words, star = page.locator(".what-if-words"), page.locator(".design-card .is-star")
    price = page.get_by_label(chip).and_(page.locator("input[type=number]"))
    price.fill("0.5")
    visitor.wait(lambda: "Recommended" in words.inner_text() and "what=" in page.url)
    said = words.inner_text()
    page.reload()
    visitor.wait(lambda: words.inner_text() == said)
    assert price.input_value() == "0.5"
    star.wait_for()
    page.locator("#rate").press("End")
    visitor.wait(lambda: "No design keeps every promise" in words.inner_text(), 60)
    star.wait_for(state="detached")
    page.get_by_text("At these prices and this load no design keeps every promise.").wait_for()

    # What the service refuses can be taken back.
    visitor.go()
    visitor.go(f"#/study/{study.id}?what=unobtainium:3")
    words.get_by_text("unobtainium").wait_for()
    page.get_by_role("button", name="Back to how it is").click()
    visitor.wait(lambda: "what=" not in page.url and "unobtainium" not in words.inner_text())
    star.wait_for()


def test_a_study_of_another_version_can_be_deleted(visit: Callable[..., Visitor], served: Served) -> None:
    study = served.client.create(QUICK)
    study.cancel()
    until(lambda: study.refresh().state == "cancelled")
    visitor = visit(expects="status of 409")

    def refused(route: Any) -> None:
        if route.request.method == "DELETE":
            route.continue_()
            return
        said = {"status": 409, "detail": "another version made this study, and this one cannot read it: of: unknown"}
        route.fulfill(status=409, content_type="application/problem+json", body=json.dumps(said))

    visitor.page.route(f"**/v1/studies/{study.id}", refused)
    page = visitor.go(f"#/study/{study.id}")
    page.get_by_role("heading", name="Study of another version").wait_for()
    assert "this one cannot read it" in page.locator("main .alarm").inner_text()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    page.get_by_role("heading", name="Studies", exact=True).wait_for()
    with pytest.raises(ProblemError, match="no"):
        study.refresh()


def test_what_a_form_shows_is_what_a_change_starts_from(visit: Callable[..., Visitor]) -> None:
    """A pipeline and a wait that nobody gave are shown as they are by default; changing a part keeps the rest."""
    visitor = visit(expects="status of 422")
    page = visitor.go("#/new?from=finite-chat")
    workload = page.get_by_role("region", name="Workload")
    pipeline = page.locator('[data-path=\'["workload","pipeline"]\']')

    def written() -> dict[str, Any]:
        return dict(json.loads(page.locator("#source").input_value())["workload"])

    name_field(page).wait_for()
    assert "pipeline" not in written()
    for fold in workload.locator("details").all():
        fold.evaluate("node => { node.open = true; }")
    kinds = pipeline.get_by_label("Kind of pipeline")
    assert kinds.evaluate_all("all => all.map(each => each.selectedOptions[0].label)") == ["prefill", "decode"]
    pipeline.get_by_label("Kind of pipeline 2").select_option("detokenise")
    assert written()["pipeline"][0] == "prefill"
    assert written()["pipeline"][1]["kind"] == "detokenise"
    pipeline.get_by_label("Kind of pipeline 2").select_option("decode")

    # A stage comes before the others by the keyboard alone.
    pipeline.get_by_role("button", name="Add pipeline").click()
    pipeline.get_by_label("Kind of pipeline 3").select_option("tokenise")
    pipeline.get_by_label("Move Pipeline 3 up").focus()
    page.keyboard.press("Enter")
    assert visitor.focused() == "Move Pipeline 2 up"
    page.keyboard.press("Enter")
    assert visitor.focused() == "Move Pipeline 1 down"
    stages = written()["pipeline"]
    assert [stage if isinstance(stage, str) else stage["kind"] for stage in stages] == ["tokenise", "prefill", "decode"]
    page.keyboard.press("Enter")
    assert visitor.focused() == "Move Pipeline 2 down"

    # A part of a default that is an object: the wait between a session's turns.
    workload.get_by_role("button", name="Add Session").click()
    for fold in workload.locator("details").all():
        fold.evaluate("node => { node.open = true; }")
    wait = page.locator("[data-path$='\"wait_s\"]']")
    wait.get_by_label("Seconds").fill("3")
    assert written()["session"]["wait_s"] == {"distribution": "constant", "seconds": 3}


def test_problems_stand_at_their_fields(visit: Callable[..., Visitor]) -> None:
    visitor = visit(expects="status of 422")
    page = visitor.go("#/new?from=finite-chat")
    share = page.get_by_label("Percentile").nth(1)
    share.fill("400")
    page.get_by_role("button", name="Run study").click()
    problem = page.locator('[data-path=\'["slos",1,"percentile"]\'] .problem')
    problem.wait_for()
    assert "100" in problem.inner_text()
    at = "document.activeElement.closest('[data-path]')?.dataset.path"
    visitor.wait(lambda: page.evaluate(at) == '["slos",1,"percentile"]')
    assert share.get_attribute("aria-invalid") == "true"
    assert page.url.endswith("#/new?from=finite-chat")
    share.fill("99")
    problem.wait_for(state="detached")

    # What is folded is unfolded where the problem is.
    source = page.locator("#source")
    spec = json.loads(source.input_value())
    spec["budget"] = {"trials": 50, "certified": 2}
    spec["name"] = "other"
    source.fill(json.dumps(spec))
    assert name_field(page).input_value() == "other"
    assert page.get_by_label("Trials").input_value() == "50"
    certified = page.locator('[data-path=\'["budget","certified"]\'] .problem')
    certified.wait_for()
    assert certified.is_visible()

    # A draft survives a reload.
    page.reload()
    visitor.wait(lambda: name_field(page).input_value() == "other")


def test_a_file_and_a_trace_of_ones_own(visit: Callable[..., Visitor], tmp_path: Path) -> None:
    visitor = visit(expects="status of 422")
    page = visitor.go("#/new")
    given = study_of("brought")
    file = tmp_path / "brought.yaml"
    file.write_text(f"# a comment that only YAML has\n{yaml.safe_dump(given)}")
    page.locator("#spec-file").set_input_files(file)
    name = name_field(page)
    visitor.wait(lambda: name.count() and name.input_value() == "brought")
    assert "a comment" in page.locator("#source").input_value()

    trace = tmp_path / "my trace.csv"
    lines = [f"{0.1 * place:.3f},{200 + place % 7},{20 + place % 5}" for place in range(1200)]
    trace.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *lines]))
    page.get_by_role("radio", name="Recorded trace").check(force=True)
    page.locator("input[type=file]").set_input_files(trace)
    page.get_by_text("Uploaded: 1,200 requests over 2 min 0 s.").wait_for()
    visitor.wait(lambda: "1,200 requests" in page.locator(".verdict").inner_text())
    written = json.loads(page.locator("#source").input_value())
    assert written["workload"]["trace"]["path"] == "my-trace.csv"
    assert "arrivals" not in written["workload"]

    trace.write_text("no trace at all")
    page.locator("input[type=file]").set_input_files(trace)
    page.locator(".upload-state .problem").wait_for()


def test_a_keyboard_is_enough(visit: Callable[..., Visitor], finished: str) -> None:
    visitor = visit()
    page = visitor.go("#/new")
    visitor.wait(lambda: page.locator("ul.cards a").count())
    press = page.keyboard.press
    press("Tab")
    assert visitor.focused() == "Skip to content"
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    visitor.tab_to("finite-code")
    press("Enter")
    page.get_by_role("button", name="Run study").wait_for()
    name_field(page).focus()
    press("Control+A")
    page.keyboard.type("typed")
    visitor.wait(lambda: "designs" in page.locator(".verdict").inner_text())
    assert '"typed"' in page.locator("#source").input_value()

    page = visitor.go(finished)
    visitor.wait(lambda: page.locator(".tiles").count() and shown(page, 0) == TRIALS)
    page.locator("#main").focus()
    visitor.tab_to("Previous design on the front")
    press("Tab")
    press("Enter")
    number = re.search(r"trial=(\d+)", page.url)
    assert number
    rows = page.locator("#designs tbody tr")
    first = rows.first.locator(".design button").inner_text()
    visitor.tab_to("Compare design")
    press("Space")
    visitor.tab_to(first)
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "design-title"
    press("Escape")
    assert visitor.focused() == first
    press("Tab")
    visitor.tab_to("Compare design")
    press("Space")
    page.locator("#compare").get_by_text("How they did").wait_for()
    assert page.evaluate("document.activeElement.id") == "compare-title"
    page.locator("#main").focus()
    visitor.tab_to("Export")
    press("Enter")
    visitor.tab_to("All designs as CSV")
    with page.expect_download() as saved:
        press("Enter")
    assert len(list(csv.reader(io.StringIO(Path(saved.value.path()).read_text())))) >= TRIALS


def test_the_page_goes_on_when_the_server_comes_back(browser: Browser, tmp_path: Path) -> None:
    with Served(tmp_path / "data", "--workers", "0") as server:
        study = server.client.create(study_of("lost"))
        visitor = Visitor(browser, server.url)
        page = visitor.go(f"#/study/{study.id}")
        page.get_by_text("The study waits for a worker.").wait_for()
        server.end()
        lost = page.get_by_text("Connection lost, retrying")
        lost.wait_for()
        again = Served(tmp_path / "data", "--workers", "1")
        again.port = server.port
        with again:
            lost.wait_for(state="hidden", timeout=60_000)
            page.locator(".state.is-finished").wait_for(timeout=120_000)
            visitor.wait(lambda: page.locator("#designs .count").nth(2).inner_text() == str(TRIALS))
        visitor.context.close()


def test_a_stream_that_breaks_off_is_taken_up_where_it_was(visit: Callable[..., Visitor], finished: str) -> None:
    visitor = visit()
    asked: list[str | None] = []

    def broken(route: Any) -> None:
        asked.append(route.request.headers.get("last-event-id"))
        if len(asked) > 1:
            route.continue_()
            return
        response = route.fetch()
        whole = response.text()
        # In the middle of an event, after one of several with trials.
        cut = whole.index("data: ", whole.index("event: front")) + 9
        route.fulfill(response=response, body=whole[:cut])

    visitor.page.route("**/events?*", broken)
    page = visitor.go(finished)
    page.locator("#designs tbody tr").first.wait_for()
    visitor.wait(lambda: len(asked) == 2)
    assert asked[0] is None
    assert asked[1] == str(page.locator("#designs .count").nth(2).inner_text())
    assert page.locator("#designs .count").first.inner_text() == str(shown(page, 2))


def test_a_token_is_asked_for_where_one_is_needed(browser: Browser, tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-m", "dse", "token", "create", "me", "--scope", "read", "--data", str(data)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    secret = re.search(r"dse_[\w-]{43}", said.stdout + said.stderr)
    assert secret
    with Served(data, "--workers", "0", "--require-token") as server:
        visitor = Visitor(browser, server.url)
        page = visitor.go("#/new?from=finite-chat")
        page.get_by_label("Token").fill("dse_wrong")
        page.get_by_role("button", name="Sign in").click()
        page.locator("#token-problem").wait_for()
        page.get_by_label("Token").fill(secret[0])
        page.get_by_role("button", name="Sign in").click()
        visitor.wait(lambda: "designs" in page.locator(".verdict").inner_text())
        page.reload()
        visitor.wait(lambda: "designs" in page.locator(".verdict").inner_text())
        page.get_by_role("button", name="Run study").click()
        page.get_by_text("Your token does not allow this").wait_for()
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("heading", name="Sign in").wait_for()
        # Kept by the tab alone, and sent nowhere but in the header.
        assert secret[0] not in page.url
        visitor.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_stands_in_the_way_of_anyone(visit: Callable[..., Visitor], finished: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    source = (Path(axe.__file__).parent / "axe.min.js").read_text()
    # The page's policy would refuse the script that judges it.
    visitor = visit(color_scheme=scheme, bypass_csp=True)
    for place in ("", "#/new", "#/new?from=rag", finished):
        page = visitor.go(place)
        page.wait_for_load_state("networkidle") if place != finished else page.locator(".is-finished").wait_for()
        if place == finished:
            page.locator("#designs tbody .design button").first.click()
            boxes = page.locator("#designs tbody input")
            boxes.nth(0).check()
            boxes.nth(1).check()
            page.locator("#compare").get_by_text("How they did").wait_for()
            page.get_by_text("What if prices or the load change?").click()
            page.locator(".what-if .slider").first.wait_for()
            page.locator("#design .simulation").scroll_into_view_if_needed()
            page.locator("#design .waterfall").wait_for(timeout=60_000)
        for fold in page.locator("details:not(.menu)").all():
            fold.evaluate("node => { node.open = true; }")
        page.wait_for_timeout(500)
        page.evaluate(source)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        told = [(one["id"], one["help"], [node["html"][:160] for node in one["nodes"][:3]]) for one in found]
        assert not told, place


def test_it_fits_a_phone(visit: Callable[..., Visitor], finished: str) -> None:
    visitor = visit(color_scheme="dark")
    visitor.page.set_viewport_size(NARROW)
    page = visitor.page
    for place in ("", "#/new", "#/new?from=rag", finished):
        visitor.go(place)
        page.wait_for_timeout(1000)
        if place == finished:
            page.locator(POINTS).first.wait_for()
            visitor.picture("phone", page.locator("#front"))
            page.locator("#designs tbody .design button").first.click()
            page.locator("#design .simulation").scroll_into_view_if_needed()
            page.locator("#design .waterfall").wait_for(timeout=60_000)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), place
        assert page.evaluate(BEYOND) == [], place
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")


def test_it_is_dark_where_the_reader_wants_it(visit: Callable[..., Visitor], finished: str) -> None:
    visitor = visit(color_scheme="dark")
    page = visitor.go(finished)
    visitor.wait(lambda: page.locator(POINTS).count())
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert all(int(part) < 60 for part in re.findall(r"\d+", ground)[:3])
    axis = page.locator(".front-plot .xtick text").first.evaluate("node => getComputedStyle(node).fill")
    assert all(int(part) > 120 for part in re.findall(r"\d+", axis)[:3])
    visitor.picture("dark")
