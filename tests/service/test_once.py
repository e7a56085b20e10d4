"""Questions that are answered at once: the answers are those of the commands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from dse.cli.main import app as command
from dse.service.settings import Limits, Settings

from .running import Running, running

DEPLOYMENT = {"pools": [{"model": "llama-3.1-8b", "accelerator": "l40s", "clients": 2}]}
SERVICES = {
    "pools": [{"model": "llama-3.1-8b", "accelerator": "h100-sxm", "prefix_cache": {}}],
    "services": [{"stage": "guard", "device": "l4"}],
    "tiers": [{"name": "host", "clients": 1, "memory_gb": 100, "gb_per_s": 50}],
}
WORKLOAD = {
    "requests": 400,
    "arrivals": {"process": "poisson", "rate_rps": 4},
    "lengths": {"statistics": "azure-2023-conversation"},
}
GUARDED = {**WORKLOAD, "pipeline": [{"kind": "guard", "applies_to": "prompt"}, {"kind": "llm"}]}
SLOS = [{"metric": "ttft", "percentile": 99, "limit_s": 2}, {"metric": "tpot", "percentile": 90, "limit_s": 0.001}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(once_requests=2_000, once_s=20)
    with running(Settings(data=tmp_path_factory.mktemp("data"), limits=limits)) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def printed(tmp_path: Path, name: str, deployment: Any, workload: Any, *options: str) -> Any:
    """Return what a command prints with --json."""
    (tmp_path / "system.yaml").write_text(yaml.safe_dump({"deployment": deployment, "workload": workload}))
    result = CliRunner().invoke(command, [name, str(tmp_path / "system.yaml"), "--json", *options])
    assert result.exit_code in (0, 3), result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(("deployment", "workload"), [(DEPLOYMENT, WORKLOAD), (SERVICES, GUARDED)])
def test_simulate_answers_as_the_command_prints(
    client: httpx.Client, tmp_path: Path, deployment: Any, workload: Any
) -> None:
    question = {"deployment": deployment, "workload": workload, "slos": SLOS}
    answer = client.post("/v1/simulate", json=question)
    assert answer.status_code == 200, answer.text
    said = printed(tmp_path, "simulate", deployment, workload, "--slo", "ttft:99:2", "--slo", "tpot:90:0.001")
    assert answer.json() == said
    assert [each["holds"] for each in said["slos"]] == [True, False]
    assert said["slos"][0]["reached_s"] == said["ttft_p99_s"]
    as_yaml = client.post(
        "/v1/simulate", content=yaml.safe_dump(question), headers={"Content-Type": "application/yaml"}
    )
    assert as_yaml.content == answer.content


def test_capacity_answers_as_the_command_prints(client: httpx.Client, tmp_path: Path) -> None:
    question = {
        "deployment": DEPLOYMENT,
        "workload": WORKLOAD,
        "slos": SLOS[:1],
        "tolerance": 0.1,
        "replications": 2,
    }
    answer = client.post("/v1/capacity", json=question)
    assert answer.status_code == 200, answer.text
    options = ("--slo", "ttft:99:2", "--tolerance", "0.1", "--replications", "2")
    assert answer.json() == printed(tmp_path, "capacity", DEPLOYMENT, WORKLOAD, *options)
    assert answer.json()["rate_rps"] > 1


def test_explain_answers_as_the_command_prints(client: httpx.Client, tmp_path: Path) -> None:
    question = {"deployment": SERVICES, "workload": GUARDED, "batch": 8, "context_tokens": 500}
    answer = client.post("/v1/explain", json=question)
    assert answer.status_code == 200, answer.text
    said = printed(tmp_path, "explain", SERVICES, GUARDED, "--batch", "8", "--context-tokens", "500")
    assert answer.json() == said
    assert len(said["services"]) == 1
    mixed = client.post("/v1/explain", json={"deployment": DEPLOYMENT, "pool": "main", "steps": ["mixed"]}).json()
    assert mixed == printed(tmp_path, "explain", DEPLOYMENT, WORKLOAD, "--pool", "main", "--step", "mixed")


@pytest.mark.parametrize(
    ("path", "change", "field", "cause"),
    [
        ("simulate", {"workload": {**WORKLOAD, "requests": 2_001}}, "workload.requests", "at most 2,000"),
        ("capacity", {"workload": {**WORKLOAD, "requests": 2_001}}, "workload.requests", "at most 2,000"),
        ("simulate", {"deployment": {"pools": []}}, "deployment.pools", "at least 1"),
        ("simulate", {"deployment": None}, "deployment", ""),
        ("simulate", {"slos": [{"metric": "session", "percentile": 9, "limit_s": 1}]}, "", "no sessions"),
        ("simulate", {"surprise": 1}, "surprise", "unknown key"),
        ("capacity", {"tolerance": 0}, "tolerance", "0.001"),
        ("capacity", {"replications": 10**6}, "replications", "20"),
        ("explain", {"batch": 0}, "batch", "1"),
        ("explain", {"pool": "none"}, "", "no pool 'none'"),
        ("explain", {"steps": ["decode", "decode"]}, "", "must differ"),
        ("simulate", {"workload": {"trace": {"path": "/etc/passwd"}}}, "workload.trace.path", "/etc/passwd"),
        ("simulate", {"workload": {"trace": {"path": "no.csv"}}}, "workload.trace.path", "no.csv"),
        (
            "simulate",
            {"deployment": {"pools": [{"model": "/etc/passwd.json", "accelerator": "l40s"}]}},
            "",
            "files are not taken here",
        ),
        (
            "simulate",
            {"deployment": {"pools": [{"model": "llama-3.1-405b", "accelerator": "l40s"}]}},
            "",
            "llama-3.1-405b",
        ),
    ],
)
def test_what_cannot_be_answered_is_named(
    client: httpx.Client, path: str, change: dict[str, Any], field: str, cause: str
) -> None:
    question: dict[str, Any] = {"deployment": DEPLOYMENT, "workload": WORKLOAD, **change}
    answer = client.post(f"/v1/{path}", json=question)
    assert answer.status_code == 422, answer.text
    problem = answer.json()
    assert cause in problem["detail"]
    assert any(field in error["field"] for error in problem["errors"])
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_what_takes_too_long_is_ended_and_the_server_goes_on(tmp_path: Path) -> None:
    limits = Limits(once_s=0.5, once_requests=2_000_000)
    with running(Settings(data=tmp_path, limits=limits)) as server, server.client() as client:
        question = {"deployment": DEPLOYMENT, "workload": {**WORKLOAD, "requests": 2_000_000}}
        answer = client.post("/v1/simulate", json=question)
        assert answer.status_code == 422
        assert "takes longer than 0.5 s" in answer.json()["detail"]
        assert client.get("/healthz").elapsed.total_seconds() < 1
        assert "dse_bench_timeouts_total 1.0" in client.get("/metrics").text


def test_the_catalog_has_what_a_form_needs(client: httpx.Client) -> None:
    answer = client.get("/v1/catalog")
    found = answer.json()
    assert {each["name"] for each in found["studies"]} >= {"chat"}
    chips = {each["name"]: each for each in found["accelerators"]}
    assert chips["h100-sxm"]["usd_per_hour"] > 0
    assert chips["h100-sxm"]["calibrated"] == "yes"
    assert {each["calibrated"] for each in chips.values()} > {"yes"}
    metrics = {each["name"]: each for each in found["metrics"]}
    assert metrics["ttft_p99_s"]["direction"] == "minimize"
    assert metrics["ttft_p99_s"]["unit"] == "s"
    assert metrics["slo_attainment"]["needs_slos"]
    for kind in ("models", "cpus", "tiers", "links", "engines", "samplers"):
        assert found[kind], kind
    again = client.get("/v1/catalog", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304
    assert not again.content


def test_shipped_studies_can_be_run_as_they_come(client: httpx.Client) -> None:
    for study in client.get("/v1/catalog").json()["studies"]:
        spec = client.get(f"/v1/catalog/studies/{study['name']}")
        assert spec.json()["objectives"] == study["objectives"]
        checked = client.post("/v1/studies/check", json=spec.json())
        assert checked.status_code == 200, (study["name"], checked.text)
    assert client.get("/v1/catalog/studies/none").status_code == 404


@pytest.mark.parametrize("kind", ["study", "deployment", "workload"])
def test_schemas_are_those_of_the_command(client: httpx.Client, kind: str) -> None:
    printed = json.loads(CliRunner().invoke(command, ["schema", kind]).stdout)
    answered = client.get(f"/v1/schemas/{kind}").json()
    if kind == "study":
        # A file may hold several studies, a request one.
        several = {"scenarios", "alternatives"}
        assert printed["properties"].keys() - answered["properties"].keys() == several
        printed["properties"] = {name: each for name, each in printed["properties"].items() if name not in several}
        printed |= {name: answered[name] for name in ("title", "description")}
    assert answered == printed
    assert client.get("/v1/schemas/none").status_code == 422


def test_questions_of_clients_that_left_are_not_computed(tmp_path: Path) -> None:
    """A slider that is moved quickly asks often and hears one answer: the others do not stand in its way."""
    settings = Settings(data=tmp_path / "data", limits=Limits(once_s=60))
    slow = {"deployment": DEPLOYMENT, "workload": {**WORKLOAD, "requests": 100_000}, "slos": SLOS[:1]}
    with running(settings) as server, server.client() as client:
        began = time.perf_counter()
        assert client.post("/v1/capacity", json=slow).status_code == 200
        once_s = time.perf_counter() - began
        bench = server.app.state.service.bench
        done = bench.counts.done
        for _ in range(12):
            with pytest.raises(httpx.ReadTimeout):
                client.post("/v1/capacity", json=slow, timeout=httpx.Timeout(60, read=min(0.1, once_s / 4)))
        answer = client.post("/v1/simulate", json={"deployment": DEPLOYMENT, "workload": WORKLOAD})
        assert answer.status_code == 200
        # What is in work is finished, which on a fast machine are a few; all of them would be 13.
        assert bench.counts.done - done <= 8
