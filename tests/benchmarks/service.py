"""The service on loopback: reads at a fixed rate while two studies run, watchers, and a long list of studies.

Run as ``python -m tests.benchmarks.service``. The server is ``dse serve`` with two workers of a process each; requests
come from a process of their own at fixed times, and count from the moment at which they were due.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from sqlalchemy import insert

from dse import StudySpec, load_study
from dse.service.api.views import FRESH_S
from dse.service.settings import Settings
from dse.service.storage.database import Database
from dse.service.storage.studies import Studies
from dse.service.storage.tables import STUDIES
from tests.benchmarks.measure import ROOT, in_new_process, say

RATE_RPS = 500
CONNECTIONS = 64
WATCHERS = 100
LISTED = 1_000


@dataclass(frozen=True)
class Served:
    """A server that serves."""

    client: httpx.Client
    port: int
    pid: int


@contextmanager
def served(data: Path) -> Iterator[Served]:
    """Run ``dse serve`` until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [sys.executable, "-m", "dse", "serve", "--port", str(port), "--data", str(data)]
    with (data.parent / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--workers", "2", "--jobs", "1"], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                _wait(lambda: _is_ready(client))
                yield Served(client, port, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").json()["workers"] == 2
    except httpx.TransportError:
        return False


def _wait(done: Any, patience_s: float = 180.0) -> None:
    until = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.1)


def old_studies(data: Path, number: int) -> None:
    """Keep studies that nobody will run."""
    settings = Settings(data=data).prepared()
    with closing(Database(settings.url)) as database:
        database.migrate()
        studies = Studies(database)
        given: dict[str, Any] = {"designs": 1, "requests": 1, "traces": (), "idempotency_key": None}
        given |= {"most_active": 1, "most": 1}
        row = asdict(studies.cancel(studies.create(load_study("chat"), **given).id))
        with database.writing() as connection:
            copies = [{**row, "id": f"{place:032x}", "name": f"chat-{place}"} for place in range(1, number)]
            connection.execute(insert(STUDIES), copies)


def begun(client: httpx.Client, trials: int, **changes: Any) -> str:
    """Create a study that a worker takes, and return its identifier."""
    plain = load_study("chat").model_dump(mode="json", exclude_none=True)
    spec = StudySpec.parse({**plain, "budget": {"trials": trials}, **changes})
    response = client.post("/v1/studies", content=spec.model_dump_json(), headers={"Content-Type": "application/json"})
    response.raise_for_status()
    id: str = response.json()["id"]
    return id


def study(client: httpx.Client, id: str) -> dict[str, Any]:
    """Return a study as it is now."""
    found: dict[str, Any] = client.get(f"/v1/studies/{id}").json()
    return found


def cpu_s(pid: int) -> float:
    """Return the processor time of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reads(server: Served, span_s: float) -> None:
    """Measure reads at a fixed rate while two studies run."""
    client, port = server.client, server.port
    running = [begun(client, 20_000, seed=seed, name=f"running-{seed}") for seed in range(2)]
    _wait(lambda: all(study(client, id)["evaluated"] > 100 for id in running))
    before = [study(client, id)["evaluated"] for id in running]
    kinds = {
        "list of 100": ["/v1/studies?limit=100"] * 2,
        "study": [f"/v1/studies/{id}" for id in running],
        "front": [f"/v1/studies/{id}/front" for id in running],
        "200 trials": [f"/v1/studies/{id}/trials" for id in running],
    }
    paths = [path for pair in zip(*kinds.values(), strict=True) for path in pair]
    own_s, start = cpu_s(server.pid), time.perf_counter()
    asked = {"port": port, "paths": paths, "rate_rps": RATE_RPS, "span_s": span_s, "connections": CONNECTIONS}
    found = in_new_process("-m", "tests.benchmarks.service_load", json.dumps({"what": "load", **asked}))
    took_s, own_s = time.perf_counter() - start, cpu_s(server.pid) - own_s
    evaluated = sum(study(client, id)["evaluated"] for id in running) - sum(before)
    for id in running:
        client.post(f"/v1/studies/{id}/cancel")
    of_all: list[float] = []
    for name, own in kinds.items():
        parts = [found["paths"][path] for path in dict.fromkeys(own)]
        times = [each for part in parts for each in part["times_s"]]
        wrong = {status for part in parts for status in part["statuses"]} - {"200"}
        assert not wrong, wrong
        of_all += times
        size = sum(part["bytes"] for part in parts) / len(times)
        say(f"{name}, {size / 1e3:.1f} kB", _times(times))
    say(f"all reads: {RATE_RPS}/s for {span_s:g} s, {evaluated:,} designs evaluated meanwhile", _times(of_all))
    say("the client's own delay, at most", f"{found['late_s'] * 1e3:.1f} ms")
    say("processor time of the server", f"{own_s / took_s:.0%} of one core")
    _wait(lambda: all(study(client, id)["state"] == "cancelled" for id in running))


def _times(times_s: list[float]) -> str:
    median, p99 = np.percentile(times_s, [50, 99]) * 1e3
    return f"p50 {median:.1f} ms, p99 {p99:.1f} ms, max {max(times_s) * 1e3:.0f} ms"


def watchers(server: Served) -> None:
    """Watch a study from its beginning to its end."""
    client, port = server.client, server.port
    own_s, start = cpu_s(server.pid), time.perf_counter()
    id = begun(client, 300, name="watched")
    found = in_new_process(
        "-m",
        "tests.benchmarks.service_load",
        json.dumps({"what": "watch", "port": port, "id": id, "watchers": WATCHERS}),
    )
    took_s, own_s = time.perf_counter() - start, cpu_s(server.pid) - own_s
    total = client.get(f"/v1/studies/{id}/trials?limit=1").json()["total"]
    assert found["trials"] == [total], (found, total)
    say(
        f"{WATCHERS} watchers of a study of {total} trials: events, and time between the first's end and the last's",
        f"{found['events']:,}, {found['spread_s'] * 1e3:.0f} ms",
    )
    say("processor time of the server meanwhile", f"{own_s / took_s:.0%} of one core")


def listing(client: httpx.Client) -> None:
    """List a thousand studies, each time anew."""
    times = []
    for _ in range(20):
        time.sleep(FRESH_S)  # then it is read anew
        start = time.perf_counter()
        found = client.get("/v1/studies", params={"limit": LISTED})
        times.append(time.perf_counter() - start)
    assert len(found.json()["studies"]) == LISTED
    say(
        f"{LISTED:,} studies listed, {len(found.content) / 1e3:.0f} kB",
        f"median {statistics.median(times) * 1e3:.0f} ms, max {max(times) * 1e3:.0f} ms",
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.service", description=__doc__)
    parser.add_argument("--span-s", type=float, default=30.0, help="how long reads are measured")
    span_s = parser.parse_args().span_s
    print("| what | figure |\n|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        old_studies(data, LISTED)
        with served(data) as server:
            listing(server.client)
            watchers(server)
            reads(server, span_s)
