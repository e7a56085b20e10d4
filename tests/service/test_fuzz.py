"""10,000 bad bodies over a real socket: each is refused with a cause, and the service goes on as quickly as before.

Each is a valid body that was spoilt: a wrong type, an unknown key, a huge number, deep nesting, broken UTF-8, JSON or
YAML, a wrong content type, halves of characters, NUL. What is still valid after that is counted apart.
"""

from __future__ import annotations

import copy
import http.client
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from dse.service.settings import Limits, Settings

from .running import Running, running
from .served import QUICK
from .working import ended, worker

BAD: Final = int(os.environ.get("FUZZ_BODIES", "10000"))
BATCH: Final = 20
"""Bodies that hypothesis makes at once: it takes a while for each thing that it makes."""
LONGEST_S: Final = 5.0
WORKLOAD: Final = QUICK["workload"]
DEPLOYMENT: Final = {
    "pools": [
        {
            "name": "main",
            "model": "llama-3.1-8b",
            "accelerator": "l40s",
            "clients": 2,
            "tp": 1,
            "batching": {"policy": "chunked", "max_batch_requests": 64},
            "prefix_cache": {},
        }
    ],
    "tiers": [{"name": "host", "clients": 1, "memory_gb": 100, "gb_per_s": 50}],
}
SLOS: Final = [{"metric": "ttft", "percentile": 99, "limit_s": 2}]
STUDY: Final = {**QUICK, "workload": {**WORKLOAD, "requests": 50}, "budget": {"trials": 5, "timeout_s": 60.0}}
SYSTEM: Final = {"deployment": DEPLOYMENT, "workload": {**WORKLOAD, "requests": 100}, "slos": SLOS}
BODIES: Final[dict[str, dict[str, Any]]] = {
    "/v1/studies": STUDY,
    "/v1/studies/check": STUDY,
    "/v1/simulate": SYSTEM,
    "/v1/capacity": {**SYSTEM, "tolerance": 0.5, "replications": 1},
    "/v1/explain": {"deployment": DEPLOYMENT, "workload": WORKLOAD, "pool": "main", "batch": 8, "steps": ["decode"]},
    "/v1/studies/{id}/what-if": {"usd_per_hour": {"l40s": 1.0}, "electricity_usd_per_kwh": 0.1, "rate_factor": 1.0},
}

# What a value is replaced by

ODD: Final[list[Any]] = [
    None,
    True,
    "",
    "x",
    "8",
    "\0",
    "a\0b",
    "\ud800",
    "é" * 3,
    "../../etc/passwd",
    "/etc/passwd",
    "/etc/passwd.json",
    "/proc/self/environ.yaml",
    "x" * 2_000,
    "\u202e",
    0,
    -1,
    1e-320,
    1e308,
    -1e308,
    10**18,
    2**63,
    2**64,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    [],
    {},
    [None],
    [[]],
    {"": 0},
    {"a": {"b": {"c": 1}}},
    ["x"] * 500,
    list(range(200)),
]


def deepened(sent: bytes) -> bytes:
    """Return bytes in which ``deep 500`` became so many brackets: to make them of lists would go too deep itself."""
    return re.sub(rb'"?deep (\d+)"?', lambda found: b"[" * int(found[1]) + b"]" * int(found[1]), sent)


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the ways to all values inside."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*at, key)
        yield from places(value, (*at, key))


def spoilt(body: dict[str, Any], random: random.Random) -> dict[str, Any]:
    """Return a body with one to three values replaced, removed, added or moved."""
    body = copy.deepcopy(body)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        ways = list(places(body))
        if not ways:
            break
        way = random.choice(ways)
        holder = body
        for step in way[:-1]:
            holder = holder[step]
        match random.randrange(8):
            case 0 if isinstance(holder, dict):
                holder[random.choice(("surprise", "__class__", "", "\0", "Name", "\ud800", "requests "))] = 1
            case 1:
                del holder[way[-1]]
            case 2:
                holder[way[-1]] = f"deep {random.choice((5, 70, 500, 2_000, 100_000))}"
            case 3:
                other = random.choice(ways)
                found: Any = body
                try:
                    for step in other:
                        found = found[step]
                except (KeyError, IndexError, TypeError):
                    found = None
                holder[way[-1]] = copy.deepcopy(found)
            case _:
                holder[way[-1]] = copy.deepcopy(random.choice(ODD))
    return body


def broken(sent: bytes, random: random.Random) -> bytes:
    """Return bytes of which some were cut, doubled, replaced or added."""
    at = random.randrange(len(sent) + 1)
    match random.randrange(7):
        case 0:
            return sent[:at]
        case 1:
            return sent[:at] + bytes(random.randrange(256) for _ in range(random.randrange(1, 9))) + sent[at:]
        case 2:
            return sent[:at] + sent
        case 3:
            return sent[:at] + random.choice((b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\0", b"\xfe\xff")) + sent[at:]
        case 4:
            return b"[" * random.choice((10, 1_000, 100_000)) + sent
        case 5:
            return (
                sent[:at]
                + random.choice((b"1" * 5_000, b"{", b"}", b'"', b"\\u12", b"NaN", b"&a *a", b"!!python/x "))
                + sent[at:]
            )
        case _:
            return bytes(random.randrange(256) for _ in range(random.randrange(200)))


BOMBS: Final = (
    b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
    b"g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n",
    b"a: &a [*a]\n",
    b"&a {a: *a}\n",
    b"!!python/object/apply:os.system ['touch owned']\n",
    b"? [a, b]\n: 1\n",
    b"a: 1\na: 2\n",
    b'{"name": 1, "name": 2}',
    b"<<: {a: 1}\n",
    b"a: 0b1_1\nb: 1:2:3\nc: 2001-01-01\nd: .nan\n",
    b"--- 1\n--- 2\n",
    b"%YAML 9.9\n---\na: 1\n",
    b"\xef\xbb\xbf{}",
    b"",
    b"null",
    b"[]",
    b'"x"',
    b"1e999999999",
)
KINDS: Final = (
    "application/xml",
    "text/html",
    "",
    "application/json; charset=utf-16",
    "multipart/form-data",
    "*/*",
)


def made(choices: random.Random) -> tuple[str, bytes, str]:
    """Return a path, a body that is most probably bad, and its content type."""
    path = choices.choice(list(BODIES))
    body = BODIES[path]
    as_yaml = choices.random() < 0.25 and "what-if" not in path
    kind = "application/yaml" if as_yaml else "application/json"

    def written(data: Any) -> bytes:
        if not as_yaml:
            return deepened(json.dumps(data).encode())
        return deepened(yaml.safe_dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"))

    match choices.randrange(20):
        case 0:
            return path, written(body), choices.choice(KINDS)
        case 1:
            return path, choices.choice(BOMBS), choices.choice((kind, "application/yaml"))
        case 2 | 3 | 4 | 5:
            return path, broken(written(body), choices), kind
        case _:
            return path, written(spoilt(body, choices)), kind


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(once_s=2, once_requests=1_000, requests=5_000, writes_per_minute=10**6, active_studies=10**6)
    with running(Settings(data=tmp_path_factory.mktemp("data"), limits=limits)) as server:
        yield server


@pytest.fixture(scope="module")
def study(server: Running) -> str:
    """A study that has ended, for what-if."""
    with server.client() as client, worker(server.app.state.service.settings):
        id: str = client.post("/v1/studies", json=QUICK).raise_for_status().json()["id"]
        assert ended(client, id)["state"] == "finished"
    return id


class Asker:
    """Sends bodies over one connection that stays open, and looks at what comes back."""

    def __init__(self, server: Running, study: str) -> None:
        self.statuses: Counter[int] = Counter()
        self.slowest: list[tuple[float, str, bytes]] = []
        self._study = study
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def ask(self, path: str, body: bytes, kind: str) -> None:
        began = time.monotonic()
        target = path.replace("{id}", self._study)
        self._connection.request("POST", target, body, {"Content-Type": kind})
        answer = self._connection.getresponse()
        content = answer.read()
        took_s = time.monotonic() - began
        self.statuses[answer.status] += 1
        self.slowest = sorted([*self.slowest, (took_s, path, body[:200])], reverse=True)[:5]
        shown = (target, kind, body[:3_000], answer.status, content[:500])
        assert answer.status < 500, shown
        assert took_s < LONGEST_S, (took_s, *shown)
        if answer.status >= 400:
            assert answer.status in (400, 409, 413, 415, 422, 429), shown
            assert answer.getheader("Content-Type") == "application/problem+json", shown
            problem = json.loads(content)
            assert problem["status"] == answer.status
            assert len(problem["detail"]) > 10, shown
            assert b"Traceback" not in content, shown
            assert b"root:" not in content, shown


def test_ten_thousand_bad_bodies_are_refused(server: Running, study: str) -> None:
    asker = Asker(server, study)
    for path, body in BODIES.items():
        asker.ask(path, json.dumps(body).encode(), "application/json")
    assert set(asker.statuses) <= {200, 201}, "the bodies are valid before they are spoilt"
    asker.statuses.clear()

    def bad() -> int:
        return sum(number for status, number in asker.statuses.items() if status >= 400)

    @seed(1)
    @settings(
        max_examples=10 * BAD // BATCH,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=True))
    def send(choices: random.Random) -> None:
        for _ in range(BATCH):
            if bad() < BAD:
                asker.ask(*made(choices))

    began = time.monotonic()
    send()
    took_s = time.monotonic() - began
    print(f"\n{bad():,} refused, {sum(asker.statuses.values()) - bad():,} taken, in {took_s:.0f} s")
    print(dict(sorted(asker.statuses.items())))
    for slow in asker.slowest:
        print(slow)
    assert bad() >= BAD
    assert {400, 415, 422} <= set(asker.statuses)
    # Alive, and as quick as before.
    with server.client() as client:
        for _ in range(20):
            assert client.get("/healthz").elapsed.total_seconds() < 0.2
        assert client.post("/v1/simulate", json=SYSTEM).status_code == 200
        assert client.get(f"/v1/studies/{study}/front").status_code == 200
