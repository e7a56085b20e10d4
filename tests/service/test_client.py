"""``dse.Client`` against a real server, over connections that break."""

from __future__ import annotations

import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import yaml

from dse import Client, StudySpec, run_study
from dse.client import NoRecommendation, ProblemError, RemoteStudy, ServiceAway, StudyEnded
from dse.client.connection import Connection
from dse.client.watch import watch
from dse.evaluation import deployment_of
from dse.export.bundle import bundle
from simulator import Deployment, SpecError

from .relay import Relay
from .served import QUICK, STEADY, Served, until

ACCELERATOR = "main.accelerator"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("client") / "data", "--workers", "2", "--jobs", "1") as server:
        yield server


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    """A client; what its test leaves unfinished does not keep the workers from the next one's studies."""
    with Client(served.url) as made:
        yield made
        for study in (*made.list(state="queued"), *made.list(state="running")):
            study.cancel()


@pytest.fixture(scope="module")
def finished(served: Served) -> RemoteStudy:
    return Client(served.url).create(QUICK).wait(300)


def test_finds_what_the_study_finds_here(finished: RemoteStudy) -> None:
    """The front over HTTP is that of ``run_study``, to the last bit."""
    here = run_study(StudySpec.parse(QUICK), jobs=1)
    front = finished.front()
    assert front[list(QUICK["objectives"])].to_numpy().tolist() == [list(e.objectives) for e in here.front]
    assert list(front.columns[:3]) == ["recommended", "usd_per_hour", "e2e_p90_s"]
    assert here.recommended is not None
    assert finished.recommended.number == here.recommended.number
    assert front.index[front["recommended"]].tolist() == [here.recommended.number]
    trials = finished.trials()
    assert len(trials) == len(here.evaluations)
    assert trials.loc[front.index, ACCELERATOR].tolist() == [e.design[ACCELERATOR] for e in here.front]
    assert len(finished.trials(feasible=True)) == len(here.feasible)
    assert len(finished.trials(simulated=True)) == len(here.simulated)
    assert finished.trials(feasible=True, simulated=False).empty


def test_a_design_in_full(finished: RemoteStudy, tmp_path: Path) -> None:
    best = finished.recommended
    here = Deployment.parse(yaml.safe_load(best.deployment_yaml()))
    assert here.pools[0].accelerator == best.design[ACCELERATOR]
    assert best.deployment == here.model_dump(mode="json", exclude_none=True)
    assert best.figures["usd_per_hour"] == finished.front().loc[best.number, "usd_per_hour"]
    simulation = best.simulation()
    assert simulation.number == best.number
    assert simulation.latencies
    front = finished.front()
    if len(front) > 1:
        compared = finished.compare(front.index[0], front.index[-1])
        assert {row.name for row in compared.figures} >= {"usd_per_hour"}
        assert len(finished.why(front.index[0], front.index[-1])) == len(finished.objectives)
    cheaper = finished.what_if(usd_per_hour={best.design[ACCELERATOR]: 0.01})
    assert cheaper.devices[best.design[ACCELERATOR]] == 0.01
    report = finished.report(tmp_path / "report.html")
    assert report.read_text().lstrip().lower().startswith("<!doctype html")
    table = pd.read_parquet(finished.export("trials.parquet", tmp_path / "trials.parquet"))
    assert len(table) == len(finished.trials())
    assert "ttft_p90_s" in table.columns


def test_a_design_is_written_as_the_command_writes_it(finished: RemoteStudy, tmp_path: Path) -> None:
    best = finished.recommended
    found = best.export("vllm", tmp_path / "deploy", load=True, requests=20)
    spec = StudySpec.parse(QUICK)
    deployment = deployment_of(spec.space.space.design(best.design), spec)
    wanted = bundle(deployment, "vllm", spec.cases[0].workload.model_copy(update={"requests": 20}))
    assert found.files["NOTES.md"].splitlines() == wanted.files["NOTES.md"].splitlines()
    assert found.files == wanted.files
    for name, text in wanted.files.items():
        path = tmp_path / "deploy" / name
        assert path.read_text() == text
        assert bool(path.stat().st_mode & 0o111) == name.endswith(".sh")
    assert found.notes["vllm"]
    with pytest.raises(SpecError, match=r"vllm-\w+\.sh"):
        best.export("vllm", tmp_path / "deploy")
    best.export("vllm", tmp_path / "deploy", overwrite=True)
    with pytest.raises(ProblemError) as refused:
        finished.deployable(10**6)
    assert refused.value.status == 404


def test_lists_and_finds(client: Client, finished: RemoteStudy) -> None:
    assert finished.id in [study.id for study in client.list(state="finished")]
    assert client.list(search="no such study") == ()
    found = client.find("quick")
    assert found.objectives == tuple(QUICK["objectives"])
    assert StudySpec.parse(found.spec) == StudySpec.parse(QUICK)
    with pytest.raises(SpecError, match="none called 'quack'"):
        client.find("quack")
    with pytest.raises(ProblemError) as refused:
        client.get("0" * 32)
    assert refused.value.status == 404


def test_takes_studies_in_every_form(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "quick.yaml"
    path.write_text(yaml.safe_dump(QUICK))
    forms: list[Any] = [QUICK, StudySpec.parse(QUICK), path, str(path), path.read_text()]
    for form in forms:
        study = client.create(form, trials=3, seed=7, idempotency_key="every-form")
        assert study.spec["budget"]["trials"] == 3
        assert study.spec["seed"] == 7
    assert len({client.create(form, trials=3, seed=7, idempotency_key="every-form").id for form in forms}) == 1
    certified = client.create("finite-chat", certified=0.5)
    assert certified.spec["budget"]["certified"] == 0.5
    # As many as it takes: not the 400 of the shipped study.
    assert certified.spec["budget"]["trials"] > 400
    certified.cancel()


def test_the_same_key_makes_one_study(client: Client) -> None:
    first = client.create(QUICK, idempotency_key="tuesday")
    assert client.create(QUICK, idempotency_key="tuesday").id == first.id
    with pytest.raises(ProblemError) as refused:
        client.create(QUICK, trials=7, idempotency_key="tuesday")
    assert refused.value.status == 409
    assert client.create(QUICK).id != first.id


def test_says_every_field_at_fault(client: Client) -> None:
    with pytest.raises(ProblemError) as refused:
        client.create({**QUICK, "model": "llama-3.1-7b", "seed": -1})
    error = refused.value
    assert error.status == 422
    assert {"model", "seed"} <= {problem.field for problem in error.problems}
    assert "llama-3.1-8b" in str(error)
    assert "seed" in str(error)
    assert "\n" not in str(error)
    with pytest.raises(ProblemError) as refused:
        client.create("chatt")
    assert "chat" in str(refused.value)
    with pytest.raises(SpecError, match=r"absent\.yaml"):
        client.create("absent.yaml")


def test_pause_resume_cancel_delete(client: Client) -> None:
    study = client.create(STEADY, trials=1_000)
    until(lambda: study.refresh().summary.simulated)
    study.pause()
    until(lambda: study.refresh().state == "paused")
    with pytest.raises(TimeoutError, match="paused"):
        study.wait(1)
    before = study.summary.simulated
    study.resume()
    until(lambda: study.refresh().summary.simulated > before)
    with pytest.raises(ProblemError) as refused:
        study.delete()
    assert refused.value.status == 409
    study.cancel()
    with pytest.raises(StudyEnded, match="cancelled"):
        study.wait(300)
    study.delete()
    with pytest.raises(ProblemError) as refused:
        study.refresh()
    assert refused.value.status == 404


def test_nothing_to_recommend(client: Client) -> None:
    slos = [{"metric": "ttft", "percentile": 90, "limit_s": 1e-6}]
    study = client.create({**QUICK, "slos": slos}, trials=3).wait(300)
    assert study.front().empty
    with pytest.raises(NoRecommendation):
        _ = study.recommended


def test_wait_ends_in_time(client: Client) -> None:
    study = client.create(STEADY, trials=1_000)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        study.wait(2)
    assert 2 <= time.monotonic() - began < 6
    study.cancel()


def test_a_lost_answer_makes_no_second_study(served: Served, client: Client) -> None:
    with Relay(served.port) as relay, Client(relay.url) as over:
        over.session()
        relay.swallowed = 2
        study = over.create({**QUICK, "name": "swallowed"}, trials=3)
        assert relay.swallowed == 0
        assert [each.id for each in client.list(search="swallowed")] == [study.id]


def test_watches_over_cut_connections(served: Served, client: Client) -> None:
    """Each design comes once, however often the line breaks, also inside an event."""
    study = client.create(STEADY)
    with Relay(served.port) as relay, Client(relay.url) as over:
        there = over.get(study.id)
        # Inside the first event, between events, inside later ones.
        relay.cut_after = [300, 5_000, 9_111, 20_003, 30_000]
        seen: list[int] = []
        kinds = []
        for event in there.watch():
            kinds.append(event.kind)
            seen += [trial.number for trial in event.trials]
        assert relay.cut_after == []
        assert relay.connections >= 6
    assert kinds[-1] == "end"
    assert there.state == "finished"
    assert len(seen) == len(set(seen))
    assert sorted(seen) == study.trials().index.tolist()


class _Busy(http.server.BaseHTTPRequestHandler):
    """Says twice that it is busy, then answers."""

    said: ClassVar[list[float]] = []

    def do_GET(self) -> None:
        self.said.append(time.monotonic())
        busy = len(self.said) <= 2
        body = json.dumps({"title": "busy"} if busy else {"version": "1"}).encode()
        self.send_response((429, 503)[len(self.said) - 1] if busy else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if busy:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that is busy for longer than the patience with an address that never answered."""
    monkeypatch.setattr("dse.client.connection.FIRST_ANSWER_S", 0.1)
    _Busy.said.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_waits_as_long_as_a_busy_server_asks(busy: str) -> None:
    assert Client(busy).session() == {"version": "1"}
    pauses = [after - before for before, after in zip(_Busy.said, _Busy.said[1:], strict=False)]
    assert len(pauses) == 2
    assert all(1 <= pause < 2 for pause in pauses)
    _Busy.said.clear()
    with pytest.raises(ProblemError) as refused:
        Client(busy, patience_s=0.5).session()
    assert refused.value.status == 429


def test_waits_for_the_events_of_a_busy_server(busy: str) -> None:
    """The third answer is none of dse serve, which is how this shows that it was waited for."""
    with pytest.raises(ServiceAway, match="is no dse serve"):
        next(watch(Connection(busy, None, patience_s=60, timeout_s=60), "any"))
    assert len(_Busy.said) == 3


def test_nobody_there_is_said_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setenv("DSE_URL", f"127.0.0.1:{port}")
    began = time.monotonic()
    with pytest.raises(ServiceAway, match="is dse serve running there"):
        Client().list()
    assert time.monotonic() - began < 5
    with pytest.raises(SpecError, match="allowed: http"):
        Client("ftp://here")
    with pytest.raises(SpecError, match="DSE_TOKEN"):
        Client("http://me:secret@here")


def test_uploads_traces_piece_by_piece(client: Client, tmp_path: Path) -> None:
    trace = tmp_path / "calls.csv"
    rows = "".join(f"{i * 0.05:.2f},{400 + i % 7 * 90},{100 + i % 5}\n" for i in range(150_000))
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    told: list[tuple[int, int]] = []
    made = client.upload_trace(trace, progress=lambda sent, total: told.append((sent, total)))
    assert made["requests"] == 150_000
    assert len(told) > 2
    assert told[-1] == (trace.stat().st_size, trace.stat().st_size)
    assert client.upload_trace(trace)["sha256"] == made["sha256"]
    assert [each["name"] for each in client.traces()] == ["calls.csv"]
    study = client.create({**QUICK, "workload": {"trace": {"path": "calls.csv"}, "requests": 500}}, trials=3).wait(300)
    with pytest.raises(ProblemError) as refused:
        client.delete_trace("calls.csv")
    assert refused.value.status == 409
    study.delete()
    client.delete_trace("calls.csv")
    assert client.traces() == ()
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,1,many\n")
    with pytest.raises(ProblemError, match="many"):
        client.upload_trace(trace)
    with pytest.raises(SpecError, match="No such file"):
        client.upload_trace(tmp_path / "absent.csv")


def test_answers_at_once(client: Client) -> None:
    deployment = {"pools": [{"model": "llama-3.1-8b", "accelerator": "l40s", "clients": 2}]}
    workload = QUICK["workload"]
    figures = client.simulate(deployment, workload, slos=QUICK["slos"])
    assert figures["requests"] == 300
    assert client.capacity(Deployment.parse(deployment), workload, slos=QUICK["slos"])["rate_rps"] > 0
    assert client.explain(deployment, batch=8)
    assert {"models", "accelerators", "studies"} <= set(client.catalog())
    assert client.check(QUICK).designs > 100
    with pytest.raises(ProblemError) as refused:
        client.simulate({"pools": []}, workload)
    assert refused.value.status == 422


def test_without_httpx_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['httpx'] = None; from dse import Client; Client()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "pip install 'dse-llm[client]'" in done.stderr.splitlines()[-1]


def test_importing_dse_loads_no_httpx() -> None:
    script = (
        "import sys, dse; dse.Client; sys.exit(any(name in sys.modules for name in ('httpx', 'pandas', 'fastapi')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
