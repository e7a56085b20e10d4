"""Uploads: what is kept, what is refused and why, and that nothing is left of what was not kept."""

from __future__ import annotations

import gzip
import hashlib
import io
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dse.service.api.uploads import AT_ONCE, Uploads
from dse.service.settings import Limits, Settings

from .running import Running, received, running

CSV = b"arrival_s,prompt_tokens,output_tokens\n0,10,10\n1,4,5\n3.5,7,2\n"
AZURE = b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:50.95,396,109\n"
MOONCAKE = b'{"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": [0, 1]}\n'
UPLOAD_BYTES = 3_000_000
UPLOADS_BYTES = 5_000_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(upload_bytes=UPLOAD_BYTES, uploads_bytes=UPLOADS_BYTES, body_bytes=1_000, writes_per_minute=10_000)
    with running(Settings(data=tmp_path_factory.mktemp("data"), limits=limits)) as server:
        yield server


@pytest.fixture
def server(served: Running) -> Iterator[Running]:
    """A server without traces."""
    yield served
    traces, studies = served.app.state.service.traces, served.app.state.service.studies
    for study in studies.list(limit=100, after=None)[0]:
        studies.cancel(study.id)
        studies.delete(study.id)
    for trace in traces.list():
        traces.delete(trace.name)


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def rows(size: int, seed: int = 1) -> bytes:
    """Return a trace of about so many bytes."""
    lines = io.BytesIO()
    lines.write(b"arrival_s,prompt_tokens,output_tokens\n")
    number = 0
    while lines.tell() < size:
        lines.write(b"%d,%d,%d\n" % (number, 1_000 + number * seed % 997, 100))
        number += 1
    return lines.getvalue()


def left_over(server: Running) -> list[str]:
    """Return files of uploads that are still there."""
    folder: Path = server.app.state.service.settings.data
    return [str(path) for path in folder.rglob("upload-*")]


def chunks(server: Running) -> int:
    """Return pieces of traces in the database."""
    with server.app.state.service.database.reading() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM service_trace_chunks").scalar_one())


@pytest.mark.parametrize(
    ("content", "kind", "form", "requests"),
    [
        (CSV, "text/csv", "csv", 3),
        (AZURE, "application/octet-stream", "azure", 2),
        (MOONCAKE, "application/x-ndjson", "mooncake", 1),
        (gzip.compress(CSV), "application/gzip", "csv", 3),
        (gzip.compress(CSV[:20]) + gzip.compress(CSV[20:]) + b"\0" * 40, "text/csv", "csv", 3),
    ],
    ids=["csv", "azure", "mooncake", "gzip", "gzip-parts"],
)
def test_uploads_are_kept(
    server: Running, client: httpx.Client, content: bytes, kind: str, form: str, requests: int
) -> None:
    made = client.put("/v1/traces/mine.csv", content=content, headers={"Content-Type": kind})
    assert made.status_code == 201, made.text
    assert made.headers["Location"] == "/v1/traces/mine.csv"
    trace = made.json()
    plain = gzip.decompress(content) if content.startswith(b"\x1f") else content
    assert (trace["format"], trace["requests"], trace["bytes"]) == (form, requests, len(plain))
    assert trace["sha256"] == hashlib.sha256(plain).hexdigest()
    assert client.get("/v1/traces/mine.csv").json() == trace
    listed = client.get("/v1/traces").json()
    assert listed == {"traces": [trace], "total_bytes": len(plain), "most_bytes": UPLOADS_BYTES}
    again = client.put("/v1/traces/mine.csv", content=content, headers={"Content-Type": kind})
    assert again.status_code == 200
    assert again.json() == trace
    other = client.put("/v1/traces/mine.csv", content=CSV + b"9,9,9\n")
    assert other.status_code == 409
    assert "other content" in other.json()["detail"]
    assert client.delete("/v1/traces/mine.csv").status_code == 204
    assert client.get("/v1/traces/mine.csv").status_code == 404
    assert client.delete("/v1/traces/mine.csv").status_code == 404
    assert left_over(server) == []
    assert chunks(server) == 0


@pytest.mark.parametrize(
    ("content", "status", "cause"),
    [
        (CSV.replace(b"4,5", b"x,5"), 422, "row 2 (line 3), column prompt_tokens: must be a whole number"),
        (CSV.replace(b"4,5", b"4"), 422, "row 2 (line 3), column output_tokens: missing"),
        (b"a,b\n1,2\n", 422, "unknown header 'a,b'"),
        (b"", 422, "the file is empty"),
        (b"\xff\xfe\x00", 422, "not a UTF-8 text file"),
        (MOONCAKE + MOONCAKE[:30], 422, "row 2 (line 2): not a whole JSON object"),
        (gzip.compress(rows(1_000))[:-20], 422, "its end is missing"),
        (gzip.compress(CSV)[:-8] + b"\0" * 8, 422, "it is damaged"),
        (b"\x1f\x8b", 422, "its end is missing"),
        (gzip.compress(CSV) + b"more", 422, "it is damaged"),
        (gzip.compress(b"0" * (UPLOAD_BYTES + 1)), 413, f"{UPLOAD_BYTES:,} bytes"),
        (rows(UPLOAD_BYTES + 1_000), 413, f"{UPLOAD_BYTES:,} bytes"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_is_not_kept_leaves_nothing(
    server: Running, client: httpx.Client, content: bytes, status: int, cause: str
) -> None:
    folder = str(server.app.state.service.settings.data)
    pieces = [content[at : at + 50_000] for at in range(0, len(content), 50_000)]
    for body in (content, iter(pieces)):
        answer = client.put("/v1/traces/bad.csv", content=body, headers={"Content-Type": "text/csv"})
        assert answer.status_code == status, answer.text
        assert cause in answer.json()["detail"]
        assert folder not in answer.text
        assert left_over(server) == []
    assert client.get("/v1/traces").json()["traces"] == []
    assert chunks(server) == 0


def test_a_line_at_fault_is_named_by_trace(client: httpx.Client) -> None:
    problem = client.put("/v1/traces/mine.csv", content=CSV.replace(b"4,5", b"x,5")).json()
    assert problem["detail"] == (
        "mine.csv: row 2 (line 3), column prompt_tokens: must be a whole number from 1 to 10000000, given 'x'"
    )


def test_what_unpacks_to_more_than_may_is_cut_off_early(server: Running, client: httpx.Client) -> None:
    bomb = gzip.compress(b"0" * 300_000_000)
    assert len(bomb) < 400_000
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    assert client.put("/v1/traces/bomb.csv", content=bomb).status_code == 413
    assert time.monotonic() - began < 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 50_000  # kB
    assert left_over(server) == []


def test_all_together_are_limited(server: Running, client: httpx.Client) -> None:
    for number in (1, 2):
        answer = client.put(f"/v1/traces/part-{number}.csv", content=rows(2_400_000, number))
        assert answer.status_code == 201
    full = client.put("/v1/traces/part-3.csv", content=rows(2_400_000, 3))
    assert full.status_code == 413
    assert f"{UPLOADS_BYTES:,} bytes" in full.json()["detail"]
    assert left_over(server) == []
    assert chunks(server) == 6


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x", "text/html", "x"])
def test_only_documented_types_are_taken(client: httpx.Client, kind: str) -> None:
    answer = client.put("/v1/traces/mine.csv", content=CSV, headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert "text/csv" in answer.json()["detail"]
    coded = client.put("/v1/traces/mine.csv", content=CSV, headers={"Content-Encoding": "br"})
    assert coded.status_code == 415


@pytest.mark.parametrize("name", [".hidden", "a b", "a%2Fb", "-x", "a" * 101, "%2e%2e", "a%0Ab", "caf%C3%A9"])
def test_names_are_no_paths(server: Running, client: httpx.Client, name: str) -> None:
    answer = client.put(httpx.URL(f"{server.url}/v1/traces/{name}"), content=CSV)
    assert 400 <= answer.status_code < 500
    assert client.get("/v1/traces").json()["traces"] == []
    assert left_over(server) == []


def test_an_upload_that_is_cut_off_leaves_nothing(server: Running, client: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        head = "PUT /v1/traces/cut.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
        connection.sendall(head.encode() + rows(1_500_000))
        waited = time.monotonic() + 10
        while not left_over(server):
            assert time.monotonic() < waited
            time.sleep(0.01)
    while left_over(server):
        assert time.monotonic() < waited
        time.sleep(0.01)
    assert client.get("/v1/traces").json()["traces"] == []
    assert chunks(server) == 0


def test_an_upload_to_a_full_disk_can_be_sent_again(server: Running, client: httpx.Client) -> None:
    uploads = server.app.state.uploads
    folder = uploads._folder
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    with pytest.MonkeyPatch.context() as patch:
        whole = Path.open
        patch.setattr(Path, "open", lambda path, *given: whole(full if path.parent == folder else path, *given))
        response = client.put("/v1/traces/unlucky.csv", content=CSV, headers={"Content-Type": "text/csv"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert client.put("/v1/traces/unlucky.csv", content=CSV, headers={"Content-Type": "text/csv"}).status_code == 201


def test_an_upload_that_stops_is_given_up(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.app.state.uploads, "_idle_s", 0.5)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = "PUT /v1/traces/slow.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
        connection.sendall(head.encode() + CSV)
        answer = received(connection)
    assert answer.split()[1] == b"408"
    assert left_over(server) == []


def test_few_arrive_at_the_same_time(server: Running, client: httpx.Client) -> None:
    head = b"PUT /v1/traces/slow.csv HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n"
    connections = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(AT_ONCE)]
    for connection in connections:
        connection.sendall(head + CSV)
    until = time.monotonic() + 10
    while len(left_over(server)) < AT_ONCE:
        assert time.monotonic() < until
        time.sleep(0.01)
    refused = client.put("/v1/traces/one-more.csv", content=CSV)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"]
    for connection in connections:
        connection.close()
    while left_over(server):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert client.put("/v1/traces/one-more.csv", content=CSV).status_code == 201


def test_the_same_name_at_the_same_time_is_taken_once(server: Running) -> None:
    statuses: list[int] = []

    def put(number: int) -> None:
        with server.client() as client:
            statuses.append(client.put("/v1/traces/race.csv", content=rows(100_000, number)).status_code)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [201, 409, 409, 409]


def test_large_uploads_take_little_memory(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    content = rows(60_000_000)
    monkeypatch.setattr(server.app.state.uploads, "_most_bytes", 100_000_000)
    settings = server.app.state.service.settings
    generous = settings.model_copy(update={"limits": Limits(uploads_bytes=100_000_000)})
    monkeypatch.setitem(server.app.state.service.__dict__, "settings", generous)

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(content), 1 << 16):
            yield content[at : at + (1 << 16)]

    with server.client() as client:
        client.get("/healthz")
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        made = client.put("/v1/traces/large.csv", content=pieces())
        assert made.status_code == 201, made.text
        assert made.json()["bytes"] == len(content)
        # Not a second copy of it, and far from it.
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 35_000  # kB


def test_a_trace_that_a_study_needs_stays(client: httpx.Client) -> None:
    assert client.put("/v1/traces/used.csv", content=CSV).status_code == 201
    study = {
        "name": "replay",
        "model": "llama-3.1-8b",
        "workload": {"trace": {"path": "used.csv"}},
        "space": {"accelerators": ["l40s"], "clients": [1, 2]},
        "objectives": ["usd_per_hour"],
    }
    made = client.post("/v1/studies", json=study)
    assert made.status_code == 201, made.text
    refused = client.delete("/v1/traces/used.csv")
    assert refused.status_code == 409
    assert "a study needs it" in refused.json()["detail"]
    question = {
        "deployment": {"pools": [{"model": "llama-3.1-8b", "accelerator": "l40s"}]},
        "workload": {"trace": {"path": "used.csv"}},
    }
    answered = client.post("/v1/simulate", json=question)
    assert answered.status_code == 200, answered.text
    assert answered.json()["requests"] == 3


def test_leftovers_of_a_killed_server_are_swept(tmp_path: Path) -> None:
    import os

    (tmp_path / "upload-old").write_bytes(b"x")
    (tmp_path / "upload-new").write_bytes(b"x")
    (tmp_path / "else").write_bytes(b"x")
    for name in ("upload-old", "else"):
        os.utime(tmp_path / name, (1, 1))
    uploads = Uploads(tmp_path, 1_000)
    with uploads.place() as path:
        assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["else", "upload-new", path.name])
    assert not path.exists()
