"""``dse serve`` as a process of its own, with all that it starts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from dse import Client

QUICK: dict[str, Any] = {
    "name": "quick",
    "model": "llama-3.1-8b",
    "workload": {
        "requests": 300,
        "arrivals": {"process": "poisson", "rate_rps": 4},
        "lengths": {"statistics": "azure-2023-conversation"},
    },
    "space": {
        "accelerators": ["h100-sxm", "l40s", "a10g"],
        "clients": {"high": 8},
        "tp": [1, 2, 4],
        "layouts": ["colocated"],
        "weights": ["bf16"],
        "policies": ["chunked"],
        "token_budgets_tokens": [2048],
        "max_batches_requests": [64, 128, 256],
        "routers": ["round_robin"],
    },
    "objectives": ["usd_per_hour", "e2e_p90_s"],
    "slos": [{"metric": "ttft", "percentile": 90, "limit_s": 0.5}],
    "budget": {"trials": 20},
}
"""A study of a second."""
STEADY: dict[str, Any] = {
    **QUICK,
    "name": "steady",
    "workload": {**QUICK["workload"], "requests": 20_000},
    "space": {**QUICK["space"], "clients": {"high": 16}, "policies": ["continuous", "chunked"], "tp": [1, 2, 4, 8]},
    "budget": {"trials": 150},
}
"""A study that goes on for some seconds, so that it can be interrupted."""
MARK = "DSE_TEST_FAMILY"
"""Environment variable by which the processes that a server started are found again."""


class Served:
    """A server that can be ended, killed and started again, in the same folder and at the same port.

    ``stderr`` holds what it and its workers said.
    """

    def __init__(self, data: Path, *options: str, address: str = "http://127.0.0.1:{port}", **environment: str) -> None:
        self.data = data
        self._options, self._address = options, address
        self._family = uuid.uuid4().hex
        kept = {name: value for name, value in os.environ.items() if not name.startswith("DSE_") or "CACHE" in name}
        self._environment = {**kept, **environment, MARK: self._family}
        self.stderr = data.parent / f"{data.name}.stderr"
        self.process: subprocess.Popen[str] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return self._address.format(port=self.port)

    @property
    def client(self) -> Client:
        return Client(self.url)

    def start(self) -> Self:
        """Start, and wait until it says that it is ready."""
        command = [sys.executable, "-m", "dse", "serve", "--data", str(self.data), "--port", str(self.port)]
        with self.stderr.open("a") as errors:
            self.process = subprocess.Popen(
                [*command, *self._options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self._environment,
                start_new_session=True,
            )
        assert self.process.stdout
        late = threading.Timer(90, self.process.kill)
        late.start()
        line = self.process.stdout.readline()
        late.cancel()
        found = re.search(r"open \S+:(\d+)", line)
        assert found, f"{line!r}; {self.stderr.read_text()}"
        self.port = int(found[1])
        return self

    def end(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """End it by a signal; return its exit code and how long it took."""
        assert self.process
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(60)
        return code, time.monotonic() - began

    def family(self) -> dict[int, str]:
        """Return the commands of all processes that descend from the server, also of those that lost their parent."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if f"{MARK}={self._family}".encode() in environment.split(b"\0") and command:
                found[int(entry.name)] = command
        return found

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.poll() is None:
            self.end()
        for pid in self.family():
            os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found
