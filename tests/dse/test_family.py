"""Families of studies: members, fronts over alternatives, folders, what is said of mistakes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dse import load_study, run_study, study_names
from dse.cli.main import app
from dse.family import Answer, FamilySpec, Found
from dse.family.markdown import answer_markdown
from dse.family.page import render_family
from dse.library import family_names, load_family
from dse.spec import StudySpec
from simulator import SpecError

BASE: dict[str, Any] = {
    "name": "tiny",
    "question": "Which length at which rate?",
    "model": "llama-3.1-8b",
    "workload": {
        "requests": 120,
        "arrivals": {"process": "poisson", "rate_rps": 4.0},
        "lengths": {
            "prompt": {"distribution": "constant", "tokens": 500},
            "output": {"distribution": "constant", "tokens": 50},
        },
    },
    "space": {"accelerators": ["l40s", "h100-sxm"], "clients": [1, 2], "tp": [1], "policies": ["chunked"]},
    "objectives": ["usd_per_hour", "e2e_p90_s"],
    "budget": {"trials": 12},
    "scenarios": {"slow": {}, "fast": {"workload.arrivals.rate_rps": 16.0}},
    "alternatives": {"short": {"workload.lengths.output.tokens": 25}, "long": {}},
}
LABELS = ["slow/short", "slow/long", "fast/short", "fast/long"]


def family(**changes: Any) -> FamilySpec:
    return FamilySpec.parse({key: value for key, value in {**BASE, **changes}.items() if value is not None})


@pytest.fixture(scope="module")
def answer() -> Answer:
    asked = family()
    return Answer(asked, tuple(Found(member, run_study(member.spec, jobs=1)) for member in asked.members))


def test_members_are_the_base_with_changes() -> None:
    members = family().members
    assert [member.label for member in members] == LABELS
    assert [member.spec.name for member in members] == [f"tiny-{label.replace('/', '-')}" for label in LABELS]
    plain = {key: value for key, value in BASE.items() if key not in ("scenarios", "alternatives")}
    assert members[1].spec == StudySpec.parse({**plain, "name": "tiny-slow-long"})
    rates = [member.spec.workload.arrivals.rate_rps for member in members if member.spec.workload.arrivals]
    assert rates == [4.0, 4.0, 16.0, 16.0]


@pytest.mark.parametrize("name", family_names())
def test_a_study_without_changes_is_its_only_member(name: str) -> None:
    path = Path(__file__).parents[2] / "studies" / f"{name}.yaml"
    asked = load_family(path)
    for member in asked.members:
        assert load_study(f"{name}/{member.label}".removesuffix("/")) == member.spec
    if not asked.label_kinds:
        assert asked.members[0].spec == StudySpec.from_yaml(path)
    assert FamilySpec.parse(yaml.safe_load(asked.to_yaml())) == asked


def test_front_is_that_of_all_alternatives(answer: Answer) -> None:
    """Held against the plain definition: nothing else in the scenario is at least as good everywhere."""
    for front in answer.fronts:
        every = [e for found in answer.founds if found.member.scenario == front.scenario for e in found.result.feasible]

        def beaten(one: tuple[float, ...], by: tuple[float, ...]) -> bool:
            return one != by and all(b <= a for a, b in zip(one, by, strict=True))

        values = {e.objectives for e in every if not any(beaten(e.objectives, other.objectives) for other in every)}
        assert {design.evaluation.objectives for design in front.designs} <= values
        # Shorter answers are never slower on the same hardware.
        assert {design.found.member.alternative for design in front.designs} == {"short"}
        assert front.recommended in front.designs
    assert [front.scenario for front in answer.fronts] == ["slow", "fast"]


def test_tables_hold_the_figures_of_the_members(answer: Answer) -> None:
    text = answer_markdown(answer)
    assert "| scenario | alternative | simulated | feasible | best USD/h | best E2E p90 | recommended |" in text
    assert len(re.findall(r"^→ recommended", text, re.MULTILINE)) == 2
    for found in answer.founds:
        cheapest = min(e.objectives[0] for e in found.result.feasible)
        member = found.member
        assert f"| {member.scenario} | {member.alternative} | {len(found.result.simulated)} | " in text
        assert f" | {cheapest:.2f} | " in text
    assert list(answer.members["best_e2e_p90_s"]) == [found.best("e2e_p90_s") for found in answer.founds]
    assert set(answer.front_table["alternative"]) == {"short"}


def test_tables_show_the_weights_of_every_stage() -> None:
    pipeline = [{"kind": "route", "name": "router", "by": "chance", "to": {"small": 1, "large": 1}}]
    asked = family(
        model={"small": "llama-3.2-1b", "large": "llama-3.1-8b"},
        workload={**BASE["workload"], "pipeline": pipeline},
        services=[{"stage": "router", "device": "epyc-9654"}],
        space={
            "accelerators": ["h100-sxm"],
            "clients": [1],
            "tp": [1],
            "layouts": ["colocated"],
            "stages": {"small": {"weights": ["bf16"]}, "large": {"weights": ["fp8"]}},
        },
        scenarios=None,
        alternatives=None,
    )
    text = answer_markdown(Answer(asked, tuple(Found(each, run_study(each.spec, jobs=1)) for each in asked.members)))
    assert "small: 1 × h100-sxm TP1 + large: 1 × h100-sxm TP1 · bf16 (small), fp8 (large) |" in text


def test_page_leads_to_the_members(answer: Answer) -> None:
    page = render_family(answer)
    for label in LABELS:
        assert f'href="{label}/report.html"' in page
    assert page.count('class="badge"') == 2
    assert "http://" not in page.split("<script")[0]


def test_page_says_what_each_scenario_promises(answer: Answer) -> None:
    promise = {"metric": "ttft", "percentile": 90, "limit_s": 5.0}
    asked = family(
        slos=[promise],
        scenarios={"slow": {}, "fast": {"workload.arrivals.rate_rps": 16.0, "slos.0.limit_s": 7.0}},
        alternatives=None,
    )
    page = render_family(
        Answer(asked, tuple(Found(member, run_study(member.spec, jobs=1)) for member in asked.members))
    )
    assert "not the same in all members" in page
    fast, slow = page.index('id="front-1"'), page.index('id="front-0"')
    assert "within 5 s" in page[slow:fast]
    assert "within 5 s" not in page[fast : page.index('id="reproduce"')]
    assert "within 7 s" in page[fast:]
    assert "not the same" not in render_family(answer)


def test_nothing_feasible_is_an_answer() -> None:
    asked = family(slos=[{"metric": "ttft", "percentile": 99, "limit_s": 1e-6}], alternatives=None)
    found = Answer(asked, tuple(Found(member, run_study(member.spec, jobs=1)) for member in asked.members))
    assert [front.recommended for front in found.fronts] == [None, None]
    assert "slow: no design that was simulated keeps every promise." in answer_markdown(found)
    assert "nothing keeps the promises" in render_family(found)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"scenarios": {"a": {"name": "x"}}}, ["'name'", "allowed: model", "workload.requests"]),
        ({"scenarios": {"a": {"workload.requests": 0}}}, ["study tiny/a/short", "workload.requests", "given 0"]),
        ({"alternatives": {"a": {"objectives": ["e2e_p90_s"]}, "b": {}}}, ["objectives", "whole family", "e2e_p90_s"]),
        ({"alternatives": {"a b": {}}}, ["alternatives", "'a b'"]),
        ({"scenarios": {f"s{i}": {} for i in range(60)}}, ["at most 100 members", "given 120"]),
    ],
)
def test_mistakes_are_told(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        family(**changes)
    for word in words:
        assert word in str(error.value)


def test_command_runs_all_members_goes_on_and_runs_one(tmp_path: Path) -> None:
    file, folder = tmp_path / "tiny.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(BASE), encoding="utf-8")
    run = CliRunner()
    first = run.invoke(app, ["run", str(file), "--jobs", "1", "--markdown", "--out", str(folder)])
    assert first.exit_code == 0, first.output
    assert "| → short |" in first.stdout
    assert {path.name for path in folder.iterdir()} == {
        *("family.json", "report.html", "report.md", "members.csv", "front.csv", "slow", "fast")
    }
    assert json.loads((folder / "family.json").read_text(encoding="utf-8"))["whole"]
    for label in LABELS:
        assert (folder / label / "report.html").exists()
    again = run.invoke(app, ["run", str(file), "--jobs", "1", "--markdown", "--out", str(folder)])
    assert isinstance(again.exception, SpecError)
    assert "holds an earlier run" in str(again.exception)
    going_on = run.invoke(app, ["run", str(file), "--jobs", "1", "--markdown", "--out", str(folder), "--resume"])
    assert going_on.exit_code == 0
    assert going_on.stdout == first.stdout
    page = (folder / "report.html").read_text(encoding="utf-8")
    (folder / "report.html").unlink()
    assert run.invoke(app, ["report", str(folder)]).exit_code == 0
    assert (folder / "report.html").read_text(encoding="utf-8") == page
    why = run.invoke(app, ["why", str(folder)])
    assert "holds the runs of several studies" in str(why.exception)
    assert "fast/long" in str(why.exception)
    alone = run.invoke(app, ["run", f"{file}/fast/long", "--jobs", "1", "--out", str(tmp_path / "one")])
    assert alone.exit_code == 0, alone.output
    assert "recommended" in alone.stdout


def test_a_family_is_no_study_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(BASE), encoding="utf-8")
    with pytest.raises(SpecError, match=r"several members.*tiny\.yaml/slow/short"):
        load_study(file)
    assert load_study(f"{file}/slow/short").name == "tiny-slow-short"
    assert all(load_study(name).name == name.replace("/", "-") for name in study_names())
