"""Signs of life, figures and logs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dse.service.api.logs import log_as_json
from dse.service.settings import Settings
from dse.service.storage.errors import Unavailable

from .running import Running, running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(Settings(data=tmp_path_factory.mktemp("data")), require_token=True) as server:
        yield server


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    row, secret = server.app.state.service.tokens.create("operator", "run", None)
    with server.client(Authorization=f"Bearer {secret}") as client:
        yield client
    server.app.state.service.tokens.revoke(row.id)


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    """What is logged, as `dse serve` logs it."""
    root = logging.getLogger()
    before, level, disabled = root.handlers[:], root.level, logging.getLogger("uvicorn.access").disabled
    stream = io.StringIO()
    log_as_json(stream=stream)
    # The client's own lines are none of the service's.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    yield stream
    logging.getLogger("httpx").setLevel(logging.NOTSET)
    root.handlers[:] = before
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = disabled


def figures(client: httpx.Client) -> dict[tuple[str, ...], float]:
    """Return every sample by its name and the values of its labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_health_and_readiness_need_no_token(server: Running) -> None:
    with server.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["workers"] == 0
        assert client.get("/metrics").status_code == 401


def test_without_its_database_the_service_is_alive_but_not_ready(
    server: Running, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> Any:
        raise Unavailable("sqlite:///somewhere: away")

    client.get("/metrics")  # the token is remembered from now on
    workers = server.app.state.service.workers
    monkeypatch.setattr(type(workers), "living", away)
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert int(ready.headers["Retry-After"]) > 0
    assert "away" in ready.json()["detail"]
    assert "somewhere" not in ready.text, "where it is, is not for strangers"
    assert client.get("/healthz").status_code == 200
    assert figures(client)["dse_database_up",] == 0


def test_figures_count_what_was_asked(client: httpx.Client) -> None:
    before = figures(client)
    for _ in range(3):
        client.get("/v1/traces")
    client.get("/v1/traces/none")
    client.get("/v1/studies/none/trials/7")
    client.get("/nowhere/at/all")
    client.request("INVENTED", "/v1/traces")
    client.post("/v1/explain", json={"deployment": {"pools": [{"model": "llama-3.1-8b", "accelerator": "l40s"}]}})
    after = figures(client)

    def more(*key: str) -> float:
        return after.get(key, 0) - before.get(key, 0)

    assert more("dse_http_requests_total", "GET", "/v1/traces", "200") == 3
    assert more("dse_http_request_seconds_count", "GET", "/v1/traces") == 3
    assert more("dse_http_requests_total", "GET", "/v1/traces/{name}", "404") == 1
    assert more("dse_http_requests_total", "GET", "/v1/studies/{id}/trials/{number}", "404") == 1
    assert more("dse_http_requests_total", "GET", "other", "404") == 1
    assert more("dse_http_requests_total", "POST", "/v1/explain", "200") == 1
    assert more("dse_bench_jobs_total") == 1
    assert after["dse_bench_busy",] == after["dse_bench_waiting",] == 0
    assert after["dse_studies", "queued"] == 0
    assert after["dse_workers",] == 0
    assert after["dse_watchers",] == 0
    assert after["dse_database_up",] == 1
    # No stranger makes up labels.
    assert not any("INVENTED" in key or "/nowhere/at/all" in key for key in after)


def test_figures_tell_of_studies(server: Running, client: httpx.Client) -> None:
    example = {
        "name": "small",
        "model": "llama-3.1-8b",
        "workload": {
            "requests": 100,
            "arrivals": {"process": "poisson", "rate_rps": 1},
            "lengths": {"statistics": "azure-2023-conversation"},
        },
        "space": {"accelerators": ["h100-sxm", "l40s"], "clients": [1, 2]},
        "objectives": ["usd_per_hour"],
    }
    made = client.post("/v1/studies", json=example)
    assert made.status_code == 201, made.text
    service = server.app.state.service
    lease = service.studies.claim("worker", 60)
    service.workers.register("worker", "here", 1, 1)
    assert service.studies.progress(lease, evaluated=7, simulated=5, feasible=3, front=2, running_s=1.0)
    found = figures(client)
    assert found["dse_studies", "running"] == 1
    assert found["dse_designs_evaluated",] == 7
    assert found["dse_designs_simulated",] == 5
    assert found["dse_workers",] == 1
    assert client.get("/readyz").json()["workers"] == 1


def test_logs_are_lines_of_json_without_secrets(server: Running, client: httpx.Client, logged: io.StringIO) -> None:
    token = server.app.state.service.tokens.list()[0]
    client.get("/v1/traces/name?after=question", headers={"X-Request-ID": "from-the-proxy.7"})
    client.post("/v1/studies", json={"name": "a secret name"})
    for _ in range(50):
        client.get("/healthz")
    logging.getLogger("dse.elsewhere").warning("as a person says it: %s", "ünïcode\nand a new line")
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    answered = [line for line in lines if line["logger"] == "dse.service.access"]
    assert len(answered) == 52
    first = answered[0]
    assert first["request"] == "from-the-proxy.7"
    assert (first["method"], first["route"], first["status"]) == ("GET", "/v1/traces/{name}", 404)
    assert 0 < first["seconds"] < 5
    assert first["token"] == token.id
    assert first["level"] == "INFO"
    assert first["time"].startswith("20")
    assert len({line["request"] for line in answered}) == 52
    text = logged.getvalue()
    for secret in (client.headers["Authorization"].removeprefix("Bearer "), "a secret name", "question"):
        assert secret not in text
    assert lines[-1]["message"] == "as a person says it: ünïcode\nand a new line"


def test_requests_have_numbers(server: Running) -> None:
    with server.client() as client:
        assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
        seen = {client.get("/healthz").headers["X-Request-ID"] for _ in range(20)}
        assert len(seen) == 20
        for given in ("a" * 65, "<script>", "a b", "ä".encode().decode("latin-1"), ""):
            answer = client.get("/healthz", headers=[(b"X-Request-ID", given.encode("latin-1"))])
            assert answer.headers["X-Request-ID"] != given
        refused = client.get("/v1/studies", headers={"X-Request-ID": "refused-1"})
        assert refused.status_code == 401
        assert refused.headers["X-Request-ID"] == "refused-1"


def test_an_error_of_the_server_is_logged_with_its_request(
    server: Running, client: httpx.Client, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(type(server.app.state.service.traces), "list", broken)
    answer = client.get("/v1/traces")
    assert answer.status_code == 500
    assert "a bug" not in answer.text
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    (error,) = [line for line in lines if line["level"] == "ERROR"]
    assert "ZeroDivisionError: a bug" in error["exc_info"]
    assert error["request"] == answer.headers["X-Request-ID"]
    assert error["instance"] == answer.json()["instance"]


def test_servers_do_not_share_figures(client: httpx.Client, tmp_path: Path) -> None:
    client.get("/v1/traces")
    with running(Settings(data=tmp_path)) as other, other.client() as asking:
        assert not any("/v1/traces" in key for key in figures(asking))
