"""Watching studies over a real socket, while a real worker runs them."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from dse.service.api import events
from dse.service.settings import Limits, Settings

from ..dse.conftest import SMALL
from .running import Running, running
from .working import ended, worker


@dataclass(frozen=True)
class Event:
    """An event as a browser sees it."""

    name: str
    data: dict[str, Any]
    id: int


def events_in(lines: Iterator[str]) -> Iterator[Event]:
    """Yield the events of a stream."""
    name, data, id = "", "", -1
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            data = value
        elif field == "id":
            id = int(value)
        elif not line and data:
            yield Event(name, json.loads(data), id)
            name, data = "", ""


def watched(client: httpx.Client, id: str, **asked: Any) -> Iterator[Event]:
    """Yield the events of a study until the stream ends."""
    headers = {"Last-Event-ID": str(asked.pop("last"))} if "last" in asked else {}
    with client.stream("GET", f"/v1/studies/{id}/events", headers=headers, params=asked) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield from events_in(response.iter_lines())


def numbers(found: list[Event]) -> list[int]:
    """Return the numbers of all trials in events."""
    return [trial["number"] for event in found if event.name == "trials" for trial in event.data["trials"]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = Settings(data=tmp_path_factory.mktemp("events") / "data")
    with running(settings) as found, worker(settings):
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with server.client() as found:
        yield found


@pytest.fixture(scope="module")
def finished(server: Running) -> str:
    with server.client() as client:
        id: str = client.post("/v1/studies", json=SMALL).json()["id"]
        assert ended(client, id)["state"] == "finished"
    return id


def test_a_watcher_sees_the_whole_study(client: httpx.Client) -> None:
    id = client.post("/v1/studies", json={**SMALL, "seed": 1}).json()["id"]
    found = list(watched(client, id))
    assert found[0].name == "study"
    assert found[0].data["state"] == "queued"
    assert [event.name for event in found].count("end") == 1
    assert found[-1].name == "end"
    assert found[-1].data["state"] == "finished"
    states = list(dict.fromkeys(event.data["state"] for event in found if event.name == "study"))
    assert states == ["queued", "running", "finished"]
    listed = client.get(f"/v1/studies/{id}/trials?limit=1000").json()["trials"]
    sent = [trial for event in found if event.name == "trials" for trial in event.data["trials"]]
    assert sent == listed
    fronts = [event.data for event in found if event.name == "front"]
    front = client.get(f"/v1/studies/{id}/front").json()
    assert fronts[-1]["front"] == [trial["number"] for trial in front["trials"]]
    assert fronts[-1]["recommended"] == front["recommended"]
    # Every number of a front was sent before.
    known: set[int] = set()
    for event in found:
        if event.name == "trials":
            known |= {trial["number"] for trial in event.data["trials"]}
        elif event.name == "front":
            assert set(event.data["front"]) <= known


def test_answers_never_go_back_and_the_last_ones_are_complete(client: httpx.Client) -> None:
    """While a study runs, what is a moment old may be answered; once it has ended, nothing but the end."""
    place = client.post("/v1/studies", json={**SMALL, "seed": 3}).headers["location"]
    fronts, totals = [], []
    while True:
        state = client.get(place).json()["state"]
        fronts.append(client.get(f"{place}/front").json()["evaluated"])
        totals.append(client.get(f"{place}/trials?limit=1").json()["total"])
        if state == "finished":
            break
    assert fronts == sorted(fronts)
    assert totals == sorted(totals)
    assert fronts[-1] == totals[-1] == client.get(place).json()["evaluated"] >= 60
    assert len(set(totals)) > 2


def test_identifiers_count_the_trials_sent(client: httpx.Client, finished: str) -> None:
    sent = 0
    for event in watched(client, finished):
        if event.name == "trials":
            assert len(event.data["trials"]) <= events.MOST_TRIALS
            sent += len(event.data["trials"])
        assert event.id == sent


def test_a_stream_goes_on_where_it_was(client: httpx.Client, finished: str) -> None:
    everything = numbers(list(watched(client, finished)))
    for last in (0, 1, 17, len(everything) - 1, len(everything), 10 * len(everything)):
        assert numbers(list(watched(client, finished, last=last))) == everything[last:]
        assert numbers(list(watched(client, finished, after=last))) == everything[last:]
    # What a browser sends when it comes back outdoes what stands in the address.
    assert numbers(list(watched(client, finished, last=5, after=0))) == everything[5:]
    for wrong in ({"after": -1}, {"after": "x"}, {"last": "x"}, {"last": -1}):
        headers = {"Last-Event-ID": str(wrong["last"])} if "last" in wrong else {}
        params = {name: value for name, value in wrong.items() if name == "after"}
        response = client.get(f"/v1/studies/{finished}/events", headers=headers, params=params)
        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"


def test_a_stream_goes_on_at_another_server(server: Running, client: httpx.Client, finished: str) -> None:
    """As after a restart: identifiers mean the same to whoever reads the same database."""
    first = []
    for event in watched(client, finished):
        first.append(event)
        if numbers(first):
            break
    with running(server.app.state.service.settings) as other, other.client() as again:
        rest = list(watched(again, finished, last=10))
        assert numbers(first)[:10] + numbers(rest) == numbers(list(watched(client, finished)))


def test_small_pieces(client: httpx.Client, finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = numbers(list(watched(client, finished)))
    monkeypatch.setattr(events, "MOST_TRIALS", 7)
    pieces = [event for event in watched(client, finished) if event.name == "trials"]
    assert [len(event.data["trials"]) for event in pieces[:-1]] == [7] * (len(whole) // 7)
    assert numbers(pieces) == whole
    assert [event.id for event in pieces] == [min(7 * (place + 1), len(whole)) for place in range(len(pieces))]


def test_a_hundred_watchers_see_every_trial_once(server: Running, client: httpx.Client) -> None:
    id = client.post("/v1/studies", json={**SMALL, "seed": 2, "budget": {"trials": 120}}).json()["id"]
    # What each found in each connection; every third leaves in the middle, and comes back.
    found = asyncio.run(_watch_all(server.url, id, 100))
    listed = [trial["number"] for trial in client.get(f"/v1/studies/{id}/trials?limit=1000").json()["trials"]]
    assert len(listed) >= 120
    for each in found:
        assert each == listed
    assert server.app.state.service.events.watchers == 0


async def _watch_all(url: str, id: str, watchers: int) -> list[list[int]]:
    limits = httpx.Limits(max_connections=watchers)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:

        async def lines(after: int) -> AsyncIterator[str]:
            headers = {"Last-Event-ID": str(after)}
            async with client.stream("GET", f"/v1/studies/{id}/events", headers=headers) as response:
                assert response.status_code == 200
                async for line in response.aiter_lines():
                    yield line

        async def watch(place: int) -> list[int]:
            seen: list[int] = []
            last, left = 0, place % 3 != 0
            while True:
                stream, name = lines(last), ""
                async for line in stream:
                    field, _, value = line.partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data" and name == "trials":
                        seen += [trial["number"] for trial in json.loads(value)["trials"]]
                    elif field == "id":
                        last = int(value)
                        if name == "end":
                            return seen
                        if not left and last > 30:
                            left = True
                            break
                await stream.aclose()

        return await asyncio.gather(*map(watch, range(watchers)))


def test_watchers_are_limited_and_forgotten(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", limits=Limits(watchers=2))
    with running(settings) as server, server.client() as client:
        id = client.post("/v1/studies", json=SMALL).json()["id"]
        place = f"GET /v1/studies/{id}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
        watchers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        for each in watchers:
            each.sendall(place)
            assert b"event: study" in _until(each, b"event: front")
        response = client.get(f"/v1/studies/{id}/events")
        assert response.status_code == 429
        assert response.headers["content-type"] == "application/problem+json"
        assert int(response.headers["retry-after"]) > 0
        for each in watchers:
            each.close()
        until = time.monotonic() + 5
        while server.app.state.service.events.watchers:
            assert time.monotonic() < until
            time.sleep(0.02)
        assert not server.app.state.service.events._watched


def test_what_happens_to_a_study_is_told(client: httpx.Client, tmp_path: Path) -> None:
    with running(Settings(data=tmp_path / "data")) as server, server.client() as client:
        id = client.post("/v1/studies", json=SMALL).json()["id"]
        told: list[tuple[str, str]] = []

        def watch() -> None:
            with server.client() as own:
                told.extend((event.name, event.data.get("state", "")) for event in watched(own, id))

        thread = threading.Thread(target=watch)
        thread.start()
        for verb in ("pause", "resume", "cancel"):
            time.sleep(0.8)
            client.post(f"/v1/studies/{id}/{verb}")
        thread.join(10)
        assert [each for each in told if each[0] != "front"] == [
            ("study", "queued"),
            ("study", "paused"),
            ("study", "queued"),
            ("study", "cancelled"),
            ("end", "cancelled"),
        ]


def test_a_deleted_study_ends_its_streams(tmp_path: Path) -> None:
    with running(Settings(data=tmp_path / "data")) as server, server.client() as client:
        id = client.post("/v1/studies", json=SMALL).json()["id"]
        client.post(f"/v1/studies/{id}/pause")
        with client.stream("GET", f"/v1/studies/{id}/events") as response:
            lines = response.iter_lines()
            while next(lines) != "event: front":
                pass
            with server.client() as other:
                assert other.delete(f"/v1/studies/{id}").status_code == 204
            assert "end" not in [event.name for event in events_in(lines)]


def test_silence_is_broken_by_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.1)
    with running(Settings(data=tmp_path / "data")) as server, server.client() as client:
        id = client.post("/v1/studies", json=SMALL).json()["id"]
        with client.stream("GET", f"/v1/studies/{id}/events") as response:
            assert response.headers["cache-control"] == "no-store"
            beats = 0
            for line in response.iter_lines():
                beats += line.startswith(":")
                if beats == 3:
                    break


def test_who_takes_nothing_is_cut(server: Running, finished: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """More is sent than sockets hold: the rest waits for the reader, but not for ever."""
    monkeypatch.setattr(events, "SLOW_S", 0.5)
    monkeypatch.setattr(events, "RETRY", b":" + b"x" * 30_000_000 + b"\n\n")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"GET /v1/studies/{finished}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        time.sleep(0.3)
        assert server.app.state.service.events.watchers == 1
        until = time.monotonic() + 10
        while server.app.state.service.events.watchers:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_streams_end_with_their_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had a token that is revoked sees nothing more; the others go on watching."""
    monkeypatch.setattr(events, "TOKENS_S", 0.2)
    with running(Settings(data=tmp_path / "data"), require_token=True) as server:
        tokens = server.app.state.service.tokens
        (_, kept), (gone, revoked) = tokens.create("kept", "run", None), tokens.create("gone", "read", None)
        with (
            server.client(Authorization=f"Bearer {kept}") as client,
            server.client(Authorization=f"Bearer {revoked}") as other,
        ):
            id = client.post("/v1/studies", json=SMALL).json()["id"]
            with (
                client.stream("GET", f"/v1/studies/{id}/events") as own,
                other.stream("GET", f"/v1/studies/{id}/events") as theirs,
            ):
                mine, lines = own.iter_lines(), theirs.iter_lines()
                while next(lines) != "event: front":
                    pass
                tokens.revoke(gone.id)
                start = time.monotonic()
                assert "event: end" not in list(lines)
                assert time.monotonic() - start < 5
                client.post(f"/v1/studies/{id}/cancel")
                assert "event: end" in list(mine)


def test_streams_end_with_the_server(tmp_path: Path) -> None:
    with running(Settings(data=tmp_path / "data")) as server, server.client() as client:
        id = client.post("/v1/studies", json=SMALL).json()["id"]
        with client.stream("GET", f"/v1/studies/{id}/events") as response:
            lines = response.iter_lines()
            while next(lines) != "event: front":
                pass
            loop_of(server).call_soon_threadsafe(server.app.state.service.events.close)
            start = time.monotonic()
            rest = list(lines)
            assert "event: end" not in rest
            assert time.monotonic() - start < 2


def loop_of(server: Running) -> asyncio.AbstractEventLoop:
    """Return the event loop of a server."""
    task = server.app.state.service.events._task
    assert task is not None
    return task.get_loop()


def _until(connection: socket.socket, mark: bytes) -> bytes:
    found = b""
    connection.settimeout(10)
    while mark not in found:
        found += connection.recv(65_536)
    return found
