"""The site builds without a warning, holds every page and every field, needs nothing from elsewhere; its blocks run."""

from __future__ import annotations

import html
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import yaml
from pydantic import BaseModel

from dse.family import FamilySpec
from dse.objectives import METRICS
from dse.samplers import SAMPLERS
from simulator import Deployment, Workload, catalog, simulate
from tests.service.served import Served

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
ADDRESS: Final = "http://127.0.0.1:8000"
BLOCK: Final = re.compile(r"(?:^<!-- ([\w :.-]+) -->\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ROOMS: Final = [
    room
    for page in sorted((DOCS / "reference" / "python").glob("*.md"))
    for room in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    if (ROOT / room.replace(".", "/") / "__init__.py").exists()
]
"""Packages whose public names have a page."""

HOW_TO: Final = sorted(page.name for page in (DOCS / "how-to").glob("*.md") if "<!-- runs -->" in page.read_text())


@pytest.fixture(scope="module")
def hooks() -> Iterator[dict[str, ModuleType]]:
    """What makes the generated pages, imported as MkDocs does."""
    sys.path.insert(0, str(DOCS / "hooks"))
    yield {name: importlib.import_module(name) for name in ("spec_fields", "command_pages", "choices")}
    sys.path.remove(str(DOCS / "hooks"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as in CI."""
    pytest.importorskip("material", reason="MkDocs is not installed (extra docs)")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


# The navigation


def entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for each in nav if isinstance(nav, list) else nav.values() if isinstance(nav, dict) else ():
        yield from entries(each)


def test_navigation_covers_every_page() -> None:
    nav = list(entries(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert {entry for entry in nav if not entry.startswith("project/")} == pages
    assert len(nav) == len(set(nav))
    assert all((ROOT / entry.removeprefix("project/")).is_file() for entry in nav if entry.startswith("project/"))


# What is generated


def models_in(spec: type[BaseModel]) -> dict[str, set[str]]:
    """Return the fields of a specification and of all in it, by pydantic's own JSON Schema."""
    schema = spec.model_json_schema()
    found = {name: set(each["properties"]) for name, each in schema["$defs"].items() if "properties" in each}
    return {**found, spec.__name__: set(schema["properties"])}


@pytest.mark.parametrize("spec", [FamilySpec, Deployment, Workload])
def test_every_field_is_described(spec: type[BaseModel], hooks: dict[str, ModuleType]) -> None:
    """Walked by the schema, not by the generator's own walk."""
    fields = hooks["spec_fields"]
    sections: dict[str, str] = {}
    for page in fields.ROOTS:
        for section in re.split(r"^## ", fields.page_of(page), flags=re.MULTILINE)[1:]:
            name = section.split("\n", 1)[0]
            assert name not in sections, f"{name} is described twice"
            sections[name] = section
    for name, names in models_in(spec).items():
        rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", sections[name], re.MULTILINE))
        assert set(rows) == names, name
        for field, row in rows.items():
            description, kind, _, default, _ = re.split(r" *(?<!\\)\| *", row)
            assert kind, f"{name}.{field} has no type"
            assert default, f"{name}.{field} has no default"
            assert description, f"{name}.{field} has no description"


def test_fields_are_what_the_specification_says(hooks: dict[str, ModuleType]) -> None:
    """Some rows, by hand; the workload is that of a case."""
    deployment, study = hooks["spec_fields"].page_of("deployment"), hooks["spec_fields"].page_of("study")
    batch = "largest number of requests in a batch"
    assert f"| `max_batch_requests` | {batch} | whole number | requests | `256` | ≥ 1, ≤ 65,536 |" in deployment
    assert "| `kv` | precision of the KV cache | word |  | `bf16` | `bf16`, `fp8`, `int8` |" in deployment
    assert "| `workload` | requests to serve | [Workload](workload.md#workload) |  | **required** |" in study
    assert "| `timeout_s` | stop after this time; no limit if absent | number | s | none | > 0 |" in study


def test_every_command_is_described(hooks: dict[str, ModuleType]) -> None:
    from typer.main import get_command

    from dse.cli.main import app

    page = hooks["command_pages"].commands()

    def check(command: Any, name: str) -> None:
        for sub, below in getattr(command, "commands", {}).items():
            check(below, f"{name} {sub}")
        if name == "dse":
            return
        section = re.split(rf"^#+ {name}$", page, flags=re.MULTILINE)[1].split("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.hidden:
                assert all(f"`{option}`" in section for option in parameter.opts), f"{name} {parameter.opts}"

    check(get_command(app), "dse")


def test_every_choice_is_listed(hooks: dict[str, ModuleType]) -> None:
    choices = hooks["choices"]
    for made, names in (
        (choices.metrics, METRICS),
        (choices.samplers, SAMPLERS),
        (choices.models, catalog.model_names()),
        (choices.accelerators, catalog.accelerator_names()),
        (choices.processors, catalog.cpu_names()),
        (choices.tiers, catalog.tier_names()),
        (choices.links, catalog.link_profile_names()),
        (choices.engines, catalog.engine_names()),
    ):
        table = made()
        assert all(f"| `{name}` |" in table for name in names)
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.split("\n\n")[0].splitlines()}
        assert len(widths) == 1, made.__name__


# What is described of the Python functions


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every function and method that a package offers."""
    for room in ROOMS:
        package = importlib.import_module(room)
        for name in getattr(package, "__all__", ()):
            offered = getattr(package, name)
            if inspect.isfunction(offered):
                yield f"{room}.{name}", offered
            elif inspect.isclass(offered):
                for method, raw in vars(offered).items():
                    function = getattr(raw, "__func__", raw)
                    if inspect.isfunction(function) and not method.startswith("_"):
                        yield f"{room}.{name}.{method}", function


def lacking(function: Callable[..., Any]) -> list[str]:
    """Return what the docstring of a function does not say: parameters, if there are several, and errors it raises."""
    said = inspect.getdoc(function) or ""
    parameters = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    lines = "\n".join(re.findall(r"^[\w*, ]+$", said.partition("Parameters\n---")[2], re.MULTILINE))
    lost = [name for name in parameters if len(parameters) > 1 and not re.search(rf"\b{name}\b", lines)]
    if "raise SpecError" in inspect.getsource(function) and "Raises\n---" not in said:
        lost.append("errors")
    return lost if said else ["everything"]


def test_docstrings_say_parameters_and_errors() -> None:
    found = dict(public_functions())
    assert len(found) > 100
    assert {
        "simulator.simulate",
        "dse.run_study",
        "search_spaces.Space.sample",
        "dse.capacity.capacity_of",
    } <= found.keys()
    assert not {name: lost for name, function in found.items() if (lost := lacking(function))}


# What is built


class Addresses(HTMLParser):
    """What a page loads, and where it leads."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.add(str(given["id"]))
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(str(given.get("href")))
        elif given.get("src"):
            self.loaded.append(str(given["src"]))


def read(page: Path) -> Addresses:
    found = Addresses()
    found.feed(page.read_text(encoding="utf-8"))
    return found


def test_it_builds_and_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = {page: read(page) for page in site.rglob("*.html")}
    assert len(pages) > 60
    for page, found in pages.items():
        # The page for what is not found may be shown at any depth, so its addresses are absolute.
        here = site if page.name == "404.html" else page.parent
        for address in found.loaded:
            assert "://" not in address, f"{page.name}: {address}"
            assert (here / address.lstrip("/").split("?")[0]).exists(), f"{page.name}: {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_links_lead_somewhere(site: Path) -> None:
    pages = {page.resolve(): read(page) for page in site.rglob("*.html") if page.name != "404.html"}
    for page, found in pages.items():
        for link in found.links:
            if re.match(r"\w+:", link):
                continue
            path, _, anchor = html.unescape(link).partition("#")
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{page.relative_to(site)}: {link}"
            if anchor and target in pages and not anchor.startswith("__"):
                assert anchor in pages[target].ids, f"{page.relative_to(site)}: {link}"


def test_generated_pages_are_filled(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert "<!-- generated:" not in page.read_text(encoding="utf-8"), page.name
    assert "max_batch_requests" in (site / "reference" / "deployment.html").read_text(encoding="utf-8")
    described = (site / "reference" / "python" / "dse.html").read_text(encoding="utf-8")
    for name in ("run_study", "StudyResult", "Client", "load_study"):
        assert f'id="dse.{name}"' in described
    assert 'id="simulator.simulate"' in (site / "reference" / "python" / "simulator.html").read_text(encoding="utf-8")


def test_every_public_name_has_an_entry(site: Path) -> None:
    """Functions that are called like the module that they are in have an entry under the name of both."""
    ids = set[str]().union(*(read(page).ids for page in (site / "reference" / "python").glob("*.html")))
    for room in ROOMS:
        package = importlib.import_module(room)
        for name in getattr(package, "__all__", ()):
            offered = getattr(package, name)
            if callable(offered) and hasattr(offered, "__module__") and offered.__module__ != "typing":
                assert {f"{room}.{name}", f"{offered.__module__}.{name}"} & ids, f"{room}.{name}"


# What runs


def run_blocks(page: Path, folder: Path) -> list[tuple[str, str]]:
    """Run a page's blocks in their order; return each and what it printed.

    Outputs that the page shows are held against what the block before them printed.
    """
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "120",
    }
    url, ran = ADDRESS, []
    with ExitStack() as servers:
        for mark, language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            if mark.startswith("file: "):
                (folder / mark.removeprefix("file: ")).write_text(block, encoding="utf-8")
            elif mark == "server":
                assert block == "dse serve\n"
                url = servers.enter_context(Served(folder / "data", "--workers", "1")).url
            elif mark == "runs":
                script = block.replace(ADDRESS, url)
                command = [sys.executable, "-c", script] if language == "python" else ["bash", "-euc", script]
                done = subprocess.run(
                    command, capture_output=True, text=True, cwd=folder, env=environment, timeout=300, check=False
                )
                assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
                ran.append((block, done.stdout))
            elif language == "text":
                check_shown(block, ran[-1][1])
            else:
                assert mark == "in a clone" or language not in ("sh", "python"), f"{page.name}: is not run:\n{block}"
    return ran


def check_shown(block: str, printed: str) -> None:
    """Check that every line was printed; one that ends in an ellipsis is the beginning of one that was."""
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for shown in (" ".join(line.split()) for line in block.splitlines()):
        if shown.endswith("…"):
            assert any(line.startswith(shown.removesuffix("…")) for line in lines), f"{shown}\n\n{printed}"
        else:
            assert shown in lines, f"{shown}\n\n{printed}"


def test_the_tutorial_runs(tmp_path: Path) -> None:
    ran = dict(run_blocks(DOCS / "tutorial.md", tmp_path))
    for command in ("dse run", "dse why", "dse capacity", "dse export", "Client("):
        assert any(command in block for block in ran), command
    assert (tmp_path / "runs" / "support" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "deploy" / "load" / "requests.jsonl").exists()

    # What step 5 says of each design is what the command prints of it.
    capacity = ran["dse capacity runs/support\n"].splitlines()
    table = re.findall(
        r"^\| (\d × .*) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", (DOCS / "tutorial.md").read_text(), re.M
    )
    assert len(table) == 3
    for design, rate, price, each in table:
        (row,) = [line.split() for line in capacity if line.strip().startswith(design)]
        assert rate in row
        assert row[-2:] == [price, each]


def test_the_overview_runs(tmp_path: Path) -> None:
    """Formulas worked out by hand give what the command says of the same step."""
    printed = "\n".join(output for _, output in run_blocks(DOCS / "how-it-works.md", tmp_path))
    for operator, short in (("down", "down"), ("attention of decodes", "attention")):
        (by_hand,) = re.findall(rf"^{short}: .* a layer, ([\d.]+) ms$", printed, re.MULTILINE)
        assert by_hand in re.findall(rf"^ *{operator} +([\d.]+) ms", printed, re.MULTILINE)


@pytest.mark.parametrize("name", HOW_TO)
def test_how_to_runs(name: str, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(DOCS)
    assert run_blocks(DOCS / "how-to" / name, tmp_path)


def test_the_extras_of_the_tutorial_exist() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (named,) = re.findall(r"pip install -q '\.\[([\w,]+)\]'", (DOCS / "tutorial.md").read_text())
    assert set(named.split(",")) <= extras.keys()


# The notebook


@pytest.fixture(scope="module")
def notebooks(hooks: dict[str, ModuleType]) -> ModuleType:
    """What runs the notebooks of the site."""
    del hooks
    pytest.importorskip("nbclient", reason="Jupyter is not installed (extra docs)")
    return importlib.import_module("notebooks")


def test_the_notebook_shows_what_came_out(site: Path) -> None:
    """The build has run it; a check that fails would have ended the build."""
    import nbformat

    shown = (site / "walkthrough.html").read_text(encoding="utf-8")
    assert shown.count('class="output"') >= 10  # tables
    assert shown.count("output highlight") + shown.count("text output") >= 5  # what was printed
    pictures = [link for link in read(site / "walkthrough.html").loaded if link.endswith(".svg")]
    assert len(pictures) == 2
    assert "Traceback" not in shown
    assert "assert " not in shown
    notebook = nbformat.read(site / "walkthrough.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 15
    assert all(cell.execution_count for cell in cells)
    assert "walkthrough.ipynb" in read(site / "walkthrough.html").links


def test_sentences_of_the_notebook_are_checked() -> None:
    sections = re.split(r"^## ", (DOCS / "walkthrough.md").read_text(), flags=re.MULTILINE)[2:]
    unchecked = [section.split("\n")[0] for section in sections if 'tags=["check"]' not in section]
    assert not unchecked


def test_a_wrong_sentence_ends_the_build(notebooks: ModuleType) -> None:
    from nbclient.exceptions import CellExecutionError

    page = "---\njupyter:\n  kernelspec: {{display_name: P, language: python, name: python3}}\n---\n\n{}"
    cells = (
        '```python\nx = 6 * 7\nx\n```\n\nForty-two, [see](other.md).\n\n```python tags=["check"]\nassert x == {}\n```\n'
    )
    notebook = notebooks.executed(page.format(cells.format(42)))
    text, pictures = notebooks.shown(notebook, "page")
    assert "```{ .text .output }\n42\n```" in text
    assert "assert" not in text
    assert not pictures
    assert "other.md" not in notebooks.to_download(notebook)
    with pytest.raises(CellExecutionError, match="AssertionError"):
        notebooks.executed(page.format(cells.format(43)))


# What is said of accuracy and limits


def test_accuracy_in_short_is_that_of_the_rows() -> None:
    """The first table of the page holds the largest error of each data set of the second."""
    page = (DOCS / "fidelity.md").read_text()
    short, rows = page.split("## In short")[1].split("## Seen by the fit")[0].split("## Not seen by the fit")
    worst: dict[str, dict[str, float]] = {}
    for data, result in re.findall(r"^\| (.+?) \| .+ \| (.*\*\*.*) \|$", rows, re.MULTILINE):
        found = worst.setdefault(data, {})
        for metric, error in re.findall(r"(?:^|; )([^*;]+?) \*\*([\d.]+) %\*\*", result):
            found[metric] = max(float(error), found.get(metric, 0.0))
    lines = re.findall(r"^\| (.+) \| (\d\S*|–) \| (\d\S*|–) \| (\d\S*|–) \| (.*)\|$", short, re.MULTILINE)
    assert [line[0] for line in lines] == list(worst)
    for data, *means, other in lines:
        for metric, shown in zip(("TTFT mean", "TPOT mean", "E2E mean"), means, strict=True):
            assert shown == (f"{worst[data][metric]:.1f}" if metric in worst[data] else "–"), data
        for metric, shown in re.findall(r"([a-zA-Z ]+?) ([\d.]+)(?:, |\s*$)", other):
            assert float(shown) == worst[data][metric]


def one_request(tokens: int, **pool: Any) -> Any:
    """Return the outcome of some requests of a length on a single accelerator."""
    deployment = Deployment.parse({"pools": [{"accelerator": "h200-sxm", **pool}]})
    lengths = {
        "prompt": {"distribution": "constant", "tokens": tokens},
        "output": {"distribution": "constant", "tokens": 5},
    }
    load = {"requests": 3, "arrivals": {"process": "constant", "rate_rps": 0.1}, "lengths": lengths}
    return simulate(deployment, Workload.parse(load))


def test_limits_are_what_happens() -> None:
    """What the page of limits says is left out, tried."""
    # Context windows.
    longest = catalog.model("llama-2-7b").max_context_tokens
    assert one_request(3 * longest, model="llama-2-7b").rejected == 0
    # Quality, and lengths that react to it.
    answers = [one_request(500, model="llama-3.1-8b", weights=weights).output_tokens for weights in ("bf16", "fp4")]
    assert answers[0] == answers[1]
