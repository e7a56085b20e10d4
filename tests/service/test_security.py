"""Who is let in, from where, how often, and with how much; asked over a real socket."""

from __future__ import annotations

import itertools
import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from dse.service.api.app import create_app
from dse.service.api.kept import MOST_BYTES, Answer, Answers
from dse.service.api.security import SCOPES, Needs
from dse.service.api.security import tokens as tokens_of_callers
from dse.service.api.security.body_limit import BodyLimit
from dse.service.api.security.hosts import OwnHosts
from dse.service.api.security.rates import Counters
from dse.service.api.security.tokens import REMEMBERED_S, TRIES_PER_MINUTE
from dse.service.settings import Limits, Settings

from .running import Running, received, running

PUBLIC = {
    ("GET", "/"),
    ("GET", "/healthz"),
    ("GET", "/openapi.json"),
    ("GET", "/readyz"),
    ("GET", "/static/{name:path}"),
    ("GET", "/v1/session"),
}
"""Routes that need no token: what a page needs before it has one, and signs of life."""
BODY_BYTES = 20_000
TRACE = b"arrival_s,prompt_tokens,output_tokens\n0,10,10\n1,4,5\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(body_bytes=BODY_BYTES, writes_per_minute=100_000, reads_per_s=100_000)
    settings = Settings(data=tmp_path_factory.mktemp("data"), limits=limits, hosts=("dse.example.org",))
    with running(settings, require_token=True) as server:
        yield server


@pytest.fixture(scope="module")
def secrets(server: Running) -> dict[str, str]:
    """A token of each scope."""
    return {scope: server.app.state.service.tokens.create(scope, scope, None)[1] for scope in SCOPES}


def routes(app: Any) -> Iterator[tuple[str, str, str | None]]:
    """Yield method, path and scope of every route."""
    for found in iter_route_contexts(app.routes):
        needed = [each.call for each in found.dependant.dependencies if isinstance(each.call, Needs)]
        for method in sorted(found.methods - {"HEAD"}):
            yield method, found.path_format, needed[-1].scope if needed else None


def filled(path: str) -> str:
    """Return a path with something in place of its parameters."""
    return re.sub(r"\{(\w+)\}", lambda found: "1" if found[1] == "number" else "study", path)


def test_every_route_needs_a_scope_or_is_public(server: Running) -> None:
    found = list(routes(server.app))
    assert len(found) > 30
    assert {(method, path) for method, path, scope in found if scope is None} == {
        (method, path.replace("{name:path}", "{name}")) for method, path in PUBLIC
    }
    # What changes or computes anything is not for those who may only read, but for questions that store nothing.
    asks = {("POST", "/v1/studies/check"), ("POST", "/v1/studies/{id}/what-if")}
    assert {(method, path) for method, path, scope in found if method != "GET" and scope == "read"} == asks


def test_scopes_hold_on_every_route(server: Running, secrets: dict[str, str]) -> None:
    with server.client() as client:
        for method, path, scope in routes(server.app):
            if path.endswith("/events"):
                continue
            bare = client.request(method, filled(path))
            if scope is None:
                assert bare.status_code in (200, 404), path
                continue
            assert bare.status_code == 401, path
            assert bare.headers["WWW-Authenticate"].startswith("Bearer")
            for given in SCOPES:
                answer = client.request(method, filled(path), headers={"Authorization": f"Bearer {secrets[given]}"})
                allowed = SCOPES.index(given) >= SCOPES.index(scope)
                assert (answer.status_code == 403) is not allowed, (method, path, given, answer.text)
                assert answer.status_code != 401
                if not allowed:
                    assert answer.json()["detail"] == f"the scope {scope} is needed; the token's is {given}"


def test_tokens_are_kept_as_hashes_only(server: Running, secrets: dict[str, str]) -> None:
    data = server.app.state.service.settings.data
    content = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file())
    with sqlite3.connect(data / "service.db") as connection:
        dumped = "\n".join(connection.iterdump())
    for secret in secrets.values():
        assert len(secret) == 47
        assert secret.encode() not in content
        assert secret not in dumped
        assert secret[4:] not in dumped


def test_a_token_made_over_http_works_until_it_is_revoked(server: Running, secrets: dict[str, str]) -> None:
    with server.client(Authorization=f"Bearer {secrets['admin']}") as admin:
        made = admin.post("/v1/tokens", json={"name": "job", "scope": "read", "days": 1})
        assert made.status_code == 201
        token = made.json()
        assert token["expires_s"] - token["created_s"] == pytest.approx(86_400)
        listed = {each["id"]: each for each in admin.get("/v1/tokens").json()["tokens"]}
        assert listed[token["id"]]["name"] == "job"
        assert "token" not in listed[token["id"]]
        with server.client(Authorization=f"Bearer {token['token']}") as client:
            assert client.get("/v1/session").json()["scope"] == "read"
            assert client.get("/v1/studies").status_code == 200
            assert admin.delete(f"/v1/tokens/{token['id']}").status_code == 204
            assert client.get("/v1/studies").status_code == 401
        assert admin.delete(f"/v1/tokens/{token['id']}").status_code == 404
        assert admin.post("/v1/tokens", json={"name": "job", "scope": "root"}).status_code == 422
        assert admin.post("/v1/tokens", json={"name": "a\u0007b", "scope": "read"}).status_code == 422


def test_a_token_revoked_elsewhere_stops_within_seconds(server: Running) -> None:
    tokens = server.app.state.service.tokens
    row, secret = tokens.create("elsewhere", "read", None)
    with server.client(Authorization=f"Bearer {secret}") as client:
        assert client.get("/v1/studies").status_code == 200
        tokens.revoke(row.id)
        began = time.monotonic()
        # Remembered, so that most requests do not ask the database.
        assert client.get("/v1/studies").status_code == 200
        while client.get("/v1/studies").status_code == 200:
            assert time.monotonic() < began + REMEMBERED_S + 1
            time.sleep(0.2)


def test_an_expired_token_is_no_token(server: Running) -> None:
    _, secret = server.app.state.service.tokens.create("short", "read", 2 / 86_400)
    with server.client(Authorization=f"Bearer {secret}") as client:
        assert client.get("/v1/studies").status_code == 200
        time.sleep(2.2)
        refused = client.get("/v1/studies")
        assert refused.status_code == 401
        assert "expired" in refused.json()["detail"]


def test_session_tells_strangers_little(server: Running, secrets: dict[str, str]) -> None:
    with server.client() as client:
        told = client.get("/v1/session").json()
        assert told["scope"] is None
        assert told["token_required"] is True
        assert told["workers"] == []
        known = client.get("/v1/session", headers={"Authorization": f"Bearer {secrets['run']}"}).json()
        assert known["scope"] == "run"


@pytest.mark.parametrize(
    "given", ["dse_x", "Basic ZHNlOmRzZQ==", "Bearer", "Bearer ", "Bearer dse_" + "x" * 43, "Bearer \u00e9\u00ff"]
)
def test_wrong_tokens_are_refused(tmp_path: Path, given: str) -> None:
    app = create_app(Settings(data=tmp_path), require_token=True)
    answer = asked_in_process(app, {"Authorization": given.encode("latin-1")})
    assert answer.status_code == 401
    assert "dse_x" not in answer.text


def asked_in_process(app: Any, headers: dict[str, bytes], path: str = "/v1/studies") -> httpx.Response:
    """Ask an app that was not started: whoever is refused before the routes needs no database."""
    import asyncio

    class NoTokens:
        def check(self, _secret: str) -> None:
            return None

    class NoService:
        tokens = NoTokens()

    app.state.service = NoService()

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=("10.1.2.3", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get(path, headers=[(name.encode(), value) for name, value in headers.items()])

    return asyncio.run(ask())


def test_wrong_tokens_from_one_address_are_few(tmp_path: Path) -> None:
    app = create_app(Settings(data=tmp_path), require_token=True)
    statuses = [
        asked_in_process(app, {"Authorization": b"Bearer dse_%d" % number}).status_code
        for number in range(TRIES_PER_MINUTE + 5)
    ]
    assert statuses == [401] * TRIES_PER_MINUTE + [429] * 5
    refused = asked_in_process(app, {"Authorization": b"Bearer dse_9"})
    assert 1 <= int(refused.headers["Retry-After"]) <= 60


def test_who_has_a_token_is_not_kept_out_by_what_others_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a proxy, or in one network: all come from the same address."""
    monkeypatch.setattr(tokens_of_callers, "REMEMBERED_S", 0.0)
    with running(Settings(data=tmp_path), require_token=True) as server, server.client() as client:
        row, secret = server.app.state.service.tokens.create("anna", "read", None)

        def status(token: str) -> int:
            return client.get("/v1/studies", headers={"Authorization": f"Bearer {token}"}).status_code

        assert status(secret) == 200
        assert [status(f"dse_{number}") for number in range(TRIES_PER_MINUTE + 1)][-1] == 429
        assert status(secret) == 200
        server.app.state.service.tokens.revoke(row.id)
        assert [status(secret), status(secret)] == [401, 429]


# From where


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST:1234", 200),
        ("[::1]:8000", 200),
        ("dse.example.org", 200),
        ("10.0.0.7:80", 200),
        ("evil.example.com", 400),
        ("127.0.0.1.evil.example.com", 400),
        ("localhost.evil.example.com", 400),
        ("evil@127.0.0.1", 400),
        ("127.0.0.1/evil", 400),
        ("127.0.0.1:x", 400),
        ("127.0.0.1:99999", 400),
        ("", 400),
        ("caf\u00e9", 400),
    ],
)
def test_only_own_names_are_answered(server: Running, host: str, status: int) -> None:
    sent = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("latin-1")
    answer = server.raw(sent)
    assert int(answer.split()[1]) == status
    # uvicorn itself refuses some; whoever does, no foreign name gets further.
    assert (b'"status":"ok"' in answer) is (status == 200)


def test_no_or_two_hosts_are_refused(server: Running) -> None:
    for hosts in ("", "Host: localhost\r\nHost: evil.example.com\r\n"):
        answer = server.raw(f"GET /healthz HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n".encode())
        assert answer.split()[1] == b"400"


def test_pages_of_other_servers_may_not_ask(server: Running, secrets: dict[str, str]) -> None:
    ours = server.url
    foreign = [
        {"Origin": "http://evil.example.com"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{server.port + 1}"},
        {"Origin": f"{ours}.evil.example.com"},
        {"Origin": f"ftp://127.0.0.1:{server.port}"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    ]
    own: list[dict[str, str]] = [{}, {"Origin": ours, "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}]
    with server.client(Authorization=f"Bearer {secrets['admin']}") as client:
        for headers in foreign:
            answer = client.post("/v1/tokens", json={"name": "x", "scope": "admin"}, headers=headers)
            assert answer.status_code == 403, headers
            assert "other servers" in answer.json()["detail"]
        for headers in own:
            assert client.post("/v1/tokens", json={"name": "x", "scope": "read"}, headers=headers).status_code == 201
        # A link to here may be followed.
        link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert client.get("/v1/studies", headers=link).status_code == 200
        embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
        assert client.get("/v1/studies", headers=embedded).status_code == 403


def test_no_answer_is_for_other_origins(server: Running) -> None:
    with server.client() as client:
        for headers in ({}, {"Origin": server.url}, {"Origin": "http://evil.example.com"}):
            answer = client.options("/v1/studies", headers={**headers, "Access-Control-Request-Method": "POST"})
            assert not any(name.startswith("access-control") for name in answer.headers)


def test_every_answer_has_the_headers(server: Running, secrets: dict[str, str]) -> None:
    with server.client(Authorization=f"Bearer {secrets['read']}") as client:
        refused = client.get("/healthz", headers={"Host": "evil.example.com"})
        for answer in (client.get("/v1/studies"), client.get("/nowhere"), client.post("/v1/studies"), refused):
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert "camera=()" in answer.headers["Permissions-Policy"]
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
        assert client.get("/v1/traces").headers["Cache-Control"] == "no-store"
        for answer in (client.get("/nowhere"), client.post("/v1/studies"), refused):
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.json()["status"] == answer.status_code


# Paths

CLIMBS = (
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "%2fetc%2fpasswd",
    "....%2f%2fetc%2fpasswd",
    "service.db",
    ".",
    "..",
    "%00",
    "passwd%00.csv",
    "%ff%fe",
    "a" * 5_000,
    "%F0%9F%92%A9",
    "CON",
    "-rf",
    "~root",
    "$(id)",
    "' OR 1=1 --",
)


def test_no_path_parameter_climbs(server: Running, secrets: dict[str, str]) -> None:
    tried = 0
    with server.client(Authorization=f"Bearer {secrets['admin']}") as client:
        for method, path, _ in routes(server.app):
            for parameter, climb in itertools.product(re.findall(r"\{\w+\}", path), CLIMBS):
                target = filled(path.replace(parameter, climb))
                content = TRACE if method == "PUT" else None
                kind = {"Content-Type": "text/csv"} if method == "PUT" else {}
                answer = client.request(method, httpx.URL(server.url + "/").join(target), content=content, headers=kind)
                if "traces" in path and climb in ("service.db", "CON"):
                    # A name like any other.
                    assert answer.status_code < 500
                    continue
                tidied = httpx.URL(target).path != answer.url.path
                assert 400 <= answer.status_code < 500 or tidied, (method, target, answer.text)
                assert b"root:" not in answer.content
                assert b"SQLite format" not in answer.content
                tried += 1
    assert tried > 300
    for target in (
        "/static/../../../../etc/passwd",
        "/v1/traces/../../etc/passwd",
        "//etc/passwd",
        "/static//etc/passwd",
    ):
        # As it stands: clients tidy up such paths before they send them.
        sent = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secrets['admin']}\r\n\r\n"
        assert server.raw(sent.encode()).split()[1] in (b"400", b"404")
    data: Path = server.app.state.service.settings.data
    assert {path.name for path in data.iterdir()} <= {
        "service.db",
        "service.db-shm",
        "service.db-wal",
        "traces",
        "uploads",
    }
    assert not list((data / "uploads").iterdir())


# How much


def test_bodies_are_limited(server: Running, secrets: dict[str, str]) -> None:
    large = b" " * (BODY_BYTES + 1)
    with server.client(Authorization=f"Bearer {secrets['admin']}", **{"Content-Type": "application/json"}) as client:
        for path in ("/v1/studies", "/v1/studies/check", "/v1/simulate", "/v1/tokens", "/v1/studies/x/what-if"):
            announced = client.post(path, content=large)
            chunked = client.post(path, content=iter([large[:10_000], large[10_000:]]))
            for answer in (announced, chunked):
                assert answer.status_code == 413, path
                assert f"{BODY_BYTES:,} bytes" in answer.json()["detail"]
            within = client.post(path, content=iter([b" " * 10_000, b" " * 10_000]))
            assert within.status_code in (400, 404)


def test_a_body_is_refused_before_it_is_sent(server: Running, secrets: dict[str, str]) -> None:
    head = (
        f"POST /v1/studies HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secrets['run']}\r\n"
        "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
    )
    began = time.monotonic()
    for length, status in ((10**12, b"413"), ("9" * 30, b"400"), (-1, b"400"), ("1_0", b"400")):
        assert server.raw(head.format(length).encode()).split()[1] == status
    assert time.monotonic() - began < 5


def test_strangers_bodies_are_not_read(server: Running) -> None:
    head = b"POST /v1/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n"
    assert server.raw(head).split()[1] == b"401"


def test_a_body_that_drips_is_cut_off(
    server: Running, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = server.app.middleware_stack
    while not isinstance(layer, BodyLimit):
        layer = getattr(layer, "app", None) or layer._app  # type: ignore[union-attr]
    monkeypatch.setattr(layer, "_arrives_s", 1.0)
    head = (
        f"POST /v1/studies HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secrets['run']}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(head.encode())
        for _ in range(8):
            connection.sendall(b" ")
            time.sleep(0.1)
        answer = received(connection)
    assert answer.split()[1] == b"408"
    assert 0.9 < time.monotonic() - began < 3
    with server.client() as client:
        assert client.get("/healthz").status_code == 200


# How often


def test_requests_are_limited(tmp_path: Path) -> None:
    limits = Limits(reads_per_s=20, writes_per_minute=3)
    with running(Settings(data=tmp_path, limits=limits)) as server, server.client() as client:
        until = time.monotonic() + 5
        while (refused := client.get("/healthz")).status_code == 200:
            assert time.monotonic() < until
        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        time.sleep(1.1)
        assert client.get("/healthz").status_code == 200
        statuses = [client.post("/v1/studies", json={}).status_code for _ in range(5)]
        assert statuses == [422] * 3 + [429] * 2
        assert 1 <= int(client.post("/v1/studies", json={}).headers["Retry-After"]) <= 60
        assert client.get("/healthz").status_code == 200


def test_each_token_has_limits_of_its_own(tmp_path: Path) -> None:
    limits = Limits(writes_per_minute=2)
    with running(Settings(data=tmp_path, limits=limits), require_token=True) as server, server.client() as client:
        for name in ("one", "other"):
            secret = server.app.state.service.tokens.create(name, "run", None)[1]
            mine = {"Authorization": f"Bearer {secret}"}
            statuses = [client.post("/v1/studies", json={}, headers=mine).status_code for _ in range(3)]
            assert statuses == [422, 422, 429]


def test_counters_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    counters, now = Counters(), time.monotonic()
    for number in range(100):
        assert counters.incr(f"address {number}", 1) == 1
    assert counters.incr("address 7", 1) == 2
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert counters.get("address 7") == 0
    assert counters.incr("address 7", 1) == 1
    assert counters.reset() == 1


def test_empty_answers_take_room_too() -> None:
    """Anybody may ask for any number of pages that hold nothing."""
    kept, page = Answers(), Answer.of(b"{}")
    for after in range(200_000):
        kept.keep("id", after, 1, page)
    assert len(kept._kept) <= MOST_BYTES / 1_000


def test_an_address_is_its_network() -> None:
    from dse.service.api.security.addresses import address_of

    def of(host: str) -> str:
        return address_of({"type": "http", "client": (host, 1)})

    assert of("2001:db8:1:2::1") == of("2001:db8:1:2:ffff::9") != of("2001:db8:1:3::1")
    assert of("10.0.0.1") == of("::ffff:10.0.0.1") != of("10.0.0.2")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_without_loopback_a_token_is_required(tmp_path: Path, host: str) -> None:
    app = create_app(Settings(data=tmp_path, host=host))
    assert app.state.require_token
    assert asked_in_process(app, {}).status_code == 401
    assert not create_app(Settings(data=tmp_path)).state.require_token


def test_names_of_hosts_are_remembered_within_limits() -> None:
    hosts = OwnHosts(lambda *_: None, ())  # type: ignore[arg-type, return-value]
    for number in range(3_000):
        assert hosts._is_own(b"127.0.0.1:%d" % number)
    assert len(hosts._known) <= 1_000


def test_middlewares_are_pure_asgi() -> None:
    from starlette.middleware.base import BaseHTTPMiddleware

    app = create_app(Settings(data=Path("unused")))
    assert len(app.user_middleware) >= 6
    assert not any(issubclass(each.cls, BaseHTTPMiddleware) for each in app.user_middleware)  # type: ignore[arg-type]
